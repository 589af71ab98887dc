//! How many entries and bytes the cache has, and may have.

use std::sync::atomic::Ordering;

use crossbeam_utils::CachePadded;

use crate::base::atomics::AtomicUsize;

/// The bounds of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// At most this many sessions; at least 1.
    pub entries: usize,
    /// At most this many bytes of DER in all.
    pub bytes: usize,
}

/// Counts entries and bytes. Threads reserve room here before they store anything, so the cache
/// never exceeds the limits, even while they change.
///
/// All accesses are sequentially consistent. A thread that lowers a limit stores it first and then
/// reads the use; a thread that reserves does the reverse. So one of the two sees the other.
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

    /// Reserves room for a session of `len` bytes. If it replaces one, that one's `old_len` bytes
    /// and its entry count towards it.
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

    /// The caller must evict whatever now exceeds the limits.
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
#[allow(deprecated)] // Its new name is younger than our lowest Rust.
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

/// Models for loom. `stored` is the content of the shards' tables.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Mutex;
    use loom::thread;
    use std::sync::Arc;

    fn budget(entries: usize, bytes: usize) -> Arc<Budget> {
        Arc::new(Budget::new(Limits { entries, bytes }))
    }

    /// Room that one thread reserved is not given to another until it is released.
    #[test]
    fn the_last_place_is_given_once() {
        loom::model(|| {
            let budget = budget(1, 10);
            let taken = Arc::new(Mutex::new(0));
            let use_it = {
                let (budget, taken) = (budget.clone(), taken.clone());
                move || {
                    if budget.reserve(None, 6) {
                        *taken.lock().unwrap() += 1;
                        assert_eq!(*taken.lock().unwrap(), 1);
                        // The count never includes a thread that does not get the room, not even
                        // for a moment.
                        assert_eq!((budget.entries(), budget.bytes()), (1, 6));
                        *taken.lock().unwrap() -= 1;
                        budget.release(1, 6);
                    }
                }
            };
            let other = thread::spawn(use_it.clone());
            use_it();
            other.join().unwrap();
            assert_eq!((budget.entries(), budget.bytes()), (0, 0));
        });
    }

    /// An entry whose bytes do not fit is given back, and no byte is given twice. Of two sessions
    /// that would each fit alone, one is stored.
    #[test]
    fn bytes_are_given_once_and_a_place_without_them_comes_back() {
        loom::model(|| {
            let budget = budget(3, 10);
            assert!(budget.reserve(None, 2));
            let replacing = {
                let budget = budget.clone();
                // 2 bytes become 8.
                thread::spawn(move || budget.reserve(Some(2), 8))
            };
            let added = budget.reserve(None, 6);
            let replaced = replacing.join().unwrap();
            assert!(added != replaced);
            assert_eq!(budget.entries(), 1 + usize::from(added));
            assert_eq!(budget.bytes(), 8);
        });
    }

    /// A lowered limit holds from then on, even if another thread reserves at that moment: one of
    /// the two sees the other.
    fn lower(limits: Limits) {
        loom::model(move || {
            let budget = budget(2, 12);
            let stored = Arc::new(Mutex::new(1));
            assert!(budget.reserve(None, 6));
            let inserting = {
                let (budget, stored) = (budget.clone(), stored.clone());
                thread::spawn(move || {
                    // As in the cache: the bytes are stored after they are reserved.
                    if budget.reserve(None, 6) {
                        *stored.lock().unwrap() += 1;
                    }
                })
            };
            budget.set_limits(limits);
            while budget.is_exceeded() {
                let mut stored = stored.lock().unwrap();
                if *stored > 0 {
                    *stored -= 1;
                    budget.release(1, 6);
                } else {
                    drop(stored);
                    thread::yield_now();
                }
            }
            assert!(*stored.lock().unwrap() <= 1);
            inserting.join().unwrap();
            let stored = *stored.lock().unwrap();
            assert!(stored <= 1);
            assert_eq!((budget.entries(), budget.bytes()), (stored, 6 * stored));
        });
    }

    #[test]
    fn a_lowered_limit_of_entries_holds() {
        lower(Limits {
            entries: 1,
            bytes: 12,
        });
    }

    #[test]
    fn a_lowered_limit_of_bytes_holds() {
        lower(Limits {
            entries: 2,
            bytes: 11,
        });
    }

    /// Threads that insert into a full cache evict for each other, and all of them finish. A thread
    /// that holds the locks of all shards sees correct numbers.
    #[test]
    fn inserts_into_a_full_cache_make_room() {
        loom::model(|| {
            let budget = budget(1, 6);
            assert!(budget.reserve(None, 6));
            let shards = Arc::new([Mutex::new(1), Mutex::new(0)]);
            let evict = |budget: &Budget, stored: &mut usize| {
                let any = *stored > 0;
                if any {
                    *stored -= 1;
                    budget.release(1, 6);
                }
                any
            };
            let insert = {
                let (budget, shards) = (budget.clone(), shards.clone());
                move |home: usize| {
                    loop {
                        let mut shard = shards[home].lock().unwrap();
                        if budget.reserve(None, 6) {
                            *shard += 1;
                            return;
                        }
                        drop(shard);
                        let mut all = shards.iter();
                        if !all.any(|shard| evict(&budget, &mut shard.lock().unwrap())) {
                            thread::yield_now();
                        }
                    }
                }
            };
            let other = {
                let insert = insert.clone();
                thread::spawn(move || insert(1))
            };
            insert(0);
            {
                let [one, two] = [&shards[0], &shards[1]].map(|shard| shard.lock().unwrap());
                assert_eq!(budget.entries(), *one + *two);
                assert!(*one + *two <= 1);
            }
            other.join().unwrap();
            assert_eq!((budget.entries(), budget.bytes()), (1, 6));
        });
    }
}
