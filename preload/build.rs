//! Tells the names of the libraries that are opened at run time.

use std::fs;

/// The `SOVERSION` in the build script of a library.
fn soversion(script: &str) -> String {
    println!("cargo::rerun-if-changed={script}");
    let text = fs::read_to_string(script).expect("is there");
    let version = text
        .split_once("const SOVERSION: &str = \"")
        .and_then(|(_, rest)| rest.split_once('"'));
    version.expect("names its SOVERSION").0.to_owned()
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    tssession_common::generate::link("libtssession_preload.so");
    for (variable, library, script) in [
        ("TSSESSION", "libtssession", "../build.rs"),
        ("TSSESSION_FARM", "libtssession_farm", "../farm/build.rs"),
    ] {
        let version = soversion(script);
        println!("cargo::rustc-env={variable}_SONAME={library}.so.{version}");
    }
}
