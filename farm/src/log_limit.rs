//! Log lines that can recur: at most one of each kind in [`INTERVAL_MS`], so that a Redis that comes
//! and goes does not fill the disk. The last line is never lost: it is written when it is due, with
//! the number of lines that were left out before it.

#![forbid(unsafe_code)]

use tssession_common::log_rate::{Kind, Rate};

use crate::host::log::Level;

/// The time from one line of a kind to the next.
const INTERVAL_MS: u64 = 10_000;

/// The unit of times, large enough for 32 bits.
const UNIT_MS: u64 = 100;

const RATE: Rate = Rate {
    burst: 1,
    interval: (INTERVAL_MS / UNIT_MS) as u32,
};

/// A kind of lines. A later line replaces one that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Whether Redis answers.
    Redis,
    /// Whether Redis accepts messages.
    Refusal,
    /// The key set in Redis, and whether the host accepts its keys.
    Keys,
    /// Whether Redis's clock is believed.
    Clock,
    /// Messages that cannot be sealed.
    Sealing,
}

const TOPICS: usize = Topic::Sealing as usize + 1;

/// A line, ready to be written.
pub type Line = (Level, String);

#[derive(Default)]
struct Entry {
    kind: Kind,
    held: Option<Line>,
    left_out: u32,
}

/// The state of all kinds of lines.
#[derive(Default)]
pub struct LogLimit([Entry; TOPICS]);

impl LogLimit {
    /// Takes a line, and returns it if it is to be written now. Otherwise it waits, and replaces the
    /// line that waited before.
    pub fn say(&mut self, topic: Topic, line: Line, now_ms: u64) -> Option<Line> {
        let entry = &mut self.0[topic as usize];
        if entry.held.replace(line).is_some() {
            entry.left_out += 1;
        }
        entry.due(now_ms)
    }

    /// The lines that have waited long enough.
    pub fn due(&mut self, now_ms: u64) -> impl Iterator<Item = Line> {
        self.0.iter_mut().filter_map(move |entry| entry.due(now_ms))
    }
}

impl Entry {
    fn due(&mut self, now_ms: u64) -> Option<Line> {
        let now = (now_ms / UNIT_MS) as u32;
        if !self.kind.has_room(RATE, now) {
            return None;
        }
        let (level, mut text) = self.held.take()?;
        (self.kind, _) = self.kind.next(RATE, now);
        match std::mem::take(&mut self.left_out) {
            0 => {}
            count => text += &format!(" (after {count} lines of this kind that were left out)"),
        }
        Some((level, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        (Level::Warning, text.to_owned())
    }

    #[test]
    fn of_many_lines_the_first_and_the_last_are_written() {
        let mut limit = LogLimit::default();
        let mut written = Vec::new();
        for now in 0..100 {
            let text = if now % 2 == 0 { "away" } else { "back" };
            written.extend(limit.say(Topic::Redis, line(text), now));
        }
        assert_eq!(written, [line("away")]);
        assert_eq!(limit.due(INTERVAL_MS - 1).count(), 0);
        let due: Vec<Line> = limit.due(INTERVAL_MS).collect();
        assert_eq!(
            due,
            [line(
                "back (after 98 lines of this kind that were left out)"
            )]
        );
        assert_eq!(limit.due(INTERVAL_MS * 9).count(), 0, "written once");
        let later = limit.say(Topic::Redis, line("away"), INTERVAL_MS * 9);
        assert_eq!(later, Some(line("away")));
    }

    #[test]
    fn topics_do_not_hold_each_other_up() {
        let mut limit = LogLimit::default();
        assert!(limit.say(Topic::Redis, line("a"), 0).is_some());
        assert!(limit.say(Topic::Keys, line("b"), 0).is_some());
        assert!(limit.say(Topic::Keys, line("c"), 1).is_none());
        assert_eq!(limit.due(INTERVAL_MS).collect::<Vec<_>>(), [line("c")]);
    }
}
