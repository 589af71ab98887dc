//! Sessions of OpenSSL into the cache, and out of it.

use std::ffi::c_long;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslSession, SslSessionRef, SslVersion};
use openssl_sys as ffi;
use zeroize::Zeroizing;

use super::error::StoreError;
use super::session::{self, Encoded};
use crate::base::session_id::SessionId;
use crate::instance::Instance;
use crate::report::counters::Purpose;

/// The longest that a session may be resumed, in seconds, whatever it says itself: by its
/// ID (RFC 5246, F.1.4), and from TLS 1.3 on (RFC 8446, 4.6.1), which is also the
/// longest that a ticket may say.
const MOST_SECONDS: c_long = 24 * 3600;
pub const MOST_SECONDS_TLS13: c_long = 7 * 24 * 3600;

/// More than the secret of any session has: TLS 1.3 has as many bytes as its hash, at most 64.
const MAX_SECRET_LEN: usize = 256;

/// Looks a session up; the result is the caller's alone.
pub fn find(instance: &Instance, id: &SessionId, purpose: Purpose) -> Option<SslSession> {
    instance.sessions.with_der(id, purpose, session::restore)
}

/// Takes a session out of the cache for a handshake; of several, one gets it.
pub fn take(instance: &Instance, id: &SessionId) -> Option<SslSession> {
    instance.sessions.take_der(id, session::restore)
}

/// Stores a session under an ID.
pub fn store(
    instance: &Instance,
    id: &SessionId,
    session: &SslSessionRef,
) -> Result<(), StoreError> {
    let der = Encoded::new(session).inspect_err(|error| error.count(&instance.stats))?;
    insert(instance, id, session, der.as_bytes())
}

/// Stores the DER bytes of one session under an ID. OpenSSL also reads what is not quite DER
/// (lengths written in another way): it is encoded again, so that only DER comes out.
pub fn store_der(instance: &Instance, id: &SessionId, der: &[u8]) -> Result<(), StoreError> {
    let session = session::decode(der).inspect_err(|error| error.count(&instance.stats))?;
    let result = store(instance, id, &session);
    session::free(session);
    result
}

fn insert(
    instance: &Instance,
    id: &SessionId,
    session: &SslSessionRef,
    der: &[u8],
) -> Result<(), StoreError> {
    // SAFETY: a reference is to a live session.
    let (time, timeout) = unsafe {
        (
            ffi::SSL_SESSION_get_time(session.as_ptr()),
            ffi::SSL_SESSION_get_timeout(session.as_ptr()),
        )
    };
    let most = match session.protocol_version() {
        SslVersion::TLS1_3 => MOST_SECONDS_TLS13,
        _ => MOST_SECONDS,
    };
    instance
        .sessions
        .insert(id, der, time, timeout.min(most))
        .map_err(StoreError::NotStored)
}

/// Removes the session that is stored under an ID, if it is this one; `false` if it is not. A
/// session ID proves nothing: a client chooses the one that it sends with a TLS 1.2 ticket.
pub fn remove_same(instance: &Instance, id: &SessionId, session: &SslSessionRef) -> bool {
    let mut secret = Zeroizing::new([0; MAX_SECRET_LEN]);
    let len = session.master_key(secret.as_mut_slice());
    // No two sessions have the same secret, and it stands in the DER as it is.
    len > 0 && instance.sessions.remove_containing(id, &secret[..len])
}
