//! The example of a host with several processes: a client resumes at each of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tssession_test_support::{
    Redis, certificate, compile_source, library_dir, run, scratch, stdout,
};

/// Ends its workers too.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// The worker that has answered, and whether it has resumed the session in the file.
fn visit(port: &str, version: &str, option: &str, session: &Path) -> (String, bool) {
    let said = stdout(
        Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
            .args([version, "-no_ticket", "-ign_eof", option])
            .arg(session)
            .stdin(Stdio::null()),
    );
    let worker = said.lines().find(|line| line.starts_with("worker "));
    let worker = worker.unwrap_or_else(|| panic!("no answer: {said}"));
    (worker.to_owned(), said.contains("\nReused, "))
}

#[test]
fn prefork() {
    let redis = Redis::start();
    let dir = scratch();
    let file = dir.join("farm.toml");
    fs::write(&file, redis.settings() + "[ticket_keys]\n").unwrap();
    let (certificate, key) = certificate();
    let (certificate_file, key_file) = (dir.join("certificate.pem"), dir.join("key.pem"));
    fs::write(&certificate_file, certificate.to_pem().unwrap()).unwrap();
    fs::write(&key_file, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let program = dir.join("prefork");
    run(compile_source("examples/prefork.c")
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(library_dir())
        .args(["-ltssession", "-ltssession_farm", "-lssl", "-lcrypto"]));
    let mut server = Command::new(&program)
        .arg("2")
        .args([&certificate_file, &key_file, &file])
        .env("LD_LIBRARY_PATH", library_dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let _server = Server(server);
    let port = line.trim().strip_prefix("port ").unwrap();

    // In TLS 1.3 it is a ticket that stands for a session.
    for version in ["-tls1_2", "-tls1_3"] {
        let session = dir.join("session.pem");
        // Not at once: the session needs some milliseconds to the other process. And at the very first
        // start of a farm, a process may have made a ticket before the farm's key has reached it.
        let is_resumed = (0..100).any(|_| {
            let (maker, resumed) = visit(port, version, "-sess_out", &session);
            assert!(!resumed);
            (0..20).any(|_| {
                let (worker, resumed) = visit(port, version, "-sess_in", &session);
                worker != maker && resumed
            })
        });
        assert!(is_resumed, "{version}");
    }
}
