//! The time, in whole seconds.

use std::sync::atomic::{AtomicI64, Ordering};

/// A moment on both clocks, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, in seconds since 1970. Session times are in it.
    pub wall: i64,
    /// The monotonic clock. It is not affected when somebody sets the wall clock.
    pub up: i64,
}

/// The time on both clocks. Coarse clocks are enough, because sessions count in seconds. They are
/// read in a few nanoseconds, without a system call.
///
/// Each call reads only one clock. The distance of the other is measured anew every second, so a
/// change of the wall clock is noticed within a second.
#[inline]
pub fn now() -> Now {
    let up = read(libc::CLOCK_MONOTONIC_COARSE);
    if MEASURED.load(Ordering::Acquire) != up.tv_sec {
        measure(up);
    }
    // In two parts: dividing a sum of nanoseconds takes longer than all the rest.
    let ahead = AHEAD.load(Ordering::Relaxed);
    let (seconds, nanos) = (ahead >> NANOS_BITS, ahead & ((1 << NANOS_BITS) - 1));
    let carry = i64::from(nanos + up.tv_nsec >= NANOS_PER_SECOND);
    Now {
        wall: up.tv_sec + seconds + carry,
        up: up.tv_sec,
    }
}

/// The second of the monotonic clock in which the distance was measured.
static MEASURED: AtomicI64 = AtomicI64::new(-1);

/// How far the wall clock is ahead: whole seconds, rounded down, and the nanoseconds in the lowest
/// [`NANOS_BITS`].
static AHEAD: AtomicI64 = AtomicI64::new(0);

const NANOS_BITS: u32 = 30;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

#[cold]
fn measure(up: libc::timespec) {
    // Both clocks tick at the same moment. So a reading of one between two equal readings of the
    // other belongs to the same moment. On some systems coarse clocks tick all the time: there this
    // is nearly so.
    let mut before = up;
    for _ in 0..3 {
        let wall = read(libc::CLOCK_REALTIME_COARSE);
        let mut ahead = wall.tv_sec - before.tv_sec;
        let mut nanos = wall.tv_nsec - before.tv_nsec;
        if nanos < 0 {
            (ahead, nanos) = (ahead - 1, nanos + NANOS_PER_SECOND);
        }
        AHEAD.store(ahead << NANOS_BITS | nanos, Ordering::Relaxed);
        let after = read(libc::CLOCK_MONOTONIC_COARSE);
        if (before.tv_sec, before.tv_nsec) == (after.tv_sec, after.tv_nsec) {
            break;
        }
        before = after;
    }
    MEASURED.store(up.tv_sec, Ordering::Release);
}

#[inline]
fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec to write to. The call cannot fail: Linux has had
    // both clocks since 2.6.32.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time
}
