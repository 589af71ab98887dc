//! Waiting for another thread without parking.
//!
//! A parked thread is registered in a table that a forked child inherits without the thread. A
//! thread that tries again and again leaves nothing behind.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;

/// Waits a little longer each time.
#[derive(Default)]
pub(crate) struct Wait {
    backoff: Backoff,
}

impl Wait {
    /// Whether the wait is longer than a running thread holds any lock.
    pub(crate) fn is_long(&self) -> bool {
        self.backoff.is_completed()
    }

    pub(crate) fn a_little(&mut self) {
        if self.is_long() {
            // The other thread has lost its core or has a lower priority: yielding alone might
            // never let it run.
            std::thread::sleep(Duration::from_micros(50));
        } else {
            self.backoff.snooze();
        }
    }
}

/// A wait with a time limit.
///
/// A fork in a signal handler may have interrupted the very thread that it would wait for.
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

    /// Calls `attempt` until it returns a value; `None` if that takes too long.
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

/// Locks a mutex. Its content is in order even after a panic, so a poisoned one is accepted.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// [`lock`] for a lock that is held only for a moment: tries again and again, and does not park.
pub(crate) fn lock_by_trying<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let mut wait = Wait::default();
    loop {
        if let Some(guard) = try_lock(mutex) {
            return guard;
        }
        wait.a_little();
    }
}

/// [`lock`] if no other thread holds it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
