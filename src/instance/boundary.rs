//! The way into every function that C calls, with the instance.

use tssession_common::boundary::{self, Fallback, Name, Panic};

use super::Instance;
use crate::report::log;

/// Runs the body of a function that C calls. A panic becomes a log line and the fallback, errno
/// stays as it is, and the thread is not cancelled inside.
pub(crate) fn guard<R: Fallback>(body: impl FnOnce() -> R) -> R {
    boundary::guard(Name::of(&body), report, body)
}

/// Runs the body of an exported function as [`guard`] does. Passes it its name and the instance,
/// and installs a logger if the program has none.
pub(crate) fn enter<R: Fallback>(body: impl FnOnce(&'static Instance, Name) -> R) -> R {
    let name = Name::of(&body);
    boundary::guard(name, report, || {
        log::install();
        log::ask_host();
        body(Instance::global(), name)
    })
}

/// Runs the body of a function that OpenSSL or a server calls: as [`enter`], but without installing
/// a logger, which a callback must not do in a Rust program.
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
