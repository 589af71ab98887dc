//! What the farm counts, and how it is reported.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicI64, Ordering};

use tssession_common::metrics::{Metric, Numbers, Value};

use crate::seal::Refusal;

/// What is counted. `METRICS` says of each what it is.
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

const METRICS: [Metric<Counter, Counter>; 18] = [
    Metric {
        name: "plugin.tssession_farm.published",
        value: Value::Counters(&[Published]),
        help: "Messages written to Redis, sessions and removals.",
    },
    Metric {
        name: "plugin.tssession_farm.published_bytes",
        value: Value::Counters(&[PublishedBytes]),
        help: "Bytes of the messages written to Redis.",
    },
    Metric {
        name: "plugin.tssession_farm.received",
        value: Value::Counters(&[Received]),
        help: "Messages read from Redis, those of this member too.",
    },
    Metric {
        name: "plugin.tssession_farm.own",
        value: Value::Counters(&[Own]),
        help: "Messages of this member, read back and left alone.",
    },
    Metric {
        name: "plugin.tssession_farm.inserted",
        value: Value::Counters(&[Inserted]),
        help: "Sessions of other members that were inserted.",
    },
    Metric {
        name: "plugin.tssession_farm.removed",
        value: Value::Counters(&[Removed]),
        help: "Sessions that were removed because another member said so.",
    },
    Metric {
        name: "plugin.tssession_farm.refused",
        value: Value::ByLabel(
            "cause",
            &[
                ("garbage", RefusedGarbage),
                ("unknown_secret", RefusedUnknownSecret),
                ("forged", RefusedForged),
                ("stale", RefusedStale),
                ("replayed", RefusedReplayed),
                ("tombstone", RefusedTombstone),
                ("not_a_session", RefusedNotASession),
                ("early_data", RefusedEarlyData),
            ],
        ),
        help: "Messages from Redis that were refused.",
    },
    Metric {
        name: "plugin.tssession_farm.dropped",
        value: Value::Counters(&[Dropped]),
        help: "Events that fell out of a full queue, and were not published.",
    },
    Metric {
        name: "plugin.tssession_farm.missing",
        value: Value::Counters(&[Missing]),
        help: "Sessions that were gone before they could be published.",
    },
    Metric {
        name: "plugin.tssession_farm.tombstones",
        value: Value::Gauge(Tombstones),
        help: "Removals that are remembered.",
    },
    Metric {
        name: "plugin.tssession_farm.lag_ms",
        value: Value::Gauge(LagMs),
        help: "Age of the last message of another member when it was applied, in milliseconds.",
    },
    Metric {
        name: "plugin.tssession_farm.redis_up",
        value: Value::Gauge(RedisUp),
        help: "1 if Redis answers.",
    },
    Metric {
        name: "plugin.tssession_farm.clock_ahead_ms",
        value: Value::Gauge(ClockAheadMs),
        help: "How far Redis's clock is ahead of this machine's, in milliseconds.",
    },
    Metric {
        name: "plugin.tssession_farm.reconnects",
        value: Value::Counters(&[Reconnects]),
        help: "Times a connection to Redis was made again.",
    },
    Metric {
        name: "plugin.tssession_farm.redis_errors",
        value: Value::Counters(&[RedisErrors]),
        help: "Commands that Redis answered with an error, or not at all.",
    },
    Metric {
        name: "plugin.tssession_farm.key_set_age_ms",
        value: Value::Gauge(KeySetAgeMs),
        help: "How long ago the latest ticket keys that are known were sealed, in milliseconds.",
    },
    Metric {
        name: "plugin.tssession_farm.key_generation",
        value: Value::Gauge(KeyGeneration),
        help: "Times that other ticket keys became active.",
    },
    Metric {
        name: "plugin.tssession_farm.leader",
        value: Value::Gauge(Leader),
        help: "1 if this member makes the ticket keys.",
    },
];

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

    /// What has been counted, or was set.
    pub fn value(&self, counter: Counter) -> i64 {
        self.values[counter as usize].load(Ordering::Relaxed)
    }

    /// Each number under its name, `plugin.tssession_farm.published` for example; what is
    /// counted by cause as a whole and as `NAME.CAUSE`. Always in the same order.
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

    const METRICS: &'static [Metric<Counter, Counter>] = &METRICS;

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
        for metric in &METRICS {
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
