//! The boundary that every function called by C goes through. It logs errors and panics; none goes
//! further.

#![forbid(unsafe_code)]

use tssession_common::boundary::{self, Fallback, Name};

use crate::host::log::{Level, Log, report};

/// Runs the `body` of a function that C calls. An error or a panic is logged under the function's
/// name, and becomes the fallback.
pub fn guard<R: Fallback>(body: impl FnOnce() -> Result<R, String>) -> R {
    let name = Name::of(&body);
    boundary::guard(name, report, || {
        body().unwrap_or_else(|error| {
            Log::find().write(Level::Error, &format!("{name}: {error}"));
            R::FALLBACK
        })
    })
}
