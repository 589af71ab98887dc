//! The session cache: sharded, bounded by entries and by bytes. What is done under a lock
//! takes some hundred nanoseconds, and now and then (a search for what has expired,
//! for a victim, a table that grows) as much as the shard has sessions: at the default
//! settings, 400.
//!
//! # Structure
//!
//! A `DashMap` holds the entries, one [`Lane`] beside each of its shards holds
//! what belongs to the shard but not to the table: the eviction order, above all.
//! One [`Budget`] counts entries and bytes.
//!
//! # Invariants
//!
//! 1. Room in the budget is reserved *before* an entry is put into a
//!    table and released *after* it was taken out, so what the tables hold never
//!    exceeds the limits. Both happen under the lock of that table's shard: who has
//!    all locks sees numbers that are true.
//! 2. A lane's order changes only under its shard's write lock, and names exactly
//!    the entries of that shard.
//! 3. A thread holds at most one shard lock, except in [`Cache::freeze`], which
//!    takes them all in ascending order. While it holds one it calls no code
//!    but this crate's, and an entry that leaves is wiped and freed after the
//!    unlock.
//! 4. Locks are only ever *tried*, again and again, never parked upon, so that
//!    [`Cache::freeze`] makes a fork safe (see [`crate::wait`]).

use std::hash::BuildHasher;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use dashmap::{DashMap, RwLockReadGuard, RwLockWriteGuard, SharedValue};
use foldhash::quality::RandomState;
use hashbrown::raw::RawTable;
use smallvec::SmallVec;

use crate::budget::Budget;
use crate::entry::{Entry, Lifetime, Now};
use crate::id::SessionId;
use crate::policy::{Ghosts, Order, TrialShare};
use crate::stats::{Counter, Stats};
use crate::sys;
use crate::wait::{Patience, Wait, lock};

pub use crate::budget::Limits;

/// The key is the hash of the session ID, which is in the entry: a table that grows need
/// not look at its entries.
type Table = RawTable<(u64, SharedValue<Entry>)>;

/// How many expired sessions an insert clears away at most, here and in another shard, so
/// that what has expired goes faster than new sessions come, and no insert pays for all.
const REAP_PER_INSERT: usize = 2;

/// How many sessions an insert evicts before it lets others at the shard.
const EVICT_PER_LOCK: usize = 4;

/// Entries on their way out: wiped and freed when this is dropped, which is
/// declared before the shard is locked and so happens after it is unlocked.
/// Holds those cleared away, evicted and replaced without an allocation.
type Leaving = SmallVec<[Entry; REAP_PER_INSERT + EVICT_PER_LOCK + 1]>;

/// A table with room for more than this many sessions, and for eight times those that it
/// has, is exchanged for a smaller one.
const SMALL_TABLE: usize = 64;

/// When the sessions have become half of what they were, that much DER at least must have
/// gone for the memory to be worth a search for what the system can have back.
const WORTH_GIVING_BACK: usize = 512 * 1024;

/// A shard is worth having from about this many entries on: an eviction order
/// over a handful of sessions cannot tell which of them are in use.
const ENTRIES_PER_SHARD: usize = 128;

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

/// Why a lookup finds nothing.
#[derive(Clone, Copy)]
enum Miss {
    Absent,
    Expired,
    /// The shard was locked, and waiting is switched off.
    Contention,
    NoMemory,
}

/// Who may be evicted from a shard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// A session that was not used lately, if the shard has at least its share of
    /// all: so shards stay alike in size, and a lonely session is not evicted for
    /// being alone.
    ColdOfFairShare,
    /// A session that was not used lately.
    Cold,
    /// Any session: room must be made.
    Any,
}

/// What belongs to one shard besides its table.
struct Lane {
    /// Never contended: it is locked under the shard's write lock only.
    order: Mutex<Order>,
    /// What [`Order::earliest_end`] was at the last unlock: tells without a lock whether
    /// there may be something to clear away.
    earliest_end: AtomicI64,
    ghosts: Ghosts,
}

impl Lane {
    fn new(sessions: usize) -> Self {
        Self {
            order: Mutex::default(),
            earliest_end: AtomicI64::new(i64::MAX),
            ghosts: Ghosts::new(sessions),
        }
    }
}

/// How large the cache has been, for [`Cache::has_shrunk`].
#[derive(Default)]
struct Peak {
    /// Half of the most bytes there were since memory was last given back.
    half_of_most: CachePadded<AtomicUsize>,
    /// The second in which that was.
    given_back: AtomicI64,
}

/// A bounded, thread-safe map from session ID to DER bytes.
pub struct Cache {
    map: DashMap<u64, Entry, RandomState>,
    lanes: Box<[CachePadded<Lane>]>,
    /// For each shard the writers that wait for it. Readers let them pass, or a crowd of
    /// readers could keep a writer out for good. Close together: every reader looks, and
    /// nobody writes as long as nobody waits.
    writers_waiting: Box<[AtomicU32]>,
    /// Whether there may be ghosts: as long as nothing was evicted, no lookup need ask.
    has_evicted: AtomicBool,
    budget: Budget,
    peak: Peak,
    /// Seconds after which a session is over whatever it says itself; 0: never.
    timeout: AtomicU32,
    /// Give up on a locked shard instead of waiting.
    skip_on_contention: AtomicBool,
    trial_share: TrialShare,
    /// The shard where the search for a victim or an expired session goes on.
    next_shard: AtomicUsize,
    stats: Arc<Stats>,
}

impl Cache {
    /// An empty cache. `shards` is a wish: it is rounded up to a power of two and
    /// lowered where the limit would leave next to nothing for each shard.
    pub fn new(limits: Limits, shards: usize, stats: Arc<Stats>) -> Self {
        let useful = (limits.entries / ENTRIES_PER_SHARD).next_power_of_two();
        // Two is the fewest that dashmap takes.
        let shards = shards.next_power_of_two().min(useful).max(2);
        Self {
            map: DashMap::with_hasher_and_shard_amount(RandomState::default(), shards),
            lanes: (0..shards)
                .map(|_| CachePadded::new(Lane::new(limits.entries / shards)))
                .collect(),
            writers_waiting: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            has_evicted: AtomicBool::new(false),
            budget: Budget::new(limits),
            peak: Peak::default(),
            timeout: AtomicU32::new(0),
            skip_on_contention: AtomicBool::new(false),
            trial_share: TrialShare::default(),
            next_shard: AtomicUsize::new(0),
            stats,
        }
    }

    /// Copies the session's DER to the front of `buffer`, as much as fits, and
    /// returns how long it is. `None`: no such session, or it has expired.
    ///
    /// Takes the shard's lock for reading.
    pub fn copy_der(
        &self,
        id: &SessionId,
        now: impl Fn() -> Now,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Option<usize> {
        self.counted(self.find(id, now, |entry| {
            entry.touch();
            copy_to(buffer, entry.der())
        }))
    }

    /// [`Cache::copy_der`] if that can be done without waiting, allocating or freeing:
    /// otherwise `None`, and nothing is counted.
    pub fn copy_der_at_once(
        &self,
        id: &SessionId,
        now: impl Fn() -> Now,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Option<Option<usize>> {
        let hash = self.hash(id);
        let shard = self.map.determine_shard(hash as usize);
        let table = self.try_read(shard)?;
        let found = self.look(&table, hash, id, now, |entry| {
            entry.touch();
            copy_to(buffer, entry.der())
        });
        drop(table);
        match found {
            Look::Found(len) => Some(self.counted(Ok(len))),
            Look::Absent => {
                self.learn(shard, hash);
                Some(self.counted(Err(Miss::Absent)))
            }
            Look::Expired => None,
        }
    }

    /// Calls `read` with a copy of the session's DER that is wiped afterwards.
    /// `None`: no such session, or it has expired.
    ///
    /// Takes the shard's lock for reading, and calls `read` without it.
    pub fn with_der<R>(
        &self,
        id: &SessionId,
        now: impl Fn() -> Now,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let mut copy = DerCopy::default();
        loop {
            let needed = self.find(id, &now, |entry| {
                let der = entry.der();
                let fits = der.len() <= copy.0.capacity();
                if fits {
                    entry.touch();
                    copy.0.extend_from_slice(der);
                }
                (!fits).then_some(der.len())
            });
            match needed {
                Ok(Some(len)) => match copy.0.try_reserve_exact(len) {
                    Ok(()) => continue,
                    Err(_) => return self.counted(Err(Miss::NoMemory)),
                },
                Ok(None) => return self.counted(Ok(read(&copy.0))),
                Err(miss) => return self.counted(Err(miss)),
            }
        }
    }

    fn counted<R>(&self, found: Result<R, Miss>) -> Option<R> {
        self.stats.count(match found {
            Ok(_) => Counter::Hit,
            Err(Miss::Absent) => Counter::MissAbsent,
            Err(Miss::Expired) => Counter::MissExpired,
            Err(Miss::Contention) => Counter::MissContention,
            Err(Miss::NoMemory) => Counter::MissNoMemory,
        });
        found.ok()
    }

    fn find<R>(
        &self,
        id: &SessionId,
        now: impl Fn() -> Now,
        read: impl FnOnce(&Entry) -> R,
    ) -> Result<R, Miss> {
        let hash = self.hash(id);
        let shard = self.map.determine_shard(hash as usize);
        let table = self.read(shard).ok_or(Miss::Contention)?;
        let found = self.look(&table, hash, id, &now, read);
        drop(table);
        match found {
            Look::Found(result) => Ok(result),
            Look::Absent => {
                self.learn(shard, hash);
                Err(Miss::Absent)
            }
            Look::Expired => {
                self.reap(shard, hash, id, now());
                Err(Miss::Expired)
            }
        }
    }

    /// Lets the policy learn from a session that was not found.
    fn learn(&self, shard: usize, hash: u64) {
        if self.has_evicted.load(Ordering::Relaxed)
            && let Some(queue) = self.lanes[shard].ghosts.recall(hash)
        {
            let sessions = self.budget.max_entries();
            self.trial_share.learn(queue, sessions);
        }
    }

    /// Looks into a shard that is locked. The clock is read when there is need to.
    fn look<R>(
        &self,
        table: &Table,
        hash: u64,
        id: &SessionId,
        now: impl Fn() -> Now,
        read: impl FnOnce(&Entry) -> R,
    ) -> Look<R> {
        let Some((_, entry)) = table.get(hash, |(_, entry)| entry.get().is(id)) else {
            return Look::Absent;
        };
        let entry = entry.get();
        fault!("lookup, shard locked");
        if entry.lifetime().is_over(now(), self.timeout()) {
            return Look::Expired;
        }
        Look::Found(read(entry))
    }

    /// Stores a session under `id`, in place of the one that is there.
    ///
    /// Takes the shard's lock for writing, and those of other shards one at a
    /// time when room has to be made.
    pub fn insert(
        &self,
        id: &SessionId,
        der: &[u8],
        lifetime: Lifetime,
        now: Now,
    ) -> Result<(), Refused> {
        let result = self.try_insert(id, der, lifetime, now);
        self.stats.count(match result {
            Ok(()) => Counter::Stored,
            Err(Refused::Expired) => Counter::RefusedExpired,
            Err(Refused::TooLarge) => Counter::RefusedTooLarge,
            Err(Refused::Contention) => Counter::RefusedContention,
            Err(Refused::NoMemory) => Counter::RefusedNoMemory,
        });
        result
    }

    fn try_insert(
        &self,
        id: &SessionId,
        der: &[u8],
        lifetime: Lifetime,
        now: Now,
    ) -> Result<(), Refused> {
        if lifetime.is_over(now, self.timeout()) {
            return Err(Refused::Expired);
        }
        let entry = Entry::new(id, der, lifetime).ok_or(Refused::NoMemory)?;
        let hash = self.hash(id);
        let home = self.map.determine_shard(hash as usize);

        let mut first_try = true;
        let mut wait = Wait::default();
        loop {
            if der.len() > self.budget.max_bytes() {
                return Err(Refused::TooLarge);
            }
            let mut leaving = Leaving::new();
            // Skipping is for the first try only: later ones have evicted something,
            // and to give up then would have cost a stranger's session for nothing.
            let mut shard = if first_try {
                self.write_or_skip(home).ok_or(Refused::Contention)?
            } else {
                self.write(home)
            };
            first_try = false;
            shard.reserve_memory()?;
            fault!("insert, shard locked");
            shard.reap(self, now, &mut leaving);
            for _ in 0..EVICT_PER_LOCK {
                let old_len = shard.der_len(hash, id);
                if self.budget.reserve(old_len, der.len()) {
                    leaving.extend(shard.put(self, hash, id, entry));
                    drop(shard);
                    self.reap_next_shard(now);
                    self.note_growth();
                    return Ok(());
                }
                // Here if possible: then one lock does for both.
                let Some(entry) = shard.evict(self, now, Whom::ColdOfFairShare) else {
                    break;
                };
                leaving.push(entry);
            }
            drop(shard);
            drop(leaving);
            if !self.evict_anywhere(now) {
                // Another thread has reserved the room and not used it yet.
                wait.a_little();
            }
        }
    }

    /// Removes a session; `true` if there was one that had not expired.
    ///
    /// Takes the shard's lock for writing and waits for it, whatever is set
    /// for contention.
    pub fn remove(&self, id: &SessionId, now: Now) -> bool {
        self.take(id, now).is_ok()
    }

    /// Removes a session and calls `read` with its DER, so that of several callers one
    /// gets it. `None`: no such session, or it has expired.
    ///
    /// Takes the shard's lock for writing, and calls `read` without it.
    pub fn take_der<R>(
        &self,
        id: &SessionId,
        now: Now,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let taken = self.take(id, now);
        self.counted(taken.map(|entry| read(entry.der())))
    }

    fn take(&self, id: &SessionId, now: Now) -> Result<Entry, Miss> {
        let hash = self.hash(id);
        let mut shard = self.write(self.map.determine_shard(hash as usize));
        fault!("remove, shard locked");
        let removed = shard.take(self, hash, |entry| entry.is(id));
        drop(shard);
        let entry = removed.ok_or(Miss::Absent)?;
        let expired = entry.lifetime().is_over(now, self.timeout());
        self.stats.count(match expired {
            true => Counter::Expired,
            false => Counter::Removed,
        });
        if expired {
            Err(Miss::Expired)
        } else {
            Ok(entry)
        }
    }

    /// Forgets every session and gives the memory back.
    ///
    /// Takes the shards' locks for writing, one at a time.
    pub fn clear(&self) {
        for index in 0..self.lanes.len() {
            self.clear_shard(self.write(index));
        }
    }

    /// [`Cache::clear`] for the end of the process: passes over shards that stay
    /// locked, because the thread that holds the lock may never run again.
    pub fn clear_at_exit(&self) {
        let patience = Patience::of(Duration::from_millis(10));
        for index in 0..self.lanes.len() {
            if let Some(shard) = patience.wait_for(|| self.try_write(index)) {
                self.clear_shard(shard);
            }
        }
    }

    fn clear_shard(&self, mut shard: Shard<'_>) {
        fault!("clear, shard locked");
        let order = std::mem::take(&mut *shard.order);
        let table = std::mem::take(&mut *shard.table);
        let lens = order
            .iter()
            .map(|(hash, slot)| entry_at(&table, hash, slot).map_or(0, |entry| entry.der().len()));
        self.budget.release(order.len(), lens.sum());
        shard.lane.ghosts.clear();
        self.stats.add(Counter::Cleared, order.len() as u64);
        drop(shard);
        drop(table);
    }

    /// Changes the bounds, evicting what is too much.
    pub fn set_limits(&self, limits: Limits, now: Now) {
        self.budget.set_limits(limits);
        let mut wait = Wait::default();
        while self.budget.is_exceeded() {
            if !self.evict_anywhere(now) {
                wait.a_little();
            }
        }
    }

    /// Seconds after which a session is over whatever it says itself; 0: never.
    ///
    /// Takes the shards' locks for writing, one at a time.
    pub fn set_timeout(&self, seconds: u32) {
        if self.timeout.swap(seconds, Ordering::SeqCst) == seconds {
            return;
        }
        for index in 0..self.lanes.len() {
            let mut shard = self.write(index);
            let Shard { order, table, .. } = &mut shard;
            order.set_ends(|hash, slot| {
                entry_at(table, hash, slot).map_or(0, |entry| entry.lifetime().end(seconds))
            });
        }
    }

    /// Whether lookups and inserts give up on a locked shard instead of waiting.
    pub fn set_skip_on_contention(&self, skip: bool) {
        self.skip_on_contention.store(skip, Ordering::Relaxed);
    }

    /// Whether so much has left since it was last said so that the allocator should give
    /// memory back to the system. Who is told so sees to it; it is said once a second at
    /// most, unless nothing is left.
    pub fn has_shrunk(&self, now: impl FnOnce() -> Now) -> bool {
        let Peak {
            half_of_most,
            given_back,
        } = &self.peak;
        let half = half_of_most.load(Ordering::Relaxed);
        if half < WORTH_GIVING_BACK / 2 || self.bytes() >= half {
            return false;
        }
        // Of the last sessions twice as much has gone: they count when they are all gone.
        let is_empty = self.entries() == 0;
        if half < WORTH_GIVING_BACK && !is_empty {
            return false;
        }
        let second = now().up;
        let is_first = given_back.swap(second, Ordering::Relaxed) != second;
        if !is_first && !is_empty {
            return false;
        }
        let swapped = half_of_most.compare_exchange(
            half,
            self.bytes() / 2,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        swapped.is_ok()
    }

    /// Remembers how large the cache has been, for [`Cache::has_shrunk`].
    fn note_growth(&self) {
        let half = &self.peak.half_of_most;
        let now = self.bytes() / 2;
        let before = half.load(Ordering::Relaxed);
        // In steps: this is written rarely, and read by every thread.
        if now > before + before / 16 {
            half.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// How many sessions there are, expired ones that were not reclaimed yet included.
    pub fn entries(&self) -> usize {
        self.budget.entries()
    }

    /// How many bytes of DER there are.
    pub fn bytes(&self) -> usize {
        self.budget.bytes()
    }

    /// Takes every lock, so that a `fork` finds none held by another thread; `None` when
    /// one of them cannot be had.
    pub(crate) fn freeze(&self, patience: Patience) -> Option<Frozen<'_>> {
        let mut shards = Vec::new();
        shards.try_reserve_exact(self.lanes.len()).ok()?;
        for index in 0..self.lanes.len() {
            shards.push(patience.wait_for(|| self.try_write(index))?);
        }
        Some(Frozen {
            _shards: shards,
            cache: self,
        })
    }

    fn timeout(&self) -> u32 {
        self.timeout.load(Ordering::Relaxed)
    }

    fn hash(&self, id: &SessionId) -> u64 {
        self.map.hasher().hash_one(id)
    }

    /// Drops the entry under `id` if it still is expired, unless the shard is busy:
    /// somebody else will come by.
    fn reap(&self, index: usize, hash: u64, id: &SessionId, now: Now) {
        let Some(mut shard) = self.try_write(index) else {
            return;
        };
        let timeout = self.timeout();
        let expired = shard.take(self, hash, |entry| {
            entry.is(id) && entry.lifetime().is_over(now, timeout)
        });
        drop(shard);
        if expired.is_some() {
            self.stats.count(Counter::Expired);
        }
    }

    /// Clears away a few expired sessions in another shard, so that one that nobody
    /// inserts into does not keep them.
    fn reap_next_shard(&self, now: Now) {
        let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        if now.wall < self.lanes[index].earliest_end.load(Ordering::Relaxed) {
            return;
        }
        let mut leaving = Leaving::new();
        if let Some(mut shard) = self.try_write(index) {
            shard.reap(self, now, &mut leaving);
        }
    }

    /// Makes room in the next shard that has any to give; `false` when none has.
    fn evict_anywhere(&self, now: Now) -> bool {
        for whom in [Whom::ColdOfFairShare, Whom::Cold, Whom::Any] {
            for _ in 0..self.lanes.len() {
                let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
                let mut shard = self.write(index);
                let left = shard.evict(self, now, whom);
                drop(shard);
                if left.is_some() {
                    return true;
                }
            }
        }
        false
    }

    /// The shard's table for reading, unless it is locked or a writer waits for it.
    fn try_read(&self, index: usize) -> Option<RwLockReadGuard<'_, Table>> {
        let writers = &self.writers_waiting[index];
        if writers.load(Ordering::Relaxed) > 0 {
            return None;
        }
        self.map.shards()[index].try_read()
    }

    /// The shard's table for reading; `None`: locked, and waiting is switched off.
    fn read(&self, index: usize) -> Option<RwLockReadGuard<'_, Table>> {
        if let Some(table) = self.try_read(index) {
            return Some(table);
        }
        let lock = &self.map.shards()[index];
        let writers = &self.writers_waiting[index];
        self.stats.count(Counter::Contention);
        if self.skip_on_contention.load(Ordering::Relaxed) {
            return lock.try_read();
        }
        let mut wait = Wait::default();
        loop {
            wait.a_little();
            // A writer that is let pass needs a moment, not for ever.
            if (writers.load(Ordering::Relaxed) == 0 || wait.is_long())
                && let Some(table) = lock.try_read()
            {
                return Some(table);
            }
        }
    }

    /// The shard for writing; `None`: locked, and waiting is switched off.
    fn write_or_skip(&self, index: usize) -> Option<Shard<'_>> {
        if self.skip_on_contention.load(Ordering::Relaxed) {
            let shard = self.try_write(index);
            if shard.is_none() {
                self.stats.count(Counter::Contention);
            }
            return shard;
        }
        Some(self.write(index))
    }

    fn write(&self, index: usize) -> Shard<'_> {
        if let Some(shard) = self.try_write(index) {
            return shard;
        }
        self.stats.count(Counter::Contention);
        let writers = &self.writers_waiting[index];
        writers.fetch_add(1, Ordering::Relaxed);
        let mut wait = Wait::default();
        let shard = loop {
            wait.a_little();
            if let Some(shard) = self.try_write(index) {
                break shard;
            }
        };
        writers.fetch_sub(1, Ordering::Relaxed);
        shard
    }

    fn try_write(&self, index: usize) -> Option<Shard<'_>> {
        let table = self.map.shards()[index].try_write()?;
        let lane = &self.lanes[index];
        Some(Shard {
            order: lock(&lane.order),
            table,
            lane,
        })
    }
}

/// What a lookup comes upon.
enum Look<R> {
    Found(R),
    Absent,
    /// To be cleared away.
    Expired,
}

/// Copies as much as fits, and returns how much there is.
fn copy_to(buffer: &mut [MaybeUninit<u8>], der: &[u8]) -> usize {
    for (to, from) in buffer.iter_mut().zip(der) {
        to.write(*from);
    }
    der.len()
}

/// A session's DER on its way to its reader: most fit without an allocation.
#[derive(Default)]
struct DerCopy(SmallVec<[u8; 1024]>);

impl Drop for DerCopy {
    fn drop(&mut self) {
        sys::wipe(&mut self.0);
    }
}

/// The entry that the eviction order names so.
fn entry_at(table: &Table, hash: u64, slot: u32) -> Option<&Entry> {
    let (_, entry) = table.get(hash, |(_, entry)| entry.get().slot == slot)?;
    Some(entry.get())
}

/// A shard locked for writing, with its eviction order.
struct Shard<'a> {
    // Unlocked before the table: whoever gets the table finds the order free.
    order: MutexGuard<'a, Order>,
    table: RwLockWriteGuard<'a, Table>,
    lane: &'a Lane,
}

impl Drop for Shard<'_> {
    fn drop(&mut self) {
        let earliest = self.order.earliest_end();
        self.lane.earliest_end.store(earliest, Ordering::Relaxed);
    }
}

impl Shard<'_> {
    fn der_len(&self, hash: u64, id: &SessionId) -> Option<usize> {
        let (_, entry) = self.table.get(hash, |(_, entry)| entry.get().is(id))?;
        Some(entry.get().der().len())
    }

    /// Makes sure that [`Shard::put`] allocates nothing.
    fn reserve_memory(&mut self) -> Result<(), Refused> {
        let table = self.table.try_reserve(1, |(hash, _)| *hash);
        match table.is_ok() && self.order.reserve() {
            true => Ok(()),
            false => Err(Refused::NoMemory),
        }
    }

    /// Stores an entry for which room was reserved; returns the one it replaces.
    fn put(&mut self, cache: &Cache, hash: u64, id: &SessionId, mut entry: Entry) -> Option<Entry> {
        let len = entry.der().len();
        entry.slot = self.order.push(hash, entry.lifetime().end(cache.timeout()));
        let old = self.table.get_mut(hash, |(_, old)| old.get().is(id));
        let Some((_, place)) = old else {
            let place = (hash, SharedValue::new(entry));
            self.table.insert(hash, place, |(hash, _)| *hash);
            return None;
        };
        let old = std::mem::replace(place.get_mut(), entry);
        self.order.remove(old.slot);
        // Only what it had more: the rest is the new one's.
        cache.budget.release(0, old.der().len().saturating_sub(len));
        cache.stats.count(Counter::Replaced);
        Some(old)
    }

    /// Takes out the entry with this hash that `is_it` accepts.
    fn take(&mut self, cache: &Cache, hash: u64, is_it: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let (_, entry) = self
            .table
            .remove_entry(hash, |(_, entry)| is_it(entry.get()))?;
        let entry = entry.into_inner();
        self.order.remove(entry.slot);
        cache.budget.release(1, entry.der().len());
        self.shrink();
        Some(entry)
    }

    /// Exchanges a table and an order that have become far too large, if there is memory
    /// for smaller ones.
    fn shrink(&mut self) {
        let room = self.table.len() * 2;
        let capacity = self.table.capacity();
        if capacity <= SMALL_TABLE || capacity < room * 4 {
            return;
        }
        let Ok(mut small) = Table::try_with_capacity(room) else {
            return;
        };
        let Self { order, table, .. } = self;
        let done = order.shrink(room, |hash, slot, new_slot| {
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

    fn take_slot(&mut self, cache: &Cache, (hash, slot): (u64, u32)) -> Option<Entry> {
        self.take(cache, hash, |entry| entry.slot == slot)
    }

    /// Takes out an entry that has expired.
    fn take_expired(&mut self, cache: &Cache, now: Now) -> Option<Entry> {
        let expired = self.order.expired(now.wall)?;
        cache.stats.count(Counter::Expired);
        self.take_slot(cache, expired)
    }

    /// Clears away a few expired entries.
    fn reap(&mut self, cache: &Cache, now: Now, leaving: &mut Leaving) {
        for _ in 0..REAP_PER_INSERT {
            leaving.extend(self.take_expired(cache, now));
        }
    }

    /// Takes out one entry to make room: an expired one, else the policy's victim.
    fn evict(&mut self, cache: &Cache, now: Now, whom: Whom) -> Option<Entry> {
        if let Some(entry) = self.take_expired(cache, now) {
            return Some(entry);
        }
        let share = self.order.len() * cache.lanes.len();
        if whom == Whom::ColdOfFairShare && share < cache.entries() {
            return None;
        }
        let Self { order, table, .. } = self;
        let victim = order.victim(cache.trial_share.get(), |hash, slot, queue| {
            let entry = table.get_mut(hash, |(_, entry)| entry.get().slot == slot);
            let used = entry.is_some_and(|(_, entry)| entry.get_mut().take_use(queue));
            used && whom != Whom::Any
        })?;
        cache.stats.count(Counter::Evicted);
        self.lane.ghosts.remember(victim);
        if !cache.has_evicted.load(Ordering::Relaxed) {
            cache.has_evicted.store(true, Ordering::Relaxed);
        }
        self.take_slot(cache, (victim.hash, victim.slot))
    }
}

/// All locks of a cache, held by one thread until this is dropped.
pub(crate) struct Frozen<'a> {
    cache: &'a Cache,
    _shards: Vec<Shard<'a>>,
}

impl Frozen<'_> {
    /// Releases the locks in a forked child, where the threads that waited
    /// for them do not exist.
    pub(crate) fn release_in_child(self) {
        for writers in &self.cache.writers_waiting {
            writers.store(0, Ordering::Relaxed);
        }
    }
}
