//! How many entries and bytes the cache has, and may have.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

/// The bounds of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// At most this many sessions; at least 1.
    pub entries: usize,
    /// At most this many bytes of DER in all.
    pub bytes: usize,
}

/// Two numbers that threads reserve room in before they store anything, so that what is
/// stored never exceeds the limits, also while those change.
///
/// Sequentially consistent, all of it: whoever lowers a limit stores it first and looks at
/// what is used then, whoever reserves does it the other way round, so one of the two
/// sees the other.
pub(crate) struct Budget {
    entries: CachePadded<AtomicUsize>,
    bytes: CachePadded<AtomicUsize>,
    max_entries: AtomicUsize,
    max_bytes: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            entries: CachePadded::default(),
            bytes: CachePadded::default(),
            max_entries: AtomicUsize::new(limits.entries.max(1)),
            max_bytes: AtomicUsize::new(limits.bytes),
        }
    }

    /// Reserves room for a session of `len` bytes, of which one that it replaces
    /// brings `old_len` and its place.
    pub(crate) fn reserve(&self, old_len: Option<usize>, len: usize) -> bool {
        let entries = usize::from(old_len.is_none());
        let bytes = len.saturating_sub(old_len.unwrap_or(0));
        if !add_within(&self.entries, entries, &self.max_entries) {
            return false;
        }
        if !add_within(&self.bytes, bytes, &self.max_bytes) {
            self.release(entries, 0);
            return false;
        }
        true
    }

    pub(crate) fn release(&self, entries: usize, bytes: usize) {
        self.entries.fetch_sub(entries, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// What is too much then, is for the caller to release.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.max_entries
            .store(limits.entries.max(1), Ordering::SeqCst);
        self.max_bytes.store(limits.bytes, Ordering::SeqCst);
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.entries.load(Ordering::SeqCst) > self.max_entries.load(Ordering::SeqCst)
            || self.bytes.load(Ordering::SeqCst) > self.max_bytes.load(Ordering::SeqCst)
    }

    pub(crate) fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn max_entries(&self) -> usize {
        self.max_entries.load(Ordering::Relaxed)
    }

    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes.load(Ordering::SeqCst)
    }
}

/// Adds `n` to `used` if that stays within `max`.
fn add_within(used: &AtomicUsize, n: usize, max: &AtomicUsize) -> bool {
    let added = used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
        used.checked_add(n)
            .filter(|&sum| n == 0 || sum <= max.load(Ordering::SeqCst))
    });
    match added {
        Ok(before) if n > 0 && before + n > max.load(Ordering::SeqCst) => {
            used.fetch_sub(n, Ordering::SeqCst);
            false
        }
        added => added.is_ok(),
    }
}
