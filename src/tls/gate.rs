//! Delays a fork, and OpenSSL's cleanup, while a thread of the library is inside OpenSSL.
//!
//! OpenSSL has its own locks (decoding a session takes one of the whole process), and nothing
//! releases them in a forked child. So no other thread should be inside OpenSSL when a fork happens.
//! The same holds when OpenSSL 3 cleans up at the end of the process, which it does without regard
//! to threads inside.

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tssession_common::thread;

use super::bindings::OPENSSL_init_crypto;
use crate::base::atomics::{AtomicU32, AtomicUsize};
use crate::base::spin::{Patience, Wait};
use crate::base::stripe;
use crate::instance::boundary::guard;

static GATE: Gate<{ stripe::COUNT }> = Gate::new();

/// The gate is closed forever. The other bits count the threads that fork.
const ENDS: u32 = 1 << 31;

/// The threads inside, counted in stripes, and the reasons why others must not enter.
struct Gate<const STRIPES: usize> {
    inside: [CachePadded<AtomicUsize>; STRIPES],
    closed: AtomicU32,
}

impl<const STRIPES: usize> Gate<STRIPES> {
    const fn new() -> Self {
        Self {
            inside: [const { CachePadded::new(AtomicUsize::new(0)) }; STRIPES],
            closed: AtomicU32::new(0),
        }
    }

    /// Enters; or the reasons why the gate is closed.
    fn try_enter(&self, stripe: usize) -> Result<(), u32> {
        // A thread that enters counts itself first and then looks at the gate. A thread that closes
        // the gate does it in the other order, so one of the two sees the other.
        let inside = &self.inside[stripe];
        inside.fetch_add(1, Ordering::SeqCst);
        match self.closed.load(Ordering::SeqCst) {
            0 => Ok(()),
            closed => {
                inside.fetch_sub(1, Ordering::SeqCst);
                Err(closed)
            }
        }
    }

    fn leave(&self, stripe: usize) {
        self.inside[stripe].fetch_sub(1, Ordering::Release);
    }

    fn close(&self) {
        self.change(|closed| closed + 1);
    }

    fn open(&self) {
        self.change(|closed| closed - 1);
    }

    #[allow(deprecated)] // Its new name is younger than our lowest Rust.
    fn change(&self, change: impl Fn(u32) -> u32) {
        let done = self
            .closed
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |closed| {
                Some(change(closed))
            });
        debug_assert!(done.is_ok());
    }

    /// Resets it: no thread forks, and only this number of threads, of one stripe, are inside.
    fn reset(&self, stripe: usize, threads: usize) {
        for inside in &self.inside {
            inside.store(0, Ordering::SeqCst);
        }
        self.inside[stripe].store(threads, Ordering::SeqCst);
        self.change(|closed| closed & ENDS);
    }

    /// Whether this number of threads is inside, while it is closed.
    fn holds(&self, threads: usize) -> bool {
        let inside = self.inside.iter().map(|n| n.load(Ordering::SeqCst));
        inside.sum::<usize>() == threads
    }
}

/// A thread inside, until this is dropped. It can be inside more than once, where OpenSSL calls back: it
/// then enters without looking, or it would wait for a fork that waits for it.
pub(crate) struct Inside {
    /// Only the thread that entered can drop this: its stripe is counted down.
    _this_thread: PhantomData<*const ()>,
}

/// How many times this thread is inside.
fn visits() -> u32 {
    thread::this(|this| this.visits.get())
}

/// Enters; waits while another thread forks. `None`: the process is ending.
pub(crate) fn enter() -> Option<Inside> {
    if visits() == 0 {
        expect_the_end();
        let stripe = stripe::mine().number();
        if let Err(closed) = GATE.try_enter(stripe) {
            wait_to_enter(stripe, closed)?;
        }
    }
    Some(Inside::counted())
}

/// [`enter`], unless that would take a wait.
#[inline]
pub(crate) fn enter_at_once() -> Option<Inside> {
    if visits() == 0 {
        if !EXPECTED.load(Ordering::Relaxed) {
            return None;
        }
        GATE.try_enter(stripe::mine().number()).ok()?;
    }
    Some(Inside::counted())
}

#[cold]
fn wait_to_enter(stripe: usize, mut closed: u32) -> Option<()> {
    let mut wait = Wait::default();
    while closed & ENDS == 0 {
        wait.a_little();
        match GATE.try_enter(stripe) {
            Ok(()) => return Some(()),
            Err(still_closed) => closed = still_closed,
        }
    }
    None
}

/// Whether the gate will be closed before OpenSSL cleans up.
static EXPECTED: AtomicBool = AtomicBool::new(false);

/// Makes sure that the gate is closed before OpenSSL cleans up. If there is no memory for that, the
/// next call tries again.
#[inline]
fn expect_the_end() {
    #[cold]
    fn register() -> bool {
        // SAFETY: allowed at any time. OpenSSL 3 has registered its own function when the first call
        // returns, so `end` runs before that. It stays valid: the library is never unloaded.
        unsafe {
            OPENSSL_init_crypto(0, ptr::null());
            libc::atexit(end) == 0
        }
    }
    if !EXPECTED.load(Ordering::Relaxed) && register() {
        EXPECTED.store(true, Ordering::Relaxed);
    }
}

/// Longer than a thread stays inside, unless it waits for this thread or never runs again.
const END: Duration = Duration::from_millis(200);

/// Called at the end of the process, before OpenSSL cleans up: lets no thread enter any more, and
/// waits for those inside.
extern "C" fn end() {
    guard(|| {
        GATE.change(|closed| closed | ENDS);
        wait_for_others(Patience::of(END));
    });
}

impl Inside {
    fn counted() -> Self {
        thread::this(|this| this.visits.set(this.visits.get() + 1));
        Self {
            _this_thread: PhantomData,
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        thread::this(|this| this.visits.set(this.visits.get() - 1));
        if visits() == 0 {
            GATE.leave(stripe::mine().number());
        }
    }
}

/// Whether this thread is inside.
fn own() -> usize {
    usize::from(visits() > 0)
}

/// Waits until no other thread is inside the closed gate, as long as there is patience.
fn wait_for_others(patience: Patience) {
    patience.wait_for(|| GATE.holds(own()).then_some(()));
}

/// A gate closed for a fork until this is dropped.
pub(crate) struct Closed(());

/// Closes the gate and waits for other threads to leave. One may stay inside longer than that, in a
/// slow function of the host's.
pub(crate) fn close(patience: Patience) -> Closed {
    GATE.close();
    let closed = Closed(());
    wait_for_others(patience);
    closed
}

/// In a forked child: at most this thread is inside, and no thread forks.
pub(crate) fn open_in_child() {
    GATE.reset(stripe::mine().number(), own());
}

impl Drop for Closed {
    fn drop(&mut self) {
        GATE.open();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_child_counts_its_own_thread_only() {
        let gate = Gate::<3>::new();
        (0..3).for_each(|stripe| gate.try_enter(stripe).unwrap());
        gate.close();
        gate.close();
        gate.open();
        assert_eq!(gate.try_enter(1), Err(1));
        assert!(gate.holds(3));
        gate.reset(1, 1);
        assert!(gate.holds(1));
        gate.leave(1);
        assert!(gate.holds(0));
        assert_eq!(gate.try_enter(2), Ok(()));
        gate.change(|closed| closed | ENDS);
        gate.reset(0, 0);
        assert_eq!(gate.try_enter(2), Err(ENDS));
    }
}

/// Models for loom.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::thread;
    use std::rc::Rc;
    use std::sync::Arc;

    /// While the gate is closed and empty, no thread is inside, and what threads did there is
    /// visible: loom watches over the cells, which only threads inside and the one that has closed
    /// the gate use. No thread tries forever here, or some interleavings would never end.
    fn model<const STRIPES: usize>() {
        loom::model(|| {
            let gate = Arc::new(Gate::<STRIPES>::new());
            // Not an Arc: loom, which watches over them, runs its threads in turns in one thread.
            let cells = Rc::new([(); STRIPES].map(UnsafeCell::new));
            let threads: Vec<_> = (0..STRIPES)
                .map(|stripe| {
                    let (gate, cells) = (gate.clone(), cells.clone());
                    thread::spawn(move || {
                        if gate.try_enter(stripe).is_ok() || gate.try_enter(stripe).is_ok() {
                            cells[stripe].with_mut(|_| ());
                            gate.leave(stripe);
                        }
                    })
                })
                .collect();
            gate.close();
            if gate.holds(0) || gate.holds(0) {
                cells.iter().for_each(|cell| cell.with_mut(|_| ()));
            }
            gate.open();
            threads.into_iter().for_each(|it| it.join().unwrap());
            assert!(gate.holds(0));
        });
    }

    #[test]
    fn nobody_is_inside_a_closed_gate() {
        model::<1>();
    }

    #[test]
    fn nobody_is_inside_a_closed_gate_of_two_stripes() {
        model::<2>();
    }
}
