//! Panics on demand: only in a build with the feature `inject-faults`, which is never shipped.
//!
//! Each boundary to C is a point that has the function's name (see [`crate::boundary`]), and there are
//! more points inside the libraries. `c_tests/panics.c` goes through all of them.

use std::ffi::{CStr, c_char, c_int};
use std::fmt::Display;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

/// The name of the point that panics.
static ARMED: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());
/// How many more times a thread must reach the point until it panics.
static LEFT: AtomicI32 = AtomicI32::new(0);
static PANICS: AtomicI32 = AtomicI32::new(0);

/// Makes the point of this name panic once: when a thread reaches it for the nth time from now.
///
/// # Safety
/// `point` is a C string that lives forever.
#[unsafe(no_mangle)]
unsafe extern "C" fn tssession_panic_at(point: *const c_char, nth: c_int) {
    LEFT.store(nth, Ordering::SeqCst);
    ARMED.store(point.cast_mut(), Ordering::SeqCst);
}

/// The number of panics so far.
#[unsafe(no_mangle)]
extern "C" fn tssession_panics() -> c_int {
    PANICS.load(Ordering::SeqCst)
}

/// Takes the name of the point from the environment, for code that runs while the library is loaded.
pub fn arm_from_environment() {
    // SAFETY: the environment is not changed while the loader runs; nor is the variable later.
    unsafe { tssession_panic_at(libc::getenv(c"TSSESSION_PANIC_AT".as_ptr()), 1) };
}

/// Panics if this point is armed and its time has come.
pub fn point(name: impl Display) {
    let armed = ARMED.load(Ordering::SeqCst);
    if armed.is_null() {
        return;
    }
    let name = name.to_string();
    // SAFETY: the caller that set it vouches for it.
    let is_armed = unsafe { CStr::from_ptr(armed) }.to_bytes() == name.as_bytes();
    if is_armed && LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
        PANICS.fetch_add(1, Ordering::SeqCst);
        panic!("injected at {name:?}");
    }
}
