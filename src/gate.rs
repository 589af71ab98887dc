//! Holds a fork off while a thread is inside OpenSSL on the library's behalf.
//!
//! OpenSSL has locks of its own (decoding a session takes one of the whole process),
//! and nothing releases those in a forked child. So nobody may be in there when
//! the fork happens.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use crate::stripe;
use crate::wait::{Patience, Wait};

static INSIDE: [CachePadded<AtomicUsize>; stripe::COUNT] =
    [const { CachePadded::new(AtomicUsize::new(0)) }; stripe::COUNT];
static CLOSED: AtomicBool = AtomicBool::new(false);

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
    if DEPTH.replace(DEPTH.get() + 1) > 0 {
        return Inside {
            _this_thread: PhantomData,
        };
    }
    let inside = &INSIDE[stripe::mine()];
    let mut wait = Wait::default();
    loop {
        // Whoever enters counts first and looks at the gate then; whoever closes it
        // does it the other way round, so one of the two sees the other.
        inside.fetch_add(1, Ordering::SeqCst);
        if !CLOSED.load(Ordering::SeqCst) {
            return Inside {
                _this_thread: PhantomData,
            };
        }
        inside.fetch_sub(1, Ordering::SeqCst);
        wait.a_little();
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            INSIDE[stripe::mine()].fetch_sub(1, Ordering::Release);
        }
    }
}

/// A closed gate with nobody inside, until this is dropped. Only one thread may close
/// it at a time.
pub(crate) struct Closed(());

pub(crate) fn close(patience: Patience) -> Option<Closed> {
    let closed = Closed(());
    CLOSED.store(true, Ordering::SeqCst);
    patience.wait_for(|| {
        let empty = INSIDE.iter().all(|n| n.load(Ordering::SeqCst) == 0);
        empty.then_some(())
    })?;
    Some(closed)
}

impl Closed {
    /// Opens it in a forked child. A thread that was on its way out again, having found
    /// the gate closed, is counted for ever otherwise.
    pub(crate) fn open_in_child(self) {
        for inside in &INSIDE {
            inside.store(0, Ordering::SeqCst);
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        CLOSED.store(false, Ordering::SeqCst);
    }
}
