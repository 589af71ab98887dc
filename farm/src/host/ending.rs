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

/// The threads inside, and whether the end has begun.
struct End {
    inside: AtomicUsize,
    has_begun: AtomicBool,
}

static END: End = End::new();

impl End {
    const fn new() -> Self {
        Self {
            inside: AtomicUsize::new(0),
            has_begun: AtomicBool::new(false),
        }
    }

    /// Comes inside, unless the end has begun.
    fn try_enter(&self) -> bool {
        // A thread counts first and looks then, the end does it the other way round: one of the two
        // sees the other.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let may_enter = !self.has_begun.load(Ordering::SeqCst);
        if !may_enter {
            self.leave();
        }
        may_enter
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether nobody is inside any more.
    fn begin(&self, patience: Duration) -> bool {
        self.has_begun.store(true, Ordering::SeqCst);
        let end = Instant::now() + patience;
        loop {
            let is_empty = self.inside.load(Ordering::SeqCst) == 0;
            if is_empty || Instant::now() >= end {
                return is_empty;
            }
            thread::sleep(Duration::from_micros(100));
        }
    }
}

/// A thread is inside OpenSSL until this is dropped.
pub struct Inside(());

/// Comes inside; never returns when the end has begun.
pub fn enter() -> Inside {
    while !END.try_enter() {
        thread::sleep(Duration::from_secs(3600));
    }
    Inside(())
}

impl Drop for Inside {
    fn drop(&mut self) {
        END.leave();
    }
}

extern "C" fn begin() {
    END.begin(PATIENCE);
}

/// Called in a forked child.
pub(super) fn forget_threads() {
    END.inside.store(0, Ordering::SeqCst);
}

/// Makes the end of the process wait for the threads inside, from now on. `false`: there is no memory
/// for that. Exit functions run in the opposite order of their registration. OpenSSL has been used
/// already, so it cleans up after this one.
pub fn watch() -> bool {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    if !IS_WATCHED.load(Ordering::Relaxed) {
        // SAFETY: the function is never unloaded.
        let result = unsafe { libc::atexit(begin) };
        IS_WATCHED.store(result == 0, Ordering::Relaxed);
    }
    IS_WATCHED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_waits_for_those_inside_and_lets_nobody_in() {
        let end = End::new();
        assert!(end.try_enter());
        assert!(!end.begin(Duration::from_millis(1)));
        assert!(!end.try_enter());
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                end.leave();
            });
            assert!(end.begin(Duration::from_secs(60)));
        });
    }
}
