//! A client that is not OpenSSL: GnuTLS, against the example host.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{WARNINGS, compiler, library_dir, root, run, scratch};

struct Host {
    process: Child,
    port: String,
}

impl Host {
    fn start(environment: &[(&str, &str)]) -> Self {
        let examples = root().join("examples");
        // Tests run side by side.
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let dir = scratch().join(STARTED.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let (host, plugin) = (dir.join("host"), dir.join("plugin.so"));
        let compile = |name: &str| {
            let mut command = compiler(false);
            command
                .args(WARNINGS)
                .args(["-std=c11", "-D_GNU_SOURCE", "-I"]);
            command.arg(root().join("include")).arg(examples.join(name));
            command
        };
        let libraries = ["-lssl", "-lcrypto", "-ldl"];
        run(compile("host.c").arg("-o").arg(&host).args(libraries));
        run(compile("plugin.c")
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

    /// Whether a client that connects twice resumes the second time.
    fn resumes(&self, priority: &str) -> bool {
        let output = run(Command::new("gnutls-cli")
            .args(["--resume", "--insecure", "--port", &self.port])
            .args([&format!("--priority={priority}"), "localhost"])
            .stdin(Stdio::null()));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Handshake was completed"), "{text}");
        text.contains("This is a resumed session")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const TLS12: &str = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
const TLS13: &str = "NORMAL:-VERS-ALL:+VERS-TLS1.3";

#[test]
fn gnutls_resumes_by_session_id() {
    let host = Host::start(&[]);
    assert!(host.resumes(&format!("{TLS12}:%NO_TICKETS")));
}

#[test]
fn gnutls_resumes_by_ticket() {
    let host = Host::start(&[]);
    assert!(host.resumes(TLS12));
    assert!(host.resumes(TLS13));
}

#[test]
fn gnutls_resumes_in_tls13_without_tickets() {
    let host = Host::start(&[("PROXY_CONFIG_SSL_SERVER_SESSION_TICKET_ENABLE", "0")]);
    assert!(host.resumes(TLS13));
}

/// What these tests see is the library's doing: without it there is nothing.
#[test]
fn gnutls_does_not_resume_with_cache_and_tickets_off() {
    let host = Host::start(&[
        ("PROXY_CONFIG_SSL_SERVER_SESSION_TICKET_ENABLE", "0"),
        ("PROXY_CONFIG_SSL_SESSION_CACHE", "0"),
    ]);
    assert!(!host.resumes(TLS12));
}
