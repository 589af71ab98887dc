//! The time, in whole seconds.

use std::sync::atomic::{AtomicI64, Ordering};

/// A moment on both clocks, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, since 1970: what session times are written in.
    pub wall: i64,
    /// The monotonic clock: it keeps counting when somebody sets the wall clock back.
    pub up: i64,
}

/// The time on both clocks. Coarse clocks: they are read without a system call
/// in a few nanoseconds, and seconds are all that sessions count in.
///
/// Only one of them is read each time; how far the other is ahead, is found out anew
/// every second. So a wall clock that was set is noticed within a second.
#[inline]
pub fn now() -> Now {
    /// The second of the monotonic clock in which the distance was measured.
    static MEASURED: AtomicI64 = AtomicI64::new(-1);
    /// How many nanoseconds the wall clock is ahead.
    static AHEAD: AtomicI64 = AtomicI64::new(0);

    let up_nanos = nanoseconds(libc::CLOCK_MONOTONIC_COARSE);
    let up = up_nanos / NANOS_PER_SECOND;
    if MEASURED.load(Ordering::Acquire) != up {
        // Both tick at the same moment, so what is between two equal readings of one clock is of
        // the same moment. There are systems whose coarse clocks tick all the time: then it
        // is nearly so.
        let mut before = up_nanos;
        for _ in 0..3 {
            let wall = nanoseconds(libc::CLOCK_REALTIME_COARSE);
            AHEAD.store(wall - before, Ordering::Relaxed);
            let after = nanoseconds(libc::CLOCK_MONOTONIC_COARSE);
            if before == after {
                break;
            }
            before = after;
        }
        MEASURED.store(up, Ordering::Release);
    }
    Now {
        wall: (up_nanos + AHEAD.load(Ordering::Relaxed)).div_euclid(NANOS_PER_SECOND),
        up,
    }
}

const NANOS_PER_SECOND: i64 = 1_000_000_000;

fn nanoseconds(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec to write to. The call cannot fail: Linux has had
    // both clocks since 2.6.32.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec * NANOS_PER_SECOND + time.tv_nsec
}
