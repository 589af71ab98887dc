//! Encodes sessions as DER, and decodes them.

use std::ffi::{c_long, c_void};
use std::mem;
use std::ptr::{self, NonNull};

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::{SslSession, SslSessionRef};
use openssl_sys::SSL_SESSION;

use super::bindings::{CRYPTO_clear_free, DTLS1_VERSION_MAJOR, SSL3_VERSION_MAJOR};
use super::error::StoreError;
use super::template::{Parts, Templates};
use super::version::is_session_of_this_openssl;
use super::visit::Visit;

/// The DER bytes of a session, in OpenSSL's memory. Wiped when dropped.
pub struct Encoded {
    bytes: NonNull<u8>,
    len: usize,
}

impl Encoded {
    /// Encodes a session. Fails for one without a cipher or a version.
    pub fn new(session: &SslSessionRef) -> Result<Self, StoreError> {
        if !is_session_of_this_openssl(session) {
            return Err(StoreError::OtherOpenSsl);
        }
        // OpenSSL would encode a session that has no version yet, but could not decode it.
        // SAFETY: the session is live.
        let version = unsafe { openssl_sys::SSL_SESSION_get_protocol_version(session.as_ptr()) };
        if ![SSL3_VERSION_MAJOR, DTLS1_VERSION_MAJOR].contains(&(version >> 8)) {
            return Err(StoreError::Unencodable);
        }
        let visit = Visit::begin().ok_or(StoreError::OpenSslEnded)?;
        let mut bytes = ptr::null_mut();
        // SAFETY: the session is live; given a null pointer, OpenSSL allocates and
        // sets it.
        let len = unsafe { openssl_sys::i2d_SSL_SESSION(session.as_ptr(), &mut bytes) };
        let len = usize::try_from(len).ok().filter(|len| *len > 0);
        let Some((bytes, len)) = NonNull::new(bytes).zip(len) else {
            return Err(StoreError::of_openssl(StoreError::Unencodable));
        };
        visit.end_in_success();
        Ok(Self { bytes, len })
    }

    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: OpenSSL wrote `len` bytes there, and has no pointer to them any more.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.len) }
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        let bytes = self.bytes.as_ptr().cast::<c_void>();
        // SAFETY: this is the memory that OpenSSL allocated in `new`; the file name
        // may be null.
        unsafe { CRYPTO_clear_free(bytes, self.len, ptr::null(), 0) };
    }
}

/// Passes the session's only reference to C.
pub fn into_raw(session: SslSession) -> *mut SSL_SESSION {
    let raw = session.as_ptr();
    mem::forget(session);
    raw
}

/// Frees a session; OpenSSL takes a lock of the whole process for that. While the process is ending,
/// the session is not freed.
pub fn free(session: SslSession) {
    match Visit::begin() {
        Some(visit) => {
            drop(session);
            visit.end_in_success();
        }
        None => mem::forget(session),
    }
}

/// Decodes DER bytes that were checked when they were stored.
pub fn restore(der: &[u8]) -> Option<SslSession> {
    let Some(parts) = Parts::of(der) else {
        return decode(der).ok();
    };
    let templates = Templates::global();
    let made = Visit::begin().and_then(|visit| templates.make(&parts, visit));
    made.or_else(|| {
        let session = decode(der).ok()?;
        templates.learn(&parts, &session);
        Some(session)
    })
}

/// As [`restore`], if there is a template and nothing to wait for.
pub fn restore_at_once(der: &[u8]) -> Option<SslSession> {
    let parts = Parts::of(der)?;
    let templates = Templates::if_made()?;
    templates.make(&parts, Visit::begin_at_once()?)
}

/// Decodes DER bytes, if they are exactly one session. The result belongs to the caller alone.
pub fn decode(der: &[u8]) -> Result<SslSession, StoreError> {
    let visit = Visit::begin().ok_or(StoreError::OpenSslEnded)?;
    let mut start = der.as_ptr();
    let len = c_long::try_from(der.len()).map_err(|_| StoreError::NotASession)?;
    // SAFETY: `start` and `len` are those of `der`; the result is null or one
    // reference to a new session.
    let session = unsafe {
        let session = openssl_sys::d2i_SSL_SESSION(ptr::null_mut(), &mut start, len);
        (!session.is_null()).then(|| SslSession::from_ptr(session))
    };
    let session = session.ok_or_else(|| StoreError::of_openssl(StoreError::NotASession))?;
    // It points after the last byte that was used.
    if start != der.as_ptr_range().end {
        return Err(StoreError::NotASession);
    }
    visit.end_in_success();
    Ok(session)
}
