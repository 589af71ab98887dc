//! What was removed, for a while: a late copy of it must not come back.

use std::collections::{HashMap, VecDeque};

use crate::seal::SenderId;

type Id = Box<[u8]>;

#[derive(Clone, Copy)]
struct Tombstone {
    sender: SenderId,
    counter: u64,
    until_ms: u64,
}

/// Removed sessions. Bounded: when there are too many, the oldest is forgotten.
pub struct Tombstones {
    by_id: HashMap<Id, Tombstone>,
    /// In the order in which their times end.
    order: VecDeque<(u64, Id)>,
    lifetime_ms: u64,
    max: usize,
}

impl Tombstones {
    /// Tombstones that live so long, at most so many.
    pub fn new(lifetime_ms: u64, max: usize) -> Self {
        Self {
            by_id: HashMap::new(),
            order: VecDeque::new(),
            lifetime_ms,
            max: max.max(1),
        }
    }

    /// How many there are, those that are over included.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// A message of this sender, with this counter, has removed the session.
    pub fn add(&mut self, id: &[u8], sender: SenderId, counter: u64, now_ms: u64) {
        let until_ms = now_ms.saturating_add(self.lifetime_ms);
        let tombstone = Tombstone {
            sender,
            counter,
            until_ms,
        };
        self.by_id.insert(id.into(), tombstone);
        self.order.push_back((until_ms, id.into()));
        while let Some((until, oldest)) = self.order.front() {
            if *until > now_ms && self.order.len() <= self.max {
                break;
            }
            // It may have been removed again since then.
            if self
                .by_id
                .get(oldest)
                .is_some_and(|other| other.until_ms == *until)
            {
                self.by_id.remove(oldest);
            }
            self.order.pop_front();
        }
    }

    /// Whether a message of this sender, with this counter, must not bring the session back:
    /// unless it was sent after the removal by the one who removed it.
    pub fn covers(&self, id: &[u8], sender: SenderId, counter: u64, now_ms: u64) -> bool {
        self.by_id.get(id).is_some_and(|tombstone| {
            let is_later = tombstone.sender == sender && counter > tombstone.counter;
            now_ms < tombstone.until_ms && !is_later
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SenderId = [1; 16];
    const B: SenderId = [2; 16];

    #[test]
    fn a_late_copy_is_covered_and_a_newer_session_is_not() {
        let mut tombstones = Tombstones::new(100, 10);
        assert!(!tombstones.covers(b"id", A, 1, 0));
        tombstones.add(b"id", A, 5, 1000);
        assert!(tombstones.covers(b"id", A, 4, 1050));
        assert!(!tombstones.covers(b"id", A, 6, 1050));
        assert!(tombstones.covers(b"id", B, 6, 1050));
        assert!(!tombstones.covers(b"other", B, 6, 1050));
        assert!(!tombstones.covers(b"id", B, 6, 1100));
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many_or_its_time_is_over() {
        let mut tombstones = Tombstones::new(100, 3);
        for number in 0..5u8 {
            tombstones.add(&[number], A, 1, 1000);
        }
        assert_eq!(tombstones.len(), 3);
        assert!(!tombstones.covers(&[1], B, 1, 1000) && tombstones.covers(&[2], B, 1, 1000));
        tombstones.add(&[9], A, 1, 1100);
        assert_eq!(tombstones.len(), 1);
        // The same one again and again.
        for now in 0..100 {
            tombstones.add(&[9], A, 1, 1100 + now);
            assert!(tombstones.covers(&[9], B, 1, 1100 + now));
        }
        assert!(tombstones.order.len() <= 3);
    }
}
