//! Counters, spread over cache lines so that threads do not compete for them.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use tssession_common::metrics;
use tssession_common::metrics::{Metric, Value};

use crate::base::stripe;

/// What is counted. [`METRICS`] describes each.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    Hit,
    MissAbsent,
    MissExpired,
    MissRefused,
    MissContention,
    MissNoMemory,
    OtherIdContext,
    GetFound,
    GetAbsent,
    GetExpired,
    GetContention,
    GetNoMemory,
    Stored,
    Replaced,
    RefusedInvalid,
    RefusedExpired,
    RefusedTooLarge,
    RefusedContention,
    RefusedNoMemory,
    RefusedOff,
    Removed,
    Evicted,
    Expired,
    Cleared,
    Contention,
    TicketCreated,
    TicketVerifiedAge0,
    TicketVerifiedAge1,
    TicketVerifiedAge2,
    TicketVerifiedOlder,
    TicketNotFound,
    TicketRenewed,
    TicketKeysRenewed,
}

use Counter::*;

impl Counter {
    /// The counter for an authentic ticket under the key in this place of the set.
    pub fn ticket_verified(place: Option<usize>) -> Self {
        match place {
            Some(0) => TicketVerifiedAge0,
            Some(1) => TicketVerifiedAge1,
            Some(2) => TicketVerifiedAge2,
            _ => TicketVerifiedOlder,
        }
    }
}

const COUNTERS: usize = TicketKeysRenewed as usize + 1;

/// What a lookup is for. This decides which counters count it. Only a handshake counts as a use of
/// the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client wants to resume the session. A session that is found is counted when the handshake
    /// accepts or refuses it.
    Handshake,
    /// The host or a plugin calls, perhaps to copy the session.
    Call,
}

/// A current number, which the instance reads from the cache and the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// Sessions in the cache.
    Entries,
    /// Bytes of DER in the cache.
    Bytes,
    /// Contexts that are attached.
    Contexts,
    /// Active ticket keys.
    TicketKeys,
    /// Times that ticket keys became active, the random key included.
    TicketKeyGeneration,
}

/// Every metric.
pub const METRICS: &[Metric<Counter, Gauge>] = metrics! {
    "proxy.process.ssl.ssl_session_cache_hit" = Value::Counters(&[Hit]),
        "Handshakes that were given the session they looked up.";
    "proxy.process.ssl.ssl_session_cache_miss" = Value::ByLabel("cause", &[
        ("absent", MissAbsent), ("expired", MissExpired), ("refused", MissRefused),
        ("contention", MissContention), ("no_memory", MissNoMemory)
    ]),
        "Lookups by handshakes that got no session.";
    "tssession.other_id_context" = Value::Counters(&[OtherIdContext]),
        "Sessions, found or in a ticket, that OpenSSL refused for their session ID context.";
    "proxy.process.ssl.ssl_session_cache_new_session" = Value::Counters(&[Stored]),
        "Sessions stored, by calls and handshakes, replacements included.";
    "proxy.process.ssl.ssl_session_cache_eviction" = Value::Counters(&[Evicted]),
        "Sessions evicted to keep the cache within its limits.";
    "proxy.process.ssl.ssl_session_cache_lock_contention" = Value::Counters(&[Contention]),
        "Times that a call or a handshake waited for a lock, or gave up.";
    "tssession.session_cache.get" = Value::ByLabel("result", &[
        ("found", GetFound), ("absent", GetAbsent), ("expired", GetExpired),
        ("contention", GetContention), ("no_memory", GetNoMemory)
    ]),
        "Lookups by calls of TSSslSessionGet and TSSslSessionGetBuffer.";
    "tssession.session_cache.replaced" = Value::Counters(&[Replaced]),
        "Sessions replaced by one with the same ID, newer or the same again.";
    "tssession.session_cache.refused" = Value::ByLabel("cause", &[
        ("invalid", RefusedInvalid), ("expired", RefusedExpired), ("too_large", RefusedTooLarge),
        ("contention", RefusedContention), ("no_memory", RefusedNoMemory), ("off", RefusedOff)
    ]),
        "Sessions that calls and handshakes could not store.";
    "tssession.session_cache.removed" = Value::Counters(&[Removed]),
        "Sessions removed: by a call or an order, after a failed connection, or because they can be used only once.";
    "tssession.session_cache.expired" = Value::Counters(&[Expired]),
        "Sessions discarded because they had expired.";
    "tssession.session_cache.cleared" = Value::Counters(&[Cleared]),
        "Sessions discarded by clearing the cache.";
    "tssession.session_cache.entries" = Value::Gauge(Gauge::Entries),
        "Sessions in the cache.";
    "tssession.session_cache.bytes" = Value::Gauge(Gauge::Bytes),
        "Bytes of DER in the cache.";
    "tssession.contexts" = Value::Gauge(Gauge::Contexts),
        "Contexts (SSL_CTX) that are attached.";
    "proxy.process.ssl.total_tickets_created" = Value::Counters(&[TicketCreated]),
        "Tickets encrypted.";
    "proxy.process.ssl.total_tickets_verified" = Value::ByLabel("key_age", &[
        ("0", TicketVerifiedAge0), ("1", TicketVerifiedAge1), ("2", TicketVerifiedAge2),
        ("older", TicketVerifiedOlder)
    ]),
        "Authentic tickets, by the place of their key in the set: 0 is the one that encrypts.";
    "proxy.process.ssl.total_tickets_verified_old_key" =
        Value::Counters(&[TicketVerifiedAge1, TicketVerifiedAge2, TicketVerifiedOlder]),
        "Authentic tickets under a key other than the one that encrypts.";
    "proxy.process.ssl.total_tickets_not_found" = Value::Counters(&[TicketNotFound]),
        "Tickets under a key that is not in the set.";
    "proxy.process.ssl.total_tickets_renewed" = Value::Counters(&[TicketRenewed]),
        "Accepted tickets that a new one replaces.";
    "proxy.process.ssl.total_ticket_keys_renewed" = Value::Counters(&[TicketKeysRenewed]),
        "Sets of ticket keys made active by a call or a file.";
    "tssession.ticket_keys.count" = Value::Gauge(Gauge::TicketKeys),
        "Active ticket keys.";
    "tssession.ticket_keys.generation" = Value::Gauge(Gauge::TicketKeyGeneration),
        "Times that ticket keys became active, the random key at the start included.";
};

/// All counters of a cache and its key ring.
pub struct Stats {
    stripes: Box<[CachePadded<[AtomicU64; COUNTERS]>; stripe::COUNT]>,
}

impl Default for Stats {
    fn default() -> Self {
        // Not made on the stack, which may be small.
        let stripes: Box<[_]> = (0..stripe::COUNT)
            .map(|_| CachePadded::new([const { AtomicU64::new(0) }; COUNTERS]))
            .collect();
        match stripes.try_into() {
            Ok(stripes) => Self { stripes },
            Err(_) => unreachable!("there are as many"),
        }
    }
}

impl Stats {
    /// Counts one.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts several.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        let stripe = stripe::mine();
        let counter = &self.stripes[stripe.number()][counter as usize];
        if stripe.is_single() {
            // No other thread writes it, so nothing gets lost, and a locked instruction is not
            // needed.
            let sum = counter.load(Ordering::Relaxed).wrapping_add(n);
            counter.store(sum, Ordering::Relaxed);
        } else {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The sum over all threads. While other threads count, the result is between the value before
    /// and the value after.
    pub fn get(&self, counter: Counter) -> u64 {
        self.stripes
            .iter()
            .map(|stripe| stripe[counter as usize].load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_counter_is_told_and_each_metric_once() {
        let mut told = HashSet::new();
        for metric in METRICS {
            match metric.value {
                Value::Counters(counters) => told.extend(counters.iter().map(|c| *c as usize)),
                Value::ByLabel(_, parts) => told.extend(parts.iter().map(|part| part.1 as usize)),
                Value::Gauge(_) => {}
            }
        }
        assert_eq!(told.len(), COUNTERS);
        let names: HashSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        let mut helps = METRICS.iter().map(|metric| metric.help);
        assert!(helps.all(|help| !help.contains(['\n', '\\']) && help.ends_with('.')));
        let ages = [Some(0), Some(1), Some(2), Some(3), None].map(Counter::ticket_verified);
        let older = TicketVerifiedOlder;
        let expected = [
            TicketVerifiedAge0,
            TicketVerifiedAge1,
            TicketVerifiedAge2,
            older,
            older,
        ];
        assert_eq!(ages, expected);
    }

    #[test]
    fn the_documentation_has_every_metric_with_its_parts() {
        let rows: Vec<Vec<&str>> = include_str!("../../docs/guide/counters.md")
            .lines()
            .filter(|line| line.starts_with("| `proxy.") || line.starts_with("| `tssession."))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        assert_eq!(rows.len(), METRICS.len());
        for (metric, row) in METRICS.iter().zip(rows) {
            let parts = match metric.value {
                Value::ByLabel(label, parts) => {
                    let parts: Vec<_> = parts.iter().map(|(part, _)| format!("`{part}`")).collect();
                    format!("`{label}`: {}", parts.join(", "))
                }
                _ => String::new(),
            };
            assert_eq!(row[1..3], [&format!("`{}`", metric.name), &parts]);
        }
    }

    #[test]
    fn threads_add_up() {
        let stats = Stats::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| stats.count(Hit)));
            }
        });
        assert_eq!(stats.get(Hit), 8000);
        assert_eq!(stats.get(Stored), 0);
    }
}
