//! Spreads what every thread writes over cache lines, so that they do not fight for one.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Enough for 64 cores: two threads share a stripe only by chance.
pub(crate) const COUNT: usize = 64;

/// This thread's stripe, below [`COUNT`]. Stripes are dealt out in turn.
pub(crate) fn mine() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = const { Cell::new(COUNT) };
    }
    STRIPE.with(|stripe| {
        if stripe.get() == COUNT {
            stripe.set(NEXT.fetch_add(1, Ordering::Relaxed) % COUNT);
        }
        stripe.get()
    })
}
