//! Counters, spread over cache lines so that threads do not fight for them.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::stripe;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Lookups that found a session.
    Hit,
    /// Lookups that found none, for whatever reason.
    Miss,
    /// Sessions stored, replacements included.
    Stored,
    /// Sessions that a newer one with the same ID took the place of.
    Replaced,
    /// Sessions that could not be stored.
    Refused,
    /// Sessions removed by a call or after a failed connection.
    Removed,
    /// Sessions pushed out to keep the bounds.
    Evicted,
    /// Sessions dropped because their time was over.
    Expired,
    /// Sessions dropped by clearing the cache.
    Cleared,
    /// Times a lock was not free at the first try.
    Contention,
    /// Tickets encrypted.
    TicketCreated,
    /// Tickets decrypted, with whichever key.
    TicketVerified,
    /// Of those, with another key than the first.
    TicketVerifiedOldKey,
    /// Tickets under a key that is not in the ring.
    TicketNotFound,
    /// Tickets that were replaced by a fresh one.
    TicketRenewed,
    /// Key sets put in force.
    TicketKeysRenewed,
}

/// The counters by the names of ATS metrics, and by our own where ATS has none.
const NAMES: [(&str, Counter); 16] = [
    ("proxy.process.ssl.ssl_session_cache_hit", Counter::Hit),
    ("proxy.process.ssl.ssl_session_cache_miss", Counter::Miss),
    (
        "proxy.process.ssl.ssl_session_cache_new_session",
        Counter::Stored,
    ),
    (
        "proxy.process.ssl.ssl_session_cache_eviction",
        Counter::Evicted,
    ),
    (
        "proxy.process.ssl.ssl_session_cache_lock_contention",
        Counter::Contention,
    ),
    (
        "proxy.process.ssl.total_tickets_created",
        Counter::TicketCreated,
    ),
    (
        "proxy.process.ssl.total_tickets_verified",
        Counter::TicketVerified,
    ),
    (
        "proxy.process.ssl.total_tickets_verified_old_key",
        Counter::TicketVerifiedOldKey,
    ),
    (
        "proxy.process.ssl.total_tickets_not_found",
        Counter::TicketNotFound,
    ),
    (
        "proxy.process.ssl.total_tickets_renewed",
        Counter::TicketRenewed,
    ),
    (
        "proxy.process.ssl.total_ticket_keys_renewed",
        Counter::TicketKeysRenewed,
    ),
    ("tssession.session_cache.replaced", Counter::Replaced),
    ("tssession.session_cache.refused", Counter::Refused),
    ("tssession.session_cache.removed", Counter::Removed),
    ("tssession.session_cache.expired", Counter::Expired),
    ("tssession.session_cache.cleared", Counter::Cleared),
];

impl Counter {
    /// The counter of this metric name.
    pub fn by_name(name: &str) -> Option<Self> {
        let (_, counter) = NAMES.iter().find(|(known, _)| *known == name)?;
        Some(*counter)
    }
}

const COUNTERS: usize = Counter::TicketKeysRenewed as usize + 1;

/// All counters of a cache and its key ring.
pub struct Stats {
    stripes: Box<[CachePadded<[AtomicU64; COUNTERS]>]>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            stripes: (0..stripe::COUNT)
                .map(|_| CachePadded::new([const { AtomicU64::new(0) }; COUNTERS]))
                .collect(),
        }
    }
}

impl Stats {
    /// Counts one.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts several.
    pub fn add(&self, counter: Counter, n: u64) {
        self.stripes[stripe::mine()][counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// The sum over all threads. Reading while others count gives a value
    /// between the one before and the one after.
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

    #[test]
    fn every_counter_has_one_name() {
        for counter in 0..COUNTERS {
            let names = NAMES.iter().filter(|(_, named)| *named as usize == counter);
            assert_eq!(names.count(), 1, "counter {counter}");
        }
    }

    #[test]
    fn threads_add_up() {
        let stats = Stats::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| stats.count(Counter::Hit)));
            }
        });
        assert_eq!(stats.get(Counter::Hit), 8000);
        assert_eq!(stats.get(Counter::Miss), 0);
    }
}
