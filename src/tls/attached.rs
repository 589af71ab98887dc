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
//! 2. Where a context could not be taken off, the list is not used any more.
//! 3. Under the lock only OpenSSL and the library run, no callback of the host's.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openssl_sys as ffi;
use openssl_sys::{SSL, SSL_CTX};

use crate::base::alloc::NoMemory;
use crate::base::spin::{Patience, try_lock};

/// Longer than any thread has the lock that runs.
const PATIENCE: Duration = Duration::from_millis(10);
/// More are not asked: a client makes them look.
const MOST_ASKED: usize = 64;

struct List(Vec<*mut SSL_CTX>);

// SAFETY: the pointers are used only as invariant 1 says.
unsafe impl Send for List {}

static LIST: Mutex<List> = Mutex::new(List(Vec::new()));
/// Something may be on the list that is no more.
static LOST: AtomicBool = AtomicBool::new(false);

/// # Safety
/// `ctx` is a live `SSL_CTX` that is not on the list, and is taken off before it is freed.
pub unsafe fn add(ctx: *mut SSL_CTX) -> Result<(), NoMemory> {
    let Some(mut list) = Patience::of(PATIENCE).wait_for(|| try_lock(&LIST)) else {
        // A forked child whose parent had the lock: connections of this context find others.
        return Ok(());
    };
    list.0.try_reserve(1).map_err(|_| NoMemory)?;
    list.0.push(ctx);
    Ok(())
}

/// Takes a context off, if it is on the list.
pub fn remove(ctx: *mut SSL_CTX) {
    match Patience::of(PATIENCE).wait_for(|| try_lock(&LIST)) {
        Some(mut list) => list.0.retain(|other| *other != ctx),
        None => LOST.store(true, Ordering::Release),
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
    let mut list = Patience::of(PATIENCE).wait_for(|| try_lock(&LIST))?;
    if LOST.load(Ordering::Acquire) {
        return None;
    }
    let mut others = list.0.iter().take(MOST_ASKED);
    let found = others.position(|ctx| *ctx != now && is_it(*ctx))?;
    list.0.swap(0, found);
    // The connection keeps it alive.
    Some(list.0[0])
}
