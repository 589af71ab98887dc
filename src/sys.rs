//! What the library asks of the operating system.

use std::cell::Cell;
use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::fmt;
use std::fs::File;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::entry::Now;
use crate::guard::{self, guard};
use crate::library::{self, FrozenLibrary};
use crate::memory::NoMemory;

/// The time on both clocks. Coarse clocks: they are read without a system call
/// in a few nanoseconds, and seconds are all that sessions count in.
///
/// Only one of them is read each time; how far the other is ahead, is found out anew
/// every second. So a wall clock that was set is noticed within a second.
#[inline]
pub fn now() -> Now {
    /// The second of the monotonic clock in which the distance was measured.
    static MEASURED: AtomicI64 = AtomicI64::new(-1);
    /// How many nanoseconds the wall clock is ahead.
    static AHEAD: AtomicI64 = AtomicI64::new(0);

    let up_nanos = nanoseconds(libc::CLOCK_MONOTONIC_COARSE);
    let up = up_nanos / NANOS_PER_SECOND;
    if MEASURED.load(Ordering::Acquire) != up {
        // Both tick at the same moment, so what is between two equal readings of one clock is of
        // the same moment. There are systems whose coarse clocks tick all the time: then it
        // is nearly so.
        let mut before = up_nanos;
        for _ in 0..3 {
            let wall = nanoseconds(libc::CLOCK_REALTIME_COARSE);
            AHEAD.store(wall - before, Ordering::Relaxed);
            let after = nanoseconds(libc::CLOCK_MONOTONIC_COARSE);
            if before == after {
                break;
            }
            before = after;
        }
        MEASURED.store(up, Ordering::Release);
    }
    Now {
        wall: (up_nanos + AHEAD.load(Ordering::Relaxed)).div_euclid(NANOS_PER_SECOND),
        up,
    }
}

const NANOS_PER_SECOND: i64 = 1_000_000_000;

fn nanoseconds(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec to write to. The call cannot fail: Linux has had
    // both clocks since 2.6.32.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec * NANOS_PER_SECOND + time.tv_nsec
}

/// Overwrites what is no longer needed, and is not optimized away.
///
/// For session data: the `zeroize` crate, which wipes keys, goes byte by byte.
pub fn wipe(bytes: &mut [u8]) {
    // SAFETY: the pointer and the length are those of `bytes`.
    unsafe { libc::explicit_bzero(bytes.as_mut_ptr().cast(), bytes.len()) };
}

/// Has the allocator return free pages to the system, which glibc's does by itself at the
/// very end of the heap only. Goes through the whole heap of the host, which takes some ten
/// milliseconds a hundred megabytes.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Writes a line to stderr in one piece and without a lock: another thread may
/// have held one when this process was forked. If nobody reads stderr any more, the
/// signal that the kernel sends is not for the host to die of.
pub fn write_stderr(line: &[u8]) {
    // SAFETY: the sets are initialized before they are read; the pointer and the
    // length are those of `line`. A failure has nobody to tell.
    unsafe {
        let mut pipe = mem::zeroed();
        let mut before = mem::zeroed();
        let mut pending = mem::zeroed();
        libc::sigemptyset(&mut pipe);
        libc::sigaddset(&mut pipe, libc::SIGPIPE);
        libc::sigpending(&mut pending);
        let was_pending = libc::sigismember(&pending, libc::SIGPIPE) == 1;
        libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, &mut before);
        let written = libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        if written < 0 && *libc::__errno_location() == libc::EPIPE && !was_pending {
            let at_once = mem::zeroed();
            libc::sigtimedwait(&pipe, ptr::null_mut(), &at_once);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
    }
}

/// Calls `read` with the value of an environment variable, if there is one.
pub fn with_variable<R>(name: &CStr, read: impl FnOnce(&OsStr) -> R) -> Option<R> {
    // SAFETY: the name is a C string, and so is what is found. As everywhere in C, nobody may
    // change the environment at the same time.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| read(OsStr::from_bytes(CStr::from_ptr(value).to_bytes())))
    }
}

/// Opens a file for reading; does not wait for what is none.
pub fn open_to_read(path: &Path) -> Result<io::Result<File>, NoMemory> {
    let mut name = Vec::new();
    let path = path.as_os_str().as_bytes();
    name.try_reserve_exact(path.len() + 1)
        .map_err(|_| NoMemory)?;
    name.extend_from_slice(path);
    name.push(0);
    let Ok(name) = CString::from_vec_with_nul(name) else {
        return Ok(Err(io::ErrorKind::InvalidInput.into()));
    };
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    loop {
        // SAFETY: the name is a C string.
        let file = unsafe { libc::open(name.as_ptr(), flags) };
        if file >= 0 {
            // SAFETY: it was opened now, and nobody else knows of it.
            return Ok(Ok(unsafe { File::from_raw_fd(file) }));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Ok(Err(error));
        }
    }
}

/// What `Display` writes of an error, without memory.
pub fn fmt_error(error: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(code) = error.raw_os_error() else {
        return write!(f, "{}", error.kind());
    };
    let mut text = [0u8; 128];
    // SAFETY: the pointer and the length are those of `text`. It is the function of POSIX,
    // whichever the C library calls so.
    let done = unsafe { libc::strerror_r(code, text.as_mut_ptr().cast(), text.len()) } == 0;
    let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
    let text = text.to_str().ok().filter(|_| done);
    write!(f, "{} (os error {code})", text.unwrap_or("Unknown error"))
}

unsafe extern "C" {
    /// From pthread.h; the libc crate has it for other systems only.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// The value on Linux with both glibc and musl.
const PTHREAD_CANCEL_DISABLE: c_int = 1;

/// Holds the cancellation of this thread off until dropped. It could happen wherever the
/// library writes, reads or waits, and a cancelled thread unwinds in a way that Rust
/// ends the process for.
pub struct NoCancel {
    before: c_int,
}

impl NoCancel {
    pub fn begin() -> Self {
        let mut before = 0;
        // SAFETY: sets this thread's state and writes the old one to `before`.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
        Self { before }
    }
}

impl Drop for NoCancel {
    fn drop(&mut self) {
        // SAFETY: as above; the old state may be thrown away.
        unsafe { pthread_setcancelstate(self.before, ptr::null_mut()) };
    }
}

/// Gives the host its errno back when dropped: in a callback it is about to read what
/// its own last call left there.
pub struct Errno {
    before: c_int,
}

impl Errno {
    pub fn keep() -> Self {
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

thread_local! {
    /// Held from before a fork to after it. ManuallyDrop: there is nothing to do at the
    /// end of the thread.
    static FROZEN: Cell<Option<ManuallyDrop<FrozenLibrary>>> = const { Cell::new(None) };
}

extern "C" fn before_fork() {
    let was_inside = guard::is_inside();
    // The first use in a thread may wait for the loader: not with every lock held.
    FROZEN.set(None);
    guard("before_fork", || {
        FROZEN.set(library::freeze(was_inside).map(ManuallyDrop::new));
    });
}

// Locks are let go of whatever happens.

extern "C" fn after_fork_in_parent() {
    let frozen = FROZEN.take().map(ManuallyDrop::into_inner);
    guard("after_fork_in_parent", || drop(frozen));
}

extern "C" fn after_fork_in_child() {
    let frozen = FROZEN.take().map(ManuallyDrop::into_inner);
    let frozen = frozen.map(FrozenLibrary::for_child);
    guard("after_fork_in_child", || drop(frozen));
}

extern "C" fn at_load() {
    if cfg!(loom) {
        return; // Loom's atomics work in a model only.
    }
    if is_loaded_by_itself() {
        guard::take_panics_over();
    }
    #[cfg(feature = "inject-faults")]
    crate::faults::arm_from_environment();
    // SAFETY: the three functions have the type asked for and stay valid: the library is
    // never unloaded.
    guard("at_load", || unsafe {
        library::prepare();
        libc::pthread_atfork(
            Some(before_fork),
            Some(after_fork_in_parent),
            Some(after_fork_in_child),
        );
    });
}

/// Whether this is `libtssession.so`, and not a part of a Rust program: then the Rust
/// runtime in it is this library's own.
pub fn is_loaded_by_itself() -> bool {
    loaded_object(wipe_at_exit as *const _).is_some_and(|object| {
        // SAFETY: the name lives as long as the code does, which is never unloaded.
        let file = unsafe { CStr::from_ptr(object.dli_fname) };
        file.to_bytes()
            .rsplit(|byte| *byte == b'/')
            .next()
            .is_some_and(|file| file.starts_with(b"libtssession.so"))
    })
}

/// Whether this is in the same loaded file as the library's own code.
pub fn is_in_this_file(address: *const c_void) -> bool {
    let start = |address| loaded_object(address).map(|object| object.dli_fbase);
    start(address) == start(wipe_at_exit as *const _)
}

fn loaded_object(address: *const c_void) -> Option<libc::Dl_info> {
    // SAFETY: a structure of pointers, which is written to; any address may be asked for.
    unsafe {
        let mut found = mem::zeroed();
        (libc::dladdr(address, &mut found) != 0).then_some(found)
    }
}

extern "C" fn wipe_at_exit() {
    if cfg!(loom) {
        return;
    }
    guard("wipe_at_exit", library::wipe_at_exit);
}

/// Run by the loader at exit.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = wipe_at_exit;

/// Run by the loader, before any thread can be inside the library.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;
