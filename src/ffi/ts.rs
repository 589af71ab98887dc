//! The five functions of the manual page under their C names.
//!
//! The doc comments are the text of `<ts/ts.h>`.

use std::ffi::{c_char, c_int};

use super::sessions;
use super::types::{TSReturnCode, TSSslSession, TSSslSessionID};

/// `void` in the header of the manual page, `TSReturnCode` in that of ATS 9. One function serves
/// both: a caller that expects nothing does not look at the result.
pub type TicketKeyUpdateResult = TSReturnCode;

/// Gets a session from the cache.
///
/// sessionid is the ID that the session was stored under. If
/// proxy.config.ssl.session_cache.skip_cache_on_bucket_contention is 1, a session is not found
/// while its part of the cache is locked. OpenSSL's error queue is unchanged.
///
/// # Returns
/// The session. The caller owns it, can change it and must free it with SSL_SESSION_free; the
/// cached session stays as it is.
///
/// # Errors
/// NULL if there is no session under this ID, the session has expired, the ID is not valid (an
/// error is logged), the cache is off, or there is no memory.
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Source
/// TSSslSession(3ts) of Apache Traffic Server.
///
/// # Safety
/// `sessionid` is null, or readable as far as its `len` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionGet(sessionid: *const TSSslSessionID) -> TSSslSession {
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslSessionGet(sessionid) }
}

/// Gets a session from the cache as DER bytes.
///
/// sessionid is the ID that the session was stored under. On entry *len_ptr is the space in
/// buffer, in bytes; on return it is the number of bytes stored. A session that does not fit is
/// truncated. To ask for the size, pass NULL as buffer or a space of 0 or less: nothing is stored
/// then, and *len_ptr becomes 0.
///
/// The bytes contain the session's master secret. Another process reads them with
/// d2i_SSL_SESSION or TSSslSessionInsertBuffer. While the session's part of the cache is locked,
/// the function does what TSSslSessionGet does.
///
/// # Returns
/// The size of the whole session in bytes. If it is greater than *len_ptr, the session was
/// truncated.
///
/// # Errors
/// 0, with *len_ptr 0, if there is no session under this ID, the session has expired, the ID is
/// not valid (an error is logged), the cache is off, or there is no memory. 0 also if len_ptr
/// is NULL (an error is logged).
///
/// # Threads
/// Any thread can call it at any time.
///
/// # Source
/// TSSslSession(3ts) of Apache Traffic Server.
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

/// Inserts a session into the cache.
///
/// sessionid is the key, whatever ID addSession itself carries. If there is an entry under it,
/// that entry is removed first. No hook is called. OpenSSL's error queue is unchanged.
///
/// # Returns
/// TS_SUCCESS if the session is stored, otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR in the cases below. What was cached stays cached, except that a lack of memory can come
/// after sessions were evicted to make room.
///
/// The following are logged: the ID is not valid; addSession is NULL, belongs to another OpenSSL
/// than the library's, or cannot be encoded; it is larger than
/// tssession.session_cache.max_session_bytes (16384) or than the whole cache is allowed to be;
/// there is no memory; the process is ending.
///
/// The following are logged as debug lines only: the session has expired (at the latest a day
/// after it was made, in TLS 1.3 a week); the cache is off; its part of the cache is locked and
/// proxy.config.ssl.session_cache.skip_cache_on_bucket_contention is 1.
///
/// # Threads
/// Any thread can call it at any time. No other thread must change addSession during the call. The
/// ID and the session are copied: the caller still owns both, and the reference count does not
/// change.
///
/// # Source
/// TSSslSession(3ts) of Apache Traffic Server; RFC 5246, F.1.4, and RFC 8446, 4.6.1, for the
/// lifetimes.
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
/// sessionid is the ID that the session was stored under. No hook is called.
///
/// # Returns
/// TS_SUCCESS if no session is under this ID when the call returns, whether there was one before
/// or not; otherwise TS_ERROR.
///
/// # Errors
/// TS_ERROR if the ID is not valid (an error is logged) or the cache is off.
///
/// # Threads
/// Any thread can call it at any time. While the session's part of the cache is locked, the
/// call waits, whatever the settings say.
///
/// # Source
/// TSSslSession(3ts) of Apache Traffic Server.
///
/// # Safety
/// As for `TSSslSessionGet`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSSslSessionRemove(sessionid: *const TSSslSessionID) -> TSReturnCode {
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslSessionRemove(sessionid) }
}

/// Replaces the session-ticket keys of all attached contexts.
///
/// ticketData is a sequence of ticketDataLength / 48 keys. Each is 16 bytes name, 16 bytes
/// HMAC-SHA256 secret and 16 bytes AES-128-CBC key. The first key encrypts tickets, and every
/// key decrypts them. A ticket under any key but the first is renewed. A repeated key counts once.
///
/// Bytes after the last whole key are ignored, and a warning is logged. A later key whose secrets
/// are all zero (an empty slot) is left out; one warning is logged for all of them.
///
/// # Returns
/// From TS_SSL_SESSION_API 9 on, TS_SUCCESS if the new keys are active, otherwise TS_ERROR. With
/// TS_SSL_SESSION_API 8, nothing.
///
/// # Errors
/// If there is not one whole key, the secrets of the first key are all zero, two keys have the
/// same name and different secrets, or there is no memory, the old keys stay active and an error
/// is logged.
///
/// # Threads
/// Any thread can call it at any time. The data is copied.
///
/// # Source
/// TSSslSession(3ts) of Apache Traffic Server.
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
