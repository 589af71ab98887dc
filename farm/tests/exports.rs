//! What the farm's library shows to the loader, and what is told of it elsewhere.

mod common;

use common::abi::LEVELS;
use common::{
    baseline, debian_symbols, dynamic_section, exported_by, library, root, soname_of, stdout,
};

/// `abi.rs` compares the header with the baseline of the ABI, this file the library.
#[test]
fn exactly_the_promised_names() {
    let functions = baseline().all_names();
    for name in &functions {
        assert!(root().join(format!("man/{name}.3")).exists(), "{name}");
    }
    let mut promised = functions;
    // For Traffic Server, which looks for it by name; no header promises it to programs.
    promised.insert("TSPluginInit".into());
    assert_eq!(exported_by(&library()), promised);
    assert_eq!(debian_symbols("libtssession-farm0"), promised);
}

#[test]
fn the_promised_soname() {
    for level in LEVELS {
        assert_eq!(soname_of(&library()), baseline().soname(level));
    }
}

/// One file serves every host, because the host's functions are found at run time.
#[test]
fn no_function_of_a_host_is_linked() {
    let undefined = stdout(
        "nm",
        [
            "-D".as_ref(),
            "--undefined-only".as_ref(),
            library().as_os_str(),
        ],
    );
    assert!(undefined.contains(" U SSL_SESSION_free"), "{undefined}");
    let of_a_host: Vec<&str> = undefined
        .lines()
        .filter(|line| line.contains("TS"))
        .collect();
    assert_eq!(of_a_host, Vec::<&str>::new());
    let dynamic = dynamic_section(&library());
    assert!(!dynamic.contains("libtssession.so"), "{dynamic}");
}
