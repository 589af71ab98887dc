//! The five functions of the manual page under their C names.
//!
//! The doc comments are the text of `<ts/ts.h>`.

use std::ffi::{c_char, c_int};

use super::sessions;
use super::types::{TSReturnCode, TSSslSession, TSSslSessionID};

/// `void` in the header of the manual page, `TSReturnCode` in that of ATS 9: one
/// function serves both, since who expects nothing does not look.
pub type TicketKeyUpdateResult = TSReturnCode;

/// Gets a session out of the cache.
///
/// The result is a session of the caller's own, who may change it and ends it
/// with SSL_SESSION_free; the cache keeps the session as it is. The result is
/// NULL when there is no session under this ID, when it has expired, when the
/// ID is not valid (an error is logged), or when the cache is off.
///
/// Any thread may call it at any time. OpenSSL's error queue stays as it is.
/// Where proxy.config.ssl.session_cache.skip_cache_on_bucket_contention is 1, it
/// also finds nothing when its part of the cache is locked; so does
/// TSSslSessionGetBuffer.
///
/// # Safety
/// `sessionid` is null, or readable as far as its `len` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionGet(sessionid: *const TSSslSessionID) -> TSSslSession {
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslSessionGet(sessionid) }
}

/// Gets a session out of the cache as DER bytes, which another process can read
/// with d2i_SSL_SESSION and insert.
///
/// On entry *len_ptr is the space in buffer, in bytes. The result is the number
/// of bytes that the session really needs, and on return *len_ptr is the number
/// of bytes stored: the first ones of the session, as many as fit, and not a
/// byte more. So the session was cut off when the result is greater than
/// *len_ptr. With a NULL buffer, or a space of 0 or less, nothing is stored and
/// *len_ptr becomes 0: the way to ask for the size.
///
/// The result is 0, and *len_ptr 0, when there is no session under this ID, when
/// it has expired, when the ID is not valid (an error is logged), or when the
/// cache is off. It is 0 too when len_ptr is NULL (an error is logged).
///
/// The bytes hold the session's master secret. Any thread may call it at any
/// time.
///
/// # Safety
/// `sessionid` as for `TSSslSessionGet`; `buffer` is null or has `*len_ptr` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionGetBuffer(
    sessionid: *const TSSslSessionID,
    buffer: *mut c_char,
    len_ptr: *mut c_int,
) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslSessionGetBuffer(sessionid, buffer, len_ptr) }
}

/// Inserts a session into the cache under an ID, whatever ID the session itself
/// carries. If the ID has an entry, that is removed first.
///
/// The ID and the session are copied: the caller goes on owning both, and the
/// session's reference count stays as it is.
///
/// The result is TS_SUCCESS when the session is stored. It is TS_ERROR, and all
/// that was cached still is, when the ID is not valid, the session is NULL or
/// cannot be encoded, is larger than
/// tssession.session_cache.max_session_bytes (16384) or than the whole cache may
/// be (each of these is logged), when it has expired (at the latest a day after it was
/// made, in TLS 1.3 a week), when the cache is off, or
/// when its part of the cache is locked and
/// proxy.config.ssl.session_cache.skip_cache_on_bucket_contention is 1.
///
/// Any thread may call it at any time, as long as no other changes the session
/// meanwhile. No hook is called. OpenSSL's error queue stays as it is.
///
/// # Safety
/// `sessionid` as for `TSSslSessionGet`; `addSession` is null or a live `SSL_SESSION`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionInsert(
    sessionid: *const TSSslSessionID,
    addSession: TSSslSession,
) -> TSReturnCode {
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslSessionInsert(sessionid, addSession) }
}

/// Removes a session from the cache.
///
/// The result is TS_SUCCESS for a valid ID, whether there was a session or not:
/// when the call returns, there is none. It is TS_ERROR when the ID is not valid
/// (an error is logged) or the cache is off.
///
/// Any thread may call it at any time; it waits when its part of the cache is
/// locked, whatever the settings say. No hook is called.
///
/// # Safety
/// As for `TSSslSessionGet`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionRemove(sessionid: *const TSSslSessionID) -> TSReturnCode {
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslSessionRemove(sessionid) }
}

/// Puts a new set of session-ticket keys in force, for every attached context and
/// from now on.
///
/// ticketData is a run of ticketDataLength / 48 keys, each of 16 bytes name, 16
/// bytes HMAC-SHA256 secret and 16 bytes AES-128-CBC key. The first key encrypts
/// tickets; every key decrypts them, and a ticket under another key than the
/// first is renewed. The same key twice counts once. The data is copied.
///
/// The keys in force stay, and an error is logged, when there is not one whole
/// key, when the first key's secrets are all zero, or when two keys have the
/// same name but different secrets. Bytes behind the last whole key are not
/// used, and a later key with secrets of nothing but zeros (an empty slot) is
/// left out: each earns a warning.
///
/// Any thread may call it at any time. From TS_SSL_SESSION_API 9 on the result
/// is TS_SUCCESS when the keys are in force, else TS_ERROR.
///
/// # Safety
/// `ticketData` is null, or has `ticketDataLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslTicketKeyUpdate(
    ticketData: *mut c_char,
    ticketDataLength: c_int,
) -> TicketKeyUpdateResult {
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslTicketKeyUpdate(ticketData, ticketDataLength) }
}
