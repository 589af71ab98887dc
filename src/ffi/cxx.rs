//! The five functions as ATS 9, 10 and 11 declare them, under the names that a C++
//! compiler makes of the declarations of ATS 10 and 11 (Itanium C++ ABI): their
//! `ts.h` has no `extern "C"`.
//!
//! `<ts/ts.h>` has these signatures from `TS_SSL_SESSION_API` 9 on. [`super::ts`] describes what
//! the functions do.

use std::ffi::{c_char, c_int};

use super::sessions;
use super::types::{TSReturnCode, TSSslConnection, TSSslSession, TSSslSessionID};

/// # Safety
/// As for `TSSslSessionGet`.
#[unsafe(export_name = "_Z15TSSslSessionGetPK14TSSslSessionID")]
pub unsafe extern "C" fn get(sessionid: *const TSSslSessionID) -> TSSslSession {
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslSessionGet(sessionid) }
}

/// # Safety
/// As for `TSSslSessionGetBuffer`.
#[unsafe(export_name = "_Z21TSSslSessionGetBufferPK14TSSslSessionIDPcPi")]
pub unsafe extern "C" fn get_buffer(
    sessionid: *const TSSslSessionID,
    buffer: *mut c_char,
    len_ptr: *mut c_int,
) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslSessionGetBuffer(sessionid, buffer, len_ptr) }
}

/// # Safety
/// As for `TSSslSessionInsert`; `ssl_conn` is never read.
#[unsafe(export_name = "_Z18TSSslSessionInsertPK14TSSslSessionIDP17tsapi_ssl_sessionP13tsapi_ssl_obj")]
pub unsafe extern "C" fn insert(
    sessionid: *const TSSslSessionID,
    addSession: TSSslSession,
    ssl_conn: TSSslConnection,
) -> TSReturnCode {
    let _ = ssl_conn;
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslSessionInsert(sessionid, addSession) }
}

/// # Safety
/// As for `TSSslSessionRemove`.
#[unsafe(export_name = "_Z18TSSslSessionRemovePK14TSSslSessionID")]
pub unsafe extern "C" fn remove(sessionid: *const TSSslSessionID) -> TSReturnCode {
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslSessionRemove(sessionid) }
}

/// # Safety
/// As for `TSSslTicketKeyUpdate`.
#[unsafe(export_name = "_Z20TSSslTicketKeyUpdatePci")]
pub unsafe extern "C" fn ticket_key_update(
    ticketData: *mut c_char,
    ticketDataLength: c_int,
) -> TSReturnCode {
    // SAFETY: passed on to the caller.
    unsafe { sessions::TSSslTicketKeyUpdate(ticketData, ticketDataLength) }
}
