//! Where log lines go when the program has no logger of its own: warnings and
//! errors to stderr.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::library::make_once;
use crate::sys;

/// How many lines of one kind are written at once, and one more for each
/// second after that. A flood of bad calls must not fill the operator's disk.
const BURST: u32 = 100;

/// How many kinds of line are told apart.
const KINDS: usize = 1024;

/// Installs the logger, once. In a Rust program that has one, nothing changes.
pub(super) fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    static LOGGER: Stderr = Stderr {
        kinds: [const { AtomicU64::new(0) }; KINDS],
    };
    make_once(&INSTALLED, || {
        if log::set_logger(&LOGGER).is_ok() {
            log::set_max_level(LevelFilter::Warn);
        }
    });
}

struct Stderr {
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

impl Stderr {
    /// Whether a line of this kind is shown, and how many were not before it.
    fn admit(&self, kind: u64, second: u32) -> Option<u32> {
        let before = self.kinds[kind as usize % KINDS]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
                Some(Kind::unpack(bits).next(second).0.pack())
            })
            .unwrap_or_default();
        let before = Kind::unpack(before);
        before.next(second).1.then_some(before.hidden)
    }
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = String::with_capacity(160);
        let _ = write!(
            line,
            "tssession: {}: ({}) {}",
            record.level(),
            record.target(),
            record.args()
        );
        // A kind is a place in the code and the function that got there: the line as far
        // as the colon behind that.
        let function = line.split(": ").nth(2).unwrap_or_default();
        let mut kind = DefaultHasher::new();
        (record.file(), record.line(), function).hash(&mut kind);
        let Some(hidden) = self.admit(kind.finish(), sys::now().up as u32) else {
            return;
        };
        if hidden > 0 {
            let _ = write!(line, " ({hidden} more like this were not shown)");
        }
        // What a caller passed may be part of the line, and must not make it two.
        line.retain(|c| !c.is_control());
        line.push('\n');
        sys::write_stderr(line.as_bytes());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logger() -> Stderr {
        Stderr {
            kinds: [const { AtomicU64::new(0) }; KINDS],
        }
    }

    #[test]
    fn a_burst_is_shown_and_then_a_line_a_second() {
        let log = logger();
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
