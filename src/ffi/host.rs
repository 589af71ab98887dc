//! The functions for the owner of the `SSL_CTX`.
//!
//! The doc comments are the text of `<ts/ssl_session_cache.h>`.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use log::{Level, LevelFilter};
use tssession_common::boundary::Name;
use tssession_common::buffer::{Text, none_stored, write_text};
use tssession_common::metrics::Numbers;

use super::sessions::{bytes, read_id, stored};
use super::types::{TSCont, TSEvent, TSEventFunc, TSReturnCode, TSSslContext, TSSslSessionID};
use crate::base::alloc::boxed;
use crate::base::session_id::{MAX_LEN, SessionId};
use crate::instance::boundary::enter;
use crate::instance::settings::log_not_in_force;
use crate::report::counters::Counter;
use crate::report::hooks::{HookKey, SessionEvent};
use crate::report::log::{forget_function, set_function};
use crate::settings::table::{SetError, Setting, Source};
use crate::tls::{self, AttachError};

/// The level of a line about a failure.
pub const TS_SSL_SESSION_CACHE_LOG_ERROR: c_int = 1;
/// The level of a line about something that was done, but not as requested.
pub const TS_SSL_SESSION_CACHE_LOG_WARNING: c_int = 2;
/// The level of a line about normal operation. Only these lines name session IDs, in hex, and the
/// answer to the order "remove" of a Traffic Server's operator.
pub const TS_SSL_SESSION_CACHE_LOG_DEBUG: c_int = 3;

/// A function that receives the library's log lines. tag is as in ATS, for example
/// "ssl.session_cache.insert"; line has no line break. Both are valid during the call.
pub type TSSslSessionCacheLogFunc = Option<
    unsafe extern "C" fn(contp: TSCont, level: c_int, tag: *const c_char, line: *const c_char),
>;

/// Attaches an SSL_CTX to the session cache and to the ticket keys.
///
/// ctx is a server's context: sessions that it makes as a client are not cached. The function
/// sets its session callbacks, session cache mode, timeout, ticket-key callback and
/// session-ticket callbacks as the current settings say. A timeout of more than 7 days
/// (SSL_CTX_set_timeout) becomes 7 days. Attaching a context again applies the settings again:
/// settings that the host changed in the meantime are kept unless a library setting overrides
/// them.
///
/// All attached contexts share the cache and the ticket keys. Only the session ID context keeps
/// their sessions apart, and the host sets it (SSL_CTX_set_session_id_context): contexts that
/// ask for client certificates must have one, and contexts with different rules for clients
/// must have different ones. If such contexts share one, a connection that requires a client
/// certificate (SSL_VERIFY_PEER and SSL_VERIFY_FAIL_IF_NO_PEER_CERT when it looks for the
/// session) does not resume a session that has none, by ID or by ticket. A connection that
/// verifies certificates (SSL_VERIFY_PEER) verifies that of the session again, by its own rules
/// but without its verify callback; if the result differs from that of the full handshake, it
/// does not resume it. A session does not have the intermediate certificates that the client sent:
/// they must be in the store too.
///
/// OpenSSL does not report the session-ticket callbacks of a context. A host that has its own
/// (SSL_CTX_set_session_ticket_cb) sets them after attaching; attaching again keeps them. Such
/// callbacks must refuse sessions without a required client certificate.
///
/// A host that has its own ticket keys keeps them by setting tssession.session_ticket.mode to 0
/// (TSSslSessionCacheConfigSet) before attaching. The ticket-key callback, the session-ticket
/// callbacks, the number of tickets and SSL_OP_NO_TICKET then stay as they are. The host itself
/// must then refuse sessions in tickets, and TSSslTicketKeyUpdate does not affect this context.
/// If a context is attached again after the mode has become 0, the ticket callbacks that the
/// library had set become NULL.
///
/// # Returns
/// TS_SUCCESS if the context is attached, otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if ctx is NULL or belongs to another OpenSSL than the library's, there is no memory,
/// or the process is ending. An error is logged.
///
/// # Threads
/// Other threads must not use ctx during the call: attach it before connections use it. OpenSSL
/// does not protect a context against changes while it is in use. The host still owns ctx.
///
/// # Source
/// RFC 8446, 4.6.1, for the 7 days.
///
/// # Safety
/// `ctx` is null or a live `SSL_CTX` that no other thread uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheAttach(ctx: TSSslContext) -> TSReturnCode {
    enter(|instance, function| {
        if ctx.is_null() {
            log::error!(target: "ssl.session_cache", "{function}: ctx is NULL; nothing is attached");
            return TSReturnCode::TS_ERROR;
        }
        // SAFETY: passed on to the caller.
        attached(function, unsafe { tls::attach(instance, ctx.cast()) })
    })
}

/// Detaches an SSL_CTX from the session cache and from the ticket keys.
///
/// The session callbacks, modes and numbers of ctx become what they were before
/// TSSslSessionCacheAttach, or what the host has set since. If the library served its tickets
/// (tssession.session_ticket.mode), the ticket-key callback and the session-ticket callbacks
/// become NULL, because OpenSSL does not report what they were. A context that is not attached
/// is left unchanged.
///
/// # Returns
/// TS_SUCCESS if the context is not attached when the call returns, otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if ctx is NULL or belongs to another OpenSSL than the library's. An error is logged.
///
/// # Threads
/// Other threads must not use ctx during the call. The host still owns ctx. It need not detach a
/// context before SSL_CTX_free.
///
/// # Safety
/// As for `TSSslSessionCacheAttach`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheDetach(ctx: TSSslContext) -> TSReturnCode {
    enter(|_, function| {
        if ctx.is_null() {
            log::error!(target: "ssl.session_cache", "{function}: ctx is NULL; nothing is detached");
            return TSReturnCode::TS_ERROR;
        }
        // SAFETY: passed on to the caller.
        attached(function, unsafe { tls::detach(ctx.cast()) })
    })
}

/// Changes one setting.
///
/// name is the name of an ATS record, for example "proxy.config.ssl.session_cache.size"; value
/// is its text, for example "4096". tssession(3) lists all settings. A number can end in K, M,
/// G or T.
///
/// The setting is active when the call returns. But a setting that shapes a context (tickets,
/// modes) becomes active for a context when that is next attached. A cache that is made smaller
/// keeps as many sessions as fit; a cache that is switched off discards all. The number of
/// shards (proxy.config.ssl.session_cache.num_buckets) is fixed once the cache is in use.
///
/// The environment overrides this call, and this call overrides a file
/// (TSSslSessionCacheConfigLoad). If an environment variable sets the same record, its value
/// stays active and a warning is logged.
///
/// # Returns
/// TS_SUCCESS if the setting is accepted, even if the environment overrides it; otherwise
/// TS_ERROR.
///
/// # Errors
/// TS_ERROR if there is no such setting, the value is not valid, an argument is NULL, or there is
/// no memory. An error is logged and nothing changes.
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Safety
/// `name` and `value` are null or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheConfigSet(
    name: *const c_char,
    value: *const c_char,
) -> TSReturnCode {
    enter(|instance, function| {
        // SAFETY: passed on to the caller.
        let (name, value) = unsafe { (text(name), text(value)) };
        let (Some(name), Some(value)) = (name, value) else {
            log::error!(target: "ssl.session_cache", "{function}: name or value is NULL; the settings are unchanged");
            return TSReturnCode::TS_ERROR;
        };
        let parsed = name.to_str().ok_or(SetError::UnknownName);
        let name = name.display();
        match parsed.and_then(|name| Setting::parse(name, value)) {
            Ok(setting) => {
                let notes = instance.set([setting], Source::Call);
                log_not_in_force(function, &notes, Level::Warn);
                log::debug!(target: "ssl.session_cache", "{function}: {name}: set to {}", value.display());
                TSReturnCode::TS_SUCCESS
            }
            Err(error) => {
                log::error!(target: "ssl.session_cache", "{function}: {name} {}: {error}; the settings are unchanged", value.display());
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Loads the settings in a file of ATS records.
///
/// path names the file. If it ends in .yaml or .yml, the file has nested maps under "records:"
/// (ATS 10 and later), otherwise lines as in records.config (ATS 9 and earlier). The library's
/// own records, for example "tssession.session_cache.max_bytes", are written in the same way; in
/// YAML as nested maps at the top level or under "records:". Unknown records are skipped; a
/// warning is logged for one that begins with "tssession.".
///
/// Either all settings in the file become active, as with TSSslSessionCacheConfigSet, or none.
/// Settings made by the environment or by TSSslSessionCacheConfigSet stay. A record that is no
/// longer in the file keeps its value. If two files are read at the same time, the one that was
/// opened later wins.
///
/// To reload a file that has changed, load it again: all sessions that fit are kept. Ticket
/// keys are not read; call TSSslTicketKeyFileLoad(NULL) for them.
///
/// # Returns
/// TS_SUCCESS if the settings in the file are accepted, otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if path is NULL or empty, the file cannot be read, is not a regular file, is larger
/// than 1 MiB or is not in the format that its name says, a value is not valid, or there is no
/// memory. An error that names the file, the line and the record is logged, and nothing changes.
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Safety
/// `path` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheConfigLoad(path: *const c_char) -> TSReturnCode {
    enter(|instance, function| {
        // SAFETY: passed on to the caller.
        let Some(path) = (unsafe { text(path) }) else {
            log::error!(target: "ssl.session_cache", "{function}: path is NULL; the settings are unchanged");
            return TSReturnCode::TS_ERROR;
        };
        if path.is_empty() {
            log::error!(target: "ssl.session_cache", "{function}: path is empty; the settings are unchanged");
            return TSReturnCode::TS_ERROR;
        }
        let path = Path::new(path);
        match instance.load_records(path) {
            Ok(loaded) => {
                loaded.log(function, path);
                TSReturnCode::TS_SUCCESS
            }
            Err(error) => {
                log::error!(target: "ssl.session_cache", "{function}: {}{error}; the settings are unchanged", path.display());
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Sends the library's log lines to a function of the host.
///
/// From now on func(contp, level, tag, line) is called for each line of the given level
/// (TS_SSL_SESSION_CACHE_LOG_ERROR, _WARNING or _DEBUG) or a more severe one. If func is NULL,
/// errors and warnings go to stderr again.
///
/// func is not called if the process exports TSError, as traffic_server does: all lines then go
/// to TSError, TSWarning and TSDebug. Nor is it called in a Rust program that has its own
/// logger: all lines then go to that logger. In all cases, errors and warnings of one kind are
/// limited to a burst of 100 and then one a second.
///
/// # Returns
/// TS_SUCCESS if the function is set, otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if level is not one of the three or there is no memory. An error is logged and
/// nothing changes.
///
/// # Threads
/// Any thread can call it at any time. func is called on the thread that logs, which waits for
/// it. No lock is held: func can call every function of the library, and the lines that this
/// causes go to stderr. A C++ exception, pthread_exit or the cancellation of the thread must
/// not leave func. When func is replaced, a call in progress on another thread continues.
///
/// # Safety
/// `func` can be called with `contp` from any thread until it is replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheLogSet(
    func: TSSslSessionCacheLogFunc,
    contp: TSCont,
    level: c_int,
) -> TSReturnCode {
    enter(|_, function| {
        let wanted = match level {
            TS_SSL_SESSION_CACHE_LOG_ERROR => LevelFilter::Error,
            TS_SSL_SESSION_CACHE_LOG_WARNING => LevelFilter::Warn,
            TS_SSL_SESSION_CACHE_LOG_DEBUG => LevelFilter::Debug,
            _ => {
                log::error!(target: "ssl.session_cache", "{function}: the level is {level}; it must be 1 (errors) to 3 (debug lines); the log function is unchanged");
                return TSReturnCode::TS_ERROR;
            }
        };
        let Some(func) = func else {
            forget_function();
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
            // SAFETY: the caller that set the function vouches for it and for `contp`; the
            // strings live until the call is over.
            unsafe { func(contp, level, tag.as_ptr(), line.as_ptr()) };
        });
        match call.and_then(|call| set_function(call, wanted)) {
            Ok(()) => TSReturnCode::TS_SUCCESS,
            Err(error) => {
                log::error!(target: "ssl.session_cache", "{function}: {error}; the log function is unchanged");
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Reads one counter.
///
/// name is the name of an ATS metric, for example "proxy.process.ssl.ssl_session_cache_hit".
/// tssession(3) lists all counters. If a counter is divided by cause or age, each part can be
/// read too, for example "proxy.process.ssl.ssl_session_cache_miss.expired".
///
/// # Returns
/// TS_SUCCESS, with the count in *value; otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if there is no such counter or an argument is NULL. An error is logged and *value
/// stays as it is.
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Safety
/// `name` is null or a C string; `value` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheStatGet(
    name: *const c_char,
    value: *mut i64,
) -> TSReturnCode {
    enter(|instance, function| {
        // SAFETY: passed on to the caller.
        let name = unsafe { text(name) };
        let (Some(name), false) = (name, value.is_null()) else {
            log::error!(target: "ssl.session_cache", "{function}: name or value is NULL; no counter is read");
            return TSReturnCode::TS_ERROR;
        };
        let Some(stat) = name.to_str().and_then(|name| instance.stat(name)) else {
            let name = name.display();
            log::error!(target: "ssl.session_cache", "{function}: {name}: there is no such counter");
            return TSReturnCode::TS_ERROR;
        };
        // SAFETY: passed on to the caller.
        unsafe { value.write_unaligned(i64::try_from(stat).unwrap_or(i64::MAX)) };
        TSReturnCode::TS_SUCCESS
    })
}

/// Writes all counters as text in the format of Prometheus.
///
/// On entry *len_ptr is the space in buffer, in bytes; on return it is the number of bytes
/// stored. Text that does not fit is truncated; there is no NUL at its end. If buffer is NULL or
/// the space is 0 or less, nothing is stored and *len_ptr becomes 0. Each counter has its name
/// with "_" for ".", and its parts have a label.
///
/// # Returns
/// The size of the whole text in bytes. If it is greater than *len_ptr, the text was truncated.
/// The text can grow between a call that asks for its size and the next one.
///
/// # Errors
/// 0 if len_ptr is NULL. An error is logged.
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Source
/// Text-based format of Prometheus, version 0.0.4.
///
/// # Safety
/// `buffer` is null or has `*len_ptr` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheStatsText(
    buffer: *mut c_char,
    len_ptr: *mut c_int,
) -> c_int {
    let needed = enter(|instance, function| {
        if len_ptr.is_null() {
            log::error!(target: "ssl.session_cache", "{function}: len_ptr is NULL; nothing is written");
            return 0;
        }
        // SAFETY: passed on to the caller.
        unsafe { write_text(buffer, len_ptr, |text| instance.write_stats(text)) }
    });
    // SAFETY: passed on to the caller.
    unsafe { none_stored(len_ptr, needed) }
}

/// Adds a hook, a function that is called when handshakes use the cache.
///
/// func(contp, event, id) is called after a handshake through an attached context has stored a
/// session (TS_EVENT_SSL_SESSION_NEW) or fetched one (TS_EVENT_SSL_SESSION_GET). It is also
/// called after a session was removed (TS_EVENT_SSL_SESSION_REMOVE): because its connection
/// failed, because it can be used only once and was used, or because the operator of a Traffic
/// Server ordered it (also if this process does not have the session). id is a
/// TSSslSessionID * that is valid during the call.
///
/// There is no TS_EVENT_SSL_SESSION_NEW for a session that may carry early data: it is used once,
/// in this process, and must not be copied to others.
///
/// A call of the library's functions calls no hook, so func can insert and remove sessions without
/// being called again. Adding the same func and contp again changes nothing.
///
/// # Returns
/// TS_SUCCESS if the hook is set, otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if func is NULL or there is no memory. An error is logged.
///
/// # Threads
/// Any thread can call it at any time. func is called on the thread of the handshake (or of the
/// operator's order), which waits for it. No lock is held: func can call every function of the
/// library. A C++ exception, pthread_exit or the cancellation of the thread must not leave func.
///
/// # Safety
/// `func` can be called with `contp` from any thread until the hook is removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionHookAdd(func: TSEventFunc, contp: TSCont) -> TSReturnCode {
    enter(|instance, function| {
        let (Some(call), Some(key)) = (func, hook_key(func, contp)) else {
            log::error!(target: "ssl.session_cache", "{function}: func is NULL; no hook is added");
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
            // SAFETY: the caller that added the hook vouches for the function and `contp`;
            // `id` lives until the call is over.
            unsafe { call(std::ptr::with_exposed_provenance_mut(contp), event, id) };
        };
        match boxed(call).and_then(|call| instance.hooks.add(key, call)) {
            Ok(()) => TSReturnCode::TS_SUCCESS,
            Err(error) => {
                log::error!(target: "ssl.session_cache", "{function}: {error}; no hook is added");
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Removes a hook.
///
/// func and contp are those that were given to TSSslSessionHookAdd.
///
/// # Returns
/// TS_SUCCESS if the hook is removed, otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if there is no such hook. An error is logged.
///
/// # Threads
/// Any thread can call it at any time, func included. A call of func that is in progress on
/// another thread continues, and one that is about to begin there can begin after this function
/// has returned: wait for the connections to end before unloading func.
///
/// # Safety
/// None: the arguments are only compared.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionHookRemove(func: TSEventFunc, contp: TSCont) -> TSReturnCode {
    enter(|instance, function| match hook_key(func, contp) {
        Some(key) if instance.hooks.remove(key) => TSReturnCode::TS_SUCCESS,
        _ => {
            log::error!(target: "ssl.session_cache", "{function}: there is no such hook; nothing is removed");
            TSReturnCode::TS_ERROR
        }
    })
}

/// Inserts a session into the cache from its DER bytes.
///
/// sessionid is the key. buffer has the len bytes that TSSslSessionGetBuffer stored, in this
/// process or another. In all else the function does what TSSslSessionInsert does.
///
/// # Returns
/// TS_SUCCESS if the session is stored, otherwise TS_ERROR.
///
/// # Errors
/// As for TSSslSessionInsert. TS_ERROR also if buffer is NULL or its len bytes are not exactly
/// one whole session; a warning is logged.
///
/// # Threads
/// Any thread can call it at any time. The ID and the bytes are copied.
///
/// # Safety
/// `sessionid` as for `TSSslSessionGet`; `buffer` is null or has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionInsertBuffer(
    sessionid: *const TSSslSessionID,
    buffer: *const c_char,
    len: c_int,
) -> TSReturnCode {
    enter(|instance, function| {
        // SAFETY: passed on to the caller.
        let (id, der) = unsafe { (read_id(function, sessionid), bytes(buffer, len)) };
        match id {
            Some(id) => stored(function, tls::store_der(instance, &id, der)),
            None => {
                instance.stats.count(Counter::RefusedInvalid);
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Replaces the session-ticket keys by those in a file.
///
/// path names the file. If it is NULL, proxy.config.ssl.server.ticket_key.filename names it; a
/// relative name is resolved against the directory proxy.config.ssl.server.cert.path. The first
/// attach reads that file too. The rules for the keys are those of TSSslTicketKeyUpdate.
///
/// The file is a sequence of 48-byte keys. If its length is a multiple of 80 and not of 48, it
/// has the 80-byte keys of nginx: 16 bytes name, 32 bytes HMAC-SHA256 secret, 32 bytes
/// AES-256-CBC key. If it has lines of base64, they are the keys of HAProxy, all of 48 or all
/// of 80 bytes: 16 bytes name, 16 or 32 bytes AES-CBC key, 16 or 32 bytes HMAC-SHA256 secret;
/// the last but one encrypts. Other text (with line breaks, in UTF-16, hexadecimal, PEM) is
/// refused whatever its length, and so are keys that a line break follows; a byte order mark is
/// skipped. If users other than its owner can read or write the file, a warning is logged. A
/// debug line says how many keys are active, and in which layout.
///
/// The most recent update wins, whether from a file or from TSSslTicketKeyUpdate. Reading the
/// last file again changes nothing unless the file has changed: the active keys stay, even if
/// they have come from TSSslTicketKeyUpdate since. To return to the keys of the file, touch it.
/// If two files are read at the same time, the one that was opened later wins.
///
/// # Returns
/// TS_SUCCESS if the keys in the file are active or the file has not changed, otherwise
/// TS_ERROR.
///
/// # Errors
/// TS_ERROR if path is empty, no file is configured, the file cannot be read, is not a regular
/// file or is larger than 1 MiB, its content is refused, or there is no memory. An error is
/// logged and the old keys stay active.
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Safety
/// `path` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslTicketKeyFileLoad(path: *const c_char) -> TSReturnCode {
    enter(|instance, function| {
        // SAFETY: passed on to the caller.
        let path = unsafe { text(path) };
        if path.is_some_and(OsStr::is_empty) {
            log::error!(target: "ssl_session_ticket", "{function}: path is empty; the active keys are unchanged");
            return TSReturnCode::TS_ERROR;
        }
        match instance.keys.load(path.map(Path::new)) {
            Ok(()) => TSReturnCode::TS_SUCCESS,
            Err(error) => {
                log::error!(target: "ssl_session_ticket", "{function}: {error}; the active keys are unchanged");
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// Makes a new random session-ticket key, which encrypts from now on.
///
/// The keys that were active still decrypt. If there would be more than 200 keys, the oldest are
/// dropped. Only this process has the new key. If several processes or machines share ticket keys,
/// give all of them the same set with TSSslTicketKeyUpdate instead, or call
/// TSSslSessionFarmRotate.
///
/// # Returns
/// TS_SUCCESS if the new key is active, otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if OpenSSL has no random bytes or there is no memory. An error is logged and the old
/// keys stay active.
///
/// # Threads
/// Any thread can call it at any time. After two calls at the same time, both new keys are active.
#[unsafe(no_mangle)]
pub extern "C" fn TSSslTicketKeyRotate() -> TSReturnCode {
    enter(
        |instance, function| match tls::rotate_ticket_keys(instance) {
            Some(Ok(_)) => TSReturnCode::TS_SUCCESS,
            Some(Err(error)) => {
                log::error!(target: "ssl_session_ticket", "{function}: {error}; the active keys are unchanged");
                TSReturnCode::TS_ERROR
            }
            None => TSReturnCode::TS_ERROR,
        },
    )
}

/// Writes all settings as text.
///
/// On entry *len_ptr is the space in buffer, in bytes; on return it is the number of bytes
/// stored. Text that does not fit is truncated; there is no NUL at its end. If buffer is NULL or
/// the space is 0 or less, nothing is stored and *len_ptr becomes 0.
///
/// Each setting has a line: its name, its value, and its source in brackets, for example
/// "proxy.config.ssl.session_cache.size 102400 (default)". The source is default, file
/// (TSSslSessionCacheConfigLoad), call (TSSslSessionCacheConfigSet), environment or
/// plugin.config. A setting without a value is written as NULL.
///
/// # Returns
/// The size of the whole text in bytes. If it is greater than *len_ptr, the text was truncated.
///
/// # Errors
/// 0 if len_ptr is NULL. An error is logged.
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Safety
/// `buffer` is null or has `*len_ptr` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionCacheConfigText(
    buffer: *mut c_char,
    len_ptr: *mut c_int,
) -> c_int {
    let needed = enter(|instance, function| {
        if len_ptr.is_null() {
            log::error!(target: "ssl.session_cache", "{function}: len_ptr is NULL; nothing is written");
            return 0;
        }
        let write = |text: &mut Text<'_>| {
            let mut result = Ok(());
            instance.config.each(|name, value, source| {
                let mut line = OneLine(text);
                result = result
                    .and_then(|()| write!(line, "{name} {value} ({source})"))
                    .and_then(|()| text.write_str("\n"));
            });
            result
        };
        // SAFETY: passed on to the caller.
        unsafe { write_text(buffer, len_ptr, write) }
    });
    // SAFETY: passed on to the caller.
    unsafe { none_stored(len_ptr, needed) }
}

/// Discards all sessions: wipes them and frees their memory.
///
/// Call it when sessions must no longer be trusted, for example after the rules for client
/// certificates have changed. The ticket keys stay active, and tickets stay valid.
///
/// # Returns
/// Nothing.
///
/// # Errors
/// None.
///
/// # Threads
/// Any thread can call it at any time.
#[unsafe(no_mangle)]
pub extern "C" fn TSSslSessionCacheClear() {
    enter(|instance, _| instance.sessions.clear());
}

/// Reports the version of the library at run time.
///
/// It can differ from TSSESSION_VERSION, the version of the header that the caller was compiled
/// with.
///
/// # Returns
/// A string, for example "0.1.0". It is valid forever; the caller does not free it.
///
/// # Errors
/// None.
///
/// # Threads
/// Any thread can call it at any time.
#[unsafe(no_mangle)]
pub extern "C" fn TSSslSessionCacheVersion() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

impl From<&SessionId> for TSSslSessionID {
    fn from(id: &SessionId) -> Self {
        let from = id.as_bytes();
        let mut bytes = [0; MAX_LEN];
        for (to, from) in bytes.iter_mut().zip(from) {
            *to = *from as c_char;
        }
        let len = from.len();
        Self { len, bytes }
    }
}

/// Writes text with a space for each line break or other control character: a path can have them.
struct OneLine<'a, 'b>(&'a mut Text<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|char| {
            self.0
                .write_char(if char.is_control() { ' ' } else { char })
        })
    }
}

/// Returns the result of attaching or detaching for C, and logs an error.
fn attached(function: Name, result: Result<(), AttachError>) -> TSReturnCode {
    if let Err(error) = result {
        log::error!(target: "ssl.session_cache", "{function}: {error}; ctx is unchanged");
    }
    result.is_ok().into()
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
