//! What OpenSSL asks during a handshake.
//!
//! None of these fails a handshake: without a session, or without a key, the
//! handshake is a full one.

use std::ffi::{CStr, c_char, c_int, c_uchar, c_void};
use std::{ptr, slice};

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslSessionRef, SslVersion};
use openssl_sys as ffi;
use openssl_sys::{EVP_CIPHER_CTX, EVP_MAC_CTX, SSL, SSL_CTX, SSL_SESSION};

use super::{
    ERR_peek_last_error_all, OSSL_PARAM_construct_utf8_string, SSL_SESSION_get0_id_context,
    SSL_SESSION_get0_peer, SSL_get_options, Visit, context, ensure_ticket_key,
};
use crate::guard::{Fallback, callback};
use crate::hooks::SessionEvent;
use crate::id::SessionId;
use crate::stats::Counter;
use crate::ticket::{NAME_LEN, TicketKey};

/// From ssl.h.
const SSL_OP_NO_ANTI_REPLAY: u64 = 1 << 24;
const SSL_TICKET_SUCCESS: c_int = 5;
const SSL_TICKET_SUCCESS_RENEW: c_int = 6;
/// From err.h and sslerr.h.
const ERR_LIB_SSL: c_int = 20;
const SSL_R_UNEXPECTED_EOF_WHILE_READING: c_int = 294;
/// Marks an error that has kept a session: the address does, not the text.
static SEEN: &CStr = c"seen";
const IV_LEN: usize = 16;

/// A handshake has made a session: store it.
pub unsafe extern "C" fn new_session(ssl: *mut SSL, session: *mut SSL_SESSION) -> c_int {
    // SAFETY: OpenSSL passes a live connection and session.
    callback("new_session", |library| unsafe {
        if is_looked_up_by_id(ssl) {
            let session = SslSessionRef::from_ptr(session);
            if let Some(id) = SessionId::new(session.id()) {
                match super::store(library, &id, session) {
                    Ok(()) => library.hooks.fire(SessionEvent::New, &id),
                    Err(error) => {
                        log::log!(target: "ssl.session_cache.insert", error.level(), "a new session is not cached: {error}");
                    }
                }
            }
        }
    });
    // The reference that OpenSSL took for us is not kept.
    0
}

/// Whether a client of this connection will come back with a session ID, and not
/// with a ticket that holds the session itself: in TLS 1.3 OpenSSL reports
/// sessions of both kinds.
///
/// # Safety
/// `ssl` is a live connection.
unsafe fn is_looked_up_by_id(ssl: *const SSL) -> bool {
    // SAFETY: the caller vouches for `ssl`.
    unsafe {
        ffi::SSL_is_server(ssl) == 1
            && (ffi::SSL_version(ssl) != ffi::TLS1_3_VERSION
                || SSL_get_options(ssl) & ffi::SSL_OP_NO_TICKET != 0
                || is_single_use(ssl))
    }
}

/// Whether a session of this connection may be resumed once only: it may carry early
/// data, and OpenSSL is to see that nobody replays those (RFC 8446, 8).
///
/// # Safety
/// `ssl` is a live connection.
unsafe fn is_single_use(ssl: *const SSL) -> bool {
    // SAFETY: the caller vouches for `ssl`.
    unsafe {
        ffi::SSL_version(ssl) == ffi::TLS1_3_VERSION
            && ffi::SSL_get_max_early_data(ssl) > 0
            && SSL_get_options(ssl) & SSL_OP_NO_ANTI_REPLAY == 0
    }
}

/// A client has come with a session ID: find the session.
pub unsafe extern "C" fn get_session(
    ssl: *mut SSL,
    id: *const c_uchar,
    len: c_int,
    copy: *mut c_int,
) -> *mut SSL_SESSION {
    // SAFETY: OpenSSL passes a live connection, `len` bytes of ID and a place for its
    // answer.
    callback("get_session", |library| unsafe {
        // The reference goes to OpenSSL, which is not to take another one.
        *copy = 0;
        let len = usize::try_from(len).unwrap_or(0);
        let Some(id) = SessionId::new(slice::from_raw_parts(id, len)) else {
            return ptr::null_mut();
        };
        let single_use = is_single_use(ssl);
        let session = match single_use {
            true if context::of_connection(ssl).is_null() => None,
            true => super::take(library, &id),
            false => super::find(library, &id),
        };
        let Some(session) = session else {
            return ptr::null_mut();
        };
        if session.id() != id.as_bytes() || !may_resume(ssl, &session) {
            log::debug!(target: "ssl.session_cache.get", "{id:?}: not for this connection");
            super::session::free(session);
            return ptr::null_mut();
        }
        library.hooks.fire(SessionEvent::Get, &id);
        if single_use {
            // OpenSSL resumes it only if it can take it out of the own cache of the context
            // that the connection began with: this is how it sees to it that of two
            // connections one resumes.
            let visit = Visit::begin();
            let added =
                ffi::SSL_CTX_add_session(context::of_connection(ssl), session.as_ptr()) == 1;
            if !added {
                // Without memory for its table, OpenSSL 3.0 gives its reference back although the
                // session is on its list: this one is for the list.
                ffi::SSL_SESSION_up_ref(session.as_ptr());
            }
            drop(visit);
            library.hooks.fire(SessionEvent::Remove, &id);
        }
        super::into_raw(session)
    })
}

/// What becomes of a ticket: SSL_TICKET_RETURN in ssl.h.
#[repr(transparent)]
pub struct TicketUse(c_int);

impl TicketUse {
    /// A full handshake, and a new ticket.
    const IGNORE_RENEW: Self = Self(2);
    const USE: Self = Self(3);
    const USE_RENEW: Self = Self(4);
}

impl Fallback for TicketUse {
    const FALLBACK: Self = Self::IGNORE_RENEW;
}

/// A ticket was decrypted, or could not be: it is resumed as a session with an ID would be.
pub unsafe extern "C" fn decrypted_ticket(
    ssl: *mut SSL,
    session: *mut SSL_SESSION,
    _name: *const c_uchar,
    _len: usize,
    status: c_int,
    _arg: *mut c_void,
) -> TicketUse {
    let accepted = match status {
        SSL_TICKET_SUCCESS => TicketUse::USE,
        SSL_TICKET_SUCCESS_RENEW => TicketUse::USE_RENEW,
        // Without a session; OpenSSL does the same where there is no callback.
        _ => return TicketUse::IGNORE_RENEW,
    };
    // SAFETY: OpenSSL passes a live connection, and where it has decrypted the ticket, a
    // live session.
    callback("decrypted_ticket", |_| unsafe {
        if may_resume(ssl, SslSessionRef::from_ptr(session)) {
            return accepted;
        }
        log::debug!(target: "ssl_session_ticket", "a ticket that is not for this connection: a full handshake");
        TicketUse::IGNORE_RENEW
    })
}

/// Whether the rules for client certificates allow this connection to resume this
/// session, which another context with other rules may have made.
///
/// # Safety
/// `ssl` is a live connection.
unsafe fn may_resume(ssl: *const SSL, session: &SslSessionRef) -> bool {
    // SAFETY: the caller vouches for `ssl`; the session is live.
    unsafe {
        let mode = ffi::SSL_get_verify_mode(ssl);
        let mut context_len = 0;
        SSL_SESSION_get0_id_context(session.as_ptr(), &mut context_len);
        // A session without a context, OpenSSL does not refuse but fails the handshake.
        let unplaced = mode & ffi::SSL_VERIFY_PEER != 0 && context_len == 0;
        // Nor does it ask whether a session has the certificate that is demanded.
        let demanded = ffi::SSL_VERIFY_PEER | ffi::SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
        let uncertified =
            mode & demanded == demanded && SSL_SESSION_get0_peer(session.as_ptr()).is_null();
        !unplaced && !uncertified
    }
}

/// A session has expired or its connection has failed: it may not be resumed, unless
/// all that happened is that the client has gone.
pub unsafe extern "C" fn remove_session(_ctx: *mut SSL_CTX, session: *mut SSL_SESSION) {
    callback("remove_session", |library| {
        // SAFETY: OpenSSL passes a live session.
        let session = unsafe { SslSessionRef::from_ptr(session) };
        if client_hung_up(session) {
            return;
        }
        if let Some(id) = SessionId::new(session.id())
            && library.remove(&id)
        {
            library.hooks.fire(SessionEvent::Remove, &id);
        }
    });
}

/// Whether OpenSSL gives a session up because the client closed the connection without
/// a close_notify. From OpenSSL 3 on that counts as a fatal error, but from TLS 1.1
/// on such a session may be resumed (RFC 5246, 7.2.1), and many clients just go.
///
/// OpenSSL queues the error before it sends the alert, and removes the session
/// while it sends it. Sessions are also removed without an error; then the last one in
/// the queue is an old one, maybe of another connection. So each counts once, and is
/// marked for that: as data that are no text nobody prints it.
fn client_hung_up(session: &SslSessionRef) -> bool {
    let mut data = ptr::null();
    // SAFETY: reads this thread's error queue, and writes one pointer.
    let error = unsafe {
        ERR_peek_last_error_all(
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &mut data,
            ptr::null_mut(),
        )
    };
    let hung_up = ffi::ERR_GET_LIB(error) == ERR_LIB_SSL
        && ffi::ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING
        && data != SEEN.as_ptr()
        && ![SslVersion::SSL3, SslVersion::TLS1].contains(&session.protocol_version());
    if hung_up {
        // SAFETY: touches the last error of this thread's queue; the string lives for
        // ever, and without flags OpenSSL neither frees nor writes it.
        unsafe { ffi::ERR_set_error_data(SEEN.as_ptr().cast_mut(), 0) };
    }
    hung_up
}

/// A ticket is to be encrypted (`encrypt` 1) or was presented (0).
pub unsafe extern "C" fn ticket_key(
    ssl: *mut SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut EVP_MAC_CTX,
    encrypt: c_int,
) -> c_int {
    // SAFETY: OpenSSL passes live objects, 16 bytes of name and 16 of initialization
    // vector, both to be written when encrypting.
    callback("ticket_key", |library| unsafe {
        let name = &mut *name.cast::<[u8; NAME_LEN]>();
        ensure_ticket_key(&library.tickets);
        let keys = library.tickets.current();
        let Some(keys) = keys.as_ref() else { return 0 };
        if encrypt != 0 {
            let iv_bytes = slice::from_raw_parts_mut(iv, IV_LEN);
            *name = *keys.first().name();
            if !super::fill_with_random(iv_bytes) || !init(keys.first(), iv, cipher, mac, true) {
                return 0;
            }
            library.stats.count(Counter::TicketCreated);
            log::debug!(target: "ssl_session_ticket", "a ticket is issued");
            return 1;
        }
        let Some((key, place)) = keys.find(name) else {
            library.stats.count(Counter::TicketNotFound);
            log::debug!(target: "ssl_session_ticket", "a ticket under a key that is not in the set: a full handshake");
            return 0;
        };
        if !init(key, iv, cipher, mac, false) {
            return 0;
        }
        library.stats.count(Counter::ticket_verified(place));
        log::debug!(target: "ssl_session_ticket", "a ticket under key {place} of {}", keys.count());
        // In TLS 1.3 a ticket is used once (RFC 8446, C.4), so each use earns a new one.
        if place == 0 && ffi::SSL_version(ssl) != ffi::TLS1_3_VERSION {
            return 1;
        }
        library.stats.count(Counter::TicketRenewed);
        2
    })
}

/// Gives OpenSSL the key's two secrets.
///
/// # Safety
/// `iv` points to 16 bytes, the contexts are live.
unsafe fn init(
    key: TicketKey<'_>,
    iv: *const c_uchar,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut EVP_MAC_CTX,
    encrypt: bool,
) -> bool {
    let visit = Visit::begin();
    let secret = key.hmac_secret();
    let aes_key = key.aes_key();
    // SAFETY: the parameters only live until they are used here, and OpenSSL only
    // reads what their pointers name; the cipher takes a key as long as this one.
    let done = unsafe {
        let params = [
            ffi::OSSL_PARAM_construct_octet_string(
                c"key".as_ptr(),
                secret.as_ptr().cast_mut().cast(),
                secret.len(),
            ),
            OSSL_PARAM_construct_utf8_string(
                c"digest".as_ptr(),
                c"SHA256".as_ptr().cast::<c_char>().cast_mut(),
                0,
            ),
            ffi::OSSL_PARAM_construct_end(),
        ];
        ffi::EVP_MAC_CTX_set_params(mac, params.as_ptr()) == 1
            && ffi::EVP_CipherInit_ex(
                cipher,
                match aes_key.len() {
                    16 => ffi::EVP_aes_128_cbc(),
                    _ => ffi::EVP_aes_256_cbc(),
                },
                ptr::null_mut(),
                aes_key.as_ptr(),
                iv,
                c_int::from(encrypt),
            ) == 1
    };
    if done {
        visit.end_in_success();
    }
    done
}
