//! The bodies that the C names and the C++ names of the five functions share.

use std::ffi::{c_char, c_int};
use std::{ptr, slice};

use foreign_types::ForeignTypeRef;
use log::LevelFilter;
use openssl::ssl::{SslSession, SslSessionRef};

use tssession_common::boundary::Name;
use tssession_common::buffer::{answer, none_stored, space};

use super::types::{TSReturnCode, TSSslSession, TSSslSessionID};
use crate::base::secret_memory::SecretCopy;
use crate::base::session_id::{MAX_LEN, SessionId};
use crate::instance::Instance;
use crate::instance::boundary::{enter, quick};
use crate::report::counters::Counter;
use crate::tls::{self, StoreError};

/// # Safety
/// As for `TSSslSessionGet`.
pub unsafe fn TSSslSessionGet(id: *const TSSslSessionID) -> TSSslSession {
    let mut copy = SecretCopy::default();
    let session = quick(|| {
        // SAFETY: the caller vouches for the pointer.
        let (instance, id) = unsafe { at_once(id) }?;
        tls::find_at_once(instance, &id, &mut copy)
    });
    let to_c = |session: Option<SslSession>| match session {
        Some(session) => tls::into_raw(session).cast(),
        None => ptr::null_mut(),
    };
    if let Some(session) = session {
        return to_c(session);
    }
    enter(|instance, function| {
        to_c(if copy.bytes().is_empty() {
            // SAFETY: as above.
            let id = unsafe { read_id(function, id) };
            id.and_then(|id| tls::find(instance, &id))
        } else {
            tls::restore_found(instance, &copy)
        })
    })
}

/// # Safety
/// As for `TSSslSessionGetBuffer`.
pub unsafe fn TSSslSessionGetBuffer(
    id: *const TSSslSessionID,
    buffer: *mut c_char,
    len_ptr: *mut c_int,
) -> c_int {
    let needed = quick(|| {
        if len_ptr.is_null() {
            return None;
        }
        // SAFETY: the caller vouches for the pointers.
        unsafe {
            let (instance, id) = at_once(id)?;
            let space = space(buffer, len_ptr);
            let needed = instance.sessions.copy_der_at_once(&id, space)?;
            Some(answer(len_ptr, space.len(), needed))
        }
    });
    if let Some(needed) = needed {
        return needed;
    }
    let needed = enter(|instance, function| {
        if len_ptr.is_null() {
            log::error!(target: "ssl.session_cache.get", "{function}: len_ptr is NULL; nothing is written");
            return 0;
        }
        // SAFETY: as above.
        unsafe {
            let space = space(buffer, len_ptr);
            let id = read_id(function, id);
            let needed = id.and_then(|id| instance.sessions.copy_der(&id, space));
            answer(len_ptr, space.len(), needed)
        }
    });
    // SAFETY: as above.
    unsafe { none_stored(len_ptr, needed) }
}

/// What a call needs that is done with little ado: there is an instance, the ID is valid, and
/// nobody wants debug lines, which the other way writes.
///
/// # Safety
/// `id` is null or as for [`copy_id`].
#[inline]
unsafe fn at_once(id: *const TSSslSessionID) -> Option<(&'static Instance, SessionId)> {
    if id.is_null() || log::max_level() >= LevelFilter::Debug {
        return None;
    }
    // SAFETY: the caller vouches for the pointer.
    let id = unsafe { copy_id(id) }.ok()?;
    Some((Instance::if_made()?, id))
}

/// # Safety
/// As for `TSSslSessionInsert`.
pub unsafe fn TSSslSessionInsert(id: *const TSSslSessionID, session: TSSslSession) -> TSReturnCode {
    enter(|instance, function| {
        // SAFETY: the caller vouches for the pointer.
        let id = unsafe { read_id(function, id) };
        if session.is_null() {
            log::error!(target: "ssl.session_cache.insert", "{function}: the session is NULL; nothing is stored");
        }
        let Some(id) = id.filter(|_| !session.is_null()) else {
            instance.stats.count(Counter::RefusedInvalid);
            return TSReturnCode::TS_ERROR;
        };
        // SAFETY: the caller vouches for the session, which stays theirs.
        let session = unsafe { SslSessionRef::from_ptr(session.cast()) };
        stored(function, tls::store(instance, &id, session))
    })
}

/// Returns the result of an insert for C, and logs an error.
pub(super) fn stored(function: Name, result: Result<(), StoreError>) -> TSReturnCode {
    match result {
        Ok(()) => TSReturnCode::TS_SUCCESS,
        Err(error) => {
            log::log!(target: "ssl.session_cache.insert", error.level(), "{function}: not stored: {error}");
            TSReturnCode::TS_ERROR
        }
    }
}

/// # Safety
/// As for `TSSslSessionRemove`.
pub unsafe fn TSSslSessionRemove(id: *const TSSslSessionID) -> TSReturnCode {
    let removed = quick(|| {
        // SAFETY: the caller vouches for the pointer.
        let (instance, id) = unsafe { at_once(id) }?;
        instance.sessions.remove_at_once(&id)
    });
    if removed.is_some() {
        return TSReturnCode::TS_SUCCESS;
    }
    enter(|instance, function| {
        // SAFETY: the caller vouches for the pointer.
        let id = unsafe { read_id(function, id) };
        match id {
            Some(id) if instance.sessions.is_on() => {
                instance.sessions.remove(&id);
                TSReturnCode::TS_SUCCESS
            }
            _ => TSReturnCode::TS_ERROR,
        }
    })
}

/// # Safety
/// As for `TSSslTicketKeyUpdate`.
pub unsafe fn TSSslTicketKeyUpdate(data: *const c_char, len: c_int) -> TSReturnCode {
    enter(|instance, function| {
        // SAFETY: the caller vouches for the pointer and its length.
        let data = unsafe { bytes(data, len) };
        match instance.keys.update(function, data) {
            Ok(()) => TSReturnCode::TS_SUCCESS,
            Err(error) => {
                log::error!(target: "ssl_session_ticket", "{function}: {error}; the active keys are unchanged");
                TSReturnCode::TS_ERROR
            }
        }
    })
}

/// The bytes that a pointer and a length name; none for NULL or a negative length.
///
/// # Safety
/// `data` is null or has `len` bytes, which do not change as long as the result lives.
pub(super) unsafe fn bytes<'a>(data: *const c_char, len: c_int) -> &'a [u8] {
    match (data.is_null(), usize::try_from(len)) {
        // SAFETY: passed on to the caller.
        (false, Ok(len)) => unsafe { slice::from_raw_parts(data.cast(), len) },
        _ => &[],
    }
}

/// Copies a valid ID; logs what is wrong with any other.
///
/// # Safety
/// `id` is null or as for [`copy_id`].
pub(super) unsafe fn read_id(function: Name, id: *const TSSslSessionID) -> Option<SessionId> {
    if id.is_null() {
        log::error!(target: "ssl.session_cache", "{function}: the session ID is NULL");
        return None;
    }
    // SAFETY: the caller vouches for the pointer.
    unsafe { copy_id(id) }
        .inspect_err(|len| {
            log::error!(target: "ssl.session_cache", "{function}: the session ID has {len} bytes; it must have 1 to 32");
        })
        .ok()
}

/// Copies a valid ID, or returns its length, which is not valid. Reads no byte past the length:
/// the caller's memory may end there.
///
/// # Safety
/// `id` points to a length and, if that is valid, to as many bytes.
#[inline]
unsafe fn copy_id(id: *const TSSslSessionID) -> Result<SessionId, usize> {
    // SAFETY: the caller vouches for the length, and for the bytes once it is valid.
    unsafe {
        let len = (&raw const (*id).len).read_unaligned();
        if len > MAX_LEN {
            return Err(len);
        }
        let bytes = slice::from_raw_parts((&raw const (*id).bytes).cast(), len);
        SessionId::new(bytes).ok_or(len)
    }
}
