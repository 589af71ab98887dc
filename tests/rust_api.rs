//! The library in a Rust program: real handshakes with the openssl crate.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use openssl::ssl::{
    SslConnector, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSession,
    SslSessionCacheMode, SslVerifyMode, SslVersion,
};

use tssession as sessions;
use tssession::{Hook, SessionEvent, SessionId};
use tssession_test_support::{certificate, scratch};

fn server() -> SslContextBuilder {
    let (certificate, key) = certificate();
    let mut builder = SslContext::builder(SslMethod::tls_server()).unwrap();
    builder.set_certificate(&certificate).unwrap();
    builder.set_private_key(&key).unwrap();
    builder.set_session_id_context(b"rust").unwrap();
    builder
}

/// Makes a visit of a client. Returns whether it resumed, and its session.
fn visit(
    server: &SslContext,
    version: SslVersion,
    options: SslOptions,
    resume: Option<&SslSession>,
) -> (bool, SslSession) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let ssl = openssl::ssl::Ssl::new(server).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut stream = ssl.accept(ours).unwrap();
            stream.write_all(b"x").unwrap();
            let _ = stream.read(&mut [0; 1]);
            let _ = stream.shutdown();
        });
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_verify(SslVerifyMode::NONE);
        connector.set_min_proto_version(Some(version)).unwrap();
        connector.set_max_proto_version(Some(version)).unwrap();
        connector.set_options(options);
        let got = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&got);
        // A context that caches sessions itself ends them when it is freed.
        connector
            .set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        connector.set_new_session_callback(move |_, session| *keep.lock().unwrap() = Some(session));
        let connector = connector.build();
        let mut config = connector.configure().unwrap().verify_hostname(false);
        if let Some(session) = resume {
            // SAFETY: the session was made by a context of the same kind.
            unsafe { config.set_session(session) }.unwrap();
        }
        let mut stream = config.connect("localhost", theirs).unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        let resumed = stream.ssl().session_reused();
        let _ = stream.shutdown();
        let session = got.lock().unwrap().take();
        let session = session
            .or_else(|| resume.cloned())
            .or_else(|| stream.ssl().session().map(ToOwned::to_owned));
        (resumed, session.unwrap())
    })
}

const STORED: &str = "proxy.process.ssl.ssl_session_cache_new_session";

/// A single test, because the whole process shares the cache.
#[test]
fn a_host_in_rust() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let hook = Hook::add(move |event, id| seen.lock().unwrap().push((event, *id))).unwrap();
    let mut builder = server();
    sessions::attach(&mut builder).unwrap();
    let context = builder.build();

    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let (resumed, by_ticket) = visit(&context, version, SslOptions::empty(), None);
        assert!(!resumed);
        assert!(visit(&context, version, SslOptions::empty(), Some(&by_ticket)).0);
    }
    assert_eq!(sessions::stat(STORED), Some(0));

    let by_id = |resume| visit(&context, SslVersion::TLS1_2, SslOptions::NO_TICKET, resume);
    let (resumed, session) = by_id(None);
    assert!(!resumed);
    assert!(by_id(Some(&session)).0);
    let id = SessionId::new(session.id()).unwrap();
    assert_eq!(
        *events.lock().unwrap(),
        [(SessionEvent::New, id), (SessionEvent::Get, id)]
    );
    drop(hook);

    // Get and insert, as an object and as bytes.
    let stored = sessions::get(&id).unwrap();
    let der = sessions::get_der(&id).unwrap();
    assert_eq!(stored.to_der().unwrap(), *der);
    assert!(sessions::remove(&id) && !sessions::remove(&id));
    assert!(sessions::get(&id).is_none() && sessions::get_der(&id).is_none());
    assert!(!by_id(Some(&session)).0);
    sessions::insert(&id, &stored).unwrap();
    assert!(by_id(Some(&session)).0);
    sessions::clear();
    assert!(!by_id(Some(&session)).0);
    sessions::insert_der(&id, &der).unwrap();
    assert!(by_id(Some(&session)).0);
    assert_eq!(events.lock().unwrap().len(), 2, "the hook is gone");

    let error = sessions::insert_der(&id, &der[1..]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the bytes are not exactly one whole session"
    );

    check_settings_and_keys(&context);
    // The hits of three handshakes, get and get_der.
    let text = sessions::stats_text().unwrap();
    assert!(text.contains("\nproxy_process_ssl_ssl_session_cache_hit 3\n"));
    assert!(text.contains("\ntssession_session_cache_get{result=\"found\"} 2\n"));
}

fn check_settings_and_keys(context: &SslContext) {
    assert_eq!(
        sessions::set("proxy.config.ssl.session_cache.size", "1000"),
        Ok(None)
    );
    assert!(sessions::set("proxy.config.ssl.session_cache.size", "x").is_err());
    let by_ticket = |resume| visit(context, SslVersion::TLS1_2, SslOptions::empty(), resume);
    let (_, ticket) = by_ticket(None);
    sessions::update_ticket_keys(&[7; 48]).unwrap();
    assert!(!by_ticket(Some(&ticket)).0);
    assert!(sessions::update_ticket_keys(&[7; 47]).is_err());
    assert!(sessions::load_ticket_keys(None).is_err());
    let records = scratch().join("records.yaml");
    std::fs::write(
        &records,
        "records: {ssl: {session_cache: {size: 5, timeout: 100}}}",
    )
    .unwrap();
    let overruled = sessions::load_records(&records).unwrap().not_in_force;
    assert_eq!(
        overruled[..],
        [(
            "proxy.config.ssl.session_cache.size",
            sessions::NotInForce::Overruled
        )]
    );
    std::fs::write(&records, "records: {ssl: {session_cache: {size: x}}}").unwrap();
    assert!(sessions::load_records(&records).is_err());
}
