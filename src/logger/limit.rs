//! How many log lines are let through: a flood of bad calls must not fill the operator's
//! disk.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many lines of one kind are written at once, and one more for each
/// second after that.
const BURST: u32 = 100;

/// How many kinds of line are told apart.
const KINDS: usize = 1024;

/// What is known of each kind of line.
pub(super) struct Limit {
    kinds: [AtomicU64; KINDS],
}

/// What is known of a kind, in the 64 bits of its atomic. The default is for one that
/// has written nothing yet.
#[derive(Clone, Copy, Default)]
struct Kind {
    /// The second of the last line.
    second: u32,
    /// Lines that it has used up.
    used: u8,
    /// Lines not shown since the last one that was (24 bits).
    hidden: u32,
}

impl Kind {
    fn unpack(bits: u64) -> Self {
        Self {
            second: (bits >> 32) as u32,
            used: (bits >> 24) as u8,
            hidden: bits as u32 & 0xff_ffff,
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.second) << 32 | u64::from(self.used) << 24 | u64::from(self.hidden)
    }

    /// The state after another line at `second`, and whether that is shown.
    fn next(self, second: u32) -> (Self, bool) {
        let earned = second.saturating_sub(self.second);
        let used = u32::from(self.used).saturating_sub(earned);
        let shown = used < BURST;
        let next = Self {
            second,
            used: if shown { used as u8 + 1 } else { used as u8 },
            hidden: if shown {
                0
            } else {
                (self.hidden + 1).min(0xff_ffff)
            },
        };
        (next, shown)
    }
}

impl Limit {
    pub(super) const fn new() -> Self {
        Self {
            kinds: [const { AtomicU64::new(0) }; KINDS],
        }
    }

    /// Whether a line of this kind is shown at this second, and how many were not before it.
    pub(super) fn admit(&self, kind: impl Hash, second: u32) -> Option<u32> {
        let mut hash = DefaultHasher::new();
        kind.hash(&mut hash);
        let before = self.kinds[hash.finish() as usize % KINDS]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
                Some(Kind::unpack(bits).next(second).0.pack())
            })
            .unwrap_or_default();
        let before = Kind::unpack(before);
        before.next(second).1.then_some(before.hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_shown_and_then_a_line_a_second() {
        let log = Limit::new();
        for _ in 0..BURST {
            assert_eq!(log.admit(1, 500), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(log.admit(1, 500), None);
        }
        assert_eq!(log.admit(2, 500), Some(0));
        assert_eq!(log.admit(1, 501), Some(7));
        assert_eq!(log.admit(1, 501), None);
        for _ in 0..BURST {
            assert!(log.admit(1, 700).is_some());
        }
        assert_eq!(log.admit(1, 700), None);
    }

    #[test]
    fn what_was_not_shown_is_counted_without_an_end() {
        let full = Kind {
            second: u32::MAX,
            used: BURST as u8,
            hidden: 0xff_ffff,
        };
        let (next, shown) = Kind::unpack(full.pack()).next(u32::MAX);
        assert_eq!((next.pack(), shown), (full.pack(), false));
    }
}
