//! Where log lines go when the program has no logger of its own: warnings and
//! errors to stderr.

use std::fmt::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::library::make_once;
use crate::sys;

/// How many lines one place in the code writes per second. A flood of bad calls
/// must not fill the operator's disk.
const LINES_PER_SECOND: u32 = 10;

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
    /// For each place: the second (upper half) and the lines written in it.
    places: [AtomicU64; PLACES],
}

impl Stderr {
    /// The number of this line among those that its place wrote in this second.
    fn number(&self, place: u32, second: u32) -> u32 {
        let fresh = u64::from(second) << 32;
        let before = self.places[place as usize % PLACES]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
                Some(if state >> 32 == u64::from(second) {
                    state.saturating_add(1)
                } else {
                    fresh + 1
                })
            })
            .unwrap_or(fresh);
        if before >> 32 == u64::from(second) {
            before as u32
        } else {
            0
        }
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
        let number = self.number(record.line().unwrap_or(0), sys::now().up as u32);
        if number > LINES_PER_SECOND {
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
        if number == LINES_PER_SECOND {
            line.push_str(" (more of these in this second are not shown)");
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

    #[test]
    fn lines_are_counted_per_place_and_second() {
        let log = Stderr {
            places: [const { AtomicU64::new(0) }; PLACES],
        };
        assert_eq!([log.number(1, 5), log.number(1, 5), log.number(1, 5)], [0, 1, 2]);
        assert_eq!(log.number(2, 5), 0);
        assert_eq!([log.number(1, 6), log.number(1, 6)], [0, 1]);
    }
}
