//! Sets the SONAME and writes the C headers to `OUT_DIR/include/ts` and the manual
//! pages to `OUT_DIR/man`.
//!
//! The files in `include/` and `man/` are copies (`make header`); `tests/header.rs` fails if they
//! differ.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use tssession_common::generate::{
    declarations, link, look_for_ats, man, openssl, soname, version, version_macro, with_c_linkage,
    write_all,
};

/// To be raised when a caller that was built against an older version cannot use the new one.
/// mk/install.mk reads it here.
const SOVERSION: &str = "0";

const LICENSE: &str = "SPDX-License-Identifier: Apache-2.0";
const GENERATED: &str = "Generated from src/ffi by build.rs; do not edit.";

/// The C++ names in `src/ffi/cxx.rs`, and the plain names that a header has for them.
const CXX_NAMES: [(&str, &str); 5] = [
    ("_Z15TSSslSessionGetPK14TSSslSessionID", "TSSslSessionGet"),
    (
        "_Z21TSSslSessionGetBufferPK14TSSslSessionIDPcPi",
        "TSSslSessionGetBuffer",
    ),
    (
        "_Z18TSSslSessionInsertPK14TSSslSessionIDP17tsapi_ssl_sessionP13tsapi_ssl_obj",
        "TSSslSessionInsert",
    ),
    (
        "_Z18TSSslSessionRemovePK14TSSslSessionID",
        "TSSslSessionRemove",
    ),
    ("_Z20TSSslTicketKeyUpdatePci", "TSSslTicketKeyUpdate"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    println!("cargo::rerun-if-changed=src/ffi");
    println!("cargo::rerun-if-changed=common/src/code.rs");
    println!("cargo::rerun-if-changed=docs/guide");
    let soname = soname("libtssession", SOVERSION);
    link(&soname);
    println!("cargo::rustc-env=TSSESSION_SONAME={soname}");
    // The plugin looks for this library in the server.
    println!(
        "cargo::rustc-env=TSSESSION_FARM_SONAME={}",
        tssession_common::generate::soname("libtssession_farm", SOVERSION)
    );
    let [major, minor, patch] = openssl();
    println!("cargo::rustc-env=TSSESSION_OPENSSL={major}.{minor}.{patch}");
    println!("cargo::rustc-check-cfg=cfg(has_time_ex)");
    if (major, minor) >= (3, 4) {
        println!("cargo::rustc-cfg=has_time_ex");
    }

    look_for_ats();

    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let headers = [
        ("ts/ts.h", ts(&root)),
        ("ts/ssl_session_cache.h", host(&root)),
    ];
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("is there");
    let pages = man::pages(
        &headers
            .each_ref()
            .map(|(name, text)| (*name, text.as_str())),
        "",
        &man::Overview {
            title: "TLS session cache of Apache Traffic Server",
            template: &read("build/tssession.3.in"),
            counters: &read("docs/guide/counters.md"),
            settings: &read("docs/guide/settings.md"),
            soname: &format!("libtssession.so.{SOVERSION}"),
        },
        &read("build/examples.c"),
        &version(),
        &format!("{GENERATED}\n{LICENSE}"),
    );
    write_all(&out.join("include"), headers);
    write_all(&out.join("man"), pages);
    // The tests read the generated files here.
    println!("cargo::rustc-env=TSSESSION_GENERATED={}", out.display());
}

/// `<ts/ts.h>`.
fn ts(root: &Path) -> String {
    let version = version_macro();
    let code = declarations(root, "common/src/code.rs");
    let types = declarations(root, "src/ffi/types.rs");
    let c = declarations(root, "src/ffi/ts.rs");
    let mut cxx = without_comments(&declarations(root, "src/ffi/cxx.rs"));
    for (mangled, plain) in CXX_NAMES {
        assert!(cxx.contains(mangled), "src/ffi/cxx.rs exports {mangled}");
        cxx = cxx.replace(mangled, plain);
    }
    format!(
        r#"/** @file

  The TLS session cache and ticket-key functions of Apache Traffic Server.

  TS_SSL_SESSION_API chooses the declarations:
    8   those of the manual page and of ATS 7.1 to 8.1 (the default)
    9   those of ATS 9: TSSslSessionInsert also takes the connection, which is never
        read, and TSSslTicketKeyUpdate returns a TSReturnCode
    10  those of ATS 10 and 11: as for 9, with C++ linkage; for C++ only

  {GENERATED}
  {LICENSE}
 */

#ifndef TSSESSION_TS_H
#define TSSESSION_TS_H

#include <stddef.h>

{version}
#ifndef TS_SSL_SESSION_API
#define TS_SSL_SESSION_API 8
#endif

#if TS_SSL_SESSION_API < 8 || TS_SSL_SESSION_API > 10
#error "TS_SSL_SESSION_API must be 8, 9 or 10"
#endif

#if TS_SSL_SESSION_API == 10 && !defined(__cplusplus)
#error "TS_SSL_SESSION_API 10 has C++ linkage: use 9 in C"
#endif

{code}
{types}
#if defined(__cplusplus) && TS_SSL_SESSION_API < 10
extern "C" {{
#endif

#if TS_SSL_SESSION_API == 8

{c}
#else /* 9 and 10: the functions are described above */

{cxx}
#endif

#if defined(__cplusplus) && TS_SSL_SESSION_API < 10
}}
#endif

#ifdef __cplusplus
extern "C" {{
#endif

/**
 * The function that a plugin defines and that its host calls after loading the plugin. argv[0] is
 * the plugin, the others are its arguments. The function has C linkage at every level, as in ATS:
 * plugins rely on this declaration for that.
 */
extern void TSPluginInit(int argc, const char *argv[]);

#ifdef __cplusplus
}}
#endif

#endif /* TSSESSION_TS_H */
"#
    )
}

/// `<ts/ssl_session_cache.h>`.
fn host(root: &Path) -> String {
    let version = version_macro();
    let functions = with_c_linkage(&declarations(root, "src/ffi/host.rs"));
    format!(
        r#"/** @file

  Functions for the owner of an SSL_CTX, whose sessions and tickets libtssession
  serves. They have C linkage, whatever linkage the functions of <ts/ts.h> have.
  <ts/ts.h> may be this library's or ATS's own.

  {GENERATED}
  {LICENSE}
 */

#ifndef TSSESSION_SSL_SESSION_CACHE_H
#define TSSESSION_SSL_SESSION_CACHE_H

#include <stdint.h>
#include <ts/ts.h>

{version}
{functions}
#endif /* TSSESSION_SSL_SESSION_CACHE_H */
"#
    )
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("/**") {
        let end = rest[start..].find("*/\n").expect("comments are closed") + start + 3;
        out.push_str(&rest[..start]);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}
