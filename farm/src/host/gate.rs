//! Keeps the farm's threads out of OpenSSL while the process forks, and once it ends. OpenSSL has its
//! own locks, which nobody releases in a forked child. And it cleans up in `exit`, whatever thread is in
//! there: a thread that goes on then crashes the process.
//!
//! # Invariants
//!
//! 1. A thread of the farm is inside OpenSSL only while it has an [`Inside`].
//! 2. When the gate is closed, no thread comes inside any more, and those inside are waited for, up to
//!    [`END`] or [`FORK`].
//! 3. A forked child has none of its parent's threads inside.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than a thread is inside that gets a core.
const END: Duration = Duration::from_millis(200);
/// The same, but a fork must not take long.
const FORK: Duration = Duration::from_millis(10);
/// A wait is looked at so often.
const LOOK: Duration = Duration::from_micros(100);

/// The gate is closed forever. The other bits count the threads that fork.
const ENDS: u32 = 1 << 31;

/// The threads inside, and the reasons why others must not come.
struct Gate {
    inside: AtomicUsize,
    closed: AtomicU32,
}

static GATE: Gate = Gate::new();

impl Gate {
    const fn new() -> Self {
        Self {
            inside: AtomicUsize::new(0),
            closed: AtomicU32::new(0),
        }
    }

    /// Comes inside; or the reasons why the gate is closed.
    fn try_enter(&self) -> Result<(), u32> {
        // A thread counts first and looks then, whoever closes the gate does it the other way round:
        // one of the two sees the other.
        self.inside.fetch_add(1, Ordering::SeqCst);
        match self.closed.load(Ordering::SeqCst) {
            0 => Ok(()),
            closed => {
                self.leave();
                Err(closed)
            }
        }
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether nobody is inside any more.
    fn close_forever(&self, patience: Duration) -> bool {
        self.closed.fetch_or(ENDS, Ordering::SeqCst);
        self.is_left(patience)
    }

    /// Whether nobody is inside any more. Follow it with [`Self::open`].
    fn close(&self, patience: Duration) -> bool {
        self.closed.fetch_add(1, Ordering::SeqCst);
        self.is_left(patience)
    }

    fn open(&self) {
        self.closed.fetch_sub(1, Ordering::SeqCst);
    }

    /// Resets it: no thread is inside, and none forks.
    fn reset(&self) {
        self.inside.store(0, Ordering::SeqCst);
        self.closed.fetch_and(ENDS, Ordering::SeqCst);
    }

    fn is_left(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            let is_empty = self.inside.load(Ordering::SeqCst) == 0;
            if is_empty || Instant::now() >= end {
                return is_empty;
            }
            thread::sleep(LOOK);
        }
    }
}

/// A thread is inside OpenSSL until this is dropped.
pub struct Inside(());

/// Comes inside. Waits while a thread forks; never returns when the process is ending.
pub fn enter() -> Inside {
    while let Err(closed) = GATE.try_enter() {
        thread::sleep(match closed & ENDS {
            0 => LOOK,
            _ => Duration::from_secs(3600),
        });
    }
    Inside(())
}

impl Drop for Inside {
    fn drop(&mut self) {
        GATE.leave();
    }
}

extern "C" fn end() {
    GATE.close_forever(END);
}

/// Called before a fork. A thread that stays inside longer than that may leave a lock of OpenSSL's
/// held in the child.
pub(super) extern "C" fn close_for_fork() {
    GATE.close(FORK);
}

/// Called after a fork, in the parent.
pub(super) extern "C" fn open_after_fork() {
    GATE.open();
}

/// Called after a fork, in the child.
pub(super) fn forget_threads() {
    GATE.reset();
}

/// Registers the exit function that closes the gate. `false`: there is no memory for it. Exit functions run in the opposite order of their registration. OpenSSL has been used
/// already, so it cleans up after this one.
pub fn watch_end() -> bool {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    if !IS_WATCHED.load(Ordering::Relaxed) {
        // SAFETY: the function is never unloaded.
        let result = unsafe { libc::atexit(end) };
        IS_WATCHED.store(result == 0, Ordering::Relaxed);
    }
    IS_WATCHED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody inside leaves, and `close` waits for that.
    fn waits_for_one_inside(gate: &Gate, close: impl FnOnce() -> bool) {
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                gate.leave();
            });
            assert!(close());
        });
    }

    #[test]
    fn the_end_waits_for_those_inside_and_lets_nobody_in() {
        let gate = Gate::new();
        assert_eq!(gate.try_enter(), Ok(()));
        assert!(!gate.close_forever(Duration::from_millis(1)));
        assert_eq!(gate.try_enter(), Err(ENDS));
        waits_for_one_inside(&gate, || gate.close_forever(Duration::from_secs(60)));
        gate.reset();
        assert_eq!(gate.try_enter(), Err(ENDS));
    }

    #[test]
    fn a_fork_waits_for_those_inside_and_lets_nobody_in_until_it_is_done() {
        let gate = Gate::new();
        assert_eq!(gate.try_enter(), Ok(()));
        assert!(!gate.close(Duration::from_millis(1)));
        waits_for_one_inside(&gate, || gate.close(Duration::from_secs(60)));
        gate.open();
        assert_eq!(gate.try_enter(), Err(1));
        gate.open();
        assert_eq!(gate.try_enter(), Ok(()));
        // In a child.
        gate.close(Duration::ZERO);
        gate.reset();
        assert_eq!(gate.inside.load(Ordering::SeqCst), 0);
        assert_eq!(gate.try_enter(), Ok(()));
    }

    #[test]
    fn most_forks_find_nobody_inside() {
        static IS_INSIDE: AtomicBool = AtomicBool::new(false);
        static IS_DONE: AtomicBool = AtomicBool::new(false);
        assert!(super::super::per_process::watch_forks());
        let stay = || {
            while !IS_DONE.load(Ordering::SeqCst) {
                let _inside = enter();
                IS_INSIDE.store(true, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1));
                IS_INSIDE.store(false, Ordering::SeqCst);
            }
        };
        let found_somebody = || {
            let mut status = 0;
            // SAFETY: the child only ends.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::_exit(IS_INSIDE.load(Ordering::SeqCst).into());
                }
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
            }
            assert!(libc::WIFEXITED(status));
            libc::WEXITSTATUS(status) == 1
        };
        thread::scope(|scope| {
            scope.spawn(stay);
            while !IS_INSIDE.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            // A thread inside that gets no core for 10 ms is not waited for.
            let found = (0..20).filter(|_| found_somebody()).count();
            IS_DONE.store(true, Ordering::SeqCst);
            assert!(found <= 10, "{found} of 20");
        });
    }
}
