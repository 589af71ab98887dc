//! Values that exist once per process, made at their first use.
//!
//! A half-filled `OnceLock` would make a forked child wait forever for a thread that it does not
//! have. Here a place is empty or has a whole value, and the child frees the lock of a thread that
//! was making one.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use super::spin::Wait;

/// The thread that is making something; 0: none.
static MAKER: AtomicUsize = AtomicUsize::new(0);

/// While this lives, no other thread makes anything.
pub struct Making {
    /// It must end on the thread that began.
    _this_thread: PhantomData<*const ()>,
}

impl Drop for Making {
    fn drop(&mut self) {
        MAKER.store(0, Ordering::Release);
    }
}

/// Waits until no other thread is making anything. Must not be called again before the end.
pub fn begin() -> Making {
    let mut wait = Wait::default();
    loop {
        match try_begin() {
            Some(making) => return making,
            None => wait.a_little(),
        }
    }
}

/// [`begin`], unless a thread is making something.
pub fn try_begin() -> Option<Making> {
    let begun = MAKER.compare_exchange(0, this_thread(), Ordering::Acquire, Ordering::Relaxed);
    begun.is_ok().then_some(Making {
        _this_thread: PhantomData,
    })
}

/// In a forked child: ends what another thread of the parent was making.
pub fn begin_anew_in_child() {
    if MAKER.load(Ordering::Relaxed) != this_thread() {
        MAKER.store(0, Ordering::Relaxed);
    }
}

/// A number that no other thread has at the same time. It stays the same in a forked child.
fn this_thread() -> usize {
    // SAFETY: may be called at any time.
    unsafe { libc::pthread_self() as usize }
}

/// A place for a value that stays forever.
pub struct Once<T> {
    is_made: AtomicBool,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: threads share the value, and any of them may make it. The holder of the only `Making`
// writes it, before `is_made` shows it to others.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

#[allow(clippy::new_without_default)] // They are made at compile time.
impl<T> Once<T> {
    /// An empty place.
    pub const fn new() -> Self {
        Self {
            is_made: AtomicBool::new(false),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// The value, if it has been made.
    pub fn get(&self) -> Option<&T> {
        let is_made = self.is_made.load(Ordering::Acquire);
        // SAFETY: it was written before, and is not written again.
        is_made.then(|| unsafe { (*self.value.get()).assume_init_ref() })
    }
}

/// Returns the value in `place`, and makes it first if there is none. `make` must not call this
/// function.
pub fn make_once<T>(place: &Once<T>, make: impl FnOnce() -> T) -> &T {
    match try_make_once(place, || Some(make())) {
        Some(made) => made,
        None => unreachable!("what was made is there"),
    }
}

/// [`make_once`] for a `make` that may fail: the next call then tries again.
pub fn try_make_once<T>(place: &Once<T>, make: impl FnOnce() -> Option<T>) -> Option<&T> {
    place.get().or_else(|| {
        let _making = begin();
        if place.get().is_none() {
            let made = make()?;
            // SAFETY: an unmade value has no references, and only one thread at a time makes it. In
            // a forked child, a value that a thread of the parent left half-written counts as not
            // made.
            unsafe { (*place.value.get()).write(made) };
            place.is_made.store(true, Ordering::Release);
        }
        place.get()
    })
}

/// A place for a value that a forked child may have to abandon: it puts another one there. No value
/// is ever dropped.
pub struct Current<T>(AtomicPtr<T>);

#[allow(clippy::new_without_default)] // As above.
impl<T: Send + Sync + 'static> Current<T> {
    /// An empty place.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The value that was put here last.
    #[inline]
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or from a box that is never freed.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Puts a value here.
    pub fn put(&self, value: Box<T>) {
        self.0.store(Box::leak(value), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn threads_make_one_value_together() {
        static PLACE: Once<String> = Once::new();
        assert!(PLACE.get().is_none());
        assert!(try_make_once(&PLACE, || None).is_none());
        thread::scope(|scope| {
            let makers: [_; 4] = std::array::from_fn(|n| {
                scope.spawn(move || make_once(&PLACE, || n.to_string()).as_ptr().addr())
            });
            let made = makers.map(|maker| maker.join().unwrap());
            assert!(made.iter().all(|place| *place == made[0]));
        });
    }

    #[test]
    fn a_panic_in_between_leaves_the_place_empty() {
        static PLACE: Once<u8> = Once::new();
        assert!(std::panic::catch_unwind(|| make_once(&PLACE, || panic!("expected"))).is_err());
        assert_eq!(make_once(&PLACE, || 7), &7);
    }

    #[test]
    fn a_child_frees_what_another_thread_was_making() {
        // As if it were another thread's.
        while MAKER
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {}
        assert!(try_begin().is_none());
        begin_anew_in_child();
        let making = begin();
        begin_anew_in_child();
        assert!(try_begin().is_none());
        drop(making);
    }
}
