//! One cached session: its DER bytes and how long they may be used.

use std::fmt;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::blocks::{self, Blocks, Run, Vacant};
use super::lifetime::{self, Lifetime};
use super::policy::{self, Queue};
use crate::base::secret_memory::Line;
use crate::base::session_id::{self, SessionId};

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
    /// How often handshakes used it, up to [`policy::MOST_USES`].
    uses: AtomicU8,
    id_len: u8,
    /// Where in the DER bytes the ID is; 0: nowhere, because a session may be stored under
    /// another ID than its own.
    id_in_der: u8,
    /// That of the process which stored it, see [`super::Cache::take_own`].
    pub(crate) generation: u8,
}

/// Words before the DER bytes.
const HEAD_WORDS: usize = lifetime::WORDS + session_id::WORDS;
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
        let mut places = der.windows(session_id::MAX_LEN).take(ID_SEARCHED);
        let parts = match places.position(|bytes| bytes == padded) {
            None | Some(0) => [&[], der],
            Some(at) => [&der[..at], &der[at + session_id::MAX_LEN..]],
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

    fn der_words(&self) -> impl Iterator<Item = u64> {
        self.der.iter().flat_map(|part| words(part))
    }

    /// Stores it where there is a reservation for it.
    pub(crate) fn store(&self, blocks: &Blocks, vacant: &mut Vacant) -> Entry {
        let (id, id_len) = self.id.words();
        let head = self.lifetime.to_words().into_iter().chain(id);
        Entry {
            run: blocks.store(vacant, head.chain(self.der_words())),
            der_len: self.der_len,
            slot: 0,
            uses: AtomicU8::new(0),
            id_len,
            id_in_der: self.der[0].len() as u8,
            generation: 0,
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
        for (to, from) in to.iter_mut().zip(from) {
            to.write(*from);
        }
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

    fn id_words<'a>(&self, blocks: &'a Blocks) -> [&'a AtomicU64; session_id::WORDS] {
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

    /// Whether the DER bytes have these in them.
    pub(crate) fn contains(&self, blocks: &Blocks, part: &[u8]) -> bool {
        let mut rest = self.der(blocks);
        loop {
            if rest.clone().take(part.len()).eq(part.iter().copied()) {
                return true;
            }
            if rest.next().is_none() {
                return false;
            }
        }
    }

    /// The DER bytes one by one. [`Entry::copy_der`] is faster.
    fn der(&self, blocks: &Blocks) -> impl Iterator<Item = u8> + Clone {
        let words = blocks.all(&self.run).flatten().map(load);
        let bytes = |from, len| {
            words
                .clone()
                .skip(from)
                .flat_map(u64::to_ne_bytes)
                .take(len)
        };
        let before_id = usize::from(self.id_in_der);
        let id_len = if before_id > 0 {
            session_id::MAX_LEN
        } else {
            0
        };
        bytes(HEAD_WORDS, before_id)
            .chain(bytes(lifetime::WORDS, id_len))
            .chain(bytes(
                HEAD_WORDS + before_id.div_ceil(8),
                self.der_len() - before_id - id_len,
            ))
    }

    pub(crate) fn lifetime(&self, blocks: &Blocks) -> Lifetime {
        let [wall, up, seconds, ..] = blocks.first(&self.run);
        Lifetime::from_words([wall, up, seconds].map(load))
    }

    /// Whether storing the draft under the entry's ID would change nothing.
    pub(crate) fn is_same(&self, blocks: &Blocks, draft: &Draft<'_>) -> bool {
        let stored = blocks.all(&self.run).flatten().skip(HEAD_WORDS).map(load);
        self.der_len == draft.der_len
            && usize::from(self.id_in_der) == draft.der[0].len()
            && self.lifetime(blocks).is_same(&draft.lifetime)
            && draft
                .der_words()
                .eq(stored.take(draft.words() - HEAD_WORDS))
    }

    /// Wipes its bytes.
    pub(crate) fn free(self, blocks: &Blocks, vacant: &mut Vacant) {
        blocks.free(vacant, self.run);
    }

    /// Where its bytes are, for who moves them.
    pub(crate) fn run(&mut self) -> &mut Run {
        &mut self.run
    }

    /// Notes a use. Readers share the entry, so the count is only written as long as
    /// that changes it: a hot entry's cache line then stays shared. That of two
    /// uses at once one may get lost, does not matter.
    pub(crate) fn touch(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < policy::MOST_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    /// Whether there were uses since they were forgotten; forgets those that the policy
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
    use crate::base::clock::Now;

    const NOW: Now = Now {
        wall: 1_000_000,
        up: 500,
    };

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
            assert!(entry.der(&blocks).eq(der.iter().copied()));
            for at in 0..der.len() {
                assert!(entry.contains(&blocks, &der[at..]));
                assert!(entry.contains(&blocks, &der[..at]));
            }
            assert!(!entry.contains(&blocks, &[der, &[0]].concat()));
            assert_eq!(entry.lifetime(&blocks), life);
            assert!(entry.is(&blocks, id));
            for other in [&[1, 2][..], &[1, 2, 3, 0], &[7; 31], &[9; 32]] {
                assert!(!entry.is(&blocks, &SessionId::new(other).unwrap()));
            }
            assert_eq!(taken, words);
        }
    }

    #[test]
    fn only_the_very_same_session_is_the_same() {
        let id = SessionId::new(&[7; 32]).unwrap();
        let life = Lifetime::new(NOW.wall - 7, 100, NOW);
        let later = Now {
            wall: NOW.wall + 5,
            up: NOW.up + 6,
        };
        for der in [
            vec![],
            vec![1; 9],
            [&[9; 15][..], &[7; 32], &[3; 99]].concat(),
        ] {
            let (blocks, entry, _) = stored(&id, &der, life);
            let is_same = |der: &[u8], time, timeout| {
                let life = Lifetime::new(time, timeout, later);
                entry.is_same(&blocks, &Draft::new(&id, der, life).unwrap())
            };
            assert!(is_same(&der, NOW.wall - 7, 100));
            assert!(!is_same(&der, NOW.wall - 8, 100));
            assert!(!is_same(&der, NOW.wall - 7, 99));
            assert!(!is_same(&[&der[..], &[0]].concat(), NOW.wall - 7, 100));
            for at in 0..der.len() {
                let mut other = der.clone();
                other[at] ^= 1;
                assert!(!is_same(&other, NOW.wall - 7, 100));
                assert!(!is_same(&der[..at], NOW.wall - 7, 100));
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
