//! Chooses the session that leaves when the cache is full: an expired one, else the one that this
//! policy picks. Each shard has one order.
//!
//! There are two queues, as in S3-FIFO. New sessions enter the first, in the order of their
//! arrival, and are on trial there: the oldest leaves, or moves to the second queue if it was used.
//! In the second, the oldest leaves or goes round again. It goes round once for each use, up to
//! [`MOST_USES`], and once more. A hit only increments a count in the entry, so lookups need no
//! exclusive lock. A flood of sessions that are never used passes through the first queue and
//! evicts none that are in use.
//!
//! The trial is short. When a shard has just become full, all its sessions are in the first queue,
//! and the oldest move to the second, used or not. This helps when more clients than fit come round
//! in turns: any single queue would evict each session just before its client returns. The sessions
//! that moved stay, and their clients find them. Every [`TURN`] evictions one of them leaves,
//! unless it was used in the meantime, so none stays forever without use.
//!
//! The policy learns how much of the cache the first queue may have, as ARC does. If clients come
//! back after long and uneven times, a trial must be long. If a few come all the time, it should be
//! short. The policy remembers some evicted sessions by their keys. A client that asks for one
//! shows which queue was too short. While nobody asks, the trial becomes shorter.
//!
//! This module knows neither locks nor entries. It keeps the order, and the cache answers whether a
//! session was used.

use std::ops::{Index, IndexMut};
use std::sync::atomic::Ordering;

use crate::base::atomics::{AtomicU32, AtomicU64};
use crate::base::sharded::Key;

/// Not a node: the end of the list.
const NIL: u32 = u32::MAX;

/// Uses beyond this number do not count.
pub(crate) const MOST_USES: u8 = 3;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// New, and on trial.
    Trial,
    /// It was used while on trial, or came when there was room.
    Proven,
}

const QUEUES: [Queue; 2] = [Queue::Trial, Queue::Proven];

/// How sure it is that a session deserves its place in the second queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has never been used.
    Unproven,
    /// It has been used.
    Proven,
    /// It has been used, and may go round once without a further use.
    Fresh,
}

impl Standing {
    fn after_round(self, was_used: bool) -> Self {
        match self {
            Self::Fresh if was_used => Self::Fresh,
            _ => Self::Proven,
        }
    }
}

/// Once in so many evictions, an unproven session may leave the second queue and another may enter
/// it.
const TURN: u32 = 32;

/// The first queue may exceed its share by this fraction of all sessions. Otherwise each small
/// change of the share would move sessions.
const SLACK: f64 = 0.02;

/// The first queue may be this many sessions below its share, unless some of them moved to the
/// second queue. A shard's length varies by a few sessions: in a flood each such change would cost
/// a proven session.
const DIP: f64 = 8.0;

#[derive(Clone, Copy)]
struct Node {
    /// Finds the entry again: the table is searched for this key and the slot.
    key: Key,
    /// The second at which the session expires, as [`as_u32`] keeps it.
    end: u32,
    newer: u32,
    older: u32,
    queue: Queue,
    standing: Standing,
}

#[derive(Clone, Copy)]
struct Ends {
    newest: u32,
    oldest: u32,
    len: usize,
}

/// Nodes by their slots. They are in chunks: so they do not move when more are added, which would
/// take time and leave holes in the heap.
#[derive(Default)]
struct Nodes {
    chunks: Vec<Vec<Node>>,
    len: usize,
}

/// Nodes in a chunk.
const CHUNK: usize = 32;

impl Nodes {
    /// Makes room for so many nodes; `false` if there is no memory.
    fn reserve(&mut self, count: usize) -> bool {
        while self.chunks.len() * CHUNK < count {
            let mut chunk = Vec::new();
            if chunk.try_reserve_exact(CHUNK).is_err() || self.chunks.try_reserve(1).is_err() {
                return false;
            }
            self.chunks.push(chunk);
        }
        true
    }

    /// Adds a node in room that was reserved, and returns its slot.
    fn push(&mut self, node: Node) -> u32 {
        let slot = self.len;
        self.chunks[slot / CHUNK].push(node);
        self.len += 1;
        slot as u32
    }

    fn get(&self, slot: u32) -> Option<&Node> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Node> {
        let slot = slot as usize;
        self.chunks.get_mut(slot / CHUNK)?.get_mut(slot % CHUNK)
    }
}

impl Index<u32> for Nodes {
    type Output = Node;

    fn index(&self, slot: u32) -> &Node {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

impl IndexMut<u32> for Nodes {
    fn index_mut(&mut self, slot: u32) -> &mut Node {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

/// The eviction order of one shard.
pub(crate) struct Order {
    nodes: Nodes,
    queues: [Ends; 2],
    /// Where the search for expired sessions continues.
    search: u32,
    /// No session expires before this second.
    earliest_end: i64,
    /// Unused nodes, chained through `older`.
    free: u32,
    /// How many sessions were evicted.
    evictions: u32,
    /// How many sessions moved to the second queue when the first was already short, and are not
    /// yet balanced by an eviction from the second.
    owed: u32,
}

impl Default for Order {
    fn default() -> Self {
        let empty = Ends {
            newest: NIL,
            oldest: NIL,
            len: 0,
        };
        Self {
            nodes: Nodes::default(),
            queues: [empty; 2],
            search: NIL,
            earliest_end: i64::MAX,
            free: NIL,
            evictions: 0,
            owed: 0,
        }
    }
}

impl Order {
    pub(crate) fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.len).sum()
    }

    /// Makes room so that the next [`Order::push`] allocates nothing; `false` if there is no
    /// memory.
    pub(crate) fn reserve(&mut self) -> bool {
        self.free != NIL || self.nodes.reserve(self.nodes.len + 1)
    }

    /// Frees the memory beyond `room` sessions; there must not be more than that. Calls `renamed`
    /// with each session's key, slot and new slot. `false` if there is no memory to do it: nothing
    /// has changed then.
    pub(crate) fn shrink(&mut self, room: usize, mut renamed: impl FnMut(Key, u32, u32)) -> bool {
        let mut small = Self::default();
        if !small.nodes.reserve(room) {
            return false;
        }
        for queue in QUEUES {
            let mut slot = self.queues[queue as usize].oldest;
            while let Some(&node) = self.nodes.get(slot) {
                let new_slot = small.new_node(node.key, node.end);
                small.link(new_slot, queue);
                small.nodes[new_slot].standing = node.standing;
                if self.search == slot {
                    small.search = new_slot;
                }
                renamed(node.key, slot, new_slot);
                slot = node.newer;
            }
        }
        small.earliest_end = self.earliest_end;
        (small.evictions, small.owed) = (self.evictions, self.owed);
        *self = small;
        true
    }

    /// Adds a session as the newest. Returns the slot that names it until it is removed.
    pub(crate) fn push(&mut self, key: Key, end: i64) -> u32 {
        let end = as_u32(end);
        self.earliest_end = self.earliest_end.min(from_u32(end));
        let slot = self.new_node(key, end);
        self.link(slot, Queue::Trial);
        slot
    }

    /// Takes a session out of the order.
    pub(crate) fn remove(&mut self, slot: u32) {
        if self.search == slot {
            self.search = self.next(slot);
        }
        self.unlink(slot);
        self.nodes[slot].older = self.free;
        self.free = slot;
    }

    fn new_node(&mut self, key: Key, end: u32) -> u32 {
        let node = Node {
            key,
            end,
            newer: NIL,
            older: NIL,
            queue: Queue::Trial,
            standing: Standing::Unproven,
        };
        if self.free == NIL {
            return self.nodes.push(node);
        }
        let slot = self.free;
        self.free = self.nodes[slot].older;
        self.nodes[slot] = node;
        slot
    }

    /// Makes a node the newest of a queue.
    fn link(&mut self, slot: u32, queue: Queue) {
        let ends = &mut self.queues[queue as usize];
        let older = std::mem::replace(&mut ends.newest, slot);
        ends.len += 1;
        match older {
            NIL => ends.oldest = slot,
            older => self.nodes[older].newer = slot,
        }
        let node = &mut self.nodes[slot];
        (node.newer, node.older, node.queue) = (NIL, older, queue);
    }

    fn unlink(&mut self, slot: u32) {
        let Node {
            newer,
            older,
            queue,
            ..
        } = self.nodes[slot];
        let ends = &mut self.queues[queue as usize];
        ends.len -= 1;
        match newer {
            NIL => ends.newest = older,
            newer => self.nodes[newer].older = older,
        }
        match older {
            NIL => ends.oldest = newer,
            older => self.nodes[older].newer = newer,
        }
    }

    /// The node after this one in a walk through all: from the oldest to the newest of the first
    /// queue, then the same in the second; [`NIL`] at the end.
    fn next(&self, slot: u32) -> u32 {
        let node = &self.nodes[slot];
        match (node.newer, node.queue) {
            (NIL, Queue::Trial) => self.queues[Queue::Proven as usize].oldest,
            (newer, _) => newer,
        }
    }

    fn first(&self) -> u32 {
        match self.queues[Queue::Trial as usize].oldest {
            NIL => self.queues[Queue::Proven as usize].oldest,
            oldest => oldest,
        }
    }

    /// A second before which no session expires.
    pub(crate) fn earliest_end(&self) -> i64 {
        self.earliest_end
    }

    /// An expired session, as key and slot. It stays in the order until [`Order::remove`]. The
    /// search goes through all sessions only when one may have expired, and once it is through, not
    /// again before the next one's time has come.
    pub(crate) fn expired(&mut self, now: i64) -> Option<(Key, u32)> {
        if now < self.earliest_end {
            return None;
        }
        let mut earliest = i64::MAX;
        for _ in 0..self.len() {
            if self.search == NIL {
                self.search = self.first();
            }
            let slot = self.search;
            let Node { key, end, .. } = self.nodes[slot];
            let end = from_u32(end);
            if end <= now {
                return Some((key, slot));
            }
            earliest = earliest.min(end);
            self.search = self.next(slot);
        }
        self.earliest_end = earliest;
        None
    }

    /// All sessions, as key and slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, u32)> {
        let mut slot = self.first();
        std::iter::from_fn(move || {
            let node = self.nodes.get(slot)?;
            let this = (node.key, slot);
            slot = self.next(slot);
            Some(this)
        })
    }

    /// Sets a new end for every session.
    pub(crate) fn set_ends(&mut self, mut end_of: impl FnMut(Key, u32) -> i64) {
        self.earliest_end = i64::MAX;
        let mut slot = self.first();
        while let Some(node) = self.nodes.get_mut(slot) {
            node.end = as_u32(end_of(node.key, slot));
            self.earliest_end = self.earliest_end.min(from_u32(node.end));
            slot = self.next(slot);
        }
    }

    /// The session to evict, if those on trial may be this share of all. It stays in the order
    /// until [`Order::remove`]. Calls `used` to ask whether a candidate was used; `used` then
    /// forgets all uses of one on trial, or one use of one in the second queue. `None` if as many
    /// candidates were used as there are sessions.
    pub(crate) fn victim(
        &mut self,
        trial_share: f64,
        mut used: impl FnMut(Key, u32, Queue) -> bool,
    ) -> Option<Victim> {
        let len = self.len();
        let most_on_trial = trial_share * len as f64;
        self.evictions = self.evictions.wrapping_add(1);
        let mut is_turn = self.evictions.is_multiple_of(TURN);
        if is_turn && let Some(victim) = self.unproven_victim(&mut used) {
            return Some(victim);
        }
        // From here on, each session of the second queue is asked about once at most: if all of
        // them are in use, one on trial leaves.
        let mut unasked = self.queues[Queue::Proven as usize].len;
        let mut used_ones = 0;
        while used_ones < len {
            let on_trial = self.queues[Queue::Trial as usize].len;
            let excess = on_trial as f64 - most_on_trial;
            if excess > 0.0 {
                self.owed = 0;
            }
            let is_long = excess > 0.0 || self.owed == 0 && excess >= -DIP || unasked == 0;
            let from = if is_long && on_trial > 0 {
                Queue::Trial
            } else {
                Queue::Proven
            };
            let slot = self.queues[from as usize].oldest;
            let Node { key, standing, .. } = self.nodes[slot];
            let was_used = used(key, slot, from);
            used_ones += usize::from(was_used);
            let new_standing = match from {
                Queue::Trial if was_used => {
                    self.owed += u32::from(excess <= 1.0);
                    Standing::Fresh
                }
                Queue::Trial if excess > 1.0 + SLACK * len as f64 => Standing::Unproven,
                Queue::Trial if excess > 1.0 && std::mem::take(&mut is_turn) => Standing::Unproven,
                Queue::Proven => {
                    unasked = unasked.saturating_sub(1);
                    if !was_used && standing != Standing::Fresh {
                        self.owed = self.owed.saturating_sub(1);
                        return Some(Victim { key, slot, from });
                    }
                    standing.after_round(was_used)
                }
                Queue::Trial => return Some(Victim { key, slot, from }),
            };
            self.spare(slot, new_standing);
        }
        None
    }

    /// Returns the oldest of the second queue if it was never used. Otherwise that one goes round.
    fn unproven_victim(
        &mut self,
        used: &mut impl FnMut(Key, u32, Queue) -> bool,
    ) -> Option<Victim> {
        let from = Queue::Proven;
        let slot = self.queues[from as usize].oldest;
        let &Node { key, standing, .. } = self.nodes.get(slot)?;
        let was_used = used(key, slot, from);
        if !was_used && standing == Standing::Unproven {
            return Some(Victim { key, slot, from });
        }
        self.spare(slot, standing.after_round(was_used));
        None
    }

    /// Makes a session the newest of the second queue.
    fn spare(&mut self, slot: u32, standing: Standing) {
        if self.search == slot {
            self.search = self.next(slot);
        }
        self.unlink(slot);
        self.link(slot, Queue::Proven);
        self.nodes[slot].standing = standing;
    }
}

/// A second as 32 bits, enough until 2106.
fn as_u32(end: i64) -> u32 {
    end.clamp(0, u32::MAX.into()) as u32
}

/// A later end is not known: such a session leaves when it is looked up or evicted.
fn from_u32(end: u32) -> i64 {
    match end {
        u32::MAX => i64::MAX,
        end => end.into(),
    }
}

/// The session that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) key: Key,
    pub(crate) slot: u32,
    pub(crate) from: Queue,
}

/// Remembers some of the sessions that were recently evicted from one shard. Needs no lock.
///
/// Remembers as many sessions of one queue as of the other. So those of a queue that evicts fewer
/// are remembered longer.
pub(crate) struct Ghosts {
    /// A key for each queue; 0: none.
    marks: Box<[[AtomicU32; 2]]>,
}

impl Ghosts {
    /// For a shard of about this many sessions.
    pub(crate) fn new(sessions: usize) -> Self {
        let len = (sessions / 16).next_power_of_two();
        Self {
            marks: (0..len).map(|_| Default::default()).collect(),
        }
    }

    fn mark(key: Key) -> u32 {
        key.0 | 1 << 31
    }

    fn places(&self, key: Key) -> &[AtomicU32; 2] {
        &self.marks[key.0 as usize & (self.marks.len() - 1)]
    }

    pub(crate) fn remember(&self, victim: Victim) {
        let place = &self.places(victim.key)[victim.from as usize];
        place.store(Self::mark(victim.key), Ordering::Relaxed);
    }

    /// If the session that is looked up was evicted, returns its queue and forgets it.
    pub(crate) fn recall(&self, key: Key) -> Option<Queue> {
        let mark = Self::mark(key);
        QUEUES.into_iter().find(|&queue| {
            let place = &self.places(key)[queue as usize];
            place.load(Ordering::Relaxed) == mark
                && place
                    .compare_exchange(mark, 0, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
        })
    }

    pub(crate) fn clear(&self) {
        let all = self.marks.iter().flatten();
        all.for_each(|mark| mark.store(0, Ordering::Relaxed));
    }
}

/// The share of all sessions that may be on trial. All shards have one: a single shard sees too
/// little to learn it.
pub(crate) struct TrialShare(AtomicU64);

impl TrialShare {
    /// In units of 2^-32.
    const LEAST: u64 = Self::percent(2);
    const FIRST: u64 = Self::percent(3);
    const MOST: u64 = Self::percent(95);

    const fn percent(n: u64) -> u64 {
        (n << 32) / 100
    }

    /// By how much one lookup changes the share, in a cache of so many sessions.
    fn step(sessions: usize) -> u64 {
        (12 << 32) / sessions.max(1) as u64
    }

    pub(crate) fn get(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / (1u64 << 32) as f64
    }

    /// A lookup missed a session that was evicted from this queue. The cache has so many sessions.
    pub(crate) fn learn(&self, too_short: Queue, sessions: usize) {
        let step = Self::step(sessions);
        self.change(|old| match too_short {
            Queue::Trial => old.saturating_add(step),
            Queue::Proven => old.saturating_sub(step),
        });
    }

    /// A session was evicted from this queue. The cache has so many sessions.
    pub(crate) fn evicted(&self, from: Queue, sessions: usize) {
        if from == Queue::Trial {
            self.change(|old| old.saturating_sub(Self::step(sessions) / 2048));
        }
    }

    fn change(&self, new: impl FnOnce(u64) -> u64) {
        let old = self.0.load(Ordering::Relaxed);
        let new = new(old).clamp(Self::LEAST, Self::MOST);
        // Another thread's step may get lost, which does not matter.
        if new != old {
            self.0.store(new, Ordering::Relaxed);
        }
    }
}

impl Default for TrialShare {
    fn default() -> Self {
        Self(AtomicU64::new(Self::FIRST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    /// The same policy, written as plainly as possible. The oldest come first.
    #[derive(Default)]
    struct Model {
        trial: Vec<Key>,
        second: Vec<Key>,
        unproven: HashSet<Key>,
        fresh: HashSet<Key>,
        uses: HashMap<Key, u8>,
        ends: HashMap<Key, i64>,
        calls: u32,
        owed: u32,
    }

    impl Model {
        fn all(&self) -> Vec<Key> {
            [&self.trial[..], &self.second[..]].concat()
        }

        fn remove(&mut self, key: Key) {
            self.trial.retain(|other| *other != key);
            self.second.retain(|other| *other != key);
            self.unproven.remove(&key);
            self.fresh.remove(&key);
        }

        fn move_to_second(&mut self, key: Key) {
            self.remove(key);
            self.second.push(key);
        }

        fn go_round(&mut self, key: Key, was_used: bool) {
            let stays_fresh = was_used && self.fresh.contains(&key);
            self.move_to_second(key);
            if stays_fresh {
                self.fresh.insert(key);
            }
        }

        fn take_use(&mut self, key: Key, left: impl Fn(u8) -> u8) -> bool {
            let uses = self.uses.entry(key).or_default();
            let used = *uses > 0;
            *uses = left(*uses);
            used
        }

        fn victim(&mut self, trial_share: f64) -> Option<(Key, Queue)> {
            let len = self.all().len();
            let one_less = |uses: u8| uses.saturating_sub(1);
            self.calls += 1;
            let mut may_come = self.calls.is_multiple_of(TURN);
            if may_come && !self.second.is_empty() {
                let key = self.second[0];
                let was_used = self.take_use(key, one_less);
                if !was_used && self.unproven.contains(&key) {
                    return Some((key, Queue::Proven));
                }
                self.go_round(key, was_used);
            }
            let mut unasked = self.second.len();
            let mut used_ones = 0;
            while used_ones < len {
                let excess = self.trial.len() as f64 - trial_share * len as f64;
                let is_long = excess > 0.0;
                if is_long {
                    self.owed = 0;
                }
                let is_dip = self.owed == 0 && !is_long && excess >= -DIP;
                if !self.trial.is_empty() && (is_long || is_dip || unasked == 0) {
                    let key = self.trial[0];
                    if self.take_use(key, |_| 0) {
                        used_ones += 1;
                        self.move_to_second(key);
                        self.fresh.insert(key);
                        if excess <= 1.0 {
                            self.owed += 1;
                        }
                        continue;
                    }
                    let has_slack = excess <= 1.0 + SLACK * len as f64;
                    if excess <= 1.0 || has_slack && !may_come {
                        return Some((key, Queue::Trial));
                    }
                    may_come &= !has_slack;
                    self.move_to_second(key);
                    self.unproven.insert(key);
                } else {
                    let key = self.second[0];
                    unasked = unasked.saturating_sub(1);
                    let was_used = self.take_use(key, one_less);
                    if was_used {
                        used_ones += 1;
                    } else if !self.fresh.contains(&key) {
                        self.owed = self.owed.saturating_sub(1);
                        return Some((key, Queue::Proven));
                    }
                    self.go_round(key, was_used);
                }
            }
            None
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(i64),
        Hit(usize),
        Remove(usize),
        Evict(u8),
        Expire(i64),
        Shorten(i64),
        Shrink,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0i64..50).prop_map(Op::Push),
            4 => any::<usize>().prop_map(Op::Hit),
            1 => any::<usize>().prop_map(Op::Remove),
            4 => (0u8..=100).prop_map(Op::Evict),
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
            for (number, op) in ops.into_iter().enumerate() {
                let key = Key(number as u32);
                let all = model.all();
                match op {
                    Op::Push(end) => {
                        prop_assert!(order.reserve());
                        slots.insert(key, order.push(key, end));
                        model.trial.push(key);
                        model.ends.insert(key, end);
                    }
                    Op::Expire(now) => {
                        // All expired ones, each once, in any order.
                        while let Some((key, slot)) = order.expired(now) {
                            prop_assert_eq!(slots.remove(&key), Some(slot));
                            prop_assert!(model.ends[&key] <= now);
                            model.remove(key);
                            order.remove(slot);
                        }
                        prop_assert!(model.all().iter().all(|key| model.ends[key] > now));
                    }
                    Op::Shorten(end) => {
                        for known in model.ends.values_mut() {
                            *known = end.min(*known);
                        }
                        order.set_ends(|key, _| model.ends[&key]);
                    }
                    Op::Shrink => {
                        let done = order.shrink(all.len(), |key, slot, new_slot| {
                            assert_eq!(slots.insert(key, new_slot), Some(slot));
                        });
                        prop_assert!(done && order.nodes.len == all.len());
                        most = all.len();
                    }
                    Op::Hit(n) if !all.is_empty() => {
                        let uses = model.uses.entry(all[n % all.len()]).or_default();
                        *uses = MOST_USES.min(*uses + 1);
                    }
                    Op::Remove(n) if !all.is_empty() => {
                        let key = all[n % all.len()];
                        model.remove(key);
                        order.remove(slots.remove(&key).unwrap());
                    }
                    Op::Evict(percent) => {
                        let share = f64::from(percent) / 100.0;
                        let mut uses = model.uses.clone();
                        let got = order.victim(share, |key, slot, queue| {
                            assert_eq!(slots[&key], slot);
                            let uses = uses.entry(key).or_default();
                            let used = *uses > 0;
                            *uses = match queue {
                                Queue::Trial => 0,
                                Queue::Proven => uses.saturating_sub(1),
                            };
                            used
                        });
                        let want = model.victim(share);
                        prop_assert_eq!(got.map(|victim| (victim.key, victim.from)), want);
                        prop_assert_eq!(&uses, &model.uses, "asked the same sessions");
                        if let Some(Victim { key, slot, .. }) = got {
                            prop_assert_eq!(slots.remove(&key), Some(slot));
                            order.remove(slot);
                            model.remove(key);
                        }
                    }
                    _ => {}
                }
                let all = model.all();
                most = most.max(all.len());
                prop_assert_eq!(order.len(), all.len());
                let earliest = all.iter().map(|key| model.ends[key]).min();
                prop_assert!(order.earliest_end() <= earliest.unwrap_or(i64::MAX));
                prop_assert_eq!(order.iter().map(|item| item.0).collect::<Vec<_>>(), all);
                prop_assert!(order.nodes.len <= most, "freed nodes are used again");
            }
        }
    }

    fn victim(key: Key, from: Queue) -> Victim {
        Victim { key, slot: 0, from }
    }

    #[test]
    fn what_was_evicted_is_recalled_once() {
        let ghosts = Ghosts::new(400);
        let [one, two] = [0x1234_5678, 0x4321_8765].map(Key);
        assert_eq!(ghosts.recall(one), None);
        ghosts.remember(victim(one, Queue::Trial));
        ghosts.remember(victim(two, Queue::Proven));
        assert_eq!(ghosts.recall(two), Some(Queue::Proven));
        assert_eq!(ghosts.recall(one), Some(Queue::Trial));
        assert_eq!(ghosts.recall(one), None);
        ghosts.remember(victim(one, Queue::Trial));
        ghosts.clear();
        assert_eq!(ghosts.recall(one), None);
    }

    #[test]
    fn the_share_grows_and_shrinks_within_bounds() {
        let share = TrialShare::default();
        let is = |percent: f64| (share.get() * 100.0 - percent).abs() < 1e-4;
        assert!(is(3.0));
        share.learn(Queue::Trial, 1200);
        assert!(is(4.0));
        share.learn(Queue::Trial, 1 << 30);
        assert!(share.get() > 0.04, "a small step is one");
        (0..100).for_each(|_| share.learn(Queue::Trial, 1));
        assert!(is(95.0));
        (0..2048).for_each(|_| share.evicted(Queue::Proven, 1200));
        assert!(is(95.0));
        (0..2048).for_each(|_| share.evicted(Queue::Trial, 1200));
        assert!(is(94.0), "nobody asked");
        (0..100).for_each(|_| share.learn(Queue::Proven, 1));
        assert!(is(2.0));
    }

    /// Returns which of a thousand sessions are left after so many more. The length of the order
    /// varies, as a shard's does.
    fn left_after(more: u32, used: impl Fn(Key) -> bool) -> HashSet<Key> {
        let mut order = Order::default();
        let mut seed = 1_u64;
        for key in (0..1000 + more).map(Key) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let len = 1000 + (seed >> 61) as usize;
            while order.len() >= len {
                let victim = order.victim(0.02, |key, _, _| used(key)).unwrap();
                order.remove(victim.slot);
            }
            assert!(order.reserve());
            order.push(key, 9);
        }
        let all = order.iter().map(|item| item.0);
        all.filter(|key| key.0 < 1000).collect()
    }

    #[test]
    fn those_that_came_first_stay_for_a_while_and_not_for_ever() {
        let left = [3000, 60_000].map(|more| left_after(more, |_| false).len());
        assert!(left[0] > 800 && left[1] == 0, "{left:?}");
    }

    #[test]
    fn a_flood_leaves_what_was_used_before() {
        let uses = std::cell::RefCell::new((0..300).map(Key).collect::<HashSet<Key>>());
        let left = left_after(200_000, |key| uses.borrow_mut().remove(&key));
        assert_eq!(left, (0..300).map(Key).collect());
    }
}

/// Models for loom.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    /// If two lookups ask for the same evicted session, only one learns from it.
    #[test]
    fn a_ghost_is_recalled_once() {
        loom::model(|| {
            let ghosts = Arc::new(Ghosts::new(16));
            ghosts.remember(Victim {
                key: Key(1 << 16),
                slot: 0,
                from: Queue::Trial,
            });
            let recall = {
                let ghosts = ghosts.clone();
                move || usize::from(ghosts.recall(Key(1 << 16)).is_some())
            };
            let other = thread::spawn(recall.clone());
            assert_eq!(recall() + other.join().unwrap(), 1);
        });
    }
}
