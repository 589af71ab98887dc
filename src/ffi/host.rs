//! What the owner of the `SSL_CTX` calls.
//!
//! The doc comments are the text of `<ts/ssl_session_cache.h>`.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use log::{Level, LevelFilter};

use super::sessions::{answer, bytes, none_stored, read_id, space, stored};
use super::types::{TSCont, TSEvent, TSEventFunc, TSReturnCode, TSSslContext, TSSslSessionID};
use crate::config::{SetError, Setting, Source};
use crate::guard::enter;
use crate::hooks::{HookKey, SessionEvent};
use crate::id::SessionId;
use crate::library::log_not_in_force;
use crate::logger;
use crate::memory::boxed;
use crate::stats::Counter;
use crate::tls;

/// A line about what failed.
pub const TS_SSL_SESSION_CACHE_LOG_ERROR: c_int = 1;
/// A line about what was done, but not as it was asked for.
pub const TS_SSL_SESSION_CACHE_LOG_WARNING: c_int = 2;
/// A line about what goes as it should. Only these name session IDs, in hex.
pub const TS_SSL_SESSION_CACHE_LOG_DEBUG: c_int = 3;

/// A function that gets the library's log lines: their level, their tag (as ATS has them,
/// for example "ssl.session_cache.insert") and their text, which has no line break.
pub type TSSslSessionCacheLogFunc = Option<
    unsafe extern "C" fn(contp: TSCont, level: c_int, tag: *const c_char, line: *const c_char),
>;

/// Attaches an SSL_CTX to the session cache and to the ticket keys: sets its
/// session callbacks, session cache mode, ticket-key callback and the callback for
/// decrypted tickets as the settings say at this moment. Attaching it again applies
/// the settings again; what the host has set in between stays, but where a setting of the library says
/// otherwise. An attached context is a server's: sessions of clients are not
/// cached. A timeout of the context's (SSL_CTX_set_timeout) of more than 7 days
/// becomes 7 days (RFC 8446, 4.6.1).
///
/// Call it when the context is set up, before connections use it: OpenSSL does
/// not guard a context against changes while it is in use.
///
/// All attached contexts share the cache and the ticket keys. What keeps their
/// sessions apart is the session ID context, which remains the host's to set
/// (SSL_CTX_set_session_id_context): contexts that ask for client certificates
/// must have one, and contexts whose rules for clients differ must have
/// different ones. Contexts that have the same one nevertheless: a connection that
/// demands a certificate when it looks for the session (SSL_VERIFY_PEER and
/// SSL_VERIFY_FAIL_IF_NO_PEER_CERT) resumes none without, neither by ID nor by
/// ticket. But of two that demand certificates of different authorities, one
/// resumes the other's.
///
/// OpenSSL does not tell which callback for decrypted tickets a context has. A host
/// with ones of its own (SSL_CTX_set_session_ticket_cb) sets them after it has
/// attached the context: they stay when it is attached again, and it is then for
/// them to refuse a session without the certificate that is demanded.
///
/// A host that has ticket keys of its own keeps them by setting
/// tssession.session_ticket.mode to 0 (TSSslSessionCacheConfigSet) before it attaches: then
/// the ticket-key callback, the callbacks for session tickets, the number of tickets
/// and SSL_OP_NO_TICKET stay as they are, sessions in tickets are the host's to refuse, and
/// TSSslTicketKeyUpdate changes nothing for this context. A context that is
/// attached again in the other mode changes over; the callbacks that the library had
/// set become NULL.
///
/// The result is TS_ERROR when ctx is NULL or there is no memory.
///
/// # Safety
/// `ctx` is null or a live `SSL_CTX` that no other thread uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheAttach(ctx: TSSslContext) -> TSReturnCode {
    enter("TSSslSessionCacheAttach", |library| {
        if ctx.is_null() {
            log::error!(target: "ssl.session_cache", "TSSslSessionCacheAttach: the context is NULL");
            return TSReturnCode::TS_ERROR;
        }
        // SAFETY: passed on to the caller.
        match unsafe { tls::attach(library, ctx.cast()) } {
            Ok(()) => TSReturnCode::TS_SUCCESS,
            Err(error) => {
                log::error!(target: "ssl.session_cache", "TSSslSessionCacheAttach: {error}");
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Takes off again what TSSslSessionCacheAttach has set: the context gets back the
/// session callbacks, modes and numbers that it had before, or that the host has
/// set since. Where tickets are the library's (tssession.session_ticket.mode), its ticket-key
/// callback and its callbacks for session tickets become NULL, because OpenSSL does not
/// tell what they were.
///
/// A context that is not attached stays as it is, and the result is TS_SUCCESS.
/// It is TS_ERROR when ctx is NULL. A context need not be detached before
/// SSL_CTX_free.
///
/// # Safety
/// As for `TSSslSessionCacheAttach`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheDetach(ctx: TSSslContext) -> TSReturnCode {
    enter("TSSslSessionCacheDetach", |_| {
        if ctx.is_null() {
            log::error!(target: "ssl.session_cache", "TSSslSessionCacheDetach: the context is NULL");
            return TSReturnCode::TS_ERROR;
        }
        // SAFETY: passed on to the caller.
        unsafe { tls::detach(ctx.cast()) };
        TSReturnCode::TS_SUCCESS
    })
}

/// Changes one setting, named as its ATS record is named, for example
/// "proxy.config.ssl.session_cache.size" to "4096". tssession(3) lists them all.
///
/// A number may end in K, M, G or T. The setting is in force when the call
/// returns; those that shape a context (tickets, modes) when it is attached the
/// next time. A smaller cache keeps as many sessions as fit; one that is
/// switched off forgets all. The number of shards
/// (proxy.config.ssl.session_cache.num_buckets) is settled once the cache is in
/// use.
///
/// The environment counts more than this call, and this call more than a file
/// (TSSslSessionCacheConfigLoad). Where an environment variable sets the same
/// record, the result is TS_SUCCESS and a warning is logged. The result is
/// TS_ERROR, an error is logged and nothing has changed when there is no such
/// setting, the value is not valid, or an argument is NULL.
///
/// Any thread may call it at any time.
///
/// # Safety
/// `name` and `value` are null or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheConfigSet(
    name: *const c_char,
    value: *const c_char,
) -> TSReturnCode {
    const NAME: &str = "TSSslSessionCacheConfigSet";
    enter("TSSslSessionCacheConfigSet", |library| {
        // SAFETY: passed on to the caller.
        let (name, value) = unsafe { (text(name), text(value)) };
        let (Some(name), Some(value)) = (name, value) else {
            log::error!(target: "ssl.session_cache", "{NAME}: an argument is NULL");
            return TSReturnCode::TS_ERROR;
        };
        let parsed = name.to_str().ok_or(SetError::UnknownName);
        let name = name.display();
        match parsed.and_then(|name| Setting::parse(name, value)) {
            Ok(setting) => {
                let notes = library.set([setting], Source::Call);
                log_not_in_force(NAME, &notes, Level::Warn);
                log::debug!(target: "ssl.session_cache", "{NAME}: {name}: set to {}", value.display());
                TSReturnCode::TS_SUCCESS
            }
            Err(error) => {
                log::error!(target: "ssl.session_cache", "{NAME}: {name}: {error}");
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Puts the settings of a file of ATS records in force: nested maps under "records:" if
/// its name ends in .yaml or .yml (ATS 10 and later), else lines as in
/// records.config (ATS 9 and before). Records that the library does not know are
/// skipped; one that begins with "tssession." earns a warning. Its own, "tssession.session_cache.max_bytes" for example, are written in
/// the same way; in YAML as nested maps at the top level or under "records:".
///
/// All settings of the file come into force, as by TSSslSessionCacheConfigSet, or
/// none. What the environment or TSSslSessionCacheConfigSet has set stays. A record
/// that a file no longer has keeps its value. Loading the file again after it has
/// changed is how a host reloads; no session that fits is lost by it. Ticket keys are
/// not read: call TSSslTicketKeyFileLoad(NULL) then.
///
/// The result is TS_ERROR, an error with the file, the line and the record is logged
/// and nothing has changed when path is NULL, the file cannot be read, is not a
/// regular file or larger than 1 MiB, a value is not valid, or the file is not written
/// as its name says. Any thread may call it at any time.
///
/// # Safety
/// `path` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheConfigLoad(path: *const c_char) -> TSReturnCode {
    const NAME: &str = "TSSslSessionCacheConfigLoad";
    enter("TSSslSessionCacheConfigLoad", |library| {
        // SAFETY: passed on to the caller.
        let Some(path) = (unsafe { text(path) }) else {
            log::error!(target: "ssl.session_cache", "{NAME}: the path is NULL");
            return TSReturnCode::TS_ERROR;
        };
        if path.is_empty() {
            log::error!(target: "ssl.session_cache", "{NAME}: the path is empty");
            return TSReturnCode::TS_ERROR;
        }
        let path = Path::new(path);
        match library.load_records(path) {
            Ok(loaded) => {
                loaded.log(NAME, path);
                TSReturnCode::TS_SUCCESS
            }
            Err(error) => {
                log::error!(target: "ssl.session_cache", "{NAME}: {}{error}; the settings stay as they are", path.display());
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Passes the library's log lines to a function of the host: to func(contp, level, tag,
/// line), from now on, those of the given level (TS_SSL_SESSION_CACHE_LOG_ERROR, _WARNING
/// or _DEBUG) and the graver ones. With a NULL func they go to stderr again, errors and
/// warnings only.
///
/// Where the process exports TSError, as traffic_server does, all lines go to that
/// and to TSWarning and TSDebug, and func is not called; nor is it in a Rust program with
/// a logger of its own, which gets them then. Of errors and warnings of one kind,
/// a burst of 100 and then one a second is passed on, wherever they go.
///
/// func is called on the thread that has something to log, and waited for; no lock is
/// held, and it may call every function of the library. What it leads to there is
/// logged to stderr. A C++ exception, pthread_exit and the cancellation of the thread must
/// not leave it. A call that another thread is in at this moment goes on when func is
/// replaced.
///
/// The result is TS_ERROR, nothing changes and an error is logged when level is none
/// of the three. Any thread may call it at any time.
///
/// # Safety
/// `func` may be called with `contp` from any thread until it is replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheLogSet(
    func: TSSslSessionCacheLogFunc,
    contp: TSCont,
    level: c_int,
) -> TSReturnCode {
    enter("TSSslSessionCacheLogSet", |_| {
        let wanted = match level {
            TS_SSL_SESSION_CACHE_LOG_ERROR => LevelFilter::Error,
            TS_SSL_SESSION_CACHE_LOG_WARNING => LevelFilter::Warn,
            TS_SSL_SESSION_CACHE_LOG_DEBUG => LevelFilter::Debug,
            _ => {
                log::error!(target: "ssl.session_cache", "TSSslSessionCacheLogSet: there is no level {level}");
                return TSReturnCode::TS_ERROR;
            }
        };
        let Some(func) = func else {
            logger::forget_function();
            return TSReturnCode::TS_SUCCESS;
        };
        let contp = contp.expose_provenance();
        let call = boxed(move |level, tag: &CStr, line: &CStr| {
            let level = match level {
                Level::Error => TS_SSL_SESSION_CACHE_LOG_ERROR,
                Level::Warn => TS_SSL_SESSION_CACHE_LOG_WARNING,
                _ => TS_SSL_SESSION_CACHE_LOG_DEBUG,
            };
            let contp = std::ptr::with_exposed_provenance_mut(contp);
            // SAFETY: whoever set the function vouches for it and for `contp`; the
            // strings live until the call is over.
            unsafe { func(contp, level, tag.as_ptr(), line.as_ptr()) };
        });
        match call.and_then(|call| logger::set_function(call, wanted)) {
            Ok(()) => TSReturnCode::TS_SUCCESS,
            Err(error) => {
                log::error!(target: "ssl.session_cache", "TSSslSessionCacheLogSet: {error}");
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Reads one counter, named as the ATS metric is named, for example
/// "proxy.process.ssl.ssl_session_cache_hit". tssession(3) lists them all. Of one that
/// is counted by cause or by age, each part can be read by itself, for example
/// "proxy.process.ssl.ssl_session_cache_miss.expired".
///
/// The result is TS_ERROR, and *value stays as it is, when there is no such
/// counter or an argument is NULL; that is logged. Any thread may call it at any
/// time.
///
/// # Safety
/// `name` is null or a C string; `value` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheStatGet(
    name: *const c_char,
    value: *mut i64,
) -> TSReturnCode {
    enter("TSSslSessionCacheStatGet", |library| {
        // SAFETY: passed on to the caller.
        let name = unsafe { text(name) };
        let (Some(name), false) = (name, value.is_null()) else {
            log::error!(target: "ssl.session_cache", "TSSslSessionCacheStatGet: an argument is NULL");
            return TSReturnCode::TS_ERROR;
        };
        let Some(stat) = name.to_str().and_then(|name| library.stat(name)) else {
            let name = name.display();
            log::error!(target: "ssl.session_cache", "TSSslSessionCacheStatGet: {name}: there is no such counter");
            return TSReturnCode::TS_ERROR;
        };
        // SAFETY: passed on to the caller.
        unsafe { value.write_unaligned(i64::try_from(stat).unwrap_or(i64::MAX)) };
        TSReturnCode::TS_SUCCESS
    })
}

/// Writes all counters as text: in the format of Prometheus (version 0.0.4), each under
/// its name with "_" for ".", and the parts of one under a label.
///
/// The arguments and the result are as in TSSslSessionGetBuffer: on entry *len_ptr is
/// the space in buffer, in bytes; the result is the number of bytes that the text
/// needs, and on return *len_ptr is the number of bytes stored, as many as fit. So the
/// text was cut off when the result is greater than *len_ptr; it may have grown since a
/// call that asked for its size. There is no NUL at its end. With a NULL buffer, or a
/// space of 0 or less, nothing is stored and *len_ptr becomes 0. The result is 0 when
/// len_ptr is NULL (an error is logged).
///
/// Any thread may call it at any time.
///
/// # Safety
/// `buffer` is null or has `*len_ptr` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheStatsText(
    buffer: *mut c_char,
    len_ptr: *mut c_int,
) -> c_int {
    let needed = enter("TSSslSessionCacheStatsText", |library| {
        if len_ptr.is_null() {
            log::error!(target: "ssl.session_cache", "TSSslSessionCacheStatsText: len_ptr is NULL");
            return 0;
        }
        // SAFETY: passed on to the caller.
        unsafe {
            let mut text = Text {
                space: space(buffer, len_ptr),
                len: 0,
            };
            // Infallible: what does not fit is counted.
            let _ = library.write_stats(&mut text);
            answer(len_ptr, text.space.len(), Some(text.len))
        }
    });
    // SAFETY: passed on to the caller.
    unsafe { none_stored(len_ptr, needed) }
}

/// A text that is written to where it fits, and counted.
struct Text<'a> {
    space: &'a mut [MaybeUninit<u8>],
    len: usize,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let space = self.space.get_mut(self.len..).unwrap_or_default();
        for (to, from) in space.iter_mut().zip(text.bytes()) {
            to.write(from);
        }
        self.len += text.len();
        Ok(())
    }
}

/// Adds a hook: has func(contp, event, id) called after a handshake through an
/// attached context has stored a session (TS_EVENT_SSL_SESSION_NEW), fetched one
/// (_GET), or after a failed connection has removed one (_REMOVE). id is a
/// TSSslSessionID * that is valid during the call.
///
/// It is called on the thread of the handshake, which waits for it, and holds no
/// lock: it may call every function of the library. Calls of the library's
/// functions call no hook, so a plugin that inserts what it was told of does not
/// hear of it again. A C++ exception, pthread_exit and the cancellation of the
/// thread must not leave it.
///
/// Adding the same func and contp again changes nothing. The result is TS_ERROR
/// when func is NULL; that is logged. Any thread may call it at any time.
///
/// # Safety
/// `func` may be called with `contp` from any thread until the hook is removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionHookAdd(func: TSEventFunc, contp: TSCont) -> TSReturnCode {
    enter("TSSslSessionHookAdd", |library| {
        let (Some(call), Some(key)) = (func, hook_key(func, contp)) else {
            log::error!(target: "ssl.session_cache", "TSSslSessionHookAdd: the function is NULL");
            return TSReturnCode::TS_ERROR;
        };
        let contp = contp.expose_provenance();
        let call = move |event, id: &SessionId| {
            let event = match event {
                SessionEvent::Get => TSEvent::TS_EVENT_SSL_SESSION_GET,
                SessionEvent::New => TSEvent::TS_EVENT_SSL_SESSION_NEW,
                SessionEvent::Remove => TSEvent::TS_EVENT_SSL_SESSION_REMOVE,
            };
            fault!("hook");
            let mut id = TSSslSessionID::from(id);
            let id = (&raw mut id).cast::<c_void>();
            // SAFETY: whoever added the hook vouches for the function and `contp`;
            // `id` lives until the call is over.
            unsafe { call(std::ptr::with_exposed_provenance_mut(contp), event, id) };
        };
        match boxed(call).and_then(|call| library.hooks.add(key, call)) {
            Ok(()) => TSReturnCode::TS_SUCCESS,
            Err(error) => {
                log::error!(target: "ssl.session_cache", "TSSslSessionHookAdd: {error}");
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Removes a hook: ends what TSSslSessionHookAdd began, for the same func and contp.
///
/// A call that another thread is in at this moment goes on; none begins after
/// this function returned, but one that was about to begin may. Wait for the
/// connections to end before unloading the function. The result is TS_ERROR when
/// there is no such hook; that is logged. Any thread may call it at any time,
/// the function itself included.
///
/// # Safety
/// None: the arguments are only compared.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionHookRemove(func: TSEventFunc, contp: TSCont) -> TSReturnCode {
    enter("TSSslSessionHookRemove", |library| {
        match hook_key(func, contp) {
            Some(key) if library.hooks.remove(key) => TSReturnCode::TS_SUCCESS,
            _ => {
                log::error!(target: "ssl.session_cache", "TSSslSessionHookRemove: there is no such hook");
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Inserts a session into the cache from its DER bytes, as TSSslSessionGetBuffer
/// gives them, here or in another process. The bytes are copied.
///
/// The result is that of TSSslSessionInsert. It is also TS_ERROR, and logged, when
/// buffer is NULL or its len bytes are not exactly one whole session. Any thread
/// may call it at any time. No hook is called.
///
/// # Safety
/// `sessionid` as for `TSSslSessionGet`; `buffer` is null or has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionInsertBuffer(
    sessionid: *const TSSslSessionID,
    buffer: *const c_char,
    len: c_int,
) -> TSReturnCode {
    const NAME: &str = "TSSslSessionInsertBuffer";
    enter("TSSslSessionInsertBuffer", |library| {
        // SAFETY: passed on to the caller.
        let (id, der) = unsafe { (read_id(NAME, sessionid), bytes(buffer, len)) };
        match id {
            Some(id) => stored(NAME, tls::store_der(library, &id, der)),
            None => {
                library.stats.count(Counter::RefusedInvalid);
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Puts the ticket keys of a file in force, with the same rules as for
/// TSSslTicketKeyUpdate. With a NULL path it is the file
/// that proxy.config.ssl.server.ticket_key.filename names, in the folder
/// proxy.config.ssl.server.cert.path if the name is relative; the first attach
/// reads that file too.
///
/// The file is a run of 48-byte keys. A file whose length is a multiple of 80 and not
/// of 48 has the 80-byte keys of nginx: 16 bytes name, 32 bytes HMAC-SHA256 secret, 32
/// bytes AES-256-CBC key. A file of lines of base64 has the keys of HAProxy, all of
/// 48 or all of 80 bytes, of which the last but one encrypts: 16 bytes name, 16 or 32
/// bytes AES-CBC key, 16 or 32 bytes HMAC-SHA256 secret. Other lines of text are refused.
///
/// The most recent update wins, from a file or by TSSslTicketKeyUpdate. A file
/// that has not changed since it was read never brings old keys back: the keys in
/// force stay, and the result is TS_SUCCESS. To return to its keys, touch it.
///
/// The result is TS_ERROR, an error is logged and the keys in force stay when no
/// file is configured, it cannot be read or is not a regular file, or its content
/// is refused. A file that others than its owner may read or write earns a
/// warning. Any thread may call it at any time.
///
/// # Safety
/// `path` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslTicketKeyFileLoad(path: *const c_char) -> TSReturnCode {
    enter("TSSslTicketKeyFileLoad", |library| {
        // SAFETY: passed on to the caller.
        let path = unsafe { text(path) };
        if path.is_some_and(OsStr::is_empty) {
            log::error!(target: "ssl_session_ticket", "TSSslTicketKeyFileLoad: the path is empty; the keys in force stay");
            return TSReturnCode::TS_ERROR;
        }
        match library.load_ticket_keys(path.map(Path::new)) {
            Ok(()) => TSReturnCode::TS_SUCCESS,
            Err(error) => {
                log::error!(target: "ssl_session_ticket", "TSSslTicketKeyFileLoad: {error}; the keys in force stay");
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Forgets every session, wipes it and gives its memory back. Ticket keys stay.
///
/// Call it when sessions may no longer be trusted, for example after the rules
/// for client certificates have changed. Any thread may call it at any time.
#[unsafe(no_mangle)]
pub extern "C" fn TSSslSessionCacheClear() {
    enter("TSSslSessionCacheClear", |library| library.clear());
}

/// Returns the version of the library at run time.
///
/// It can differ from TSSESSION_VERSION, the version of the header that the caller was
/// compiled with. The string is valid forever, and is not the caller's to free. Any thread may
/// call it at any time.
#[unsafe(no_mangle)]
pub extern "C" fn TSSslSessionCacheVersion() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

impl From<&SessionId> for TSSslSessionID {
    fn from(id: &SessionId) -> Self {
        let from = id.as_bytes();
        let mut bytes = [0; crate::id::MAX_LEN];
        for (to, from) in bytes.iter_mut().zip(from) {
            *to = *from as c_char;
        }
        let len = from.len();
        Self { len, bytes }
    }
}

fn hook_key(func: TSEventFunc, contp: TSCont) -> Option<HookKey> {
    type Call = unsafe extern "C" fn(TSCont, TSEvent, *mut c_void) -> c_int;
    func.map(|func: Call| (func as usize, contp.addr()))
}

/// # Safety
/// `string` is null or a C string that lives as long as the result.
unsafe fn text<'a>(string: *const c_char) -> Option<&'a OsStr> {
    // SAFETY: passed on to the caller.
    let string = (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) })?;
    Some(OsStr::from_bytes(string.to_bytes()))
}
