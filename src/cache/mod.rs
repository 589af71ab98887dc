//! The session cache: sharded, bounded by entries and by bytes. An operation holds a lock for a few
//! hundred nanoseconds. Some take time in proportion to the sessions of the shard, about 400 with
//! the default settings: a search for expired sessions or for a victim, a table that grows,
//! sessions that are moved together.
//!
//! # Structure
//!
//! A `DashMap` holds the entries. Each of its shards has an eviction order and the bytes of its
//! entries beside it, under the same lock ([`Sharded`]). A `Lane` holds the part that is read
//! without the lock. One `Budget` counts entries and bytes.
//!
//! # Invariants
//!
//! 1. Room in the budget is reserved *before* an entry is put into a table, and released *after* it
//!    was taken out, so the tables never exceed the limits. Both happen under the lock of that
//!    table's shard: a thread that holds all locks sees correct numbers.
//! 2. A shard's order names exactly the entries of that shard. Each entry has its own run in the
//!    shard's region.
//! 3. A thread holds at most one shard lock, except in [`Cache::freeze`], which takes all of them
//!    in ascending order. While it holds one, it calls only this crate's code. The bytes of an
//!    entry are written, copied and wiped under the lock.
//! 4. Threads only ever *try* to get a lock, again and again, and never park. So [`Cache::freeze`]
//!    makes a fork safe (see [`crate::base::spin`]).

#![forbid(unsafe_code)]

mod budget;
mod entry;
pub mod lifetime;
mod policy;
mod region;
mod shard;

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::base::clock::Now;
use crate::base::secret_memory::{SecretCopy, TooSmall};
use crate::base::session_id::SessionId;
use crate::base::sharded::{Key, Reading, Sharded};
use crate::base::spin::{Patience, Wait};
use crate::report::counters::{Counter, Purpose, Stats};
use budget::Budget;
use entry::{Draft, Entry, Stored};
use lifetime::Lifetime;
use policy::TrialShare;
use region::Region;
use shard::{Beside, Lane, Shard, Shared, Whom, find};

pub use budget::Limits;
pub use shard::Refused;

/// How many sessions an insert evicts before it unlocks the shard for others.
const EVICT_PER_LOCK: usize = 4;

/// A shard should have about this many entries. With only a few, its eviction order cannot tell
/// which of them are in use.
const ENTRIES_PER_SHARD: usize = 128;

/// Why a lookup finds nothing.
#[derive(Clone, Copy)]
enum Miss {
    Absent,
    Expired,
    /// The shard was locked, and waiting is switched off.
    Contention,
    NoMemory,
}

/// A bounded, thread-safe map from session ID to DER bytes.
pub struct Cache {
    sharded: Sharded<Entry, Beside>,
    lanes: Box<[CachePadded<Lane>]>,
    /// How many writers wait for each shard. Readers let them pass: otherwise a crowd of readers
    /// could keep a writer out forever. The numbers are close together, because every reader reads
    /// them and they change only when a writer waits.
    writers_waiting: Box<[AtomicU32]>,
    /// Give up on a locked shard instead of waiting.
    skip_on_contention: AtomicBool,
    /// The shard at which the search for a victim or an expired session continues.
    next_shard: AtomicUsize,
    shared: Shared,
}

impl Cache {
    /// An empty cache. `shards` is rounded up to a power of two, and lowered if the limit would
    /// leave each shard too few entries.
    pub fn new(limits: Limits, shards: usize, stats: Arc<Stats>) -> Self {
        let useful = (limits.entries / ENTRIES_PER_SHARD).next_power_of_two();
        // dashmap needs at least two.
        let shards = shards.next_power_of_two().min(useful).max(2);
        Self {
            sharded: Sharded::new(shards),
            lanes: (0..shards)
                .map(|_| CachePadded::new(Lane::new(limits.entries / shards)))
                .collect(),
            writers_waiting: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            skip_on_contention: AtomicBool::new(false),
            next_shard: AtomicUsize::new(0),
            shared: Shared {
                budget: Budget::new(limits),
                timeout: AtomicU32::new(0),
                trial_share: TrialShare::default(),
                has_use: AtomicBool::new(false),
                has_evicted: AtomicBool::new(false),
                shards,
                generation: AtomicU8::new(0),
                stats,
            },
        }
    }

    /// Copies as much of the session's DER as fits to the front of `buffer`, and returns the length
    /// of the DER. `None`: no such session, or it has expired. For calls.
    ///
    /// Takes the shard's lock for reading.
    pub fn copy_der(
        &self,
        id: &SessionId,
        now: impl Fn() -> Now,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Option<usize> {
        let found = self.find(id, Purpose::Call, now, |stored| {
            stored.copy_der(buffer);
            stored.der().len()
        });
        self.counted(Purpose::Call, found)
    }

    /// [`Cache::copy_der`] if that is possible without waiting, allocating or freeing. Otherwise
    /// returns `None` and counts nothing.
    #[inline]
    pub fn copy_der_at_once(
        &self,
        id: &SessionId,
        now: impl Fn() -> Now,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Option<Option<usize>> {
        let (shard, key) = self.sharded.locate(id);
        let locked = self.try_read(shard)?;
        let found = self.look(&locked, (key, id), now, |stored| {
            stored.copy_der(buffer);
            stored.der().len()
        });
        drop(locked);
        let found = match found {
            Look::Found(len) => Ok(len),
            Look::Absent => Err(Miss::Absent),
            Look::Expired => return None,
        };
        Some(self.counted(Purpose::Call, found))
    }

    /// Copies the session's DER if that is possible without waiting, allocating or freeing.
    /// Otherwise returns `None` and counts nothing. `false`: there is no such session. For calls,
    /// which report the outcome to [`Cache::counted_call`].
    #[inline]
    pub fn take_copy_at_once(
        &self,
        id: &SessionId,
        now: impl Fn() -> Now,
        copy: &mut SecretCopy,
    ) -> Option<bool> {
        let (shard, key) = self.sharded.locate(id);
        let locked = self.try_read(shard)?;
        let found = self.look(&locked, (key, id), now, |stored| copy.fill(stored.der()));
        drop(locked);
        match found {
            Look::Found(Ok(())) => Some(true),
            Look::Absent => {
                self.shared.stats.count(Counter::GetAbsent);
                Some(false)
            }
            Look::Found(Err(_)) | Look::Expired => None,
        }
    }

    /// Counts a session that a call found, and its outcome.
    pub fn counted_call<R>(&self, result: Option<R>) -> Option<R> {
        self.counted(Purpose::Call, result.ok_or(Miss::NoMemory))
    }

    /// Calls `read` with a copy of the session's DER, which is wiped afterwards. `None`: no such
    /// session, it has expired, or there is no memory. If a handshake then resumes the session,
    /// call [`Cache::used`].
    ///
    /// Takes the shard's lock for reading, and calls `read` without it.
    pub fn with_der<R>(
        &self,
        id: &SessionId,
        purpose: Purpose,
        now: impl Fn() -> Now,
        read: impl FnOnce(&[u8]) -> Option<R>,
    ) -> Option<R> {
        let mut copy = SecretCopy::default();
        let found = loop {
            match self.find(id, purpose, &now, |stored| copy.fill(stored.der())) {
                Ok(Err(TooSmall { needed })) if copy.reserve(needed) => {}
                Ok(Err(_)) => break Err(Miss::NoMemory),
                Ok(Ok(())) => break read(copy.bytes()).ok_or(Miss::NoMemory),
                Err(miss) => break Err(miss),
            }
        };
        self.counted(purpose, found)
    }

    /// Notes that a handshake got the session it looked up. Only this counts as a use, for eviction
    /// and as a hit.
    ///
    /// Takes the shard's lock for reading.
    pub fn used(&self, id: &SessionId) {
        self.shared.stats.count(Counter::Hit);
        if !self.shared.has_use.load(Ordering::Relaxed) {
            self.shared.has_use.store(true, Ordering::Relaxed);
        }
        let (shard, key) = self.sharded.locate(id);
        if let Some(locked) = self.read(shard) {
            let (table, Beside { region, .. }) = locked.parts();
            if let Some(entry) = find(table, key, |entry| entry.is(region, id)) {
                entry.touch();
            }
        }
    }

    fn counted<R>(&self, purpose: Purpose, found: Result<R, Miss>) -> Option<R> {
        let counter = match (purpose, &found) {
            // Counted by [`Cache::used`], or by the handshake that refuses it.
            (Purpose::Handshake, Ok(_)) => return found.ok(),
            (Purpose::Handshake, Err(Miss::Absent)) => Counter::MissAbsent,
            (Purpose::Handshake, Err(Miss::Expired)) => Counter::MissExpired,
            (Purpose::Handshake, Err(Miss::Contention)) => Counter::MissContention,
            (Purpose::Handshake, Err(Miss::NoMemory)) => Counter::MissNoMemory,
            (Purpose::Call, Ok(_)) => Counter::GetFound,
            (Purpose::Call, Err(Miss::Absent)) => Counter::GetAbsent,
            (Purpose::Call, Err(Miss::Expired)) => Counter::GetExpired,
            (Purpose::Call, Err(Miss::Contention)) => Counter::GetContention,
            (Purpose::Call, Err(Miss::NoMemory)) => Counter::GetNoMemory,
        };
        self.shared.stats.count(counter);
        found.ok()
    }

    fn find<R>(
        &self,
        id: &SessionId,
        purpose: Purpose,
        now: impl Fn() -> Now,
        read: impl FnOnce(&Stored<'_>) -> R,
    ) -> Result<R, Miss> {
        let (shard, key) = self.sharded.locate(id);
        let locked = self.read(shard).ok_or(Miss::Contention)?;
        let found = self.look(&locked, (key, id), &now, read);
        drop(locked);
        match found {
            Look::Found(result) => Ok(result),
            Look::Absent => {
                if purpose == Purpose::Handshake {
                    self.learn(shard, key);
                }
                Err(Miss::Absent)
            }
            Look::Expired => {
                self.reap(shard, key, id, now());
                Err(Miss::Expired)
            }
        }
    }

    /// Lets the policy learn from a session that a handshake looked up and did not find.
    fn learn(&self, shard: usize, key: Key) {
        if self.shared.has_evicted.load(Ordering::Relaxed)
            && let Some(queue) = self.lanes[shard].ghosts.recall(key)
        {
            let sessions = self.shared.budget.max_entries();
            self.shared.trial_share.learn(queue, sessions);
        }
    }

    /// Looks into a locked shard. Reads the clock only if needed.
    fn look<R>(
        &self,
        locked: &Reading<'_, Entry, Beside>,
        (key, id): (Key, &SessionId),
        now: impl Fn() -> Now,
        read: impl FnOnce(&Stored<'_>) -> R,
    ) -> Look<R> {
        let (table, Beside { region, .. }) = locked.parts();
        let Some(entry) = find(table, key, |entry| entry.is(region, id)) else {
            return Look::Absent;
        };
        fault!("lookup, shard locked");
        let stored = entry.stored(region);
        if stored.lifetime().is_over(now(), self.shared.timeout()) {
            return Look::Expired;
        }
        Look::Found(read(&stored))
    }

    /// Stores a session under `id`, replacing the one that is there.
    ///
    /// Takes the shard's lock for writing. If room must be made, takes those of other shards too,
    /// one at a time.
    pub fn insert(
        &self,
        id: &SessionId,
        der: &[u8],
        lifetime: Lifetime,
        now: Now,
    ) -> Result<(), Refused> {
        let result = self.try_insert(id, der, lifetime, now);
        self.shared.stats.count(match result {
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
        if lifetime.is_over(now, self.shared.timeout()) {
            return Err(Refused::Expired);
        }
        let draft = Draft::new(id, der, lifetime).ok_or(Refused::TooLarge)?;
        let (home, key) = self.sharded.locate(id);

        let mut first_try = true;
        let mut wait = Wait::default();
        loop {
            if der.len() > self.shared.budget.max_bytes() {
                return Err(Refused::TooLarge);
            }
            // Only the first try may skip. A later one has evicted something: giving up would have
            // cost another session for nothing.
            let mut shard = if first_try {
                self.write_or_skip(home).ok_or(Refused::Contention)?
            } else {
                self.write(home)
            };
            first_try = false;
            shard.reserve_memory(draft.len())?;
            fault!("insert, shard locked");
            shard.reap(&self.shared, now);
            for _ in 0..EVICT_PER_LOCK {
                let old_len = shard.der_len(key, id);
                if self.shared.budget.reserve(old_len, der.len()) {
                    shard.put(&self.shared, key, id, &draft, now);
                    drop(shard);
                    self.reap_next_shard(now);
                    return Ok(());
                }
                // Evict in this shard if possible: then one lock is enough.
                if !shard.evict(&self.shared, now, Whom::ColdOfFairShare) {
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
    /// Takes the shard's lock for writing. Waits for it even if waiting is switched off.
    pub fn remove(&self, id: &SessionId, now: Now) -> bool {
        self.remove_if(id, now, |_, _| true)
    }

    /// [`Cache::remove`] if that is possible without waiting, allocating or freeing. Otherwise
    /// returns `None` and changes nothing.
    #[inline]
    pub fn remove_at_once(&self, id: &SessionId, now: impl Fn() -> Now) -> Option<bool> {
        let (shard, key) = self.sharded.locate(id);
        let mut shard = self.try_write(shard)?;
        fault!("remove, shard locked");
        let taken = shard.take_at_once(&self.shared, (key, id), |stored| {
            stored.lifetime().is_over(now(), self.shared.timeout())
        });
        drop(shard);
        Some(self.counted_removal(taken?))
    }

    /// [`Cache::remove`], if the session's DER contains these bytes.
    pub fn remove_containing(&self, id: &SessionId, part: &[u8], now: Now) -> bool {
        self.remove_if(id, now, |entry, region| entry.stored(region).contains(part))
    }

    /// [`Cache::remove_containing`], if the session is not a copy of one that a parent process has
    /// too. A process that is 255 forks away from the first cannot know that, and removes nothing.
    pub fn take_own(&self, id: &SessionId, part: &[u8], now: Now) -> bool {
        let generation = self.shared.generation.load(Ordering::Relaxed);
        self.remove_if(id, now, |entry, region| {
            entry.generation == generation
                && generation < u8::MAX
                && entry.stored(region).contains(part)
        })
    }

    fn remove_if(&self, id: &SessionId, now: Now, is_it: impl Fn(&Entry, &Region) -> bool) -> bool {
        let (shard, key) = self.sharded.locate(id);
        let mut shard = self.write(shard);
        fault!("remove, shard locked");
        let is_it = |entry: &Entry, region: &Region| entry.is(region, id) && is_it(entry, region);
        let taken = shard.take(&self.shared, key, is_it, |entry, region| {
            entry.lifetime(region).is_over(now, self.shared.timeout())
        });
        drop(shard);
        self.counted_removal(taken)
    }

    /// Counts a session that was taken out, if any. `true` if it had not expired.
    fn counted_removal(&self, was_over: Option<bool>) -> bool {
        let Some(was_over) = was_over else {
            return false;
        };
        self.shared.stats.count(if was_over {
            Counter::Expired
        } else {
            Counter::Removed
        });
        !was_over
    }

    /// Forgets every session and gives the memory back.
    ///
    /// Takes the shards' locks for writing, one at a time.
    pub fn clear(&self) {
        for index in 0..self.lanes.len() {
            self.write(index).clear(&self.shared);
        }
    }

    /// [`Cache::clear`] for the end of the process. Skips shards that stay locked, because the
    /// thread that holds the lock may never run again.
    pub fn clear_at_exit(&self) {
        let patience = Patience::of(Duration::from_millis(10));
        for index in 0..self.lanes.len() {
            if let Some(shard) = patience.wait_for(|| self.try_write(index)) {
                shard.clear(&self.shared);
            }
        }
    }

    /// Changes the limits, and evicts whatever now exceeds them.
    pub fn set_limits(&self, limits: Limits, now: Now) {
        self.shared.budget.set_limits(limits);
        let mut wait = Wait::default();
        while self.shared.budget.is_exceeded() {
            if !self.evict_anywhere(now) {
                wait.a_little();
            }
        }
    }

    /// Sets after how many seconds every session ends, even if its own timeout is longer. 0: never.
    ///
    /// Takes the shards' locks for writing, one at a time.
    pub fn set_timeout(&self, seconds: u32) {
        if self.shared.timeout.swap(seconds, Ordering::SeqCst) == seconds {
            return;
        }
        for index in 0..self.lanes.len() {
            self.write(index).set_timeout(seconds);
        }
    }

    /// Whether lookups and inserts give up on a locked shard instead of waiting.
    pub fn set_skip_on_contention(&self, skip: bool) {
        self.skip_on_contention.store(skip, Ordering::Relaxed);
    }

    /// How many sessions there are, including expired ones that are still stored.
    pub fn entries(&self) -> usize {
        self.shared.budget.entries()
    }

    /// How many bytes of DER there are.
    pub fn bytes(&self) -> usize {
        self.shared.budget.bytes()
    }

    /// Takes every lock, so that no other thread holds one during a `fork`. `None` if one of them
    /// cannot be taken.
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

    /// Drops the entry under `id` if it is still expired. Leaves it if the shard is busy: a later
    /// call will drop it.
    fn reap(&self, index: usize, key: Key, id: &SessionId, now: Now) {
        let Some(mut shard) = self.try_write(index) else {
            return;
        };
        let timeout = self.shared.timeout();
        let is_it = |entry: &Entry, region: &Region| {
            entry.is(region, id) && entry.lifetime(region).is_over(now, timeout)
        };
        let expired = shard.take(&self.shared, key, is_it, |_, _| ());
        drop(shard);
        if expired.is_some() {
            self.shared.stats.count(Counter::Expired);
        }
    }

    /// Clears away a few expired sessions in another shard. Otherwise a shard without inserts would
    /// keep them.
    fn reap_next_shard(&self, now: Now) {
        let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        if now.wall < self.lanes[index].earliest_end.load(Ordering::Relaxed) {
            return;
        }
        if let Some(mut shard) = self.try_write(index) {
            shard.reap(&self.shared, now);
        }
    }

    /// Makes room in the next shard that can evict a session; `false` if none can.
    fn evict_anywhere(&self, now: Now) -> bool {
        for whom in [Whom::ColdOfFairShare, Whom::Cold, Whom::Any] {
            for _ in 0..self.lanes.len() {
                let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
                if self.write(index).evict(&self.shared, now, whom) {
                    return true;
                }
            }
        }
        false
    }

    /// The shard for reading, unless it is locked or a writer waits for it.
    fn try_read(&self, index: usize) -> Option<Reading<'_, Entry, Beside>> {
        let writers = &self.writers_waiting[index];
        if writers.load(Ordering::Relaxed) > 0 {
            return None;
        }
        self.sharded.try_read(index)
    }

    /// The shard for reading; `None`: locked, and waiting is switched off.
    fn read(&self, index: usize) -> Option<Reading<'_, Entry, Beside>> {
        if let Some(locked) = self.try_read(index) {
            return Some(locked);
        }
        let writers = &self.writers_waiting[index];
        self.shared.stats.count(Counter::Contention);
        if self.skip_on_contention.load(Ordering::Relaxed) {
            return self.sharded.try_read(index);
        }
        let mut wait = Wait::default();
        loop {
            wait.a_little();
            // Letting a writer pass takes a moment, not forever.
            if (writers.load(Ordering::Relaxed) == 0 || wait.is_long())
                && let Some(locked) = self.sharded.try_read(index)
            {
                return Some(locked);
            }
        }
    }

    /// The shard for writing; `None`: locked, and waiting is switched off.
    fn write_or_skip(&self, index: usize) -> Option<Shard<'_>> {
        if self.skip_on_contention.load(Ordering::Relaxed) {
            let shard = self.try_write(index);
            if shard.is_none() {
                self.shared.stats.count(Counter::Contention);
            }
            return shard;
        }
        Some(self.write(index))
    }

    fn write(&self, index: usize) -> Shard<'_> {
        if let Some(shard) = self.try_write(index) {
            return shard;
        }
        self.shared.stats.count(Counter::Contention);
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

    #[inline]
    fn try_write(&self, index: usize) -> Option<Shard<'_>> {
        let locked = self.sharded.try_write(index)?;
        Some(Shard::new(locked, &self.lanes[index]))
    }
}

/// The result of a lookup.
enum Look<R> {
    Found(R),
    Absent,
    /// It must be cleared away.
    Expired,
}

/// All locks of a cache, held by one thread until this is dropped.
pub(crate) struct Frozen<'a> {
    cache: &'a Cache,
    _shards: Vec<Shard<'a>>,
}

impl Frozen<'_> {
    /// Releases the locks in a forked child. The threads that waited for them do not exist there,
    /// and all its sessions are copies.
    pub(crate) fn release_in_child(self) {
        for writers in &self.cache.writers_waiting {
            writers.store(0, Ordering::Relaxed);
        }
        let generation = &self.cache.shared.generation;
        let next = generation.load(Ordering::Relaxed).saturating_add(1);
        generation.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { wall: 0, up: 0 };
    const ENTRIES: u32 = 256;

    fn cache() -> Cache {
        let limits = Limits {
            entries: ENTRIES as usize,
            bytes: 1 << 20,
        };
        Cache::new(limits, 2, Arc::default())
    }

    fn id(n: u32) -> SessionId {
        SessionId::new(&n.to_le_bytes()).unwrap()
    }

    fn insert(cache: &Cache, n: u32) {
        let lifetime = Lifetime::new(0, 100, NOW);
        cache
            .insert(&id(n), &n.to_le_bytes(), lifetime, NOW)
            .unwrap();
    }

    /// As a plugin: by both kinds of lookup.
    fn copy(cache: &Cache, n: u32) -> bool {
        let at_once = cache.copy_der_at_once(&id(n), || NOW, &mut []);
        let copied = cache.copy_der(&id(n), || NOW, &mut []);
        assert_eq!(at_once, Some(copied));
        let mut copy = SecretCopy::default();
        let is_found = cache.take_copy_at_once(&id(n), || NOW, &mut copy);
        assert_eq!(is_found, Some(copied.is_some()));
        copied.and_then(|len| cache.counted_call(Some(len)));
        look_up(cache, n, Purpose::Call) == copied.is_some() && copied.is_some()
    }

    fn look_up(cache: &Cache, n: u32, purpose: Purpose) -> bool {
        cache
            .with_der(&id(n), purpose, || NOW, |_| Some(()))
            .is_some()
    }

    /// Sessions that handshakes use outlive any number of others, whether copied and stored again
    /// or not.
    #[test]
    fn only_handshakes_count_as_use() {
        let cache = cache();
        let (used, looked_up) = (0..20, 20..40);
        for n in 0..40 {
            insert(&cache, n);
            assert!(look_up(&cache, n, Purpose::Handshake));
        }
        for n in used.clone() {
            cache.used(&id(n));
            assert!(copy(&cache, n));
            insert(&cache, n);
        }
        for n in 100..5000 {
            insert(&cache, n);
            assert!(copy(&cache, n));
            insert(&cache, n);
        }
        assert!(used.into_iter().all(|n| copy(&cache, n)), "used ones stay");
        assert!(!looked_up.into_iter().any(|n| copy(&cache, n)));
        let count = |counter| cache.shared.stats.get(counter);
        assert_eq!((count(Counter::Hit), count(Counter::MissAbsent)), (20, 0));
        assert_eq!(count(Counter::GetAbsent), 20 * 4);
        assert_eq!(count(Counter::GetFound), (20 + 4900 + 20) * 4);
    }

    /// As in a host that looks sessions up by calls.
    #[test]
    fn without_handshakes_the_oldest_leaves() {
        let cache = cache();
        for n in 0..20_000 {
            insert(&cache, n);
            // Shards differ in age.
            for newer in n.saturating_sub(ENTRIES / 2)..=n {
                assert!(n % 50 > 0 || copy(&cache, newer), "{newer} of {n}");
            }
        }
        assert!(!copy(&cache, 20_000 - 2 * ENTRIES));
    }

    #[test]
    fn the_same_session_again_keeps_its_place() {
        let cache = cache();
        insert(&cache, 0);
        for n in 1..5000 {
            if copy(&cache, 0) {
                insert(&cache, 0);
            }
            insert(&cache, n);
        }
        assert!(!copy(&cache, 0), "the oldest leaves");
        let stats = &cache.shared.stats;
        let (stored, replaced) = (stats.get(Counter::Stored), stats.get(Counter::Replaced));
        let evicted = stats.get(Counter::Evicted);
        assert!(replaced > 0);
        assert_eq!((stored - replaced - evicted) as usize, cache.entries());
    }

    #[test]
    fn the_same_session_again_takes_the_place_of_one_that_is_over() {
        let cache = cache();
        insert(&cache, 0);
        // The wall clock was set back.
        let later = Now { wall: 0, up: 200 };
        let lifetime = Lifetime::new(0, 100, later);
        cache
            .insert(&id(0), &0u32.to_le_bytes(), lifetime, later)
            .unwrap();
        assert_eq!(cache.copy_der(&id(0), || later, &mut []), Some(4));
    }

    /// Sessions of all sizes are replaced and removed in any order, so that shards are compacted
    /// many times.
    #[test]
    fn no_session_is_lost_or_mixed_up_when_they_are_moved() {
        let limits = Limits {
            entries: 4000,
            bytes: 1 << 24,
        };
        let cache = Cache::new(limits, 2, Arc::default());
        let long_or_short = |n: u32| match n % 2 {
            0 => SessionId::new(&[n.to_le_bytes(); 8].concat()).unwrap(),
            _ => id(n),
        };
        let mut stored = std::collections::HashMap::<u32, Vec<u8>>::new();
        let mut at_once = 0;
        let mut random = 1_u32;
        let mut next = move || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> 8
        };
        for round in 0..30_000_u32 {
            let n = next() % 600;
            let id = long_or_short(n);
            if next() % 3 == 0 {
                let removed = cache
                    .remove_at_once(&id, || NOW)
                    .inspect(|_| at_once += 1)
                    .unwrap_or_else(|| cache.remove(&id, NOW));
                assert_eq!(removed, stored.remove(&n).is_some());
            } else {
                let len = next() as usize % [300, 3000, 40_000][n as usize % 3];
                let mut der = vec![round as u8; len];
                der.splice(0..0, [9; 15].into_iter().chain(id.padded().iter().copied()));
                let lifetime = Lifetime::new(0, 100, NOW);
                cache.insert(&id, &der, lifetime, NOW).unwrap();
                stored.insert(n, der);
            }
            let some = if round % 1000 == 0 { 600 } else { 1 };
            for n in (n..n + some).map(|n| n % 600) {
                let der = cache.with_der(
                    &long_or_short(n),
                    Purpose::Call,
                    || NOW,
                    |der| Some(der.to_vec()),
                );
                assert_eq!(der.as_ref(), stored.get(&n), "{n}");
            }
        }
        assert_eq!(cache.entries(), stored.len());
        // The others had something to move or to give back.
        assert!((5000..9990).contains(&at_once), "{at_once}");
    }

    #[test]
    fn a_session_is_removed_by_what_it_contains() {
        let cache = cache();
        let (id, other) = (id(1), id(2));
        for id in [&id, &other] {
            let der = [&[9; 15][..], id.padded(), &[8; 2000], b"secret"].concat();
            let lifetime = Lifetime::new(0, 100, NOW);
            cache.insert(id, &der, lifetime, NOW).unwrap();
        }
        assert!(!cache.remove_containing(&id, b"Secret", NOW));
        assert!(cache.remove_containing(&id, b"secret", NOW));
        assert!(!cache.remove_containing(&id, b"secret", NOW));
        assert_eq!(cache.entries(), 1);
    }

    #[test]
    fn a_child_takes_no_session_of_its_parents() {
        let cache = cache();
        let take = |n: u32| cache.take_own(&id(n), &n.to_le_bytes(), NOW);
        for generation in 0..300 {
            insert(&cache, 1);
            assert!(!cache.take_own(&id(1), b"other", NOW));
            assert_eq!(take(1), generation < 255);
            assert!(!take(1));
            insert(&cache, 2);
            let frozen = cache.freeze(Patience::of(Duration::ZERO)).unwrap();
            frozen.release_in_child();
            assert!(!take(2), "its parent's");
            insert(&cache, 2);
            assert!(!take(2), "stored again");
            assert!(cache.remove(&id(2), NOW));
        }
    }

    #[test]
    fn only_handshakes_teach_the_policy() {
        let cache = cache();
        (0..5000).for_each(|n| insert(&cache, n));
        let share = cache.shared.trial_share.get();
        let found = (0..5000).filter(|&n| copy(&cache, n)).count();
        assert_eq!(found, cache.entries());
        assert_eq!(cache.shared.trial_share.get(), share);
        let found = (0..5000).filter(|&n| look_up(&cache, n, Purpose::Handshake));
        assert_eq!(found.count(), cache.entries());
        assert!(cache.shared.trial_share.get() > share);
    }
}
