//! Values that a process has and its forked children do not: a fork does not copy threads.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::gate;

/// The number of forks between the process that loaded this library and this process.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    gate::forget_threads();
}

/// Counts forks from now on, and keeps the farm's threads out of OpenSSL meanwhile; false: there is no
/// memory for that.
pub fn watch_forks() -> bool {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    // After a race all of it may happen twice, which does no harm.
    if !IS_WATCHED.load(Ordering::Relaxed) {
        // SAFETY: the functions are never unloaded, and that for the child does nothing that it must
        // not.
        let result = unsafe {
            libc::pthread_atfork(
                Some(gate::close_for_fork),
                Some(gate::open_after_fork),
                Some(count_fork),
            )
        };
        IS_WATCHED.store(result == 0, Ordering::Relaxed);
    }
    IS_WATCHED.load(Ordering::Relaxed)
}

/// A value that is set once in a process, and again in a child. Call [`watch_forks`] first.
pub struct PerProcess<T: 'static>(AtomicPtr<Set<T>>);

struct Set<T> {
    forks: u32,
    value: T,
}

impl<T: Sync> PerProcess<T> {
    /// Not set.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    fn latest(&self) -> Option<&'static Set<T>> {
        // SAFETY: null, or from a box that is never freed.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// The value that this process has set. Makes no system call.
    pub fn get(&self) -> Option<&'static T> {
        let set = self.latest()?;
        (set.forks == FORKS.load(Ordering::Relaxed)).then_some(&set.value)
    }

    /// Whether a parent of this process has set the value, and this process has not.
    pub fn is_of_parent(&self) -> bool {
        self.latest().is_some() && self.get().is_none()
    }

    /// Sets the value, as long as the process runs.
    pub fn set(&self, value: T) -> &'static T {
        let forks = FORKS.load(Ordering::Relaxed);
        let set = Box::into_raw(Box::new(Set { forks, value }));
        self.0.store(set, Ordering::Release);
        // SAFETY: from a box that is never freed.
        unsafe { &(*set).value }
    }
}

/// A lock that a forked child finds free: the thread of its parent that holds it is not in the child.
/// Call [`watch_forks`] first.
pub struct Turn(AtomicU64);

impl Turn {
    /// Free.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Takes it until the result is dropped; `None`: another thread of this process has it.
    #[allow(deprecated)] // Its new name is younger than our lowest Rust.
    pub fn take(&self) -> Option<Taken<'_>> {
        let process = u64::from(FORKS.load(Ordering::Relaxed)) + 1;
        let is_free = |holder| (holder != process).then_some(process);
        let taken = self
            .0
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, is_free);
        taken.is_ok().then_some(Taken {
            turn: self,
            process,
        })
    }
}

/// A turn that a thread holds.
pub struct Taken<'a> {
    turn: &'a Turn,
    process: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // In a child, another thread may hold it: that stays.
        let _ = self
            .turn
            .0
            .compare_exchange(self.process, 0, Ordering::Release, Ordering::Relaxed);
    }
}
