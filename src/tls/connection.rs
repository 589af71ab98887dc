//! What a connection is, and which sessions it may resume.

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslSessionRef, SslVersion};
use openssl_sys as ffi;
use openssl_sys::{SSL, SSL_CTX};

use super::bindings::{
    OSSL_QUIC1_VERSION, SSL_OP_NO_ANTI_REPLAY, SSL_SESSION_get0_id_context, SSL_get_options,
    SSL_get_verify_callback,
};
use super::der::Peer;
use super::session::Encoded;

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
                || options(ssl) & ffi::SSL_OP_NO_TICKET != 0
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
            && options(ssl) & SSL_OP_NO_ANTI_REPLAY == 0
    }
}

/// The options of a connection that is inside a callback: there OpenSSL holds the lock of a QUIC
/// connection, and would wait for it again to tell them. It has them from its context.
///
/// # Safety
/// `ssl` is a live connection.
unsafe fn options(ssl: *const SSL) -> u64 {
    // SAFETY: the caller vouches for `ssl`, which keeps its context alive.
    unsafe {
        match ffi::SSL_version(ssl) {
            OSSL_QUIC1_VERSION => ffi::SSL_CTX_get_options(ffi::SSL_get_SSL_CTX(ssl)),
            _ => SSL_get_options(ssl),
        }
    }
}

/// Whether a session may be of this connection's version, as far as that is TLS 1.3 or not. OpenSSL
/// asks for any ID that a client shows, as one of TLS 1.2 or as the identity of a key in TLS 1.3, and
/// with early data removes what it is given before it has seen that the client has the secret. QUIC
/// has a number of its own.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn fits_version(ssl: *const SSL, session: &SslSessionRef) -> bool {
    // SAFETY: the caller vouches for `ssl`.
    let version = unsafe { ffi::SSL_version(ssl) };
    let is_tls13 = [ffi::TLS1_3_VERSION, OSSL_QUIC1_VERSION].contains(&version);
    (session.protocol_version() == SslVersion::TLS1_3) == is_tls13
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
