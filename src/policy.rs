//! Which session leaves when the cache is full: one that has expired, else the one that
//! SIEVE picks. There is one order per shard.
//!
//! Sessions stand in the order of their arrival. A hand walks from the oldest to
//! the newest; a session that was used since the hand last came by is spared,
//! the first one that was not is the victim. A hit only sets a flag in the entry,
//! so lookups need no exclusive lock, and a flood of sessions that nobody asks
//! for again passes through without pushing out those in use.
//!
//! This module knows neither locks nor entries: it keeps the order, the cache
//! answers whether a session was used.

/// No node: the end of the list.
const NIL: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    /// Finds the entry again: the table is searched for this hash and the slot.
    hash: u64,
    /// The second at which the session is over.
    end: i64,
    newer: u32,
    older: u32,
}

/// The eviction order of one shard.
pub(crate) struct Order {
    nodes: Vec<Node>,
    newest: u32,
    oldest: u32,
    hand: u32,
    /// Where the search for expired sessions goes on.
    search: u32,
    /// No session is over before this second.
    earliest_end: i64,
    /// Unused nodes, chained through `older`.
    free: u32,
    len: usize,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            newest: NIL,
            oldest: NIL,
            hand: NIL,
            search: NIL,
            earliest_end: i64::MAX,
            free: NIL,
            len: 0,
        }
    }
}

impl Order {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes sure that the next [`Order::push`] allocates nothing; `false` when
    /// there is no memory for it.
    pub(crate) fn reserve(&mut self) -> bool {
        self.free != NIL || self.nodes.try_reserve(1).is_ok()
    }

    /// Frees what was allocated for more than `room` sessions, of which there may be so many
    /// at most. `renamed` is told each session's hash, slot and new slot; `false` when there
    /// is no memory to do it with: then nothing has changed.
    pub(crate) fn shrink(&mut self, room: usize, mut renamed: impl FnMut(u64, u32, u32)) -> bool {
        let mut small = Self::default();
        if small.nodes.try_reserve_exact(room).is_err() {
            return false;
        }
        for (hash, slot) in self.iter() {
            let new_slot = small.push(hash, self.nodes[slot as usize].end);
            for (old, new) in [
                (self.hand, &mut small.hand),
                (self.search, &mut small.search),
            ] {
                if old == slot {
                    *new = new_slot;
                }
            }
            renamed(hash, slot, new_slot);
        }
        small.earliest_end = self.earliest_end;
        *self = small;
        true
    }

    /// Adds a session as the newest and returns the slot that names it until
    /// it is removed.
    pub(crate) fn push(&mut self, hash: u64, end: i64) -> u32 {
        self.earliest_end = self.earliest_end.min(end);
        let node = Node {
            hash,
            end,
            newer: NIL,
            older: self.newest,
        };
        let slot = if self.free == NIL {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let slot = self.free;
            self.free = self.nodes[slot as usize].older;
            self.nodes[slot as usize] = node;
            slot
        };
        match self.newest {
            NIL => self.oldest = slot,
            newest => self.nodes[newest as usize].newer = slot,
        }
        self.newest = slot;
        self.len += 1;
        slot
    }

    /// Takes a session out of the order.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Node { newer, older, .. } = self.nodes[slot as usize];
        for cursor in [&mut self.hand, &mut self.search] {
            if *cursor == slot {
                *cursor = newer;
            }
        }
        match newer {
            NIL => self.newest = older,
            newer => self.nodes[newer as usize].older = older,
        }
        match older {
            NIL => self.oldest = newer,
            older => self.nodes[older as usize].newer = newer,
        }
        self.nodes[slot as usize].older = self.free;
        self.free = slot;
        self.len -= 1;
    }

    /// A second before which no session is over.
    pub(crate) fn earliest_end(&self) -> i64 {
        self.earliest_end
    }

    /// A session that is over, as hash and slot; it stays in the order until
    /// [`Order::remove`]. Goes through all of them only when one may be: then once, and
    /// not again before the next one's time has come.
    pub(crate) fn expired(&mut self, now: i64) -> Option<(u64, u32)> {
        if now < self.earliest_end {
            return None;
        }
        let mut earliest = i64::MAX;
        for _ in 0..self.len {
            if self.search == NIL {
                self.search = self.oldest;
            }
            let slot = self.search;
            let Node {
                hash, end, newer, ..
            } = self.nodes[slot as usize];
            if end <= now {
                return Some((hash, slot));
            }
            earliest = earliest.min(end);
            self.search = newer;
        }
        self.earliest_end = earliest;
        None
    }

    /// All sessions, the oldest first, as hash and slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        let mut slot = self.oldest;
        std::iter::from_fn(move || {
            let node = self.nodes.get(slot as usize)?;
            let this = (node.hash, slot);
            slot = node.newer;
            Some(this)
        })
    }

    /// Sets the end of every session anew.
    pub(crate) fn set_ends(&mut self, mut end_of: impl FnMut(u64, u32) -> i64) {
        self.earliest_end = i64::MAX;
        let mut slot = self.oldest;
        while let Some(node) = self.nodes.get_mut(slot as usize) {
            node.end = end_of(node.hash, slot);
            self.earliest_end = self.earliest_end.min(node.end);
            slot = node.newer;
        }
    }

    /// The session to evict, as hash and slot; it stays in the order until
    /// [`Order::remove`]. `spare` is asked for each candidate, and that once at
    /// most: `None` when it spared all.
    pub(crate) fn victim(&mut self, mut spare: impl FnMut(u64, u32) -> bool) -> Option<(u64, u32)> {
        for _ in 0..self.len {
            if self.hand == NIL {
                self.hand = self.oldest;
            }
            let slot = self.hand;
            let Node { hash, newer, .. } = self.nodes[slot as usize];
            if !spare(hash, slot) {
                return Some((hash, slot));
            }
            self.hand = newer;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// The same policy, written as plainly as possible: oldest first.
    #[derive(Default)]
    struct Model {
        items: Vec<(u64, bool)>,
        ends: HashMap<u64, i64>,
        hand: Option<u64>,
    }

    impl Model {
        fn remove(&mut self, hash: u64) {
            let at = self.items.iter().position(|item| item.0 == hash).unwrap();
            if self.hand == Some(hash) {
                self.hand = self.items.get(at + 1).map(|item| item.0);
            }
            self.items.remove(at);
        }

        fn victim(&mut self) -> Option<u64> {
            for _ in 0..self.items.len() {
                let at = match self.hand {
                    Some(hash) => self.items.iter().position(|item| item.0 == hash).unwrap(),
                    None => 0,
                };
                if !std::mem::take(&mut self.items[at].1) {
                    self.hand = Some(self.items[at].0);
                    return self.hand;
                }
                self.hand = self.items.get(at + 1).map(|item| item.0);
            }
            None
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(i64),
        Hit(usize),
        Remove(usize),
        Evict,
        Expire(i64),
        Shorten(i64),
        Shrink,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (0i64..50).prop_map(Op::Push),
            2 => any::<usize>().prop_map(Op::Hit),
            1 => any::<usize>().prop_map(Op::Remove),
            2 => Just(Op::Evict),
            2 => (0i64..50).prop_map(Op::Expire),
            1 => (0i64..50).prop_map(Op::Shorten),
            1 => Just(Op::Shrink),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_the_plain_version(ops in proptest::collection::vec(op(), 0..200)) {
            let mut order = Order::default();
            let mut model = Model::default();
            let mut slots = HashMap::new();
            let mut most = 0;
            for (hash, op) in ops.into_iter().enumerate() {
                let hash = hash as u64;
                match op {
                    Op::Push(end) => {
                        slots.insert(hash, order.push(hash, end));
                        model.items.push((hash, false));
                        model.ends.insert(hash, end);
                    }
                    Op::Expire(now) => {
                        // All that are over, each once, in whatever order.
                        while let Some((hash, slot)) = order.expired(now) {
                            prop_assert_eq!(slots.remove(&hash), Some(slot));
                            prop_assert!(model.ends[&hash] <= now);
                            model.remove(hash);
                            order.remove(slot);
                        }
                        prop_assert!(model.items.iter().all(|item| model.ends[&item.0] > now));
                    }
                    Op::Shorten(end) => {
                        for known in model.ends.values_mut() {
                            *known = end.min(*known);
                        }
                        order.set_ends(|hash, _| model.ends[&hash]);
                    }
                    Op::Shrink => {
                        let len = order.len();
                        let done = order.shrink(len, |hash, slot, new_slot| {
                            assert_eq!(slots.insert(hash, new_slot), Some(slot));
                        });
                        prop_assert!(done && order.nodes.len() == len);
                        most = len;
                    }
                    Op::Hit(n) if !model.items.is_empty() => {
                        let at = n % model.items.len();
                        model.items[at].1 = true;
                    }
                    Op::Remove(n) if !model.items.is_empty() => {
                        let hash = model.items[n % model.items.len()].0;
                        model.remove(hash);
                        order.remove(slots.remove(&hash).unwrap());
                    }
                    Op::Evict => {
                        let flags = |model: &Model| -> HashMap<u64, bool> {
                            model.items.iter().copied().collect()
                        };
                        let mut used = flags(&model);
                        let got = order.victim(|hash, _| std::mem::take(used.get_mut(&hash).unwrap()));
                        let want = model.victim();
                        prop_assert_eq!(got.map(|v| v.0), want);
                        prop_assert_eq!(used, flags(&model), "asked the same sessions");
                        if let Some((hash, slot)) = got {
                            prop_assert_eq!(slots[&hash], slot);
                            order.remove(slot);
                            slots.remove(&hash);
                            model.remove(hash);
                        }
                    }
                    _ => {}
                }
                most = most.max(model.items.len());
                prop_assert_eq!(order.len(), model.items.len());
                let earliest = model.items.iter().map(|item| model.ends[&item.0]).min();
                prop_assert!(order.earliest_end() <= earliest.unwrap_or(i64::MAX));
                let listed: Vec<u64> = order.iter().map(|item| item.0).collect();
                prop_assert_eq!(listed, model.items.iter().map(|item| item.0).collect::<Vec<_>>());
                prop_assert!(order.nodes.len() <= most, "freed nodes are used again");
            }
        }
    }
}
