//! Compiles and runs the programs in `c_tests/`: linked with the library, with `dlopen`, and under
//! valgrind.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use tssession_test_support::abi::LEVELS;
use tssession_test_support::{
    Ats, Reach, TSSESSION, assert_logged, compile, compile_source, execute, in_each_ats, root, run,
    scratch, stdout, valgrind,
};

/// Compiles a program and runs it. Returns what it logged.
fn check(source: &str, reach: Reach, defines: &[&str]) -> String {
    execute(&mut Command::new(compile(source, reach, defines)))
}

fn check_in_valgrind(source: &str, reach: Reach, defines: &[&str]) {
    let program = compile(source, reach, &[defines, &["-DIN_VALGRIND"]].concat());
    execute(valgrind(&program).env("CHECK_SCALE", "2"));
}

/// One module of tests for each program.
macro_rules! programs {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            const SOURCE: &str = concat!(stringify!($name), ".c");

            #[test]
            fn linked() {
                check(SOURCE, Reach::Link, &[]);
            }

            #[test]
            fn dlopened() {
                check(SOURCE, Reach::Dlopen, &[]);
            }

            #[test]
            #[ignore = "slow: make test-release"]
            fn linked_in_valgrind() {
                check_in_valgrind(SOURCE, Reach::Link, &[]);
            }
        }
    )*};
}

programs! {
    types get get_buffer insert insert_buffer remove ticket_keys key_file ownership hostile cache environment
    config_load stats_text log_function
    handshake hang_up removal lineage session_data no_memory precise_clocks clock reentry threads fork
    linearizability fork_keys load newer
}

/// The program defines the library's names itself, so it cannot be linked.
#[test]
fn host_names() {
    check("host_names.c", Reach::Dlopen, &[]);
}

#[test]
#[ignore = "slow: make test-release"]
fn host_names_in_valgrind() {
    check_in_valgrind("host_names.c", Reach::Dlopen, &[]);
}

const LOG_HOSTS: [&str; 4] = ["-DATS_9", "-DFEWER", "-DATS_10", "-DNO_DEBUG"];

/// Each set of log functions that a host can have. The library finds them if they are exported.
#[test]
fn host_log() {
    for host in LOG_HOSTS {
        assert_eq!(check("host_log.c", Reach::Dlopen, &[host]), "");
    }
}

#[test]
#[ignore = "slow: make test-release"]
fn host_log_in_valgrind() {
    for host in LOG_HOSTS {
        check_in_valgrind("host_log.c", Reach::Dlopen, &[host]);
    }
}

const PLUGIN_RUNS: [&str; 3] = ["told", "asked", "wrong"];

fn check_plugin(server: Ats) {
    let program = compile("plugin.c", Reach::InAts, &[&format!("-D{server:?}")]);
    for run in PLUGIN_RUNS {
        let mut command = Command::new(&program);
        command.arg(run);
        execute(&mut server.command(command, &[]));
    }
}

in_each_ats!(plugin, crate::check_plugin);

#[test]
#[ignore = "slow: make test-release"]
fn plugin_in_valgrind() {
    for server in [Ats::V10, Ats::V11] {
        let program = compile("plugin.c", Reach::InAts, &["-DIN_VALGRIND"]);
        for run in PLUGIN_RUNS {
            let mut command = valgrind(&program);
            command.arg(run);
            execute(&mut server.command(command, &[]));
        }
    }
}

/// A server with another OpenSSL or another file of the library: the plugin must do nothing.
#[test]
fn plugin_beside_others() {
    // A separate file, because the other tests compile theirs at the same time.
    let program = compile("plugin.c", Reach::InAts, &["-DBESIDE_OTHERS"]);
    let in_server = |arguments: &[&OsStr], preloaded: &[&Path]| {
        let mut command = Command::new(&program);
        command.args(arguments);
        execute(&mut Ats::V10.command(command, preloaded));
    };
    let map = root().join("c_tests/other_openssl.map");
    let map = format!("-Wl,--version-script={}", map.display());
    for (define, map) in [("-DOLDER", Some(map)), ("-DOTHER", None)] {
        let preloaded = scratch().join(format!("other_openssl{define}.so"));
        run(compile_source("c_tests/other_openssl.c")
            .args([define, "-shared", "-fPIC", "-o"])
            .arg(&preloaded)
            .args(map));
        in_server(&["other".as_ref()], &[&preloaded]);
    }

    let copy = scratch().join("copy/libtssession.so");
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::copy(&TSSESSION.path, &copy).unwrap();
    let copies = ["copies".as_ref(), copy.as_ref(), TSSESSION.path.as_ref()];
    in_server(&copies, &[]);
}

/// Another shared object in the process contains a hidden second OpenSSL.
#[test]
fn two_openssls() {
    let other = scratch().join("other_copy.so");
    run(compile_source("c_tests/other_copy.c")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&other)
        .args(["-Wl,--exclude-libs,ALL", "-Wl,-Bsymbolic"])
        .args(["-l:libssl.a", "-l:libcrypto.a", "-ldl", "-lpthread"]));
    for reach in [Reach::Link, Reach::Dlopen] {
        execute(Command::new(compile("two_openssls.c", reach, &[])).arg(&other));
    }
}

/// Not under valgrind: its copies of memory, and freed memory that it keeps, would be found, and a
/// full cache takes minutes there.
#[test]
fn secrets_and_memory_and_defaults() {
    for program in ["wipe.c", "process_end.c", "memory.c", "defaults.c"] {
        for reach in [Reach::Link, Reach::Dlopen] {
            // At the first call of a function the loader saves registers on the stack, which can
            // contain a secret of the program itself. LD_BIND_NOW prevents that.
            execute(Command::new(compile(program, reach, &[])).env("LD_BIND_NOW", "1"));
        }
    }
}

/// Not under valgrind, which would report the memory of threads that are still running.
#[test]
fn exit() {
    for reach in [Reach::Link, Reach::Dlopen] {
        let program = compile("exit.c", reach, &[]);
        execute(Command::new(program).env("ASAN_OPTIONS", "detect_leaks=0"));
    }
}

/// Not under valgrind, which uses file descriptors itself.
#[test]
fn closed_stderr() {
    for reach in [Reach::Link, Reach::Dlopen] {
        check("closed_stderr.c", reach, &[]);
    }
}

/// A program with more rights than its caller ignores the caller's environment.
#[test]
fn environment_of_a_caller() {
    for reach in [Reach::Link, Reach::Dlopen] {
        assert_eq!(check("environment.c", reach, &["-DMORE_RIGHTS"]), "");
    }
}

/// Not under valgrind, which has its own allocator.
#[test]
fn fork_held() {
    for reach in [Reach::Link, Reach::Dlopen] {
        check("fork_held.c", reach, &[]);
    }
}

/// The program registers fork handlers before the library does, so it cannot be linked.
#[test]
fn fork_in_fork() {
    check("fork_in_fork.c", Reach::Dlopen, &[]);
}

/// Not under valgrind, as `fork_held`.
mod every_allocation {
    use super::*;

    #[test]
    fn linked() {
        check("every_allocation.c", Reach::Link, &[]);
    }

    #[test]
    fn dlopened() {
        check("every_allocation.c", Reach::Dlopen, &[]);
    }
}

/// The program closes the library, so it cannot be linked.
#[test]
fn unload() {
    check("unload.c", Reach::Dlopen, &[]);
}

#[test]
#[ignore = "slow: make test-release"]
fn unload_in_valgrind() {
    check_in_valgrind("unload.c", Reach::Dlopen, &[]);
}

/// The results of the five functions, case by case. `make compare-ats` compares them with ATS.
#[test]
fn conformance() {
    let program = compile("conformance.c", Reach::Link, &[]);
    let out = scratch().join("conformance.txt");
    let _ = fs::remove_file(&out);
    for cache in ["2", "0"] {
        execute(
            Command::new(&program)
                .env("PROXY_CONFIG_SSL_SESSION_CACHE", cache)
                .arg(&out),
        );
    }
    let said = fs::read_to_string(out).unwrap();
    let expected = fs::read_to_string(root().join("c_tests/conformance.expected")).unwrap();
    for (said, expected) in said.lines().zip(expected.lines()) {
        assert_eq!(said, expected);
    }
    assert_eq!(said.lines().count(), expected.lines().count());
}

#[test]
fn types_of_api_9() {
    check("types.c", Reach::Link, &["-DTS_SSL_SESSION_API=9"]);
}

/// At level 10 the caller uses the C++ names, and the library has them.
#[test]
fn cxx_callers() {
    for level in LEVELS {
        let define = format!("-DTS_SSL_SESSION_API={level}");
        let program = compile("cxx_caller.cc", Reach::Link, &[&define]);
        let undefined = stdout(Command::new("nm").arg("--undefined-only").arg(&program));
        let mangled = undefined.contains(" _Z15TSSslSessionGetPK14TSSslSessionID");
        assert_eq!(mangled, level == "10", "{undefined}");
        execute(&mut Command::new(program));
    }
}

#[test]
#[ignore = "slow: make test-release"]
fn cxx_callers_in_valgrind() {
    for level in LEVELS {
        let define = format!("-DTS_SSL_SESSION_API={level}");
        check_in_valgrind("cxx_caller.cc", Reach::Link, &[&define]);
    }
}

/// Each kind of bad input is logged, but a flood of it is not logged line by line.
#[test]
fn bad_input_is_logged() {
    let stderr = check("hostile.c", Reach::Link, &["-DLOG"]);
    let lines = [
        "TSSslSessionGet: the session ID has 33 bytes",
        "TSSslSessionGetBuffer: the session ID has 0 bytes",
        "TSSslSessionInsert: the session ID has 18446744073709551615 bytes",
        "TSSslSessionRemove: the session ID is NULL",
        "TSSslTicketKeyUpdate: not one whole key",
        "TSSslSessionCacheAttach: ctx is NULL; nothing is attached",
        "TSSslSessionCacheConfigSet: name or value is NULL; the settings are unchanged",
        "TSSslSessionCacheConfigSet: linebreak 1: there is no such setting; the settings are unchanged",
        "TSSslSessionCacheStatGet: no.such.counter: there is no such counter",
        "TSSslSessionHookAdd: func is NULL; no hook is added",
        "TSSslSessionHookRemove: there is no such hook; nothing is removed",
    ];
    assert_logged(&stderr, &lines);
    let lines = stderr.lines().count();
    assert!(lines < 400, "{lines} lines for about 10000 bad calls");
}

/// Errors in a file of ticket keys are logged with its name.
#[test]
fn a_bad_key_file_is_logged() {
    let stderr = check("key_file.c", Reach::Link, &["-DLOG"]);
    let lines = [
        "no file of ticket keys is configured (proxy.config.ssl.server.ticket_key.filename)",
        "/other: users other than the owner can read or write the file",
        "/absent: No such file or directory",
        "/fifo: not a regular file",
        "/short: not one whole key of 48 bytes; the active keys are unchanged",
        "/blank: the first key's secrets are all zero",
        "/layout: text, but not lines of base64",
        "TSSslTicketKeyFileLoad: path is empty",
    ];
    assert_logged(&stderr, &lines);
}

/// Errors in a records file are logged with the file, the line and the record.
#[test]
fn a_bad_records_file_is_logged() {
    let stderr = check("config_load.c", Reach::Link, &["-DLOG"]);
    let size = "proxy.config.ssl.session_cache.size";
    let lines = [
        "TSSslSessionCacheConfigLoad: path is NULL",
        "TSSslSessionCacheConfigLoad: path is empty",
        "/absent: No such file or directory",
        "/fifo: not a regular file",
        "/large.config: larger than",
        &format!(
            "/bad.config:2: {size}: the value is not a whole number; the settings are unchanged"
        ),
        &format!("/bad.config:2: {size}: the value is not between 1 and"),
        &format!("/bad.config:2: {size}: the value is missing"),
        &format!("/bad.config:2: {size}: the type must be INT"),
        "/bad.config:2: not a record",
        "/zeros.config:1: not a record",
        &format!(
            "/bad.yaml:4: {size}: the value is not a whole number; the settings are unchanged"
        ),
        &format!("/bad.yaml:4: {size}: a list or a map, but it must be a single value"),
        "/bad.yaml:1: not a map",
        "/bad.yaml:4: records.ssl.session_cache.<<: YAML aliases and merge keys are not supported",
        "/bad.yaml:4: records.ssl.server: not a map",
        "/empty.yaml:1: neither \"records:\" nor \"tssession:\" is at the top level",
        "/empty.yaml:1: tssession.session_cache.max_sesion_bytes: there is no such setting",
        "/bad.yaml:2: not UTF-8",
        "not YAML: ",
    ];
    assert_logged(&stderr, &lines);
    // One line for each failure, and none for files that were loaded.
    let lines = stderr.lines().filter(|line| line.contains("ConfigLoad"));
    assert_eq!(lines.count(), 36, "{stderr}");
}

/// Invalid settings in the environment are logged with their names.
#[test]
fn a_bad_environment_is_logged() {
    let stderr = check("environment.c", Reach::Link, &["-DLOG"]);
    let lines = [
        "proxy.config.ssl.session_cache.timeout: the value is not a whole number",
        "proxy.config.ssl.session_cache: the value is not between 0 and 2",
    ];
    assert_logged(&stderr, &lines);
}
