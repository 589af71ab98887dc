//! Resumption does not prolong a session's life: it counts from the full handshake that began the
//! line of sessions, and ends no later than the client's certificate (RFC 8446, 4.6.1).
//!
//! In TLS 1.3 each resumption makes a new session with a new date. The time of the full handshake is
//! passed on in the session's ticket application data: OpenSSL copies them from a resumed session
//! into the new one, and writes them into DER and tickets. Up to TLS 1.2 a session keeps its date.

use std::ffi::{c_int, c_long, c_void};
use std::{ptr, slice};

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslSessionRef, SslVersion};
use openssl_sys as ffi;
use openssl_sys::SSL;

use super::bindings::{
    ASN1_TIME_diff, SSL_SESSION_get_time, SSL_SESSION_get0_peer, SSL_SESSION_get0_ticket_appdata,
    SSL_SESSION_set1_ticket_appdata, X509_get0_notAfter,
};
use super::visit::Visit;
use crate::base::clock;
use crate::instance::boundary::guard;
use crate::settings::table::{Config, Record};

/// The longest time that a session can be resumed, in seconds, whatever its own timeout is: by its
/// ID up to TLS 1.2 (RFC 5246, F.1.4), and from TLS 1.3 on (RFC 8446, 4.6.1), which is also the
/// longest lifetime that a ticket can have.
const MOST_SECONDS: i64 = 24 * 3600;
pub const MOST_SECONDS_TLS13: i64 = 7 * 24 * 3600;

/// Stands before the time in the application data.
const MARK: [u8; 4] = *b"tsl1";

/// How long a session can be resumed.
pub struct Life {
    /// The time of the full handshake, in seconds since 1970.
    pub head: i64,
    /// The seconds from then on.
    pub seconds: i64,
}

impl Life {
    /// The life of a session that is looked up by its ID.
    pub fn by_id(session: &SslSessionRef, config: &Config) -> Self {
        let most = match session.protocol_version() {
            SslVersion::TLS1_3 => MOST_SECONDS_TLS13,
            _ => MOST_SECONDS,
        };
        Self::of(session, most, config)
    }

    /// The life of a session in a ticket.
    pub fn in_ticket(session: &SslSessionRef, config: &Config) -> Self {
        let mut life = Self::of(session, MOST_SECONDS_TLS13, config);
        if let timeout @ 1.. = config.int(Record::Timeout) {
            life.seconds = life.seconds.min(timeout);
        }
        life
    }

    fn of(session: &SslSessionRef, most: i64, config: &Config) -> Self {
        // SAFETY: a reference is to a live session.
        let (time, timeout) = unsafe {
            (
                SSL_SESSION_get_time(session.as_ptr()),
                ffi::SSL_SESSION_get_timeout(session.as_ptr()),
            )
        };
        let head = head(session).map_or(time, |head| head.min(time));
        let own = time.saturating_sub(head).saturating_add(timeout);
        let most = most.min(config.int(Record::MaxAge));
        let mut seconds = own.min(most);
        if let Some(left) = certificate_ends_in(session) {
            // A session with a date in the future counts from now.
            let since = clock::now().wall.saturating_sub(head).max(0);
            seconds = seconds.min(since.saturating_add(left));
        }
        Self { head, seconds }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        clock::now().wall >= self.head.saturating_add(self.seconds)
    }
}

/// The time of the full handshake, if the session says it.
fn head(session: &SslSessionRef) -> Option<i64> {
    let time = application_data(session)?.strip_prefix(&MARK)?;
    Some(i64::from_be_bytes(time.try_into().ok()?))
}

fn application_data(session: &SslSessionRef) -> Option<&[u8]> {
    let mut data = ptr::null_mut();
    let mut len = 0;
    // SAFETY: the session is live, and keeps the data while it is borrowed.
    unsafe {
        let found = SSL_SESSION_get0_ticket_appdata(session.as_ptr(), &mut data, &mut len) == 1;
        (found && len > 0).then(|| slice::from_raw_parts(data.cast::<u8>(), len))
    }
}

/// The seconds for which the client's certificate is still valid; negative if it has expired; `None`
/// without a certificate.
fn certificate_ends_in(session: &SslSessionRef) -> Option<i64> {
    // SAFETY: the session is live, and keeps the certificate while it is borrowed; a null time means
    // now.
    unsafe {
        let certificate = SSL_SESSION_get0_peer(session.as_ptr());
        if certificate.is_null() {
            return None;
        }
        let (mut days, mut seconds) = (0, 0);
        let end = X509_get0_notAfter(certificate);
        let done = ASN1_TIME_diff(&mut days, &mut seconds, ptr::null(), end) == 1;
        // A certificate whose end cannot be read counts as expired.
        Some(if done {
            i64::from(days) * 86_400 + i64::from(seconds)
        } else {
            -1
        })
    }
}

/// Writes the time of the full handshake into a session that begins a line, or that is about to be
/// resumed and has none. A session from a resumed handshake has it already. If the host has set
/// application data, they stay, and each session counts from its own handshake.
pub fn mark(session: &SslSessionRef) {
    if session.protocol_version() != SslVersion::TLS1_3 || application_data(session).is_some() {
        return;
    }
    let Some(visit) = Visit::begin() else {
        return;
    };
    // SAFETY: the session is live and this handshake's; OpenSSL copies the data.
    unsafe {
        let time: c_long = SSL_SESSION_get_time(session.as_ptr());
        let mut data = [0; 12];
        data[..4].copy_from_slice(&MARK);
        data[4..].copy_from_slice(&time.to_be_bytes());
        if SSL_SESSION_set1_ticket_appdata(session.as_ptr(), data.as_ptr().cast(), data.len()) == 1
        {
            visit.end_in_success();
        }
    }
}

/// Called when a ticket is about to be made of the connection's session.
pub unsafe extern "C" fn generate_ticket(ssl: *mut SSL, _arg: *mut c_void) -> c_int {
    guard(|| {
        // SAFETY: OpenSSL passes a live connection, whose session is live or null.
        unsafe {
            let session = ffi::SSL_get_session(ssl);
            if !session.is_null() {
                mark(SslSessionRef::from_ptr(session));
            }
        }
    });
    // 0 would fail the handshake.
    1
}
