//! Redis as a process.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::scratch;

/// A redis-server on a free port of 127.0.0.1, killed when this is dropped.
pub struct Redis {
    process: Child,
    pub url: String,
}

impl Redis {
    pub fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap();
        let mut process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &address.port().to_string()])
            .arg("--dir")
            .arg(scratch())
            .stdout(Stdio::null())
            .spawn()
            .expect("tools/deps.sh test installs it");
        while TcpStream::connect(address).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "redis-server ended");
            thread::sleep(Duration::from_millis(10));
        }
        let url = format!("redis://{address}");
        Self { process, url }
    }

    /// Returns settings of the farm `test`, for a file in `scratch()`, and writes its secret there. The
    /// settings end with those of Redis.
    pub fn settings(&self) -> String {
        let secret = scratch().join("secret");
        fs::write(&secret, b"0123456789abcdef0123456789abcdef").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let url = &self.url;
        format!("farm = \"test\"\nsecrets = [\"secret\"]\n[redis]\nurls = [\"{url}\"]\n")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
