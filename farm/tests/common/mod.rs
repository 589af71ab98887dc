//! The libraries under test, and the C compilers.

#![allow(dead_code)] // Each test file uses a part.

#[path = "../../../tests/common/abi.rs"]
pub mod abi;
#[path = "../../../tests/common/tools.rs"]
mod tools;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

pub use tools::*;

/// Where the library's headers and the C code that its own tests use are.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A source in `farm/tests/c`.
pub fn source(name: &str) -> PathBuf {
    root().join("farm/tests/c").join(name)
}

/// The farm's library.
pub fn library() -> PathBuf {
    built("libtssession_farm.so")
}

/// A folder in which the libraries have the names that the linker and the loader look for.
pub fn library_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| folder_of(&[built("libtssession.so"), library()]))
}

/// The committed description of the ABI.
pub fn baseline() -> abi::Baseline {
    abi::Baseline(root().join("farm/tests/abi"))
}

/// The C or C++ compiler.
pub fn compiler(cpp: bool) -> Command {
    let mut command = Command::new(if cpp { "c++" } else { "cc" });
    command.arg("-g");
    command
}

/// A redis-server on a free port of 127.0.0.1, which ends with it.
pub struct Redis {
    process: Child,
    /// Where it listens.
    pub port: u16,
}

impl Redis {
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .port();
        let mut process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &port.to_string()])
            .arg("--dir")
            .arg(scratch())
            .stdout(Stdio::null())
            .spawn()
            .expect("tools/deps.sh test installs it");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "redis-server ended");
            thread::sleep(Duration::from_millis(10));
        }
        Self { process, port }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
