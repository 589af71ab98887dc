//! The only lock, which is free in a forked child, and the count of forks.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How many forks lie between the process that loaded this library and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// The process that holds the lock, from [`this_process`]; 0: none.
static HOLDER: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Counts forks from now on. `false`: there is no memory for that.
pub fn watch_forks() -> bool {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    if !IS_WATCHED.load(Ordering::Relaxed) {
        // SAFETY: the function does nothing that a forked child must not, and is never unloaded.
        let result = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        IS_WATCHED.store(result == 0, Ordering::Relaxed);
    }
    IS_WATCHED.load(Ordering::Relaxed)
}

/// A number above 0. Each process from which this one was forked has another.
pub fn this_process() -> u64 {
    FORKS.load(Ordering::Relaxed) + 1
}

thread_local! {
    /// Whether this thread holds the lock.
    static IS_MINE: Cell<bool> = const { Cell::new(false) };
}

/// Held until it is dropped.
pub struct Held(());

/// Waits for the lock. It is held for a moment, or while the libraries are opened. `None` in two
/// cases. This thread holds it: OpenSSL calls some of its functions by the names that this library
/// has. Or waiting takes too long: a thread that opens a library may be waiting for this one.
pub fn lock() -> Option<Held> {
    if IS_MINE.get() {
        return None;
    }
    let this = this_process();
    let mut tries = 0_u32;
    loop {
        let holder = HOLDER.load(Ordering::Relaxed);
        // A thread of the parent does not exist here.
        if holder != this
            && HOLDER
                .compare_exchange(holder, this, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        {
            IS_MINE.set(true);
            return Some(Held(()));
        }
        tries += 1;
        if tries < 100 {
            std::hint::spin_loop();
        } else if tries < 20_000 {
            thread::sleep(Duration::from_micros(100));
        } else {
            return None;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        IS_MINE.set(false);
        HOLDER.store(0, Ordering::Release);
    }
}
