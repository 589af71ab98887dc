//! A client that does not use OpenSSL (GnuTLS) connects to the example host.

use std::process::{Command, Stdio};

use tssession_test_support::{Host, stdout};

/// Returns whether a client that connects twice resumes the second time.
fn resumes(host: &Host, priority: &str) -> bool {
    let text = stdout(
        Command::new("gnutls-cli")
            .args(["--resume", "--insecure", "--port", &host.port])
            .args([&format!("--priority={priority}"), "localhost"])
            .stdin(Stdio::null()),
    );
    assert!(text.contains("Handshake was completed"), "{text}");
    text.contains("This is a resumed session")
}

const TLS12: &str = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
const TLS13: &str = "NORMAL:-VERS-ALL:+VERS-TLS1.3";

#[test]
fn gnutls_resumes_by_session_id() {
    let host = Host::start(&[]);
    assert!(resumes(&host, &format!("{TLS12}:%NO_TICKETS")));
}

#[test]
fn gnutls_resumes_by_ticket() {
    let host = Host::start(&[]);
    assert!(resumes(&host, TLS12));
    assert!(resumes(&host, TLS13));
}

#[test]
fn gnutls_resumes_in_tls13_without_tickets() {
    let host = Host::start(&[("PROXY_CONFIG_SSL_SERVER_SESSION_TICKET_ENABLE", "0")]);
    assert!(resumes(&host, TLS13));
}

/// With the library switched off, nothing resumes: the other tests show the library's work.
#[test]
fn gnutls_does_not_resume_with_cache_and_tickets_off() {
    let host = Host::start(&[
        ("PROXY_CONFIG_SSL_SERVER_SESSION_TICKET_ENABLE", "0"),
        ("PROXY_CONFIG_SSL_SESSION_CACHE", "0"),
    ]);
    assert!(!resumes(&host, TLS12));
}
