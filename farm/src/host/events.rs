//! What handshakes do with sessions, as the host reports it.

use std::ffi::{c_int, c_uchar, c_void};
use std::ptr;
use std::slice;
use std::sync::OnceLock;

use tssession_ats::{
    Cont, EVENT_SESSION_NEW, EVENT_SESSION_REMOVE, EventFunc, HTTP_HOOK_ADD, SUCCESS, Server,
    SessionId,
};
use tssession_common::boundary::{Name, guard};

use super::log::report;

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A handshake made it.
    New,
    /// It was removed, for example because a handshake or a connection failed.
    Removed,
}

pub(super) type SessionHookAdd = unsafe extern "C" fn(EventFunc, Cont) -> c_int;

/// How the host reports events to the farm.
pub(super) enum Hooks {
    /// `TSHttpHookAdd` with the number of `TS_SSL_SESSION_HOOK`.
    Server { server: Server, session_hook: c_int },
    /// `TSSslSessionHookAdd`.
    Library { add: SessionHookAdd },
}

impl Hooks {
    /// As [`super::Host::add_hook`].
    pub(super) fn add(&self, hook: fn(Event, &[u8])) -> bool {
        if HOOK.get().is_some() {
            return true;
        }
        // SAFETY: `on_event` is of the type that the host calls, and is never unloaded;
        // libtssession passes on any pointer as the continuation.
        let is_added = unsafe {
            match self {
                Self::Library { add } => add(on_event, ptr::null_mut()) == SUCCESS,
                Self::Server {
                    server,
                    session_hook,
                } => {
                    let cont = server.continuation(on_event).ok();
                    let add = server.find(&HTTP_HOOK_ADD);
                    cont.zip(add)
                        .map(|(cont, add)| add(*session_hook, cont))
                        .is_some()
                }
            }
        };
        is_added && HOOK.set(hook).is_ok()
    }
}

static HOOK: OnceLock<fn(Event, &[u8])> = OnceLock::new();

/// Called by the host.
unsafe extern "C" fn on_event(_cont: Cont, event: c_int, id: *mut c_void) -> c_int {
    let event = match event {
        EVENT_SESSION_NEW => Event::New,
        EVENT_SESSION_REMOVE => Event::Removed,
        _ => return 0,
    };
    let Some(hook) = HOOK.get().filter(|_| !id.is_null()) else {
        return 0;
    };
    let id: *const SessionId = id.cast();
    let body = || {
        // SAFETY: the host passes a session ID that lives during the call; no byte past its
        // length is read.
        unsafe {
            let len = (&raw const (*id).len).read();
            if (1..=SessionId::MAX).contains(&len) {
                let bytes = (&raw const (*id).bytes).cast::<c_uchar>();
                hook(event, slice::from_raw_parts(bytes, len));
            }
        }
        0
    };
    guard(Name::of(&body), report, body)
}
