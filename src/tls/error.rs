//! Why a session could not be stored.

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
    /// The bytes are not exactly one session.
    NotASession,
    /// It belongs to another OpenSSL than the library's.
    OtherOpenSsl,
    /// OpenSSL had no memory.
    NoMemory,
    /// The process is ending, and OpenSSL has cleaned up.
    OpenSslEnded,
    /// The cache did not store it.
    NotStored(NotStored),
}

impl StoreError {
    /// Why OpenSSL has just failed to encode or to decode a session: `reason`, unless OpenSSL has
    /// ended or had no memory.
    pub(super) fn of_openssl(reason: Self) -> Self {
        // SAFETY: allowed at any time; fails once OpenSSL has cleaned up. The others read this
        // thread's error queue.
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

    /// The level of the log line: what is part of normal operation is for debugging only.
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
            Self::Unencodable => write!(f, "OpenSSL cannot encode the session"),
            Self::NotASession => write!(f, "the bytes are not exactly one whole session"),
            Self::OtherOpenSsl => {
                write!(
                    f,
                    "the session belongs to another OpenSSL than this library's"
                )
            }
            Self::NoMemory => NoMemory.fmt(f),
            Self::OpenSslEnded => write!(f, "the process is ending, and OpenSSL has cleaned up"),
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
