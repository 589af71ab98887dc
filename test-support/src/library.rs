//! Compares the built libraries with the committed files about them.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::abi::{Api, Baseline, Header, LEVELS};
use crate::{root, scratch, stdout};

pub struct Library {
    pub path: PathBuf,
    /// The last of its headers, in `include/ts`.
    header: &'static str,
    /// The directory with its ABI baseline.
    baseline: &'static str,
    /// The Debian package that contains it.
    package: &'static str,
}

/// libtssession: that of this build, or `$TSSESSION_LIB`.
pub static TSSESSION: LazyLock<Library> = LazyLock::new(|| Library {
    path: env::var_os("TSSESSION_LIB").map_or_else(|| built("libtssession.so"), PathBuf::from),
    header: "ssl_session_cache.h",
    baseline: "tests/abi",
    package: "libtssession0",
});

/// The farm's library.
pub static FARM: LazyLock<Library> = LazyLock::new(|| Library {
    path: built("libtssession_farm.so"),
    header: "ssl_session_farm.h",
    baseline: "farm/tests/abi",
    package: "libtssession-farm0",
});

/// Returns the path at which cargo leaves a library that a test depends on.
fn built(name: &str) -> PathBuf {
    env::current_exe().unwrap().with_file_name(name)
}

/// A directory in which the libraries have the names that the linker and the loader use.
pub fn library_dir() -> &'static Path {
    static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
        let dir = scratch().join("lib");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        // A link to a library that was not built leads nowhere.
        for library in [&TSSESSION, &FARM] {
            let name = library.path.file_name().unwrap().to_str().unwrap();
            symlink(&library.path, dir.join(name)).unwrap();
            for soname in ["0", "0-openssl4"] {
                symlink(&library.path, dir.join(format!("{name}.{soname}"))).unwrap();
            }
        }
        dir
    });
    &DIR
}

impl Library {
    /// Returns whether a header or a manual page belongs to this library, not to the other.
    fn owns(&self, file: &str) -> bool {
        let is_farm = |name: &str| name.to_lowercase().contains("farm");
        is_farm(file) == is_farm(self.header)
    }

    /// Returns the ABI of its headers.
    pub fn api(&self) -> Api {
        let headers = ["ts.h", self.header];
        Api {
            headers: headers
                .map(|name| Header::read(name, self.owns(name)))
                .into(),
            soname: self.soname(),
        }
    }

    /// Returns the committed ABI.
    pub fn baseline(&self) -> Baseline {
        Baseline(root().join(self.baseline))
    }

    /// Returns its dynamic section, with its own name and those of the libraries that it needs.
    pub fn dynamic_section(&self) -> String {
        stdout(Command::new("readelf").arg("--dynamic").arg(&self.path))
    }

    /// Returns the SONAME, without the suffix for a version of OpenSSL.
    fn soname(&self) -> String {
        let dynamic = self.dynamic_section();
        let (_, rest) = dynamic.split_once("Library soname: [").unwrap();
        let openssl = match openssl::version::number() >> 28 {
            3 => String::new(),
            major => format!("-openssl{major}"),
        };
        let name = rest.split_once(']').unwrap().0;
        name.strip_suffix(&openssl).unwrap().to_owned()
    }

    /// Returns the names that the loader finds in it.
    pub fn exported(&self) -> BTreeSet<String> {
        let nm = stdout(
            Command::new("nm")
                .args(["-D", "--defined-only"])
                .arg(&self.path),
        );
        nm.lines()
            .filter_map(|line| line.split(' ').nth(2))
            .map(str::to_owned)
            .collect()
    }

    /// Compares its names with the ABI baseline, with Debian's list and with the manual pages.
    /// `abi.rs` compares the headers with the baseline.
    pub fn check_names(&self) {
        let baseline = self.baseline();
        for level in LEVELS {
            assert_eq!(self.soname(), baseline.soname(level));
        }
        let exported = self.exported();
        let differing = |names: &BTreeSet<String>| -> Vec<String> {
            names.symmetric_difference(&exported).cloned().collect()
        };
        let mut promised = baseline.all_names();
        // Traffic Server looks for this name. No header of ours declares it for programs to call.
        promised.insert("TSPluginInit".to_owned());
        assert_eq!(
            differing(&promised),
            [""; 0],
            "only in one: baseline, library"
        );

        let symbols = root().join(format!("debian/{}.symbols", self.package));
        let symbols = fs::read_to_string(symbols).unwrap();
        let symbols = symbols
            .lines()
            .filter_map(|line| line.strip_prefix(' ')?.split_once('@'))
            .map(|(name, _)| name.to_owned())
            .collect();
        assert_eq!(
            differing(&symbols),
            [""; 0],
            "only in one: debian/, library"
        );

        // There are no pages for C++ names, nor for TSPluginInit, which only the server calls.
        for name in exported.iter().filter(|name| name.starts_with("TSSsl")) {
            assert!(root().join(format!("man/{name}.3")).exists(), "{name}");
        }
    }

    /// Compares the headers and manual pages that its build script generated with the committed ones.
    /// With `UPDATE_HEADERS` set (`make header`) it updates these instead.
    pub fn check_generated(&self, generated: &Path) {
        let files = |dir: &Path| -> BTreeMap<String, Vec<u8>> {
            let paths = fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let named = paths.map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                (name.to_owned(), fs::read(&path).unwrap())
            });
            // The manual pages of programs are written by hand.
            named
                .filter(|(name, _)| self.owns(name) && !name.ends_with(".1"))
                .collect()
        };
        for dir in ["include/ts", "man"] {
            let generated = files(&generated.join(dir));
            assert!(!generated.is_empty());
            let committed = root().join(dir);
            if env::var_os("UPDATE_HEADERS").is_some() {
                for name in files(&committed).keys() {
                    fs::remove_file(committed.join(name)).unwrap();
                }
                for (name, text) in &generated {
                    fs::write(committed.join(name), text).unwrap();
                }
            }
            assert!(
                generated == files(&committed),
                "{dir} is stale: run `make header` and commit"
            );
        }
        let version = env!("CARGO_PKG_VERSION");
        let version = format!("\n#define TSSESSION_VERSION \"{version}\"\n");
        for (name, text) in files(&generated.join("include/ts")) {
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text.matches(&version).count(), 1, "{name}: {version}");
        }
    }
}
