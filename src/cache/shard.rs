//! One shard of the cache: its table, and beside it the eviction order and the bytes of its
//! entries. Also the part that all shards share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, Ordering};

use dashmap::SharedValue;

use super::budget::Budget;
use super::entry::{Draft, Entry, Stored};
use super::policy::{Ghosts, Order, TrialShare};
use super::region::Region;
use crate::base::clock::Now;
use crate::base::secret_memory::Pages;
use crate::base::session_id::SessionId;
use crate::base::sharded::{Key, Table, Writing};
use crate::report::counters::{Counter, Stats};

/// How many expired sessions an insert clears away at most, in its shard and in another. So expired
/// sessions go faster than new ones come, and no insert pays for all.
const REAP_PER_INSERT: usize = 2;

/// A table is replaced by a smaller one if it has room for more than this many sessions, and for
/// eight times its own.
const SMALL_TABLE: usize = 64;

/// The room that a new table has for so many sessions.
fn room(sessions: usize) -> usize {
    (sessions * 2).max(SMALL_TABLE / 4)
}

/// Whether a table must be replaced by a smaller one once it has so many sessions.
fn is_too_large(table: &Table<Entry>, sessions: usize) -> bool {
    let capacity = table.capacity();
    capacity > SMALL_TABLE && capacity >= room(sessions) * 4
}

/// Why a session was not stored. The one that was cached before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has expired.
    Expired,
    /// It is larger than the limit of the whole cache.
    TooLarge,
    /// The shard was locked, and waiting is switched off.
    Contention,
    /// The allocator had no memory.
    NoMemory,
}

/// Which sessions may be evicted from a shard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// A session that was not used lately, if the shard has at least its share of all. So shards
    /// stay alike in size, and a session that is alone in its shard is not evicted for that.
    ColdOfFairShare,
    /// A session that was not used lately.
    Cold,
    /// Any session: room must be made.
    Any,
}

/// The part of a shard that is under its lock besides the table.
#[derive(Default)]
pub(super) struct Beside {
    order: Order,
    /// The bytes of the entries.
    pub(super) region: Region,
}

/// The part of a shard that is not under its lock.
pub(super) struct Lane {
    /// The value of [`Order::earliest_end`] at the last unlock. It shows without a lock whether
    /// something may have expired.
    pub(super) earliest_end: AtomicI64,
    pub(super) ghosts: Ghosts,
}

impl Lane {
    pub(super) fn new(sessions: usize) -> Self {
        Self {
            earliest_end: AtomicI64::new(i64::MAX),
            ghosts: Ghosts::new(sessions),
        }
    }
}

/// The part that all shards share.
pub(super) struct Shared {
    pub(super) budget: Budget,
    /// After how many seconds every session ends, even if its own timeout is longer; 0: never.
    pub(super) timeout: AtomicU32,
    pub(super) trial_share: TrialShare,
    /// Whether a handshake has used a session. Until one has (the host may only copy them), nothing
    /// shows which are worth keeping, and the oldest leaves.
    pub(super) has_use: AtomicBool,
    /// Whether there may be ghosts. Until something was evicted, no lookup needs to ask.
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

/// The entry with this key that `is_it` accepts. The key is compared first, because the bytes of an
/// entry are elsewhere.
pub(super) fn find(
    table: &Table<Entry>,
    key: Key,
    is_it: impl Fn(&Entry) -> bool,
) -> Option<&Entry> {
    let (_, entry) = table.get(key.hash(), |(of, entry)| *of == key && is_it(entry.get()))?;
    Some(entry.get())
}

fn find_mut(
    table: &mut Table<Entry>,
    key: Key,
    is_it: impl Fn(&Entry) -> bool,
) -> Option<&mut Entry> {
    let (_, entry) = table.get_mut(key.hash(), |(of, entry)| *of == key && is_it(entry.get()))?;
    Some(entry.get_mut())
}

/// A shard locked for writing, with all that belongs to it.
pub(super) struct Shard<'a> {
    locked: Writing<'a, Entry, Beside>,
    lane: &'a Lane,
    /// The memory that sessions were moved out of. It is given back after the unlock.
    old: Pages,
    /// Whether nothing may be allocated or freed.
    at_once: bool,
}

impl Drop for Shard<'_> {
    #[inline]
    fn drop(&mut self) {
        // An operation that removes at once leaves nothing to tidy.
        if !self.at_once {
            self.leave();
        }
    }
}

impl<'a> Shard<'a> {
    #[inline]
    pub(super) fn new(locked: Writing<'a, Entry, Beside>, lane: &'a Lane) -> Self {
        Self {
            locked,
            lane,
            old: Pages::default(),
            at_once: false,
        }
    }

    /// Must be called before the unlock.
    fn leave(&mut self) {
        // Only here: never between a reservation and its put, and not after a panic.
        if !std::thread::panicking() {
            self.tidy();
        }
        let earliest = self.locked.parts().1.order.earliest_end();
        self.lane.earliest_end.store(earliest, Ordering::Relaxed);
    }

    pub(super) fn der_len(&self, key: Key, id: &SessionId) -> Option<usize> {
        let (table, Beside { region, .. }) = self.locked.parts();
        find(table, key, |entry| entry.is(region, id)).map(Entry::der_len)
    }

    /// Makes room so that [`Shard::put`] allocates nothing.
    pub(super) fn reserve_memory(&mut self, len: usize) -> Result<(), Refused> {
        let (table, Beside { order, region }) = self.locked.parts_mut();
        let table = table.try_reserve(1, |(key, _)| key.hash());
        let mut is_reserved = table.is_ok() && order.reserve();
        if is_reserved && !region.reserve(len) {
            // There may be room in free runs of other sizes.
            self.compact();
            is_reserved = self.locked.parts_mut().1.region.reserve(len);
        }
        is_reserved.then_some(()).ok_or(Refused::NoMemory)
    }

    /// Stores an entry for which room was reserved, replacing the one that is there. If both are
    /// the same, the old one stays, with its place in the order and its uses: a plugin that
    /// replicates gets its own message back.
    pub(super) fn put(
        &mut self,
        shared: &Shared,
        key: Key,
        id: &SessionId,
        draft: &Draft<'_>,
        now: Now,
    ) {
        let (table, Beside { order, region }) = self.locked.parts_mut();
        let timeout = shared.timeout();
        let old = find_mut(table, key, |old| old.is(region, id));
        if let Some(old) = &old
            && old.is_same(region, draft)
            && !old.lifetime(region).is_over(now, timeout)
        {
            shared.stats.count(Counter::Replaced);
            return;
        }
        let mut entry = draft.store(region);
        let len = entry.der_len();
        entry.generation = shared.generation.load(Ordering::Relaxed);
        entry.slot = order.push(key, entry.lifetime(region).end(timeout));
        let Some(place) = old else {
            table.insert(key.hash(), (key, SharedValue::new(entry)), |(key, _)| {
                key.hash()
            });
            return;
        };
        let old = std::mem::replace(place, entry);
        order.remove(old.slot);
        // Only what it had more than the new one, which keeps the rest.
        shared.budget.release(0, old.der_len().saturating_sub(len));
        shared.stats.count(Counter::Replaced);
        old.free(region);
    }

    /// Takes out the entry with this ID and returns the result of `read`, if that needs no
    /// allocating or freeing. Otherwise returns `None` and changes nothing.
    #[inline]
    pub(super) fn take_at_once<R>(
        &mut self,
        shared: &Shared,
        (key, id): (Key, &SessionId),
        read: impl Fn(&Stored<'_>) -> R,
    ) -> Option<Option<R>> {
        self.at_once = true;
        let table = self.locked.parts().0;
        let shrinks = is_too_large(table, table.len().saturating_sub(1));
        let mut is_due = false;
        let mut result = None;
        let can_be_taken = |entry: &Entry, region: &Region| {
            let stored = entry.stored(region);
            let is_it = stored.is_under(id);
            is_due |= is_it && (shrinks || region.is_sparse_without(stored.len()));
            if is_it && !is_due {
                result = Some(read(&stored));
            }
            is_it && !is_due
        };
        self.take(shared, key, can_be_taken, |_, _| ());
        (!is_due).then_some(result)
    }

    /// Takes out the entry with this key that `is_it` accepts, and returns the result of `read`.
    #[inline]
    pub(super) fn take<R>(
        &mut self,
        shared: &Shared,
        key: Key,
        mut is_it: impl FnMut(&Entry, &Region) -> bool,
        read: impl FnOnce(&Entry, &Region) -> R,
    ) -> Option<R> {
        let (table, Beside { order, region }) = self.locked.parts_mut();
        let (_, entry) = table.remove_entry(key.hash(), |(of, entry)| {
            *of == key && is_it(entry.get(), region)
        })?;
        let entry = entry.into_inner();
        let result = read(&entry, region);
        order.remove(entry.slot);
        shared.budget.release(1, entry.der_len());
        entry.free(region);
        Some(result)
    }

    /// Shrinks a table that has become far too large. Moves the bytes of all entries together if
    /// much is free between them. Gives back the memory behind them.
    fn tidy(&mut self) {
        self.shrink_table();
        if self.locked.parts().1.region.is_sparse() {
            self.compact();
        }
        self.locked.parts_mut().1.region.give_back_end();
    }

    fn compact(&mut self) {
        let (table, Beside { order, region }) = self.locked.parts_mut();
        self.old = region.compact(|compact| {
            for (key, slot) in order.iter() {
                if let Some(entry) = find_mut(table, key, |entry| entry.slot == slot) {
                    let (run, len) = entry.run();
                    compact(run, len);
                }
            }
        });
    }

    /// Replaces a table and an order that have become far too large with smaller ones, if there is
    /// memory for those.
    fn shrink_table(&mut self) {
        let (table, Beside { order, .. }) = self.locked.parts_mut();
        if !is_too_large(table, table.len()) {
            return;
        }
        let room = room(table.len());
        let Ok(mut small) = Table::try_with_capacity(room) else {
            return;
        };
        let done = order.shrink(room, |key, slot, new_slot| {
            let taken = table.remove_entry(key.hash(), |(of, entry)| {
                *of == key && entry.get().slot == slot
            });
            if let Some((key, mut entry)) = taken {
                entry.get_mut().slot = new_slot;
                small.insert(key.hash(), (key, entry), |(key, _)| key.hash());
            }
        });
        if done {
            *table = small;
        }
    }

    fn take_slot(&mut self, shared: &Shared, (key, slot): (Key, u32)) -> bool {
        let is_it = |entry: &Entry, _: &Region| entry.slot == slot;
        self.take(shared, key, is_it, |_, _| ()).is_some()
    }

    /// Takes out an expired entry; `false` if there is none.
    fn take_expired(&mut self, shared: &Shared, now: Now) -> bool {
        let Some(expired) = self.locked.parts_mut().1.order.expired(now.wall) else {
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

    /// Takes out one entry to make room: an expired one, else the policy's victim. `false` if there
    /// is neither.
    pub(super) fn evict(&mut self, shared: &Shared, now: Now, whom: Whom) -> bool {
        if self.take_expired(shared, now) {
            return true;
        }
        let (table, Beside { order, .. }) = self.locked.parts_mut();
        let share = order.len() * shared.shards;
        if whom == Whom::ColdOfFairShare && share < shared.budget.entries() {
            return false;
        }
        let has_use = shared.has_use.load(Ordering::Relaxed);
        let trial_share = if has_use {
            shared.trial_share.get()
        } else {
            1.0
        };
        let victim = order.victim(trial_share, |key, slot, queue| {
            let entry = find_mut(table, key, |entry| entry.slot == slot);
            let used = entry.is_some_and(|entry| entry.take_use(queue));
            used && whom != Whom::Any
        });
        let Some(victim) = victim else {
            return false;
        };
        shared.stats.count(Counter::Evicted);
        self.lane.ghosts.remember(victim);
        if has_use {
            let sessions = shared.budget.max_entries();
            shared.trial_share.evicted(victim.from, sessions);
        }
        if !shared.has_evicted.load(Ordering::Relaxed) {
            shared.has_evicted.store(true, Ordering::Relaxed);
        }
        self.take_slot(shared, (victim.key, victim.slot))
    }

    /// Forgets every session, wipes it and gives the memory back.
    pub(super) fn clear(mut self, shared: &Shared) {
        fault!("clear, shard locked");
        let (table, beside) = self.locked.parts_mut();
        let Beside { order, region } = std::mem::take(beside);
        let table = std::mem::take(table);
        let lens = order.iter().map(|(key, slot)| {
            find(&table, key, |entry| entry.slot == slot).map_or(0, Entry::der_len)
        });
        shared.budget.release(order.len(), lens.sum());
        self.lane.ghosts.clear();
        shared.stats.add(Counter::Cleared, order.len() as u64);
        drop(self);
        drop((table, region));
    }

    /// Computes anew when each session expires.
    pub(super) fn set_timeout(&mut self, seconds: u32) {
        let (table, Beside { order, region }) = self.locked.parts_mut();
        order.set_ends(|key, slot| {
            let entry = find(table, key, |entry| entry.slot == slot);
            entry.map_or(0, |entry| entry.lifetime(region).end(seconds))
        });
    }
}
