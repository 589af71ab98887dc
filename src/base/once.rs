//! What there is one of per process, made at its first use.
//!
//! `OnceLock` would do that itself, but a child forked in the middle of it would wait forever for
//! the other thread. Here a lock is held instead, which can be taken before a fork.

use std::sync::{Mutex, MutexGuard, OnceLock};

use super::spin::{lock, try_lock};

static MAKING: Mutex<()> = Mutex::new(());

/// While this lives, nothing is made by another thread.
pub type Making = MutexGuard<'static, ()>;

/// What is in `place`, made now if it is empty. `make` must not call this again.
pub fn make_once<T>(place: &OnceLock<T>, make: impl FnOnce() -> T) -> &T {
    place.get().unwrap_or_else(|| {
        let _making = begin();
        place.get_or_init(make)
    })
}

/// [`make_once`] for what may fail: then the next call tries again.
pub fn try_make_once<T>(place: &OnceLock<T>, make: impl FnOnce() -> Option<T>) -> Option<&T> {
    place.get().or_else(|| {
        let _making = begin();
        match place.get() {
            Some(made) => Some(made),
            None => make().map(|made| place.get_or_init(|| made)),
        }
    })
}

/// Waits until no other thread is making anything.
pub fn begin() -> Making {
    lock(&MAKING)
}

/// [`begin`], unless another thread is making something.
pub fn try_begin() -> Option<Making> {
    try_lock(&MAKING)
}
