//! Tests the program with real servers, made with OpenSSL, on addresses of this machine.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use std::{fs, mem};

use openssl::ssl::{
    NameType, ShutdownState, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions,
    SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use serde_json::Value;
use tssession_test_support::{certificate, root, scratch_dir};

/// The exit status and the output of the program.
struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
}

fn doctor(arguments: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_tssession-doctor"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        status: output.status.code().expect("it ended by itself"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

impl Outcome {
    fn is(&self, status: i32) -> &Self {
        let Self { stdout, stderr, .. } = self;
        assert_eq!(self.status, status, "{stdout}\n{stderr}");
        assert_eq!(status > 1, stdout.is_empty(), "{stdout}");
        self
    }

    /// Checks that a line has all these words.
    fn shows(&self, words: &[&str]) -> &Self {
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        let mut lines = self.stdout.lines().chain(self.stderr.lines());
        assert!(
            lines.any(has_all),
            "{words:?}\n{}\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Returns the context of a server, with a certificate.
fn context(set: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
    let (certificate, key) = certificate();
    let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
    context.set_certificate(&certificate).unwrap();
    context.set_private_key(&key).unwrap();
    context.set_session_id_context(b"doctor").unwrap();
    // OpenSSL 4 removes the session of a client that hangs up as soon as it reads.
    context.set_options(SslOptions::IGNORE_UNEXPECTED_EOF);
    set(&mut context);
    context.build()
}

/// Whether a server keeps the session of a client that hangs up.
#[derive(Clone, Copy)]
enum HangUp {
    Keeps,
    Forgets,
}

/// Serves each connection with the next context, until the test program ends.
fn serve_by_turns(at: &str, contexts: Vec<SslContext>, hang_up: HangUp) -> SocketAddr {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (tcp, context) in listener.incoming().zip(contexts.iter().cycle()) {
            serve_one(tcp.unwrap(), context, hang_up);
        }
    });
    address
}

fn serve_one(tcp: TcpStream, context: &SslContext, hang_up: HangUp) {
    let Ok(mut stream) = Ssl::new(context).unwrap().accept(tcp) else {
        return;
    };
    while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
    let is_clean = stream.get_shutdown().contains(ShutdownState::RECEIVED);
    // OpenSSL removes the session of a connection that it did not shut down.
    if is_clean || matches!(hang_up, HangUp::Keeps) {
        let _ = stream.shutdown();
    }
}

/// Serves with one context, and keeps the sessions of clients that hang up.
fn serve(at: &str, context: SslContext) -> SocketAddr {
    serve_by_turns(at, vec![context], HangUp::Keeps)
}

fn rows(json: &Value) -> &Vec<Value> {
    json["rows"].as_array().unwrap()
}

#[test]
fn all_resumes_at_two_addresses_that_share() {
    let shared = context(|_| {});
    let a = serve("127.0.0.1:0", shared.clone());
    // By default, the other addresses have the port of the first one.
    serve(&format!("127.0.0.2:{}", a.port()), shared);
    let arguments = [&a.to_string(), "--also", "127.0.0.2"];
    let table = doctor(&arguments);
    table
        .is(0)
        .shows(&["after a hang-up", "A -> A", " resumed"])
        .shows(&["at another address", "B -> A", " resumed"])
        .shows(&["TLS 1.2", "A: lifetime 7200 s; key "])
        .shows(&["TLS 1.3", "the key names are the same at all addresses"])
        .shows(&["All that the server offers resumes."]);
    assert_eq!(table.stderr, "");

    let json = doctor(&[&arguments[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&json.is(0).stdout).unwrap();
    assert_eq!(json["all_resume"], true);
    // Three kinds, each at two addresses, after a hang-up at two addresses, and in both directions.
    assert_eq!(rows(&json).len(), 18);
    for row in rows(&json) {
        assert_eq!(row["verdict"], "resumes", "{row}");
        assert_eq!(
            (&row["sessions"], &row["resumed"]),
            (&5.into(), &5.into()),
            "{row}"
        );
        assert!(
            row["full_us"].as_u64() > Some(0) && row["resumed_us"].as_u64() > Some(0),
            "{row}"
        );
    }
    assert_eq!(
        json["key_names_agree"],
        serde_json::json!({"tls12_ticket": true, "tls13": true})
    );
    let name = json["tickets"][0]["key_names"][0].as_str().unwrap();
    assert_eq!(name.len(), 32);
    assert_eq!(
        json["addresses"][1]["address"],
        format!("127.0.0.2:{}", a.port())
    );
    let lines = |word: &str| {
        table
            .stdout
            .lines()
            .filter(|line| line.ends_with(word))
            .count()
    };
    assert_eq!(
        lines(" resumed"),
        18 + 1,
        "the rows, and the head of a column"
    );
}

#[test]
fn two_addresses_that_share_nothing() {
    let a = serve("127.0.0.1:0", context(|_| {})).to_string();
    let b = serve("127.0.0.2:0", context(|_| {})).to_string();
    let table = doctor(&[&a, "--also", &b]);
    let full = "NOT RESUMED: full handshake: the server does not know the session, or refuses it";
    table
        .is(1)
        .shows(&["the same client", "B -> B", " resumed"])
        .shows(&["at another address", "A -> B", full])
        .shows(&["TLS 1.2", "the key names are NOT the same"])
        .shows(&["6 of 18 cases do not resume."]);
    assert_eq!(table.stdout.matches(full).count(), 6);

    let json = doctor(&[&a, "--also", &b, "--json"]);
    let json: Value = serde_json::from_str(&json.is(1).stdout).unwrap();
    assert_eq!(json["all_resume"], false);
    for row in rows(&json) {
        let verdict = if row["from"] == row["to"] {
            "resumes"
        } else {
            "fails"
        };
        assert_eq!(row["verdict"], verdict, "{row}");
        assert_eq!(row["reason"].is_null(), row["from"] == row["to"], "{row}");
    }
    assert_eq!(
        json["key_names_agree"],
        serde_json::json!({"tls12_ticket": false, "tls13": false})
    );
}

#[test]
fn what_is_not_offered_does_not_count() {
    let ids = context(|set| {
        set.set_options(SslOptions::NO_TICKET);
    });
    doctor(&[&serve("127.0.0.1:0", ids).to_string()])
        .is(0)
        .shows(&["the same client", "not offered: the server gave no ticket"])
        .shows(&[
            "TLS 1.3",
            "no key: they are IDs of sessions that the server keeps",
        ]);

    let tls12 = context(|set| {
        set.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
        set.set_session_cache_mode(SslSessionCacheMode::OFF);
    });
    doctor(&[&serve("127.0.0.1:0", tls12).to_string()])
        .is(0)
        .shows(&["not offered: the server gave no session ID"])
        .shows(&["not offered: TLS 1.3 is not offered by the server"]);
    let tls13 = context(|set| {
        set.set_min_proto_version(Some(SslVersion::TLS1_3)).unwrap();
    });
    doctor(&[&serve("127.0.0.1:0", tls13).to_string()])
        .is(0)
        .shows(&["not offered: TLS 1.2 is not offered by the server"]);

    let nothing = context(|set| {
        set.set_options(SslOptions::NO_TICKET);
        set.set_session_cache_mode(SslSessionCacheMode::OFF);
        set.set_num_tickets(0).unwrap();
    });
    doctor(&[&serve("127.0.0.1:0", nothing).to_string()])
        .is(1)
        .shows(&["Nothing resumes."]);
}

#[test]
fn an_address_that_stands_for_several_machines() {
    let [a, b] = [(); 2].map(|()| context(|_| {}));
    let by_turns = serve_by_turns("127.0.0.1:0", vec![a.clone(), a, b], HangUp::Keeps);
    doctor(&[&by_turns.to_string()])
        .is(1)
        .shows(&["the same client", "RESUMED 2 of 5 times: full handshake"]);
}

/// Machines may need a moment to exchange sessions. This one knows them at every other connection.
#[test]
fn a_session_is_offered_again_at_another_address() {
    let [a, b] = [(); 2].map(|()| context(|_| {}));
    let first = serve("127.0.0.1:0", a.clone()).to_string();
    let second = serve_by_turns("127.0.0.2:0", vec![b, a], HangUp::Keeps).to_string();
    let late = "resumed, after up to ";
    doctor(&[&first, "--also", &second])
        .is(1)
        .shows(&["A -> B", late]);
}

#[test]
fn a_server_that_forgets_who_hangs_up() {
    let forgetting = context(|set| {
        set.clear_options(SslOptions::IGNORE_UNEXPECTED_EOF);
    });
    let address = serve_by_turns("127.0.0.1:0", vec![forgetting], HangUp::Forgets);
    let json = doctor(&[&address.to_string(), "--json"]);
    let json: Value = serde_json::from_str(&json.is(1).stdout).unwrap();
    for row in rows(&json) {
        let fails = row["kind"] == "tls12_id" && row["case"] == "hang_up";
        assert_eq!(
            row["verdict"],
            if fails { "fails" } else { "resumes" },
            "{row}"
        );
    }
}

#[test]
fn the_server_name() {
    let names = Arc::new(Mutex::new(BTreeSet::new()));
    let heard = Arc::clone(&names);
    let listening = context(|set| {
        set.set_servername_callback(move |ssl, _| {
            let name = ssl.servername(NameType::HOST_NAME).map(str::to_owned);
            heard.lock().unwrap().insert(name);
            Ok(())
        });
    });
    let port = serve("127.0.0.1:0", listening).port();
    // The name may also mean ::1, where no server listens.
    let (name, address) = (format!("localhost:{port}"), format!("127.0.0.1:{port}"));
    for (arguments, expected) in [
        (&[&*name][..], Some("localhost")),
        (&[&address], None),
        (&[&address, "--sni", "a.example"], Some("a.example")),
        (&[&name, "--sni", ""], None),
    ] {
        doctor(arguments).is(0).shows(&["A  ", &address]);
        let all = mem::take(&mut *names.lock().unwrap());
        assert_eq!(all, BTreeSet::from([expected.map(str::to_owned)]));
    }
}

/// Writes a certificate and its key. Returns the names of the files.
fn files() -> (String, String) {
    let folder = scratch_dir();
    let (certificate, key) = certificate();
    let write = |name: &str, text: Vec<u8>| {
        let path: PathBuf = folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    (
        write("client.pem", certificate.to_pem().unwrap()),
        write("client.key", key.private_key_to_pem_pkcs8().unwrap()),
    )
}

#[test]
fn a_server_that_requires_a_client_certificate() {
    let (certificate, key) = files();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let demanding = context(|set| {
            set.set_min_proto_version(Some(version)).unwrap();
            set.set_max_proto_version(Some(version)).unwrap();
            let demand = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
            set.set_verify_callback(demand, |_, _| true);
        });
        let address = serve("127.0.0.1:0", demanding).to_string();
        let required = "the server requires a client certificate: use --client-cert";
        doctor(&[&address]).is(3).shows(&[required]);
        doctor(&[
            &address,
            "--client-cert",
            &certificate,
            "--client-key",
            &key,
        ])
        .is(0)
        .shows(&["the same client", "not offered: ", required])
        .shows(&["with the client certificate", " resumed"])
        .shows(&["after a hang-up, certificate", " resumed"]);
    }
}

#[test]
fn servers_that_do_not_speak_tls() {
    // Connections wait here, and are never accepted.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    doctor(&[&address, "--timeout", "0.3"])
        .is(3)
        .shows(&[&address, "it took longer than 0.3 s"]);

    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for tcp in plain.incoming() {
            let _ = tcp.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    doctor(&[&address])
        .is(3)
        .shows(&[&address, "the handshake failed: "]);

    // Sends a record so slowly, byte by byte, that it would take hours.
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = slow.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for tcp in slow.incoming() {
            thread::spawn(|| {
                let mut tcp = tcp.unwrap();
                let record = [22, 3, 3, 64, 0]
                    .into_iter()
                    .chain([2, 0, 63, 0].into_iter().chain([0; 16380]));
                for byte in record {
                    if tcp.write_all(&[byte]).is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            });
        }
    });
    doctor(&[&address, "--timeout", "0.3"])
        .is(3)
        .shows(&["it took longer than 0.3 s"]);

    let closing = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closing.local_addr().unwrap().to_string();
    thread::spawn(move || closing.incoming().for_each(drop));
    doctor(&[&address])
        .is(3)
        .shows(&[&address, "the handshake failed: "]);

    // The socket is closed: no server listens at this address.
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    doctor(&[&nobody.to_string()])
        .is(3)
        .shows(&["cannot connect to 127.0.0.1"]);
}

#[test]
fn wrong_usage() {
    let (certificate, key) = files();
    let (_, other_key) = files();
    for (arguments, why) in [
        (&[][..], "HOST is missing"),
        (&["127.0.0.1:x"], "\"127.0.0.1:x\" is not HOST[:PORT]"),
        (&["a", "b"], "unexpected argument"),
        (&["a", "--what"], "invalid option"),
        (&["a", "--timeout", "0"], "the timeout must be"),
        (&["a", "--timeout", "-1"], "the timeout must be"),
        (&["a", "--timeout", "NaN"], "the timeout must be"),
        (
            &["a", "--client-cert", &certificate],
            "must be given together",
        ),
        (
            &["a", "--client-cert", "/nowhere", "--client-key", &key],
            "/nowhere: No such file",
        ),
        (
            &["a", "--client-cert", &key, "--client-key", &key],
            "no certificate in PEM",
        ),
        (
            &[
                "a",
                "--client-cert",
                &certificate,
                "--client-key",
                &certificate,
            ],
            "no private key in PEM",
        ),
        (
            &[
                "a",
                "--client-cert",
                &certificate,
                "--client-key",
                &other_key,
            ],
            "not the key of",
        ),
    ] {
        doctor(arguments).is(2).shows(&[why]);
    }
}

/// The manual page has each option of --help, each name and value in JSON, and the version.
#[test]
fn the_manual_page_has_everything() {
    let page = fs::read_to_string(root().join("man/tssession-doctor.1")).unwrap();
    let page = page.replace("\\-", "-");
    let help = doctor(&["--help"]).stdout;
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !(c.is_alphanumeric() || "-_.".contains(c)))
            .map(|word| word.trim_matches('.').to_owned())
            .collect()
    };
    let in_page = words(&page);
    let options: Vec<String> = words(&help)
        .into_iter()
        .filter(|word| word.starts_with("--"))
        .collect();
    assert_eq!(options.len(), 9, "{options:?}");

    let address = serve("127.0.0.1:0", context(|_| {})).to_string();
    let json = doctor(&[&address, "--json"]).stdout;
    let of_json = words(&json)
        .into_iter()
        .filter(|word| word.contains(char::is_alphabetic));
    let of_json = of_json.filter(|word| !word.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    for word in options.into_iter().chain(of_json).chain([version]) {
        assert!(in_page.contains(&word), "{word}");
    }
}

#[test]
fn help_and_version() {
    doctor(&["--help"]).is(0).shows(&["NOT verified"]);
    let version = format!("tssession-doctor {}", env!("CARGO_PKG_VERSION"));
    doctor(&["--version"]).is(0).shows(&[&version]);
}
