//! Waiting for another thread without parking.
//!
//! A parked thread is registered in a table that a forked child inherits without
//! the thread; who only looks again and again leaves nothing behind.

use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;

use crate::sys;

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
            sys::nap();
        } else {
            self.backoff.snooze();
        }
    }
}

/// Waiting that comes to an end.
///
/// Who forks inside a signal handler may have interrupted his own thread in the very
/// place that he would wait for.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    end: Instant,
}

impl Patience {
    pub(crate) fn of(duration: Duration) -> Self {
        Self {
            end: Instant::now() + duration,
        }
    }

    /// The first result of `attempt` that is one; `None` when it takes too long.
    pub(crate) fn wait_for<T>(self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        let mut wait = Wait::default();
        loop {
            if let Some(result) = attempt() {
                return Some(result);
            }
            if wait.is_long() && Instant::now() >= self.end {
                return None;
            }
            wait.a_little();
        }
    }
}
