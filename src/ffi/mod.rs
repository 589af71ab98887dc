//! The C boundary. The exported functions are in [`ts`] (the five of the manual
//! page), [`cxx`] (the same under C++ names) and [`host`] (for the owner of the
//! `SSL_CTX`). They translate and nothing else; no code of the library calls them,
//! because in a host that defines the same names the call would land there.

pub mod cxx;
pub mod host;
mod log;
mod sessions;
pub mod ts;
pub mod types;

use crate::guard::{Fallback, guard, quick};
use crate::library::Library;
use types::TSReturnCode;

impl Fallback for TSReturnCode {
    const FALLBACK: Self = Self::TS_ERROR;
}

/// Runs the body of an exported function: with the library, and with a logger if
/// the program has none.
fn enter<R: Fallback>(body: impl FnOnce(&'static Library) -> R) -> R {
    guard(|| {
        log::install();
        body(Library::global())
    })
}
