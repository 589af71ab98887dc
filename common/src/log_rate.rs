//! How often log lines of one kind are written: a flood of them must not fill the disk.

/// How many lines of one kind are written at once, and how often after that. Times are in any unit.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The lines that are written at once; 255 at most.
    pub burst: u8,
    /// The time after which one more line is written.
    pub interval: u32,
}

/// The state of a kind of line. The default: no line of the kind was written yet.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The time from which on further lines are earned.
    since: u32,
    /// The lines of the burst that are used up.
    used: u8,
    /// The lines that were left out since the last one that was written (24 bits).
    hidden: u32,
}

const MOST_HIDDEN: u32 = 0xff_ffff;

impl Kind {
    /// Unpacks the state from 64 bits, which an atomic can hold.
    pub fn unpack(bits: u64) -> Self {
        Self {
            since: (bits >> 32) as u32,
            used: (bits >> 24) as u8,
            hidden: bits as u32 & MOST_HIDDEN,
        }
    }

    /// Packs the state into 64 bits.
    pub fn pack(self) -> u64 {
        u64::from(self.since) << 32 | u64::from(self.used) << 24 | u64::from(self.hidden)
    }

    /// The number of lines that were left out since the last one that was written.
    pub fn hidden(self) -> u32 {
        self.hidden
    }

    /// Whether a line would be written now.
    pub fn has_room(self, rate: Rate, now: u32) -> bool {
        self.at(rate, now).used < rate.burst
    }

    /// The state after one more line, and whether that line is written.
    pub fn next(self, rate: Rate, now: u32) -> (Self, bool) {
        let mut kind = self.at(rate, now);
        let is_written = kind.used < rate.burst;
        if is_written {
            kind.used += 1;
            kind.hidden = 0;
        } else {
            kind.hidden = (kind.hidden + 1).min(MOST_HIDDEN);
        }
        (kind, is_written)
    }

    /// The state now, with the lines that the time has earned.
    fn at(mut self, rate: Rate, now: u32) -> Self {
        let earned = now.saturating_sub(self.since) / rate.interval;
        if earned >= u32::from(self.used) {
            self.used = 0;
            self.since = now;
        } else {
            self.used -= earned as u8;
            self.since += earned * rate.interval;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(kind: &mut Kind, rate: Rate, now: u32) -> bool {
        let (next, is_written) = Kind::unpack(kind.pack()).next(rate, now);
        assert_eq!(kind.has_room(rate, now), is_written);
        *kind = next;
        is_written
    }

    #[test]
    fn a_burst_is_written_and_then_a_line_an_interval() {
        let rate = Rate {
            burst: 100,
            interval: 1,
        };
        let mut kind = Kind::default();
        assert_eq!(
            (0..107).filter(|_| write(&mut kind, rate, 500)).count(),
            100
        );
        assert_eq!(kind.hidden(), 7);
        assert!(write(&mut kind, rate, 501) && !write(&mut kind, rate, 501));
        assert_eq!(
            (0..200).filter(|_| write(&mut kind, rate, 700)).count(),
            100
        );
    }

    #[test]
    fn two_lines_are_never_closer_than_the_interval() {
        let rate = Rate {
            burst: 1,
            interval: 10_000,
        };
        let mut kind = Kind::default();
        let written = (0..60_000).filter(|now| write(&mut kind, rate, *now));
        assert_eq!(
            written.collect::<Vec<_>>(),
            [0, 10_000, 20_000, 30_000, 40_000, 50_000]
        );
        assert!(write(&mut kind, rate, 79_999) && !write(&mut kind, rate, 80_000));
        assert!(!write(&mut kind, rate, 89_998) && write(&mut kind, rate, 89_999));
    }

    #[test]
    fn hidden_lines_are_counted_up_to_a_limit() {
        let rate = Rate {
            burst: 1,
            interval: 1,
        };
        let full = Kind {
            since: u32::MAX,
            used: 1,
            hidden: MOST_HIDDEN,
        };
        assert_eq!(
            Kind::unpack(full.pack()).next(rate, u32::MAX),
            (full, false)
        );
    }
}
