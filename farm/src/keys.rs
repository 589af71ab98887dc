//! Which ticket keys are when in force: functions of what is known and of the time.
//!
//! A key is made, then for `spread` seconds only decrypts, then encrypts until its successor
//! does, and decrypts for `lifetime` after that.

use std::fmt;

use zeroize::Zeroizing;

use crate::config::TicketKeys;

/// A ticket key in the layout of `TSSslTicketKeyUpdate`.
pub type KeyBytes = Zeroizing<[u8; 48]>;

/// Makes random keys; `None` when there is no randomness to be had.
pub type Make = fn() -> Option<KeyBytes>;

/// A key and its times, by the clock of Redis.
#[derive(Clone)]
pub struct Key {
    /// Name, HMAC secret, AES key.
    pub bytes: KeyBytes,
    /// When it was made.
    pub made_ms: u64,
    /// From when on it encrypts.
    pub from_ms: u64,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(.., from {})", self.from_ms)
    }
}

/// The keys of a farm, the newest first.
#[derive(Clone, Debug)]
pub struct KeySet {
    /// The lease under which it was written.
    pub number: u64,
    /// At least one.
    pub keys: Vec<Key>,
}

/// What fits into a message, and is enough for any sensible ratio of lifetime and rotation.
pub const MAX_KEYS: usize = 200;

fn ms(duration: std::time::Duration) -> u64 {
    duration.as_millis() as u64
}

/// The set that the leader writes in place of this one; `None`: it stays.
pub fn plan(
    set: Option<&KeySet>,
    number: u64,
    now_ms: u64,
    times: &TicketKeys,
    make: Make,
) -> Option<KeySet> {
    let mut keys: Vec<Key> = set.map(|set| set.keys.clone()).unwrap_or_default();
    let from_ms = match keys.first() {
        // Nobody has another one: it need not wait until all have it.
        None => Some(now_ms),
        Some(newest) if newest.from_ms.saturating_add(ms(times.rotation)) <= now_ms => {
            Some(now_ms + ms(times.spread))
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
    let is_over = |successor: &Key| successor.from_ms.saturating_add(ms(times.lifetime)) <= now_ms;
    let kept = keys.iter().position(is_over).map_or(before, |at| at + 1);
    keys.truncate(kept.min(MAX_KEYS));
    (from_ms.is_some() || keys.len() < before).then_some(KeySet { number, keys })
}

/// The keys for `TSSslTicketKeyUpdate`: first the one that encrypts, then all others. Empty if
/// there are none.
pub fn in_force(keys: &[&Key], now_ms: u64) -> Zeroizing<Vec<u8>> {
    let encrypts = keys
        .iter()
        .filter(|key| key.from_ms <= now_ms)
        .max_by_key(|key| key.from_ms)
        .or_else(|| keys.iter().min_by_key(|key| key.from_ms));
    let mut bytes = Zeroizing::new(Vec::with_capacity(keys.len() * 48));
    if let Some(first) = encrypts {
        bytes.extend_from_slice(first.bytes.as_slice());
        let others = keys.iter().filter(|key| !std::ptr::eq(**key, *first));
        for key in others {
            bytes.extend_from_slice(key.bytes.as_slice());
        }
    }
    bytes
}

/// What a member does that has had no contact with the others for the lifetime of a key: it
/// makes keys of its own, rather than keep one for ever. When they are back, theirs encrypt again,
/// and its own decrypt as long as their tickets live.
#[derive(Default)]
pub struct Alone {
    /// The newest first, with times by the member's own clock.
    keys: Vec<Key>,
    is_alone: bool,
}

impl Alone {
    /// To be called again and again, with the time of the last contact and the time now by the
    /// member's own clock, which does not jump. `true`: it is alone from now on.
    ///
    /// A member that has never had keys of the farm is alone only in name: the host's own
    /// random key serves.
    pub fn step(
        &mut self,
        last_contact_ms: u64,
        now_ms: u64,
        has_keys: bool,
        times: &TicketKeys,
        make: Make,
    ) -> bool {
        let was_alone = self.is_alone;
        self.is_alone = has_keys && now_ms.saturating_sub(last_contact_ms) >= ms(times.lifetime);
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

    /// The keys of the farm and its own, as [`in_force`] has them.
    pub fn in_force(&self, shared: &[&Key], now_ms: u64) -> Zeroizing<Vec<u8>> {
        let own: Vec<&Key> = self.keys.iter().collect();
        let own = in_force(&own, u64::MAX);
        let shared = in_force(shared, now_ms);
        let (first, second) = match self.is_alone {
            true => (&own, &shared),
            false => (&shared, &own),
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
    use std::time::Duration;

    use proptest::prelude::*;

    const ROTATION: u64 = 100_000;
    const LIFETIME: u64 = 300_000;
    const SPREAD: u64 = 10_000;

    fn times() -> TicketKeys {
        TicketKeys {
            rotation: Duration::from_millis(ROTATION),
            lifetime: Duration::from_millis(LIFETIME),
            spread: Duration::from_millis(SPREAD),
            lease: Duration::from_secs(10),
        }
    }

    /// Keys that are all different.
    fn make() -> Option<KeyBytes> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut key = Zeroizing::new([0; 48]);
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
        let first = plan(None, 1, 1000, &times(), make).unwrap();
        assert_eq!(
            (first.number, first.keys.len(), first.keys[0].from_ms),
            (1, 1, 1000)
        );
        assert!(plan(Some(&first), 1, 1000 + ROTATION - 1, &times(), make).is_none());
        let now = 1000 + ROTATION;
        let second = plan(Some(&first), 2, now, &times(), make).unwrap();
        assert_eq!((second.number, second.keys.len()), (2, 2));
        let keys: Vec<&Key> = second.keys.iter().collect();
        assert_eq!(
            encrypts(&in_force(&keys, now + SPREAD - 1)),
            &first.keys[0].bytes[..]
        );
        assert_eq!(
            encrypts(&in_force(&keys, now + SPREAD)),
            &second.keys[0].bytes[..]
        );
        assert!(knows(
            &in_force(&keys, now),
            second.keys[0].bytes.as_slice()
        ));

        // The first one decrypts for a lifetime after the second has taken over.
        let over = second.keys[0].from_ms + LIFETIME;
        let later = plan(Some(&second), 2, over - 1, &times(), make).unwrap();
        assert!(
            later
                .keys
                .iter()
                .any(|key| key.bytes == first.keys[0].bytes)
        );
        let later = plan(Some(&second), 2, over, &times(), make).unwrap();
        assert!(
            later
                .keys
                .iter()
                .all(|key| key.bytes != first.keys[0].bytes)
        );
    }

    #[test]
    fn without_random_bytes_nothing_changes() {
        assert!(plan(None, 1, 0, &times(), || None).is_none());
        let first = plan(None, 1, 0, &times(), make).unwrap();
        assert!(plan(Some(&first), 1, ROTATION * 9, &times(), || None).is_none());
    }

    #[test]
    fn who_is_alone_rotates_and_comes_back() {
        let mut alone = Alone::default();
        let shared = plan(None, 1, 0, &times(), make).unwrap();
        let shared: Vec<&Key> = shared.keys.iter().collect();
        assert!(!alone.step(0, LIFETIME - 1, true, &times(), make));
        assert_eq!(
            encrypts(&alone.in_force(&shared, 0)),
            shared[0].bytes.as_slice()
        );
        assert!(
            !alone.step(0, LIFETIME, false, &times(), make),
            "never had any"
        );
        assert!(alone.step(0, LIFETIME, true, &times(), make));
        let first = alone.in_force(&shared, 0);
        assert_ne!(encrypts(&first), shared[0].bytes.as_slice());
        assert!(knows(&first, shared[0].bytes.as_slice()));
        assert!(!alone.step(0, LIFETIME + ROTATION, true, &times(), make));
        let second = alone.in_force(&shared, 0);
        assert_ne!(encrypts(&second), encrypts(&first));
        assert!(knows(&second, encrypts(&first)));
        // Back.
        let now = LIFETIME + ROTATION + 1;
        assert!(!alone.step(now, now, true, &times(), make));
        let back = alone.in_force(&shared, 0);
        assert_eq!(encrypts(&back), shared[0].bytes.as_slice());
        assert!(knows(&back, encrypts(&first)) && knows(&back, encrypts(&second)));
        let now = now + LIFETIME + ROTATION;
        alone.step(now, now, true, &times(), make);
        assert_eq!(alone.in_force(&shared, 0).len(), 48);
    }

    proptest! {
        /// Members that look at the set at least once in every `spread`, and leaders that come
        /// and go: a ticket made at any member is known at any other until its key's time is over.
        #[test]
        fn no_ticket_is_unknown(steps in proptest::collection::vec((0usize..4, 1u64..SPREAD / 4, any::<bool>()), 1..400)) {
            let times = times();
            let mut now = 1_000_000;
            let mut stored = plan(None, 1, now, &times, make).unwrap();
            let mut views = vec![stored.clone(); 4];
            // When each key was last used to encrypt.
            let mut used = HashMap::<Vec<u8>, u64>::new();
            for (member, pause, leads) in steps {
                now += pause;
                if leads && let Some(set) = plan(Some(&stored), stored.number + 1, now, &times, make) {
                    stored = set;
                }
                views[member] = stored.clone();
                // The others look at last when a spread is over: here, each after three steps.
                for (other, view) in views.iter_mut().enumerate() {
                    if (now / (SPREAD / 4)) as usize % 4 == other {
                        *view = stored.clone();
                    }
                }
                let sets: Vec<_> = views.iter().map(|view| {
                    let keys: Vec<&Key> = view.keys.iter().collect();
                    in_force(&keys, now)
                }).collect();
                for set in &sets {
                    used.insert(encrypts(set).to_vec(), now);
                }
                used.retain(|_, last| now - *last + SPREAD < LIFETIME);
                // What is fresh at the one who made it, every other one that has looked since knows.
                let keys: Vec<&Key> = stored.keys.iter().collect();
                let newest = in_force(&keys, now);
                for key in used.keys() {
                    prop_assert!(knows(&newest, key));
                }
            }
        }
    }
}
