//! Properties of a connection, and the sessions that it is allowed to resume.

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslSessionRef, SslVersion};
use openssl_sys as ffi;
use openssl_sys::{SSL, SSL_CTX};

use super::bindings::{
    OSSL_QUIC1_VERSION, SSL_OP_NO_ANTI_REPLAY, SSL_SESSION_get0_id_context, SSL_get_options,
    SSL_get_verify_callback,
};
use super::der::{Identity, Peer};
use super::verify::verify_again;

/// Whether a client will return with the session's ID, not with a ticket that contains the session:
/// in TLS 1.3 OpenSSL reports sessions of both kinds.
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

/// Whether this connection is allowed to resume a session only once: the session may carry early
/// data, and OpenSSL has to prevent replays (RFC 8446, 8). The session's version is compared: over
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

/// The options of a connection, inside a callback. There OpenSSL holds the lock of a QUIC
/// connection, and its getter would wait for that lock; so for QUIC these are the options of the
/// context, from which the connection has them.
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

/// Whether session and connection are both of TLS 1.3, or both of an earlier version. OpenSSL asks
/// for any ID that a client sends, as a session ID in TLS 1.2 or as the identity of a key in TLS 1.3.
/// With early data it removes the session that it is given before the client has proved that it
/// knows the secret. QUIC has a separate version number.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn fits_version(ssl: *const SSL, session: &SslSessionRef) -> bool {
    // SAFETY: the caller vouches for `ssl`.
    let version = unsafe { ffi::SSL_version(ssl) };
    let is_tls13 = [ffi::TLS1_3_VERSION, OSSL_QUIC1_VERSION].contains(&version);
    (session.protocol_version() == SslVersion::TLS1_3) == is_tls13
}

/// Whether the rules for client certificates allow this connection to resume this session. Another
/// context with other rules may have made it. `peer` reads the session's DER: only that says whether
/// its certificate was verified.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn may_resume(
    ssl: *const SSL,
    session: &SslSessionRef,
    peer: impl FnOnce() -> Option<Peer>,
) -> bool {
    // SAFETY: the caller vouches for `ssl`; the session is live.
    unsafe {
        let mode = ffi::SSL_get_verify_mode(ssl);
        if mode & ffi::SSL_VERIFY_PEER == 0 {
            return true;
        }
        let mut context_len = 0;
        SSL_SESSION_get0_id_context(session.as_ptr(), &mut context_len);
        // For a session without a session ID context, OpenSSL fails the handshake instead of refusing
        // the session.
        if context_len == 0 {
            return false;
        }
        // OpenSSL does not check whether the session has the required certificate, and whether that
        // would be accepted here and now.
        let is_demanded = mode & ffi::SSL_VERIFY_FAIL_IF_NO_PEER_CERT != 0;
        let is_hosts = SSL_get_verify_callback(ssl).is_some();
        peer().is_some_and(|peer| {
            // If OpenSSL had not accepted it, the host's own callback had.
            let was_accepted = peer.verify_result == 0 || is_hosts;
            match peer.identity {
                Identity::None => !is_demanded,
                Identity::RawPublicKey => was_accepted,
                Identity::Certificate => {
                    was_accepted && verify_again(ssl, session) == Some(peer.verify_result)
                }
            }
        })
    }
}

/// The context that a connection has now: the one that it began with, until SNI switches to another.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn context_of_new(ssl: *const SSL) -> *mut SSL_CTX {
    // SAFETY: passed on to the caller.
    unsafe { ffi::SSL_get_SSL_CTX(ssl) }
}
