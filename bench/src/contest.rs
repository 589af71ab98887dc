//! The contest of the eviction policies: a trace is played to each of them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::sync::Arc;

use tssession::SessionId;
use tssession::base::clock::Now;
use tssession::cache::lifetime::Lifetime;
use tssession::cache::{Cache, Limits, Refused};
use tssession::report::counters::{Purpose, Stats};

use crate::trace::Trace;

/// A second of the simulated time.
pub type Second = u32;

/// A bounded cache of sessions. Keys are the numbers of the sessions, from 0 without a gap. No
/// number is inserted twice, and all sessions of a trace have the same lifetime.
pub trait Policy {
    /// Whether the session is there and has not expired.
    fn get(&mut self, key: u64, now: Second) -> bool;
    /// Stores a session.
    fn insert(&mut self, key: u64, lifetime: Second, now: Second);
}

/// Makes an empty cache of so many entries.
pub type New = fn(usize) -> Box<dyn Policy>;

/// The policies that do not know the future. The first one is the library's.
pub const ONLINE: [(&str, New); 8] = [
    ("tssession", |entries| Box::new(Engine::new(entries))),
    (COPIED, |entries| {
        Box::new(Replicated::new(entries, usize::MAX))
    }),
    (REPLICATED, |entries| Box::new(Replicated::new(entries, 64))),
    (BUCKET_FIFO, |entries| Box::new(BucketFifo::new(entries))),
    ("FIFO", |entries| Box::new(Fifo::new(entries))),
    (LRU, |entries| Box::new(Lru::new(entries))),
    ("quick_cache", |entries| Box::new(QuickCache::new(entries))),
    ("moka", |entries| Box::new(Moka::new(entries))),
];

/// The name of the library's cache beside a plugin that copies every new session.
pub const COPIED: &str = "copied";
/// The name of the library's cache where that plugin gets its own messages back.
pub const REPLICATED: &str = "replicated";
/// The name of ATS's policy.
pub const BUCKET_FIFO: &str = "ATS FIFO";
/// The name of LRU.
pub const LRU: &str = "LRU";
/// The name of the bound that [`optimum`] gives.
pub const OPTIMUM: &str = "optimum";

/// Plays a trace and counts the hits. A client asks for the session that it got last. If that is
/// gone, it gets a new one.
pub fn play(trace: &Trace, policy: &mut dyn Policy) -> usize {
    let mut sessions = HashMap::new();
    let mut hits = 0;
    let mut next = 0;
    for visit in &trace.visits {
        let known = sessions.get(&visit.client);
        if known.is_some_and(|&key| policy.get(key, visit.time)) {
            hits += 1;
        } else {
            policy.insert(next, trace.lifetime, visit.time);
            sessions.insert(visit.client, next);
            next += 1;
        }
    }
    hits
}

/// A bound on the hits of any policy, even one that knows the future.
///
/// A visit can only be a hit if the client's session stayed in the cache since its previous visit.
/// So each pair of consecutive visits is an interval. At most `entries` intervals can be kept at
/// any moment, and each one kept to its end is a hit. The most can be kept by dropping the one that
/// ends last whenever there are too many (Belady's MIN, which may also drop the newest at once). A
/// pair further apart than the lifetime can never be a hit, and takes no room.
///
/// This treats each pair as if its session had been made at the first of the two visits. An older
/// session ends earlier, so the result can only be too high. With endless room the lifetime counts
/// exactly: a new session at the last possible moment, as in reality, gives the fewest sessions. No
/// cache beats that either, so the smaller of the two is the bound.
pub fn optimum(trace: &Trace, entries: usize) -> usize {
    const NEVER: usize = usize::MAX;
    let visits = &trace.visits;
    let mut next = vec![NEVER; visits.len()];
    let mut seen = HashMap::new();
    for (at, visit) in visits.iter().enumerate().rev() {
        next[at] = seen.insert(visit.client, at).unwrap_or(NEVER);
    }
    // The visits that are hits if all that is kept now stays.
    let mut kept = BTreeSet::new();
    let mut hits = 0;
    for (at, visit) in visits.iter().enumerate() {
        hits += usize::from(kept.remove(&at));
        if next[at] != NEVER && visits[next[at]].time - visit.time < trace.lifetime {
            kept.insert(next[at]);
            if kept.len() > entries {
                kept.pop_last();
            }
        }
    }

    let mut made = HashMap::new();
    let mut endless = 0;
    for visit in visits {
        match made.get(&visit.client) {
            Some(made) if visit.time - made < trace.lifetime => endless += 1,
            _ => drop(made.insert(visit.client, visit.time)),
        }
    }
    hits.min(endless)
}

/// The library's own cache.
struct Engine {
    cache: Cache,
    der: [MaybeUninit<u8>; 8],
}

impl Engine {
    fn new(entries: usize) -> Self {
        // As many shards and bytes as the default settings have.
        let limits = Limits {
            entries,
            bytes: entries * 1024,
        };
        Self {
            cache: Cache::new(limits, 256, Arc::new(Stats::default())),
            der: [MaybeUninit::uninit(); 8],
        }
    }

    fn id(key: u64) -> SessionId {
        SessionId::new(&key.to_le_bytes()).expect("a length that is allowed")
    }

    fn now(now: Second) -> Now {
        Now {
            wall: 1_700_000_000 + i64::from(now),
            up: i64::from(now),
        }
    }

    /// Stores a session that was made earlier.
    fn store(&mut self, key: u64, lifetime: Second, made: Second, now: Second) {
        let (made, now) = (Self::now(made).wall, Self::now(now));
        let lifetime = Lifetime::new(made, i64::from(lifetime), now);
        let der = key.to_le_bytes();
        let result = self.cache.insert(&Self::id(key), &der, lifetime, now);
        result.unwrap_or_else(|refused| assert_eq!(refused, Refused::Expired));
    }

    /// Reads a session as a plugin does with GetBuffer.
    fn read(&mut self, key: u64, now: Second) {
        self.cache
            .copy_der(&Self::id(key), || Self::now(now), &mut self.der)
            .expect("a session that has just been stored");
    }
}

impl Policy for Engine {
    fn get(&mut self, key: u64, now: Second) -> bool {
        let id = Self::id(key);
        let lookup = Purpose::Handshake;
        let found = self
            .cache
            .with_der(&id, lookup, || Self::now(now), |_| Some(()));
        if found.is_some() {
            self.cache.used(&id);
        }
        found.is_some()
    }

    fn insert(&mut self, key: u64, lifetime: Second, now: Second) {
        self.store(key, lifetime, now, now);
    }
}

/// The library's own cache beside a plugin that copies each new session to other machines, so it
/// reads each once. The plugin may get its own messages back: each one when `most` newer ones are
/// under way.
struct Replicated {
    engine: Engine,
    under_way: VecDeque<(u64, Second, Second)>,
    most: usize,
}

impl Replicated {
    fn new(entries: usize, most: usize) -> Self {
        Self {
            engine: Engine::new(entries),
            under_way: VecDeque::new(),
            most,
        }
    }
}

impl Policy for Replicated {
    fn get(&mut self, key: u64, now: Second) -> bool {
        self.engine.get(key, now)
    }

    fn insert(&mut self, key: u64, lifetime: Second, now: Second) {
        self.engine.insert(key, lifetime, now);
        self.engine.read(key, now);
        self.under_way.push_back((key, lifetime, now));
        if self.under_way.len() > self.most
            && let Some((key, lifetime, made)) = self.under_way.pop_front()
        {
            self.engine.store(key, lifetime, made, now);
        }
    }
}

/// The oldest leaves. The oldest is also the first to expire.
struct Fifo {
    entries: usize,
    /// The keys in order, with the second at which each expires.
    queue: VecDeque<(u64, Second)>,
}

impl Fifo {
    fn new(entries: usize) -> Self {
        Self {
            entries,
            queue: VecDeque::new(),
        }
    }
}

impl Policy for Fifo {
    fn get(&mut self, key: u64, now: Second) -> bool {
        let at = self.queue.binary_search_by_key(&key, |item| item.0);
        at.is_ok_and(|at| now < self.queue[at].1)
    }

    fn insert(&mut self, key: u64, lifetime: Second, now: Second) {
        if self.queue.len() == self.entries {
            self.queue.pop_front();
        }
        self.queue.push_back((key, now + lifetime));
    }
}

/// ATS's cache: 256 buckets. Each drops its oldest when it has its part of the entries (rounded up,
/// as there). It keeps expired sessions, but the host refuses them.
struct BucketFifo {
    buckets: Vec<Fifo>,
}

impl BucketFifo {
    fn new(entries: usize) -> Self {
        let bucket = || Fifo::new(entries.div_ceil(256));
        Self {
            buckets: (0..256).map(|_| bucket()).collect(),
        }
    }

    fn bucket(&mut self, key: u64) -> &mut Fifo {
        &mut self.buckets[(mix(key) % 256) as usize]
    }
}

impl Policy for BucketFifo {
    fn get(&mut self, key: u64, now: Second) -> bool {
        self.bucket(key).get(key, now)
    }

    fn insert(&mut self, key: u64, lifetime: Second, now: Second) {
        self.bucket(key).insert(key, lifetime, now);
    }
}

/// Session IDs are random: splitmix64.
pub fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Expired sessions leave first, then the one that was not used for the longest time.
struct Lru {
    entries: usize,
    len: usize,
    /// When each session ends, and its last use as a count of uses; 0: not there.
    sessions: Vec<(Second, u64)>,
    uses: u64,
    /// In the order of the last use, including outdated uses.
    by_use: VecDeque<(u64, u64)>,
    /// In the order of arrival, which is that of expiry, including sessions that have left.
    by_end: VecDeque<u64>,
}

impl Lru {
    fn new(entries: usize) -> Self {
        Self {
            entries,
            len: 0,
            sessions: Vec::new(),
            uses: 0,
            by_use: VecDeque::new(),
            by_end: VecDeque::new(),
        }
    }

    fn touch(&mut self, key: u64) {
        self.uses += 1;
        self.sessions[key as usize].1 = self.uses;
        self.by_use.push_back((self.uses, key));
    }

    fn remove(&mut self, key: u64) {
        self.len -= usize::from(std::mem::take(&mut self.sessions[key as usize].1) != 0);
    }
}

impl Policy for Lru {
    fn get(&mut self, key: u64, now: Second) -> bool {
        let (end, used) = self.sessions[key as usize];
        if used == 0 {
            return false;
        }
        if now >= end {
            self.remove(key);
            return false;
        }
        self.touch(key);
        true
    }

    fn insert(&mut self, key: u64, lifetime: Second, now: Second) {
        while let Some(&oldest) = self.by_end.front()
            && self.sessions[oldest as usize].0 <= now
        {
            self.by_end.pop_front();
            self.remove(oldest);
        }
        while self.len >= self.entries {
            let (use_, oldest) = self.by_use.pop_front().expect("there are uses");
            if self.sessions[oldest as usize].1 == use_ {
                self.remove(oldest);
            }
        }
        self.sessions.push((now + lifetime, 0));
        self.touch(key);
        self.by_end.push_back(key);
        self.len += 1;
    }
}

/// The crate quick_cache (a kind of S3-FIFO), unchanged.
struct QuickCache(quick_cache::sync::Cache<u64, Second>);

impl QuickCache {
    fn new(entries: usize) -> Self {
        Self(quick_cache::sync::Cache::new(entries))
    }
}

impl Policy for QuickCache {
    fn get(&mut self, key: u64, now: Second) -> bool {
        match self.0.get(&key) {
            Some(end) if now < end => true,
            Some(_) => {
                self.0.remove(&key);
                false
            }
            None => false,
        }
    }

    fn insert(&mut self, key: u64, lifetime: Second, now: Second) {
        self.0.insert(key, now + lifetime);
    }
}

/// The crate moka (W-TinyLFU), unchanged. Its deferred work is done after every call, so it evicts
/// as well as it can and never holds too much.
struct Moka(moka::sync::Cache<u64, Second>);

impl Moka {
    fn new(entries: usize) -> Self {
        Self(moka::sync::Cache::new(entries as u64))
    }
}

impl Policy for Moka {
    fn get(&mut self, key: u64, now: Second) -> bool {
        let found = self.0.get(&key);
        let over = found.is_some_and(|end| now >= end);
        if over {
            self.0.invalidate(&key);
        }
        self.0.run_pending_tasks();
        found.is_some() && !over
    }

    fn insert(&mut self, key: u64, lifetime: Second, now: Second) {
        self.0.insert(key, now + lifetime);
        self.0.run_pending_tasks();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Visit;

    fn trace(lifetime: Second, visits: &[(u32, u32)]) -> Trace {
        Trace {
            name: "",
            title: "",
            lifetime,
            clients: 0,
            flood: false,
            visits: visits
                .iter()
                .map(|&(time, client)| Visit { time, client })
                .collect(),
        }
    }

    #[test]
    fn every_candidate_keeps_what_fits_until_it_expires() {
        let visits = [(0, 1), (0, 2), (5, 1), (9, 2), (10, 1), (11, 1)];
        for (name, new) in ONLINE {
            let hits = play(&trace(10, &visits), &mut *new(1024));
            assert_eq!(hits, 3, "{name}");
        }
        assert_eq!(optimum(&trace(10, &visits), 1024), 3);
    }

    #[test]
    fn no_candidate_holds_more_than_it_may() {
        for (name, new) in ONLINE {
            let mut policy = new(1024);
            (0..20_000).for_each(|key| policy.insert(key, 10, 0));
            let held = (0..20_000).filter(|&key| policy.get(key, 1)).count();
            assert!((500..=1024).contains(&held), "{name}: {held}");
        }
    }

    #[test]
    fn fifo_and_lru_differ_in_what_a_hit_does() {
        let visits = [(0, 1), (0, 2), (0, 1), (0, 3), (0, 1)];
        let trace = trace(10, &visits);
        assert_eq!(play(&trace, &mut Fifo::new(2)), 1);
        assert_eq!(play(&trace, &mut Lru::new(2)), 2);
    }

    #[test]
    fn lru_gives_up_what_has_expired_first() {
        let mut lru = Lru::new(2);
        lru.insert(0, 10, 0);
        lru.insert(1, 10, 5);
        assert!(lru.get(0, 6));
        lru.insert(2, 10, 10);
        assert!(lru.get(1, 10));
        assert!(!lru.get(0, 10));
    }

    #[test]
    fn the_optimum_knows_who_returns() {
        let visits = [(0, 1), (0, 2), (0, 3), (0, 1), (0, 2), (0, 1)];
        assert_eq!(optimum(&trace(10, &visits), 1), 2);
        assert_eq!(optimum(&trace(10, &visits), 2), 3);
        // Three visits, each close to the next, but the session ends before the last.
        let visits = [(0, 1), (6, 1), (12, 1)];
        assert_eq!(optimum(&trace(10, &visits), 2), 1);
    }
}
