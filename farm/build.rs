//! Sets the SONAME and writes the C header to `OUT_DIR/ssl_session_farm.h`.
//!
//! What is in `include/` is a copy (`make header`); `tests/header.rs` fails when it differs.

use std::env;
use std::fs;
use std::path::PathBuf;

use cbindgen::{Builder, Config};

/// As in the library's own build.rs.
const SOVERSION: &str = "0";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    println!("cargo::rerun-if-changed=src/ffi.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtssession_farm.so.{SOVERSION}");
    // dlclose must not unmap what the farm's threads run and what the host's hooks call.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");

    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let config = Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let bindings = Builder::new()
        .with_config(config)
        .with_src(root.join("src/ffi.rs"))
        .generate()
        .unwrap_or_else(|error| panic!("cbindgen, src/ffi.rs: {error}"));
    let mut functions = Vec::new();
    bindings.write(&mut functions);
    let functions = String::from_utf8(functions).expect("cbindgen writes UTF-8");
    let header = out.join("ssl_session_farm.h");
    fs::write(&header, text(&functions)).expect("OUT_DIR is writable");
    // For the tests: what was generated.
    println!(
        "cargo::rustc-env=TSSESSION_FARM_HEADER={}",
        header.display()
    );
}

fn text(functions: &str) -> String {
    let functions = without_safety_sections(functions.trim_start());
    format!(
        r#"/** @file

  What a host calls to share its TLS sessions and session-ticket keys with other machines,
  through Redis: libtssession_farm, beside libtssession. <ts/ts.h> may be this library's or
  ATS's own.

  Generated from farm/src/ffi.rs by farm/build.rs; do not edit.
  SPDX-License-Identifier: Apache-2.0
 */

#ifndef TSSESSION_SSL_SESSION_FARM_H
#define TSSESSION_SSL_SESSION_FARM_H

#include <stdint.h>
#include <ts/ts.h>

#ifdef __cplusplus
extern "C" {{
#endif

{functions}
#ifdef __cplusplus
}}
#endif

#endif /* TSSESSION_SSL_SESSION_FARM_H */
"#
    )
}

/// Leaves out the `# Safety` end of a doc comment, which is Rust's way to say what the text
/// before it says to C callers.
fn without_safety_sections(text: &str) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for line in text.lines() {
        if line == " * # Safety" {
            skipping = true;
            // The empty line before it.
            out.truncate(out.trim_end_matches(" *\n").len());
        }
        if line == " */" {
            skipping = false;
        }
        if !skipping {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
