//! Where log lines go when the program has no logger of its own: warnings and
//! errors to stderr.

use std::fmt::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::library::make_once;
use crate::sys;

/// How many lines one place in the code writes at once, and one more for each
/// second after that. A flood of bad calls must not fill the operator's disk.
const BURST: u32 = 100;

/// How many places are told apart.
const PLACES: usize = 64;

/// Installs the logger, once. In a Rust program that has one, nothing changes.
pub(super) fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    static LOGGER: Stderr = Stderr {
        places: [const { AtomicU64::new(0) }; PLACES],
    };
    make_once(&INSTALLED, || {
        if log::set_logger(&LOGGER).is_ok() {
            log::set_max_level(LevelFilter::Warn);
        }
    });
}

struct Stderr {
    places: [AtomicU64; PLACES],
}

/// What is known of a place, in the 64 bits of its atomic. The default is for
/// a place that has written nothing yet.
#[derive(Clone, Copy, Default)]
struct Place {
    /// The second of the last line.
    second: u32,
    /// Lines that it has used up.
    used: u8,
    /// Lines not shown since the last one that was (24 bits).
    hidden: u32,
}

impl Place {
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
    /// Whether a line of this place is shown, and how many were not before it.
    fn admit(&self, place: u32, second: u32) -> Option<u32> {
        let before = self.places[place as usize % PLACES]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
                Some(Place::unpack(bits).next(second).0.pack())
            })
            .unwrap_or_default();
        let before = Place::unpack(before);
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
        let place = record.line().unwrap_or(0);
        let Some(hidden) = self.admit(place, sys::now().up as u32) else {
            return;
        };
        let mut line = String::with_capacity(160);
        let _ = write!(
            line,
            "tssession: {}: ({}) {}",
            record.level(),
            record.target(),
            record.args()
        );
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
            places: [const { AtomicU64::new(0) }; PLACES],
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
        let full = Place {
            second: u32::MAX,
            used: BURST as u8,
            hidden: 0xff_ffff,
        };
        let (next, shown) = Place::unpack(full.pack()).next(u32::MAX);
        assert_eq!((next.pack(), shown), (full.pack(), false));
    }
}
