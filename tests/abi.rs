//! The ABI of the headers, at each API level, beside `tests/abi/*.xml`.
//!
//! What is compared is a stand-in: a shared object of the headers with a body for each
//! prototype. In the library itself libabigail finds no function, because rustc writes
//! no linkage names for what has its C name. That the headers are those of the source
//! is tested in `header.rs`, that the library has the baseline's names in `exports.rs`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{API_LEVELS, abi_baseline, abi_soname, compiler, root, run, scratch, soname};

/// The headers, in the order in which one includes the other.
const HEADERS: [&str; 2] = ["ts.h", "ssl_session_cache.h"];

/// What abidiff says, in bits of its exit status: it failed, or was used wrongly.
const ABIDIFF_FAILED: i32 = 1 | 2;

fn headers() -> [String; 2] {
    HEADERS.map(|name| fs::read_to_string(root().join("include/ts").join(name)).unwrap())
}

/// Gives each prototype a body. What is declared `extern` is not the library's.
fn define(header: &str) -> String {
    let mut out = String::new();
    for line in header.lines() {
        let prototype = line.starts_with(|c: char| c.is_ascii_alphabetic())
            && !line.starts_with("typedef ")
            && !line.starts_with("extern ")
            && line.ends_with(");");
        if prototype {
            out += line.trim_end_matches(';');
            out += " { __builtin_trap(); }\n";
        } else {
            out += line;
            out += "\n";
        }
    }
    out
}

/// An enumerator for each macro that has a value, since debug information does not
/// keep macros.
fn macros(header: &str) -> String {
    header
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .map(|(name, _)| format!("  value_of_{name} = {name},\n"))
        .collect()
}

/// The stand-in for a library with such headers, in a folder of its own.
fn stand_in(dir: &str, level: &str, soname: &str, headers: &[String; 2]) -> PathBuf {
    let dir = scratch().join(format!("{dir}-{level}"));
    fs::create_dir_all(dir.join("ts")).unwrap();
    for (name, text) in HEADERS.iter().zip(headers) {
        fs::write(dir.join("ts").join(name), define(text)).unwrap();
    }
    let macros: String = headers.iter().map(|text| macros(text)).collect();
    let text = format!("#include <ts/ssl_session_cache.h>\n\nenum macros {{\n{macros}}} macros;\n");
    let cpp = level == "10";
    let source = if cpp { "api.cc" } else { "api.c" };
    fs::write(dir.join(source), text).unwrap();
    // Named without its folder, which would come to stand in the baseline.
    run(compiler(cpp)
        .current_dir(&dir)
        .args(["-O0", "-fPIC", "-shared", "-I."])
        .arg(if cpp { "-std=c++11" } else { "-std=c11" })
        .arg(format!("-DTS_SSL_SESSION_API={level}"))
        .arg(format!("-Wl,-soname,{soname}"))
        .args(["-o", "api.so", source]));
    dir.join("api.so")
}

/// What abidiff has to say of two ABIs; nothing when they are the same.
fn differences(options: &[&str], baseline: &Path, now: &Path) -> Option<String> {
    let mut command = Command::new("abidiff");
    // The baseline holds for every machine with the same sizes.
    command.arg("--no-architecture").args(options);
    let output = command
        .arg(baseline)
        .arg(now)
        .output()
        .expect("tools/deps.sh test installs abidiff");
    let status = output.status.code().expect("abidiff does not crash");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(status & ABIDIFF_FAILED, 0, "abidiff: {report}{errors}");
    (status != 0).then_some(report)
}

/// What breaks a caller that was compiled before. abidiff sets the same bit of its exit
/// status for an added function and for a changed one, so it is told to leave out what
/// was added.
fn incompatible(baseline: &Path, now: &Path) -> Option<String> {
    differences(&["--no-added-syms"], baseline, now)
}

/// Everything, also what only a caller that is compiled anew will notice.
fn different(baseline: &Path, now: &Path) -> Option<String> {
    differences(&["--harmless"], baseline, now)
}

fn write_baseline(library: &Path, baseline: &Path) {
    run(Command::new("abidw")
        .args([
            "--no-architecture",
            "--no-corpus-path",
            "--no-comp-dir-path",
        ])
        .args(["--no-show-locs", "--no-elf-needed"])
        // So that an addition is a few new lines.
        .args(["--type-id-style", "hash", "--out-file"])
        .arg(baseline)
        .arg(library));
}

/// With `UPDATE_ABI` set (`make abi`) it brings the baseline up to date instead, unless
/// that breaks callers and the SONAME does not say so.
///
/// What was added must be in the baseline too: from then on callers rely on it.
#[test]
fn the_abi_is_that_of_the_baseline() {
    let update = std::env::var_os("UPDATE_ABI").is_some();
    for level in API_LEVELS {
        let baseline = abi_baseline(level);
        let now = stand_in("now", level, &soname(), &headers());
        if update {
            if baseline.exists()
                && abi_soname(level) == soname()
                && let Some(report) = incompatible(&baseline, &now)
            {
                panic!("raise SOVERSION in build.rs: API {level} breaks callers:\n{report}");
            }
            write_baseline(&now, &baseline);
        }
        if let Some(report) = incompatible(&baseline, &now) {
            panic!("API {level} breaks callers that are compiled already:\n{report}");
        }
        if let Some(report) = different(&baseline, &now) {
            panic!("API {level} is not the baseline's: run `make abi` and commit:\n{report}");
        }
    }
}

/// A change of the headers: what it is, from, to.
type Change = (&'static str, &'static str, &'static str);

const BREAKING: [Change; 11] = [
    (
        "a function removed",
        "void TSSslSessionCacheClear(void);",
        "",
    ),
    (
        "a function renamed",
        "TSSslSessionRemove(const",
        "TSSslSessionDelete(const",
    ),
    (
        "a parameter's type",
        "char *buffer, int *len_ptr",
        "char *buffer, size_t *len_ptr",
    ),
    (
        "a result's type",
        "int TSSslSessionGetBuffer(",
        "long TSSslSessionGetBuffer(",
    ),
    (
        "a callback's parameters",
        "TSCont contp, enum TSEvent event, ",
        "TSCont contp, ",
    ),
    (
        "the order of fields",
        "  size_t len;
  /**
   * The ID.
   */
  char bytes[TS_SSL_MAX_SSL_SESSION_ID_LENGTH];",
        "  char bytes[TS_SSL_MAX_SSL_SESSION_ID_LENGTH];
  size_t len;",
    ),
    ("a field's size", "  size_t len;", "  int len;"),
    (
        "a field's offset",
        "typedef struct TSSslSessionID {",
        "typedef struct TSSslSessionID {\n  int before;",
    ),
    ("an event's value", "_NEW = 2001", "_NEW = 2003"),
    ("an error's value", "TS_ERROR = -1", "TS_ERROR = 1"),
    (
        "a macro's value",
        "TS_SSL_MAX_SSL_SESSION_ID_LENGTH 32",
        "TS_SSL_MAX_SSL_SESSION_ID_LENGTH 64",
    ),
];

const ADDING: [Change; 2] = [
    (
        "a function added",
        "void TSSslSessionCacheClear(void);",
        "void TSSslSessionCacheClear(void);\nvoid TSSslSessionCacheNew(void);",
    ),
    (
        "an event added",
        "_REMOVE = 2002,",
        "_REMOVE = 2002,\n  TS_EVENT_SSL_SESSION_OTHER = 2003,",
    ),
];

/// The baseline's ABI beside one with a change, and with another SONAME.
fn changed(level: &str, (what, from, to): Change, soname: &str) -> PathBuf {
    let before = headers();
    let after = before.clone().map(|text| text.replace(from, to));
    assert_ne!(before, after, "{what}");
    stand_in(&what.replace(' ', "-"), level, soname, &after)
}

/// What this file relies on: abidiff sees every kind of change, at every level.
#[test]
fn what_breaks_callers_is_told_from_what_adds() {
    for level in API_LEVELS {
        let baseline = stand_in("before", level, &soname(), &headers());
        for change in BREAKING {
            let after = changed(level, change, &soname());
            assert!(
                incompatible(&baseline, &after).is_some(),
                "{change:?}, {level}"
            );
        }
        for change in ADDING {
            let after = changed(level, change, &soname());
            assert_eq!(incompatible(&baseline, &after), None, "{change:?}, {level}");
            assert!(
                different(&baseline, &after).is_some(),
                "{change:?}, {level}"
            );
        }
        let renamed = stand_in("soname", level, "libtssession.so.other", &headers());
        assert!(incompatible(&baseline, &renamed).is_some());
    }
}
