//! A host in C that is linked with OpenSSL only, with this library preloaded.

#![cfg(all(
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tssession_test_support::{
    assert_logged, compile_source, execute, root, run, scratch, scratch_dir, stdout, valgrind,
};

/// The directory into which cargo puts it.
fn library() -> PathBuf {
    env::current_exe()
        .unwrap()
        .with_file_name("libtssession_preload.so")
}

fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let program = scratch().join("preload");
        run(compile_source("c_tests/preload.c")
            .arg(root().join("c_tests/tls.c"))
            .arg("-o")
            .arg(&program)
            .args(["-lssl", "-lcrypto", "-ldl", "-pthread"]));
        program
    });
    &PROGRAM
}

/// Runs the program and returns its log lines.
fn host(case: &str, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(program());
    command
        .arg(case)
        .env("LD_PRELOAD", library())
        .envs(environment.iter().copied());
    execute(&mut command)
}

const NUMBER: (&str, &str) = ("PROXY_CONFIG_SSL_SERVER_SESSION_TICKET_NUMBER", "5");
const NO_TICKET: (&str, &str) = ("PROXY_CONFIG_SSL_SERVER_SESSION_TICKET_ENABLE", "0");
const ALL_KEYS: (&str, &str) = ("TSSESSION_SESSION_TICKET_MODE", "1");

#[test]
fn contexts_are_served() {
    assert_eq!(host("serve", &[]), "");
}

#[test]
fn contexts_come_and_go() {
    assert_eq!(host("come-and-go", &[]), "");
}

#[test]
fn a_session_of_the_hosts_own_outlives_its_context() {
    assert_eq!(host("added-session", &[]), "");
}

#[test]
fn contexts_that_connect_are_not_touched() {
    assert_eq!(host("connect-only", &[]), "");
}

#[test]
fn what_openssl_has_copied_is_brought_up_to_date() {
    assert_eq!(host("number", &[NUMBER]), "");
    assert_eq!(host("no-ticket", &[NO_TICKET]), "");
}

#[test]
fn a_host_keeps_its_ticket_keys_unless_the_setting_says_otherwise() {
    // Handshakes that must fail write OpenSSL's errors.
    let says_nothing = |case, environment: &[_]| {
        let said = host(case, environment);
        assert!(!said.contains("tssession"), "{said}");
    };
    says_nothing("own-keys", &[]);
    says_nothing("library-keys", &[ALL_KEYS]);
    let records = scratch_dir().join("records.config");
    fs::write(&records, "CONFIG tssession.session_ticket.mode INT 1\n").unwrap();
    let file = ("TSSESSION_CONFIG", records.to_str().unwrap());
    says_nothing("library-keys", &[file]);
}

#[test]
fn a_context_that_is_switched_to_is_attached() {
    assert_eq!(host("switched", &[]), "");
}

#[test]
fn threads_attach_a_context_once() {
    assert_eq!(host("threads", &[]), "");
}

#[test]
fn workers_that_are_forked_before_have_the_same_ticket_key() {
    assert_eq!(host("workers", &[]), "");
}

#[test]
fn without_the_library_the_host_is_as_it_was() {
    let dir = scratch_dir();
    let alone = dir.join("libtssession_preload.so");
    fs::copy(library(), &alone).unwrap();
    let left_alone = || {
        stdout(
            Command::new("sh")
                .args(["-c", "\"$0\" left-alone 2>&1"])
                .arg(program())
                .env("LD_PRELOAD", &alone)
                .env_remove("LD_LIBRARY_PATH"),
        )
    };
    let start = "tssession_preload: contexts are left as they are: ";
    let said = left_alone();
    assert!(
        said.starts_with(start) && said.lines().count() == 1,
        "{said}"
    );
    // The shell loads the library too, and writes nothing.
    fs::write(dir.join("libtssession.so.0"), "not a library").unwrap();
    let said = left_alone();
    assert!(
        said.contains("file too short") && said.lines().count() == 1,
        "{said}"
    );
    fs::remove_file(dir.join("libtssession.so.0")).unwrap();
    fs::copy(&alone, dir.join("libtssession.so.0")).unwrap();
    let said = left_alone();
    assert!(said.contains("has no TSSslSessionCacheAttach"), "{said}");
}

/// A copy of libssl under another name, which libtssession does not use.
#[test]
fn the_contexts_of_another_libssl_are_left_alone() {
    let dir = scratch_dir();
    let linked = stdout(Command::new("ldd").arg(program()));
    let libssl = linked
        .lines()
        .find_map(|line| line.trim().strip_prefix("libssl.so.")?.split(' ').nth(2))
        .unwrap();
    let mut copy = fs::read(libssl).unwrap();
    let name = b"libssl.so.";
    let ends: Vec<usize> = (name.len()..copy.len() - 1)
        .filter(|end| copy[..*end].ends_with(name) && copy[end + 1] == 0)
        .collect();
    assert!(!ends.is_empty());
    ends.into_iter().for_each(|end| copy[end] = b'9');
    fs::write(dir.join("libssl.so.9"), copy).unwrap();
    let other = dir.join("other");
    run(compile_source("c_tests/preload.c")
        .arg(root().join("c_tests/tls.c"))
        .arg("-o")
        .arg(&other)
        .arg("-L")
        .arg(&dir)
        .args(["-l:libssl.so.9", "-lcrypto", "-ldl", "-pthread"]));
    let said = stdout(
        Command::new("sh")
            .args(["-c", "\"$0\" forked-beside-threads 2>&1"])
            .arg(&other)
            .env("LD_PRELOAD", library())
            .env("LD_LIBRARY_PATH", &dir),
    );
    assert!(
        said.contains("libssl.so.9 are left as they are: libtssession uses another libssl")
            && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn a_forked_child_does_not_wait_for_threads_of_its_parent() {
    assert_eq!(host("forked-beside-threads", &[]), "");
}

#[test]
fn the_farm_that_is_not_there_is_said_once() {
    let said = host("workers", &[("TSSESSION_FARM", "/no/such/farm.toml")]);
    let line = "TSSslSessionFarmPrepare: /no/such/farm.toml: No such file";
    assert_logged(&said, &[line]);
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// `LD_PRELOAD` reaches every program that a host runs.
#[test]
fn no_library_is_linked_that_a_program_may_not_have() {
    let dynamic = stdout(Command::new("readelf").arg("-dW").arg(library()));
    assert!(dynamic.contains("NEEDED"), "{dynamic}");
    for library in ["libssl", "libcrypto", "libtssession.", "libtssession_farm"] {
        assert!(!dynamic.contains(&format!("[{library}")), "{dynamic}");
    }
}

#[test]
fn exactly_the_functions_that_it_stands_before() {
    let names = stdout(
        Command::new("nm")
            .args(["-D", "--defined-only"])
            .arg(library()),
    );
    let names: Vec<&str> = names
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    assert_eq!(
        names,
        [
            "SSL_CTX_add_session",
            "SSL_CTX_callback_ctrl",
            "SSL_CTX_ctrl",
            "SSL_CTX_new",
            "SSL_CTX_new_ex",
            "SSL_CTX_set_session_ticket_cb",
            "SSL_CTX_set_tlsext_ticket_key_evp_cb",
            "SSL_accept",
            "SSL_dup",
            "SSL_free",
            "SSL_new",
            "SSL_set_SSL_CTX",
            "SSL_set_accept_state",
            "SSL_up_ref",
        ]
    );
}

#[test]
#[ignore = "slow: make test-release"]
fn in_valgrind() {
    for case in ["serve", "come-and-go", "own-keys", "switched", "threads"] {
        let mut command = valgrind(program());
        command
            .arg(case)
            .env("LD_PRELOAD", library())
            .env("CHECK_SCALE", "2");
        execute(&mut command);
    }
}
