//! Session-ticket keys: a set that is read, checked and replaced as a whole.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::Ordering;

use zeroize::Zeroizing;

use crate::base::alloc::NoMemory;
use crate::base::atomics::{self, AtomicU64, Guard, Shared, Swap};
use crate::base::secret_memory::SecretBytes;

/// Bytes of a key's name, which a ticket begins with, in clear text.
pub const NAME_LEN: usize = 16;
/// Bytes of a whole key in the layout of ATS.
pub const KEY_LEN: usize = Layout::ATS.key_len();
/// Bytes of a whole key in the layout with the longest keys.
pub const LONGEST_KEY: usize = Layout::NGINX_256.key_len();
/// The most keys of a set after [`KeyRing::rotate`]: more than one for each hour of a week, the
/// longest time that a ticket can be resumed.
const MOST_ROTATED: usize = 200;

/// What follows the name in the bytes of a key: two secrets of the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    secret_len: usize,
    aes_first: bool,
}

impl Layout {
    /// 16 bytes HMAC-SHA256 secret, 16 bytes AES-128 key: the layout of `TSSslTicketKeyUpdate` and
    /// of ATS's files.
    pub const ATS: Self = Self {
        secret_len: 16,
        aes_first: false,
    };
    /// 32 bytes HMAC-SHA256 secret, 32 bytes AES-256 key: the 80-byte files of nginx.
    pub const NGINX_256: Self = Self {
        secret_len: 32,
        aes_first: false,
    };
    /// 16 bytes AES-128 key, 16 bytes HMAC-SHA256 secret: HAProxy's.
    pub const HAPROXY_128: Self = Self {
        secret_len: 16,
        aes_first: true,
    };
    /// 32 bytes AES-256 key, 32 bytes HMAC-SHA256 secret: HAProxy's.
    pub const HAPROXY_256: Self = Self {
        secret_len: 32,
        aes_first: true,
    };

    /// Bytes of a whole key.
    pub const fn key_len(self) -> usize {
        NAME_LEN + 2 * self.secret_len
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match (self.secret_len, self.aes_first) {
            (_, true) => "in base64, as in HAProxy",
            (16, false) => "as in ATS",
            (_, false) => "as in nginx",
        };
        write!(f, "{} bytes {whose}", self.key_len())
    }
}

/// One key of a [`KeySet`].
#[derive(Clone, Copy)]
pub struct TicketKey<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a> TicketKey<'a> {
    /// The name that tickets under this key begin with.
    pub fn name(self) -> &'a [u8; NAME_LEN] {
        let name = self.bytes.first_chunk();
        name.expect("a key is longer than its name")
    }

    /// The HMAC-SHA256 secret.
    pub fn hmac_secret(self) -> &'a [u8] {
        self.secret(!self.layout.aes_first)
    }

    /// The key of AES-CBC: 16 bytes for AES-128, 32 for AES-256.
    pub fn aes_key(self) -> &'a [u8] {
        self.secret(self.layout.aes_first)
    }

    fn secret(self, first: bool) -> &'a [u8] {
        let (one, other) = self.bytes[NAME_LEN..].split_at(self.layout.secret_len);
        if first { one } else { other }
    }

    /// Whether its secrets are all zero, so that anybody could forge a ticket under it.
    fn is_blank(self) -> bool {
        self.bytes[NAME_LEN..].iter().all(|byte| *byte == 0)
    }
}

impl fmt::Debug for TicketKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(..)")
    }
}

/// Why a set of keys was refused. The active keys are unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// There is not one whole key of this many bytes.
    TooShort(usize),
    /// The secrets of the first key, which would encrypt, are all zero.
    FirstIsBlank,
    /// Two keys have the same name but different secrets.
    NameTwice,
    /// The allocator had nothing left.
    NoMemory,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(key_len) => write!(f, "not one whole key of {key_len} bytes"),
            Self::FirstIsBlank => write!(f, "the first key's secrets are all zero"),
            Self::NameTwice => write!(f, "two keys have the same name but different secrets"),
            Self::NoMemory => NoMemory.fmt(f),
        }
    }
}

impl Error for KeyError {}

impl From<NoMemory> for KeyError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// Ticket keys in order. The first encrypts, all decrypt.
///
/// The bytes are copied once, never move, and are wiped at the end.
pub struct KeySet {
    keys: SecretBytes,
    layout: Layout,
    by_name: HashMap<[u8; NAME_LEN], usize>,
    /// Whole keys that were given but left out because their secrets are all zero.
    pub blanks: usize,
    /// Bytes after the last whole key, which were not used.
    pub tail: usize,
}

impl KeySet {
    /// Reads a sequence of keys.
    pub fn parse(data: &[u8], layout: Layout) -> Result<Self, KeyError> {
        let key_len = layout.key_len();
        let given = data.chunks_exact(key_len);
        let tail = given.remainder().len();
        let given = given.map(|bytes| TicketKey { bytes, layout });
        let first = given.clone().next().ok_or(KeyError::TooShort(key_len))?;
        if first.is_blank() {
            return Err(KeyError::FirstIsBlank);
        }
        let mut by_name = HashMap::<_, usize>::new();
        by_name.try_reserve(given.len()).map_err(NoMemory::from)?;
        let mut used = Vec::<TicketKey<'_>>::new();
        used.try_reserve_exact(given.len())
            .map_err(NoMemory::from)?;
        let mut blanks = 0;
        for key in given {
            if key.is_blank() {
                blanks += 1;
                continue;
            }
            match by_name.get(key.name()) {
                Some(&earlier) if used[earlier].bytes != key.bytes => {
                    return Err(KeyError::NameTwice);
                }
                Some(_) => {}
                None => {
                    by_name.insert(*key.name(), used.len());
                    used.push(key);
                }
            }
        }
        // Secrets are copied only now: the number of keys is known, and memory that never grows is
        // never moved.
        let mut keys = SecretBytes::new(used.len() * key_len).ok_or(KeyError::NoMemory)?;
        for (to, key) in keys.chunks_exact_mut(key_len).zip(used) {
            to.copy_from_slice(key.bytes);
        }
        Ok(Self {
            keys,
            layout,
            by_name,
            blanks,
            tail,
        })
    }

    /// This set with a new first key, which is made of these random bytes.
    fn behind(&self, random: &[u8; LONGEST_KEY]) -> Result<Self, KeyError> {
        let key_len = self.layout.key_len();
        let kept = self.count().min(MOST_ROTATED - 1) * key_len;
        let mut keys = SecretBytes::new(key_len + kept).ok_or(KeyError::NoMemory)?;
        keys[..key_len].copy_from_slice(&random[..key_len]);
        keys[key_len..].copy_from_slice(&self.keys[..kept]);
        Self::parse(&keys, self.layout)
    }

    /// The key that encrypts.
    pub fn first(&self) -> TicketKey<'_> {
        self.at(0)
    }

    /// The key of this name, and its place in the set: 0 for the first.
    pub fn find(&self, name: &[u8; NAME_LEN]) -> Option<(TicketKey<'_>, usize)> {
        let place = *self.by_name.get(name)?;
        Some((self.at(place), place))
    }

    /// The number of keys; at least one.
    pub fn count(&self) -> usize {
        self.keys.len() / self.layout.key_len()
    }

    fn at(&self, place: usize) -> TicketKey<'_> {
        let start = place * self.layout.key_len();
        TicketKey {
            bytes: &self.keys[start..start + self.layout.key_len()],
            layout: self.layout,
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys)", self.count())
    }
}

/// The active keys. Readers never wait for a writer, nor a writer for them.
#[derive(Default)]
pub struct KeyRing {
    keys: Swap<KeySet>,
    generation: AtomicU64,
}

impl KeyRing {
    /// A thread that will call [`KeyRing::replace`] calls this before it reads secrets. At its first
    /// use of the ring, the loader may have to look up a function, and saves the processor's
    /// registers on the stack: there must be no secrets in them then.
    pub fn prepare_thread(&self) {
        drop(self.current());
    }

    /// Makes `keys` active for every ticket from now on. The old keys are wiped when the last
    /// handshake that uses them releases them.
    pub fn replace(&self, keys: KeySet) -> Result<(), KeyError> {
        self.keys.store(Some(Shared::new(keys)?));
        self.generation.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Wipes the keys at the end of the process.
    pub fn clear(&self) {
        self.keys.store(None);
    }

    /// Fills an empty ring with the key that `random` makes. If [`KeyRing::replace`] sets keys at the
    /// same time, those win.
    pub fn fill_if_empty(&self, random: impl FnOnce() -> Option<Zeroizing<[u8; KEY_LEN]>>) {
        if self.current().is_some() {
            return;
        }
        let keys = random().and_then(|bytes| KeySet::parse(bytes.as_slice(), Layout::ATS).ok());
        let Some(keys) = keys.and_then(|keys| Shared::new(keys).ok()) else {
            return;
        };
        if atomics::exchange(&self.keys, &None, Some(keys)) {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Makes a new key of random bytes, which encrypts from now on. The keys that were active still
    /// decrypt; of more than 200 keys the oldest is dropped. Returns the number of keys. If
    /// [`KeyRing::replace`] sets keys at the same time, those stay too.
    pub fn rotate(&self, random: &[u8; LONGEST_KEY]) -> Result<usize, KeyError> {
        loop {
            let current = self.current();
            let rotated = match current.as_ref() {
                Some(keys) => keys.behind(random)?,
                None => KeySet::parse(&random[..KEY_LEN], Layout::ATS)?,
            };
            let count = rotated.count();
            if atomics::exchange(&self.keys, &current, Some(Shared::new(rotated)?)) {
                self.generation.fetch_add(1, Ordering::Relaxed);
                return Ok(count);
            }
        }
    }

    /// The active keys; `None` before there are any.
    pub fn current(&self) -> Guard<Option<Shared<KeySet>>> {
        self.keys.load()
    }

    /// The number of times that keys became active.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type KeyBytes = [u8; KEY_LEN];

    fn key(name: u8, secret: u8) -> KeyBytes {
        let mut key = [secret; KEY_LEN];
        key[..NAME_LEN].fill(name);
        key
    }

    fn parse(keys: &[KeyBytes]) -> Result<KeySet, KeyError> {
        KeySet::parse(keys.as_flattened(), Layout::ATS)
    }

    #[test]
    fn the_first_encrypts_and_all_decrypt() {
        let set = parse(&[key(1, 10), key(2, 20)]).unwrap();
        assert_eq!(set.first().name(), &[1; 16]);
        assert_eq!(set.first().hmac_secret(), &[10; 16]);
        let (found, place) = set.find(&[2; 16]).unwrap();
        assert_eq!((found.aes_key(), place), (&[20u8; 16][..], 1));
        assert_eq!(set.find(&[1; 16]).unwrap().1, 0);
        assert!(set.find(&[3; 16]).is_none());
    }

    #[test]
    fn each_layout_has_its_order() {
        let bytes: Vec<u8> = (1..=80).collect();
        for (layout, hmac, aes) in [
            (Layout::ATS, 16..32, 32..48),
            (Layout::NGINX_256, 16..48, 48..80),
            (Layout::HAPROXY_128, 32..48, 16..32),
            (Layout::HAPROXY_256, 48..80, 16..48),
        ] {
            let set = KeySet::parse(&bytes[..layout.key_len()], layout).unwrap();
            assert_eq!((set.count(), set.tail), (1, 0));
            assert_eq!(set.first().name(), &bytes[..16]);
            assert_eq!(set.first().hmac_secret(), &bytes[hmac], "{layout:?}");
            assert_eq!(set.first().aes_key(), &bytes[aes], "{layout:?}");
        }
    }

    #[test]
    fn bad_sets_are_refused() {
        for (len, layout) in [(47, Layout::ATS), (0, Layout::ATS), (79, Layout::NGINX_256)] {
            let error = KeySet::parse(&vec![1; len], layout).unwrap_err();
            assert_eq!(error, KeyError::TooShort(layout.key_len()));
        }
        for name in [0, 7] {
            let keys = [key(name, 0), key(1, 1)];
            assert_eq!(parse(&keys).unwrap_err(), KeyError::FirstIsBlank);
        }
        let keys = [key(1, 1), key(2, 2), key(1, 3)];
        assert_eq!(parse(&keys).unwrap_err(), KeyError::NameTwice);
    }

    #[test]
    fn a_tail_and_blank_keys_are_left_out_and_reported() {
        let mut data = parse_input(&[key(1, 1), key(0, 0), key(2, 2), key(9, 0)]);
        data.extend([5; 47]);
        let set = KeySet::parse(&data, Layout::ATS).unwrap();
        assert_eq!((set.count(), set.blanks, set.tail), (2, 2, 47));
        assert!(set.find(&[0; 16]).is_none() && set.find(&[9; 16]).is_none());
        assert!(set.find(&[2; 16]).is_some());
    }

    fn parse_input(keys: &[KeyBytes]) -> Vec<u8> {
        keys.as_flattened().to_vec()
    }

    #[test]
    fn the_same_key_twice_counts_once() {
        let set = parse(&[key(1, 1), key(1, 1), key(2, 2), key(1, 1)]).unwrap();
        assert_eq!(set.count(), 2);
    }

    #[test]
    fn given_keys_win_over_random_ones() {
        let ring = KeyRing::default();
        ring.fill_if_empty(|| None);
        assert!(ring.current().is_none());
        ring.fill_if_empty(|| {
            ring.replace(parse(&[key(1, 1)]).unwrap()).unwrap();
            Some(Zeroizing::new(key(9, 9)))
        });
        assert_eq!(ring.current().as_ref().unwrap().first().name(), &[1; 16]);
        ring.fill_if_empty(|| unreachable!("the ring is not empty"));
        assert_eq!(ring.generation(), 1);
    }

    #[test]
    fn a_rotated_ring_decrypts_what_it_did() {
        let random = |byte: u8| [byte; LONGEST_KEY];
        let ring = KeyRing::default();
        assert_eq!(ring.rotate(&random(1)), Ok(1));
        ring.replace(parse(&[key(2, 2), key(3, 3)]).unwrap())
            .unwrap();
        assert_eq!(ring.rotate(&random(4)), Ok(3));
        let names = |ring: &KeyRing| -> Vec<u8> {
            let keys = ring.current();
            let keys = keys.as_ref().unwrap();
            (0..keys.count()).map(|at| keys.at(at).name()[0]).collect()
        };
        assert_eq!(names(&ring), [4, 2, 3]);
        assert_eq!(ring.generation(), 3);
        // A key that is all zero is never used.
        assert_eq!(ring.rotate(&random(0)), Err(KeyError::FirstIsBlank));
        assert_eq!(names(&ring), [4, 2, 3]);
        // The layout stays.
        let nginx: Vec<u8> = (1..=80).collect();
        ring.replace(KeySet::parse(&nginx, Layout::NGINX_256).unwrap())
            .unwrap();
        assert_eq!(ring.rotate(&random(5)), Ok(2));
        assert_eq!(ring.current().as_ref().unwrap().first().aes_key(), [5; 32]);
        for byte in 6..=255 {
            ring.rotate(&random(byte)).unwrap();
        }
        assert_eq!((names(&ring).len(), names(&ring)[0]), (MOST_ROTATED, 255));
        assert_eq!(names(&ring)[MOST_ROTATED - 1], 56);
    }

    #[test]
    fn each_of_those_who_rotate_at_once_adds_its_key() {
        let ring = KeyRing::default();
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let ring = &ring;
                scope.spawn(move || {
                    for at in 0..20 {
                        ring.rotate(&[thread * 20 + at; LONGEST_KEY]).unwrap();
                    }
                });
            }
        });
        assert_eq!(ring.current().as_ref().unwrap().count(), 80);
    }

    #[test]
    fn debug_shows_no_key() {
        let set = parse(&[key(1, 77)]).unwrap();
        let text = format!("{set:?} {:?}", set.first());
        assert_eq!(text, "KeySet(1 keys) TicketKey(..)");
    }

    proptest! {
        /// With few names and secrets, so that every kind of clash occurs.
        #[test]
        fn agrees_with_a_plain_reading(
            given in proptest::collection::vec((0u8..4, 0u8..3), 0..8),
            tail in 0usize..KEY_LEN,
        ) {
            let keys: Vec<KeyBytes> = given.iter().map(|&(name, secret)| key(name, secret)).collect();
            let mut data = parse_input(&keys);
            data.extend(vec![1; tail]);

            let mut kept: Vec<(u8, u8)> = given.iter().copied().filter(|key| key.1 != 0).collect();
            let clash = kept.iter().any(|a| kept.iter().any(|b| a.0 == b.0 && a.1 != b.1));
            let mut seen = std::collections::HashSet::new();
            kept.retain(|key| seen.insert(*key));

            match KeySet::parse(&data, Layout::ATS) {
                Err(KeyError::TooShort(_)) => prop_assert!(given.is_empty()),
                Err(KeyError::FirstIsBlank) => prop_assert_eq!(given[0].1, 0),
                Err(KeyError::NameTwice) => prop_assert!(clash),
                Err(KeyError::NoMemory) => prop_assert!(false),
                Ok(set) => {
                    prop_assert!(!clash && given[0].1 != 0);
                    prop_assert_eq!(set.tail, tail);
                    prop_assert_eq!(set.blanks, given.iter().filter(|key| key.1 == 0).count());
                    prop_assert_eq!(set.count(), kept.len());
                    prop_assert_eq!(set.first().name(), &[kept[0].0; 16]);
                    for (at, &(name, secret)) in kept.iter().enumerate() {
                        let (found, place) = set.find(&[name; 16]).unwrap();
                        prop_assert_eq!(found.aes_key(), &[secret; 16][..]);
                        prop_assert_eq!(place, at);
                    }
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            for layout in [Layout::ATS, Layout::HAPROXY_256] {
                if let Ok(set) = KeySet::parse(&data, layout) {
                    prop_assert!(set.count() + set.blanks <= data.len() / layout.key_len());
                }
            }
        }
    }
}

/// Models for loom.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use std::sync::Arc;

    use loom::thread;

    const GIVEN: u8 = 1;
    const OTHER: u8 = 2;
    const RANDOM: u8 = 9;

    fn set(fill: u8) -> KeySet {
        KeySet::parse(&[fill; KEY_LEN], Layout::ATS).unwrap()
    }

    fn fill(ring: &KeyRing) {
        ring.fill_if_empty(|| Some(Zeroizing::new([RANDOM; KEY_LEN])));
    }

    /// Which keys are active; 0: none.
    fn current(ring: &KeyRing) -> u8 {
        let keys = ring.current();
        keys.as_ref().map_or(0, |keys| keys.first().name()[0])
    }

    /// Whatever comes first: the given keys are active in the end and stay active, and exactly the
    /// times that keys became active are counted.
    #[test]
    fn given_keys_win_over_random_ones_and_stay() {
        loom::model(|| {
            let ring = Arc::new(KeyRing::default());
            let handshake = {
                let ring = ring.clone();
                thread::spawn(move || {
                    fill(&ring);
                    current(&ring)
                })
            };
            let host = {
                let ring = ring.clone();
                thread::spawn(move || {
                    ring.replace(set(GIVEN)).unwrap();
                    assert_eq!(current(&ring), GIVEN);
                })
            };
            let seen = [current(&ring), current(&ring)];
            let filled = handshake.join().unwrap();
            host.join().unwrap();
            assert!(filled != 0, "a ring that was filled is not empty");
            assert!(seen[0] == 0 || seen[0] == seen[1] || seen == [RANDOM, GIVEN]);
            assert_eq!(current(&ring), GIVEN);
            let random_was_in_force = seen.contains(&RANDOM) || filled == RANDOM;
            let generation = ring.generation();
            assert!((1..=2).contains(&generation));
            assert!(generation == 2 || !random_was_in_force);
        });
    }

    /// Handshakes that find no key at the same time make one key.
    #[test]
    fn one_random_key_comes_into_force() {
        loom::model(|| {
            let ring = Arc::new(KeyRing::default());
            let fill_own = {
                let ring = ring.clone();
                move |own: u8| {
                    ring.fill_if_empty(|| Some(Zeroizing::new([own; KEY_LEN])));
                    current(&ring)
                }
            };
            let other = {
                let fill_own = fill_own.clone();
                thread::spawn(move || fill_own(RANDOM + 1))
            };
            let seen = fill_own(RANDOM);
            assert_eq!(other.join().unwrap(), seen);
            assert_eq!(current(&ring), seen);
            assert_eq!(ring.generation(), 1);
        });
    }

    /// Two updates at once: one of them is active in the end, both are counted, and nothing is left of
    /// the other keys when the last handshake has released them.
    #[test]
    fn every_update_is_counted_and_replaced_keys_go() {
        loom::model(|| {
            let ring = Arc::new(KeyRing::default());
            ring.replace(set(RANDOM)).unwrap();
            let old = ring.current().as_ref().unwrap().downgrade();
            let update = {
                let ring = ring.clone();
                thread::spawn(move || ring.replace(set(OTHER)).unwrap())
            };
            let handshake = {
                let ring = ring.clone();
                thread::spawn(move || current(&ring))
            };
            ring.replace(set(GIVEN)).unwrap();
            update.join().unwrap();
            assert!([GIVEN, OTHER, RANDOM].contains(&handshake.join().unwrap()));
            assert!([GIVEN, OTHER].contains(&current(&ring)));
            assert_eq!(ring.generation(), 3);
            assert!(old.upgrade().is_none());
        });
    }

    /// At the end of the process: cleared keys are gone, and an update at that moment is active as a
    /// whole or not at all.
    #[test]
    fn cleared_keys_go() {
        loom::model(|| {
            let ring = Arc::new(KeyRing::default());
            ring.replace(set(OTHER)).unwrap();
            let old = ring.current().as_ref().unwrap().downgrade();
            let update = {
                let ring = ring.clone();
                thread::spawn(move || ring.replace(set(GIVEN)).unwrap())
            };
            ring.clear();
            assert!(old.upgrade().is_none());
            update.join().unwrap();
            assert!([0, GIVEN].contains(&current(&ring)));
            assert_eq!(ring.generation(), 2);
        });
    }
}
