//! The bodies that the C names and the C++ names of the five functions share.

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::{ptr, slice};

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslSessionRef;

use super::enter;
use super::types::{TSReturnCode, TSSslSession, TSSslSessionID};
use crate::id::SessionId;
use crate::tls::{self, StoreError};

/// # Safety
/// As for `TSSslSessionGet`.
pub unsafe fn get(id: *const TSSslSessionID) -> TSSslSession {
    enter(|library| {
        // SAFETY: the caller vouches for the pointer.
        let id = unsafe { read_id("TSSslSessionGet", id) };
        match id.and_then(|id| tls::find(library, &id)) {
            Some(session) => tls::into_raw(session).cast(),
            None => ptr::null_mut(),
        }
    })
}

/// # Safety
/// As for `TSSslSessionGetBuffer`.
pub unsafe fn get_buffer(
    id: *const TSSslSessionID,
    buffer: *mut c_char,
    len_ptr: *mut c_int,
) -> c_int {
    enter(|library| {
        if len_ptr.is_null() {
            log::error!(target: "ssl.session_cache.get", "TSSslSessionGetBuffer: len_ptr is NULL");
            return 0;
        }
        // SAFETY: the caller vouches for the pointers. `buffer` may be uninitialized,
        // and is only made into a slice when it is not null.
        let (id, space) = unsafe {
            let space = match buffer.is_null() {
                true => &mut [],
                false => {
                    let len = usize::try_from(len_ptr.read_unaligned()).unwrap_or(0);
                    slice::from_raw_parts_mut(buffer.cast::<MaybeUninit<u8>>(), len)
                }
            };
            (read_id("TSSslSessionGetBuffer", id), space)
        };
        let needed = id.and_then(|id| library.copy_der(&id, space)).unwrap_or(0);
        let stored = needed.min(space.len());
        // No session is larger than a c_int counts: the limit is 16 MiB at most.
        // SAFETY: as above.
        unsafe { len_ptr.write_unaligned(stored as c_int) };
        needed as c_int
    })
}

/// # Safety
/// As for `TSSslSessionInsert`.
pub unsafe fn insert(id: *const TSSslSessionID, session: TSSslSession) -> TSReturnCode {
    enter(|library| {
        // SAFETY: the caller vouches for the pointer.
        let Some(id) = (unsafe { read_id("TSSslSessionInsert", id) }) else {
            return TSReturnCode::TS_ERROR;
        };
        if session.is_null() {
            log::error!(target: "ssl.session_cache.insert", "TSSslSessionInsert: the session is NULL");
            return TSReturnCode::TS_ERROR;
        }
        // SAFETY: the caller vouches for the session, which stays theirs.
        let session = unsafe { SslSessionRef::from_ptr(session.cast()) };
        stored("TSSslSessionInsert", tls::store(library, &id, session))
    })
}

/// The result of an insert for C, and for the log if it failed.
pub(super) fn stored(function: &str, result: Result<(), StoreError>) -> TSReturnCode {
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
pub unsafe fn remove(id: *const TSSslSessionID) -> TSReturnCode {
    enter(|library| {
        // SAFETY: the caller vouches for the pointer.
        let id = unsafe { read_id("TSSslSessionRemove", id) };
        match id {
            Some(id) if library.caches() => {
                library.remove(&id);
                TSReturnCode::TS_SUCCESS
            }
            _ => TSReturnCode::TS_ERROR,
        }
    })
}

/// # Safety
/// As for `TSSslTicketKeyUpdate`.
pub unsafe fn update_ticket_keys(data: *const c_char, len: c_int) -> TSReturnCode {
    enter(|library| {
        // SAFETY: the caller vouches for the pointer and its length.
        let data = unsafe { bytes(data, len) };
        match library.update_ticket_keys("TSSslTicketKeyUpdate", data) {
            Ok(()) => TSReturnCode::TS_SUCCESS,
            Err(_) => TSReturnCode::TS_ERROR,
        }
    })
}

/// The bytes that a pointer and a length name; none for NULL or a negative length.
///
/// # Safety
/// `data` is null or has `len` bytes, which nobody changes as long as the result lives.
pub(super) unsafe fn bytes<'a>(data: *const c_char, len: c_int) -> &'a [u8] {
    match (data.is_null(), usize::try_from(len)) {
        // SAFETY: passed on to the caller.
        (false, Ok(len)) => unsafe { slice::from_raw_parts(data.cast(), len) },
        _ => &[],
    }
}

/// Copies a valid ID; says what is wrong with any other. Reads no byte past its
/// length: the struct may end with the memory that its owner has.
///
/// # Safety
/// `id` is null or points to a length and, if that is valid, to as many bytes.
pub(super) unsafe fn read_id(function: &str, id: *const TSSslSessionID) -> Option<SessionId> {
    if id.is_null() {
        log::error!(target: "ssl.session_cache", "{function}: the session ID is NULL");
        return None;
    }
    // SAFETY: the caller vouches for the length, and for the bytes once it is valid.
    unsafe {
        let len = (&raw const (*id).len).read_unaligned();
        if len == 0 || len > crate::id::MAX_LEN {
            log::error!(target: "ssl.session_cache", "{function}: the session ID has {len} bytes; it must have 1 to 32");
            return None;
        }
        SessionId::new(slice::from_raw_parts((&raw const (*id).bytes).cast(), len))
    }
}
