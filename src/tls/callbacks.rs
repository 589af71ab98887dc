//! What OpenSSL asks about sessions during a handshake and after it.
//!
//! None of these fails a handshake: without a session the handshake is a full one.

use std::cell::Cell;
use std::ffi::{c_int, c_uchar, c_uint};
use std::{mem, ptr, slice};

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslSessionRef;
use openssl_sys as ffi;
use openssl_sys::{SSL, SSL_CTX, SSL_SESSION};

use super::bindings::{
    SSL_CTX_flush_sessions, SSL_SESSION_set_time, SSL_SESSION_set_timeout,
    SSL_has_matching_session_id,
};
use super::connection::{first_context, is_looked_up_by_id, is_single_use, may_resume};
use super::lineage::mark;
use super::link::{client_hung_up, link};
use super::version::leaves_failed_sessions_on_list;
use super::visit::Visit;
use super::{session, store};
use crate::base::session_id::SessionId;
use crate::instance::boundary::callback;
use crate::report::counters::{Counter, Purpose};
use crate::report::hooks::SessionEvent;

/// A handshake has made a session: store it.
pub unsafe extern "C" fn new_session(ssl: *mut SSL, session: *mut SSL_SESSION) -> c_int {
    // SAFETY: OpenSSL passes a live connection and session.
    callback(|instance| unsafe {
        let session = SslSessionRef::from_ptr(session);
        if is_looked_up_by_id(ssl, session) {
            mark(session);
            if let Some(id) = SessionId::new(session.id()) {
                link(ssl, session);
                match store::store(instance, &id, session) {
                    // One that may carry early data is nobody else's: each copy of it would be used.
                    Ok(()) if session.max_early_data() > 0 => {}
                    Ok(()) => instance.hooks.fire(SessionEvent::New, &id),
                    Err(error) => {
                        log::log!(target: "ssl.session_cache.insert", error.level(), "a new session is not cached: {error}");
                    }
                }
            }
        }
    });
    // The reference that OpenSSL took for us is not kept.
    0
}

/// A client has come with a session ID: find the session.
pub unsafe extern "C" fn get_session(
    ssl: *mut SSL,
    id: *const c_uchar,
    len: c_int,
    copy: *mut c_int,
) -> *mut SSL_SESSION {
    // SAFETY: OpenSSL passes a live connection, `len` bytes of ID and a place for its
    // answer.
    callback(|instance| unsafe {
        // The reference goes to OpenSSL, which is not to take another one.
        *copy = 0;
        let len = usize::try_from(len).unwrap_or(0);
        let Some(id) = SessionId::new(slice::from_raw_parts(id, len)) else {
            return ptr::null_mut();
        };
        let Some(session) = store::find(instance, &id, Purpose::Handshake) else {
            return ptr::null_mut();
        };
        let refuse = |session| {
            instance.stats.count(Counter::MissRefused);
            log::debug!(target: "ssl.session_cache.get", "{id:?}: not for this connection");
            session::free(session);
            ptr::null_mut()
        };
        if session.id() != id.as_bytes() || !may_resume(ssl, &session) {
            return refuse(session);
        }
        let mut offer = None;
        if is_single_use(ssl, &session) {
            // Of several connections that find it, one takes it, and none of a forked child.
            if !store::take_own(instance, &id, &session) {
                return refuse(session);
            }
            offer = Offer::make(ssl, &id, &session);
            if offer.is_none() {
                instance.hooks.fire(SessionEvent::Remove, &id);
                return refuse(session);
            }
        }
        instance.sessions.used(&id);
        // One that nobody has marked (another machine's, say): its time is still its own.
        mark(&session);
        link(ssl, &session);
        instance.hooks.fire(SessionEvent::Get, &id);
        if offer.is_some() {
            instance.hooks.fire(SessionEvent::Remove, &id);
        }
        // Nothing comes between this and OpenSSL, which takes it out.
        mem::forget(offer);
        session::into_raw(session)
    })
}

thread_local! {
    /// Whether this thread is making an [`Offer`]: OpenSSL may remove other sessions from the
    /// context's own cache then, while it holds a lock of the context.
    static OFFERS: Cell<bool> = const { Cell::new(false) };
}

/// A single-use session where OpenSSL looks for it: it resumes such a session only if it can
/// take it out of the own cache of the context that the connection began with. This is how it
/// sees to it that of two connections one resumes. It does so as soon as [`get_session`] has
/// returned; until then the session is taken out when this is dropped, so none ever stays there.
struct Offer {
    context: *mut SSL_CTX,
    session: *mut SSL_SESSION,
}

impl Offer {
    /// `None`: that context is not known, or there is no memory.
    ///
    /// # Safety
    /// `ssl` is a live connection, and the session lives longer than the result.
    unsafe fn make(ssl: *const SSL, id: &SessionId, session: &SslSessionRef) -> Option<Self> {
        let _visit = Visit::begin()?;
        // SAFETY: the caller vouches for `ssl`, which keeps its contexts alive.
        unsafe {
            let (context, session) = (first_context(ssl), session.as_ptr());
            OFFERS.set(true);
            let is_added = ffi::SSL_CTX_add_session(context, session) == 1;
            if !is_added && leaves_failed_sessions_on_list() {
                // The list needs a reference. It lets only sessions go that have expired.
                ffi::SSL_SESSION_up_ref(session);
                SSL_SESSION_set_time(session, 0);
                SSL_SESSION_set_timeout(session, 0);
                SSL_CTX_flush_sessions(context, 1);
            }
            OFFERS.set(false);
            let offer = is_added.then_some(Self { context, session })?;
            let id = id.as_bytes();
            let is_found = SSL_has_matching_session_id(ssl, id.as_ptr(), id.len() as c_uint) == 1;
            is_found.then_some(offer)
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let Some(_visit) = Visit::begin() else {
            return;
        };
        // SAFETY: both are alive, as `make` demands.
        unsafe { ffi::SSL_CTX_remove_session(self.context, self.session) };
    }
}

/// A session has expired or its connection has failed: it may not be resumed, unless
/// all that happened is that the client has gone.
pub unsafe extern "C" fn remove_session(_ctx: *mut SSL_CTX, session: *mut SSL_SESSION) {
    // What a context's own cache has is in no other.
    if OFFERS.get() {
        return;
    }
    callback(|instance| {
        // SAFETY: OpenSSL passes a live session.
        let session = unsafe { SslSessionRef::from_ptr(session) };
        if client_hung_up(session) {
            return;
        }
        if let Some(id) = SessionId::new(session.id())
            && store::remove_same(instance, &id, session)
        {
            instance.hooks.fire(SessionEvent::Remove, &id);
        }
    });
}
