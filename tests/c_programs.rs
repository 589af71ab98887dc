//! Compiles the programs in `c_tests/` and runs them: linked with the library,
//! with `dlopen`, and under valgrind.

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

use common::{WARNINGS, compiler, library_dir, root, run, scratch, valgrind};

/// How a program reaches the library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    Link,
    Dlopen,
}

/// Compiles `c_tests/SOURCE` with what it needs.
fn compile(source: &str, reach: Reach, defines: &[&str]) -> PathBuf {
    let cpp = source.ends_with(".cc");
    let name = format!("{source}-{reach:?}{}", defines.concat());
    let c_tests = root().join("c_tests");
    let dir = scratch().join(name);
    std::fs::create_dir_all(&dir).unwrap();

    let tls = dir.join("tls.o");
    run(compiler(false)
        .args(WARNINGS)
        .args(["-std=c11", "-D_GNU_SOURCE", "-c"])
        .arg(c_tests.join("tls.c"))
        .arg("-o")
        .arg(&tls));

    let program = dir.join("program");
    let mut command = compiler(cpp);
    command
        .args(WARNINGS)
        .args(["-Wno-unused-function", "-D_GNU_SOURCE"])
        .arg(if cpp { "-std=c++11" } else { "-std=c11" })
        .args(defines)
        .arg("-I")
        .arg(root().join("include"))
        .arg("-o")
        .arg(&program)
        .arg(c_tests.join(source))
        .arg(&tls);
    match reach {
        Reach::Link => command.arg("-L").arg(library_dir()).arg("-ltssession"),
        // Exported, the names of a host come before the library's.
        Reach::Dlopen => command.args(["-DAPI_DLOPEN", "-rdynamic", "-ldl"]),
    };
    run(command.args(["-lssl", "-lcrypto", "-lpthread"]));
    program
}

fn with_library(mut command: Command) -> Command {
    command.env("LD_LIBRARY_PATH", library_dir());
    command
}

/// What holds for every program, besides that its own checks pass: the library
/// prints nothing on stdout and does not panic.
fn execute(command: Command) -> Output {
    let output = run(&mut with_library(command));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    output
}

fn execute_in_valgrind(program: PathBuf) {
    let mut command = valgrind();
    command.env("CHECK_SCALE", "2").arg(program);
    execute(command);
}

/// One module of tests for each program.
macro_rules! programs {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            const SOURCE: &str = concat!(stringify!($name), ".c");

            #[test]
            fn linked() {
                execute(Command::new(compile(SOURCE, Reach::Link, &[])));
            }

            #[test]
            fn dlopened() {
                execute(Command::new(compile(SOURCE, Reach::Dlopen, &[])));
            }

            #[test]
            fn linked_in_valgrind() {
                execute_in_valgrind(compile(SOURCE, Reach::Link, &["-DIN_VALGRIND"]));
            }

            #[test]
            fn dlopened_in_valgrind() {
                execute_in_valgrind(compile(SOURCE, Reach::Dlopen, &["-DIN_VALGRIND"]));
            }
        }
    )*};
}

programs! {
    types get get_buffer insert insert_buffer remove ticket_keys key_file ownership hostile cache environment
    handshake hang_up session_data no_memory precise_clocks reentry threads fork
}

/// It defines the library's names itself, so it cannot be linked.
#[test]
fn host_names() {
    let program = compile("host_names.c", Reach::Dlopen, &[]);
    execute(Command::new(&program));
    execute_in_valgrind(program);
}

/// Not under valgrind, which keeps copies of memory that one would find, and memory that
/// was freed, and where a full cache takes minutes.
#[test]
fn wipe_and_memory_and_defaults() {
    for program in ["wipe.c", "memory.c", "defaults.c"] {
        for reach in [Reach::Link, Reach::Dlopen] {
            execute(Command::new(compile(program, reach, &[])));
        }
    }
}

/// It closes the library, so it cannot be linked.
#[test]
fn unload() {
    let program = compile("unload.c", Reach::Dlopen, &[]);
    execute(Command::new(&program));
    execute_in_valgrind(program);
}

#[test]
fn types_of_api_9() {
    let program = compile("types.c", Reach::Link, &["-DTS_SSL_SESSION_API=9"]);
    execute(Command::new(program));
}

/// At level 10 the caller needs the C++ names, and the library has them.
#[test]
fn cxx_callers() {
    for api in ["8", "9", "10"] {
        let define = format!("-DTS_SSL_SESSION_API={api}");
        let program = compile("cxx_caller.cc", Reach::Link, &[&define]);
        let undefined = common::stdout("nm", ["--undefined-only".as_ref(), program.as_os_str()]);
        let mangled = undefined.contains(" _Z15TSSslSessionGetPK14TSSslSessionID");
        assert_eq!(mangled, api == "10", "{undefined}");
        execute(Command::new(&program));
        execute_in_valgrind(program);
    }
}

/// Every kind of bad input has its line, and a flood of it does not have one each.
#[test]
fn bad_input_is_logged() {
    let output = execute(Command::new(compile("hostile.c", Reach::Link, &["-DLOG"])));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for line in [
        "TSSslSessionGet: the session ID has 33 bytes",
        "TSSslSessionGetBuffer: the session ID has 0 bytes",
        "TSSslSessionInsert: the session ID has 18446744073709551615 bytes",
        "TSSslSessionRemove: the session ID is NULL",
        "TSSslTicketKeyUpdate: not one whole key",
        "TSSslSessionCacheAttach: the context is NULL",
        "TSSslSessionCacheConfigSet: an argument is NULL",
        "TSSslSessionCacheConfigSet: linebreak: there is no such setting",
        "TSSslSessionCacheStatGet: no.such.counter: there is no such counter",
        "TSSslSessionHookAdd: the function is NULL",
        "TSSslSessionHookRemove: there is no such hook",
    ] {
        assert!(stderr.contains(line), "{line:?} is missing in\n{stderr}");
    }
    let lines = stderr.lines().count();
    assert!(lines < 400, "{lines} lines for some 10000 bad calls");
}

/// What is wrong with a file of ticket keys is said, with its name.
#[test]
fn a_bad_key_file_is_logged() {
    let output = execute(Command::new(compile("key_file.c", Reach::Link, &["-DLOG"])));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for line in [
        "no file of ticket keys is configured",
        "/other: others than the owner may read or write the file",
        "/absent: No such file or directory",
        "/fifo: not a regular file",
        "/short: not one whole key of 48 bytes",
        "/blank: the first key's secrets are all zero",
    ] {
        assert!(stderr.contains(line), "{line:?} is missing in\n{stderr}");
    }
}

/// The settings of the environment that are not valid are named.
#[test]
fn a_bad_environment_is_logged() {
    let output = execute(Command::new(compile(
        "environment.c",
        Reach::Link,
        &["-DLOG"],
    )));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("proxy.config.ssl.session_cache.timeout: the value is not a number"));
    assert!(stderr.contains("proxy.config.ssl.session_cache: the value is not between 0 and 2"));
}
