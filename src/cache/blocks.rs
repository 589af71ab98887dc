//! The bytes of one shard's sessions.
//!
//! # Structure
//!
//! The bytes are in blocks of a cache line, in regions of which each is twice as large as the
//! one before. Beside the blocks a region has a link for each of them, which names the block that
//! follows it in its run or in the list of free ones. So there is no room that fits one
//! session and not the next, and the memory of many can be moved together when few are left.
//! Blocks that are taken one after the other lie so, as long as none were freed.
//!
//! # Invariants
//!
//! 1. A block below [`Vacant::unused`] is in exactly one run or in the list of free ones.
//! 2. A block that is in no run is zero.
//! 3. Only who has the shard's write lock, and by it the one [`Vacant`], changes anything. A
//!    reader has the shard's lock too; the words being atomic, one without it
//!    would read nonsense and no more.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::secret_memory::{Line, Lines};

/// Words of a block.
pub(crate) const WORDS: usize = size_of::<Line>() / 8;

/// Blocks of the first region: four pages of memory.
const FIRST_REGION: u32 = 256;

/// Links that have room in a line: two in a word.
const LINKS_PER_LINE: u32 = 2 * WORDS as u32;

/// As many as `u32` has numbers for.
const REGIONS: usize = 24;

/// No block: the end of a run or of the list of free ones.
const NIL: u32 = u32::MAX;

/// Memory for runs of words, which whoever has the shard's lock may read.
pub(crate) struct Blocks {
    regions: [OnceLock<Lines>; REGIONS],
}

/// Which blocks are in no run: what is needed to store and to free.
pub(crate) struct Vacant {
    free: u32,
    free_len: u32,
    /// From this one on, all are zero and in no list.
    unused: u32,
    /// How many there are in the regions.
    capacity: u32,
}

/// Words that were stored. Ends with [`Blocks::free`] only.
pub(crate) struct Run {
    first: u32,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            regions: [const { OnceLock::new() }; REGIONS],
        }
    }
}

impl Default for Vacant {
    fn default() -> Self {
        Self {
            free: NIL,
            free_len: 0,
            unused: 0,
            capacity: 0,
        }
    }
}

impl Vacant {
    /// Whether the blocks in use lie so far apart that [`Blocks::compact`] would give
    /// back most of the memory, and enough of it to be worth a system call.
    pub(crate) fn is_sparse(&self) -> bool {
        let in_use = self.unused - self.free_len;
        let worth_it = match in_use {
            0 => FIRST_REGION / 16,
            _ => FIRST_REGION / 4,
        };
        self.unused > worth_it && in_use <= self.unused / 8
    }
}

impl Blocks {
    /// Makes sure that so many words can be stored; `false` when there is no memory for them.
    pub(crate) fn reserve(&self, vacant: &mut Vacant, words: usize) -> bool {
        let Ok(needed) = u32::try_from(words.div_ceil(WORDS)) else {
            return false;
        };
        while vacant.free_len + (vacant.capacity - vacant.unused) < needed {
            let region = (vacant.capacity / FIRST_REGION + 1).ilog2();
            let Some(place) = self.regions.get(region as usize) else {
                return false;
            };
            let count = FIRST_REGION << region;
            let Some(lines) = Lines::new((count / LINKS_PER_LINE + count) as usize) else {
                return false;
            };
            if place.set(lines).is_err() {
                unreachable!("the capacity tells which regions there are");
            }
            vacant.capacity += count;
        }
        true
    }

    /// Stores words, at least one, for which there is a reservation.
    pub(crate) fn store(&self, vacant: &mut Vacant, mut words: impl Iterator<Item = u64>) -> Run {
        let mut word = words.next();
        let (mut first, mut last) = (NIL, NIL);
        while word.is_some() {
            let number = self.take(vacant);
            match last {
                NIL => first = number,
                last => self.set_link(last, number),
            }
            for place in self.block(number) {
                let Some(value) = word else { break };
                place.store(value, Ordering::Relaxed);
                word = words.next();
            }
            last = number;
        }
        if last != NIL {
            self.set_link(last, NIL);
        }
        Run { first }
    }

    fn take(&self, vacant: &mut Vacant) -> u32 {
        if vacant.free == NIL {
            vacant.unused += 1;
            return vacant.unused - 1;
        }
        vacant.free_len -= 1;
        let next = self.link(vacant.free);
        std::mem::replace(&mut vacant.free, next)
    }

    /// The blocks of a run. What follows its last word in the last one is zero.
    pub(crate) fn all(&self, run: &Run) -> impl Iterator<Item = &Line> + Clone {
        Chain {
            blocks: self,
            region: self.region_of(run.first),
            number: run.first,
        }
    }

    /// The first block of a run.
    pub(crate) fn first(&self, run: &Run) -> &Line {
        self.block(run.first)
    }

    /// Wipes a run.
    pub(crate) fn free(&self, vacant: &mut Vacant, run: Run) {
        let mut number = run.first;
        loop {
            wipe(self.block(number));
            vacant.free_len += 1;
            match self.link(number) {
                NIL => break self.set_link(number, vacant.free),
                next => number = next,
            }
        }
        vacant.free = run.first;
    }

    /// Moves what lies high to where there is room below, and gives the memory above back.
    /// `runs` calls what it is given with every run there is.
    pub(crate) fn compact(&self, vacant: &mut Vacant, runs: impl FnOnce(&mut dyn FnMut(&mut Run))) {
        let in_use = vacant.unused - vacant.free_len;
        // Of the free blocks as many lie low as there are others that lie high.
        let mut free = std::mem::replace(&mut vacant.free, NIL);
        while free != NIL {
            let next = self.link(free);
            if free < in_use {
                self.set_link(free, vacant.free);
                vacant.free = free;
            }
            free = next;
        }
        runs(&mut |run| {
            let mut before = NIL;
            let mut number = run.first;
            while number != NIL {
                if number >= in_use {
                    let low = vacant.free;
                    vacant.free = self.link(low);
                    for (from, to) in self.block(number).iter().zip(self.block(low)) {
                        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                    self.set_link(low, self.link(number));
                    match before {
                        NIL => run.first = low,
                        before => self.set_link(before, low),
                    }
                    number = low;
                }
                before = number;
                number = self.link(number);
            }
        });
        self.give_back_from(vacant, in_use);
    }

    /// Frees every run at once, and gives all memory back.
    pub(crate) fn clear(&self, vacant: &mut Vacant) {
        self.give_back_from(vacant, 0);
    }

    fn give_back_from(&self, vacant: &mut Vacant, in_use: u32) {
        let mut start = 0;
        for (region, lines) in self.regions.iter().map_while(OnceLock::get).enumerate() {
            let count = FIRST_REGION << region;
            let end = start + count;
            if in_use < end && start < vacant.unused {
                lines.discard(match in_use.checked_sub(start) {
                    // Not the links of those in use.
                    Some(kept @ 1..) => (count / LINKS_PER_LINE + kept) as usize,
                    _ => 0,
                });
            }
            start = end;
        }
        (vacant.free, vacant.free_len, vacant.unused) = (NIL, 0, in_use);
    }

    fn region_of(&self, number: u32) -> Region<'_> {
        let region = (number / FIRST_REGION + 1).ilog2();
        let lines = self.regions[region as usize].get();
        Region {
            lines: lines.expect("a block is in a region"),
            start: FIRST_REGION * ((1 << region) - 1),
            count: FIRST_REGION << region,
        }
    }

    fn block(&self, number: u32) -> &Line {
        let region = self.region_of(number);
        region.block(number - region.start)
    }

    fn link(&self, number: u32) -> u32 {
        let region = self.region_of(number);
        region.link(number - region.start)
    }

    fn set_link(&self, number: u32, to: u32) {
        let region = self.region_of(number);
        let (word, shift) = region.link_word(number - region.start);
        let other = word.load(Ordering::Relaxed) & !(u64::from(u32::MAX) << shift);
        word.store(other | u64::from(to) << shift, Ordering::Relaxed);
    }
}

/// The rest of a run.
#[derive(Clone)]
struct Chain<'a> {
    blocks: &'a Blocks,
    /// Mostly the blocks of a run are in one.
    region: Region<'a>,
    number: u32,
}

impl<'a> Iterator for Chain<'a> {
    type Item = &'a Line;

    #[inline(always)]
    fn next(&mut self) -> Option<&'a Line> {
        let mut at = self.number.wrapping_sub(self.region.start);
        if at >= self.region.count {
            if self.number == NIL {
                return None;
            }
            self.region = self.blocks.region_of(self.number);
            at = self.number - self.region.start;
        }
        self.number = self.region.link(at);
        Some(self.region.block(at))
    }
}

/// Blocks with consecutive numbers, and before them their links.
#[derive(Clone)]
struct Region<'a> {
    lines: &'a Lines,
    start: u32,
    count: u32,
}

impl<'a> Region<'a> {
    fn block(&self, at: u32) -> &'a Line {
        &self.lines[(self.count / LINKS_PER_LINE + at) as usize]
    }

    fn link_word(&self, at: u32) -> (&'a AtomicU64, u32) {
        let line = &self.lines[(at / LINKS_PER_LINE) as usize];
        (&line[(at % LINKS_PER_LINE / 2) as usize], at % 2 * 32)
    }

    fn link(&self, at: u32) -> u32 {
        let (word, shift) = self.link_word(at);
        (word.load(Ordering::Relaxed) >> shift) as u32
    }
}

fn wipe(block: &Line) {
    for word in block {
        word.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;

    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Store(usize),
        /// Which of those there are.
        Free(usize),
        Compact,
        Clear,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            20 => (1usize..60).prop_map(Op::Store),
            2 => (1usize..4000).prop_map(Op::Store),
            16 => any::<usize>().prop_map(Op::Free),
            2 => Just(Op::Compact),
            1 => Just(Op::Clear),
        ]
    }

    fn check(blocks: &Blocks, vacant: &Vacant, runs: &[(Run, Vec<u64>)]) {
        let mut in_use = 0;
        for (run, stored) in runs {
            let mut words = blocks
                .all(run)
                .flatten()
                .map(|word| word.load(Ordering::Relaxed));
            assert!(stored.iter().all(|word| words.next() == Some(*word)));
            assert!(words.all(|word| word == 0));
            assert_eq!(blocks.first(run)[0].load(Ordering::Relaxed), stored[0]);
            in_use += stored.len().div_ceil(WORDS);
        }
        assert_eq!((vacant.unused - vacant.free_len) as usize, in_use);
        let is_wiped = |block: &Line| block.iter().all(|word| word.load(Ordering::Relaxed) == 0);
        let all = (0..vacant.capacity).map(|number| blocks.block(number));
        assert_eq!(all.filter(|block| !is_wiped(block)).count(), in_use);
        let free = iter::successors(Some(vacant.free), |number| match number {
            &NIL => None,
            number => Some(blocks.link(*number)),
        });
        assert_eq!(
            free.filter(|number| *number != NIL).count(),
            vacant.free_len as usize
        );
    }

    proptest! {
        #[test]
        fn what_was_stored_is_there_until_it_is_freed(ops in proptest::collection::vec(op(), 1..120)) {
            let blocks = Blocks::default();
            let mut vacant = Vacant::default();
            let mut runs = Vec::<(Run, Vec<u64>)>::new();
            let mut next_word = 1;
            for op in ops {
                match op {
                    Op::Store(len) => {
                        let stored: Vec<u64> = (next_word..).take(len).collect();
                        next_word += len as u64;
                        prop_assert!(blocks.reserve(&mut vacant, len));
                        let capacity = vacant.capacity;
                        let run = blocks.store(&mut vacant, stored.iter().copied());
                        prop_assert_eq!(vacant.capacity, capacity);
                        runs.push((run, stored));
                    }
                    Op::Free(which) if !runs.is_empty() => {
                        let (run, _) = runs.swap_remove(which % runs.len());
                        blocks.free(&mut vacant, run);
                    }
                    Op::Free(_) => {}
                    Op::Compact => {
                        blocks.compact(&mut vacant, |compact| {
                            runs.iter_mut().for_each(|(run, _)| compact(run));
                        });
                        prop_assert_eq!(vacant.free_len, 0);
                    }
                    Op::Clear => {
                        runs.clear();
                        blocks.clear(&mut vacant);
                        prop_assert_eq!(vacant.unused, 0);
                    }
                }
                check(&blocks, &vacant, &runs);
            }
        }
    }

    #[test]
    fn blocks_are_used_again() {
        let blocks = Blocks::default();
        let mut vacant = Vacant::default();
        for _ in 0..10_000 {
            assert!(blocks.reserve(&mut vacant, 50));
            let run = blocks.store(&mut vacant, 1..=50);
            blocks.free(&mut vacant, run);
        }
        assert_eq!((vacant.unused, vacant.capacity), (7, FIRST_REGION));
    }

    /// One by one, in any order, all but a little goes back, and moving costs less than what
    /// was stored.
    #[test]
    fn what_leaves_is_given_back() {
        let blocks = Blocks::default();
        let mut vacant = Vacant::default();
        let mut runs: Vec<Run> = (0..10_000)
            .map(|_| {
                assert!(blocks.reserve(&mut vacant, 30));
                blocks.store(&mut vacant, 1..=30)
            })
            .collect();
        let mut moved = 0;
        for n in 0..runs.len() {
            let which = n * 7919 % runs.len();
            blocks.free(&mut vacant, runs.swap_remove(which));
            if vacant.is_sparse() {
                blocks.compact(&mut vacant, |compact| runs.iter_mut().for_each(compact));
                moved += runs.len();
            }
            assert!(
                vacant.unused <= FIRST_REGION / 4
                    || vacant.unused as usize <= 8 * 4 * (runs.len() + 1)
            );
        }
        assert!(moved < 10_000 / 7, "{moved}");
    }

    #[test]
    fn more_than_there_are_numbers_for_is_refused() {
        let blocks = Blocks::default();
        let mut vacant = Vacant::default();
        assert!(!blocks.reserve(&mut vacant, usize::MAX));
        vacant.capacity = FIRST_REGION * ((1 << REGIONS) - 1);
        vacant.unused = vacant.capacity;
        assert!(!blocks.reserve(&mut vacant, 1));
    }
}
