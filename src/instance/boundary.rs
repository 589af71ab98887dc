//! What every function that C calls goes through, with the instance at its other side.

use tssession_common::boundary::{self, Fallback, Name, Panic};

use super::Instance;
use crate::report::log;

/// Runs the body of a function that C calls: a panic becomes a line in the log and the
/// fallback, errno stays as it is, and the thread is not cancelled inside.
pub(crate) fn guard<R: Fallback>(body: impl FnOnce() -> R) -> R {
    boundary::guard(Name::of(&body), report, body)
}

/// Runs the body of an exported function: [`guard`]ed, with its name and the instance, and with
/// a logger if the program has none.
pub(crate) fn enter<R: Fallback>(body: impl FnOnce(&'static Instance, Name) -> R) -> R {
    let name = Name::of(&body);
    boundary::guard(name, report, || {
        log::install();
        log::ask_host();
        body(Instance::global(), name)
    })
}

/// Runs the body of a function that OpenSSL or a server calls: as [`enter`], but in a Rust
/// program it is not for us to install a logger.
pub(crate) fn callback<R: Fallback>(body: impl FnOnce(&'static Instance) -> R) -> R {
    boundary::guard(Name::of(&body), report, || {
        log::ask_host();
        body(Instance::global())
    })
}

/// Runs a body that takes a few nanoseconds: see [`boundary::quick`].
#[inline]
pub(crate) fn quick<R>(body: impl FnOnce() -> Option<R>) -> Option<R> {
    boundary::quick(report, body)
}

#[cold]
fn report(name: Name, panic: &Panic) {
    log::panicked(format_args!("{name}: a panic{panic}"));
}
