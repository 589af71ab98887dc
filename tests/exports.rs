//! The names and dependencies that the built library shows to the loader.

use std::process::Command;

use tssession_test_support::{TSSESSION, stdout};

#[test]
fn exactly_the_promised_names() {
    TSSESSION.check_names();
}

#[test]
fn no_exported_name_is_called_by_the_library() {
    let relocations = stdout(
        Command::new("readelf")
            .args(["--relocs", "--wide"])
            .arg(&TSSESSION.path),
    );
    let mut called = relocations.lines().filter(|line| line.contains("TSSsl"));
    assert_eq!(called.next(), None);
}

#[test]
fn shared_openssl() {
    let dynamic = TSSESSION.dynamic_section();
    let major = openssl::version::number() >> 28;
    for library in ["libssl.so", "libcrypto.so"] {
        let needed = format!("Shared library: [{library}.{major}]");
        assert!(dynamic.contains(&needed), "{dynamic}");
    }
}
