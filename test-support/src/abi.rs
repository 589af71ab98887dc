//! Compares the ABI of a library's headers, at each API level of `<ts/ts.h>`, with a committed
//! baseline.
//!
//! It compares a stand-in: a shared object made of the headers, with a body for each prototype. In the
//! library itself libabigail finds no function, because rustc writes no linkage names for functions with
//! C names. `header.rs` tests that the headers are those of the source, and `exports.rs` that the library
//! has the names in the baseline.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{compiler, root, run, scratch};

/// The API levels of `<ts/ts.h>`.
pub const LEVELS: [&str; 3] = ["8", "9", "10"];

/// Bits of abidiff's exit status: it failed, or was called wrongly.
const ABIDIFF_FAILED: i32 = 1 | 2;

/// The committed description of an ABI: a directory with a file for each level.
pub struct Baseline(pub(crate) PathBuf);

impl Baseline {
    fn path(&self, level: &str) -> PathBuf {
        self.0.join(level).with_extension("xml")
    }

    fn read(&self, level: &str) -> String {
        fs::read_to_string(self.path(level)).unwrap()
    }

    /// Returns the functions that it describes at a level.
    pub fn names(&self, level: &str) -> BTreeSet<String> {
        let baseline = self.read(level);
        let functions = baseline
            .lines()
            .filter(|line| line.contains("<elf-symbol ") && line.contains("type='func-type'"));
        functions
            .map(|line| line.split('\'').nth(1).unwrap().to_owned())
            .collect()
    }

    /// Returns the functions of all levels.
    pub fn all_names(&self) -> BTreeSet<String> {
        LEVELS
            .into_iter()
            .flat_map(|level| self.names(level))
            .collect()
    }

    /// Returns the SONAME for which it was made.
    pub fn soname(&self, level: &str) -> String {
        let baseline = self.read(level);
        let (_, rest) = baseline.split_once(" soname='").unwrap();
        rest.split('\'').next().unwrap().to_owned()
    }
}

/// A header in `include/ts`.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub name: &'static str,
    pub text: String,
    /// Whether the library defines its functions.
    pub defined: bool,
}

impl Header {
    pub fn read(name: &'static str, defined: bool) -> Self {
        let text = fs::read_to_string(root().join("include/ts").join(name)).unwrap();
        Self {
            name,
            text,
            defined,
        }
    }
}

/// A library, as its headers describe it.
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// The last one includes the others.
    pub headers: Vec<Header>,
    pub soname: String,
}

/// Gives each prototype a body, except those with `extern`, which the library does not define.
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

/// Returns an enumerator for each macro with a value, because debug information has no macros. The
/// version is not part of the ABI.
fn macros(header: &str) -> String {
    header
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .filter(|(name, _)| *name != "TSSESSION_VERSION")
        .map(|(name, _)| format!("  value_of_{name} = {name},\n"))
        .collect()
}

impl Api {
    /// Builds the stand-in for such a library, in a separate directory.
    pub fn stand_in(&self, dir: &str, level: &str) -> PathBuf {
        let dir = scratch().join(format!("{dir}-{level}"));
        fs::create_dir_all(dir.join("ts")).unwrap();
        for header in &self.headers {
            let text = if header.defined {
                &define(&header.text)
            } else {
                &header.text
            };
            fs::write(dir.join("ts").join(header.name), text).unwrap();
        }
        let macros: String = self.headers.iter().map(|h| macros(&h.text)).collect();
        let last = self.headers.last().unwrap().name;
        let text = format!("#include <ts/{last}>\n\nenum macros {{\n{macros}}} macros;\n");
        let cpp = level == "10";
        let source = if cpp { "api.cc" } else { "api.c" };
        fs::write(dir.join(source), text).unwrap();
        // Named without its directory, which would be written into the baseline.
        run(compiler(cpp)
            .current_dir(&dir)
            .args(["-O0", "-fPIC", "-shared", "-I."])
            .arg(if cpp { "-std=c++11" } else { "-std=c11" })
            .arg(format!("-DTS_SSL_SESSION_API={level}"))
            .arg(format!("-Wl,-soname,{}", self.soname))
            .args(["-o", "api.so", source]));
        dir.join("api.so")
    }

    /// Compares the headers with the baseline. With `UPDATE_ABI` set (`make abi`) it updates the baseline
    /// instead, unless the change breaks callers and the SONAME is the same.
    ///
    /// Additions must be in the baseline too, because callers rely on them from then on.
    pub fn check(&self, baseline: &Baseline) {
        let update = env::var_os("UPDATE_ABI").is_some();
        for level in LEVELS {
            let path = baseline.path(level);
            let now = self.stand_in("now", level);
            if update {
                if path.exists()
                    && baseline.soname(level) == self.soname
                    && let Some(report) = incompatible(&path, &now)
                {
                    panic!(
                        "raise SOVERSION in the build script: API {level} breaks callers:\n{report}"
                    );
                }
                write_baseline(&now, &path);
            }
            if let Some(report) = incompatible(&path, &now) {
                panic!("API {level} breaks callers that are compiled already:\n{report}");
            }
            if let Some(report) = different(&path, &now) {
                panic!("API {level} is not the baseline's: run `make abi` and commit:\n{report}");
            }
        }
    }
}

/// Returns abidiff's report on two ABIs, or `None` if they are the same.
fn differences(options: &[&str], baseline: &Path, now: &Path) -> Option<String> {
    let mut command = Command::new("abidiff");
    // The baseline is for every machine with the same sizes of types.
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

/// Returns what breaks a caller that is already compiled. abidiff sets the same bit of its exit status
/// for an added function as for a changed one, so it is told to ignore additions.
pub fn incompatible(baseline: &Path, now: &Path) -> Option<String> {
    differences(&["--no-added-syms"], baseline, now)
}

/// Returns all differences, even those that only a recompiled caller notices.
pub fn different(baseline: &Path, now: &Path) -> Option<String> {
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
        // An addition then changes only a few lines.
        .args(["--type-id-style", "hash", "--out-file"])
        .arg(baseline)
        .arg(library));
}
