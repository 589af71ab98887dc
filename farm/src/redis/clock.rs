//! Redis's clock, as far as it is believed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Redis's clock is believed if it differs from the machine's own by no more than this. Otherwise an
/// attacker who controls Redis could make members accept messages that were sealed long ago. A machine
/// whose clock is further off could not resume sessions anyway: they have the machines' times.
pub const CLOCK_LEEWAY_MS: u64 = 3_600_000;

/// Redis's clock, as this process knows it.
pub struct Clock {
    start: Instant,
    /// Milliseconds since 1970 at `start`.
    at_start: AtomicI64,
}

/// Milliseconds since 1970 by this machine's clock.
fn machine_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

impl Default for Clock {
    /// This machine's clock, until Redis has been asked.
    fn default() -> Self {
        Self {
            start: Instant::now(),
            at_start: AtomicI64::new(machine_ms() as i64),
        }
    }
}

impl Clock {
    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        let at_start = self.at_start.load(Ordering::Relaxed);
        u64::try_from(at_start + self.elapsed_ms() as i64).unwrap_or(0)
    }

    /// Milliseconds since this clock was made. They never jump.
    pub fn elapsed_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Takes over the time that Redis reported. Returns how far it is ahead of this machine; if
    /// that exceeds [`CLOCK_LEEWAY_MS`] in either direction, the machine's own clock is used.
    pub fn set(&self, redis_ms: u64) -> i64 {
        self.set_at(redis_ms, machine_ms())
    }

    fn set_at(&self, redis_ms: u64, machine_ms: u64) -> i64 {
        let redis_ms = i64::try_from(redis_ms).unwrap_or(i64::MAX);
        let ahead = redis_ms.saturating_sub(machine_ms as i64);
        let now = if is_near(ahead) {
            redis_ms
        } else {
            machine_ms as i64
        };
        self.at_start
            .store(now - self.elapsed_ms() as i64, Ordering::Relaxed);
        ahead
    }
}

/// Whether a clock that is this far ahead of the machine's is believed.
pub fn is_near(ahead_ms: i64) -> bool {
    ahead_ms.unsigned_abs() <= CLOCK_LEEWAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_is_not_believed() {
        const HERE: u64 = 1_800_000_000_000;
        let clock = Clock::default();
        let leeway = CLOCK_LEEWAY_MS as i64;
        for (ahead, is_believed) in [
            (0, true),
            (600_000, true),
            (-600_000, true),
            (leeway, true),
            (-leeway, true),
            (leeway + 1, false),
            (-leeway - 1, false),
            (-(HERE as i64), false),
        ] {
            let said = HERE.saturating_add_signed(ahead);
            assert_eq!(clock.set_at(said, HERE), ahead);
            let now = if is_believed { said } else { HERE };
            assert!((now..now + 5000).contains(&clock.now_ms()), "{ahead}");
        }
        for said in [u64::MAX, 1 << 63, (1 << 63) - 1] {
            assert!(!is_near(clock.set_at(said, HERE)));
            assert!((HERE..HERE + 5000).contains(&clock.now_ms()), "{said}");
        }
    }
}
