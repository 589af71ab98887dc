//! Tests the examples: a plugin of each API level, and Python. `peers.rs` tests the example host, and
//! `make demo` shows it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tssession_test_support::{
    Ats, Host, Reach, TSSESSION, WARNINGS, compile, compile_source, execute, library_dir, root,
    run, scratch, scratch_dir, stdout, valgrind,
};

/// Makes a directory for one test, with a session of a real handshake in it.
fn directory_with_session() -> (PathBuf, PathBuf) {
    let dir = scratch_dir();
    let session = dir.join("session.pem");
    let host = Host::start(&[]);
    run(Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", host.port)])
        .args(["-tls1_2", "-no_ticket", "-ign_eof", "-sess_out"])
        .arg(&session)
        .stdin(Stdio::null()));
    (dir, session)
}

fn link(command: &mut Command, out: &Path) {
    run(command
        .arg("-o")
        .arg(out)
        .arg("-L")
        .arg(library_dir())
        // The library defines every function that a plugin needs.
        .args(["-ltssession", "-lssl", "-lcrypto", "-Wl,--no-undefined"]));
}

/// Returns the functions of the library that a plugin calls.
fn called(plugin: &Path) -> BTreeSet<String> {
    let undefined = ["-D", "--undefined-only"];
    stdout(Command::new("nm").args(undefined).arg(plugin))
        .split_whitespace()
        .filter(|word| word.contains("TSSsl"))
        .map(str::to_owned)
        .collect()
}

/// Runs a plugin in its host, without and with valgrind.
fn run_plugin(level: &str, source: &str) -> BTreeSet<String> {
    let (dir, session) = directory_with_session();
    let (host, plugin) = (dir.join("run_plugin"), dir.join("plugin.so"));
    link(&mut compile_source("examples/run_plugin.c"), &host);
    let define = format!("-DTS_SSL_SESSION_API={level}");
    link(
        compile_source(source).args([&define, "-shared", "-fPIC"]),
        &plugin,
    );
    for mut command in [Command::new(&host), valgrind(&host)] {
        let said = stdout(
            command
                .args([&plugin, &session])
                .env("LD_LIBRARY_PATH", library_dir()),
        );
        assert_eq!(said, "15 answers, all correct\n");
    }
    called(&plugin)
}

fn c_names() -> BTreeSet<String> {
    [
        "TSSslSessionGet",
        "TSSslSessionGetBuffer",
        "TSSslSessionInsert",
        "TSSslSessionRemove",
        "TSSslTicketKeyUpdate",
    ]
    .map(str::to_owned)
    .into()
}

#[test]
fn a_plugin_for_ats_8() {
    assert_eq!(run_plugin("8", "examples/plugin_ats8.c"), c_names());
}

#[test]
fn a_plugin_for_ats_9() {
    assert_eq!(run_plugin("9", "examples/plugin_ats9.c"), c_names());
}

#[test]
fn a_plugin_for_ats_10() {
    let mut names = TSSESSION.baseline().names("10");
    names.retain(|name| name.starts_with("_Z"));
    assert_eq!(names.len(), 5);
    assert_eq!(run_plugin("10", "examples/plugin_ats10.cc"), names);
}

/// A plugin with the header of ATS 11, in a program that defines the functions of ATS by their C++
/// names. As in ATS, the functions for sessions are found in the library.
#[test]
fn a_plugin_for_ats_11() {
    let plugin = scratch().join("plugin_ats11.so");
    // The headers of ATS come before those of this library, as on a machine with ATS.
    run(Ats::V11
        .compiler()
        .args(["-shared", "-fPIC"])
        .arg("-I")
        .arg(root().join("include"))
        .arg(root().join("examples/plugin_ats11.cc"))
        .arg("-o")
        .arg(&plugin)
        .arg("-L")
        .arg(library_dir())
        .args(["-ltssession", "-lssl", "-lcrypto"]));
    let names: Vec<String> = called(&plugin).into_iter().collect();
    assert_eq!(
        names,
        [
            "TSSslSessionHookAdd",
            "_Z15TSSslSessionGetPK14TSSslSessionID",
            "_Z18TSSslSessionInsertPK14TSSslSessionIDP17tsapi_ssl_sessionP13tsapi_ssl_obj",
            "_Z18TSSslSessionRemovePK14TSSslSessionID",
            "_Z21TSSslSessionGetBufferPK14TSSslSessionIDPcPi",
        ]
    );
    let host = compile("plugin.c", Reach::InAts, &[]);
    for mut command in [Command::new(&host), valgrind(&host)] {
        command.arg("example").arg(&plugin);
        execute(&mut Ats::V11.command(command, &[]));
    }
}

/// The same source compiles with the header of ATS 9.
#[test]
#[cfg_attr(not(has_ats), ignore = "needs the headers of trafficserver-dev")]
fn a_plugin_for_ats_9_with_the_header_of_ats() {
    let output = run(Command::new("gcc")
        .args(WARNINGS)
        .args(["-std=gnu11", "-fsyntax-only", "-H"])
        .arg(root().join("examples/plugin_ats9.c")));
    let headers = String::from_utf8(output.stderr).unwrap();
    assert!(
        headers.contains(" /usr/include/ts/apidefs.h\n"),
        "{headers}"
    );
}

#[test]
fn python() {
    let (_, session) = directory_with_session();
    let said = stdout(
        Command::new("python3")
            .arg(root().join("examples/session_cache.py"))
            .arg(session)
            .env("LD_LIBRARY_PATH", library_dir()),
    );
    assert!(said.starts_with("1 session, "), "{said}");
}
