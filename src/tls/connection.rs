//! What a connection is, which sessions it may resume, and which context it began with.

use std::ffi::{c_int, c_long, c_void};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslSessionRef;
use openssl_sys as ffi;
use openssl_sys::{SSL, SSL_CTX};

use super::bindings::{
    CRYPTO_EX_INDEX_SSL, CRYPTO_set_ex_data, SSL_OP_NO_ANTI_REPLAY, SSL_SESSION_get0_id_context,
    SSL_SESSION_get0_peer, SSL_get_options,
};
use super::ex_data::{forget_in_copy, new_index};
use super::visit::Visit;
use crate::base::once::{Once, try_make_once};
use crate::instance::boundary::guard;

/// Whether a client of this connection will come back with a session ID, and not
/// with a ticket that holds the session itself: in TLS 1.3 OpenSSL reports
/// sessions of both kinds.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn is_looked_up_by_id(ssl: *const SSL) -> bool {
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
pub unsafe fn is_single_use(ssl: *const SSL) -> bool {
    // SAFETY: the caller vouches for `ssl`.
    unsafe {
        ffi::SSL_version(ssl) == ffi::TLS1_3_VERSION
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

/// The context that a connection has now, which is the one that it began with until SNI
/// switches to another.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn context_of_new(ssl: *const SSL) -> *mut SSL_CTX {
    // SAFETY: passed on to the caller.
    unsafe { ffi::SSL_get_SSL_CTX(ssl) }
}

/// The context that a connection began with, whatever SNI made of it since; null for a
/// connection from before that was asked for the first time. That is the one whose
/// callbacks and session cache OpenSSL uses, and it does not tell.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn first_context(ssl: *const SSL) -> *mut SSL_CTX {
    match index() {
        // SAFETY: the caller vouches for `ssl`; what is stored there is null or a context
        // that the connection keeps alive.
        Some(index) => unsafe { ffi::SSL_get_ex_data(ssl, index).cast() },
        None => ptr::null_mut(),
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
