//! The list of attached contexts, to find the one that a connection began with.
//!
//! OpenSSL calls the callbacks of that context and looks into its cache, whichever context SNI has
//! switched to since. It does not report which context that is.
//!
//! # Invariants
//!
//! 1. A context is on the list from [`add`] until it is detached or OpenSSL frees it. So while the
//!    list is locked, every context on it is alive, or is being freed but still has its cache and
//!    lock: OpenSSL frees those after the ex_data.
//! 2. If another thread held the lock during a fork, the child does not use the list any more.
//! 3. Under the lock only OpenSSL and the library run, and no callback of the host's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use openssl_sys as ffi;
use openssl_sys::{SSL, SSL_CTX};

use crate::base::alloc::NoMemory;
use crate::base::spin::{Wait, try_lock};

/// The most contexts that are asked. A limit, because a client causes the search.
const MOST_ASKED: usize = 64;

struct List(Vec<*mut SSL_CTX>);

// SAFETY: the pointers are used only as invariant 1 says.
unsafe impl Send for List {}

static LIST: Mutex<List> = Mutex::new(List(Vec::new()));
/// In a forked child: a thread that does not exist holds the lock.
static LOST: AtomicBool = AtomicBool::new(false);

/// Waits for the lock, even if the thread that holds it does not run for long. `None`: it is lost.
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

/// Called in a forked child, which has one thread.
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

/// Removes a context, if it is on the list.
pub fn remove(ctx: *mut SSL_CTX) {
    if let Some(mut list) = lock_list() {
        list.0.retain(|other| *other != ctx);
    }
}

/// The context that a connection began with, which `is_it` recognizes: the one that it has now, or
/// another one on the list. Of the list, the one that was found last is asked first.
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
    // The connection keeps the context alive.
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
