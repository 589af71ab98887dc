//! Keeps the farm's threads out of OpenSSL once the process ends: OpenSSL cleans up in `exit`, whatever
//! thread is in there, and a thread that goes on then crashes the process.
//!
//! # Invariants
//!
//! 1. A thread of the farm is inside OpenSSL only while it has an [`Inside`].
//! 2. When the end has begun, no thread comes inside any more, and those inside are waited for, up to
//!    [`PATIENCE`].
//! 3. A forked child has none of its parent's threads inside.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than a thread is inside that gets a core.
const PATIENCE: Duration = Duration::from_millis(200);

static INSIDE: AtomicUsize = AtomicUsize::new(0);
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

/// A thread is inside OpenSSL until this is dropped.
pub struct Inside(());

/// Comes inside; never returns when the end has begun.
pub fn enter() -> Inside {
    // The thread counts first and looks then, the end does it the other way round: one of the two
    // sees the other.
    INSIDE.fetch_add(1, Ordering::SeqCst);
    if HAS_BEGUN.load(Ordering::SeqCst) {
        INSIDE.fetch_sub(1, Ordering::SeqCst);
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
    Inside(())
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, Ordering::SeqCst);
    }
}

extern "C" fn begin() {
    HAS_BEGUN.store(true, Ordering::SeqCst);
    let end = Instant::now() + PATIENCE;
    while INSIDE.load(Ordering::SeqCst) != 0 && Instant::now() < end {
        thread::sleep(Duration::from_micros(100));
    }
}

/// Called in a forked child.
pub(super) fn forget_threads() {
    INSIDE.store(0, Ordering::SeqCst);
}

/// Has the end wait from now on; false: there is no memory for that. What is registered later is
/// run earlier: OpenSSL has been used, so it cleans up after this.
pub fn watch() -> bool {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    if !IS_WATCHED.load(Ordering::Relaxed) {
        // SAFETY: the function is never unloaded.
        let result = unsafe { libc::atexit(begin) };
        IS_WATCHED.store(result == 0, Ordering::Relaxed);
    }
    IS_WATCHED.load(Ordering::Relaxed)
}
