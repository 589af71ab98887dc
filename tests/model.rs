//! The cache against a simple model, with limits from one session up.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use tssession::SessionId;
use tssession::base::clock::Now;
use tssession::cache::lifetime::Lifetime;
use tssession::cache::{Cache, Limits};
use tssession::report::counters::{Counter, Purpose, Stats};
use tssession_cache_model::{IDS, Op, compare, read, session_id};

fn limits() -> impl Strategy<Value = Limits> {
    (1usize..9, 1usize..400).prop_map(|(entries, bytes)| Limits { entries, bytes })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0..IDS, 0usize..120, 0i64..20, -1i64..40)
            .prop_map(|(id, len, age, timeout)| Op::Insert { id, len, age, timeout }),
        4 => (0..IDS).prop_map(Op::Remove),
        6 => (0..IDS).prop_map(Op::Read),
        1 => Just(Op::Clear),
        3 => (0i64..10).prop_map(Op::Wait),
        1 => limits().prop_map(Op::Limits),
        1 => (0u32..30).prop_map(Op::Timeout),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn behaves_like_the_model(
        first_limits in limits(),
        shards in 1usize..9,
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        compare(first_limits, shards, ops);
    }
}

/// Session times are not truncated to 32 bits.
#[test]
fn nothing_is_lost_after_2106() {
    let limits = Limits {
        entries: 8,
        bytes: 400,
    };
    let insert = |id| Op::Insert {
        id,
        len: 10,
        age: 0,
        timeout: 100,
    };
    let ops = [Op::Wait(1 << 32), insert(0), insert(1), Op::Wait(99)];
    let ops = ops
        .into_iter()
        .chain([insert(2), insert(3), Op::Wait(1), insert(4)]);
    compare(limits, 2, ops);
}

/// Many threads that read, replace and remove sessions lose none, and never make two entries with one
/// ID.
#[test]
fn threads_lose_and_double_nothing() {
    for entries in [1, 2, 3, 8] {
        let stats = Arc::new(Stats::default());
        let limits = Limits {
            entries,
            bytes: 300,
        };
        let cache = Cache::new(limits, 4, Arc::clone(&stats));
        let now = Now { wall: 0, up: 0 };
        let lifetime = Lifetime::new(0, 100, now);
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let cache = &cache;
                scope.spawn(move || {
                    for round in 0..5000u32 {
                        let mix = (round * 4 + thread).wrapping_mul(2_654_435_761);
                        let id = (mix >> 8) as u8 % IDS;
                        match mix % 7 {
                            0 => drop(cache.remove(&session_id(id), now)),
                            1 if round % 500 == 0 => cache.clear(),
                            1..=3 => {
                                let der = vec![id; usize::from(id) * 10 + (mix % 100) as usize];
                                assert_eq!(
                                    cache.insert(&session_id(id), &der, lifetime, now),
                                    Ok(())
                                );
                            }
                            _ => {
                                let bytes = read(cache, id, now);
                                assert!(
                                    bytes.is_none_or(|bytes| bytes.iter().all(|byte| *byte == id))
                                );
                            }
                        }
                        assert!(cache.entries() <= entries && cache.bytes() <= 300);
                    }
                });
            }
        });
        let found = (0..IDS)
            .filter_map(|id| read(&cache, id, now))
            .collect::<Vec<_>>();
        assert_eq!(found.len(), cache.entries());
        assert_eq!(found.iter().map(Vec::len).sum::<usize>(), cache.bytes());
        for id in 0..IDS {
            cache.remove(&session_id(id), now);
        }
        assert_eq!((cache.entries(), cache.bytes()), (0, 0));
    }
}

/// No two threads use the same ID, so each knows what it can find: a session that it removed is gone
/// when the call returns, and one that it stored is there unless it was evicted.
#[test]
fn what_was_removed_is_gone_and_what_was_stored_is_there() {
    const THREADS: u8 = 4;
    for entries in [1, 2, 5, 8, 400] {
        let stats = Arc::new(Stats::default());
        let limits = Limits {
            entries,
            bytes: 1 << 20,
        };
        let cache = Cache::new(limits, 4, Arc::clone(&stats));
        let now = Now { wall: 0, up: 0 };
        let lifetime = Lifetime::new(0, 100, now);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (cache, stats) = (&cache, &stats);
                scope.spawn(move || {
                    let id = |n: u8| SessionId::new(&[thread + 1, n]).unwrap();
                    let mut stored: HashMap<u8, Vec<u8>> = HashMap::new();
                    let mut random = u32::from(thread);
                    for round in 0..20_000u32 {
                        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let n = (random >> 20) as u8 % 50;
                        match random >> 29 {
                            0 => {
                                cache.remove(&id(n), now);
                                stored.remove(&n);
                            }
                            1..=3 => {
                                let der = vec![n; 10 + (round % 50) as usize];
                                assert_eq!(cache.insert(&id(n), &der, lifetime, now), Ok(()));
                                stored.insert(n, der);
                            }
                            _ => {}
                        }
                        let found = cache.with_der(
                            &id(n),
                            Purpose::Handshake,
                            || now,
                            |der| Some(der.to_vec()),
                        );
                        match stored.get(&n) {
                            None => assert_eq!(found, None, "after Remove"),
                            Some(der) if found.is_some() => assert_eq!(found.as_ref(), Some(der)),
                            Some(_) => {
                                assert!(stats.get(Counter::Evicted) > 0, "lost");
                                stored.remove(&n);
                            }
                        }
                        assert!(cache.entries() <= entries);
                    }
                });
            }
        });
        let all = usize::from(THREADS) * 50;
        let evicted = stats.get(Counter::Evicted);
        assert_eq!(evicted == 0, entries >= all);
    }
}
