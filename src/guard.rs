//! What every function that C calls goes through: where panics end, and where the library
//! and its logger are made.

use std::any::Any;
use std::cell::Cell;
use std::ffi::c_int;
use std::fmt::{self, Write};
use std::mem;
use std::panic::{self, AssertUnwindSafe, Location, PanicHookInfo, catch_unwind};
use std::sync::OnceLock;

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

/// Runs the `body` of a function that C calls by this name; a panic becomes a line in the log
/// and the fallback instead of ending the host, errno stays as it is, and the thread is not
/// cancelled in there.
pub(crate) fn guard<R: Fallback>(name: &'static str, body: impl FnOnce() -> R) -> R {
    let _errno = Errno::keep();
    let _stays = NoCancel::begin();
    let _inside = Inside::enter();
    // Unwind safe: what `body` shares with others is behind atomics, or behind
    // locks that are taken again whatever happened under them.
    let result = catch_unwind(AssertUnwindSafe(|| {
        fault!(name);
        body()
    }));
    result.unwrap_or_else(|panic| {
        report(name, panic);
        R::FALLBACK
    })
}

/// Runs the body of an exported function: [`guard`]ed, with the library, and with a logger
/// if the program has none.
pub(crate) fn enter<R: Fallback>(
    name: &'static str,
    body: impl FnOnce(&'static Library) -> R,
) -> R {
    guard(name, || {
        logger::install();
        logger::ask_host();
        body(Library::global())
    })
}

/// Runs the body of a function that OpenSSL calls: as [`enter`], but in a Rust program it is
/// not for us to install a logger.
pub(crate) fn callback<R: Fallback>(
    name: &'static str,
    body: impl FnOnce(&'static Library) -> R,
) -> R {
    guard(name, || {
        logger::ask_host();
        body(Library::global())
    })
}

/// Runs `body` with less ado, for what takes a few nanoseconds: it must not wait, log,
/// allocate or free, so that it neither changes errno nor can be cancelled. `None`, also
/// after a panic: to be done by [`enter`].
pub(crate) fn quick<R>(name: &'static str, body: impl FnOnce() -> Option<R>) -> Option<R> {
    let _inside = Inside::enter();
    // Unwind safe: as above.
    let result = catch_unwind(AssertUnwindSafe(|| {
        fault!(name);
        body()
    }));
    result.unwrap_or_else(|panic| {
        let _errno = Errno::keep();
        let _stays = NoCancel::begin();
        report(name, panic);
        None
    })
}

/// Logs a panic that ended a function of C's.
#[cold]
fn report(name: &str, panic: Box<dyn Any + Send>) {
    let place = PLACE.take();
    // What the host logs with may panic too, and what a panic carries, when it is dropped.
    let logged = catch_unwind(AssertUnwindSafe(|| {
        let message = Message(&*panic);
        logger::panicked(format_args!("{name}: a panic{place}: {message}"));
    }));
    mem::forget(logged);
    mem::forget(catch_unwind(AssertUnwindSafe(|| drop(panic))));
}

/// Ends a panic of the logger's own: says so on stderr.
#[cold]
pub(crate) fn report_on_stderr(panic: Box<dyn Any + Send>) {
    let place = PLACE.take();
    let message = Message(&*panic);
    logger::write_stderr(format_args!(
        "a panic{place} while a line was logged, which is lost: {message}"
    ));
    mem::forget(panic);
}

/// What a panic says.
struct Message<'a>(&'a (dyn Any + Send));

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.downcast_ref::<&str>().copied();
        let text = text.or_else(|| self.0.downcast_ref::<String>().map(String::as_str));
        f.write_str(text.unwrap_or("no text"))
    }
}

/// Where a panic happened: the end of the file's name, and the line; 0: not known.
#[derive(Clone, Copy)]
struct Place {
    file: [u8; 40],
    line: u32,
}

impl Place {
    const NONE: Self = Self {
        file: [0; 40],
        line: 0,
    };

    fn of(location: &Location<'_>) -> Self {
        let mut place = Self::NONE;
        place.line = location.line();
        let name = location.file().bytes().rev();
        for (to, from) in place.file.iter_mut().rev().zip(name) {
            *to = from;
        }
        place
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return Ok(());
        }
        f.write_str(" at ")?;
        let name = self.file.iter().skip_while(|byte| **byte == 0);
        name.map(|byte| char::from(*byte))
            .try_for_each(|letter| f.write_char(letter))?;
        write!(f, ":{}", self.line)
    }
}

thread_local! {
    /// Where the panic that is on its way to [`report`] happened.
    static PLACE: Cell<Place> = const { Cell::new(Place::NONE) };
}

/// What the Rust runtime does with a panic by itself: it writes to stderr.
static BY_DEFAULT: OnceLock<PanicHook> = OnceLock::new();

type PanicHook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Has what is logged written to the log only. To be called where the Rust runtime is this
/// library's own: in a Rust program it is for the program to say what becomes of panics.
pub(crate) fn take_panics_over() {
    if BY_DEFAULT.set(panic::take_hook()).is_ok() {
        panic::set_hook(Box::new(note_panic));
    }
}

/// Called by the Rust runtime when a panic begins: locks may be held, so nothing is logged.
fn note_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(Place::of);
    // A second one before the first was reported ends the process: all is said that can be.
    let is_second = PLACE.get().line != 0;
    match place {
        Some(place) if is_inside() && !is_second => PLACE.set(place),
        _ => {
            if let Some(by_default) = BY_DEFAULT.get() {
                by_default(info);
            }
        }
    }
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
        let panics = || -> c_int { panic!("expected in this test") };
        assert_eq!(guard("a test", panics), 0);
        assert_eq!(guard("a test", || 7), 7);
    }
}
