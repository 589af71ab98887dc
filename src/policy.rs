//! Which session leaves when the cache is full: SIEVE, one order per shard.
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

struct Node {
    /// Finds the entry again: the table is searched for this hash and the slot.
    hash: u64,
    newer: u32,
    older: u32,
}

/// The eviction order of one shard.
pub(crate) struct Order {
    nodes: Vec<Node>,
    newest: u32,
    oldest: u32,
    hand: u32,
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

    /// Adds a session as the newest and returns the slot that names it until
    /// it is removed.
    pub(crate) fn push(&mut self, hash: u64) -> u32 {
        let node = Node {
            hash,
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
        if self.hand == slot {
            self.hand = newer;
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

    /// The session that came first, as hash and slot.
    pub(crate) fn oldest(&self) -> Option<(u64, u32)> {
        (self.oldest != NIL).then(|| (self.nodes[self.oldest as usize].hash, self.oldest))
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

    /// The same policy, written as plainly as possible: oldest first.
    #[derive(Default)]
    struct Model {
        items: Vec<(u64, bool)>,
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
        Push,
        Hit(usize),
        Remove(usize),
        Evict,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => Just(Op::Push),
            2 => any::<usize>().prop_map(Op::Hit),
            1 => any::<usize>().prop_map(Op::Remove),
            2 => Just(Op::Evict),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_the_plain_version(ops in proptest::collection::vec(op(), 0..200)) {
            let mut order = Order::default();
            let mut model = Model::default();
            let mut slots = std::collections::HashMap::new();
            let mut most = 0;
            for (hash, op) in ops.into_iter().enumerate() {
                let hash = hash as u64;
                match op {
                    Op::Push => {
                        slots.insert(hash, order.push(hash));
                        model.items.push((hash, false));
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
                        let flags = |model: &Model| -> std::collections::HashMap<u64, bool> {
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
                prop_assert_eq!(order.oldest().map(|o| o.0), model.items.first().map(|i| i.0));
                prop_assert!(order.nodes.len() <= most, "freed nodes are used again");
            }
        }
    }
}
