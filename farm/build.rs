//! Sets the SONAME and writes the C header to `OUT_DIR/include/ts` and the manual pages to
//! `OUT_DIR/man`.
//!
//! The files in `include/` and `man/` are copies (`make header`); `tests/header.rs` fails if they
//! differ.

use std::env;
use std::fs;
use std::path::PathBuf;

use tssession_common::generate::{
    declarations, link, look_for_ats, man, soname, version, version_macro, with_c_linkage,
    write_all,
};

/// As in ../build.rs. mk/install.mk reads it here.
const SOVERSION: &str = "0";

const LICENSE: &str = "SPDX-License-Identifier: Apache-2.0";
const GENERATED: &str = "Generated from farm/src/ffi.rs by farm/build.rs; do not edit.";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../build");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    println!("cargo::rerun-if-changed=src/ffi.rs");
    println!("cargo::rerun-if-changed=../include/ts/ssl_session_cache.h");
    link(&soname("libtssession_farm", SOVERSION));
    // The farm opens this library.
    println!(
        "cargo::rustc-env=TSSESSION_SONAME={}",
        soname("libtssession", SOVERSION)
    );

    look_for_ats();

    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("is there");
    let farm = farm(&declarations(&root, "src/ffi.rs"));
    let pages = man::pages(
        &[("ts/ssl_session_farm.h", &farm)],
        &read("../include/ts/ssl_session_cache.h"),
        &man::Overview {
            title: "TLS sessions and ticket keys through Redis",
            template: &read("../build/tssession_farm.3.in"),
            counters: "",
            settings: "",
            soname: &format!("libtssession_farm.so.{SOVERSION}"),
        },
        &read("../build/examples.c"),
        &version(),
        &format!("{GENERATED}\n{LICENSE}"),
    );
    write_all(&out.join("include"), [("ts/ssl_session_farm.h", farm)]);
    write_all(&out.join("man"), pages);
    // The tests read the generated files here.
    println!("cargo::rustc-env=TSSESSION_GENERATED={}", out.display());
}

/// `<ts/ssl_session_farm.h>`.
fn farm(functions: &str) -> String {
    let version = version_macro();
    let functions = with_c_linkage(functions);
    format!(
        r#"/** @file

  Functions of libtssession_farm, which works beside libtssession: a host shares its TLS
  sessions and session-ticket keys with other machines through Redis. <ts/ts.h> may be this
  library's or ATS's own.

  {GENERATED}
  {LICENSE}
 */

#ifndef TSSESSION_SSL_SESSION_FARM_H
#define TSSESSION_SSL_SESSION_FARM_H

#include <stdint.h>
#include <ts/ts.h>

{version}
{functions}
#endif /* TSSESSION_SSL_SESSION_FARM_H */
"#
    )
}
