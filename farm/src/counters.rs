//! The farm's counters, and how they are reported.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicI64, Ordering};

use tssession_common::metrics;
use tssession_common::metrics::{Metric, Numbers, Value};

use crate::seal::Refusal;

/// What is counted. `METRICS` describes each.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    Published,
    PublishedBytes,
    Received,
    Own,
    Inserted,
    Removed,
    Dropped,
    Missing,
    RefusedGarbage,
    RefusedUnknownSecret,
    RefusedForged,
    RefusedStale,
    RefusedReplayed,
    RefusedTombstone,
    RefusedNotASession,
    RefusedEarlyData,
    ClockAheadMs,
    Reconnects,
    RedisErrors,
    Tombstones,
    LagMs,
    RedisUp,
    KeySetAgeMs,
    KeyGeneration,
    Leader,
}

impl From<Refusal> for Counter {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Own => Own,
            Refusal::Garbage => RefusedGarbage,
            Refusal::UnknownSecret => RefusedUnknownSecret,
            Refusal::Forged => RefusedForged,
            Refusal::Stale => RefusedStale,
            Refusal::Replayed => RefusedReplayed,
        }
    }
}

use Counter::*;

const COUNTERS: usize = Leader as usize + 1;

const METRICS: &[Metric<Counter, Counter>] = metrics! {
    "plugin.tssession_farm.published" = Value::Counters(&[Published]),
        "Messages written to Redis: sessions and removals.";
    "plugin.tssession_farm.published_bytes" = Value::Counters(&[PublishedBytes]),
        "Bytes of the messages written to Redis.";
    "plugin.tssession_farm.received" = Value::Counters(&[Received]),
        "Messages read from Redis, including those of this member.";
    "plugin.tssession_farm.own" = Value::Counters(&[Own]),
        "Messages of this member, read back and ignored.";
    "plugin.tssession_farm.inserted" = Value::Counters(&[Inserted]),
        "Sessions of other members that were inserted.";
    "plugin.tssession_farm.removed" = Value::Counters(&[Removed]),
        "Sessions removed because another member removed them.";
    "plugin.tssession_farm.refused" = Value::ByLabel("cause", &[
        ("garbage", RefusedGarbage), ("unknown_secret", RefusedUnknownSecret),
        ("forged", RefusedForged), ("stale", RefusedStale), ("replayed", RefusedReplayed),
        ("tombstone", RefusedTombstone), ("not_a_session", RefusedNotASession),
        ("early_data", RefusedEarlyData)
    ]),
        "Messages from Redis that were refused.";
    "plugin.tssession_farm.dropped" = Value::Counters(&[Dropped]),
        "Events and messages that were not published: a queue was full, or Redis refused them.";
    "plugin.tssession_farm.missing" = Value::Counters(&[Missing]),
        "Sessions that were not found in the cache when they were to be published.";
    "plugin.tssession_farm.tombstones" = Value::Gauge(Tombstones),
        "Removals that are remembered.";
    "plugin.tssession_farm.lag_ms" = Value::Gauge(LagMs),
        "Age of the last message of another member when it was applied, in milliseconds.";
    "plugin.tssession_farm.redis_up" = Value::Gauge(RedisUp),
        "1 if Redis answers on all connections of this member.";
    "plugin.tssession_farm.clock_ahead_ms" = Value::Gauge(ClockAheadMs),
        "How far Redis's clock is ahead of this machine's, in milliseconds; negative if behind.";
    "plugin.tssession_farm.reconnects" = Value::Counters(&[Reconnects]),
        "Times that Redis answered again on all connections after a failure.";
    "plugin.tssession_farm.redis_errors" = Value::Counters(&[RedisErrors]),
        "Commands that Redis answered with an error, or not at all.";
    "plugin.tssession_farm.key_set_age_ms" = Value::Gauge(KeySetAgeMs),
        "Age of the latest key set that this member knows, in milliseconds.";
    "plugin.tssession_farm.key_generation" = Value::Gauge(KeyGeneration),
        "Times that other ticket keys became active.";
    "plugin.tssession_farm.leader" = Value::Gauge(Leader),
        "1 if this member makes the ticket keys.";
};

/// All numbers of a farm's member.
pub struct Counters {
    values: [AtomicI64; COUNTERS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            values: [const { AtomicI64::new(0) }; COUNTERS],
        }
    }
}

impl Counters {
    /// Counts one.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts several.
    pub fn add(&self, counter: Counter, n: i64) {
        self.values[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: Counter, value: i64) {
        self.values[gauge as usize].store(value, Ordering::Relaxed);
    }

    /// The value of a counter or gauge.
    pub fn value(&self, counter: Counter) -> i64 {
        self.values[counter as usize].load(Ordering::Relaxed)
    }

    /// Each number under its name, for example `plugin.tssession_farm.published`. A counter that is
    /// divided by cause comes as a whole and as `NAME.CAUSE`. Always in the same order.
    pub fn each(&self) -> impl ExactSizeIterator<Item = (String, i64)> {
        let mut all = Vec::new();
        self.each_stat(|name, cause, value| {
            let name = match cause {
                Some(cause) => format!("{name}.{cause}"),
                None => name.to_owned(),
            };
            all.push((name, value));
        });
        all.into_iter()
    }
}

impl Numbers for Counters {
    type Counter = Counter;
    type Gauge = Counter;
    type Number = i64;

    const METRICS: &'static [Metric<Counter, Counter>] = METRICS;

    fn counter(&self, counter: Counter) -> i64 {
        self.value(counter)
    }

    fn gauge(&self, gauge: Counter) -> i64 {
        self.value(gauge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_counter_is_reported_once() {
        let mut told = Vec::new();
        for metric in METRICS {
            match metric.value {
                Value::Counters(counters) => told.extend(counters.iter().map(|c| *c as usize)),
                Value::Gauge(gauge) => told.push(gauge as usize),
                Value::ByLabel(_, parts) => told.extend(parts.iter().map(|part| part.1 as usize)),
            }
        }
        assert_eq!(told.len(), COUNTERS);
        assert_eq!(told.iter().collect::<HashSet<_>>().len(), COUNTERS);
        let counters = Counters::default();
        let names: HashSet<_> = counters.each().map(|(name, _)| name).collect();
        assert_eq!(names.len(), COUNTERS + 1);
        assert!(names.contains("plugin.tssession_farm.refused.forged"));
    }
}
