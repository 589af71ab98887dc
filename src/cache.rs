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
//!    but this crate's. The bytes of an entry are written, copied and wiped under it.
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

use crate::blocks::{Blocks, Vacant};
use crate::budget::Budget;
use crate::entry::{Draft, Entry, Lifetime, Now};
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

/// What only who changes a shard has to do with.
#[derive(Default)]
struct Ledger {
    order: Order,
    vacant: Vacant,
}

/// What belongs to one shard besides its table.
struct Lane {
    /// Never contended: it is locked under the shard's write lock only.
    ledger: Mutex<Ledger>,
    /// The bytes of the entries.
    blocks: Blocks,
    /// What [`Order::earliest_end`] was at the last unlock: tells without a lock whether
    /// there may be something to clear away.
    earliest_end: AtomicI64,
    ghosts: Ghosts,
}

impl Lane {
    fn new(sessions: usize) -> Self {
        Self {
            ledger: Mutex::default(),
            blocks: Blocks::default(),
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
        self.counted(self.find(id, now, |entry, blocks| {
            entry.touch();
            entry.copy_der(blocks, buffer);
            entry.der_len()
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
        let found = self.look(&table, shard, (hash, id), now, |entry, blocks| {
            entry.touch();
            entry.copy_der(blocks, buffer);
            entry.der_len()
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
            let needed = self.find(id, &now, |entry, blocks| {
                let fits = entry.der_len() <= copy.0.capacity();
                if fits {
                    entry.touch();
                    copy.fill(entry, blocks);
                }
                (!fits).then_some(entry.der_len())
            });
            match needed {
                Ok(Some(len)) if copy.reserve(len) => continue,
                Ok(Some(_)) => return self.counted(Err(Miss::NoMemory)),
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
        read: impl FnOnce(&Entry, &Blocks) -> R,
    ) -> Result<R, Miss> {
        let hash = self.hash(id);
        let shard = self.map.determine_shard(hash as usize);
        let table = self.read(shard).ok_or(Miss::Contention)?;
        let found = self.look(&table, shard, (hash, id), &now, read);
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
        shard: usize,
        (hash, id): (u64, &SessionId),
        now: impl Fn() -> Now,
        read: impl FnOnce(&Entry, &Blocks) -> R,
    ) -> Look<R> {
        let blocks = &self.lanes[shard].blocks;
        let Some((_, entry)) = table.get(hash, |(_, entry)| entry.get().is(blocks, id)) else {
            return Look::Absent;
        };
        let entry = entry.get();
        fault!("lookup, shard locked");
        if entry.lifetime(blocks).is_over(now(), self.timeout()) {
            return Look::Expired;
        }
        Look::Found(read(entry, blocks))
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
        let draft = Draft::new(id, der, lifetime).ok_or(Refused::TooLarge)?;
        let hash = self.hash(id);
        let home = self.map.determine_shard(hash as usize);

        let mut first_try = true;
        let mut wait = Wait::default();
        loop {
            if der.len() > self.budget.max_bytes() {
                return Err(Refused::TooLarge);
            }
            // Skipping is for the first try only: later ones have evicted something,
            // and to give up then would have cost a stranger's session for nothing.
            let mut shard = if first_try {
                self.write_or_skip(home).ok_or(Refused::Contention)?
            } else {
                self.write(home)
            };
            first_try = false;
            shard.reserve_memory(draft.words())?;
            fault!("insert, shard locked");
            shard.reap(self, now);
            for _ in 0..EVICT_PER_LOCK {
                let old_len = shard.der_len(hash, id);
                if self.budget.reserve(old_len, der.len()) {
                    shard.put(self, hash, id, &draft);
                    drop(shard);
                    self.reap_next_shard(now);
                    self.note_growth();
                    return Ok(());
                }
                // Here if possible: then one lock does for both.
                if !shard.evict(self, now, Whom::ColdOfFairShare) {
                    break;
                }
            }
            drop(shard);
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
        let (shard, hash) = self.write_home(id);
        self.take(shard, hash, id, now, |_, _| ()).is_ok()
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
        let mut copy = DerCopy::default();
        let (shard, hash) = self.write_home(id);
        if !copy.reserve(shard.der_len(hash, id).unwrap_or(0)) {
            return self.counted(Err(Miss::NoMemory));
        }
        let taken = self.take(shard, hash, id, now, |entry, blocks| {
            copy.fill(entry, blocks);
        });
        self.counted(taken.map(|()| read(&copy.0)))
    }

    fn write_home(&self, id: &SessionId) -> (Shard<'_>, u64) {
        let hash = self.hash(id);
        (self.write(self.map.determine_shard(hash as usize)), hash)
    }

    fn take<R>(
        &self,
        mut shard: Shard<'_>,
        hash: u64,
        id: &SessionId,
        now: Now,
        read: impl FnOnce(&Entry, &Blocks) -> R,
    ) -> Result<R, Miss> {
        fault!("remove, shard locked");
        let is_it = |entry: &Entry, blocks: &Blocks| entry.is(blocks, id);
        let taken = shard.take(self, hash, is_it, |entry, blocks| {
            let is_over = entry.lifetime(blocks).is_over(now, self.timeout());
            (!is_over).then(|| read(entry, blocks))
        });
        drop(shard);
        let result = taken.ok_or(Miss::Absent)?.ok_or(Miss::Expired);
        self.stats.count(match result {
            Ok(_) => Counter::Removed,
            Err(_) => Counter::Expired,
        });
        result
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
        let Shard { ledger, lane, .. } = &mut shard;
        let order = std::mem::take(&mut ledger.order);
        lane.blocks.clear(&mut ledger.vacant);
        let table = std::mem::take(&mut *shard.table);
        let lens = order
            .iter()
            .map(|(hash, slot)| entry_at(&table, hash, slot).map_or(0, Entry::der_len));
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
            let Shard {
                ledger,
                table,
                lane,
            } = &mut shard;
            ledger.order.set_ends(|hash, slot| {
                let entry = entry_at(table, hash, slot);
                entry.map_or(0, |entry| entry.lifetime(&lane.blocks).end(seconds))
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
        let is_it = |entry: &Entry, blocks: &Blocks| {
            entry.is(blocks, id) && entry.lifetime(blocks).is_over(now, timeout)
        };
        let expired = shard.take(self, hash, is_it, |_, _| ());
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
        if let Some(mut shard) = self.try_write(index) {
            shard.reap(self, now);
        }
    }

    /// Makes room in the next shard that has any to give; `false` when none has.
    fn evict_anywhere(&self, now: Now) -> bool {
        for whom in [Whom::ColdOfFairShare, Whom::Cold, Whom::Any] {
            for _ in 0..self.lanes.len() {
                let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
                if self.write(index).evict(self, now, whom) {
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
            ledger: lock(&lane.ledger),
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

/// A session's DER on its way to its reader: most fit without an allocation.
#[derive(Default)]
struct DerCopy(SmallVec<[u8; 1024]>);

impl DerCopy {
    /// Makes room for so many bytes; `false` when there is no memory for them.
    fn reserve(&mut self, len: usize) -> bool {
        self.0.try_reserve_exact(len).is_ok()
    }

    fn fill(&mut self, entry: &Entry, blocks: &Blocks) {
        self.0.resize(entry.der_len(), 0);
        entry.copy_der(blocks, &mut self.0);
    }
}

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

/// A shard locked for writing, with all that belongs to it.
struct Shard<'a> {
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

impl Shard<'_> {
    fn der_len(&self, hash: u64, id: &SessionId) -> Option<usize> {
        let blocks = &self.lane.blocks;
        let (_, entry) = self
            .table
            .get(hash, |(_, entry)| entry.get().is(blocks, id))?;
        Some(entry.get().der_len())
    }

    /// Makes sure that [`Shard::put`] allocates nothing.
    fn reserve_memory(&mut self, words: usize) -> Result<(), Refused> {
        let table = self.table.try_reserve(1, |(hash, _)| *hash);
        let Ledger { order, vacant } = &mut *self.ledger;
        match table.is_ok() && order.reserve() && self.lane.blocks.reserve(vacant, words) {
            true => Ok(()),
            false => Err(Refused::NoMemory),
        }
    }

    /// Stores an entry for which room was reserved, in place of the one that is there.
    fn put(&mut self, cache: &Cache, hash: u64, id: &SessionId, draft: &Draft<'_>) {
        let Self {
            ledger,
            table,
            lane,
        } = self;
        let Ledger { order, vacant } = &mut **ledger;
        let blocks = &lane.blocks;
        let mut entry = draft.store(blocks, vacant);
        let len = entry.der_len();
        entry.slot = order.push(hash, entry.lifetime(blocks).end(cache.timeout()));
        let old = table.get_mut(hash, |(_, old)| old.get().is(blocks, id));
        let Some((_, place)) = old else {
            table.insert(hash, (hash, SharedValue::new(entry)), |(hash, _)| *hash);
            return;
        };
        let old = std::mem::replace(place.get_mut(), entry);
        order.remove(old.slot);
        // Only what it had more: the rest is the new one's.
        cache.budget.release(0, old.der_len().saturating_sub(len));
        cache.stats.count(Counter::Replaced);
        old.free(blocks, vacant);
    }

    /// Takes out the entry with this hash that `is_it` accepts, and returns what `read` makes
    /// of it.
    fn take<R>(
        &mut self,
        cache: &Cache,
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
        cache.budget.release(1, entry.der_len());
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

    fn take_slot(&mut self, cache: &Cache, (hash, slot): (u64, u32)) -> bool {
        let is_it = |entry: &Entry, _: &Blocks| entry.slot == slot;
        self.take(cache, hash, is_it, |_, _| ()).is_some()
    }

    /// Takes out an entry that has expired; `false` when there is none.
    fn take_expired(&mut self, cache: &Cache, now: Now) -> bool {
        let Some(expired) = self.ledger.order.expired(now.wall) else {
            return false;
        };
        cache.stats.count(Counter::Expired);
        self.take_slot(cache, expired)
    }

    /// Clears away a few expired entries.
    fn reap(&mut self, cache: &Cache, now: Now) {
        for _ in 0..REAP_PER_INSERT {
            if !self.take_expired(cache, now) {
                break;
            }
        }
    }

    /// Takes out one entry to make room: an expired one, else the policy's victim. `false`
    /// when there is none such.
    fn evict(&mut self, cache: &Cache, now: Now, whom: Whom) -> bool {
        if self.take_expired(cache, now) {
            return true;
        }
        let Self { ledger, table, .. } = self;
        let order = &mut ledger.order;
        let share = order.len() * cache.lanes.len();
        if whom == Whom::ColdOfFairShare && share < cache.entries() {
            return false;
        }
        let victim = order.victim(cache.trial_share.get(), |hash, slot, queue| {
            let entry = table.get_mut(hash, |(_, entry)| entry.get().slot == slot);
            let used = entry.is_some_and(|(_, entry)| entry.get_mut().take_use(queue));
            used && whom != Whom::Any
        });
        let Some(victim) = victim else {
            return false;
        };
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
