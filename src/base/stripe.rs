//! Spreads data that every thread writes over cache lines, so that threads do not compete for one.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tssession_common::boundary::undisturbed;
use tssession_common::thread;

use super::once::Once;

/// How many stripes there are: enough for a host with 96 busy threads.
pub(crate) const COUNT: usize = 128;

/// How many stripes can belong to one thread at a time. Threads that get none share the rest.
const SINGLE: usize = 96;

/// Which of these a thread has.
static TAKEN: [AtomicBool; SINGLE] = [const { AtomicBool::new(false) }; SINGLE];

/// A thread's stripe.
#[derive(Clone, Copy)]
pub(crate) struct Stripe(u8);

impl Stripe {
    /// Its number, below [`COUNT`].
    #[inline]
    pub(crate) fn number(self) -> usize {
        usize::from(self.0) % COUNT
    }

    /// Whether no other thread has it.
    #[inline]
    pub(crate) fn is_single(self) -> bool {
        self.number() < SINGLE
    }
}

/// This thread's stripe.
#[inline]
pub(crate) fn mine() -> Stripe {
    let known = thread::this(|this| this.stripe.get());
    Stripe(match known.checked_sub(1) {
        Some(number) => number,
        None => choose(),
    })
}

#[cold]
fn choose() -> u8 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let take =
        |taken: &AtomicBool| !taken.load(Ordering::Relaxed) && !taken.swap(true, Ordering::Acquire);
    let number = AT_EXIT.get().and_then(|key| {
        let number = TAKEN.iter().position(take)?;
        let as_pointer = ptr::without_provenance(number + 1);
        // SAFETY: the key exists, and the pointer is only a number. The call may allocate.
        let kept = undisturbed(|| unsafe { libc::pthread_setspecific(*key, as_pointer) });
        if kept != 0 {
            TAKEN[number].store(false, Ordering::Relaxed);
            return None;
        }
        Some(number)
    });
    let number = number
        .unwrap_or_else(|| SINGLE + NEXT.fetch_add(1, Ordering::Relaxed) % (COUNT - SINGLE))
        as u8;
    thread::this(|this| this.stripe.set(number + 1));
    number
}

/// The key whose destructor gives a stripe back when its thread ends.
static AT_EXIT: Once<libc::pthread_key_t> = Once::new();

/// Must be called before a thread can have its own stripe. `at_exit` is called at the end of such a
/// thread, with the argument for [`give_back`], and is never unloaded.
pub(crate) fn prepare(at_exit: unsafe extern "C" fn(*mut c_void)) {
    super::once::try_make_once(&AT_EXIT, || {
        let mut key = 0;
        // SAFETY: the caller vouches for the function.
        let made = unsafe { libc::pthread_key_create(&mut key, Some(at_exit)) };
        (made == 0).then_some(key)
    });
}

/// The thread ends.
pub(crate) fn give_back(stripe: *mut c_void) {
    thread::this(|this| this.stripe.set(0));
    if let Some(taken) = TAKEN.get(stripe.addr() - 1) {
        taken.store(false, Ordering::Release);
    }
}

/// In a forked child: frees the stripes of the parent's other threads.
pub(crate) fn begin_anew_in_child() {
    let mine = thread::this(|this| this.stripe.get());
    for (number, taken) in TAKEN.iter().enumerate() {
        taken.store(number + 1 == usize::from(mine), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Barrier;

    #[test]
    fn no_two_threads_that_live_have_the_same_single_stripe() {
        // The loader has prepared the library. Twice, because threads give their stripes back.
        for _ in 0..2 {
            let all = Barrier::new(COUNT);
            let stripes: Vec<usize> = std::thread::scope(|scope| {
                let number = || {
                    let number = mine().number();
                    assert_eq!(mine().number(), number);
                    all.wait();
                    number
                };
                let threads: Vec<_> = (0..COUNT).map(|_| scope.spawn(number)).collect();
                threads.into_iter().map(|it| it.join().unwrap()).collect()
            });
            let (single, shared): (Vec<usize>, Vec<usize>) =
                stripes.iter().partition(|number| **number < SINGLE);
            let different: HashSet<_> = single.iter().collect();
            assert_eq!(different.len(), single.len());
            // Threads of other tests have a few.
            assert!(single.len() > SINGLE / 2 && !shared.is_empty());
            assert!(shared.iter().all(|number| *number < COUNT));
        }
    }
}
