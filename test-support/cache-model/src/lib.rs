//! A simple model of the cache, and the cache beside it: for the tests in `tests/model.rs`, and for
//! the fuzz target `model`.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::sync::Arc;

use tssession::cache::{Cache, Limits, Refused};
use tssession::entry::{Lifetime, Now};
use tssession::id::SessionId;
use tssession::stats::{Counter, Stats};

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

/// What the cache may hold: everything that was stored and not taken out since.
struct Model {
    entries: HashMap<u8, (Vec<u8>, Lifetime)>,
    limits: Limits,
    timeout: u32,
    now: Now,
}

impl Model {
    fn is_alive(&self, id: u8) -> bool {
        self.entries
            .get(&id)
            .is_some_and(|(_, lifetime)| !lifetime.is_over(self.now, self.timeout))
    }
}

pub fn session_id(id: u8) -> SessionId {
    // Of different lengths, and one a prefix of the other.
    SessionId::new(&vec![7; usize::from(id) + 1]).unwrap()
}

fn der(id: u8, len: usize, round: usize) -> Vec<u8> {
    (0..len).map(|at| id ^ (at + round * 31) as u8).collect()
}

pub fn read(cache: &Cache, id: u8, now: Now) -> Option<Vec<u8>> {
    cache.with_der(&session_id(id), || now, <[u8]>::to_vec)
}

/// Does the same with a cache and with the model; panics where they differ.
pub fn compare(first_limits: Limits, shards: usize, ops: impl IntoIterator<Item = Op>) {
    let stats = Arc::new(Stats::default());
    let cache = Cache::new(first_limits, shards, Arc::clone(&stats));
    let mut model = Model {
        entries: HashMap::new(),
        limits: first_limits,
        timeout: 0,
        now: Now {
            wall: 1_700_000_000,
            up: 1000,
        },
    };

    for (round, op) in ops.into_iter().enumerate() {
        let evicted = stats.get(Counter::Evicted);
        let mut room_needed = false;
        let mut may_evict_itself = false;
        match op {
            Op::Insert {
                id,
                len,
                age,
                timeout,
            } => {
                let bytes = der(id, len, round);
                let lifetime = Lifetime::new(model.now.wall - age, timeout, model.now);
                let result = cache.insert(&session_id(id), &bytes, lifetime, model.now);
                if lifetime.is_over(model.now, model.timeout) {
                    assert_eq!(result, Err(Refused::Expired));
                } else if len > model.limits.bytes {
                    assert_eq!(result, Err(Refused::TooLarge));
                } else {
                    assert_eq!(result, Ok(()));
                    // Room for a replacement may be made by evicting what it replaces.
                    may_evict_itself = model
                        .entries
                        .insert(id, (bytes.clone(), lifetime))
                        .is_some();
                    // What was stored is there at once, whatever had to go for it.
                    assert_eq!(read(&cache, id, model.now), Some(bytes));
                    let total: usize = model.entries.values().map(|(der, _)| der.len()).sum();
                    room_needed =
                        model.entries.len() > model.limits.entries || total > model.limits.bytes;
                }
            }
            Op::Remove(id) => {
                let removed = cache.remove(&session_id(id), model.now);
                assert!(!removed || model.is_alive(id));
                model.entries.remove(&id);
                assert_eq!(read(&cache, id, model.now), None);
            }
            Op::Read(id) => {
                let mut buffer = [MaybeUninit::uninit(); 10];
                let len = cache.copy_der(&session_id(id), || model.now, &mut buffer);
                if let Some(len) = len {
                    assert_eq!(len, model.entries[&id].0.len());
                }
            }
            Op::Clear => {
                cache.clear();
                model.entries.clear();
                assert_eq!((cache.entries(), cache.bytes()), (0, 0));
            }
            Op::Wait(seconds) => {
                model.now.wall += seconds;
                model.now.up += seconds;
            }
            Op::Limits(limits) => {
                cache.set_limits(limits, model.now);
                model.limits = limits;
                room_needed = true;
            }
            Op::Timeout(seconds) => {
                cache.set_timeout(seconds);
                model.timeout = seconds;
            }
        }

        // The bounds hold, and the numbers add up.
        assert!(cache.entries() <= model.limits.entries);
        assert!(cache.bytes() <= model.limits.bytes);
        let gone = [
            Counter::Replaced,
            Counter::Removed,
            Counter::Evicted,
            Counter::Expired,
            Counter::Cleared,
        ];
        let gone: u64 = gone.into_iter().map(|counter| stats.get(counter)).sum();
        assert_eq!(stats.get(Counter::Stored) - gone, cache.entries() as u64);

        // Nothing comes out that did not go in, nothing expired, nothing altered;
        // and what is gone was evicted, of which there was need.
        let mut lost = 0;
        for id in 0..IDS {
            match read(&cache, id, model.now) {
                Some(bytes) => {
                    assert!(model.is_alive(id));
                    assert_eq!(&bytes, &model.entries[&id].0);
                }
                None if model.is_alive(id) => {
                    lost += 1;
                    model.entries.remove(&id);
                }
                None => {}
            }
        }
        let evicted = stats.get(Counter::Evicted) - evicted;
        assert!(lost == evicted || may_evict_itself && lost + 1 == evicted);
        assert!(room_needed || evicted == 0);
        let alive = (0..IDS).filter(|id| model.is_alive(*id)).count();
        assert!(alive <= cache.entries());
        model
            .entries
            .retain(|_, (_, lifetime)| !lifetime.is_over(model.now, model.timeout));
    }
}
