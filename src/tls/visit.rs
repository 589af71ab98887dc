//! A visit to OpenSSL: what is true while the library is inside it.

use std::ffi::c_ulong;

use super::bindings::{ERR_peek_error, ERR_pop_to_mark, ERR_set_mark};
use super::gate;

/// A visit to OpenSSL. During the visit the process is not forked, and OpenSSL does not clean up. At
/// the end, the errors that OpenSSL queued during the visit are removed from this thread's error
/// queue: it belongs to the caller, whose next `SSL_get_error` reads it.
///
/// The queue holds 15 errors. If it is nearly full and OpenSSL queues more than fit (ten or so for
/// bytes that are not a session, one when it decodes a certificate), the caller's oldest errors are
/// lost, as they are when the caller itself queues more. That is logged. They cannot be put back:
/// OpenSSL has no function that does so together with the caller's marks.
pub struct Visit {
    queue: Queue,
    _inside: gate::Inside,
}

/// The state of this thread's error queue at the start of the visit.
#[derive(PartialEq, Eq)]
enum Queue {
    /// It was empty, as it nearly always is, and must be empty again.
    Empty,
    /// The errors that were there are marked. This is the oldest.
    Marked(c_ulong),
    /// It was empty and still is. Finding the queue is slow in OpenSSL, so it pays to know that.
    Untouched,
}

impl Visit {
    /// `None`: the process is ending, and OpenSSL with it.
    pub fn begin() -> Option<Self> {
        let inside = gate::enter()?;
        // SAFETY: touches this thread's error queue only.
        let queue = unsafe {
            match ERR_peek_error() {
                0 => Queue::Empty,
                oldest => {
                    ERR_set_mark();
                    Queue::Marked(oldest)
                }
            }
        };
        let visit = Self {
            queue,
            _inside: inside,
        };
        fault!("inside OpenSSL");
        Some(visit)
    }

    /// [`Visit::begin`], unless that would take a wait or there are errors to look after.
    #[inline]
    pub fn begin_at_once() -> Option<Self> {
        let inside = gate::enter_at_once()?;
        // SAFETY: reads this thread's error queue.
        let is_empty = unsafe { ERR_peek_error() } == 0;
        // Made only then: at its end a visit clears the queue.
        is_empty.then(|| Self {
            queue: Queue::Empty,
            _inside: inside,
        })
    }

    /// Ends a visit in which nothing failed.
    pub fn end_in_success(mut self) {
        if self.queue == Queue::Empty {
            self.queue = Queue::Untouched;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            match self.queue {
                Queue::Empty => openssl_sys::ERR_clear_error(),
                Queue::Marked(oldest) => {
                    ERR_pop_to_mark();
                    if ERR_peek_error() != oldest {
                        log::warn!(target: "ssl.session_cache", "OpenSSL's error queue was nearly full: the library's errors have evicted the oldest of the host's");
                    }
                }
                Queue::Untouched => {}
            }
        }
    }
}
