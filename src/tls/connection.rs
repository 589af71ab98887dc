//! What a connection is, which sessions it may resume, and which context it began with.

use std::ffi::{c_int, c_long, c_void};

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslSessionRef, SslVersion};
use openssl_sys as ffi;
use openssl_sys::{SSL, SSL_CTX};

use super::bindings::{
    CRYPTO_EX_INDEX_SSL, CRYPTO_set_ex_data, SSL_OP_NO_ANTI_REPLAY, SSL_SESSION_get0_id_context,
    SSL_get_options, SSL_get_verify_callback,
};
use super::der::Peer;
use super::ex_data::{forget_in_copy, new_index};
use super::session::Encoded;
use super::visit::Visit;
use crate::base::once::{Once, try_make_once};
use crate::instance::boundary::guard;

/// Whether a client will come back with the session's ID, and not with a ticket that holds the
/// session itself: in TLS 1.3 OpenSSL reports sessions of both kinds.
///
/// # Safety
/// `ssl` is the live connection that has made the session.
pub unsafe fn is_looked_up_by_id(ssl: *const SSL, session: &SslSessionRef) -> bool {
    // SAFETY: the caller vouches for `ssl`.
    unsafe {
        ffi::SSL_is_server(ssl) == 1
            && (session.protocol_version() != SslVersion::TLS1_3
                || SSL_get_options(ssl) & ffi::SSL_OP_NO_TICKET != 0
                || is_single_use(ssl, session))
    }
}

/// Whether a session may be resumed once only by this connection: it may carry early data, and
/// OpenSSL is to see that nobody replays those (RFC 8446, 8). The version is the session's: over
/// QUIC the connection has another number.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn is_single_use(ssl: *const SSL, session: &SslSessionRef) -> bool {
    // SAFETY: the caller vouches for `ssl`.
    unsafe {
        session.protocol_version() == SslVersion::TLS1_3
            && ffi::SSL_get_max_early_data(ssl) > 0
            && SSL_get_options(ssl) & SSL_OP_NO_ANTI_REPLAY == 0
    }
}

/// Whether the rules for client certificates allow this connection to resume this
/// session, which another context with other rules may have made.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn may_resume(ssl: *const SSL, session: &SslSessionRef) -> bool {
    // SAFETY: the caller vouches for `ssl`; the session is live.
    unsafe {
        let mode = ffi::SSL_get_verify_mode(ssl);
        if mode & ffi::SSL_VERIFY_PEER == 0 {
            return true;
        }
        let mut context_len = 0;
        SSL_SESSION_get0_id_context(session.as_ptr(), &mut context_len);
        // A session without a context, OpenSSL does not refuse but fails the handshake.
        if context_len == 0 {
            return false;
        }
        // Nor does it ask whether a session has the certificate that is demanded, and whether
        // that was verified: only the DER tells. A host that decides itself has decided.
        let Ok(der) = Encoded::new(session) else {
            return false;
        };
        let is_demanded = mode & ffi::SSL_VERIFY_FAIL_IF_NO_PEER_CERT != 0;
        let is_hosts = SSL_get_verify_callback(ssl).is_some();
        Peer::of(der.as_bytes()).is_some_and(|peer| {
            (peer.is_known || !is_demanded) && (peer.is_verified || !peer.is_known || is_hosts)
        })
    }
}

/// The context that a connection has now, which is the one that it began with until SNI
/// switches to another.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn context_of_new(ssl: *const SSL) -> *mut SSL_CTX {
    // SAFETY: passed on to the caller.
    unsafe { ffi::SSL_get_SSL_CTX(ssl) }
}

/// The context that a connection began with, whatever SNI made of it since: that is the one whose
/// callbacks and session cache OpenSSL uses, and it does not tell. Where it was not noted (before
/// that was asked for the first time, and from OpenSSL 3.2 on, where a new connection has no
/// context yet) it is the one that the connection has now: the caller must make sure.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn first_context(ssl: *const SSL) -> *mut SSL_CTX {
    // SAFETY: the caller vouches for `ssl`; what is stored under our index is null or a context
    // that the connection keeps alive.
    unsafe {
        let noted = index().map(|index| ffi::SSL_get_ex_data(ssl, index).cast::<SSL_CTX>());
        noted
            .filter(|context| !context.is_null())
            .unwrap_or_else(|| ffi::SSL_get_SSL_CTX(ssl))
    }
}

/// Where a connection carries the context that it began with. Made when it is needed first:
/// from then on every connection of the process pays for it.
pub fn index() -> Option<c_int> {
    static INDEX: Once<c_int> = Once::new();
    let index = try_make_once(&INDEX, || {
        // SAFETY: the function is of the type asked for and stays in memory.
        unsafe {
            new_index(
                CRYPTO_EX_INDEX_SSL,
                Some(note_context),
                Some(forget_in_copy),
                None,
            )
        }
    });
    index.copied()
}

/// Called by OpenSSL at the beginning of every connection.
unsafe extern "C" fn note_context(
    ssl: *mut c_void,
    _none: *mut c_void,
    data: *mut ffi::CRYPTO_EX_DATA,
    index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) {
    guard(|| {
        let Some(visit) = Visit::begin() else {
            return;
        };
        // SAFETY: OpenSSL passes the new connection and its data; the connection holds a
        // reference to the context.
        let noted =
            unsafe { CRYPTO_set_ex_data(data, index, ffi::SSL_get_SSL_CTX(ssl.cast()).cast()) };
        if noted == 1 {
            visit.end_in_success();
        }
    });
}
