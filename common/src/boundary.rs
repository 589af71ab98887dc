//! The way into every function that C calls. A panic ends here, errno stays as the host left it,
//! and the thread is not cancelled inside.

use std::any::{Any, type_name};
use std::cell::Cell;
use std::ffi::c_int;
use std::fmt::{self, Display, Write};
use std::mem;
use std::panic::{self, AssertUnwindSafe, Location, PanicHookInfo, catch_unwind};
use std::ptr;
use std::sync::OnceLock;

use crate::thread;

/// The result of a function that C called, when it could not do its work.
pub trait Fallback {
    /// The value.
    const FALLBACK: Self;
}

impl Fallback for () {
    const FALLBACK: Self = ();
}

impl Fallback for c_int {
    const FALLBACK: Self = 0;
}

impl<T> Fallback for *mut T {
    const FALLBACK: Self = ptr::null_mut();
}

/// The name of the function that a body belongs to, as C knows it. The type of the closure contains
/// it, so it need not be written a second time.
#[derive(Clone, Copy)]
pub struct Name {
    closure: fn() -> &'static str,
    suffix: &'static str,
}

impl Name {
    /// The name of the function that contains this closure.
    pub fn of<F>(_body: &F) -> Self {
        Self {
            closure: type_name::<F>,
            suffix: "",
        }
    }

    fn at_once(self) -> Self {
        Self {
            suffix: ", at once",
            ..self
        }
    }

    fn function(self) -> &'static str {
        let closure = (self.closure)();
        let function = closure.split("::{{closure}}").next().unwrap_or_default();
        function.rsplit("::").next().unwrap_or_default()
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.function())?;
        f.write_str(self.suffix)
    }
}

/// Logs that a function ended in a panic.
pub type Report = fn(Name, &Panic);

/// Runs the `body` of a function that C calls. A panic is reported and becomes the fallback; it
/// does not end the host.
#[inline(never)] // Where there is a quick way too, that one needs few registers.
pub fn guard<R: Fallback>(name: Name, report: Report, body: impl FnOnce() -> R) -> R {
    let _errno = Errno::keep();
    let _stays = NoCancel::begin();
    match catch(at_point(name, body)) {
        Ok(result) => result,
        Err(panic) => {
            tell(name, report, panic);
            R::FALLBACK
        }
    }
}

/// Runs a `body` that takes a few nanoseconds, with less protection. It must not wait, log,
/// allocate or free: so it does not change errno and cannot be cancelled. `None`, also after a
/// panic: do the work inside [`guard`].
#[inline]
pub fn quick<R>(report: Report, body: impl FnOnce() -> Option<R>) -> Option<R> {
    let name = Name::of(&body).at_once();
    match catch(at_point(name, body)) {
        Ok(result) => result,
        Err(panic) => {
            failed(name, report, panic);
            None
        }
    }
}

#[cold]
fn failed(name: Name, report: Report, panic: Panic) {
    let _errno = Errno::keep();
    let _stays = NoCancel::begin();
    tell(name, report, panic);
}

/// The same body. It panics first where a test asks for it.
#[inline]
fn at_point<R>(_name: Name, body: impl FnOnce() -> R) -> impl FnOnce() -> R {
    move || {
        #[cfg(feature = "inject-faults")]
        crate::faults::point(_name);
        body()
    }
}

#[cold]
fn tell(name: Name, report: Report, panic: Panic) {
    // The host's log function may panic too.
    drop(catch(|| report(name, &panic)));
}

/// Runs `body`, and returns its panic as a value.
#[inline]
pub fn catch<R>(body: impl FnOnce() -> R) -> Result<R, Panic> {
    let _inside = Inside::enter();
    // Unwind safe: `body` shares data with others behind atomics, or behind locks that are usable
    // again after any panic.
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| Panic {
        place: PLACE.take(),
        payload: Some(payload),
    })
}

/// A panic that was caught. Displays as ` at FILE:LINE: MESSAGE`, with the place if it is known.
pub struct Panic {
    place: Place,
    payload: Option<Box<dyn Any + Send>>,
}

impl Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = self.payload.as_deref();
        let text = payload.and_then(|payload| {
            let text = payload.downcast_ref::<&str>().copied();
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        });
        write!(f, "{}: {}", self.place, text.unwrap_or("no text"))
    }
}

impl Drop for Panic {
    fn drop(&mut self) {
        let payload = self.payload.take();
        // The payload may panic when it is dropped. The payload of that panic is leaked.
        mem::forget(catch_unwind(AssertUnwindSafe(|| drop(payload))));
    }
}

/// Where a panic happened: the end of the file's name, and the line; 0: not known.
#[derive(Clone, Copy)]
struct Place {
    file: [u8; 40],
    line: u32,
}

impl Place {
    const UNKNOWN: Self = Self {
        file: [0; 40],
        line: 0,
    };

    fn of(location: &Location<'_>) -> Self {
        let mut place = Self::UNKNOWN;
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
        Self::UNKNOWN
    }
}

impl Display for Place {
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
    /// The place of the panic that is on its way to [`catch`].
    static PLACE: Cell<Place> = const { Cell::new(Place::UNKNOWN) };
}

/// The Rust runtime's own reaction to a panic: it writes to stderr.
static BY_DEFAULT: OnceLock<PanicHook> = OnceLock::new();

type PanicHook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Keeps panics inside the boundary off stderr, because they are reported. Call it only if the Rust
/// runtime belongs to the library; a Rust program handles its panics itself.
pub fn take_panics_over() {
    BY_DEFAULT.get_or_init(|| {
        let by_default = panic::take_hook();
        panic::set_hook(Box::new(note_panic));
        by_default
    });
}

/// Called by the Rust runtime when a panic begins. Locks may be held, so nothing is logged.
fn note_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(Place::of);
    // A second panic before the first was caught ends the process. So it is written to stderr.
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

struct Inside;

impl Inside {
    #[inline]
    fn enter() -> Self {
        thread::this(|this| this.calls.set(this.calls.get() + 1));
        Self
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        thread::this(|this| this.calls.set(this.calls.get() - 1));
    }
}

/// Whether C has called into the library on this thread and waits for the result.
fn is_inside() -> bool {
    thread::this(|this| this.calls.get() > 0)
}

/// Runs a `body` inside [`quick`] that may allocate, free or call a function that the host put in
/// place of OpenSSL's own. Errno stays as it is, and the thread is not cancelled.
#[inline]
pub fn undisturbed<R>(body: impl FnOnce() -> R) -> R {
    let _errno = Errno::keep();
    let _stays = NoCancel::begin();
    body()
}

/// Restores the host's errno when dropped. Around a callback, the host is about to read the errno
/// of its own last call.
struct Errno {
    before: c_int,
}

impl Errno {
    fn keep() -> Self {
        // SAFETY: the location is this thread's own.
        let before = unsafe { *libc::__errno_location() };
        Self { before }
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = self.before };
    }
}

unsafe extern "C" {
    /// From pthread.h. The libc crate has it only for other systems.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// The value on Linux with both glibc and musl.
const PTHREAD_CANCEL_DISABLE: c_int = 1;

/// Defers the cancellation of this thread until dropped. It could happen wherever the library
/// writes, reads or waits, and Rust ends the process when a cancelled thread unwinds.
struct NoCancel {
    before: c_int,
}

impl NoCancel {
    fn begin() -> Self {
        let mut before = 0;
        // SAFETY: sets this thread's state and writes the old one to `before`.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
        Self { before }
    }
}

impl Drop for NoCancel {
    fn drop(&mut self) {
        // SAFETY: as above; the old state is not needed.
        unsafe { pthread_setcancelstate(self.before, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn report(name: Name, panic: &Panic) {
        TOLD.lock().unwrap().push(format!("{name}{panic}"));
        panic!("a logger that panics");
    }

    fn called_by_c(number: c_int) -> c_int {
        let body = || match number {
            0 => panic!("expected in this test"),
            number => number,
        };
        guard(Name::of(&body), report, body)
    }

    #[test]
    fn a_panic_becomes_the_fallback_and_is_reported_under_the_functions_name() {
        assert_eq!(called_by_c(7), 7);
        assert_eq!(called_by_c(0), 0);
        assert_eq!(quick(report, || None::<u8>), None);
        assert_eq!(quick(report, || -> Option<u8> { panic!("at once") }), None);
        let told = TOLD.lock().unwrap_or_else(|told| told.into_inner());
        let quick = "a_panic_becomes_the_fallback_and_is_reported_under_the_functions_name, at once: at once";
        assert_eq!(*told, ["called_by_c: expected in this test", quick]);
        assert!(!is_inside());
    }
}
