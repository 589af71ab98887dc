//! The bytes of one shard's sessions.
//!
//! # Structure
//!
//! A session is one run of bytes, named by the number of its first unit. Runs come in size classes,
//! eight for each doubling, so many new sessions fit the run of one that left. The free runs of a
//! class form a list, linked through their first bytes. Everything behind the last run is unused.
//!
//! # Invariants
//!
//! 1. A unit below [`Region::end`] is in exactly one run: a session's or a free one.
//! 2. All bytes outside sessions' runs are zero, except for the links of free runs.
//! 3. A run belongs to the class of its length, so the length of a run tells its class.

use crate::base::secret_memory::Pages;
use crate::base::system;

/// Bytes of a unit.
pub(crate) const UNIT: usize = 16;

/// Up to twice as many units, each size has its own class.
const EXACT: u32 = 8;

/// Units of the longest run: longer than any session.
const LONGEST: u32 = 1 << 27;

/// Bytes of the first pages.
const FIRST_PAGES: usize = 16 << 10;

/// Fewer units are not worth a system call. If nothing is stored any more, a quarter of them is.
const WORTH_IT: u32 = (16 << 10) / UNIT as u32;

/// A region of more units is moved only to gain a quarter of them, because moving many units takes
/// long.
const LARGE: u32 = (1 << 20) / UNIT as u32;

/// Memory for runs of bytes.
#[derive(Default)]
pub(crate) struct Region {
    pages: Pages,
    /// All units from this one on are unused.
    end: u32,
    /// How many units are in free runs.
    free: u32,
    /// Units from this one on were never used: the system has given memory for those before it.
    touched: u32,
    /// For each class, the number of the first free run plus one; 0: none.
    heads: Vec<u32>,
}

/// Stored bytes. Only [`Region::free`] ends it.
pub(crate) struct Run {
    first: u32,
}

/// How many units a run of so many bytes has, and the number of its class.
#[inline]
fn class(len: usize) -> Option<(u32, usize)> {
    if len > LONGEST as usize * UNIT {
        return None;
    }
    let last = (len.div_ceil(UNIT) as u32).saturating_sub(1);
    // Runs are whole multiples of this power of two.
    let step = (last | EXACT).ilog2() - EXACT.ilog2();
    let place = last >> step;
    Some(((place + 1) << step, (EXACT * step + place) as usize))
}

fn size(len: usize) -> u32 {
    class(len).expect("it was reserved").0
}

fn worth_it(end: u32, free: u32) -> u32 {
    if end == free { WORTH_IT / 4 } else { WORTH_IT }
}

fn is_sparse(end: u32, free: u32) -> bool {
    let part = if end > LARGE { 4 } else { 8 };
    free > end / part && free >= worth_it(end, free)
}

fn range(first: u32, units: u32) -> std::ops::Range<usize> {
    let start = first as usize * UNIT;
    start..start + units as usize * UNIT
}

impl Region {
    /// Makes room for so many bytes; `false` if there is no memory.
    pub(crate) fn reserve(&mut self, len: usize) -> bool {
        let Some((units, class)) = class(len) else {
            return false;
        };
        let missing = (class + 1).saturating_sub(self.heads.len());
        if self.heads.try_reserve(missing).is_err() {
            return false;
        }
        self.heads.resize(self.heads.len() + missing, 0);
        if self.heads[class] != 0 {
            return true;
        }
        let end = self.end.checked_add(units);
        let Some(needed) = end.and_then(|end| (end as usize).checked_mul(UNIT)) else {
            return false;
        };
        let generous = needed.max(self.pages.len() / 4 * 5).max(FIRST_PAGES);
        needed <= self.pages.len() || self.pages.grow(generous) || self.pages.grow(needed)
    }

    /// Stores these parts one behind the other, in room that was reserved.
    pub(crate) fn store(&mut self, parts: &[&[u8]]) -> Run {
        let len = parts.iter().map(|part| part.len()).sum();
        let (units, class) = class(len).expect("it was reserved");
        let first = match self.heads[class] {
            0 => {
                self.end += units;
                self.touched = self.touched.max(self.end);
                self.end - units
            }
            head => {
                self.free -= units;
                let link = &mut self.pages[range(head - 1, 1)][..4];
                self.heads[class] = u32::from_ne_bytes(link.try_into().expect("four bytes"));
                link.fill(0);
                head - 1
            }
        };
        let mut room = &mut self.pages[range(first, units)];
        for part in parts {
            let (to, rest) = room.split_at_mut(part.len());
            to.copy_from_slice(part);
            room = rest;
        }
        Run { first }
    }

    /// The bytes of a run that has so many of them.
    pub(crate) fn bytes(&self, run: &Run, len: usize) -> &[u8] {
        let start = run.first as usize * UNIT;
        &self.pages[start..start + len]
    }

    /// Wipes a run.
    #[inline]
    pub(crate) fn free(&mut self, run: Run, len: usize) {
        let (units, class) = class(len).expect("it was stored");
        let bytes = &mut self.pages[range(run.first, units)];
        system::wipe(&mut bytes[..len]);
        if run.first + units == self.end {
            self.end = run.first;
            return;
        }
        bytes[..4].copy_from_slice(&self.heads[class].to_ne_bytes());
        self.heads[class] = run.first + 1;
        self.free += units;
    }

    /// Whether enough is free among the runs for [`Region::compact`] to pay: more than an eighth.
    pub(crate) fn is_sparse(&self) -> bool {
        is_sparse(self.end, self.free)
    }

    /// Whether something could be moved or given back if a run of so many bytes were freed.
    pub(crate) fn is_sparse_without(&self, len: usize) -> bool {
        let units = size(len);
        let free = self.free + units;
        // Everything is free only when the last session has left.
        let worth = worth_it(self.end, free);
        is_sparse(self.end, free) || self.has_spare(self.end - units, worth)
    }

    /// Whether enough of the memory that was used is behind the last run.
    fn has_spare(&self, end: u32, worth: u32) -> bool {
        let spare = self.touched - end;
        spare > self.touched / 8 && spare >= worth
    }

    /// Gives back the memory behind the last run, if that is worth a system call.
    pub(crate) fn give_back_end(&mut self) {
        if self.has_spare(self.end, worth_it(self.end, self.free))
            && let Some(kept) = self.pages.give_back_from(self.end as usize * UNIT)
        {
            self.touched = self.touched.min((kept / UNIT) as u32);
        }
    }

    /// Moves all runs together into new memory, if there is some. Returns the old memory, which
    /// wipes itself when it is dropped. `runs` must call its argument with every run and its
    /// length.
    pub(crate) fn compact(&mut self, runs: impl FnOnce(&mut dyn FnMut(&mut Run, usize))) -> Pages {
        let in_use = (self.end - self.free) as usize * UNIT;
        let mut pages = Pages::default();
        let generous = (in_use / 4 * 5).max(FIRST_PAGES);
        if in_use > 0 && !pages.grow(generous) && !pages.grow(in_use) {
            return pages;
        }
        let mut end = 0;
        runs(&mut |run, len| {
            let units = size(len);
            pages[range(end, units)][..len].copy_from_slice(self.bytes(run, len));
            run.first = end;
            end += units;
        });
        (self.end, self.free, self.touched) = (end, 0, end);
        self.heads.fill(0);
        std::mem::replace(&mut self.pages, pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_class_fits_and_wastes_an_eighth_at_most() {
        let mut before = (0, 0);
        for len in 1..300_000 {
            let (units, number) = class(len).unwrap();
            let exact = len.div_ceil(UNIT) as u32;
            assert!(units >= exact && units <= exact + exact / 8, "{len}");
            let same = before == (units, number);
            assert!(
                same || (units > before.0 && number == before.1 + usize::from(before.0 > 0)),
                "{len}"
            );
            before = (units, number);
        }
        assert_eq!(class(0), Some((1, 0)));
        assert!(class(LONGEST as usize * UNIT).is_some());
        assert!(class(LONGEST as usize * UNIT + 1).is_none() && class(usize::MAX).is_none());
    }

    #[derive(Clone, Debug)]
    enum Op {
        Store(usize),
        /// Which of the stored ones.
        Free(usize),
        Compact,
        Clear,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            20 => (1usize..500).prop_map(Op::Store),
            2 => (1usize..4000).prop_map(Op::Store),
            16 => any::<usize>().prop_map(Op::Free),
            2 => Just(Op::Compact),
            1 => Just(Op::Clear),
        ]
    }

    impl Region {
        fn is_due(&self) -> bool {
            self.is_sparse() || self.has_spare(self.end, worth_it(self.end, self.free))
        }
    }

    fn check(region: &Region, runs: &[(Run, Vec<u8>)]) {
        let mut covered = vec![false; region.end as usize];
        let mut cover = |first: u32, units: u32| {
            for unit in &mut covered[first as usize..(first + units) as usize] {
                assert!(!std::mem::replace(unit, true));
            }
        };
        for (run, stored) in runs {
            assert_eq!(region.bytes(run, stored.len()), stored);
            let units = size(stored.len());
            assert!(
                region.pages[range(run.first, units)][stored.len()..]
                    .iter()
                    .all(|byte| *byte == 0)
            );
            cover(run.first, units);
        }
        let mut free = 0;
        for (class, head) in region.heads.iter().enumerate() {
            let units =
                (1..).find(|units| self::class(*units as usize * UNIT) == Some((*units, class)));
            let mut head = *head;
            while head != 0 {
                let units = units.unwrap();
                let bytes = &region.pages[range(head - 1, units)];
                assert!(bytes[4..].iter().all(|byte| *byte == 0));
                cover(head - 1, units);
                free += units;
                head = u32::from_ne_bytes(bytes[..4].try_into().unwrap());
            }
        }
        assert_eq!(region.free, free);
        assert!(region.touched >= region.end);
        assert!(covered.into_iter().all(|covered| covered));
        assert!(
            region.pages[region.end as usize * UNIT..]
                .iter()
                .all(|byte| *byte == 0)
        );
    }

    proptest! {
        #[test]
        fn what_was_stored_is_there_until_it_is_freed(ops in proptest::collection::vec(op(), 1..120)) {
            let mut region = Region::default();
            let mut runs = Vec::<(Run, Vec<u8>)>::new();
            for (number, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Store(len) => {
                        let stored = vec![number as u8 | 1; len];
                        prop_assert!(region.reserve(len));
                        let capacity = region.pages.len();
                        let (one, other) = stored.split_at(len / 3);
                        let run = region.store(&[one, other]);
                        prop_assert_eq!(region.pages.len(), capacity);
                        runs.push((run, stored));
                    }
                    Op::Free(which) if !runs.is_empty() => {
                        let (run, stored) = runs.swap_remove(which % runs.len());
                        let was_due = region.is_due();
                        let is_foreseen = region.is_sparse_without(stored.len());
                        region.free(run, stored.len());
                        prop_assert!(is_foreseen || was_due || !region.is_due());
                    }
                    Op::Free(_) => {}
                    Op::Compact => {
                        region.compact(|compact| {
                            runs.iter_mut().for_each(|(run, stored)| compact(run, stored.len()));
                        });
                        prop_assert_eq!(region.free, 0);
                    }
                    Op::Clear => {
                        runs.clear();
                        region = Region::default();
                    }
                }
                check(&region, &runs);
            }
        }
    }

    #[test]
    fn runs_are_used_again() {
        let mut region = Region::default();
        assert!(region.reserve(10));
        let below = region.store(&[&[1; 10]]);
        for round in 0..10_000 {
            let len = 300 + round % 20;
            assert!(region.reserve(len));
            let run = region.store(&[&[1; 400][..len]]);
            assert!(region.reserve(10));
            let above = region.store(&[&[1; 10]]);
            region.free(run, len);
            region.free(above, 10);
        }
        assert!(region.end < 60, "{}", region.end);
        region.free(below, 10);
    }

    /// Freeing the runs one by one, in any order, gives back nearly all memory. Moving costs less
    /// than ten times the bytes that were stored.
    #[test]
    fn what_leaves_is_given_back() {
        let mut region = Region::default();
        let mut runs: Vec<Run> = (0..10_000)
            .map(|_| {
                assert!(region.reserve(240));
                region.store(&[&[1; 240]])
            })
            .collect();
        let mut moved = 0;
        for n in 0..runs.len() {
            let which = n * 7919 % runs.len();
            region.free(runs.swap_remove(which), 240);
            if region.is_sparse() {
                region.compact(|compact| runs.iter_mut().for_each(|run| compact(run, 240)));
                moved += runs.len();
            }
            region.give_back_end();
            let touched = region.touched as usize * UNIT;
            assert!(touched <= 2 * 240 * (runs.len() + 100));
        }
        assert!(moved < 100_000, "{moved}");
        // A large last run is given back without moving the others.
        for others in [0, 1] {
            let len = 1 << 20;
            let small = (0..others).map(|_| {
                assert!(region.reserve(10));
                region.store(&[&[1; 10]])
            });
            let small: Vec<Run> = small.collect();
            assert!(region.reserve(len));
            let run = region.store(&[&vec![1; len]]);
            region.free(run, len);
            assert!(!region.is_sparse());
            region.give_back_end();
            assert!(
                region.touched as usize * UNIT <= 1 << 16,
                "{}",
                region.touched
            );
            small.into_iter().for_each(|run| region.free(run, 10));
        }
    }

    #[test]
    fn an_eighth_of_few_and_a_quarter_of_many_is_worth_moving() {
        for (runs, expected) in [(700, 88), (8000, 2001)] {
            let mut region = Region::default();
            let mut runs: Vec<Run> = (0..runs)
                .map(|_| {
                    assert!(region.reserve(240));
                    region.store(&[&[1; 240]])
                })
                .collect();
            let mut freed = 0;
            while !region.is_sparse() {
                region.free(runs.remove(0), 240);
                freed += 1;
            }
            assert_eq!(freed, expected);
        }
    }

    #[test]
    fn more_than_there_are_numbers_for_is_refused() {
        let mut region = Region::default();
        assert!(!region.reserve(usize::MAX));
        region.end = u32::MAX - 3;
        assert!(!region.reserve(4 * UNIT));
    }
}
