//! Calls the cache in any order, and compares it with the model in `test-support/cache-model/`.
//!
//! SPDX-License-Identifier: Apache-2.0
#![no_main]

use libfuzzer_sys::fuzz_target;
use tssession::cache::Limits;
use tssession_cache_model::{IDS, Op, compare};
use tssession_fuzz::Input;

fn limits(input: &mut Input<'_>) -> Limits {
    Limits {
        entries: 1 + usize::from(input.byte() % 16),
        bytes: 1 + usize::from(input.byte()) * 2,
    }
}

fn op(input: &mut Input<'_>) -> Op {
    // The low bits select the operation, the high ones the ID.
    let byte = input.byte();
    let id = (byte >> 4) % IDS;
    match byte & 15 {
        0..=5 => Op::Insert {
            id,
            len: input.byte().into(),
            age: seconds(input),
            timeout: seconds(input) - 1,
        },
        6 | 7 => Op::Remove(id),
        8..=10 => Op::Read(id),
        11 => Op::Clear,
        12 | 13 => Op::Wait(seconds(input)),
        14 => Op::Limits(limits(input)),
        _ => Op::Timeout(seconds(input) as u32),
    }
}

/// Returns 0 seconds to 68 years, mostly few seconds.
fn seconds(input: &mut Input<'_>) -> i64 {
    let byte = i64::from(input.byte());
    match byte {
        0..=127 => byte,
        _ => (byte & 3) + (1 << (byte >> 2 & 31)),
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (limits, shards) = (limits(&mut input), 1 + usize::from(input.byte() % 16));
    let ops = std::iter::from_fn(|| (!input.is_empty()).then(|| op(&mut input)));
    compare(limits, shards, ops);
});
