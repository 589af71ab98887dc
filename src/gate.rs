//! Holds a fork, and the end of OpenSSL, off while a thread is inside it on the library's behalf.
//!
//! OpenSSL has locks of its own (decoding a session takes one of the whole process),
//! and nothing releases those in a forked child. So nobody may be in there when
//! the fork happens; nor when OpenSSL takes itself down as the process ends, which it does
//! whoever is in there.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::stripe;
use crate::sync::{AtomicBool, AtomicUsize};
use crate::wait::Patience;

static GATE: Gate<{ stripe::COUNT }> = Gate::new();

/// The threads inside, counted in stripes, and whether others have to wait.
struct Gate<const STRIPES: usize> {
    inside: [CachePadded<AtomicUsize>; STRIPES],
    closed: AtomicBool,
}

impl<const STRIPES: usize> Gate<STRIPES> {
    const fn new() -> Self {
        Self {
            inside: [const { CachePadded::new(AtomicUsize::new(0)) }; STRIPES],
            closed: AtomicBool::new(false),
        }
    }

    fn try_enter(&self, stripe: usize) -> bool {
        // Whoever enters counts first and looks at the gate then; whoever closes it
        // does it the other way round, so one of the two sees the other.
        let inside = &self.inside[stripe];
        inside.fetch_add(1, Ordering::SeqCst);
        let is_open = !self.closed.load(Ordering::SeqCst);
        if !is_open {
            inside.fetch_sub(1, Ordering::SeqCst);
        }
        is_open
    }

    fn leave(&self, stripe: usize) {
        self.inside[stripe].fetch_sub(1, Ordering::Release);
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    fn is_empty(&self) -> bool {
        let mut inside = self.inside.iter();
        inside.all(|n| n.load(Ordering::SeqCst) == 0)
    }

    fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }
}

thread_local! {
    /// How often this thread is on the inside: more than once where OpenSSL calls back. It
    /// then passes without looking, or it would wait for a fork that waits for it.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A thread on the inside, until this is dropped.
pub(crate) struct Inside {
    /// The thread must be the one that entered: its stripe is counted down.
    _this_thread: PhantomData<*const ()>,
}

pub(crate) fn enter() -> Inside {
    if DEPTH.replace(DEPTH.get() + 1) == 0 {
        let stripe = stripe::mine();
        if !GATE.try_enter(stripe) {
            wait_to_enter(stripe);
        }
    }
    Inside {
        _this_thread: PhantomData,
    }
}

/// Waits until the gate is opened again; if it will not be, until OpenSSL must have taken itself
/// down: from then on it refuses what it is asked for, and nobody need be held up.
#[cold]
fn wait_to_enter(stripe: usize) {
    while Patience::of(END)
        .wait_for(|| GATE.try_enter(stripe).then_some(()))
        .is_none()
    {
        if ENDS.load(Ordering::SeqCst) {
            GATE.inside[stripe].fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
}

/// Longer than OpenSSL takes for its end.
const END: Duration = Duration::from_millis(200);

/// Whether the gate was closed for good.
static ENDS: AtomicBool = AtomicBool::new(false);

/// Called before OpenSSL takes itself down, on the thread that ends the process: waits for
/// those inside, and lets nobody but this thread in.
pub(crate) fn close_for_good() {
    DEPTH.set(DEPTH.get() + 1);
    ENDS.store(true, Ordering::SeqCst);
    GATE.close();
    // A thread that is in there for so long waits for this one, or will never run again.
    Patience::of(END).wait_for(|| GATE.is_empty().then_some(()));
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            GATE.leave(stripe::mine());
        }
    }
}

/// A closed gate with nobody inside, until this is dropped. Only one thread may close
/// it at a time.
pub(crate) struct Closed(());

pub(crate) fn close(patience: Patience) -> Option<Closed> {
    let closed = Closed(());
    GATE.close();
    patience.wait_for(|| GATE.is_empty().then_some(()))?;
    Some(closed)
}

impl Closed {
    /// Opens it in a forked child. A thread that was on its way out again, having found
    /// the gate closed, is counted for ever otherwise.
    pub(crate) fn open_in_child(self) {
        for inside in &GATE.inside {
            inside.store(0, Ordering::SeqCst);
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        GATE.open();
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

    /// While the gate is closed and empty nobody is inside, and what they did there has been
    /// done: loom watches over the cells, which only those inside and who has closed the gate use.
    /// Nobody tries for ever here, or some ways to interleave would have no end.
    fn model<const STRIPES: usize>() {
        loom::model(|| {
            let gate = Arc::new(Gate::<STRIPES>::new());
            // Not an Arc: who watches over them is loom, whose threads take turns in one.
            let cells = Rc::new([(); STRIPES].map(UnsafeCell::new));
            let threads: Vec<_> = (0..STRIPES)
                .map(|stripe| {
                    let (gate, cells) = (gate.clone(), cells.clone());
                    thread::spawn(move || {
                        if gate.try_enter(stripe) || gate.try_enter(stripe) {
                            cells[stripe].with_mut(|_| ());
                            gate.leave(stripe);
                        }
                    })
                })
                .collect();
            gate.close();
            if gate.is_empty() || gate.is_empty() {
                cells.iter().for_each(|cell| cell.with_mut(|_| ()));
            }
            gate.open();
            threads.into_iter().for_each(|it| it.join().unwrap());
            assert!(gate.is_empty());
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
