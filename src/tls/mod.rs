//! OpenSSL: the only place that knows it.

mod callbacks;
mod context;
mod session;
mod template;

pub use context::{
    AttachError, attach, detach, is_attached, is_openssl_of_process, of_new_connection,
};
pub use session::into_raw;

use std::error::Error;
use std::ffi::{c_char, c_int, c_long, c_uchar, c_uint, c_ulong, c_void};
use std::fmt;
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslSession, SslSessionRef, SslVersion};
use openssl_sys as ffi;
use openssl_sys::{
    CRYPTO_EX_DATA, EVP_CIPHER_CTX, EVP_MAC_CTX, OSSL_PARAM, SSL, SSL_CTX, SSL_SESSION, X509,
};
use zeroize::Zeroizing;

use crate::cache::Refused;
use crate::gate;
use crate::id::SessionId;
use crate::library::{Library, NotStored};
use crate::memory::NoMemory;
use crate::stats::Counter;
use crate::ticket::{KEY_LEN, KeyRing};
use session::Encoded;

/// The longest that a session may be resumed, in seconds, whatever it says itself: by its
/// ID (RFC 5246, F.1.4), and from TLS 1.3 on (RFC 8446, 4.6.1), which is also the
/// longest that a ticket may say.
const MOST_SECONDS: c_long = 24 * 3600;
const MOST_SECONDS_TLS13: c_long = 7 * 24 * 3600;

type NewSession = unsafe extern "C" fn(*mut SSL, *mut SSL_SESSION) -> c_int;
type GetSession =
    unsafe extern "C" fn(*mut SSL, *const c_uchar, c_int, *mut c_int) -> *mut SSL_SESSION;
type RemoveSession = unsafe extern "C" fn(*mut SSL_CTX, *mut SSL_SESSION);
type DecryptedTicket = unsafe extern "C" fn(
    *mut SSL,
    *mut SSL_SESSION,
    *const c_uchar,
    usize,
    c_int,
    *mut c_void,
) -> callbacks::TicketUse;
type TicketKeys = unsafe extern "C" fn(
    *mut SSL,
    *mut c_uchar,
    *mut c_uchar,
    *mut EVP_CIPHER_CTX,
    *mut EVP_MAC_CTX,
    c_int,
) -> c_int;

// What OpenSSL 3 has and openssl-sys does not declare.
unsafe extern "C" {
    fn ERR_peek_error() -> c_ulong;
    fn ERR_set_mark() -> c_int;
    fn ERR_pop_to_mark() -> c_int;
    fn OPENSSL_init_crypto(options: u64, settings: *const c_void) -> c_int;
    fn OPENSSL_atexit(handler: Option<extern "C" fn()>) -> c_int;
    fn ERR_peek_last_error_all(
        file: *mut *const c_char,
        line: *mut c_int,
        func: *mut *const c_char,
        data: *mut *const c_char,
        flags: *mut c_int,
    ) -> c_ulong;
    fn CRYPTO_clear_free(ptr: *mut c_void, len: usize, file: *const c_char, line: c_int);
    fn OSSL_PARAM_construct_utf8_string(
        key: *const c_char,
        buf: *mut c_char,
        bsize: usize,
    ) -> OSSL_PARAM;
    fn CRYPTO_set_ex_data(data: *mut CRYPTO_EX_DATA, index: c_int, value: *mut c_void) -> c_int;
    fn SSL_get_options(ssl: *const SSL) -> u64;
    fn SSL_SESSION_dup(session: *const SSL_SESSION) -> *mut SSL_SESSION;
    fn SSL_SESSION_get_ex_data(session: *const SSL_SESSION, index: c_int) -> *mut c_void;
    fn SSL_SESSION_set1_id(session: *mut SSL_SESSION, id: *const c_uchar, len: c_uint) -> c_int;
    fn SSL_SESSION_set_time(session: *mut SSL_SESSION, time: c_long) -> c_long;
    fn SSL_SESSION_set_timeout(session: *mut SSL_SESSION, timeout: c_long) -> c_long;
    fn SSL_SESSION_set1_master_key(
        session: *mut SSL_SESSION,
        key: *const c_uchar,
        len: usize,
    ) -> c_int;
    fn SSL_SESSION_set1_hostname(session: *mut SSL_SESSION, name: *const c_char) -> c_int;
    fn SSL_SESSION_get0_peer(session: *mut SSL_SESSION) -> *mut X509;
    fn SSL_SESSION_get0_id_context(session: *const SSL_SESSION, len: *mut c_uint)
    -> *const c_uchar;
    fn SSL_CTX_sess_get_new_cb(ctx: *mut SSL_CTX) -> Option<NewSession>;
    fn SSL_CTX_sess_get_get_cb(ctx: *mut SSL_CTX) -> Option<GetSession>;
    fn SSL_CTX_sess_get_remove_cb(ctx: *mut SSL_CTX) -> Option<RemoveSession>;
    fn SSL_CTX_get_timeout(ctx: *const SSL_CTX) -> c_long;
    fn SSL_CTX_set_timeout(ctx: *mut SSL_CTX, timeout: c_long) -> c_long;
    fn SSL_CTX_set_tlsext_ticket_key_evp_cb(
        ctx: *mut SSL_CTX,
        callback: Option<TicketKeys>,
    ) -> c_int;
    fn SSL_CTX_set_session_ticket_cb(
        ctx: *mut SSL_CTX,
        generate: Option<unsafe extern "C" fn(*mut SSL, *mut c_void) -> c_int>,
        decrypt: Option<DecryptedTicket>,
        arg: *mut c_void,
    ) -> c_int;
}

/// A visit to OpenSSL. At its end, what OpenSSL put on this thread's error queue
/// since is taken back: the queue is the caller's, whose next `SSL_get_error`
/// reads it. Meanwhile the process is not forked.
struct Visit {
    queue: Queue,
    _inside: gate::Inside,
}

/// This thread's error queue, and what is to be done about it.
#[derive(PartialEq, Eq)]
enum Queue {
    /// It was empty, as it nearly always is, and is to be so again.
    Empty,
    /// What was there is marked.
    Marked,
    /// It is as it was. OpenSSL takes its time to find the queue, so it pays to know that.
    Untouched,
}

impl Visit {
    fn begin() -> Self {
        let inside = gate::enter();
        // Without memory for it, the next visit tries again.
        template::expect_the_end();
        // SAFETY: touches this thread's error queue only.
        let queue = unsafe {
            match ERR_peek_error() {
                0 => Queue::Empty,
                _ => {
                    ERR_set_mark();
                    Queue::Marked
                }
            }
        };
        let visit = Self {
            queue,
            _inside: inside,
        };
        fault!("inside OpenSSL");
        visit
    }

    /// Ends a visit in which nothing failed.
    fn end_in_success(mut self) {
        if self.queue == Queue::Empty {
            self.queue = Queue::Untouched;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            match self.queue {
                Queue::Empty => ffi::ERR_clear_error(),
                Queue::Marked => drop(ERR_pop_to_mark()),
                Queue::Untouched => {}
            }
        }
    }
}

/// Looks a session up; the result is the caller's alone.
pub fn find(library: &Library, id: &SessionId) -> Option<SslSession> {
    library.with_der(id, session::restore).flatten()
}

/// Takes a session out of the cache; of several callers, one gets it.
fn take(library: &Library, id: &SessionId) -> Option<SslSession> {
    library.take_der(id, session::restore).flatten()
}

/// Stores a session under an ID.
pub fn store(library: &Library, id: &SessionId, session: &SslSessionRef) -> Result<(), StoreError> {
    let der = Encoded::new(session).inspect_err(|error| error.count(library))?;
    insert(library, id, session, der.as_bytes())
}

/// Stores the DER bytes of one session under an ID. OpenSSL also reads what is not quite DER
/// (lengths written in another way): it is encoded again, so that only DER comes out.
pub fn store_der(library: &Library, id: &SessionId, der: &[u8]) -> Result<(), StoreError> {
    let session = session::decode(der).inspect_err(|error| error.count(library))?;
    let result = store(library, id, &session);
    session::free(session);
    result
}

fn insert(
    library: &Library,
    id: &SessionId,
    session: &SslSessionRef,
    der: &[u8],
) -> Result<(), StoreError> {
    // SAFETY: a reference is to a live session.
    let (time, timeout) = unsafe {
        (
            ffi::SSL_SESSION_get_time(session.as_ptr()),
            ffi::SSL_SESSION_get_timeout(session.as_ptr()),
        )
    };
    let most = match session.protocol_version() {
        SslVersion::TLS1_3 => MOST_SECONDS_TLS13,
        _ => MOST_SECONDS,
    };
    library
        .insert(id, der, time, timeout.min(most))
        .map_err(StoreError::NotStored)
}

/// Why a session could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// OpenSSL could not encode it.
    Unencodable,
    /// The bytes are not those of exactly one session.
    NotASession,
    /// OpenSSL had no memory.
    NoMemory,
    /// The process is about to end, and OpenSSL has done so already.
    OpenSslEnded,
    /// The library did not take it.
    NotStored(NotStored),
}

impl StoreError {
    /// Why OpenSSL has just failed to encode or to decode a session, if not for `reason`.
    fn of_openssl(reason: Self) -> Self {
        /// From crypto.h: no error is queued.
        const OPENSSL_INIT_BASE_ONLY: u64 = 0x40000;
        // SAFETY: allowed at any time; fails once OpenSSL has taken itself down. The others
        // read this thread's error queue.
        let (is_there, errors) = unsafe {
            (
                OPENSSL_init_crypto(OPENSSL_INIT_BASE_ONLY, ptr::null()) == 1,
                [ERR_peek_error(), ffi::ERR_peek_last_error()],
            )
        };
        match is_there {
            false => Self::OpenSslEnded,
            true if errors.into_iter().any(is_lack_of_memory) => Self::NoMemory,
            true => reason,
        }
    }

    fn count(&self, library: &Library) {
        library.stats.count(match self {
            Self::NoMemory => Counter::RefusedNoMemory,
            _ => Counter::RefusedInvalid,
        });
    }

    /// How much the operator wants to know of it: what comes with normal
    /// operation is for debugging only.
    pub fn level(&self) -> log::Level {
        match self {
            Self::NotStored(NotStored::Off)
            | Self::NotStored(NotStored::Refused(Refused::Expired | Refused::Contention)) => {
                log::Level::Debug
            }
            _ => log::Level::Warn,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unencodable => write!(f, "OpenSSL cannot encode it"),
            Self::NotASession => write!(f, "not exactly one whole session"),
            Self::NoMemory => NoMemory.fmt(f),
            Self::OpenSslEnded => write!(f, "the process ends, and OpenSSL is no longer there"),
            Self::NotStored(reason) => reason.fmt(f),
        }
    }
}

impl Error for StoreError {}

/// Whether an error in OpenSSL's queue says that there was no memory.
fn is_lack_of_memory(error: c_ulong) -> bool {
    const ERR_R_MALLOC_FAILURE: c_int = 256;
    /// A reason has flags above.
    const REASON: c_int = 0x3ffff;
    ffi::ERR_GET_REASON(error) & REASON == ERR_R_MALLOC_FAILURE
}

/// Makes a random ticket key if there is none yet.
fn ensure_ticket_key(ring: &KeyRing) {
    ring.fill_if_empty(|| {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        fault!("random ticket key");
        fill_with_random(key.as_mut_slice()).then_some(key)
    });
}

/// `false`, and a line in the log, when OpenSSL has no random bytes.
fn fill_with_random(bytes: &mut [u8]) -> bool {
    let visit = Visit::begin();
    // SAFETY: the pointer and the length are those of `bytes`.
    let done = unsafe { ffi::RAND_bytes(bytes.as_mut_ptr(), bytes.len() as c_int) };
    if done == 1 {
        visit.end_in_success();
    } else {
        drop(visit);
        log::error!(target: "ssl_session_ticket", "no random bytes: no ticket is issued");
    }
    done == 1
}
