//! How long a session may be used.

use crate::base::clock::Now;

/// Bytes of a lifetime.
pub(super) const LEN: usize = 16;

/// When a session was made, and for how many seconds it is valid.
///
/// It ends when the first of two clocks says so. So a wall clock that is set back cannot prolong a
/// session, nor can a monotonic clock that stood still while the machine slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    wall_start: i64,
    /// Before the machine was started, if negative. A year has 2^25 seconds.
    up_start: i32,
    seconds: u32,
}

impl Lifetime {
    /// The lifetime of a session with this `time` and `timeout`, seen at `now`.
    ///
    /// A session dated in the future (a peer with a fast clock) counts from now.
    /// A negative timeout counts as zero.
    pub fn new(time: i64, timeout: i64, now: Now) -> Self {
        let timeout = timeout.max(0);
        let seconds = u32::try_from(timeout).unwrap_or(u32::MAX);
        // If the seconds do not fit, the start moves instead, and the end stays the same.
        let start = time.saturating_add(timeout - i64::from(seconds));
        let wall_start = start.min(now.wall);
        let age = now.wall.saturating_sub(wall_start);
        Self {
            wall_start,
            up_start: now
                .up
                .saturating_sub(age)
                .clamp(i32::MIN.into(), i32::MAX.into()) as i32,
            seconds,
        }
    }

    /// The second of the wall clock at which it is over at the latest.
    pub(super) fn end(&self, limit: u32) -> i64 {
        self.wall_start.saturating_add(self.seconds(limit))
    }

    fn seconds(&self, limit: u32) -> i64 {
        i64::from(match limit {
            0 => self.seconds,
            limit => limit.min(self.seconds),
        })
    }

    /// Whether both belong to the same session. The start on the monotonic clock may differ if they
    /// were computed at different moments.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.wall_start, self.seconds) == (other.wall_start, other.seconds)
    }

    pub(super) fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&self.wall_start.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.up_start.to_ne_bytes());
        bytes[12..].copy_from_slice(&self.seconds.to_ne_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; LEN]) -> Self {
        let ([wall, rest], []) = bytes.as_chunks() else {
            unreachable!("two times eight bytes")
        };
        let [up, seconds] = [0, 4].map(|at| *rest[at..].first_chunk().expect("there are four"));
        Self {
            wall_start: i64::from_ne_bytes(*wall),
            up_start: i32::from_ne_bytes(up),
            seconds: u32::from_ne_bytes(seconds),
        }
    }

    /// Whether the session is past its own timeout, or past `limit` seconds
    /// where that is shorter (0: no limit).
    pub fn is_over(&self, now: Now, limit: u32) -> bool {
        // The clocks tick at different moments, so the monotonic one is given a second's grace.
        now.wall >= self.end(limit)
            || now.up.saturating_sub(self.up_start.into()) > self.seconds(limit)
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
    fn a_lifetime_survives_being_stored() {
        for (wall, up) in [(i64::MIN, i64::MIN), (-1, 0), (0, -1), (i64::MAX, i64::MAX)] {
            let now = Now { wall, up };
            for timeout in [0, 1, i64::MAX] {
                let life = Lifetime::new(wall, timeout, now);
                assert_eq!(Lifetime::from_bytes(&life.to_bytes()), life);
            }
        }
    }
}
