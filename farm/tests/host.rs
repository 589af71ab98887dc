//! The host's functions, in each kind of host: libtssession, and Traffic Servers of which
//! `c/ats.c` has the functions. Names that are there are found by every later look, so each
//! kind has a process of its own: these tests start themselves again.

mod common;

use std::env;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::{Read, Write};
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

use common::{WARNINGS, built, certificate, root, run, scratch, source};
use tssession_farm::{Counter, Counters, Event, Host, Level, Missing};

/// Runs a test of this file that is ignored otherwise, in a process of its own.
fn alone(test: &str, host: &Path) -> String {
    let output = run(Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("HOST", host));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("1 passed"), "{stdout}");
    String::from_utf8(output.stderr).unwrap()
}

/// The library that makes this process one of such a kind.
fn load(flags: c_int) -> *mut c_void {
    let path = env::var_os("HOST").expect("started by another test");
    let path = CString::new(path.as_bytes()).unwrap();
    // SAFETY: the path is a C string; both libraries may be loaded.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | flags) };
    assert!(!library.is_null(), "{path:?} cannot be loaded");
    library
}

fn symbol(library: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: looks only.
    let at = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!at.is_null(), "{name:?}");
    at
}

static HEARD: Mutex<Vec<(Event, Vec<u8>)>> = Mutex::new(Vec::new());

fn hear(event: Event, id: &[u8]) {
    HEARD.lock().unwrap().push((event, id.to_vec()));
}

fn heard() -> Vec<(Event, Vec<u8>)> {
    std::mem::take(&mut *HEARD.lock().unwrap())
}

fn ats(name: &str, compiler: &str, flags: &[&str]) -> std::path::PathBuf {
    let library = scratch().join(name);
    run(Command::new(compiler)
        .args(WARNINGS)
        .args(["-Wno-pedantic", "-D_GNU_SOURCE", "-fPIC", "-shared"])
        .args(flags)
        .arg("-o")
        .arg(&library)
        .arg(source("ats.c")));
    library
}

#[test]
fn ats_9() {
    alone("in_ats", &ats("ats9.so", "gcc", &["-std=gnu11"]));
}

#[test]
fn ats_10() {
    let flags = ["-std=c++20", "-DATS_10", "-x", "c++"];
    alone("in_ats", &ats("ats10.so", "g++", &flags));
}

#[test]
#[ignore = "run by ats_9 and ats_10"]
fn in_ats() {
    let library = load(libc::RTLD_GLOBAL);
    // The names of libtssession, loaded beside it, are not those of the host.
    let path = CString::new(built("libtssession.so").as_os_str().as_bytes()).unwrap();
    // SAFETY: as in `load`.
    assert!(!unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }.is_null());

    let is_10 = env::var("HOST").unwrap().ends_with("ats10.so");
    let log = symbol(library, c"ats_log").cast::<c_char>();
    // SAFETY: these are the types that ats.c has them with.
    let (ready, event) = unsafe {
        (
            std::mem::transmute::<*mut c_void, extern "C" fn()>(symbol(library, c"ats_ready")),
            std::mem::transmute::<*mut c_void, extern "C" fn(c_int, *const c_char, usize)>(symbol(
                library,
                c"ats_event",
            )),
        )
    };
    // What was called since.
    let called = || {
        // SAFETY: a C string that nobody writes to meanwhile.
        unsafe {
            let text = CStr::from_ptr(log).to_str().unwrap().to_owned();
            *log = 0;
            text
        }
    };

    let host = Host::find().unwrap();
    assert_eq!(called(), "");
    assert!(host.register());
    assert_eq!(called(), "TSPluginRegister(tssession_farm, tssession, -)\n");
    assert_eq!(host.resolve("a/b".as_ref()), Path::new("/ats/config/a/b"));
    assert_eq!(host.resolve("/a/b".as_ref()), Path::new("/a/b"));

    assert!(host.call_when_ready(|| hear(Event::New, b"ready")));
    assert_eq!(called(), "TSContCreate(no mutex)\nTSLifecycleHookAdd(0)\n");
    assert_eq!(heard(), []);
    ready();
    assert_eq!(heard(), [(Event::New, b"ready".to_vec())]);

    assert!(host.add_hook(hear));
    let id = if is_10 { 27 } else { 24 };
    assert_eq!(
        called(),
        format!("TSContCreate(no mutex)\nTSHttpHookAdd({id})\n")
    );
    assert!(!host.add_hook(hear));
    assert_eq!(called(), "");
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

    assert_eq!(**host.get_der(b"small").unwrap(), [b'd'; 100]);
    assert_eq!(called(), "TSSslSessionGetBuffer(small, 2048)\n");
    assert_eq!(**host.get_der(b"large").unwrap(), [b'd'; 5000]);
    assert_eq!(
        called(),
        "TSSslSessionGetBuffer(large, 2048)\nTSSslSessionGetBuffer(large, 5000)\n"
    );
    assert!(host.get_der(b"absent").is_none());
    assert_eq!(called(), "TSSslSessionGetBuffer(absent, 2048)\n");

    let der = session_der(0);
    assert!(host.insert(b"id", &der));
    assert_eq!(called(), "TSSslSessionInsert(id, a session, NULL)\n");
    assert!(!host.insert(b"refused", &der));
    assert_eq!(called(), "TSSslSessionInsert(refused, a session, NULL)\n");
    assert!(host.remove(b"id"));
    assert!(!host.remove(b"refused"));
    assert_eq!(
        called(),
        "TSSslSessionRemove(id)\nTSSslSessionRemove(refused)\n"
    );
    assert!(host.update_ticket_keys(&[b'k'; 48]));
    assert!(!host.update_ticket_keys(b"k"));
    let keys = "k".repeat(48);
    assert_eq!(
        called(),
        format!("TSSslTicketKeyUpdate({keys})\nTSSslTicketKeyUpdate(k)\n")
    );

    host.log(Level::Error, "100%s\nof\0it");
    host.log(Level::Warning, "less");
    assert_eq!(
        called(),
        "TSError(tssession_farm: 100%s of it)\nTSWarning(tssession_farm: less)\n"
    );

    check_spawn(&host);
    assert_eq!(
        called(),
        "TSThreadCreate\nTSThreadCreate\n\
         TSError(tssession_farm: the thread fails has panicked and is gone)\n"
    );

    let counters = Counters::default();
    counters.add(Counter::RefusedForged, 7);
    host.show(counters.each());
    let shown = called();
    let first = "TSStatCreate(plugin.tssession_farm.published, 1, 2, 0)\n";
    assert!(shown.starts_with(first), "{shown}");
    let created: Vec<_> = shown.matches("TSStatCreate(").collect();
    let place = counters
        .each()
        .position(|(name, _)| name == "plugin.tssession_farm.refused.forged")
        .unwrap();
    assert!(
        shown.contains(&format!("TSStatIntSet({place}, 7)\n")),
        "{shown}"
    );
    assert_eq!(shown.matches("TSStatIntSet(").count(), created.len());
    assert_eq!(counters.each().count(), created.len());
    counters.count(Counter::RefusedForged);
    host.show(counters.each());
    let shown = called();
    assert!(
        shown.contains(&format!("TSStatIntSet({place}, 8)\n")),
        "{shown}"
    );
    assert!(!shown.contains("TSStatCreate"), "{shown}");
}

/// A server whose own cache is off, or that has none: sessions are libtssession's, and either
/// may have the tickets.
#[test]
fn ats_with_libtssession() {
    let servers = [
        ats("ats9_off.so", "gcc", &["-std=gnu11"]),
        ats(
            "ats10_off.so",
            "g++",
            &["-std=c++20", "-DATS_10", "-x", "c++"],
        ),
    ];
    for (server, variable) in servers.iter().flat_map(|server| {
        let variables = [("OWN_CACHE", "0"), ("OWN_CACHE", "1"), ("NO_HOOK", "1")];
        variables.map(|variable| (server, variable))
    }) {
        run(Command::new(env::current_exe().unwrap())
            .args(["--exact", "in_ats_with_libtssession", "--ignored"])
            .env("HOST", server)
            .env("LD_LIBRARY_PATH", common::library_dir())
            .env(variable.0, variable.1));
    }
}

#[test]
#[ignore = "run by ats_with_libtssession"]
fn in_ats_with_libtssession() {
    let server = load(libc::RTLD_GLOBAL);
    let log = symbol(server, c"ats_log").cast::<c_char>();
    // As the server loads a plugin.
    let path = CString::new(built("libtssession.so").as_os_str().as_bytes()).unwrap();
    // SAFETY: as in `load`; the type is the one that the library declares the function with.
    let stat = unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!library.is_null());
        type Stat = extern "C" fn(*const c_char, *mut i64) -> c_int;
        std::mem::transmute::<*mut c_void, Stat>(symbol(library, c"TSSslSessionCacheStatGet"))
    };
    let stat = |name: &CStr| {
        let mut value = -1;
        assert_eq!(stat(name.as_ptr(), &mut value), 0);
        value
    };

    let host = Host::find().unwrap();
    assert!(host.add_hook(hear));
    assert!(host.insert(b"id", &session_der(0)));
    assert_eq!(stat(c"tssession.session_cache.entries"), 1);
    assert!(host.get_der(b"id").is_some());
    assert!(host.remove(b"id"));
    assert_eq!(stat(c"tssession.session_cache.entries"), 0);
    assert!(host.update_ticket_keys(&[b'k'; 48]));
    assert_eq!(stat(c"tssession.ticket_keys.count"), 1);
    let keys = "k".repeat(48);
    // SAFETY: a C string that nobody writes to meanwhile.
    let called = unsafe { CStr::from_ptr(log) }.to_str().unwrap();
    let of_sessions: Vec<&str> = called
        .lines()
        .filter(|line| line.starts_with("TSSsl"))
        .collect();
    assert_eq!(of_sessions, [format!("TSSslTicketKeyUpdate({keys})")]);
    // One of the two refuses them.
    assert!(!host.update_ticket_keys(b"k"));
}

/// A server whose own cache is off, where there is no other: at least ticket keys are shared.
#[test]
fn ats_without_any_cache() {
    let server = ats("ats9_alone.so", "gcc", &["-std=gnu11"]);
    run(Command::new(env::current_exe().unwrap())
        .args(["--exact", "in_ats_without_any_cache", "--ignored"])
        .env("HOST", server)
        .env("OWN_CACHE", "0")
        .env_remove("LD_LIBRARY_PATH"));
}

#[test]
#[ignore = "run by ats_without_any_cache"]
fn in_ats_without_any_cache() {
    let server = load(libc::RTLD_GLOBAL);
    let log = symbol(server, c"ats_log").cast::<c_char>();
    let host = Host::find().unwrap();
    assert!(host.update_ticket_keys(&[b'k'; 48]));
    // SAFETY: a C string that nobody writes to meanwhile.
    let called = unsafe { CStr::from_ptr(log) }.to_str().unwrap();
    assert!(
        called.starts_with(
            "TSWarning(tssession_farm: the server's own session cache is off, and libtssession cannot be loaded: "
        ),
        "{called}"
    );
    assert!(called.contains("\nTSSslTicketKeyUpdate("), "{called}");
}

/// Threads run what they are to, take no signals, and end alone.
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
    // It says so before it ends.
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
    // Loaded by somebody who keeps its names to himself, or for everybody, or by us.
    for flags in ["local", "global", "absent"] {
        let output = run(Command::new(env::current_exe().unwrap())
            .args(["--exact", "in_libtssession", "--ignored", "--nocapture"])
            .env("HOST", built("libtssession.so"))
            .env("LD_LIBRARY_PATH", common::library_dir())
            .env("FLAGS", flags));
        let stderr = String::from_utf8(output.stderr).unwrap();
        for line in [
            "tssession_farm: ERROR: one two\n",
            "tssession_farm: WARNING: three\n",
            "tssession_farm: ERROR: the thread fails has panicked and is gone\n",
        ] {
            assert!(stderr.contains(line), "{line:?} is missing in\n{stderr}");
        }
    }
}

#[test]
#[ignore = "run by libtssession"]
fn in_libtssession() {
    let host;
    let library;
    match env::var("FLAGS").unwrap().as_str() {
        "local" => {
            library = load(libc::RTLD_LOCAL);
            host = Host::find().unwrap();
        }
        "global" => {
            library = load(libc::RTLD_GLOBAL);
            host = Host::find().unwrap();
        }
        _ => {
            host = Host::find().unwrap();
            library = load(libc::RTLD_LOCAL);
        }
    }
    // SAFETY: these are the types that the library declares the functions with.
    let (attach, stat) = unsafe {
        type Attach = extern "C" fn(*mut openssl_sys::SSL_CTX) -> c_int;
        type Stat = extern "C" fn(*const c_char, *mut i64) -> c_int;
        (
            std::mem::transmute::<*mut c_void, Attach>(symbol(library, c"TSSslSessionCacheAttach")),
            std::mem::transmute::<*mut c_void, Stat>(symbol(library, c"TSSslSessionCacheStatGet")),
        )
    };
    let stat = |name: &CStr| {
        let mut value = -1;
        assert_eq!(stat(name.as_ptr(), &mut value), 0);
        value
    };
    assert!(host.register());
    assert_eq!(host.resolve("a".as_ref()), Path::new("a"));
    assert!(!host.call_when_ready(|| panic!("it is ready")));
    assert!(host.add_hook(hear));
    assert!(!host.add_hook(hear));

    let (server, client) = contexts();
    assert_eq!(attach(server.as_ptr()), 0);
    let (session, _) = visit(&server, &client, None, true);
    let id = session.id().to_owned();
    assert_eq!(heard(), [(Event::New, id.clone())]);
    let der = host.get_der(&id).unwrap();
    let decoded = SslSession::from_der(&der).unwrap();
    assert_eq!(decoded.id(), id);

    // Removed, and inserted as another member would: the client resumes.
    assert!(host.remove(&id) && host.get_der(&id).is_none());
    assert!(host.insert(&id, &der));
    assert_eq!(**host.get_der(&id).unwrap(), **der);
    let (_, resumed) = visit(&server, &client, Some(&session), true);
    assert!(resumed);
    assert_eq!(heard(), [], "neither our calls nor GET are news");

    // A connection that fails removes it.
    let (session, _) = visit(&server, &client, None, false);
    let id = session.id().to_owned();
    assert_eq!(heard(), [(Event::New, id.clone()), (Event::Removed, id)]);

    // What is not exactly one session, with the queue of errors as it was.
    openssl::base64::decode_block("?").unwrap_err();
    // SAFETY: puts an error on this thread's queue.
    unsafe {
        openssl_sys::ERR_new();
        openssl_sys::ERR_set_error(openssl_sys::ERR_LIB_SYS, 1, ptr::null());
    }
    for bad in [
        &b""[..],
        b"x",
        &der[..der.len() - 1],
        &[&der[..], b"x"].concat(),
    ] {
        assert!(!host.insert(b"bad", bad));
    }
    assert!(host.get_der(b"bad").is_none());
    assert_eq!(ErrorStack::get().errors().len(), 1);
    for id in [&b""[..], &[1; 33]] {
        assert!(!host.insert(id, &der) && !host.remove(id) && host.get_der(id).is_none());
    }

    // Larger than the space that is tried first.
    let large = session_der(6000);
    assert!(large.len() > 6000);
    assert!(host.insert(b"large", &large));
    assert_eq!(**host.get_der(b"large").unwrap(), *large);

    let generation = stat(c"tssession.ticket_keys.generation");
    assert!(host.update_ticket_keys(&[[1; 48], [2; 48]].concat()));
    assert!(!host.update_ticket_keys(&[3; 47]));
    assert_eq!(stat(c"tssession.ticket_keys.generation"), generation + 1);
    assert_eq!(stat(c"tssession.ticket_keys.count"), 2);

    host.log(Level::Error, "one\ntwo");
    host.log(Level::Warning, "three");
    host.show(Counters::default().each());
    check_spawn(&host);
}

/// Without ATS and libtssession it says what it looked for.
#[test]
fn no_host() {
    alone("in_no_host", root());
}

#[test]
#[ignore = "run by no_host"]
fn in_no_host() {
    let missing = Host::find().err().unwrap();
    assert!(matches!(missing, Missing::Library(_)));
    let missing = missing.to_string();
    assert!(missing.contains("libtssession.so.0"), "{missing}");
}

/// A server and a client of TLS 1.2, without tickets.
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

/// A handshake; the client's session, and whether it was resumed. Without `clean` the server
/// ends the connection without a word.
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

/// The DER bytes of a session that is larger than it need be.
fn session_der(padding: usize) -> Vec<u8> {
    // What openssl-sys does not declare.
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
