//! What every function that C calls goes through: an error is logged, and a panic ends here.

#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::host::log::{Level, Log};

/// Whether a function did its work, for C. As in `<ts/ts.h>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum TSReturnCode {
    /// It did not.
    TS_ERROR = -1,
    /// It did.
    TS_SUCCESS = 0,
}

/// Runs the `body` of a function that C calls. An error or a panic is logged, and becomes the
/// fallback.
pub fn guard<R>(name: &str, fallback: R, body: impl FnOnce() -> Result<R, String>) -> R {
    // Unwind safe: what `body` shares is whole at all times.
    let result = catch_unwind(AssertUnwindSafe(|| {
        body().map_err(|error| log(name, &error))
    }));
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(())) => fallback,
        Err(_) => {
            log(name, "panicked");
            fallback
        }
    }
}

fn log(name: &str, line: &str) {
    Log::find().write(Level::Error, &format!("{name}: {line}"));
}
