//! The queue from handshakes to the publisher. It is bounded: when it is full, the oldest item is
//! dropped.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use crate::host::events::Event;

/// An event, 34 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// What happened.
    pub event: Event,
    id: [u8; 32],
    len: u8,
}

impl Item {
    /// `None` if this is not a session ID: it has 1 to 32 bytes.
    pub fn new(event: Event, id: &[u8]) -> Option<Self> {
        let mut padded = [0; 32];
        padded.get_mut(..id.len())?.copy_from_slice(id);
        let len = id.len() as u8;
        (len > 0).then_some(Self {
            event,
            id: padded,
            len,
        })
    }

    /// The session ID.
    pub fn id(&self) -> &[u8] {
        &self.id[..usize::from(self.len)]
    }
}

/// The shortest and the longest time between two looks at an empty queue; in between, an eighth of the
/// time for which it has been empty. Handshakes do not wake the publisher: the system call, and a
/// thread that takes their processor at once, would cost them far more than all else here.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(5)];

/// A queue into which many threads put items, and from which one takes them.
pub struct Queue {
    items: ArrayQueue<Item>,
}

impl Queue {
    /// A queue for at most this many items, at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            items: ArrayQueue::new(capacity),
        }
    }

    /// Puts an item in; `false`: the oldest was dropped for it. Does not wait, and makes no
    /// system call.
    pub fn push(&self, item: Item) -> bool {
        self.items.force_push(item).is_none()
    }

    /// Takes out at most `max` items, and waits up to `wait` for the first one.
    pub fn take(&self, into: &mut Vec<Item>, max: usize, wait: Duration) {
        let began = Instant::now();
        loop {
            into.extend(std::iter::from_fn(|| self.items.pop()).take(max - into.len()));
            let empty = began.elapsed();
            let left = wait.saturating_sub(empty);
            if !into.is_empty() || left.is_zero() {
                return;
            }
            thread::sleep((empty / 8).clamp(PAUSE[0], PAUSE[1]).min(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u16) -> Item {
        Item::new(Event::New, &number.to_be_bytes()).unwrap()
    }

    #[test]
    fn ids_are_1_to_32_bytes() {
        assert!(Item::new(Event::New, &[]).is_none());
        assert!(Item::new(Event::New, &[1; 33]).is_none());
        for len in 1..=32 {
            let id = vec![7; len];
            assert_eq!(Item::new(Event::Removed, &id).unwrap().id(), id);
        }
    }

    #[test]
    fn the_oldest_makes_room() {
        let queue = Queue::new(3);
        let kept: Vec<bool> = (0..5).map(|number| queue.push(item(number))).collect();
        assert_eq!(kept, [true, true, true, false, false]);
        let mut taken = Vec::new();
        queue.take(&mut taken, 2, Duration::ZERO);
        assert_eq!(taken, [item(2), item(3)]);
        taken.clear();
        queue.take(&mut taken, 10, Duration::ZERO);
        assert_eq!(taken, [item(4)]);
    }

    #[test]
    fn what_many_put_in_comes_out() {
        const ITEMS: u16 = 20_000;
        let queue = Queue::new(usize::from(ITEMS) * 4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..ITEMS {
                        assert!(queue.push(item(number)));
                        if number % 64 == 0 {
                            thread::yield_now();
                        }
                    }
                });
            }
            let (mut taken, mut all) = (Vec::new(), 0);
            while all < usize::from(ITEMS) * 4 {
                taken.clear();
                queue.take(&mut taken, 100, Duration::from_secs(20));
                assert!(!taken.is_empty(), "no more came after {all}");
                all += taken.len();
            }
        });
    }
}
