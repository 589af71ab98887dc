//! One cached session: its DER bytes and how long they may be used.

use std::fmt;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::blocks::{self, Blocks, Run, Vacant};
use crate::id::{self, SessionId};
use crate::pages::Line;
use crate::policy::{self, Queue};

/// A moment on both clocks, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, since 1970: what session times are written in.
    pub wall: i64,
    /// The monotonic clock: it keeps counting when somebody sets the wall clock back.
    pub up: i64,
}

/// When a session was made and for how many seconds it is good.
///
/// It ends on whichever clock says so first: a wall clock set back cannot
/// prolong a session, and a monotonic clock that stood still while the machine
/// slept cannot either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    wall_start: i64,
    up_start: i64,
    seconds: u32,
}

impl Lifetime {
    /// The lifetime of a session with this `time` and `timeout`, seen at `now`.
    ///
    /// A session dated in the future (a peer with a fast clock) counts from now.
    /// A negative timeout is none at all.
    pub fn new(time: i64, timeout: i64, now: Now) -> Self {
        let timeout = timeout.max(0);
        let seconds = u32::try_from(timeout).unwrap_or(u32::MAX);
        // More seconds than fit: what is cut off, is cut off at the start.
        let start = time.saturating_add(timeout - i64::from(seconds));
        let wall_start = start.min(now.wall);
        let age = now.wall.saturating_sub(wall_start);
        Self {
            wall_start,
            up_start: now.up.saturating_sub(age),
            seconds,
        }
    }

    /// The second of the wall clock at which it is over at the latest.
    pub(crate) fn end(&self, limit: u32) -> i64 {
        self.wall_start.saturating_add(self.seconds(limit))
    }

    fn seconds(&self, limit: u32) -> i64 {
        i64::from(match limit {
            0 => self.seconds,
            limit => limit.min(self.seconds),
        })
    }

    fn to_words(self) -> [u64; LIFETIME_WORDS] {
        [
            self.wall_start as u64,
            self.up_start as u64,
            self.seconds.into(),
        ]
    }

    fn from_words([wall_start, up_start, seconds]: [u64; LIFETIME_WORDS]) -> Self {
        Self {
            wall_start: wall_start as i64,
            up_start: up_start as i64,
            seconds: seconds as u32,
        }
    }

    /// Whether the session is past its own timeout, or past `limit` seconds
    /// where that is shorter (0: no limit).
    pub fn is_over(&self, now: Now, limit: u32) -> bool {
        // The two clocks tick at different moments, so the second one gets a second's grace.
        now.wall >= self.end(limit) || now.up.saturating_sub(self.up_start) > self.seconds(limit)
    }
}

/// What the cache keeps for one session ID. Its bytes are in the [`Blocks`] of its shard.
///
/// The first block is all that a search reads: it begins with the lifetime and the ID. The DER
/// bytes follow, without the ID if it is in there.
pub(crate) struct Entry {
    run: Run,
    /// Bytes of DER.
    der_len: u32,
    /// The entry's place in its shard's eviction order.
    pub(crate) slot: u32,
    /// Hits, up to [`policy::MOST_USES`].
    uses: AtomicU8,
    id_len: u8,
    /// Where in the DER bytes the ID is; 0: nowhere, because a session may be stored under
    /// another ID than its own.
    id_in_der: u8,
}

/// Words before the ID: the lifetime.
const LIFETIME_WORDS: usize = 3;

/// Words before the DER bytes.
const HEAD_WORDS: usize = LIFETIME_WORDS + id::WORDS;
const _: () = assert!(HEAD_WORDS <= blocks::WORDS);

/// A session's ID is behind its version and its cipher suite, so no further than this.
const ID_SEARCHED: usize = 24;

/// What is stored of a session, until it is.
pub(crate) struct Draft<'a> {
    id: &'a SessionId,
    lifetime: Lifetime,
    /// The DER bytes before the ID and those behind it.
    der: [&'a [u8]; 2],
    der_len: u32,
}

impl<'a> Draft<'a> {
    /// `None` for DER of 4 GiB or more.
    pub(crate) fn new(id: &'a SessionId, der: &'a [u8], lifetime: Lifetime) -> Option<Self> {
        let padded = id.padded();
        let mut places = der.windows(id::MAX_LEN).take(ID_SEARCHED);
        let parts = match places.position(|bytes| bytes == padded) {
            None | Some(0) => [&[], der],
            Some(at) => [&der[..at], &der[at + id::MAX_LEN..]],
        };
        Some(Self {
            id,
            lifetime,
            der: parts,
            der_len: u32::try_from(der.len()).ok()?,
        })
    }

    /// How many words it takes.
    pub(crate) fn words(&self) -> usize {
        HEAD_WORDS
            + self
                .der
                .iter()
                .map(|part| part.len().div_ceil(8))
                .sum::<usize>()
    }

    /// Stores it where there is a reservation for it.
    pub(crate) fn store(&self, blocks: &Blocks, vacant: &mut Vacant) -> Entry {
        let (id, id_len) = self.id.words();
        let head = self.lifetime.to_words().into_iter().chain(id);
        let der = self.der.iter().flat_map(|part| words(part));
        Entry {
            run: blocks.store(vacant, head.chain(der)),
            der_len: self.der_len,
            slot: 0,
            uses: AtomicU8::new(0),
            id_len,
            id_in_der: self.der[0].len() as u8,
        }
    }
}

/// Bytes as words, the last one filled up with zeros.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (whole, rest) = bytes.as_chunks();
    let last = (!rest.is_empty()).then(|| {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        u64::from_ne_bytes(last)
    });
    whole
        .iter()
        .map(|word| u64::from_ne_bytes(*word))
        .chain(last)
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

/// What DER bytes are copied to.
pub(crate) trait Byte: Sized {
    /// The lengths are the same.
    fn copy(to: &mut [Self], from: &[u8]);
}

impl Byte for u8 {
    fn copy(to: &mut [Self], from: &[u8]) {
        to.copy_from_slice(from);
    }
}

impl Byte for MaybeUninit<u8> {
    fn copy(to: &mut [Self], from: &[u8]) {
        to.write_copy_of_slice(from);
    }
}

/// Writes words to `out` as far as there is room, from `at` on, which goes on.
#[inline(always)]
fn put<B: Byte>(out: &mut [B], at: &mut usize, words: &[AtomicU64]) {
    let room = out.get_mut(*at..).unwrap_or_default();
    *at += words.len() * 8;
    let (whole, rest) = room.as_chunks_mut::<8>();
    for (eight, word) in whole.iter_mut().zip(words) {
        B::copy(eight, &load(word).to_ne_bytes());
    }
    if let Some(word) = words.get(whole.len()) {
        B::copy(rest, &load(word).to_ne_bytes()[..rest.len()]);
    }
}

impl Entry {
    /// Whether it is stored under this ID.
    pub(crate) fn is(&self, blocks: &Blocks, id: &SessionId) -> bool {
        id.is(self.id_words(blocks).map(load), self.id_len)
    }

    fn id_words<'a>(&self, blocks: &'a Blocks) -> [&'a AtomicU64; id::WORDS] {
        let [_, _, _, id @ .., _] = blocks.first(&self.run);
        id.each_ref()
    }

    pub(crate) fn der_len(&self) -> usize {
        self.der_len as usize
    }

    /// Copies the DER bytes to `out`, as many as it has room for.
    pub(crate) fn copy_der<B: Byte>(&self, blocks: &Blocks, out: &mut [B]) {
        let len = out.len().min(self.der_len());
        let out = &mut out[..len];
        let before_id = usize::from(self.id_in_der);
        let mut blocks = blocks.all(&self.run);
        let Some([_, _, _, id @ .., word]) = blocks.next() else {
            return;
        };
        let mut at = 0;
        put(out, &mut at, std::slice::from_ref(word));
        if before_id > 0 {
            let more = before_id.div_ceil(8) - 1;
            let second = if more > 0 { blocks.next() } else { None };
            let (more, behind_id) = second.map_or((&[][..], &[][..]), |block| block.split_at(more));
            put(out, &mut at, more);
            at = before_id;
            put(out, &mut at, id);
            put(out, &mut at, behind_id);
        }
        for block in blocks {
            match out.get_mut(at..).and_then(|room| room.first_chunk_mut()) {
                // Of known length, which saves half the time.
                Some(room) => put::<B>(room as &mut [B; size_of::<Line>()], &mut 0, block),
                None => put(out, &mut { at }, block),
            }
            at += size_of::<Line>();
        }
    }

    pub(crate) fn lifetime(&self, blocks: &Blocks) -> Lifetime {
        let [wall, up, seconds, ..] = blocks.first(&self.run);
        Lifetime::from_words([wall, up, seconds].map(load))
    }

    /// Wipes its bytes.
    pub(crate) fn free(self, blocks: &Blocks, vacant: &mut Vacant) {
        blocks.free(vacant, self.run);
    }

    /// Where its bytes are, for who moves them.
    pub(crate) fn run(&mut self) -> &mut Run {
        &mut self.run
    }

    /// Notes a hit. Readers share the entry, so the count is only written as long as
    /// that changes it: a hot entry's cache line then stays shared. That of two
    /// hits at once one may get lost, does not matter.
    pub(crate) fn touch(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < policy::MOST_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    /// Whether there were hits since they were forgotten; forgets those that the policy
    /// does not count on in this queue.
    pub(crate) fn take_use(&mut self, queue: Queue) -> bool {
        let uses = self.uses.get_mut();
        let used = *uses > 0;
        *uses = match queue {
            Queue::Trial => 0,
            Queue::Proven => uses.saturating_sub(1),
        };
        used
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("der_len", &self.der_len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now {
        wall: 1_000_000,
        up: 500,
    };

    fn later(seconds: i64) -> Now {
        Now {
            wall: NOW.wall + seconds,
            up: NOW.up + seconds,
        }
    }

    #[test]
    fn ends_at_time_plus_timeout() {
        let life = Lifetime::new(NOW.wall - 40, 100, NOW);
        assert!(!life.is_over(later(59), 0));
        assert!(life.is_over(later(60), 0));
    }

    #[test]
    fn the_shorter_of_timeout_and_limit_counts() {
        let life = Lifetime::new(NOW.wall, 100, NOW);
        assert!(!life.is_over(later(9), 10));
        assert!(life.is_over(later(10), 10));
        assert!(life.is_over(later(100), 1000));
    }

    #[test]
    fn no_timeout_or_a_negative_one_is_over_at_once() {
        assert!(Lifetime::new(NOW.wall, 0, NOW).is_over(NOW, 0));
        assert!(Lifetime::new(NOW.wall, -5, NOW).is_over(NOW, 0));
        assert!(Lifetime::new(i64::MIN, i64::MAX, NOW).is_over(NOW, 0));
    }

    #[test]
    fn a_future_date_gives_no_extra_life() {
        for time in [NOW.wall + 86_400, i64::MAX] {
            let life = Lifetime::new(time, 100, NOW);
            assert!(!life.is_over(later(99), 0));
            assert!(life.is_over(later(100), 0));
        }
    }

    #[test]
    fn setting_the_wall_clock_back_gives_no_extra_life() {
        let life = Lifetime::new(NOW.wall, 100, NOW);
        let stepped = Now {
            wall: NOW.wall - 3600,
            up: NOW.up + 101,
        };
        assert!(life.is_over(stepped, 0));
    }

    #[test]
    fn a_session_from_long_ago_with_a_huge_timeout_ends_when_it_says() {
        let life = Lifetime::new(-5_000_000_000, 5_001_000_100, NOW);
        assert!(!life.is_over(later(99), 0));
        assert!(life.is_over(later(100), 0));
    }

    #[test]
    fn a_huge_timeout_does_not_overflow() {
        assert!(Lifetime::new(i64::MIN, 1, NOW).is_over(NOW, 0));
        assert!(!Lifetime::new(i64::MAX, i64::MAX, NOW).is_over(NOW, 0));
        let life = Lifetime::new(NOW.wall, i64::MAX, NOW);
        assert!(!life.is_over(later(1_000_000_000), 0));
    }

    fn stored(id: &SessionId, der: &[u8], life: Lifetime) -> (Blocks, Entry, usize) {
        let blocks = Blocks::default();
        let mut vacant = Vacant::default();
        let draft = Draft::new(id, der, life).unwrap();
        let words = draft.words();
        assert!(blocks.reserve(&mut vacant, words));
        let entry = draft.store(&blocks, &mut vacant);
        (blocks, entry, words)
    }

    #[test]
    fn an_entry_keeps_what_it_is_given() {
        let life = Lifetime::new(NOW.wall - 7, 100, NOW);
        let short = SessionId::new(&[1, 2, 3]).unwrap();
        let long = SessionId::new(&[7; 32]).unwrap();
        let der_with_long = [&[9; 15][..], &[7; 32], b"some more DER"].concat();
        let with_long_last = [&[9; 16][..], &[7; 32]].concat();
        let far = [&[9; 40][..], &[7; 32]].concat();
        for (id, der, words) in [
            (&short, &b""[..], 7),
            (&short, b"some der", 8),
            (&short, &der_with_long, 15),
            (&long, &der_with_long, 11),
            (&long, &with_long_last, 9),
            (&long, &[&[9; 23][..], &[7; 32], &[3; 200]].concat(), 35),
            (&long, &[7; 32], 11),
            (&long, &far, 16),
        ] {
            let (blocks, entry, taken) = stored(id, der, life);
            for room in 0..der.len() + 2 {
                let mut read = vec![0xee; room];
                entry.copy_der(&blocks, &mut read);
                let copied = room.min(der.len());
                assert_eq!(read[..copied], der[..copied]);
                assert!(read[copied..].iter().all(|byte| *byte == 0xee));
            }
            assert_eq!(entry.der_len(), der.len());
            assert_eq!(entry.lifetime(&blocks), life);
            assert!(entry.is(&blocks, id));
            for other in [&[1, 2][..], &[1, 2, 3, 0], &[7; 31], &[9; 32]] {
                assert!(!entry.is(&blocks, &SessionId::new(other).unwrap()));
            }
            assert_eq!(taken, words);
        }
    }

    #[test]
    fn a_lifetime_survives_being_stored() {
        for (wall, up) in [(i64::MIN, i64::MIN), (-1, 0), (0, -1), (i64::MAX, i64::MAX)] {
            let now = Now { wall, up };
            for timeout in [0, 1, i64::MAX] {
                let life = Lifetime::new(wall, timeout, now);
                assert_eq!(Lifetime::from_words(life.to_words()), life);
            }
        }
    }

    #[test]
    fn debug_shows_no_der() {
        let id = SessionId::new(&[1]).unwrap();
        let (_, entry, _) = stored(&id, b"secret", Lifetime::new(0, 1, NOW));
        assert_eq!(format!("{entry:?}"), "Entry { der_len: 6, .. }");
    }
}
