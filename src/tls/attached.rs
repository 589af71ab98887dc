//! The list of attached contexts, to find the one that a connection began with.
//!
//! OpenSSL calls that one's callbacks and looks into that one's cache, whatever SNI made of the
//! connection since, and does not tell which it is.
//!
//! # Invariants
//!
//! 1. A context is on the list from [`add`] on, and until it is detached or OpenSSL frees it. So
//!    while the list is locked, what is on it is alive, if on the way out: OpenSSL frees the
//!    cache of a context, and its lock, after its ex_data.
//! 2. In a forked child whose parent's lock another thread had, the list is not used any more.
//! 3. Under the lock only OpenSSL and the library run, no callback of the host's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use openssl_sys as ffi;
use openssl_sys::{SSL, SSL_CTX};

use crate::base::alloc::NoMemory;
use crate::base::spin::{Wait, try_lock};

/// More are not asked: a client makes them look.
const MOST_ASKED: usize = 64;

struct List(Vec<*mut SSL_CTX>);

// SAFETY: the pointers are used only as invariant 1 says.
unsafe impl Send for List {}

static LIST: Mutex<List> = Mutex::new(List(Vec::new()));
/// In a forked child: the lock is one of a thread that does not exist.
static LOST: AtomicBool = AtomicBool::new(false);

/// `None`: it is lost. Waits for it otherwise, however long a thread that has it does not run.
fn lock_list() -> Option<MutexGuard<'static, List>> {
    let mut wait = Wait::default();
    while !LOST.load(Ordering::Relaxed) {
        if let Some(list) = try_lock(&LIST) {
            return Some(list);
        }
        wait.a_little();
    }
    None
}

/// Called in a forked child, where there is one thread.
pub fn begin_anew_in_child() {
    if try_lock(&LIST).is_none() {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// # Safety
/// `ctx` is a live `SSL_CTX` that is not on the list, and is taken off before it is freed.
pub unsafe fn add(ctx: *mut SSL_CTX) -> Result<(), NoMemory> {
    if let Some(mut list) = lock_list() {
        list.0.try_reserve(1).map_err(|_| NoMemory)?;
        list.0.push(ctx);
    }
    Ok(())
}

/// Takes a context off, if it is on the list.
pub fn remove(ctx: *mut SSL_CTX) {
    if let Some(mut list) = lock_list() {
        list.0.retain(|other| *other != ctx);
    }
}

/// The context that a connection began with, by what `is_it` finds: the one that it has now, or
/// another one of the list. The one that was found last is asked first of those.
///
/// # Safety
/// `ssl` is a live connection, and `is_it` does as invariant 3 says.
pub unsafe fn first_context(
    ssl: *const SSL,
    is_it: impl Fn(*mut SSL_CTX) -> bool,
) -> Option<*mut SSL_CTX> {
    // SAFETY: the caller vouches for `ssl`, which keeps its context alive.
    let now = unsafe { ffi::SSL_get_SSL_CTX(ssl) };
    if is_it(now) {
        return Some(now);
    }
    let mut list = lock_list()?;
    let mut others = list.0.iter().take(MOST_ASKED);
    let found = others.position(|ctx| *ctx != now && is_it(*ctx))?;
    list.0.swap(0, found);
    // The connection keeps it alive.
    Some(list.0[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::spin::lock;
    use std::ptr;

    #[test]
    fn a_child_without_the_lock_does_without_the_list() {
        let of_parents_thread = lock(&LIST);
        begin_anew_in_child();
        assert!(lock_list().is_none());
        remove(ptr::null_mut());
        LOST.store(false, Ordering::Relaxed);
        drop(of_parents_thread);
        begin_anew_in_child();
        assert!(lock_list().is_some());
    }
}
