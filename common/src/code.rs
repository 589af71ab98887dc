//! The result of functions that only succeed or fail.

use crate::boundary::Fallback;

/// The result of a function.
#[repr(C)]
#[allow(non_camel_case_types)] // The names are the C API's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TSReturnCode {
    /// It failed and changed nothing.
    TS_ERROR = -1,
    /// It succeeded.
    TS_SUCCESS = 0,
}

impl Fallback for TSReturnCode {
    const FALLBACK: Self = Self::TS_ERROR;
}

impl From<bool> for TSReturnCode {
    fn from(done: bool) -> Self {
        if done {
            Self::TS_SUCCESS
        } else {
            Self::TS_ERROR
        }
    }
}
