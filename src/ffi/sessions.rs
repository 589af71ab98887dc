//! The bodies that the C names and the C++ names of the five functions share.

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::{ptr, slice};

use foreign_types::ForeignTypeRef;
use log::LevelFilter;
use openssl::ssl::SslSessionRef;

use super::types::{TSReturnCode, TSSslSession, TSSslSessionID};
use crate::guard::{enter, quick};
use crate::id::SessionId;
use crate::library::Library;
use crate::stats::Counter;
use crate::tls::{self, StoreError};

/// # Safety
/// As for `TSSslSessionGet`.
pub unsafe fn get(id: *const TSSslSessionID) -> TSSslSession {
    enter("TSSslSessionGet", |library| {
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
    // SAFETY: the caller vouches for the pointers.
    let at_once = quick("TSSslSessionGetBuffer, at once", || unsafe {
        get_buffer_at_once(id, buffer, len_ptr)
    });
    if let Some(needed) = at_once {
        return needed;
    }
    let needed = enter("TSSslSessionGetBuffer", |library| {
        if len_ptr.is_null() {
            log::error!(target: "ssl.session_cache.get", "TSSslSessionGetBuffer: len_ptr is NULL");
            return 0;
        }
        // SAFETY: as above.
        unsafe {
            let space = space(buffer, len_ptr);
            let id = read_id("TSSslSessionGetBuffer", id);
            let needed = id.and_then(|id| library.copy_der(&id, space));
            answer(len_ptr, space.len(), needed)
        }
    });
    // SAFETY: as above.
    unsafe { none_stored(len_ptr, needed) }
}

/// [`get_buffer`] where all is as it nearly always is; otherwise `None`, and nothing
/// has happened.
///
/// # Safety
/// As for `TSSslSessionGetBuffer`.
unsafe fn get_buffer_at_once(
    id: *const TSSslSessionID,
    buffer: *mut c_char,
    len_ptr: *mut c_int,
) -> Option<c_int> {
    // Debug lines are written by the other way.
    if id.is_null() || len_ptr.is_null() || log::max_level() >= LevelFilter::Debug {
        return None;
    }
    let library = Library::if_made()?;
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        let id = copy_id(id).ok()?;
        let space = space(buffer, len_ptr);
        let needed = library.copy_der_at_once(&id, space)?;
        Some(answer(len_ptr, space.len(), needed))
    }
}

/// Where the bytes that the caller asks for go to.
///
/// # Safety
/// `len_ptr` points to a number; `buffer` is null or has as many bytes, which may be
/// uninitialized, and which nobody else uses as long as the result lives.
pub(super) unsafe fn space<'a>(
    buffer: *mut c_char,
    len_ptr: *const c_int,
) -> &'a mut [MaybeUninit<u8>] {
    if buffer.is_null() {
        return &mut [];
    }
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        let len = usize::try_from(len_ptr.read_unaligned()).unwrap_or(0);
        slice::from_raw_parts_mut(buffer.cast(), len)
    }
}

/// What the caller is told of what needs so many bytes, or of nothing.
///
/// # Safety
/// `len_ptr` may be written to.
pub(super) unsafe fn answer(len_ptr: *mut c_int, space: usize, needed: Option<usize>) -> c_int {
    let needed = needed.unwrap_or(0);
    // No session is larger than a c_int counts: the limit is 16 MiB at most.
    // SAFETY: the caller vouches for the pointer.
    unsafe { len_ptr.write_unaligned(needed.min(space) as c_int) };
    needed as c_int
}

/// Tells the caller, where nothing is needed, that nothing was stored: after a panic nobody has.
///
/// # Safety
/// `len_ptr` is null or may be written to.
pub(super) unsafe fn none_stored(len_ptr: *mut c_int, needed: c_int) -> c_int {
    if needed == 0 && !len_ptr.is_null() {
        // SAFETY: the caller vouches for the pointer.
        unsafe { len_ptr.write_unaligned(0) };
    }
    needed
}

/// # Safety
/// As for `TSSslSessionInsert`.
pub unsafe fn insert(id: *const TSSslSessionID, session: TSSslSession) -> TSReturnCode {
    enter("TSSslSessionInsert", |library| {
        // SAFETY: the caller vouches for the pointer.
        let id = unsafe { read_id("TSSslSessionInsert", id) };
        if session.is_null() {
            log::error!(target: "ssl.session_cache.insert", "TSSslSessionInsert: the session is NULL");
        }
        let Some(id) = id.filter(|_| !session.is_null()) else {
            library.stats.count(Counter::RefusedInvalid);
            return TSReturnCode::TS_ERROR;
        };
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
    enter("TSSslSessionRemove", |library| {
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
    enter("TSSslTicketKeyUpdate", |library| {
        // SAFETY: the caller vouches for the pointer and its length.
        let data = unsafe { bytes(data, len) };
        match library.update_ticket_keys("TSSslTicketKeyUpdate", data) {
            Ok(()) => TSReturnCode::TS_SUCCESS,
            Err(error) => {
                log::error!(target: "ssl_session_ticket", "TSSslTicketKeyUpdate: {error}; the keys in force stay");
                TSReturnCode::TS_ERROR
            }
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

/// Copies a valid ID; says what is wrong with any other.
///
/// # Safety
/// `id` is null or as for [`copy_id`].
pub(super) unsafe fn read_id(function: &str, id: *const TSSslSessionID) -> Option<SessionId> {
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

/// Copies a valid ID, or returns the length that makes it none. Reads no byte past its
/// length: the struct may end with the memory that its owner has.
///
/// # Safety
/// `id` points to a length and, if that is valid, to as many bytes.
unsafe fn copy_id(id: *const TSSslSessionID) -> Result<SessionId, usize> {
    // SAFETY: the caller vouches for the length, and for the bytes once it is valid.
    unsafe {
        let len = (&raw const (*id).len).read_unaligned();
        if len > crate::id::MAX_LEN {
            return Err(len);
        }
        let bytes = slice::from_raw_parts((&raw const (*id).bytes).cast(), len);
        SessionId::new(bytes).ok_or(len)
    }
}
