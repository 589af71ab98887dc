//! The data that the libraries keep for each thread, in one variable. In a shared library, the
//! address of a thread-local variable costs a call, so one variable costs one call.

use std::cell::Cell;

/// The data of a thread. All zero at first.
pub struct Thread {
    /// How many calls of [`crate::boundary::catch`] the thread is in: more than one inside a hook.
    pub(crate) calls: Cell<u32>,
    /// For the library: how many visits to OpenSSL the thread is in.
    pub visits: Cell<u32>,
    /// For the library: the stripe of counters that the thread writes, plus one; 0: none yet.
    pub stripe: Cell<u8>,
}

thread_local! {
    static THIS: Thread = const {
        Thread {
            calls: Cell::new(0),
            visits: Cell::new(0),
            stripe: Cell::new(0),
        }
    };
}

/// Calls `with` with the data of this thread.
#[inline]
pub fn this<R>(with: impl FnOnce(&Thread) -> R) -> R {
    THIS.with(with)
}
