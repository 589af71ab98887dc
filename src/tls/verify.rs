//! Verifies a client's certificate again before its session is resumed.
//!
//! A session says that its certificate was verified, but not by whom. Another context may have made it,
//! or the host has other authorities or a revocation list since then.

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslSessionRef;
use openssl_sys as ffi;
use openssl_sys::{SSL, X509_STORE, X509_STORE_CTX, X509_VERIFY_PARAM};

use super::bindings::{
    OSSL_QUIC1_VERSION, SSL_CTRL_CERT_FLAGS, SSL_CTRL_GET_VERIFY_CERT_STORE, SSL_SESSION_get0_peer,
    SSL_get_client_random, X509_STORE_CTX_get0_param, X509_STORE_CTX_set_default,
    X509_STORE_CTX_set_flags, X509_STORE_CTX_set_verify_cb, X509_VERIFY_PARAM_set1,
};
use super::visit::Visit;
use crate::instance::boundary::guard;

/// Verifies the certificate of a session as the connection would in a full handshake, but without the
/// certificates that the client sent with it: a session does not have them. Returns OpenSSL's result, 0
/// if all is well; if several things are wrong, the last one, as with a callback that accepts
/// everything. `None`: it is not verified.
///
/// The host's callback is not called: hosts note there whom they serve, and the client has proved
/// nothing yet.
///
/// # Safety
/// `ssl` is a live connection, inside a callback of the handshake.
pub unsafe fn verify_again(ssl: *const SSL, session: &SslSessionRef) -> Option<c_int> {
    // SAFETY: passed on to the caller.
    if !unsafe { may_verify(ssl) } {
        return None;
    }
    let _visit = Visit::begin()?;
    // SAFETY: the caller vouches for `ssl`; the session is live and keeps its certificate, and the
    // connection its store and parameters.
    unsafe {
        let certificate = SSL_SESSION_get0_peer(session.as_ptr());
        if certificate.is_null() {
            return None;
        }
        let Rules {
            store,
            parameters,
            level,
            flags,
        } = Rules::of(ssl);
        let run = Run::new()?;
        if ffi::X509_STORE_CTX_init(run.0, store, certificate, ptr::null_mut()) != 1
            || X509_STORE_CTX_set_default(run.0, c"ssl_client".as_ptr()) != 1
        {
            return None;
        }
        let own = X509_STORE_CTX_get0_param(run.0);
        ffi::X509_VERIFY_PARAM_set_auth_level(own, level);
        X509_STORE_CTX_set_flags(run.0, flags);
        if X509_VERIFY_PARAM_set1(own, parameters) != 1 {
            return None;
        }
        // Without one it would be that of the store.
        X509_STORE_CTX_set_verify_cb(run.0, verify_step);
        let is_done = ffi::X509_verify_cert(run.0) == 1;
        is_done.then(|| ffi::X509_STORE_CTX_get_error(run.0))
    }
}

/// Whether this connection may have another certificate verified. One ClientHello of TLS 1.3 can name
/// hundreds of sessions, and OpenSSL goes on with the next when one is refused.
///
/// # Safety
/// As for [`verify_again`].
unsafe fn may_verify(ssl: *const SSL) -> bool {
    /// A client offers one session or two, and offers them again after a HelloRetryRequest.
    const MOST: u32 = 4;
    thread_local! {
        /// The client's random bytes of the last connection here, and how often it had this.
        static LAST: Cell<([u8; 16], u32)> = const { Cell::new(([0; 16], 0)) };
    }
    let mut random = [0; 16];
    // SAFETY: the caller vouches for `ssl`; OpenSSL writes as many bytes as there is room for.
    unsafe { SSL_get_client_random(ssl, random.as_mut_ptr(), random.len()) };
    let (last, count) = LAST.get();
    let count = if last == random { count + 1 } else { 1 };
    LAST.set((random, count));
    count <= MOST
}

/// What a connection verifies with.
struct Rules {
    /// The authorities.
    store: *mut X509_STORE,
    parameters: *const X509_VERIFY_PARAM,
    /// The security level.
    level: c_int,
    /// Those of suite B.
    flags: c_ulong,
}

impl Rules {
    /// Over QUIC they are those of the context: OpenSSL holds the connection's lock, for which its
    /// getters wait.
    ///
    /// # Safety
    /// As for [`verify_again`].
    unsafe fn of(ssl: *const SSL) -> Self {
        /// The flags have the same values for a connection and for a verification.
        const SUITE_B: c_long = 0x30000;
        // SAFETY: the caller vouches for `ssl`, which keeps its context alive; OpenSSL only reads.
        unsafe {
            let ctx = ffi::SSL_get_SSL_CTX(ssl);
            let is_quic = ffi::SSL_version(ssl) == OSSL_QUIC1_VERSION;
            let control = |command, result| {
                if is_quic {
                    ffi::SSL_CTX_ctrl(ctx, command, 0, result)
                } else {
                    ffi::SSL_ctrl(ssl.cast_mut(), command, 0, result)
                }
            };
            let mut own = ptr::null_mut::<X509_STORE>();
            control(
                SSL_CTRL_GET_VERIFY_CERT_STORE,
                (&raw mut own).cast::<c_void>(),
            );
            let flags = control(SSL_CTRL_CERT_FLAGS, ptr::null_mut()) & SUITE_B;
            let (parameters, level) = if is_quic {
                (
                    ffi::SSL_CTX_get0_param(ctx),
                    ffi::SSL_CTX_get_security_level(ctx),
                )
            } else {
                (
                    ffi::SSL_get0_param(ssl.cast_mut()),
                    ffi::SSL_get_security_level(ssl),
                )
            };
            Self {
                store: if own.is_null() {
                    ffi::SSL_CTX_get_cert_store(ctx)
                } else {
                    own
                },
                parameters,
                level,
                flags: flags as c_ulong,
            }
        }
    }
}

/// Called for each step: goes on whatever is wrong, and the error stays.
unsafe extern "C" fn verify_step(_is_good: c_int, _run: *mut X509_STORE_CTX) -> c_int {
    guard(|| 1)
}

/// One verification; freed when dropped.
struct Run(*mut X509_STORE_CTX);

impl Run {
    fn new() -> Option<Self> {
        // SAFETY: takes nothing.
        let run = unsafe { ffi::X509_STORE_CTX_new() };
        (!run.is_null()).then_some(Self(run))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // SAFETY: from `X509_STORE_CTX_new`, and nothing else has it.
        unsafe { ffi::X509_STORE_CTX_free(self.0) };
    }
}
