//! What every function that C calls goes through: where panics end, and where the library
//! and its logger are made.

use std::cell::Cell;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::library::Library;
use crate::logger;
use crate::sys::{Errno, NoCancel};

/// What a function that C called returns when it could not do its work.
pub(crate) trait Fallback {
    const FALLBACK: Self;
}

impl Fallback for () {
    const FALLBACK: Self = ();
}

impl Fallback for c_int {
    const FALLBACK: Self = 0;
}

impl<T> Fallback for *mut T {
    const FALLBACK: Self = std::ptr::null_mut();
}

/// Runs `body`; a panic becomes the fallback instead of ending the host, errno stays as
/// it is, and the thread is not cancelled in there.
pub(crate) fn guard<R: Fallback>(body: impl FnOnce() -> R) -> R {
    let _errno = Errno::keep();
    let _stays = NoCancel::begin();
    let _inside = Inside::enter();
    // Unwind safe: what `body` shares with others is behind atomics, or behind
    // locks that are taken again whatever happened under them.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(R::FALLBACK)
}

/// Runs the body of an exported function: [`guard`]ed, with the library, and with a logger
/// if the program has none.
pub(crate) fn enter<R: Fallback>(body: impl FnOnce(&'static Library) -> R) -> R {
    guard(|| {
        logger::install();
        logger::ask_host();
        body(Library::global())
    })
}

/// Runs the body of a function that OpenSSL calls: as [`enter`], but in a Rust program it is
/// not for us to install a logger.
pub(crate) fn callback<R: Fallback>(body: impl FnOnce(&'static Library) -> R) -> R {
    guard(|| {
        logger::ask_host();
        body(Library::global())
    })
}

/// Runs `body` with less ado, for what takes a few nanoseconds: it must not wait, log,
/// allocate or free, so that it neither changes errno nor can be cancelled. `None`, also
/// after a panic: to be done by [`enter`].
pub(crate) fn quick<R>(body: impl FnOnce() -> Option<R>) -> Option<R> {
    let _inside = Inside::enter();
    // Unwind safe: as above.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(None)
}

thread_local! {
    /// How many calls of C's this thread is in: more than one inside a hook.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

struct Inside;

impl Inside {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Whether C has called into the library on this thread and waits for the result.
pub(crate) fn is_inside() -> bool {
    DEPTH.get() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_the_fallback() {
        assert_eq!(guard(|| -> c_int { panic!("expected in this test") }), 0);
        assert_eq!(guard(|| 7), 7);
    }
}
