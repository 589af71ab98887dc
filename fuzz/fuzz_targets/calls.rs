//! Calls the exported functions in any order, with any arguments. Results must be as `ts/ts.h` and
//! `ts/ssl_session_cache.h` promise.
//!
//! Memory that is passed has exactly the given length, so AddressSanitizer finds an access beyond it. A
//! panic that the library would catch at its boundary ends the run.
//!
//! SPDX-License-Identifier: Apache-2.0
#![no_main]

use std::ffi::{CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::ptr;
use std::sync::OnceLock;

use foreign_types::ForeignType;
use libfuzzer_sys::fuzz_target;
use openssl::ssl::{SslContext, SslMethod, SslSession};
use tssession::ffi::cxx;
use tssession::ffi::host::*;
use tssession::ffi::ts::*;
use tssession::ffi::types::{TSCont, TSEvent, TSReturnCode};
use tssession_fuzz::{
    Id, Input, c_string, check_lines, decode, encode, end, get_buffer, has_version, now, own, set,
    stat,
};

/// Every run begins with these settings.
const SETTINGS: [(&std::ffi::CStr, &std::ffi::CStr); 12] = [
    (c"proxy.config.ssl.session_cache", c"2"),
    (c"proxy.config.ssl.session_cache.size", c"20"),
    (c"proxy.config.ssl.session_cache.num_buckets", c"4"),
    (
        c"proxy.config.ssl.session_cache.skip_cache_on_bucket_contention",
        c"0",
    ),
    (c"proxy.config.ssl.session_cache.timeout", c"0"),
    (c"proxy.config.ssl.session_cache.auto_clear", c"1"),
    (c"proxy.config.ssl.server.session_ticket.enable", c"1"),
    (c"proxy.config.ssl.server.session_ticket.number", c"2"),
    (c"tssession.session_cache.max_session_bytes", c"1000"),
    (c"tssession.session_cache.max_bytes", c"3000"),
    (c"proxy.config.ssl.server.ticket_key.filename", c""),
    (c"proxy.config.ssl.server.cert.path", c""),
];

const STATS: [&std::ffi::CStr; 6] = [
    c"proxy.process.ssl.ssl_session_cache_hit",
    c"proxy.process.ssl.ssl_session_cache_miss.expired",
    c"tssession.session_cache.refused",
    c"tssession.session_cache.bytes",
    c"proxy.process.ssl.total_tickets_verified.older",
    c"tssession.ticket_keys.count",
];

/// The state of a run on which results depend.
struct Run {
    hooks: Vec<usize>,
    /// Whether sessions may end before their own timeout.
    has_timeout: bool,
}

fn is_done(result: TSReturnCode) -> bool {
    // OpenSSL's error queue was empty, and still is.
    // SAFETY: reads this thread's queue.
    assert_eq!(unsafe { openssl_sys::ERR_get_error() }, 0);
    result == TSReturnCode::TS_SUCCESS
}

/// Returns an ID, and whether it is valid. There are few IDs, so that calls meet the same ones.
fn id(input: &mut Input<'_>) -> (Id, bool) {
    let byte = input.byte();
    let shift = usize::from(byte >> 7);
    match byte & 15 {
        short @ 0..=11 => (Id::new(usize::from(short) / 2 + 1, &[short], shift), true),
        12 => (Id::new(32, input.take(32), shift), true),
        13 => (Id::new(0, &[], shift), false),
        14 => (Id::new(33 + usize::from(input.byte()), &[], shift), false),
        _ => {
            let len = input.number() as usize;
            (Id::new(len, &[1], shift), (1..=32).contains(&len))
        }
    }
}

/// Returns the ID, or NULL in one case of 256.
fn id_or_null(id: &Id, input: &mut Input<'_>) -> *const tssession::ffi::types::TSSslSessionID {
    match input.byte() {
        255 => ptr::null(),
        _ => id.as_ptr(),
    }
}

/// Returns a string for C, or NULL.
fn string(input: &mut Input<'_>, known: &[&std::ffi::CStr]) -> Option<CString> {
    match input.byte() {
        255 => None,
        254 => Some(c_string(input.bytes())),
        at => Some(known[usize::from(at) % known.len()].to_owned()),
    }
}

fn pointer(string: &Option<CString>) -> *const c_char {
    string
        .as_ref()
        .map_or(ptr::null(), |string| string.as_ptr())
}

fn is_on() -> bool {
    // Remove succeeds with a valid ID if the cache is on.
    let unused = Id::new(32, &[0xee; 32], 0);
    // SAFETY: the ID lives.
    is_done(unsafe { TSSslSessionRemove(unused.as_ptr()) })
}

/// Writes a file with any name into a directory of this process.
fn file(input: &mut Input<'_>) -> Option<CString> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(std::process::id().to_string());
        std::fs::create_dir_all(&folder).expect("the folder for temporary files is writable");
        folder
    });
    let path = match input.byte() {
        0 => return None,
        // There is no such file, or it is a directory.
        1 => {
            let mut name = c_string(input.bytes()).into_bytes();
            name.retain(|byte| *byte != b'/');
            folder.join(OsStr::from_bytes(&name))
        }
        byte => {
            let path =
                folder.join(["keys", "records.config", "records.yaml"][usize::from(byte % 3)]);
            std::fs::write(&path, input.bytes()).expect("the file is writable");
            path
        }
    };
    Some(c_string(&path.into_os_string().into_vec()))
}

unsafe extern "C" fn hook(_: TSCont, _: TSEvent, _: *mut c_void) -> c_int {
    0
}

/// Returns a session for C, decoded from DER or made by hand.
fn session(input: &mut Input<'_>) -> Option<SslSession> {
    const SESSIONS: [&[u8]; 4] = [
        include_bytes!("../seeds/der/tls12"),
        include_bytes!("../seeds/der/tls13"),
        include_bytes!("../seeds/der/tls12_ticket_host"),
        include_bytes!("../seeds/der/tls12_peer"),
    ];
    let session = match input.byte() {
        255 => return None,
        254 => decode(input.bytes())?.0,
        // SAFETY: the result is one reference to a new session.
        253 => unsafe { SslSession::from_ptr(SSL_SESSION_new()) },
        at => decode(SESSIONS[usize::from(at % 4)])?.0,
    };
    if input.byte() & 1 == 1 {
        // SAFETY: the session is live, and only this function has it.
        unsafe {
            // OpenSSL does not encode a time of 0, and decodes a missing time as now.
            let time = Some(input.number()).filter(|time| *time != 0);
            SSL_SESSION_set_time(session.as_ptr(), time.unwrap_or(1));
            SSL_SESSION_set_timeout(session.as_ptr(), input.number());
        }
    }
    Some(session)
}

unsafe extern "C" {
    fn SSL_SESSION_new() -> *mut openssl_sys::SSL_SESSION;
    fn SSL_SESSION_set_time(session: *mut openssl_sys::SSL_SESSION, time: i64) -> i64;
    fn SSL_SESSION_set_timeout(session: *mut openssl_sys::SSL_SESSION, timeout: i64) -> i64;
}

/// Returns whether a session will still be there in a moment.
fn lasts(session: &SslSession, run: &Run) -> bool {
    !run.has_timeout && end(session) > now() + 10
}

/// Calls a function that fills a buffer like TSSslSessionGetBuffer: with a buffer, without one, and with
/// any length. It must write as much of `all` as fits.
fn check_buffer(
    input: &mut Input<'_>,
    all: Option<&[u8]>,
    call: impl FnOnce(*mut c_char, *mut c_int) -> c_int,
) {
    const UNTOUCHED: u8 = 0xa5;
    let kind = input.byte();
    let mut len = input.number() as c_int;
    let mut buffer = Vec::new().into_boxed_slice();
    let pointer = match kind & 7 {
        0 => ptr::null_mut(),
        _ => {
            // Memory of exactly this length, which is limited.
            len = len.min(5000);
            buffer = vec![UNTOUCHED; usize::try_from(len).unwrap_or(0)].into_boxed_slice();
            buffer.as_mut_ptr()
        }
    };
    if kind == 255 {
        assert_eq!(call(pointer.cast(), ptr::null_mut()), 0);
        assert!(buffer.iter().all(|byte| *byte == UNTOUCHED));
        return;
    }
    let needed = usize::try_from(call(pointer.cast(), &mut len)).expect("not negative");
    let stored = needed.min(buffer.len());
    assert_eq!(usize::try_from(len), Ok(stored));
    assert!(buffer[stored..].iter().all(|byte| *byte == UNTOUCHED));
    if let Some(all) = all {
        assert_eq!((needed, &buffer[..stored]), (all.len(), &all[..stored]));
    }
}

/// Checks the result of a call that stores. If it succeeded, one of these sessions must be cached, and
/// otherwise the one from before.
fn check_insert(id: &Id, done: bool, sessions: &[SslSession], before: Option<Vec<u8>>, run: &Run) {
    let after = get_buffer(id);
    if done {
        let session = sessions.first().expect("stored, and there is a session");
        assert!(has_version(session) && is_on());
        match after {
            Some(_) => assert!(sessions.iter().any(|session| encode(session) == after)),
            None => assert!(!lasts(session, run)),
        }
    } else if after.is_none() {
        // The old session may have expired since.
        let old = before.as_deref().and_then(decode);
        assert!(old.is_none_or(|(old, _)| !lasts(&old, run)));
    } else {
        assert_eq!(after, before);
    }
}

fn get_session(input: &mut Input<'_>, run: &Run) {
    let (id, is_valid) = id(input);
    let pointer = id_or_null(&id, input);
    let may_be_there = is_valid && !pointer.is_null();
    let before = may_be_there.then(|| get_buffer(&id)).flatten();
    // SAFETY: the ID lives, and the session is ours.
    let found = unsafe {
        own(match input.byte() & 1 {
            0 => TSSslSessionGet(pointer).cast(),
            _ => cxx::get(pointer).cast(),
        })
    };
    if let Some(session) = &found {
        assert!(is_on());
        assert_eq!(encode(session), before);
    } else if let Some((old, _)) = before.as_deref().and_then(decode) {
        assert!(!lasts(&old, run));
    }
}

fn get_bytes(input: &mut Input<'_>, run: &Run) {
    let (id, is_valid) = id(input);
    let pointer = id_or_null(&id, input);
    let may_be_there = is_valid && !pointer.is_null();
    let all = may_be_there.then(|| get_buffer(&id)).flatten();
    let old = all.as_deref().and_then(decode);
    let is_sure = old.is_none_or(|(old, _)| lasts(&old, run));
    let all = all.unwrap_or_default();
    let cxx = input.byte() & 1 == 1;
    check_buffer(input, is_sure.then_some(&all), |buffer, len| {
        // SAFETY: the ID lives; the buffer is as long as is said, or NULL.
        unsafe {
            if cxx {
                cxx::get_buffer(pointer, buffer, len)
            } else {
                TSSslSessionGetBuffer(pointer, buffer, len)
            }
        }
    });
}

fn insert(input: &mut Input<'_>, run: &Run) {
    let (id, is_valid) = id(input);
    let pointer = id_or_null(&id, input);
    let session = session(input);
    let before = is_valid.then(|| get_buffer(&id)).flatten();
    let raw = session
        .as_ref()
        .map_or(ptr::null_mut(), |session| session.as_ptr().cast());
    // SAFETY: the ID and the session live; the connection is never read.
    let done = is_done(unsafe {
        match input.byte() & 1 {
            0 => TSSslSessionInsert(pointer, raw),
            _ => cxx::insert(pointer, raw, ptr::without_provenance_mut(1)),
        }
    });
    assert!(!done || is_valid && !pointer.is_null());
    if is_valid {
        check_insert(&id, done, session.as_slice(), before, run);
    }
}

fn insert_bytes(input: &mut Input<'_>, run: &Run) {
    let (id, is_valid) = id(input);
    let pointer = id_or_null(&id, input);
    let der = match input.byte() {
        0..=127 => encode(&decode(include_bytes!("../seeds/der/tls12")).unwrap().0),
        _ => Some(input.bytes().to_vec()),
    };
    let der = der.unwrap().into_boxed_slice();
    let (bytes, len) = match input.byte() {
        255 => (ptr::null(), input.number() as c_int),
        // Fewer bytes than there are.
        254 => (
            der.as_ptr(),
            (input.number() as c_int).min(der.len() as c_int),
        ),
        _ => (der.as_ptr(), der.len() as c_int),
    };
    let whole = usize::try_from(len).ok().filter(|_| !bytes.is_null());
    let session = || Some(decode(&der[..whole?])?.0);
    let before = is_valid.then(|| get_buffer(&id)).flatten();
    // A session without a time gets that of its decoding.
    let earlier = session();
    // SAFETY: the ID lives; there are so many bytes, or the pointer is NULL.
    let done = is_done(unsafe { TSSslSessionInsertBuffer(pointer, bytes.cast(), len) });
    let sessions: Vec<_> = earlier.into_iter().chain(session()).collect();
    assert!(!done || is_valid && !pointer.is_null() && !bytes.is_null() && len > 0);
    if is_valid {
        check_insert(&id, done, &sessions, before, run);
    }
}

fn remove(input: &mut Input<'_>) {
    let (id, is_valid) = id(input);
    let pointer = id_or_null(&id, input);
    // SAFETY: the ID lives.
    let done = is_done(unsafe {
        match input.byte() & 1 {
            0 => TSSslSessionRemove(pointer),
            _ => cxx::remove(pointer),
        }
    });
    assert_eq!(done, is_valid && !pointer.is_null() && is_on());
    assert!(!done || get_buffer(&id).is_none());
}

fn update_keys(input: &mut Input<'_>) {
    let generation = stat(c"tssession.ticket_keys.generation");
    let mut data: Box<[u8]> = match input.byte() & 3 {
        0 => [input.byte(); 48].into(),
        _ => input.bytes().into(),
    };
    let (pointer, len) = match input.byte() {
        255 => (ptr::null_mut(), input.number() as c_int),
        254 => {
            let len = (input.number() as c_int).min(data.len() as c_int);
            (data.as_mut_ptr(), len)
        }
        _ => (data.as_mut_ptr(), data.len() as c_int),
    };
    // SAFETY: there are so many bytes, or the pointer is NULL.
    let done = is_done(unsafe {
        match input.byte() & 1 {
            0 => TSSslTicketKeyUpdate(pointer.cast(), len),
            _ => cxx::ticket_key_update(pointer.cast(), len),
        }
    });
    assert!(!done || !pointer.is_null() && len >= 48);
    let came = stat(c"tssession.ticket_keys.generation") - generation;
    assert_eq!(came, i64::from(done));
}

fn set_record(input: &mut Input<'_>, run: &mut Run) {
    let name = string(input, &SETTINGS.map(|(name, _)| name));
    let value = match input.byte() {
        255 => None,
        254 => {
            let mut value = c_string(input.bytes()).into_bytes();
            // Only files in the current directory are read.
            value.retain(|byte| *byte != b'/');
            Some(c_string(&value))
        }
        small => Some(c_string((i64::from(small) - 2).to_string().as_bytes())),
    };
    // SAFETY: C strings or NULL.
    let done = is_done(unsafe { TSSslSessionCacheConfigSet(pointer(&name), pointer(&value)) });
    assert!(!done || name.is_some() && value.is_some());
    run.has_timeout |= done && name.as_deref() == Some(SETTINGS[4].0);
}

fn load_records(input: &mut Input<'_>) {
    let path = file(input);
    // SAFETY: a C string or NULL.
    let done = is_done(unsafe { TSSslSessionCacheConfigLoad(pointer(&path)) });
    assert!(!done || path.is_some());
}

fn load_keys(input: &mut Input<'_>) {
    let path = file(input);
    let generation = stat(c"tssession.ticket_keys.generation");
    // SAFETY: a C string or NULL.
    let done = is_done(unsafe { TSSslTicketKeyFileLoad(pointer(&path)) });
    let came = stat(c"tssession.ticket_keys.generation") - generation;
    assert!(came == 0 || came == 1 && done);
}

fn read_counter(input: &mut Input<'_>) {
    let name = string(input, &STATS);
    let mut value = -77;
    let to: *mut i64 = match input.byte() {
        255 => ptr::null_mut(),
        _ => &mut value,
    };
    // SAFETY: a C string or NULL, and writable memory or NULL.
    let done = is_done(unsafe { TSSslSessionCacheStatGet(pointer(&name), to) });
    assert!(if done { value >= 0 } else { value == -77 });
}

fn clear_or_hook_or_log(input: &mut Input<'_>, run: &mut Run) {
    match input.byte() % 6 {
        0 => {
            TSSslSessionCacheClear();
            assert_eq!(stat(c"tssession.session_cache.entries"), 0);
        }
        1 | 2 => {
            let cont = input.byte().into();
            let func = (input.byte() != 255).then_some(hook as _);
            // SAFETY: the hook does not use its arguments.
            let done =
                is_done(unsafe { TSSslSessionHookAdd(func, ptr::without_provenance_mut(cont)) });
            assert_eq!(done, func.is_some());
            if done && !run.hooks.contains(&cont) {
                run.hooks.push(cont);
            }
        }
        3 => {
            let cont = input.byte().into();
            let func = (input.byte() != 255).then_some(hook as _);
            // SAFETY: the arguments are only compared.
            let done =
                is_done(unsafe { TSSslSessionHookRemove(func, ptr::without_provenance_mut(cont)) });
            assert_eq!(done, func.is_some() && run.hooks.contains(&cont));
            run.hooks.retain(|hook| !done || *hook != cont);
        }
        4 => check_lines(input.byte() & 1 == 1),
        _ => {
            let level = input.number() as c_int;
            // SAFETY: no function.
            let done = is_done(unsafe { TSSslSessionCacheLogSet(None, ptr::null_mut(), level) });
            assert_eq!(done, (1..=3).contains(&level));
            check_lines(false);
        }
    }
}

fn attach_or_detach(input: &mut Input<'_>) {
    thread_local! {
        static CONTEXT: SslContext =
            SslContext::builder(SslMethod::tls_server()).unwrap().build();
    }
    let byte = input.byte();
    let context = match byte {
        255 => ptr::null_mut(),
        _ => CONTEXT.with(|context| context.as_ptr().cast()),
    };
    // SAFETY: the context is this thread's, or NULL.
    let done = is_done(unsafe {
        match byte & 1 {
            0 => TSSslSessionCacheAttach(context),
            _ => TSSslSessionCacheDetach(context),
        }
    });
    assert_eq!(done, !context.is_null());
}

fn step(input: &mut Input<'_>, run: &mut Run) {
    match input.byte() % 20 {
        0 | 1 => get_session(input, run),
        2..=4 => get_bytes(input, run),
        5..=7 => insert(input, run),
        8..=9 => insert_bytes(input, run),
        10 => remove(input),
        11 => update_keys(input),
        12..=13 => set_record(input, run),
        14 => load_records(input),
        15 => load_keys(input),
        16 => read_counter(input),
        17 => check_buffer(input, None, |buffer, len| {
            // SAFETY: the buffer is as long as is said, or NULL.
            unsafe { TSSslSessionCacheStatsText(buffer, len) }
        }),
        18 => clear_or_hook_or_log(input, run),
        _ => attach_or_detach(input),
    }
}

fuzz_target!(|data: &[u8]| {
    check_lines(false);
    for (name, value) in SETTINGS {
        set(name, value);
    }
    TSSslSessionCacheClear();
    let mut run = Run {
        hooks: Vec::new(),
        has_timeout: false,
    };
    let mut input = Input(data);
    while !input.is_empty() {
        step(&mut input, &mut run);
    }
    for hook in run.hooks {
        // SAFETY: the arguments are only compared.
        unsafe { TSSslSessionHookRemove(Some(self::hook), ptr::without_provenance_mut(hook)) };
    }

    // The counters add up.
    let gone = [
        c"tssession.session_cache.replaced",
        c"tssession.session_cache.removed",
        c"proxy.process.ssl.ssl_session_cache_eviction",
        c"tssession.session_cache.expired",
        c"tssession.session_cache.cleared",
    ];
    let stored = stat(c"proxy.process.ssl.ssl_session_cache_new_session");
    let entries = stat(c"tssession.session_cache.entries");
    assert_eq!(stored - gone.map(stat).iter().sum::<i64>(), entries);
});
