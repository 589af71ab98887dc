//! One shard of the cache: its table, the eviction order beside it and the bytes of its
//! entries; and what all shards share.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use dashmap::{RwLockWriteGuard, SharedValue};
use hashbrown::raw::RawTable;

use super::blocks::{Blocks, Vacant};
use super::budget::Budget;
use super::entry::{Draft, Entry};
use super::policy::{Ghosts, Order, TrialShare};
use crate::base::clock::Now;
use crate::base::session_id::SessionId;
use crate::base::spin::lock;
use crate::report::counters::{Counter, Stats};

/// The key is the hash of the session ID, which is in the entry: a table that grows need
/// not look at its entries.
pub(super) type Table = RawTable<(u64, SharedValue<Entry>)>;

/// How many expired sessions an insert clears away at most, here and in another shard, so
/// that what has expired goes faster than new sessions come, and no insert pays for all.
const REAP_PER_INSERT: usize = 2;

/// A table with room for more than this many sessions, and for eight times those that it
/// has, is exchanged for a smaller one.
const SMALL_TABLE: usize = 64;

/// Why a session was not stored. What was cached before still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its time is over.
    Expired,
    /// Larger than the whole cache may be.
    TooLarge,
    /// The shard was locked, and waiting is switched off.
    Contention,
    /// The allocator had nothing left.
    NoMemory,
}

/// Who may be evicted from a shard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// A session that was not used lately, if the shard has at least its share of
    /// all: so shards stay alike in size, and a lonely session is not evicted for
    /// being alone.
    ColdOfFairShare,
    /// A session that was not used lately.
    Cold,
    /// Any session: room must be made.
    Any,
}

/// What only who changes a shard has to do with.
#[derive(Default)]
struct Ledger {
    order: Order,
    vacant: Vacant,
}

/// What belongs to one shard besides its table.
pub(super) struct Lane {
    /// Never contended: it is locked under the shard's write lock only.
    ledger: Mutex<Ledger>,
    /// The bytes of the entries.
    pub(super) blocks: Blocks,
    /// What [`Order::earliest_end`] was at the last unlock: tells without a lock whether
    /// there may be something to clear away.
    pub(super) earliest_end: AtomicI64,
    pub(super) ghosts: Ghosts,
}

impl Lane {
    pub(super) fn new(sessions: usize) -> Self {
        Self {
            ledger: Mutex::default(),
            blocks: Blocks::default(),
            earliest_end: AtomicI64::new(i64::MAX),
            ghosts: Ghosts::new(sessions),
        }
    }
}

/// What all shards share.
pub(super) struct Shared {
    pub(super) budget: Budget,
    /// Seconds after which a session is over whatever it says itself; 0: never.
    pub(super) timeout: AtomicU32,
    pub(super) trial_share: TrialShare,
    /// Whether there may be ghosts: as long as nothing was evicted, no lookup need ask.
    pub(super) has_evicted: AtomicBool,
    pub(super) shards: usize,
    /// How many forks lie between the process that made the cache and this one, up to 255.
    pub(super) generation: AtomicU8,
    pub(super) stats: Arc<Stats>,
}

impl Shared {
    pub(super) fn timeout(&self) -> u32 {
        self.timeout.load(Ordering::Relaxed)
    }
}

/// The entry that the eviction order names so.
fn entry_at(table: &Table, hash: u64, slot: u32) -> Option<&Entry> {
    let (_, entry) = table.get(hash, |(_, entry)| entry.get().slot == slot)?;
    Some(entry.get())
}

/// A shard locked for writing, with all that belongs to it.
pub(super) struct Shard<'a> {
    // Unlocked before the table: whoever gets the table finds the ledger free.
    ledger: MutexGuard<'a, Ledger>,
    table: RwLockWriteGuard<'a, Table>,
    lane: &'a Lane,
}

impl Drop for Shard<'_> {
    fn drop(&mut self) {
        let earliest = self.ledger.order.earliest_end();
        self.lane.earliest_end.store(earliest, Ordering::Relaxed);
    }
}

impl<'a> Shard<'a> {
    /// The shard whose table this is.
    pub(super) fn new(table: RwLockWriteGuard<'a, Table>, lane: &'a Lane) -> Self {
        Self {
            ledger: lock(&lane.ledger),
            table,
            lane,
        }
    }

    pub(super) fn der_len(&self, hash: u64, id: &SessionId) -> Option<usize> {
        let blocks = &self.lane.blocks;
        let (_, entry) = self
            .table
            .get(hash, |(_, entry)| entry.get().is(blocks, id))?;
        Some(entry.get().der_len())
    }

    /// Makes sure that [`Shard::put`] allocates nothing.
    pub(super) fn reserve_memory(&mut self, words: usize) -> Result<(), Refused> {
        let table = self.table.try_reserve(1, |(hash, _)| *hash);
        let Ledger { order, vacant } = &mut *self.ledger;
        let is_reserved =
            table.is_ok() && order.reserve() && self.lane.blocks.reserve(vacant, words);
        is_reserved.then_some(()).ok_or(Refused::NoMemory)
    }

    /// Stores an entry for which room was reserved, in place of the one that is there. If that is
    /// the same, it stays, with its place in the order and its uses: a plugin that replicates
    /// gets its own message back.
    pub(super) fn put(
        &mut self,
        shared: &Shared,
        hash: u64,
        id: &SessionId,
        draft: &Draft<'_>,
        now: Now,
    ) {
        let Self {
            ledger,
            table,
            lane,
        } = self;
        let Ledger { order, vacant } = &mut **ledger;
        let blocks = &lane.blocks;
        let timeout = shared.timeout();
        let old = table.get_mut(hash, |(_, old)| old.get().is(blocks, id));
        let old = old.map(|(_, place)| place.get_mut());
        if let Some(old) = &old
            && old.is_same(blocks, draft)
            && !old.lifetime(blocks).is_over(now, timeout)
        {
            shared.stats.count(Counter::Replaced);
            return;
        }
        let mut entry = draft.store(blocks, vacant);
        let len = entry.der_len();
        entry.generation = shared.generation.load(Ordering::Relaxed);
        entry.slot = order.push(hash, entry.lifetime(blocks).end(timeout));
        let Some(place) = old else {
            table.insert(hash, (hash, SharedValue::new(entry)), |(hash, _)| *hash);
            return;
        };
        let old = std::mem::replace(place, entry);
        order.remove(old.slot);
        // Only what it had more: the rest is the new one's.
        shared.budget.release(0, old.der_len().saturating_sub(len));
        shared.stats.count(Counter::Replaced);
        old.free(blocks, vacant);
    }

    /// Takes out the entry with this hash that `is_it` accepts, and returns what `read` makes
    /// of it.
    pub(super) fn take<R>(
        &mut self,
        shared: &Shared,
        hash: u64,
        is_it: impl Fn(&Entry, &Blocks) -> bool,
        read: impl FnOnce(&Entry, &Blocks) -> R,
    ) -> Option<R> {
        let blocks = &self.lane.blocks;
        let (_, entry) = self
            .table
            .remove_entry(hash, |(_, entry)| is_it(entry.get(), blocks))?;
        let entry = entry.into_inner();
        let result = read(&entry, blocks);
        let Ledger { order, vacant } = &mut *self.ledger;
        order.remove(entry.slot);
        shared.budget.release(1, entry.der_len());
        entry.free(blocks, vacant);
        self.shrink();
        Some(result)
    }

    /// Gives back what has become far too large.
    fn shrink(&mut self) {
        if self.ledger.vacant.is_sparse() {
            let Self {
                ledger,
                table,
                lane,
            } = self;
            let Ledger { order, vacant } = &mut **ledger;
            lane.blocks.compact(vacant, |compact| {
                for (hash, slot) in order.iter() {
                    let entry = table.get_mut(hash, |(_, entry)| entry.get().slot == slot);
                    if let Some((_, entry)) = entry {
                        compact(entry.get_mut().run());
                    }
                }
            });
        }
        self.shrink_table();
    }

    /// Exchanges a table and an order that have become far too large, if there is memory
    /// for smaller ones.
    fn shrink_table(&mut self) {
        let room = (self.table.len() * 2).max(SMALL_TABLE / 4);
        let capacity = self.table.capacity();
        if capacity <= SMALL_TABLE || capacity < room * 4 {
            return;
        }
        let Ok(mut small) = Table::try_with_capacity(room) else {
            return;
        };
        let Self { ledger, table, .. } = self;
        let done = ledger.order.shrink(room, |hash, slot, new_slot| {
            let taken = table.remove_entry(hash, |(_, entry)| entry.get().slot == slot);
            if let Some((hash, mut entry)) = taken {
                entry.get_mut().slot = new_slot;
                small.insert(hash, (hash, entry), |(hash, _)| *hash);
            }
        });
        if done {
            **table = small;
        }
    }

    fn take_slot(&mut self, shared: &Shared, (hash, slot): (u64, u32)) -> bool {
        let is_it = |entry: &Entry, _: &Blocks| entry.slot == slot;
        self.take(shared, hash, is_it, |_, _| ()).is_some()
    }

    /// Takes out an entry that has expired; `false` when there is none.
    fn take_expired(&mut self, shared: &Shared, now: Now) -> bool {
        let Some(expired) = self.ledger.order.expired(now.wall) else {
            return false;
        };
        shared.stats.count(Counter::Expired);
        self.take_slot(shared, expired)
    }

    /// Clears away a few expired entries.
    pub(super) fn reap(&mut self, shared: &Shared, now: Now) {
        for _ in 0..REAP_PER_INSERT {
            if !self.take_expired(shared, now) {
                break;
            }
        }
    }

    /// Takes out one entry to make room: an expired one, else the policy's victim. `false`
    /// when there is none such.
    pub(super) fn evict(&mut self, shared: &Shared, now: Now, whom: Whom) -> bool {
        if self.take_expired(shared, now) {
            return true;
        }
        let Self { ledger, table, .. } = self;
        let order = &mut ledger.order;
        let share = order.len() * shared.shards;
        if whom == Whom::ColdOfFairShare && share < shared.budget.entries() {
            return false;
        }
        let victim = order.victim(shared.trial_share.get(), |hash, slot, queue| {
            let entry = table.get_mut(hash, |(_, entry)| entry.get().slot == slot);
            let used = entry.is_some_and(|(_, entry)| entry.get_mut().take_use(queue));
            used && whom != Whom::Any
        });
        let Some(victim) = victim else {
            return false;
        };
        shared.stats.count(Counter::Evicted);
        self.lane.ghosts.remember(victim);
        if !shared.has_evicted.load(Ordering::Relaxed) {
            shared.has_evicted.store(true, Ordering::Relaxed);
        }
        self.take_slot(shared, (victim.hash, victim.slot))
    }

    /// Forgets every session, wipes it and gives the memory back.
    pub(super) fn clear(mut self, shared: &Shared) {
        fault!("clear, shard locked");
        let Self { ledger, lane, .. } = &mut self;
        let order = std::mem::take(&mut ledger.order);
        lane.blocks.clear(&mut ledger.vacant);
        let table = std::mem::take(&mut *self.table);
        let lens = order
            .iter()
            .map(|(hash, slot)| entry_at(&table, hash, slot).map_or(0, Entry::der_len));
        shared.budget.release(order.len(), lens.sum());
        self.lane.ghosts.clear();
        shared.stats.add(Counter::Cleared, order.len() as u64);
        drop(self);
        drop(table);
    }

    /// Works out anew when each session is over.
    pub(super) fn set_timeout(&mut self, seconds: u32) {
        let Self {
            ledger,
            table,
            lane,
        } = self;
        ledger.order.set_ends(|hash, slot| {
            let entry = entry_at(table, hash, slot);
            entry.map_or(0, |entry| entry.lifetime(&lane.blocks).end(seconds))
        });
    }
}
