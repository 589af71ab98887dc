//! Links a session with the connection that has made or resumed it, as long as that is alive. The
//! connection shows whether a client has only hung up, and keeps its session, or whether something
//! else ends the session.
//!
//! # Invariants
//!
//! 1. A connection has at most one link, and each of its sessions has a reference to it.
//! 2. [`Link::connection`] is null as soon as OpenSSL begins to free the connection, and is used only
//!    while its lock is held: so what it points to is alive. If a panic prevented that, or the lock
//!    could not be had ([`LOST`]), no link is used any more.
//! 3. The lock is held by the link's own thread, or for one store by the thread that frees the
//!    connection. In a forked child it may be held forever: the thread that frees waits only for a
//!    moment.

use std::ffi::{CStr, c_int, c_long, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{ptr, slice};

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslSessionRef, SslVersion};
use openssl_sys as ffi;
use openssl_sys::SSL;
use smallvec::SmallVec;

use super::bindings::{
    BIO_CTRL_EOF, BIO_FLAGS_SHOULD_RETRY, BIO_test_flags, CRYPTO_EX_INDEX_SSL,
    CRYPTO_EX_INDEX_SSL_SESSION, ERR_LIB_SSL, SSL_R_UNEXPECTED_EOF_WHILE_READING,
    SSL_SESSION_get_ex_data, SSL_SESSION_get0_id_context, SSL_SESSION_set_ex_data,
    SSL_state_string,
};
use super::ex_data::{forget_in_copy, new_index};
use super::visit::Visit;
use crate::base::alloc::Shared;
use crate::base::once::{Once, try_make_once};
use crate::base::spin::{Patience, lock_by_trying, try_lock};
use crate::instance::Instance;
use crate::instance::boundary::guard;
use crate::report::counters::Counter;

struct Link {
    connection: Mutex<Connection>,
    /// The thread of the handshake.
    thread: libc::pthread_t,
}

struct Connection {
    ssl: *const SSL,
    /// The session ID context of the session that was given to it.
    found: Option<IdContext>,
}

/// A session ID context. OpenSSL resumes a session only under the context that it was made under. It
/// does not report which one a connection has, but the session that a full handshake makes has it.
#[derive(PartialEq, Eq)]
struct IdContext(SmallVec<[u8; 32]>);

impl IdContext {
    fn of(session: &SslSessionRef) -> Self {
        let mut len = 0;
        // SAFETY: the session is live, and so are the `len` bytes that it has there.
        let bytes = unsafe {
            let bytes = SSL_SESSION_get0_id_context(session.as_ptr(), &mut len);
            slice::from_raw_parts(bytes, len as usize)
        };
        Self(SmallVec::from_slice(bytes))
    }
}

// SAFETY: the pointer is used only as invariant 2 says.
unsafe impl Send for Connection {}

/// Longer than a running thread holds the lock, except in a slow BIO of the host's.
const PATIENCE: Duration = Duration::from_millis(10);

/// A link may point to a connection that does not exist any more.
static LOST: AtomicBool = AtomicBool::new(false);

/// Links a session with the connection that has made or resumed it. If there is no memory for that, a
/// client that hangs up loses the session.
///
/// # Safety
/// `ssl` is a live connection, and this thread is in a callback of it.
pub unsafe fn link(ssl: *mut SSL, session: &SslSessionRef) {
    let (Some(of_connection), Some(of_session)) = (connection_index(), session_index()) else {
        return;
    };
    // SAFETY: the caller vouches for `ssl`, and the session is live. What is stored under the indexes
    // is null or a reference of ours, which is released once.
    unsafe {
        if !may_hang_up(ssl, session) {
            return;
        }
        let Some(visit) = Visit::begin() else {
            return;
        };
        let known = borrow(ffi::SSL_get_ex_data(ssl, of_connection));
        let link = match known.filter(|link| !lock_by_trying(&link.connection).ssl.is_null()) {
            Some(link) => link,
            None => {
                let Ok(link) = Shared::new(Link {
                    connection: Mutex::new(Connection { ssl, found: None }),
                    thread: libc::pthread_self(),
                }) else {
                    return;
                };
                let before = ffi::SSL_get_ex_data(ssl, of_connection);
                let stored = link.clone().into_raw();
                if ffi::SSL_set_ex_data(ssl, of_connection, stored) != 1 {
                    give_back(stored);
                    return;
                }
                give_back(before);
                link
            }
        };
        let before = SSL_SESSION_get_ex_data(session.as_ptr(), of_session);
        let stored = link.into_raw();
        if SSL_SESSION_set_ex_data(session.as_ptr(), of_session, stored) == 1 {
            give_back(before);
            visit.end_in_success();
        } else {
            give_back(stored);
        }
    }
}

/// Notes that a linked connection is given this session.
///
/// # Safety
/// As for [`link`].
pub unsafe fn note_found(ssl: *const SSL, session: &SslSessionRef) {
    // SAFETY: passed on to the caller.
    if let Some(link) = unsafe { of_connection(ssl) } {
        lock_by_trying(&link.connection).found = Some(IdContext::of(session));
    }
}

/// Counts that OpenSSL refused the session that a connection was given, because of its session ID
/// context: `session`, which the connection has made instead, has another one. Once for each session
/// that was given.
///
/// # Safety
/// As for [`link`].
pub unsafe fn count_other_context(instance: &Instance, ssl: *const SSL, session: &SslSessionRef) {
    // SAFETY: passed on to the caller.
    let found = unsafe { of_connection(ssl) }
        .and_then(|link| lock_by_trying(&link.connection).found.take());
    if found.is_some_and(|found| found != IdContext::of(session)) {
        instance.stats.count(Counter::OtherIdContext);
        log::debug!(target: "ssl.session_cache.get", "the session has another session ID context than the connection; full handshake");
    }
}

/// # Safety
/// As for [`link`].
unsafe fn of_connection(ssl: *const SSL) -> Option<Shared<Link>> {
    let index = connection_index()?;
    // SAFETY: the caller vouches for `ssl`; what is stored under the index is null or a reference
    // of ours.
    unsafe { borrow(ffi::SSL_get_ex_data(ssl, index)) }
}

/// Whether a client is allowed to close without close_notify and keep this session: from TLS 1.1 on
/// (RFC 5246, 7.2.1), and over a stream. QUIC and DTLS have separate version numbers here.
///
/// # Safety
/// `ssl` is a live connection.
unsafe fn may_hang_up(ssl: *const SSL, session: &SslSessionRef) -> bool {
    let versions = [SslVersion::TLS1_1, SslVersion::TLS1_2, SslVersion::TLS1_3];
    versions.contains(&session.protocol_version())
        // SAFETY: the caller vouches for `ssl`, and the session is live.
        && unsafe {
            ffi::SSL_version(ssl) == ffi::SSL_SESSION_get_protocol_version(session.as_ptr())
        }
}

/// Whether OpenSSL removes a session because the client closed the connection without a close_notify,
/// which is a fatal error from OpenSSL 3 on. The answer is yes at most once for each handshake: the
/// link ends then. If this is not certain, the answer is no.
///
/// OpenSSL queues the error and puts the connection into its error state before it removes the
/// session. From 4.0 on, system errors put it there too: only the BIO shows the difference.
pub fn client_hung_up(session: &SslSessionRef) -> bool {
    // SAFETY: reads this thread's error queue.
    let error = unsafe { ffi::ERR_peek_last_error() };
    if ffi::ERR_GET_LIB(error) != ERR_LIB_SSL
        || ffi::ERR_GET_REASON(error) != SSL_R_UNEXPECTED_EOF_WHILE_READING
    {
        return false;
    }
    let (Some(index), Some(_visit)) = (session_index(), Visit::begin()) else {
        return false;
    };
    // SAFETY: the session is live; what is stored under the index is null or a reference of
    // ours. The thread is this one, so it is alive.
    let link = unsafe { borrow(SSL_SESSION_get_ex_data(session.as_ptr(), index)) };
    // SAFETY: takes nothing.
    let this_thread = unsafe { libc::pthread_self() };
    let Some(link) = link.filter(|link| link.thread == this_thread) else {
        return false;
    };
    let Some(mut connection) = try_lock(&link.connection) else {
        return false;
    };
    let is_alive = !connection.ssl.is_null() && !LOST.load(Ordering::Acquire);
    // SAFETY: invariant 2; the connection is this thread's.
    let hung_up = is_alive && unsafe { is_at_its_end(connection.ssl, session) };
    if hung_up {
        connection.ssl = ptr::null();
    }
    hung_up
}

/// # Safety
/// `ssl` is a live connection of this thread.
unsafe fn is_at_its_end(ssl: *const SSL, session: &SslSessionRef) -> bool {
    // SAFETY: the caller vouches for `ssl`; the state is a static string, and a BIO that the
    // connection has is live.
    unsafe {
        let bio = ffi::SSL_get_rbio(ssl);
        ffi::SSL_get_session(ssl) == session.as_ptr()
            && CStr::from_ptr(SSL_state_string(ssl)) == c"SSLERR"
            && ffi::SSL_get_shutdown(ssl) == 0
            && !bio.is_null()
            && ffi::BIO_ctrl(bio, BIO_CTRL_EOF, 0, ptr::null_mut()) == 1
            && BIO_test_flags(bio, BIO_FLAGS_SHOULD_RETRY) == 0
    }
}

/// # Safety
/// `stored` is null or a reference that is stored somewhere and stays there during the call.
unsafe fn borrow(stored: *mut c_void) -> Option<Shared<Link>> {
    // SAFETY: passed on to the caller.
    (!stored.is_null()).then(|| unsafe { Shared::from_borrowed(stored) })
}

/// # Safety
/// `stored` is null or a reference that is not stored anywhere any more.
unsafe fn give_back(stored: *mut c_void) {
    if !stored.is_null() {
        // SAFETY: passed on to the caller.
        drop(unsafe { Shared::<Link>::from_raw(stored) });
    }
}

fn connection_index() -> Option<c_int> {
    static INDEX: Once<c_int> = Once::new();
    let index = try_make_once(&INDEX, || {
        // SAFETY: the functions are of the types asked for and stay in memory.
        unsafe {
            new_index(
                CRYPTO_EX_INDEX_SSL,
                Some(forget_in_copy),
                Some(connection_ends),
            )
        }
    });
    index.copied()
}

fn session_index() -> Option<c_int> {
    static INDEX: Once<c_int> = Once::new();
    let index = try_make_once(&INDEX, || {
        // SAFETY: as above.
        unsafe {
            new_index(
                CRYPTO_EX_INDEX_SSL_SESSION,
                Some(forget_in_copy),
                Some(session_ends),
            )
        }
    });
    index.copied()
}

/// Called by OpenSSL at the end of every connection.
unsafe extern "C" fn connection_ends(
    _ssl: *mut c_void,
    link: *mut c_void,
    _data: *mut ffi::CRYPTO_EX_DATA,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) {
    // Connections of other contexts have no link.
    if link.is_null() {
        return;
    }
    let done = guard(|| {
        // SAFETY: what is stored under our index is null or a reference, which ends here.
        unsafe {
            let lock = |of: &Link| {
                let mut connection =
                    Patience::of(PATIENCE).wait_for(|| try_lock(&of.connection))?;
                connection.ssl = ptr::null();
                Some(())
            };
            let done = borrow(link).is_none_or(|link| lock(&link).is_some());
            give_back(link);
            c_int::from(done)
        }
    });
    if done == 0 {
        LOST.store(true, Ordering::Release);
    }
}

/// Called by OpenSSL at the end of every session.
unsafe extern "C" fn session_ends(
    _session: *mut c_void,
    link: *mut c_void,
    _data: *mut ffi::CRYPTO_EX_DATA,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) {
    // This is called for every session, and nearly all have no link.
    if !link.is_null() {
        // SAFETY: as above.
        guard(|| unsafe { give_back(link) });
    }
}
