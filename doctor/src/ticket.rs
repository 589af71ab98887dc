//! The ticket of a session, for which the crate `openssl` has no function.

use std::ffi::{c_uchar, c_ulong};
use std::{ptr, slice};

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslSessionRef;
use openssl_sys::SSL_SESSION;

unsafe extern "C" {
    fn SSL_SESSION_get0_ticket(
        session: *const SSL_SESSION,
        ticket: *mut *const c_uchar,
        len: *mut usize,
    );
    fn SSL_SESSION_get_ticket_lifetime_hint(session: *const SSL_SESSION) -> c_ulong;
}

/// The ticket of a session as the server sent it, if there is one.
pub fn bytes(session: &SslSessionRef) -> Option<&[u8]> {
    let mut ticket = ptr::null();
    let mut len = 0;
    // SAFETY: the session is alive, and both results are variables.
    unsafe { SSL_SESSION_get0_ticket(session.as_ptr(), &mut ticket, &mut len) };
    if ticket.is_null() || len == 0 {
        return None;
    }
    // SAFETY: the session owns these bytes, and nothing changes them while it is borrowed.
    Some(unsafe { slice::from_raw_parts(ticket, len) })
}

/// The number of seconds for which the client can offer the ticket. In TLS 1.2, 0 means that the
/// server does not say.
pub fn lifetime(session: &SslSessionRef) -> u64 {
    // SAFETY: the session is alive.
    unsafe { SSL_SESSION_get_ticket_lifetime_hint(session.as_ptr()) }
}
