//! What the libraries keep for each thread, in one variable: in a shared library, the address of
//! a thread-local variable costs a call, and the compiler makes one call for one variable.

use std::cell::Cell;

/// What is kept for a thread. All zero at first.
pub struct Thread {
    /// How many calls of [`crate::boundary::catch`] it is in: more than one inside a hook.
    pub(crate) calls: Cell<u32>,
    /// For the library: how many visits to OpenSSL it is in.
    pub visits: Cell<u32>,
    /// For the library: the stripe of counters that it writes, and one; 0: none yet.
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

/// Calls `with` with what is kept for this thread.
#[inline]
pub fn this<R>(with: impl FnOnce(&Thread) -> R) -> R {
    THIS.with(with)
}
