//! Verifies a client's certificate again before its session is resumed.
//!
//! A session says that its certificate was verified, but not by whom. Another context may have made it,
//! or the host has other authorities or a revocation list since then.

use std::ffi::{c_int, c_void};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslSessionRef;
use openssl_sys as ffi;
use openssl_sys::{SSL, X509_STORE, X509_STORE_CTX, X509_VERIFY_PARAM};

use super::bindings::{
    OSSL_QUIC1_VERSION, SSL_CTRL_GET_VERIFY_CERT_STORE, SSL_SESSION_get0_peer,
    SSL_get_verify_callback, X509_STORE_CTX_get0_param, X509_STORE_CTX_set_default,
    X509_STORE_CTX_set_ex_data, X509_STORE_CTX_set_verify_cb, X509_VERIFY_PARAM_set1,
};
use super::visit::Visit;

/// Verifies the certificate of a session as the connection would in a full handshake, the host's verify
/// callback included, but without the certificates that the client sent with it: a session does not
/// have them. Returns OpenSSL's result if it is accepted; not 0 if the callback has accepted an error.
///
/// # Safety
/// `ssl` is a live connection, inside a callback of the handshake.
pub unsafe fn verify_again(ssl: *const SSL, session: &SslSessionRef) -> Option<c_int> {
    let _visit = Visit::begin()?;
    // SAFETY: the caller vouches for `ssl`; the session is live and keeps its certificate, and the
    // connection its store and parameters.
    unsafe {
        let certificate = SSL_SESSION_get0_peer(session.as_ptr());
        if certificate.is_null() {
            return None;
        }
        let (store, rules, level) = rules(ssl);
        let run = Run::new()?;
        if ffi::X509_STORE_CTX_init(run.0, store, certificate, ptr::null_mut()) != 1
            || X509_STORE_CTX_set_default(run.0, c"ssl_client".as_ptr()) != 1
        {
            return None;
        }
        let own = X509_STORE_CTX_get0_param(run.0);
        ffi::X509_VERIFY_PARAM_set_auth_level(own, level);
        if X509_VERIFY_PARAM_set1(own, rules) != 1 {
            return None;
        }
        let of_ssl = ffi::SSL_get_ex_data_X509_STORE_CTX_idx();
        if X509_STORE_CTX_set_ex_data(run.0, of_ssl, ssl.cast_mut().cast()) != 1 {
            return None;
        }
        if let Some(callback) = SSL_get_verify_callback(ssl) {
            X509_STORE_CTX_set_verify_cb(run.0, callback);
        }
        let is_accepted = ffi::X509_verify_cert(run.0) == 1;
        is_accepted.then(|| ffi::X509_STORE_CTX_get_error(run.0))
    }
}

/// The authorities, the parameters and the security level that a connection verifies with. Over QUIC
/// they are those of the context: OpenSSL holds the connection's lock, for which its getters wait.
///
/// # Safety
/// As for [`verify_again`].
unsafe fn rules(ssl: *const SSL) -> (*mut X509_STORE, *const X509_VERIFY_PARAM, c_int) {
    // SAFETY: the caller vouches for `ssl`, which keeps its context alive; OpenSSL only reads.
    unsafe {
        let ctx = ffi::SSL_get_SSL_CTX(ssl);
        let of_all = ffi::SSL_CTX_get_cert_store(ctx);
        if ffi::SSL_version(ssl) == OSSL_QUIC1_VERSION {
            let level = ffi::SSL_CTX_get_security_level(ctx);
            return (of_all, ffi::SSL_CTX_get0_param(ctx), level);
        }
        let mut own = ptr::null_mut::<X509_STORE>();
        ffi::SSL_ctrl(
            ssl.cast_mut(),
            SSL_CTRL_GET_VERIFY_CERT_STORE,
            0,
            (&raw mut own).cast::<c_void>(),
        );
        let store = if own.is_null() { of_all } else { own };
        let level = ffi::SSL_get_security_level(ssl);
        (store, ffi::SSL_get0_param(ssl.cast_mut()), level)
    }
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
