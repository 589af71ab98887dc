//! The functions of each kind of host: libtssession, and the Traffic Servers that `tests/ats/server.c`
//! stands in for. Loaded names are found by every later lookup, so each kind needs a separate process:
//! these tests start themselves again.

use std::env;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::{Read, Write};
use std::mem;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::ptr;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

use foreign_types::ForeignType as _;
use openssl::error::ErrorStack;
use openssl::ssl::{
    ShutdownResult, Ssl, SslContext, SslContextBuilder, SslMethod, SslSession, SslStream,
    SslVersion,
};
use tssession_farm::{Counter, Counters, Event, Host, Level, Missing, NotInserted, register};
use tssession_test_support::{
    Ats, TSSESSION, assert_logged, certificate, in_each_ats, library_dir, root, run,
};

/// Runs a test of this file that is otherwise ignored, in a separate process where the loader does not
/// find libtssession by itself. Returns what it logged.
fn alone(test: &str, host: &Path, environment: &[(&str, &str)]) -> String {
    let output = run(Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("HOST", host)
        .env_remove("LD_LIBRARY_PATH")
        .envs(environment.iter().copied()));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("1 passed"), "{stdout}");
    String::from_utf8(output.stderr).unwrap()
}

/// The environment with which the loader finds libtssession.
fn with_libtssession() -> (&'static str, &'static str) {
    ("LD_LIBRARY_PATH", library_dir().to_str().unwrap())
}

/// A library in this process.
struct Library(*mut c_void);

impl Library {
    fn open(path: &Path, flags: c_int) -> Self {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a C string; the libraries of these tests can be loaded safely.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | flags) };
        assert!(!library.is_null(), "{path:?} cannot be loaded");
        Self(library)
    }

    /// Loads the library that makes this process a host of the kind that `alone` chose.
    fn host(flags: c_int) -> Self {
        let path = env::var_os("HOST").expect("started by another test");
        Self::open(path.as_ref(), flags)
    }

    fn symbol(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the name is a C string.
        let at = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!at.is_null(), "{name:?}");
        at
    }

    /// # Safety
    /// `F` is the type of the function with this name.
    unsafe fn function<F>(&self, name: &CStr) -> F {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
        // SAFETY: passed on to the caller.
        unsafe { mem::transmute_copy(&self.symbol(name)) }
    }

    /// Returns a counter of libtssession.
    fn stat(&self, name: &CStr) -> i64 {
        type Stat = extern "C" fn(*const c_char, *mut i64) -> c_int;
        // SAFETY: the library declares the function with this type.
        let stat: Stat = unsafe { self.function(c"TSSslSessionCacheStatGet") };
        let mut value = -1;
        assert_eq!(stat(name.as_ptr(), &mut value), 0);
        value
    }

    /// Returns the calls of the server's functions since the last time.
    fn called(&self) -> String {
        let log = self.symbol(c"ats_log").cast::<c_char>();
        // SAFETY: a C string that no other thread uses at this time.
        unsafe {
            let text = CStr::from_ptr(log).to_str().unwrap().to_owned();
            *log = 0;
            text
        }
    }
}

static HEARD: Mutex<Vec<(Event, Vec<u8>)>> = Mutex::new(Vec::new());

fn hear(event: Event, id: &[u8]) {
    HEARD.lock().unwrap().push((event, id.to_vec()));
}

fn heard() -> Vec<(Event, Vec<u8>)> {
    mem::take(&mut *HEARD.lock().unwrap())
}

fn check_in_ats(server: Ats) {
    let version = format!("{server:?}");
    let environment = [("VERSION", version.as_str()), ("OWN_CACHE", "2")];
    alone("in_ats", &server.library(), &environment);
}

#[test]
#[cfg_attr(not(has_ats), ignore = "needs the headers of trafficserver-dev")]
fn ats_9() {
    check_in_ats(Ats::V9);
}

#[test]
fn ats_10() {
    check_in_ats(Ats::V10);
}

/// The beginning of the log line about a thread of [`check_spawn`] that panicked.
const GONE: &str = "the thread fails has ended with a panic at farm/tests/host.rs:";

#[test]
#[ignore = "run by ats_9 and ats_10"]
fn in_ats() {
    let server = Library::host(libc::RTLD_GLOBAL);
    // libtssession is loaded too, but its functions are not those of the host.
    Library::open(&TSSESSION.path, libc::RTLD_GLOBAL);
    let is_10 = env::var("VERSION").unwrap() == "V10";

    let host = Host::find().unwrap();
    assert_eq!(server.called(), "");
    register().unwrap();
    let registered = "TSPluginRegister(tssession_farm, tssession, -)\n";
    assert_eq!(server.called(), registered);
    assert_eq!(host.resolve("a/b".as_ref()), Path::new("/ats/config/a/b"));
    assert_eq!(host.resolve("/a/b".as_ref()), Path::new("/a/b"));

    check_events(&host, &server, is_10);
    check_sessions_and_keys(&host, &server);

    host.log(Level::Error, "100%s\nof\0it");
    host.log(Level::Warning, "less");
    assert_eq!(
        server.called(),
        "TSError(tssession_farm: 100%s of it)\nTSWarning(tssession_farm: less)\n"
    );

    check_spawn(&host);
    let called = server.called();
    let line = called.strip_prefix("TSThreadCreate\nTSThreadCreate\nTSError(tssession_farm: ");
    let line = line.and_then(|line| line.strip_prefix(GONE)).unwrap();
    assert!(
        line.ends_with(": expected in this test; restart the host)\n"),
        "{line}"
    );

    check_counters(&host, &server);
}

/// The server's events for sessions reach the farm, and no others.
fn check_events(host: &Host, server: &Library, is_10: bool) {
    // SAFETY: server.h declares them with these types.
    let (ready, event) = unsafe {
        (
            server.function::<extern "C" fn()>(c"ats_open_ports"),
            server.function::<extern "C" fn(c_int, *const c_char, usize)>(c"ats_report_session"),
        )
    };
    assert!(host.call_when_ready(|| hear(Event::New, b"ready")));
    let called = "TSContCreate(no mutex)\nTSLifecycleHookAdd(0)\n";
    assert_eq!(server.called(), called);
    assert_eq!(heard(), []);
    ready();
    assert_eq!(heard(), [(Event::New, b"ready".to_vec())]);

    assert!(host.add_hook(hear));
    let id = if is_10 { 27 } else { 24 };
    assert_eq!(
        server.called(),
        format!("TSContCreate(no mutex)\nTSHttpHookAdd({id})\n")
    );
    assert!(host.add_hook(hear));
    assert_eq!(server.called(), "", "it is there already");
    let long = [b'i'; 33];
    event(2001, c"an ID".as_ptr(), 5);
    event(2002, long.as_ptr().cast(), 32);
    for (event_id, len) in [
        (2000, 5),
        (2003, 5),
        (2001, 0),
        (2001, 33),
        (2001, usize::MAX),
    ] {
        event(event_id, long.as_ptr().cast(), len);
    }
    let expected = [
        (Event::New, b"an ID".to_vec()),
        (Event::Removed, vec![b'i'; 32]),
    ];
    assert_eq!(heard(), expected);
}

fn check_sessions_and_keys(host: &Host, server: &Library) {
    assert_eq!(**host.get_der(b"small").unwrap(), [b'd'; 100]);
    assert_eq!(server.called(), "TSSslSessionGetBuffer(small, 2048)\n");
    assert_eq!(**host.get_der(b"large").unwrap(), [b'd'; 5000]);
    assert_eq!(
        server.called(),
        "TSSslSessionGetBuffer(large, 2048)\nTSSslSessionGetBuffer(large, 5000)\n"
    );
    assert!(host.get_der(b"absent").is_none());
    assert_eq!(server.called(), "TSSslSessionGetBuffer(absent, 2048)\n");

    let der = session_der(0);
    host.insert(b"id", &der).unwrap();
    let called = "TSSslSessionInsert(id, a session, NULL)\n";
    assert_eq!(server.called(), called);
    let refused = host.insert(b"refused", &der);
    assert_eq!(refused, Err(NotInserted::NotASession));
    let called = "TSSslSessionInsert(refused, a session, NULL)\n";
    assert_eq!(server.called(), called);
    assert!(host.remove(b"id"));
    assert!(!host.remove(b"refused"));
    assert_eq!(
        server.called(),
        "TSSslSessionRemove(id)\nTSSslSessionRemove(refused)\n"
    );
    assert!(host.update_ticket_keys(&[b'k'; 48]));
    assert!(!host.update_ticket_keys(b"k"));
    let keys = "k".repeat(48);
    assert_eq!(
        server.called(),
        format!("TSSslTicketKeyUpdate({keys})\nTSSslTicketKeyUpdate(k)\n")
    );
}

/// The server has one statistic for each counter.
fn check_counters(host: &Host, server: &Library) {
    let counters = Counters::default();
    counters.add(Counter::RefusedForged, 7);
    host.show(counters.each());
    let shown = server.called();
    let first = "TSStatCreate(plugin.tssession_farm.published, 1, 2, 0)\n";
    assert!(shown.starts_with(first), "{shown}");
    let place = counters
        .each()
        .position(|(name, _)| name == "plugin.tssession_farm.refused.forged")
        .unwrap();
    assert_logged(&shown, &[&format!("TSStatIntSet({place}, 7)\n")]);
    for function in ["TSStatCreate(", "TSStatIntSet("] {
        assert_eq!(shown.matches(function).count(), counters.each().count());
    }
    counters.count(Counter::RefusedForged);
    host.show(counters.each());
    let shown = server.called();
    assert_logged(&shown, &[&format!("TSStatIntSet({place}, 8)\n")]);
    assert!(!shown.contains("TSStatCreate"), "{shown}");
}

/// A server whose own cache is off, or that has none: libtssession has the sessions, and the tickets
/// are made by either.
fn check_ats_with_libtssession(server: Ats) {
    let record = "proxy.config.ssl.session_cache.value";
    // Version 10 has three records for this.
    let records: &[_] = match server {
        Ats::V9 => &[("", "0"), ("", "1")],
        Ats::V10 => &[("", "0"), ("", "1"), (record, "0")],
        Ats::V11 => &[("", "-1")],
    };
    for (record, own_cache) in records {
        let mut environment = vec![with_libtssession(), ("OWN_CACHE", own_cache)];
        environment.extend((!record.is_empty()).then_some(("OWN_CACHE_RECORD", *record)));
        alone("in_ats_with_libtssession", &server.library(), &environment);
    }
}

in_each_ats!(ats_with_libtssession, crate::check_ats_with_libtssession);

#[test]
#[ignore = "run by ats_with_libtssession"]
fn in_ats_with_libtssession() {
    let server = Library::host(libc::RTLD_GLOBAL);
    // Loaded as the server loads a plugin.
    let library = Library::open(&TSSESSION.path, libc::RTLD_LOCAL);

    let host = Host::find().unwrap();
    assert!(host.add_hook(hear));
    host.insert(b"id", &session_der(0)).unwrap();
    assert_eq!(library.stat(c"tssession.session_cache.entries"), 1);
    assert!(host.get_der(b"id").is_some());
    assert!(host.remove(b"id"));
    assert_eq!(library.stat(c"tssession.session_cache.entries"), 0);
    assert!(host.update_ticket_keys(&[b'k'; 48]));
    assert_eq!(library.stat(c"tssession.ticket_keys.count"), 1);
    let keys = "k".repeat(48);
    let called = server.called();
    let of_sessions: Vec<&str> = called
        .lines()
        .filter(|line| line.starts_with("TSSsl"))
        .collect();
    assert_eq!(of_sessions, [format!("TSSslTicketKeyUpdate({keys})")]);
    // At least one of the two refuses these keys.
    assert!(!host.update_ticket_keys(b"k"));
}

/// A server whose own cache is off, without libtssession: only ticket keys are shared.
#[test]
fn ats_without_any_cache() {
    let server = Ats::V10.library();
    alone("in_ats_without_any_cache", &server, &[("OWN_CACHE", "0")]);
}

#[test]
#[ignore = "run by ats_without_any_cache"]
fn in_ats_without_any_cache() {
    let server = Library::host(libc::RTLD_GLOBAL);
    let host = Host::find().unwrap();
    assert!(host.update_ticket_keys(&[b'k'; 48]));
    let called = server.called();
    assert!(
        called.starts_with(
            "TSWarning(tssession_farm: the server's own session cache is off, and libtssession cannot be loaded: "
        ),
        "{called}"
    );
    assert!(called.contains("\nTSSslTicketKeyUpdate("), "{called}");
}

/// Threads run their function, block signals, and panic without ending the process.
fn check_spawn(host: &Host) {
    let (tell, told) = mpsc::channel();
    let started = host.spawn(
        "farm test",
        Box::new(move || {
            // SAFETY: reads this thread's mask into a set.
            let blocked = unsafe {
                let mut set = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut set);
                [libc::SIGTERM, libc::SIGPIPE, libc::SIGHUP]
                    .map(|signal| libc::sigismember(&set, signal))
            };
            let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
            tell.send((blocked, name)).unwrap();
        }),
    );
    assert!(started);
    assert_eq!(told.recv().unwrap(), ([1, 1, 1], "farm test\n".to_owned()));
    let (tell, told) = mpsc::channel();
    let fails = host.spawn(
        "fails",
        Box::new(move || {
            tell.send(()).unwrap();
            panic!("expected in this test")
        }),
    );
    assert!(fails);
    told.recv().unwrap();
    // The thread logs its panic before it ends.
    while threads().any(|name| name == "fails\n") {
        thread::yield_now();
    }
    // SAFETY: as above.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut set);
        assert_eq!(libc::sigismember(&set, libc::SIGTERM), 0);
    }
}

/// The names of the threads of this process.
fn threads() -> impl Iterator<Item = String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
}

#[test]
fn libtssession() {
    // Loaded by the program, with local or global names, or by the farm.
    for flags in ["local", "global", "absent"] {
        let environment = [with_libtssession(), ("FLAGS", flags)];
        let stderr = alone("in_libtssession", &TSSESSION.path, &environment);
        let lines = [
            "tssession_farm: ERROR: one two\n",
            "tssession_farm: WARNING: three\n",
            &format!("tssession_farm: ERROR: {GONE}"),
            ": expected in this test; restart the host\n",
        ];
        assert_logged(&stderr, &lines);
    }
}

#[test]
#[ignore = "run by libtssession"]
fn in_libtssession() {
    let (host, library);
    match env::var("FLAGS").unwrap().as_str() {
        "local" => {
            library = Library::host(libc::RTLD_LOCAL);
            host = Host::find().unwrap();
        }
        "global" => {
            library = Library::host(libc::RTLD_GLOBAL);
            host = Host::find().unwrap();
        }
        _ => {
            host = Host::find().unwrap();
            library = Library::host(libc::RTLD_LOCAL);
        }
    }
    register().unwrap();
    assert_eq!(host.resolve("a".as_ref()), Path::new("a"));
    assert!(!host.call_when_ready(|| panic!("it is ready")));
    assert!(host.add_hook(hear));
    assert!(host.add_hook(hear), "which does not add it again");

    let der = check_handshakes(&host, &library);
    check_what_is_refused(&host, &der);

    // Larger than the buffer that is tried first.
    let large = session_der(6000);
    assert!(large.len() > 6000);
    host.insert(b"large", &large).unwrap();
    assert_eq!(**host.get_der(b"large").unwrap(), *large);

    let generation = library.stat(c"tssession.ticket_keys.generation");
    assert!(host.update_ticket_keys(&[[1; 48], [2; 48]].concat()));
    assert!(!host.update_ticket_keys(&[3; 47]));
    let generation_now = library.stat(c"tssession.ticket_keys.generation");
    assert_eq!(generation_now, generation + 1);
    assert_eq!(library.stat(c"tssession.ticket_keys.count"), 2);

    host.log(Level::Error, "one\ntwo");
    host.log(Level::Warning, "three");
    host.show(Counters::default().each());
    check_spawn(&host);
}

/// Handshakes of clients are reported, and a client resumes a session from another member. Returns its
/// DER.
fn check_handshakes(host: &Host, library: &Library) -> Vec<u8> {
    type Attach = extern "C" fn(*mut openssl_sys::SSL_CTX) -> c_int;
    // SAFETY: the library declares the function with this type.
    let attach: Attach = unsafe { library.function(c"TSSslSessionCacheAttach") };
    let (server, client) = contexts();
    assert_eq!(attach(server.as_ptr()), 0);
    let (session, _) = visit(&server, &client, None, true);
    let id = session.id().to_owned();
    assert_eq!(heard(), [(Event::New, id.clone())]);
    let der = host.get_der(&id).unwrap().to_vec();
    assert_eq!(SslSession::from_der(&der).unwrap().id(), id);

    // The session is removed, and inserted as from another member: the client resumes.
    assert!(host.remove(&id) && host.get_der(&id).is_none());
    host.insert(&id, &der).unwrap();
    assert_eq!(**host.get_der(&id).unwrap(), *der);
    let (_, resumed) = visit(&server, &client, Some(&session), true);
    assert!(resumed);
    assert_eq!(heard(), [], "neither our calls nor GET are news");

    // A connection that fails removes its session.
    let (session, _) = visit(&server, &client, None, false);
    let id = session.id().to_owned();
    assert_eq!(heard(), [(Event::New, id.clone()), (Event::Removed, id)]);
    der
}

/// Bytes that are not exactly one session are refused, with OpenSSL's error queue unchanged, and so are
/// invalid IDs.
fn check_what_is_refused(host: &Host, der: &[u8]) {
    openssl::base64::decode_block("?").unwrap_err();
    // SAFETY: puts an error on this thread's queue.
    unsafe {
        openssl_sys::ERR_new();
        openssl_sys::ERR_set_error(openssl_sys::ERR_LIB_SYS, 1, ptr::null());
    }
    for bad in [&b""[..], b"x", &der[..der.len() - 1], &[der, b"x"].concat()] {
        assert_eq!(host.insert(b"bad", bad), Err(NotInserted::NotASession));
    }
    let early = SslSession::from_der(der).unwrap();
    // SAFETY: the session is ours alone.
    unsafe { openssl_sys::SSL_SESSION_set_max_early_data(early.as_ptr(), 1) };
    let refused = host.insert(b"bad", &early.to_der().unwrap());
    assert_eq!(refused, Err(NotInserted::EarlyData));
    assert!(host.get_der(b"bad").is_none());
    assert_eq!(ErrorStack::get().errors().len(), 1);
    for id in [&b""[..], &[1; 33]] {
        assert_eq!(host.insert(id, der), Err(NotInserted::NotASession));
        assert!(!host.remove(id) && host.get_der(id).is_none());
    }
}

/// Without ATS and libtssession, the error names what was looked for.
#[test]
fn no_host() {
    alone("in_no_host", root(), &[]);
}

#[test]
#[ignore = "run by no_host"]
fn in_no_host() {
    let missing = Host::find().err().unwrap();
    assert!(matches!(missing, Missing::Library(_)));
    let missing = missing.to_string();
    assert!(missing.contains("libtssession.so.0"), "{missing}");
}

/// Returns a server and a client for TLS 1.2 without tickets.
fn contexts() -> (SslContext, SslContext) {
    let (certificate, key) = certificate();
    let builder = || {
        let mut builder = SslContextBuilder::new(SslMethod::tls()).unwrap();
        let version = Some(SslVersion::TLS1_2);
        builder.set_max_proto_version(version).unwrap();
        builder.set_options(openssl::ssl::SslOptions::NO_TICKET);
        builder
    };
    let mut server = builder();
    server.set_certificate(&certificate).unwrap();
    server.set_private_key(&key).unwrap();
    server.set_session_id_context(b"test").unwrap();
    (server.build(), builder().build())
}

/// Makes a handshake. Returns the client's session, and whether it was resumed. Without `clean` the
/// server frees the connection without a shutdown.
fn visit(
    server: &SslContext,
    client: &SslContext,
    resume: Option<&SslSession>,
    clean: bool,
) -> (SslSession, bool) {
    let (near, far) = UnixStream::pair().unwrap();
    let mut ssl = Ssl::new(client).unwrap();
    if let Some(session) = resume {
        // SAFETY: the session is of a context with the same settings.
        unsafe { ssl.set_session(session).unwrap() };
    }
    let served = Ssl::new(server).unwrap();
    let serving = thread::spawn(move || {
        let mut stream = SslStream::new(served, far).unwrap();
        stream.accept().unwrap();
        stream.write_all(b"!").unwrap();
        if clean {
            let _ = stream.shutdown();
        }
    });
    let mut stream = SslStream::new(ssl, near).unwrap();
    stream.connect().unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let resumed = stream.ssl().session_reused();
    let session = stream.ssl().session().unwrap().to_owned();
    let _: Result<ShutdownResult, _> = stream.shutdown();
    serving.join().unwrap();
    (session, resumed)
}

/// Returns the DER bytes of a session with `padding` additional bytes.
fn session_der(padding: usize) -> Vec<u8> {
    // openssl-sys does not declare these.
    unsafe extern "C" {
        fn SSL_SESSION_set1_ticket_appdata(
            session: *mut openssl_sys::SSL_SESSION,
            data: *const c_void,
            len: usize,
        ) -> c_int;
    }
    let (server, client) = contexts();
    let (session, _) = visit(&server, &client, None, true);
    let padding = vec![7_u8; padding];
    // SAFETY: the session is ours alone; the data is copied.
    unsafe {
        let raw = session.as_ptr();
        SSL_SESSION_set1_ticket_appdata(raw, padding.as_ptr().cast(), padding.len());
    }
    session.to_der().unwrap()
}
