//! Stores OpenSSL's sessions in the cache, and looks them up there.

use openssl::ssl::{SslSession, SslSessionRef};
use tssession_common::boundary::undisturbed;
use zeroize::Zeroizing;

use super::der::{Peer, has_negative_timeout};
use super::error::StoreError;
use super::lineage::Life;
use super::session::{self, Encoded};
use crate::base::secret_memory::SecretCopy;
use crate::base::session_id::SessionId;
use crate::instance::Instance;
use crate::report::counters::Purpose;

/// More bytes than any session's secret has: in TLS 1.3 as many as its hash, at most 64.
const MAX_SECRET_LEN: usize = 256;

/// Looks a session up for a call. The result belongs to the caller alone.
pub fn find(instance: &Instance, id: &SessionId) -> Option<SslSession> {
    instance
        .sessions
        .with_der(id, Purpose::Call, session::restore)
}

/// Looks a session up for a handshake, and what it says about the client's certificate. The session
/// belongs to the caller alone.
pub fn find_for_handshake(
    instance: &Instance,
    id: &SessionId,
) -> Option<(SslSession, Option<Peer>)> {
    let read = |der: &[u8]| Some((session::restore(der)?, Peer::of(der)));
    instance.sessions.with_der(id, Purpose::Handshake, read)
}

/// [`find`], if nothing need be waited for. Otherwise `None`; `copy` may have the session's DER then,
/// for [`restore_found`].
pub fn find_at_once(
    instance: &Instance,
    id: &SessionId,
    copy: &mut SecretCopy,
) -> Option<Option<SslSession>> {
    if !instance.sessions.take_copy_at_once(id, copy)? {
        return Some(None);
    }
    let session = undisturbed(|| session::restore_at_once(copy.bytes()))?;
    Some(instance.sessions.counted_call(Some(session)))
}

/// Makes the session of a DER that was found for a call; the result is the caller's alone.
pub fn restore_found(instance: &Instance, copy: &SecretCopy) -> Option<SslSession> {
    instance
        .sessions
        .counted_call(session::restore(copy.bytes()))
}

/// Stores a session under an ID.
pub fn store(
    instance: &Instance,
    id: &SessionId,
    session: &SslSessionRef,
) -> Result<(), StoreError> {
    encode_and_insert(instance, id, session, false)
}

/// Stores the DER bytes of one session under an ID. OpenSSL also decodes bytes that are not strictly
/// DER (with lengths in another form). So the session is encoded again, and the cache has only DER.
pub fn store_der(instance: &Instance, id: &SessionId, der: &[u8]) -> Result<(), StoreError> {
    let session = session::decode(der).inspect_err(|error| error.count(&instance.stats))?;
    let result = encode_and_insert(instance, id, &session, has_negative_timeout(der));
    session::free(session);
    result
}

fn encode_and_insert(
    instance: &Instance,
    id: &SessionId,
    session: &SslSessionRef,
    is_over: bool,
) -> Result<(), StoreError> {
    let der = Encoded::new(session).inspect_err(|error| error.count(&instance.stats))?;
    let mut life = Life::by_id(session, &instance.config);
    if is_over {
        life.seconds = 0;
    }
    instance
        .sessions
        .insert(id, der.as_bytes(), life.head, life.seconds)
        .map_err(StoreError::NotStored)
}

/// Removes the session that is stored under an ID, if it is this one; `false` if it is not. The ID
/// alone proves nothing: a client chooses the ID that it sends with a TLS 1.2 ticket.
pub fn remove_same(instance: &Instance, id: &SessionId, session: &SslSessionRef) -> bool {
    with_secret(session, |secret| {
        instance.sessions.remove_containing(id, secret)
    })
}

/// As [`remove_same`], for a session that can be used only once: it is not removed, and must not be
/// used, if a parent of this process has it too.
pub fn take_own(instance: &Instance, id: &SessionId, session: &SslSessionRef) -> bool {
    with_secret(session, |secret| instance.sessions.take_own(id, secret))
}

/// Calls `remove` with the session's secret: no two sessions have the same, and the DER contains it
/// as it is.
fn with_secret(session: &SslSessionRef, remove: impl FnOnce(&[u8]) -> bool) -> bool {
    let mut secret = Zeroizing::new([0; MAX_SECRET_LEN]);
    let len = session.master_key(secret.as_mut_slice());
    len > 0 && remove(&secret[..len])
}
