//! When each ticket key is active, as functions of the known keys and the time.
//!
//! A new key only decrypts for `spread` seconds. Then it encrypts until its successor does, and it
//! decrypts for `lifetime` after that.

use std::time::Duration;

use zeroize::Zeroizing;

use super::set::{Key, KeyBytes};

/// The times of ticket keys.
#[derive(Clone, Debug)]
pub struct Times {
    /// The time from one new key to the next.
    pub rotation: Duration,
    /// How long a key decrypts after it stops encrypting.
    pub lifetime: Duration,
    /// How long a new key only decrypts before it encrypts.
    pub spread: Duration,
    /// How long the leader can be silent before another member makes the keys.
    pub lease: Duration,
}

/// Makes a random key; `None` without random bytes.
pub type Make = fn() -> Option<KeyBytes>;

/// The most keys of a set: they fit into a message, and are enough for any sensible lifetime and
/// rotation.
pub const MAX_KEYS: usize = 200;

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// Removes from a set the keys that start to encrypt too late: later than any key that a leader makes
/// until the next rotation. Such a key would stay the newest, and no other would be made. Returns how
/// far ahead the latest of them starts.
pub fn take_out_far_ahead(keys: &mut Vec<Key>, now_ms: u64, times: &Times) -> Option<u64> {
    let most_ms = ms(times.rotation) + ms(times.spread);
    let ahead = |key: &Key| key.from_ms.saturating_sub(now_ms);
    let furthest = keys.iter().map(ahead).max();
    keys.retain(|key| ahead(key) <= most_ms);
    furthest.filter(|ahead| *ahead > most_ms)
}

/// All keys of two sets, except those that are over, the newest first. Members that have seen the
/// same sets have the same keys, whatever the order and age of the sets. So an old set that is put
/// back into Redis does no harm, and two sets that were made separately become one.
pub fn merged(ours: &[Key], theirs: &[Key], now_ms: u64, times: &Times) -> Vec<Key> {
    let mut keys = [ours, theirs].concat();
    keys.sort_by(|a, b| (b.from_ms, &b.bytes[..]).cmp(&(a.from_ms, &a.bytes[..])));
    keys.dedup_by(|a, b| a.bytes == b.bytes);
    drop_over(&mut keys, now_ms, times);
    keys
}

/// Whether `keys` has every key of `of`.
pub fn has_all(keys: &[Key], of: &[Key]) -> bool {
    of.iter()
        .all(|key| keys.iter().any(|other| other.bytes == key.bytes))
}

fn drop_over(keys: &mut Vec<Key>, now_ms: u64, times: &Times) {
    let is_over = |successor: &Key| successor.from_ms.saturating_add(ms(times.lifetime)) <= now_ms;
    let kept = keys
        .iter()
        .position(is_over)
        .map_or(keys.len(), |at| at + 1);
    keys.truncate(kept.min(MAX_KEYS));
}

/// Whether a key can be made although none is due: not before the newest encrypts, and not if a key
/// that still decrypts would have to be dropped for it, now or at a later rotation.
pub fn may_rotate(keys: &[Key], now_ms: u64, times: &Times) -> Result<(), &'static str> {
    // The keys of a lifetime, the one that encrypts and the one that waits.
    let regular = ms(times.lifetime).div_ceil(ms(times.rotation).max(1)) as usize + 2;
    if keys.first().is_some_and(|newest| newest.from_ms > now_ms) {
        Err("the newest key does not encrypt yet")
    } else if keys.len() + regular >= MAX_KEYS {
        Err("a key that still decrypts would have to be dropped")
    } else {
        Ok(())
    }
}

/// The keys that the leader writes in the place of these; `None`: these stay. `rotate`: makes a new
/// key although none is due; check [`may_rotate`] first.
pub fn plan(
    keys: &[Key],
    now_ms: u64,
    times: &Times,
    rotate: bool,
    make: Make,
) -> Option<Vec<Key>> {
    let mut keys = keys.to_vec();
    let from_ms = match keys.first() {
        // No member has another key: this one need not wait until all have it.
        None => Some(now_ms),
        Some(newest) if newest.from_ms.saturating_add(ms(times.rotation)) <= now_ms || rotate => {
            Some(now_ms.saturating_add(ms(times.spread)))
        }
        Some(_) => None,
    };
    if let Some(from_ms) = from_ms {
        let key = Key {
            bytes: make()?,
            made_ms: now_ms,
            from_ms,
        };
        keys.insert(0, key);
    }
    let before = keys.len();
    drop_over(&mut keys, now_ms, times);
    (from_ms.is_some() || keys.len() < before).then_some(keys)
}

/// The keys for `TSSslTicketKeyUpdate`: first the one that encrypts, then all others. Empty if
/// there are none.
pub fn active(keys: &[Key], now_ms: u64) -> Zeroizing<Vec<u8>> {
    let encrypts = keys
        .iter()
        .filter(|key| key.from_ms <= now_ms)
        .max_by_key(|key| key.from_ms)
        .or_else(|| keys.iter().min_by_key(|key| key.from_ms));
    let mut bytes = Zeroizing::new(Vec::with_capacity(keys.len() * 48));
    if let Some(first) = encrypts {
        bytes.extend_from_slice(first.bytes.as_slice());
        let others = keys.iter().filter(|key| !std::ptr::eq(*key, first));
        for key in others {
            bytes.extend_from_slice(key.bytes.as_slice());
        }
    }
    bytes
}

/// The own keys of a member that is alone: it has had no contact with the others for the lifetime of
/// a key. It then makes its own keys, so that neither the farm's last key nor the host's encrypts
/// forever. Once there is contact again, the farm's keys encrypt, and its own decrypt as long as
/// their tickets live.
#[derive(Default)]
pub struct Alone {
    /// The newest first. Their times are those of the member's own clock.
    keys: Vec<Key>,
    is_alone: bool,
}

impl Alone {
    /// To be called regularly, with the time of the last contact and the current time, both of the
    /// member's own clock, which does not jump. `true`: the member has become alone.
    pub fn step(&mut self, last_contact_ms: u64, now_ms: u64, times: &Times, make: Make) -> bool {
        let was_alone = self.is_alone;
        self.is_alone = now_ms.saturating_sub(last_contact_ms) >= ms(times.lifetime);
        let is_due = self
            .keys
            .first()
            .is_none_or(|newest| newest.from_ms + ms(times.rotation) <= now_ms);
        if self.is_alone
            && is_due
            && let Some(bytes) = make()
        {
            let key = Key {
                bytes,
                made_ms: now_ms,
                from_ms: now_ms,
            };
            self.keys.insert(0, key);
        }
        let keep = ms(times.lifetime) + ms(times.rotation);
        self.keys.retain(|key| key.from_ms + keep > now_ms);
        self.keys.truncate(MAX_KEYS);
        self.is_alone && !was_alone
    }

    /// The keys of the farm and its own, as [`active`] has them.
    pub fn active(&self, shared: &[Key], now_ms: u64) -> Zeroizing<Vec<u8>> {
        let own = active(&self.keys, u64::MAX);
        let shared = active(shared, now_ms);
        let (first, second) = if self.is_alone {
            (&own, &shared)
        } else {
            (&shared, &own)
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(first.len() + second.len()));
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    const ROTATION: u64 = 100_000;
    const LIFETIME: u64 = 300_000;
    const SPREAD: u64 = 10_000;

    fn times() -> Times {
        Times {
            rotation: Duration::from_millis(ROTATION),
            lifetime: Duration::from_millis(LIFETIME),
            spread: Duration::from_millis(SPREAD),
            lease: Duration::from_secs(10),
        }
    }

    /// A lifetime of so many rotations that frequent orders fill the set.
    fn fast() -> Times {
        Times {
            rotation: Duration::from_millis(30 * SPREAD),
            lifetime: Duration::from_millis(300 * SPREAD),
            ..times()
        }
    }

    /// Keys that are all different.
    fn make() -> Option<KeyBytes> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut key = Box::new(Zeroizing::new([0; 48]));
        key[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        Some(key)
    }

    fn encrypts(bytes: &[u8]) -> &[u8] {
        &bytes[..48]
    }

    fn knows(bytes: &[u8], key: &[u8]) -> bool {
        bytes.chunks_exact(48).any(|known| known == key)
    }

    #[test]
    fn the_first_key_encrypts_at_once_and_the_next_ones_wait() {
        let first = plan(&[], 1000, &times(), false, make).unwrap();
        assert_eq!((first.len(), first[0].from_ms), (1, 1000));
        assert!(plan(&first, 1000 + ROTATION - 1, &times(), false, make).is_none());
        let now = 1000 + ROTATION;
        let second = plan(&first, now, &times(), false, make).unwrap();
        assert_eq!(second.len(), 2);
        assert_eq!(
            encrypts(&active(&second, now + SPREAD - 1)),
            &first[0].bytes[..]
        );
        assert_eq!(
            encrypts(&active(&second, now + SPREAD)),
            &second[0].bytes[..]
        );
        assert!(knows(&active(&second, now), second[0].bytes.as_slice()));

        // The first one decrypts for a lifetime after the second has taken over.
        let over = second[0].from_ms + LIFETIME;
        let later = plan(&second, over - 1, &times(), false, make).unwrap();
        assert!(has_all(&later, &first));
        let later = plan(&second, over, &times(), false, make).unwrap();
        assert!(!has_all(&later, &first) && has_all(&later, &second[..1]));
    }

    #[test]
    fn a_key_that_is_asked_for_waits_as_any_other_and_only_one_does() {
        let first = plan(&[], 1000, &times(), false, make).unwrap();
        let second = plan(&first, 1001, &times(), true, make).unwrap();
        assert_eq!((second.len(), second[0].from_ms), (2, 1001 + SPREAD));
        assert_eq!(encrypts(&active(&second, 1001)), &first[0].bytes[..]);
        let too_early = may_rotate(&second, 1000 + SPREAD, &times());
        assert_eq!(too_early, Err("the newest key does not encrypt yet"));
        assert_eq!(may_rotate(&second, 1001 + SPREAD, &times()), Ok(()));
        let third = plan(&second, 1001 + SPREAD, &times(), true, make).unwrap();
        assert!(third.len() == 3 && has_all(&third, &second));

        // However often a key is ordered, no key that still decrypts is dropped.
        let (mut keys, mut now) = (third, 1001 + SPREAD);
        while now < 1001 + 400 * SPREAD {
            now += SPREAD / 2;
            let rotate = may_rotate(&keys, now, &fast()).is_ok();
            if let Some(planned) = plan(&keys, now, &fast(), rotate, make) {
                let lifetime = ms(fast().lifetime);
                let decrypts = |of: &[Key]| -> Vec<u64> {
                    let ends = of.iter().skip(1).zip(of);
                    let alive = ends.filter(|(_, next)| next.from_ms + lifetime > now);
                    alive.map(|(key, _)| key.from_ms).collect()
                };
                let kept: Vec<u64> = planned.iter().map(|key| key.from_ms).collect();
                assert!(
                    decrypts(&keys).iter().all(|from_ms| kept.contains(from_ms)),
                    "{now}"
                );
                keys = planned;
            }
        }
        assert!(keys.len() > 150, "{}", keys.len());
    }

    #[test]
    fn without_random_bytes_nothing_changes() {
        assert!(plan(&[], 0, &times(), false, || None).is_none());
        let first = plan(&[], 0, &times(), false, make).unwrap();
        assert!(plan(&first, ROTATION * 9, &times(), false, || None).is_none());
    }

    #[test]
    fn who_is_alone_rotates_and_comes_back() {
        let mut alone = Alone::default();
        let shared = plan(&[], 0, &times(), false, make).unwrap();
        assert!(!alone.step(0, LIFETIME - 1, &times(), make));
        assert_eq!(
            encrypts(&alone.active(&shared, 0)),
            shared[0].bytes.as_slice()
        );
        assert!(alone.step(0, LIFETIME, &times(), make));
        assert_eq!(alone.active(&[], 0).len(), 48, "it never had any");
        let first = alone.active(&shared, 0);
        assert_ne!(encrypts(&first), shared[0].bytes.as_slice());
        assert!(knows(&first, shared[0].bytes.as_slice()));
        assert!(!alone.step(0, LIFETIME + ROTATION, &times(), make));
        let second = alone.active(&shared, 0);
        assert_ne!(encrypts(&second), encrypts(&first));
        assert!(knows(&second, encrypts(&first)));
        // Back.
        let now = LIFETIME + ROTATION + 1;
        assert!(!alone.step(now, now, &times(), make));
        let back = alone.active(&shared, 0);
        assert_eq!(encrypts(&back), shared[0].bytes.as_slice());
        assert!(knows(&back, encrypts(&first)) && knows(&back, encrypts(&second)));
        let now = now + LIFETIME + ROTATION;
        alone.step(now, now, &times(), make);
        assert_eq!(alone.active(&shared, 0).len(), 48);
    }

    fn key(number: u8, from_ms: u64) -> Key {
        Key {
            bytes: Box::new(Zeroizing::new([number; 48])),
            made_ms: from_ms,
            from_ms,
        }
    }

    #[test]
    fn a_set_that_was_put_back_takes_nothing_away_and_brings_back_nothing_that_is_over() {
        let now = 1_000_000;
        let old = [key(2, now - LIFETIME), key(1, now - LIFETIME - ROTATION)];
        let new = [key(4, now - 1), key(3, now - ROTATION)];
        for keys in [
            merged(&new, &old, now, &times()),
            merged(&old, &new, now, &times()),
        ] {
            let numbers: Vec<u8> = keys.iter().map(|key| key.bytes[0]).collect();
            assert_eq!(numbers, [4, 3, 2]);
            assert_eq!(encrypts(&active(&keys, now)), [4; 48]);
        }
        // It is over when it has not encrypted for a lifetime.
        let keys = merged(&new, &old, now + LIFETIME - ROTATION, &times());
        assert!(!has_all(&keys, &old[..1]) && has_all(&keys, &new));
    }

    #[test]
    fn a_key_that_is_dated_far_ahead_does_not_stop_rotation() {
        let now = 1_000_000;
        let most = now + ROTATION + SPREAD;
        let ours = plan(&[], now, &times(), false, make).unwrap();
        for (from_ms, is_kept) in [
            (now, true),
            (most, true),
            (most + 1, false),
            (u64::MAX, false),
        ] {
            let mut theirs = vec![key(1, from_ms), key(2, now - 1)];
            let ahead = take_out_far_ahead(&mut theirs, now, &times());
            assert_eq!(ahead, (!is_kept).then(|| from_ms - now), "{from_ms}");
            assert_eq!(theirs.len(), 1 + usize::from(is_kept), "{from_ms}");
            let merged = merged(&ours, &theirs, now, &times());
            let later = from_ms.min(most) + ROTATION;
            assert!(
                plan(&merged, later, &times(), false, make).is_some(),
                "{from_ms}"
            );
        }
    }

    proptest! {
        /// Whatever sets come in whatever order.
        #[test]
        fn who_has_seen_the_same_sets_has_the_same_keys(
            keys in proptest::collection::vec((0u8..20, 0u64..LIFETIME * 3), 1..20),
            cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
        ) {
            let times = times();
            let now = LIFETIME * 3;
            let mut known = HashMap::new();
            let keys: Vec<Key> = keys
                .into_iter()
                .map(|(number, from_ms)| key(number, *known.entry(number).or_insert(from_ms)))
                .collect();
            let sets: Vec<&[Key]> = cuts
                .iter()
                .map(|(a, b)| {
                    let (a, b) = (a.index(keys.len()), b.index(keys.len()));
                    &keys[a.min(b)..=a.max(b)]
                })
                .collect();
            let forth = sets.iter().fold(vec![], |ours, set| merged(&ours, set, now, &times));
            let back = sets.iter().rev().fold(vec![], |ours, set| merged(set, &ours, now, &times));
            prop_assert_eq!(active(&forth, now), active(&back, now));
            prop_assert!(has_all(&forth, &back) && has_all(&back, &forth));
            let newest = sets.concat().iter().map(|key| key.from_ms).max();
            prop_assert_eq!(forth.first().map(|key| key.from_ms), newest);
        }

        /// Members that look at the set at least once in every `spread`, and leaders that come
        /// and go: a ticket made at any member is known at any other until its key's time is over.
        #[test]
        fn no_ticket_is_unknown(steps in proptest::collection::vec((0usize..4, 1u64..SPREAD / 4, any::<bool>()), 1..400)) {
            let times = times();
            let mut now = 1_000_000;
            let mut stored = plan(&[], now, &times, false, make).unwrap();
            let mut views = vec![stored.clone(); 4];
            // When each key was last used to encrypt.
            let mut used = HashMap::<Vec<u8>, u64>::new();
            for (member, pause, leads) in steps {
                now += pause;
                if leads && let Some(keys) = plan(&stored, now, &times, false, make) {
                    stored = keys;
                }
                views[member] = stored.clone();
                // The others look at last when a spread is over: here, each after three steps.
                for (other, view) in views.iter_mut().enumerate() {
                    if (now / (SPREAD / 4)) as usize % 4 == other {
                        *view = stored.clone();
                    }
                }
                let sets: Vec<_> = views.iter().map(|view| active(view, now)).collect();
                for set in &sets {
                    used.insert(encrypts(set).to_vec(), now);
                }
                used.retain(|_, last| now - *last + SPREAD < LIFETIME);
                // A member that has just looked knows every key that was used.
                let newest = active(&stored, now);
                for key in used.keys() {
                    prop_assert!(knows(&newest, key));
                }
            }
        }
    }
}
