//! Remembers removed sessions for a while: a late copy must not bring one back.

use std::collections::{HashMap, VecDeque};

use crate::seal::SenderId;

type Id = Box<[u8]>;

#[derive(Clone, Copy)]
struct Tombstone {
    sender: SenderId,
    counter: u64,
    sealed_ms: u64,
    until_ms: u64,
}

/// Removed sessions. Their lifetime is measured by the clock of this process (`now_ms`), which nobody
/// can set. Messages are compared by the time at which they were sealed (`sealed_ms`).
///
/// The number is bounded. If there are too many, the oldest is forgotten. Until that one would have
/// ended, a message about a session without a tombstone is refused unless it was sealed after the
/// forgotten removal. Otherwise an attacker could bring a session back by having enough others
/// removed.
pub struct Tombstones {
    by_id: HashMap<Id, Tombstone>,
    /// In the order in which they end.
    order: VecDeque<(u64, Id)>,
    lifetime_ms: u64,
    max: usize,
    /// When the latest tombstone that was forgotten before its end was sealed, and until when that
    /// matters.
    forgotten: Option<(u64, u64)>,
}

impl Tombstones {
    /// Room for `max` tombstones, at least 1, that each live for `lifetime_ms`.
    pub fn new(lifetime_ms: u64, max: usize) -> Self {
        Self {
            by_id: HashMap::new(),
            order: VecDeque::new(),
            lifetime_ms,
            max,
            forgotten: None,
        }
    }

    /// The number of tombstones, including those that have ended.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Notes that a message with this sender, counter and time removed the session.
    pub fn add(&mut self, id: &[u8], sender: SenderId, counter: u64, sealed_ms: u64, now_ms: u64) {
        let until_ms = now_ms.saturating_add(self.lifetime_ms);
        let tombstone = Tombstone {
            sender,
            counter,
            sealed_ms,
            until_ms,
        };
        self.by_id.insert(id.into(), tombstone);
        self.order.push_back((until_ms, id.into()));
        while let Some((until, oldest)) = self.order.front() {
            if *until > now_ms && self.order.len() <= self.max {
                break;
            }
            // It may have been removed again since then.
            if let Some(tombstone) = self.by_id.get(oldest)
                && tombstone.until_ms == *until
            {
                if *until > now_ms {
                    let before = self.forgotten.map_or(0, |(sealed, _)| sealed);
                    self.forgotten = Some((tombstone.sealed_ms.max(before), *until));
                }
                self.by_id.remove(oldest);
            }
            self.order.pop_front();
        }
    }

    /// Whether a message with this sender, counter and time must not bring the session back. Only the
    /// sender of the removal can, with a later message.
    pub fn covers(
        &self,
        id: &[u8],
        sender: SenderId,
        counter: u64,
        sealed_ms: u64,
        now_ms: u64,
    ) -> bool {
        let is_forgotten =
            |(forgotten, until): (u64, u64)| now_ms < until && sealed_ms <= forgotten;
        match self.by_id.get(id) {
            Some(tombstone) if now_ms < tombstone.until_ms => {
                tombstone.sender != sender || counter <= tombstone.counter
            }
            _ => self.forgotten.is_some_and(is_forgotten),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SenderId = [1; 16];
    const B: SenderId = [2; 16];

    /// The time at which messages were sealed, in tests that are not about forgetting.
    const SEALED: u64 = 500_000;

    #[test]
    fn a_late_copy_is_covered_and_a_newer_session_is_not() {
        let mut tombstones = Tombstones::new(100, 10);
        assert!(!tombstones.covers(b"id", A, 1, SEALED, 0));
        tombstones.add(b"id", A, 5, SEALED, 1000);
        assert!(tombstones.covers(b"id", A, 4, SEALED, 1050));
        assert!(!tombstones.covers(b"id", A, 6, SEALED, 1050));
        assert!(tombstones.covers(b"id", B, 6, SEALED, 1050));
        assert!(!tombstones.covers(b"other", B, 6, SEALED, 1050));
        assert!(!tombstones.covers(b"id", B, 6, SEALED, 1100));
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many_or_its_time_is_over() {
        let mut tombstones = Tombstones::new(100, 3);
        for number in 0..5u8 {
            tombstones.add(&[number], A, 1, SEALED + u64::from(number), 1000);
        }
        assert_eq!(tombstones.len(), 3);
        let covers = |tombstones: &Tombstones, id, sealed_ms, now_ms| {
            tombstones.covers(&[id], B, 1, sealed_ms, now_ms)
        };
        // Tombstones 0 and 1 were forgotten; what was not sealed after 1 is refused.
        for id in [0, 1, 77] {
            assert!(covers(&tombstones, id, SEALED + 1, 1000));
            assert!(!covers(&tombstones, id, SEALED + 2, 1000));
        }
        assert!(covers(&tombstones, 2, SEALED + 9, 1000));
        // When its time is over, it no longer matters.
        assert!(!covers(&tombstones, 77, SEALED, 1100));
        tombstones.add(&[9], A, 1, SEALED, 1100);
        assert_eq!(tombstones.len(), 1);
        assert!(!covers(&tombstones, 2, SEALED, 1100));
        // The same one again and again.
        for now in 0..100 {
            tombstones.add(&[9], A, 1, SEALED, 1100 + now);
            assert!(covers(&tombstones, 9, SEALED, 1100 + now));
        }
        assert!(tombstones.order.len() <= 3);
    }
}
