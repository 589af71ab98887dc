//! A simple model of the cache, and the comparison with the cache itself, for `tests/model.rs` and the
//! fuzz target `model`.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::sync::Arc;

use tssession::SessionId;
use tssession::base::clock::Now;
use tssession::cache::lifetime::Lifetime;
use tssession::cache::{Cache, Limits, Refused};
use tssession::report::counters::{Counter, Purpose, Stats};

pub const IDS: u8 = 12;

#[derive(Clone, Debug)]
pub enum Op {
    Insert {
        id: u8,
        len: usize,
        age: i64,
        timeout: i64,
    },
    Remove(u8),
    Read(u8),
    Clear,
    Wait(i64),
    Limits(Limits),
    Timeout(u32),
}

pub fn session_id(id: u8) -> SessionId {
    // IDs of different lengths: each is a prefix of the longer ones.
    SessionId::new(&vec![7; usize::from(id) + 1]).unwrap()
}

fn der(id: u8, len: usize, round: usize) -> Vec<u8> {
    (0..len).map(|at| id ^ (at + round * 31) as u8).collect()
}

pub fn read(cache: &Cache, id: u8, now: Now) -> Option<Vec<u8>> {
    cache.with_der(
        &session_id(id),
        Purpose::Call,
        || now,
        |der| Some(der.to_vec()),
    )
}

/// A cache, and what it can contain: everything that was stored and not removed since.
struct Model {
    cache: Cache,
    stats: Arc<Stats>,
    entries: HashMap<u8, (Vec<u8>, Lifetime)>,
    limits: Limits,
    timeout: u32,
    now: Now,
}

/// What the cache was allowed to evict.
#[derive(Default)]
struct Allowed {
    /// Whether room was needed.
    any: bool,
    /// Whether the entry that is replaced may have been evicted to make room for its replacement.
    itself: bool,
}

/// Does the same with a cache and with the model. Panics if they differ.
pub fn compare(limits: Limits, shards: usize, ops: impl IntoIterator<Item = Op>) {
    let stats = Arc::new(Stats::default());
    let mut model = Model {
        cache: Cache::new(limits, shards, Arc::clone(&stats)),
        stats,
        entries: HashMap::new(),
        limits,
        timeout: 0,
        now: Now {
            wall: 1_700_000_000,
            up: 1000,
        },
    };
    for (round, op) in ops.into_iter().enumerate() {
        let evicted_before = model.stats.get(Counter::Evicted);
        let allowed = model.apply(op, round);
        model.check_bounds();
        let lost = model.check_entries();
        let evicted = model.stats.get(Counter::Evicted) - evicted_before;
        assert!(allowed.any || evicted == 0);
        assert!(lost == evicted || allowed.itself && lost + 1 == evicted);
    }
}

impl Model {
    fn is_alive(&self, id: u8) -> bool {
        self.entries
            .get(&id)
            .is_some_and(|(_, lifetime)| !lifetime.is_over(self.now, self.timeout))
    }

    fn read(&self, id: u8) -> Option<Vec<u8>> {
        read(&self.cache, id, self.now)
    }

    fn apply(&mut self, op: Op, round: usize) -> Allowed {
        match op {
            Op::Insert {
                id,
                len,
                age,
                timeout,
            } => {
                let lifetime = Lifetime::new(self.now.wall - age, timeout, self.now);
                return self.insert(id, der(id, len, round), lifetime);
            }
            Op::Remove(id) => {
                let removed = self.cache.remove(&session_id(id), self.now);
                assert!(!removed || self.is_alive(id));
                self.entries.remove(&id);
                assert_eq!(self.read(id), None);
            }
            Op::Read(id) => {
                let mut buffer = [MaybeUninit::uninit(); 10];
                let cache = &self.cache;
                let len = cache.copy_der(&session_id(id), || self.now, &mut buffer);
                if let Some(len) = len {
                    assert_eq!(len, self.entries[&id].0.len());
                    cache.used(&session_id(id));
                }
            }
            Op::Clear => {
                self.cache.clear();
                self.entries.clear();
                assert_eq!((self.cache.entries(), self.cache.bytes()), (0, 0));
            }
            Op::Wait(seconds) => {
                self.now.wall += seconds;
                self.now.up += seconds;
            }
            Op::Limits(limits) => {
                self.cache.set_limits(limits, self.now);
                self.limits = limits;
                return Allowed {
                    any: true,
                    itself: false,
                };
            }
            Op::Timeout(seconds) => {
                self.cache.set_timeout(seconds);
                self.timeout = seconds;
            }
        }
        Allowed::default()
    }

    fn insert(&mut self, id: u8, der: Vec<u8>, lifetime: Lifetime) -> Allowed {
        let result = self.cache.insert(&session_id(id), &der, lifetime, self.now);
        if lifetime.is_over(self.now, self.timeout) {
            assert_eq!(result, Err(Refused::Expired));
            return Allowed::default();
        }
        if der.len() > self.limits.bytes {
            assert_eq!(result, Err(Refused::TooLarge));
            return Allowed::default();
        }
        assert_eq!(result, Ok(()));
        // A stored session is there at once, whatever was evicted for it.
        assert_eq!(self.read(id).as_ref(), Some(&der));
        let replaced = self.entries.insert(id, (der, lifetime));
        let total: usize = self.entries.values().map(|(der, _)| der.len()).sum();
        Allowed {
            any: self.entries.len() > self.limits.entries || total > self.limits.bytes,
            itself: replaced.is_some(),
        }
    }

    /// Checks that the limits hold and the counters add up.
    fn check_bounds(&self) {
        assert!(self.cache.entries() <= self.limits.entries);
        assert!(self.cache.bytes() <= self.limits.bytes);
        let gone = [
            Counter::Replaced,
            Counter::Removed,
            Counter::Evicted,
            Counter::Expired,
            Counter::Cleared,
        ];
        let gone: u64 = gone
            .into_iter()
            .map(|counter| self.stats.get(counter))
            .sum();
        let stored = self.stats.get(Counter::Stored);
        assert_eq!(stored - gone, self.cache.entries() as u64);
    }

    /// Checks that the cache returns only what was stored, unchanged and not expired. Returns how many
    /// entries are gone, and removes them from the model.
    fn check_entries(&mut self) -> u64 {
        let mut lost = 0;
        for id in 0..IDS {
            match self.read(id) {
                Some(bytes) => {
                    assert!(self.is_alive(id));
                    assert_eq!(bytes, self.entries[&id].0);
                }
                None if self.is_alive(id) => {
                    lost += 1;
                    self.entries.remove(&id);
                }
                None => {}
            }
        }
        self.entries
            .retain(|_, (_, lifetime)| !lifetime.is_over(self.now, self.timeout));
        assert!(self.entries.len() <= self.cache.entries());
        lost
    }
}
