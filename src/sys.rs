//! What the library asks of the operating system.

use std::cell::Cell;
use std::ffi::c_void;
use std::mem::ManuallyDrop;

use crate::entry::Now;
use crate::guard::guard;
use crate::library::{self, FrozenLibrary};

/// The time on both clocks. Coarse clocks: they are read without a system call
/// in a few nanoseconds, and seconds are all that sessions count in.
pub fn now() -> Now {
    Now {
        wall: seconds(libc::CLOCK_REALTIME_COARSE),
        up: seconds(libc::CLOCK_MONOTONIC_COARSE),
    }
}

fn seconds(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec to write to. The call cannot fail: Linux has had
    // both clocks since 2.6.32.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec
}

/// Writes a line to stderr in one piece and without a lock: another thread may
/// have held one when this process was forked.
pub fn write_stderr(line: &[u8]) {
    // SAFETY: the pointer and the length are those of `line`. A failure (stderr
    // closed, or a short write) has nobody to tell.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}

/// Keeps this library in memory until the process ends, whatever `dlclose` says:
/// OpenSSL now holds pointers to its functions.
pub fn pin() {
    // SAFETY: `info` is written to before it is read, which the result of `dladdr`
    // tells; its file name lives as long as the library, which this code is in.
    // RTLD_NOLOAD loads nothing; the handle is not closed on purpose.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(pin as fn() as *const c_void, &mut info) != 0 {
            let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            libc::dlopen(info.dli_fname, flags);
        }
    }
}

thread_local! {
    /// Held from before a fork to after it. ManuallyDrop, so that the thread needs no
    /// destructor, which would keep the library loaded.
    static FROZEN: Cell<Option<ManuallyDrop<FrozenLibrary>>> = const { Cell::new(None) };
}

extern "C" fn before_fork() {
    FROZEN.set(Some(ManuallyDrop::new(library::freeze())));
}

extern "C" fn after_fork_in_parent() {
    drop(FROZEN.take().map(ManuallyDrop::into_inner));
}

extern "C" fn after_fork_in_child() {
    if let Some(frozen) = FROZEN.take() {
        ManuallyDrop::into_inner(frozen).release_in_child();
    }
}

extern "C" fn register_fork_handlers() {
    // SAFETY: the three functions have the type asked for and stay valid: libc drops
    // them when it unloads the library that registered them.
    unsafe {
        libc::pthread_atfork(
            Some(before_fork),
            Some(after_fork_in_parent),
            Some(after_fork_in_child),
        );
    }
}

extern "C" fn wipe_at_exit() {
    guard(library::wipe_at_exit);
}

/// Run by the loader at exit, or when it unloads the library.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = wipe_at_exit;

/// Run by the loader, before any thread can be inside the library.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = register_fork_handlers;
