//! The example host as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::{compile_source, library_dir, run, scratch_dir};

/// `examples/host.c` with its plugin, killed when this is dropped.
pub struct Host {
    process: Child,
    pub port: String,
}

impl Host {
    pub fn start(environment: &[(&str, &str)]) -> Self {
        let dir = scratch_dir();
        let (host, plugin) = (dir.join("host"), dir.join("plugin.so"));
        let libraries = ["-lssl", "-lcrypto", "-ldl"];
        run(compile_source("examples/host.c")
            .arg("-o")
            .arg(&host)
            .args(libraries));
        run(compile_source("examples/plugin.c")
            .args(["-shared", "-fPIC", "-o"])
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
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
