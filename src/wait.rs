//! Waiting for another thread without parking.
//!
//! A parked thread is registered in a table that a forked child inherits without
//! the thread; who only looks again and again leaves nothing behind.

use std::time::Duration;

use crossbeam_utils::Backoff;

/// Waits a little longer each time.
#[derive(Default)]
pub(crate) struct Wait {
    backoff: Backoff,
}

impl Wait {
    /// Whether it has taken longer than any lock is held by a running thread.
    pub(crate) fn is_long(&self) -> bool {
        self.backoff.is_completed()
    }

    pub(crate) fn a_little(&mut self) {
        if self.is_long() {
            // The other thread has lost its core, or is of lower priority: yielding
            // alone might never let it run.
            std::thread::sleep(Duration::from_micros(50));
        } else {
            self.backoff.snooze();
        }
    }
}
