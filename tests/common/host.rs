//! The example host as a process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{compile_example, library_dir, run, scratch};

pub struct Host {
    process: Child,
    pub port: String,
}

impl Host {
    pub fn start(environment: &[(&str, &str)]) -> Self {
        // Tests run side by side.
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let dir = scratch().join(STARTED.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let (host, plugin) = (dir.join("host"), dir.join("plugin.so"));
        let libraries = ["-lssl", "-lcrypto", "-ldl"];
        run(compile_example("host.c")
            .arg("-o")
            .arg(&host)
            .args(libraries));
        run(compile_example("plugin.c")
            .args(["-shared", "-o"])
            .arg(&plugin)
            .arg("-L")
            .arg(library_dir())
            .arg("-ltssession")
            .args(libraries));

        let mut process = Command::new(host)
            .arg(plugin)
            .envs(environment.iter().copied())
            .env("LD_LIBRARY_PATH", library_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("port ").unwrap().to_owned();
        Self { process, port }
    }

    /// Has the client of OpenSSL make a session and keep it in a file.
    pub fn make_session(&self, file: &Path) {
        run(Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{}", self.port)])
            .args(["-tls1_2", "-no_ticket", "-ign_eof", "-sess_out"])
            .arg(file)
            .stdin(Stdio::null()));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
