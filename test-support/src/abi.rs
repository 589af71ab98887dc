//! The ABI of a library's headers, at each API level of `<ts/ts.h>`, beside a committed
//! baseline.
//!
//! What is compared is a stand-in: a shared object of the headers with a body for each
//! prototype. In the library itself libabigail finds no function, because rustc writes
//! no linkage names for what has its C name. That the headers are those of the source
//! is tested in `header.rs`, that the library has the baseline's names in `exports.rs`.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{compiler, root, run, scratch};

/// The API levels that `<ts/ts.h>` has.
pub const LEVELS: [&str; 3] = ["8", "9", "10"];

/// What abidiff says, in bits of its exit status: it failed, or was used wrongly.
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

    /// The functions that it describes.
    pub fn names(&self, level: &str) -> BTreeSet<String> {
        let baseline = self.read(level);
        let functions = baseline
            .lines()
            .filter(|line| line.contains("<elf-symbol ") && line.contains("type='func-type'"));
        functions
            .map(|line| line.split('\'').nth(1).unwrap().to_owned())
            .collect()
    }

    /// Those of all levels.
    pub fn all_names(&self) -> BTreeSet<String> {
        LEVELS
            .into_iter()
            .flat_map(|level| self.names(level))
            .collect()
    }

    /// The SONAME that it is of.
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
    /// Whether the library has its functions.
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

/// A library as its headers have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// The last one includes the others.
    pub headers: Vec<Header>,
    pub soname: String,
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
/// keep macros. The version is not part of the ABI.
fn macros(header: &str) -> String {
    header
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .filter(|(name, _)| *name != "TSSESSION_VERSION")
        .map(|(name, _)| format!("  value_of_{name} = {name},\n"))
        .collect()
}

impl Api {
    /// The stand-in for such a library, in a folder of its own.
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
        // Named without its folder, which would come to stand in the baseline.
        run(compiler(cpp)
            .current_dir(&dir)
            .args(["-O0", "-fPIC", "-shared", "-I."])
            .arg(if cpp { "-std=c++11" } else { "-std=c11" })
            .arg(format!("-DTS_SSL_SESSION_API={level}"))
            .arg(format!("-Wl,-soname,{}", self.soname))
            .args(["-o", "api.so", source]));
        dir.join("api.so")
    }

    /// With `UPDATE_ABI` set (`make abi`) it brings the baseline up to date instead, unless
    /// that breaks callers and the SONAME does not say so.
    ///
    /// What was added must be in the baseline too: from then on callers rely on it.
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
pub fn incompatible(baseline: &Path, now: &Path) -> Option<String> {
    differences(&["--no-added-syms"], baseline, now)
}

/// Everything, also what only a caller that is compiled anew will notice.
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
        // So that an addition is a few new lines.
        .args(["--type-id-style", "hash", "--out-file"])
        .arg(baseline)
        .arg(library));
}
