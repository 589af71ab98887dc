//! A sharded table in which each shard has other data beside its entries, under the same lock.

use std::cell::UnsafeCell;
use std::hash::BuildHasher;

use crossbeam_utils::CachePadded;
use dashmap::{DashMap, RwLockReadGuard, RwLockWriteGuard, SharedValue};
use foldhash::quality::RandomState;
use hashbrown::raw::RawTable;

/// The key of an entry in its table: half of a hash. A table that grows need not look at its
/// entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub u32);

impl Key {
    /// The hash for a table. The table chooses the place by the low bits, and compares the highest
    /// seven first.
    #[inline]
    pub fn hash(self) -> u64 {
        u64::from(self.0) | u64::from(self.0 >> 25) << 57
    }
}

/// The entries of a shard.
pub type Table<V> = RawTable<(Key, SharedValue<V>)>;

/// A `DashMap`, and a `D` for each of its shards. Both are reached only through a guard of the
/// shard's lock: the fields are private to this module, and no function here returns either without
/// a guard.
pub struct Sharded<V, D> {
    map: DashMap<Key, V, RandomState>,
    beside: Box<[CachePadded<UnsafeCell<D>>]>,
}

// SAFETY: threads share a `D` only as readers of its shard's lock, for which it is `Sync`. The
// thread that has the lock for writing has the `D` alone, for which it is `Send`. The map is `Sync`
// itself.
unsafe impl<V: Send + Sync, D: Send + Sync> Sync for Sharded<V, D> {}

impl<V, D: Default> Sharded<V, D> {
    /// Makes so many shards: a power of two, at least two.
    pub fn new(shards: usize) -> Self {
        Self {
            map: DashMap::with_hasher_and_shard_amount(RandomState::default(), shards),
            beside: (0..shards).map(|_| CachePadded::default()).collect(),
        }
    }
}

impl<V, D> Sharded<V, D> {
    /// The number of the shard of `of`, and its key in that shard's table.
    #[inline]
    pub fn locate(&self, of: &impl std::hash::Hash) -> (usize, Key) {
        let hash = self.map.hasher().hash_one(of);
        // The shard depends on other bits than the key.
        (self.map.determine_shard(hash as usize), Key(hash as u32))
    }

    /// A shard for reading, unless it is locked for writing.
    #[inline]
    pub fn try_read(&self, shard: usize) -> Option<Reading<'_, V, D>> {
        let table = self.map.shards()[shard].try_read()?;
        Some(Reading {
            table,
            beside: &self.beside[shard],
        })
    }

    /// A shard for writing, unless it is locked.
    #[inline]
    pub fn try_write(&self, shard: usize) -> Option<Writing<'_, V, D>> {
        let table = self.map.shards()[shard].try_write()?;
        Some(Writing {
            table,
            beside: &self.beside[shard],
        })
    }
}

/// A shard that is locked for reading.
pub struct Reading<'a, V, D> {
    table: RwLockReadGuard<'a, Table<V>>,
    beside: &'a UnsafeCell<D>,
}

impl<V, D> Reading<'_, V, D> {
    /// Its entries, and the data beside them.
    #[inline]
    pub fn parts(&self) -> (&Table<V>, &D) {
        // SAFETY: the lock is held for reading as long as `self` is borrowed. So no thread has it
        // for writing, and only such a thread makes a `&mut D`.
        (&self.table, unsafe { &*self.beside.get() })
    }
}

/// A shard that is locked for writing.
pub struct Writing<'a, V, D> {
    table: RwLockWriteGuard<'a, Table<V>>,
    beside: &'a UnsafeCell<D>,
}

impl<V, D> Writing<'_, V, D> {
    /// Its entries, and the data beside them.
    #[inline]
    pub fn parts(&self) -> (&Table<V>, &D) {
        // SAFETY: the lock is held for writing, by this guard alone, and `self` is borrowed: a
        // `&mut D` would borrow it mutably.
        (&self.table, unsafe { &*self.beside.get() })
    }

    /// The same, mutable.
    #[inline]
    pub fn parts_mut(&mut self) -> (&mut Table<V>, &mut D) {
        // SAFETY: as above, and `self` is borrowed mutably.
        (&mut self.table, unsafe { &mut *self.beside.get() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writers exclude each other and readers, as `cargo miri` and the thread sanitizer can see.
    #[test]
    fn what_is_beside_a_shard_is_under_its_lock() {
        let sharded = Sharded::<u8, Vec<usize>>::new(2);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let sharded = &sharded;
                scope.spawn(move || {
                    let mut done = 0;
                    while done < 1000 {
                        if let Some(mut shard) = sharded.try_write(thread % 2) {
                            shard.parts_mut().1.push(done);
                            done += 1;
                        }
                        if let Some(shard) = sharded.try_read(thread % 2) {
                            assert!(shard.parts().1.len() <= 2000);
                        }
                    }
                });
            }
        });
        for shard in 0..2 {
            let locked = sharded.try_write(shard).unwrap();
            assert_eq!(locked.parts().1.len(), 2000);
            assert!(sharded.try_read(shard).is_none() && sharded.try_write(shard).is_none());
        }
        let one = sharded.try_read(0).unwrap();
        assert!(sharded.try_read(0).is_some() && sharded.try_write(0).is_none());
        drop(one);
    }
}
