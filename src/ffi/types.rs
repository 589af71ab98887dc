//! The types of `<ts/ts.h>`. Names, field order and values are those of ATS.

use std::ffi::{c_char, c_int, c_void};

pub use tssession_common::code::TSReturnCode;

/// The longest session ID, in bytes.
pub const TS_SSL_MAX_SSL_SESSION_ID_LENGTH: usize = 32;

const _: () = assert!(TS_SSL_MAX_SSL_SESSION_ID_LENGTH == crate::base::session_id::MAX_LEN);

/// An SSL_SESSION.
pub enum tsapi_ssl_session {}

/// An SSL.
pub enum tsapi_ssl_obj {}

/// An SSL_CTX.
pub enum tsapi_ssl_context {}

/// A continuation: a pointer that only its owner uses.
pub enum tsapi_cont {}

/// A TLS session; casts to SSL_SESSION *.
pub type TSSslSession = *mut tsapi_ssl_session;

/// A TLS connection; casts to SSL *.
pub type TSSslConnection = *mut tsapi_ssl_obj;

/// A TLS context; casts to SSL_CTX *.
pub type TSSslContext = *mut tsapi_ssl_context;

/// The first argument of a TSEventFunc.
pub type TSCont = *mut tsapi_cont;

/// What happened to a session.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TSEvent {
    /// A handshake fetched it from the cache.
    TS_EVENT_SSL_SESSION_GET = 2000,
    /// A handshake stored it.
    TS_EVENT_SSL_SESSION_NEW = 2001,
    /// It was removed, by a failed connection for example.
    TS_EVENT_SSL_SESSION_REMOVE = 2002,
}

/// A function that is called for events. The event decides what edata points to; the result is
/// ignored.
pub type TSEventFunc =
    Option<unsafe extern "C" fn(contp: TSCont, event: TSEvent, edata: *mut c_void) -> c_int>;

/// A TLS session ID. It is valid if len is 1 to 32; bytes past len are never read.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TSSslSessionID {
    /// The length in bytes.
    pub len: usize,
    /// The ID.
    pub bytes: [c_char; TS_SSL_MAX_SSL_SESSION_ID_LENGTH],
}
