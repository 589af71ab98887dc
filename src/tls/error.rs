//! Why OpenSSL did not do what it was asked for.

use std::error::Error;
use std::ffi::{c_int, c_ulong};
use std::fmt;
use std::ptr;

use openssl_sys as ffi;

use super::bindings::{
    ERR_R_MALLOC_FAILURE, ERR_peek_error, OPENSSL_INIT_BASE_ONLY, OPENSSL_init_crypto,
};
use crate::base::alloc::NoMemory;
use crate::instance::sessions::NotStored;
use crate::report::counters::{Counter, Stats};

/// Why a session could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// OpenSSL could not encode it.
    Unencodable,
    /// The bytes are not those of exactly one session.
    NotASession,
    /// It is one of another OpenSSL than the library's.
    OtherOpenSsl,
    /// OpenSSL had no memory.
    NoMemory,
    /// The process is about to end, and OpenSSL has done so already.
    OpenSslEnded,
    /// The library did not take it.
    NotStored(NotStored),
}

impl StoreError {
    /// Why OpenSSL has just failed to encode or to decode a session, if not for `reason`.
    pub(super) fn of_openssl(reason: Self) -> Self {
        // SAFETY: allowed at any time; fails once OpenSSL has taken itself down. The others
        // read this thread's error queue.
        let (is_there, errors) = unsafe {
            (
                OPENSSL_init_crypto(OPENSSL_INIT_BASE_ONLY, ptr::null()) == 1,
                [ERR_peek_error(), ffi::ERR_peek_last_error()],
            )
        };
        if !is_there {
            Self::OpenSslEnded
        } else if errors.into_iter().any(is_lack_of_memory) {
            Self::NoMemory
        } else {
            reason
        }
    }

    pub(super) fn count(&self, stats: &Stats) {
        stats.count(match self {
            Self::NoMemory => Counter::RefusedNoMemory,
            _ => Counter::RefusedInvalid,
        });
    }

    /// How much the operator wants to know of it: what comes with normal
    /// operation is for debugging only.
    pub fn level(&self) -> log::Level {
        match self {
            Self::NotStored(reason) if reason.is_normal() => log::Level::Debug,
            _ => log::Level::Warn,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unencodable => write!(f, "OpenSSL cannot encode it"),
            Self::NotASession => write!(f, "not exactly one whole session"),
            Self::OtherOpenSsl => write!(f, "it is one of another OpenSSL than the library's"),
            Self::NoMemory => NoMemory.fmt(f),
            Self::OpenSslEnded => write!(f, "the process ends, and OpenSSL is no longer there"),
            Self::NotStored(reason) => reason.fmt(f),
        }
    }
}

impl Error for StoreError {}

/// Whether an error in OpenSSL's queue says that there was no memory.
fn is_lack_of_memory(error: c_ulong) -> bool {
    /// A reason has flags above.
    const REASON: c_int = 0x3ffff;
    ffi::ERR_GET_REASON(error) & REASON == ERR_R_MALLOC_FAILURE
}
