//! The stand-in for Traffic Server, `tests/ats/server.c`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::{WARNINGS, root, run, scratch, scratch_dir};

/// A version of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ats {
    /// Its headers are those of Debian (trafficserver-dev).
    V9,
    V10,
    V11,
}

impl Ats {
    fn is_cxx(self) -> bool {
        self != Self::V9
    }

    /// Returns the compiler with the headers of this version.
    pub fn compiler(self) -> Command {
        // Without `$CFLAGS`: the real server has no sanitizer either.
        let mut command = Command::new(if self.is_cxx() { "c++" } else { "cc" });
        command.args(["-O1", "-g"]).args(WARNINGS);
        match self {
            // Its headers are not ISO C.
            Self::V9 => command.args(["-std=gnu11", "-Wno-pedantic"]),
            Self::V10 | Self::V11 => command
                .args(["-std=c++20", "-x", "c++", "-I"])
                .arg(root().join("tests/ats/cxx")),
        };
        command
    }

    /// Builds the server as an object file.
    pub fn object(self) -> PathBuf {
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock().unwrap();
        let object = scratch().join(format!("{self:?}-{}.o", std::process::id()));
        if !object.exists() {
            let mut command = self.compiler();
            if self.is_cxx() {
                command.arg(format!("-DATS={}", &format!("{self:?}")[1..]));
            }
            run(command
                .args(["-fPIC", "-DMAIN", "-c", "-o"])
                .arg(&object)
                .arg(root().join("tests/ats/server.c")));
        }
        object
    }

    /// Builds the server as a library to preload.
    pub fn library(self) -> PathBuf {
        let library = scratch().join(format!("{self:?}-{}/libats.so", std::process::id()));
        if !library.exists() {
            fs::create_dir_all(library.parent().unwrap()).unwrap();
            let made = library.with_extension(format!("{:?}", std::thread::current().id()));
            run(Command::new("c++")
                .args(["-shared", "-Wl,-soname,libats.so", "-o"])
                .arg(&made)
                .arg(self.object())
                .arg("-lpthread"));
            fs::rename(made, &library).unwrap();
        }
        library
    }

    /// Makes a command run in the server. `others` are preloaded too.
    pub fn command(self, mut command: Command, others: &[&Path]) -> Command {
        let mut libraries = self.library().into_os_string();
        for other in others {
            libraries.push(":");
            libraries.push(other);
        }
        command.env("LD_PRELOAD", libraries);
        command
    }

    /// Builds the server as a program, without the functions with these names.
    pub fn program(self, lacking: &[&str]) -> PathBuf {
        let program = scratch_dir().join("server");
        let script = program.with_extension("map");
        let local = lacking.iter().map(|name| match self {
            Self::V9 => format!("{name};"),
            _ => format!("_Z{}{name}*;", name.len()),
        });
        let local = local.collect::<String>();
        let text = if lacking.is_empty() {
            "{ global: *; };".to_owned()
        } else {
            format!("{{ global: *; local: {local} }};")
        };
        fs::write(&script, text).unwrap();
        run(Command::new("c++")
            .args(["-rdynamic", "-o"])
            .arg(&program)
            .arg(self.object())
            .arg(format!("-Wl,--version-script={}", script.display()))
            .args(["-ldl", "-lpthread"]));
        program
    }
}

/// Defines a test for each version, which calls `check`.
#[macro_export]
macro_rules! in_each_ats {
    ($name:ident, $check:path) => {
        mod $name {
            use tssession_test_support::Ats;

            #[test]
            #[cfg_attr(not(has_ats), ignore = "needs the headers of trafficserver-dev")]
            fn v9() {
                $check(Ats::V9);
            }

            #[test]
            fn v10() {
                $check(Ats::V10);
            }

            #[test]
            fn v11() {
                $check(Ats::V11);
            }
        }
    };
}
