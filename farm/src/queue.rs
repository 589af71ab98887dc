//! What handshakes report, on its way to the publisher. Bounded: when it is full, the oldest
//! makes room.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A handshake made it.
    New,
    /// A handshake or a connection failed, and it was removed.
    Removed,
}

/// A report: 34 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// What happened.
    pub event: Event,
    id: [u8; 32],
    len: u8,
}

impl Item {
    /// `None` for what is no session ID: nothing, or more than 32 bytes.
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

/// Many threads put something in, one takes it out.
pub struct Queue {
    items: ArrayQueue<Item>,
    /// Whether the one that takes has gone to sleep, or is about to.
    sleeps: AtomicBool,
    taker: Mutex<Option<Thread>>,
}

impl Queue {
    /// For so many items.
    pub fn new(capacity: usize) -> Self {
        Self {
            items: ArrayQueue::new(capacity.max(1)),
            sleeps: AtomicBool::new(false),
            taker: Mutex::new(None),
        }
    }

    /// Puts an item in; `false`: the oldest was dropped for it. Does not wait, and makes a
    /// system call only when the taker sleeps.
    pub fn push(&self, item: Item) -> bool {
        let has_room = self.items.force_push(item).is_none();
        // Only if it sleeps, and only the first of many that find it so.
        if self.sleeps.swap(false, Ordering::SeqCst) {
            // Tried only: who holds it is the taker, which is awake then.
            if let Ok(taker) = self.taker.try_lock()
                && let Some(taker) = &*taker
            {
                taker.unpark();
            }
        }
        has_room
    }

    /// Takes out at most `max` items, and waits for the first one for no longer than `wait`.
    pub fn take(&self, into: &mut Vec<Item>, max: usize, wait: Duration) {
        let end = Instant::now() + wait;
        loop {
            into.extend(std::iter::from_fn(|| self.items.pop()).take(max - into.len()));
            let left = end.saturating_duration_since(Instant::now());
            if !into.is_empty() || left.is_zero() {
                return;
            }
            self.lock_taker().get_or_insert_with(thread::current);
            self.sleeps.store(true, Ordering::SeqCst);
            // What came before it was known that this one sleeps, woke nobody.
            if self.items.is_empty() {
                thread::park_timeout(left);
            }
            self.sleeps.store(false, Ordering::SeqCst);
        }
    }

    fn lock_taker(&self) -> std::sync::MutexGuard<'_, Option<Thread>> {
        self.taker.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn who_waits_is_woken() {
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
                assert!(!taken.is_empty(), "asleep with {all} taken");
                all += taken.len();
            }
        });
    }
}
