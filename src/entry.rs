//! One cached session: its DER bytes and how long they may be used.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::id::{self, SessionId};
use crate::policy::{self, Queue};
use crate::sys;

/// A moment on both clocks, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, since 1970: what session times are written in.
    pub wall: i64,
    /// The monotonic clock: it keeps counting when somebody sets the wall clock back.
    pub up: i64,
}

/// A [`Lifetime`] in an entry.
type LifetimeBytes = [u8; 20];

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

    fn to_bytes(self) -> LifetimeBytes {
        let mut bytes = LifetimeBytes::default();
        bytes[..8].copy_from_slice(&self.wall_start.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.up_start.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.seconds.to_ne_bytes());
        bytes
    }

    fn from_bytes(bytes: &LifetimeBytes) -> Self {
        let long = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        Self {
            wall_start: long(0),
            up_start: long(8),
            seconds: u32::from_ne_bytes(bytes[16..].try_into().expect("4 bytes")),
        }
    }

    /// Whether the session is past its own timeout, or past `limit` seconds
    /// where that is shorter (0: no limit).
    pub fn is_over(&self, now: Now, limit: u32) -> bool {
        // The two clocks tick at different moments, so the second one gets a second's grace.
        now.wall >= self.end(limit) || now.up.saturating_sub(self.up_start) > self.seconds(limit)
    }
}

/// What the cache keeps for one session ID.
pub(crate) struct Entry {
    /// The lifetime, the ID if need be, and the DER bytes: one allocation for all that a
    /// lookup reads, and little in the table, where free places cost memory too.
    bytes: Box<[u8]>,
    /// The entry's place in its shard's eviction order.
    pub(crate) slot: u32,
    /// Hits, up to [`policy::MOST_USES`].
    uses: AtomicU8,
    id_len: u8,
    /// Where in the DER bytes the ID is; 0: it stands before them, because a session
    /// may be stored under another ID than its own.
    id_in_der: u8,
}

/// Where the ID or the DER bytes begin.
const BODY: usize = size_of::<LifetimeBytes>();

/// A session's ID is behind its version and its cipher suite, so no further than this.
const ID_SEARCHED: usize = 24;

impl Entry {
    /// Copies the DER bytes; `None` when there is no memory for them.
    pub(crate) fn new(id: &SessionId, der: &[u8], lifetime: Lifetime) -> Option<Self> {
        let (padded, id_len) = id.padded();
        let mut places = der.windows(id::MAX_LEN).take(ID_SEARCHED);
        let id_in_der = places.position(|bytes| bytes == padded).unwrap_or(0);
        let own_id: &[u8] = match id_in_der {
            0 => padded,
            _ => &[],
        };
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(BODY + own_id.len() + der.len())
            .ok()?;
        bytes.extend_from_slice(&lifetime.to_bytes());
        bytes.extend_from_slice(own_id);
        bytes.extend_from_slice(der);
        Some(Self {
            bytes: bytes.into_boxed_slice(),
            slot: 0,
            uses: AtomicU8::new(0),
            id_len,
            id_in_der: id_in_der as u8,
        })
    }

    /// Whether it is stored under this ID.
    pub(crate) fn is(&self, id: &SessionId) -> bool {
        let padded = self.bytes[BODY + usize::from(self.id_in_der)..].first_chunk();
        padded.is_some_and(|padded| id.is(padded, self.id_len))
    }

    pub(crate) fn der(&self) -> &[u8] {
        match self.id_in_der {
            0 => &self.bytes[BODY + id::MAX_LEN..],
            _ => &self.bytes[BODY..],
        }
    }

    pub(crate) fn lifetime(&self) -> Lifetime {
        let bytes = self.bytes.first_chunk();
        Lifetime::from_bytes(bytes.expect("an entry begins with its lifetime"))
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

impl Drop for Entry {
    fn drop(&mut self) {
        sys::wipe(&mut self.bytes);
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("der_len", &self.der().len())
            .field("lifetime", &self.lifetime())
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

    #[test]
    fn an_entry_keeps_what_it_is_given() {
        let life = Lifetime::new(NOW.wall - 7, 100, NOW);
        let short = SessionId::new(&[1, 2, 3]).unwrap();
        let long = SessionId::new(&[7; 32]).unwrap();
        let der_with_long = [&[9; 15][..], &[7; 32], b"some der"].concat();
        let far = [&[9; 40][..], &[7; 32]].concat();
        for (id, der, len) in [
            (&short, &b""[..], 52),
            (&short, b"some der", 60),
            (&short, &der_with_long, 107),
            (&long, &der_with_long, 75),
            (&long, &[7; 32], 84),
            (&long, &far, 124),
        ] {
            let entry = Entry::new(id, der, life).unwrap();
            assert_eq!(entry.der(), der);
            assert_eq!(entry.lifetime(), life);
            assert!(entry.is(id));
            for other in [&[1, 2][..], &[1, 2, 3, 0], &[7; 31], &[9; 32]] {
                assert!(!entry.is(&SessionId::new(other).unwrap()));
            }
            assert_eq!(entry.bytes.len(), len);
        }
    }

    #[test]
    fn debug_shows_no_der() {
        let id = SessionId::new(&[1]).unwrap();
        let entry = Entry::new(&id, b"secret", Lifetime::new(0, 1, NOW)).unwrap();
        let text = format!("{entry:?}");
        assert!(text.contains("der_len: 6") && !text.contains("115"));
    }
}
