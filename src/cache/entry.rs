//! One cached session: its DER bytes and how long they may be used.

use std::fmt;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, Ordering};

use super::lifetime::{self, Lifetime};
use super::policy::{self, Queue};
use super::region::{Region, Run};
use crate::base::session_id::{self, SessionId};

/// A session in the cache. Its bytes are a run in the [`Region`] of its shard: the lifetime, the ID
/// if it is not in the DER, and the DER.
pub(crate) struct Entry {
    run: Run,
    /// Bytes of DER.
    der_len: u32,
    /// The entry's place in its shard's eviction order.
    pub(crate) slot: u32,
    /// How many handshakes used it, up to [`policy::MOST_USES`].
    uses: AtomicU8,
    id_len: u8,
    /// Where in the DER bytes the ID is. 0 if it is not there: a session may be stored under
    /// another ID than its own.
    id_in_der: u8,
    /// The generation of the process that stored it, see [`super::Cache::take_own`].
    pub(crate) generation: u8,
}

/// A session's ID comes after its version and its cipher suite, so it begins by this byte.
const ID_SEARCHED: usize = 24;

/// A session that is about to be stored.
pub(crate) struct Draft<'a> {
    id: &'a SessionId,
    lifetime: Lifetime,
    der: &'a [u8],
    der_len: u32,
    id_in_der: u8,
}

impl<'a> Draft<'a> {
    /// `None` for DER of 4 GiB or more.
    pub(crate) fn new(id: &'a SessionId, der: &'a [u8], lifetime: Lifetime) -> Option<Self> {
        let padded = id.padded();
        let mut places = der.windows(session_id::MAX_LEN).take(ID_SEARCHED);
        let is_id = |bytes: &[u8]| bytes[0] == padded[0] && bytes == padded;
        Some(Self {
            id,
            lifetime,
            der,
            der_len: u32::try_from(der.len()).ok()?,
            id_in_der: places.position(is_id).unwrap_or(0) as u8,
        })
    }

    /// The ID, if it must be stored beside the DER.
    fn separate_id(&self) -> &[u8] {
        match self.id_in_der {
            0 => self.id.as_bytes(),
            _ => &[],
        }
    }

    /// How many bytes it needs.
    pub(crate) fn len(&self) -> usize {
        lifetime::LEN + self.separate_id().len() + self.der.len()
    }

    /// Stores it in room that was reserved.
    pub(crate) fn store(&self, region: &mut Region) -> Entry {
        let lifetime = self.lifetime.to_bytes();
        Entry {
            run: region.store(&[&lifetime, self.separate_id(), self.der]),
            der_len: self.der_len,
            slot: 0,
            uses: AtomicU8::new(0),
            id_len: self.id.as_bytes().len() as u8,
            id_in_der: self.id_in_der,
            generation: 0,
        }
    }
}

/// Where in a run the DER begins.
#[inline]
fn der_start(id_len: u8, id_in_der: u8) -> usize {
    match id_in_der {
        0 => lifetime::LEN + usize::from(id_len),
        _ => lifetime::LEN,
    }
}

/// The bytes of an entry.
pub(crate) struct Stored<'a> {
    bytes: &'a [u8],
    id_len: u8,
    id_in_der: u8,
}

impl<'a> Stored<'a> {
    /// How many DER bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether they are stored under this ID.
    #[inline]
    pub(crate) fn is_under(&self, id: &SessionId) -> bool {
        if usize::from(self.id_len) != id.as_bytes().len() {
            return false;
        }
        // A constant length, which is the usual one.
        if self.id_in_der > 0 {
            let start = lifetime::LEN + usize::from(self.id_in_der);
            &self.bytes[start..start + session_id::MAX_LEN] == id.padded()
        } else {
            self.bytes[lifetime::LEN..].starts_with(id.as_bytes())
        }
    }

    #[inline]
    pub(crate) fn lifetime(&self) -> Lifetime {
        let bytes = self.bytes.first_chunk();
        Lifetime::from_bytes(bytes.expect("a run begins with it"))
    }

    #[inline]
    pub(crate) fn der(&self) -> &'a [u8] {
        &self.bytes[der_start(self.id_len, self.id_in_der)..]
    }

    /// Copies as many of the DER bytes as `out` has room for.
    #[inline]
    pub(crate) fn copy_der<B: Byte>(&self, out: &mut [B]) {
        let der = self.der();
        let len = out.len().min(der.len());
        B::copy(&mut out[..len], &der[..len]);
    }

    /// Whether the DER bytes contain these bytes.
    pub(crate) fn contains(&self, part: &[u8]) -> bool {
        let Some(first) = part.first() else {
            return true;
        };
        let mut places = self.der().windows(part.len());
        places.any(|bytes| bytes[0] == *first && bytes == part)
    }
}

/// A place that DER bytes are copied to.
pub(crate) trait Byte: Sized {
    /// Both have the same length.
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

impl Entry {
    /// Its bytes.
    #[inline]
    pub(crate) fn stored<'a>(&self, region: &'a Region) -> Stored<'a> {
        Stored {
            bytes: region.bytes(&self.run, self.len()),
            id_len: self.id_len,
            id_in_der: self.id_in_der,
        }
    }

    /// Whether it is stored under this ID.
    #[inline]
    pub(crate) fn is(&self, region: &Region, id: &SessionId) -> bool {
        self.stored(region).is_under(id)
    }

    /// The length of its run in bytes.
    fn len(&self) -> usize {
        der_start(self.id_len, self.id_in_der) + self.der_len()
    }

    pub(crate) fn der_len(&self) -> usize {
        self.der_len as usize
    }

    pub(crate) fn lifetime(&self, region: &Region) -> Lifetime {
        self.stored(region).lifetime()
    }

    /// Whether storing the draft under this entry's ID would change nothing.
    pub(crate) fn is_same(&self, region: &Region, draft: &Draft<'_>) -> bool {
        let stored = self.stored(region);
        stored.lifetime().is_same(&draft.lifetime) && stored.der() == draft.der
    }

    /// Wipes its bytes.
    #[inline]
    pub(crate) fn free(self, region: &mut Region) {
        let len = self.len();
        region.free(self.run, len);
    }

    /// Where its bytes are and how many, so that they can be moved.
    pub(crate) fn run(&mut self) -> (&mut Run, usize) {
        let len = self.len();
        (&mut self.run, len)
    }

    /// Counts a use. Readers share the entry, so the count is written only while that changes it:
    /// the cache line of a hot entry then stays shared. Of two uses at the same time one may get
    /// lost, which does not matter.
    pub(crate) fn touch(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < policy::MOST_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    /// Whether it was used since the uses were last forgotten. Forgets the uses as the policy wants
    /// it for this queue.
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

    fn stored(id: &SessionId, der: &[u8], life: Lifetime) -> (Region, Entry) {
        let mut region = Region::default();
        let draft = Draft::new(id, der, life).unwrap();
        assert!(region.reserve(draft.len()));
        let entry = draft.store(&mut region);
        assert_eq!(entry.len(), draft.len());
        (region, entry)
    }

    #[test]
    fn an_entry_keeps_what_it_is_given() {
        let life = Lifetime::new(NOW.wall - 7, 100, NOW);
        let short = SessionId::new(&[1, 2, 3]).unwrap();
        let long = SessionId::new(&[7; 32]).unwrap();
        let der_with_long = [&[9; 15][..], &[7; 32], b"some more DER"].concat();
        let with_long_last = [&[9; 16][..], &[7; 32]].concat();
        let far = [&[9; 40][..], &[7; 32]].concat();
        for (id, der, separate) in [
            (&short, &b""[..], 3),
            (&short, b"some der", 3),
            (&short, &der_with_long, 3),
            (&long, &der_with_long, 0),
            (&long, &with_long_last, 0),
            (&long, &[&[9; 23][..], &[7; 32], &[3; 200]].concat(), 0),
            (&long, &[7; 32], 32),
            (&long, &far, 32),
        ] {
            let (region, entry) = stored(id, der, life);
            for room in 0..der.len() + 2 {
                let mut read = vec![0xee; room];
                entry.stored(&region).copy_der(&mut read);
                let copied = room.min(der.len());
                assert_eq!(read[..copied], der[..copied]);
                assert!(read[copied..].iter().all(|byte| *byte == 0xee));
            }
            assert_eq!(entry.der_len(), der.len());
            assert_eq!(entry.stored(&region).der(), der);
            for at in 0..der.len() {
                assert!(entry.stored(&region).contains(&der[at..]));
                assert!(entry.stored(&region).contains(&der[..at]));
            }
            assert!(!entry.stored(&region).contains(&[der, &[0]].concat()));
            assert_eq!(entry.lifetime(&region), life);
            assert!(entry.is(&region, id));
            for other in [&[1, 2][..], &[1, 2, 3, 0], &[7; 31], &[9; 32]] {
                assert!(!entry.is(&region, &SessionId::new(other).unwrap()));
            }
            assert_eq!(entry.len(), lifetime::LEN + separate + der.len());
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
            let (region, entry) = stored(&id, &der, life);
            let is_same = |der: &[u8], time, timeout| {
                let life = Lifetime::new(time, timeout, later);
                entry.is_same(&region, &Draft::new(&id, der, life).unwrap())
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
        let (_, entry) = stored(&id, b"secret", Lifetime::new(0, 1, NOW));
        assert_eq!(format!("{entry:?}"), "Entry { der_len: 6, .. }");
    }
}
