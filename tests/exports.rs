//! What the built library shows to the loader.

mod common;

use common::abi::LEVELS;
use common::{baseline, dynamic_section, exported, library, soname, stdout};

/// `abi.rs` compares the headers with the baseline of the ABI, this file the library.
#[test]
fn exactly_the_promised_names() {
    let mut promised = baseline().all_names();
    // For Traffic Server, which looks for it by name; no header promises it to programs.
    promised.insert("TSPluginInit".into());
    let exported = exported();
    let differences: Vec<&String> = exported.symmetric_difference(&promised).collect();
    assert!(
        differences.is_empty(),
        "in the library or in the baseline, but not in both: {differences:?}"
    );
}

#[test]
fn the_promised_soname() {
    for level in LEVELS {
        assert_eq!(soname(), baseline().soname(level));
    }
}

#[test]
fn no_exported_name_is_called_by_the_library() {
    let relocations = stdout(
        "readelf",
        [
            "--relocs".as_ref(),
            "--wide".as_ref(),
            library().as_os_str(),
        ],
    );
    let called: Vec<&str> = relocations
        .lines()
        .filter(|line| line.contains("TSSsl"))
        .collect();
    assert_eq!(called, Vec::<&str>::new());
}

#[test]
fn shared_openssl() {
    let dynamic = dynamic_section(&library());
    assert!(
        dynamic.contains("Shared library: [libssl.so.3]"),
        "{dynamic}"
    );
    assert!(
        dynamic.contains("Shared library: [libcrypto.so.3]"),
        "{dynamic}"
    );
}
