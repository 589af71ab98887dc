//! Threads that can call the host's functions.

use std::ffi::c_void;
use std::mem;
use std::ptr;
use std::thread;

use tssession_ats::{Server, THREAD_CREATE};
use tssession_common::boundary::catch;

use super::log::{Level, Log, c_line};

type Body = Box<dyn FnOnce() + Send>;

/// As [`super::Host::spawn`].
pub(super) fn spawn(server: Option<Server>, log: Log, name: &'static str, body: Body) -> bool {
    let body: Body = Box::new(move || {
        if let Err(panic) = catch(body) {
            let line = format!("the thread {name} has ended with a panic{panic}; restart the host");
            log.write(Level::Error, &line);
        }
    });
    let _blocked = SignalsBlocked::begin();
    let Some(create) = server.and_then(|server| server.find(&THREAD_CREATE)) else {
        return thread::Builder::new().name(name.into()).spawn(body).is_ok();
    };
    let start = Box::into_raw(Box::new(Start { name, body }));
    // SAFETY: `run` takes what it is given here, once.
    unsafe {
        let thread = create(run, start.cast());
        if thread.is_null() {
            drop(Box::from_raw(start));
        }
        !thread.is_null()
    }
}

/// What a thread of ATS starts with.
struct Start {
    name: &'static str,
    body: Body,
}

/// # Safety
/// `start` is a [`Start`] in a box, which this function takes over.
unsafe extern "C" fn run(start: *mut c_void) -> *mut c_void {
    // SAFETY: passed on to the caller.
    let start = unsafe { Box::from_raw(start.cast::<Start>()) };
    let name = c_line(start.name);
    // SAFETY: names this thread. A name that is too long is refused, which does no harm.
    unsafe { libc::pthread_setname_np(libc::pthread_self(), name.as_ptr()) };
    (start.body)();
    ptr::null_mut()
}

/// Blocks all signals for this thread, and for those that it starts, until dropped.
struct SignalsBlocked {
    before: libc::sigset_t,
}

impl SignalsBlocked {
    fn begin() -> Self {
        // SAFETY: the sets are initialized before they are read; touches this thread's mask.
        unsafe {
            let mut all = mem::zeroed();
            let mut before = mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before);
            Self { before }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}
