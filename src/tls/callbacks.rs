//! OpenSSL's callbacks about sessions, during a handshake and after it.
//!
//! None of them fails a handshake: without a session the handshake is a full one.

use std::cell::Cell;
use std::ffi::{c_int, c_uchar, c_uint};
use std::{mem, ptr, slice};

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::{SslSession, SslSessionRef};
use openssl_sys as ffi;
use openssl_sys::{SSL, SSL_CTX, SSL_SESSION};

use super::attached;
use super::bindings::{
    GetSession, RemoveSession, SSL_CTX_flush_sessions, SSL_CTX_sess_get_get_cb,
    SSL_CTX_sess_get_remove_cb, SSL_SESSION_dup, SSL_SESSION_set_time, SSL_SESSION_set_timeout,
    SSL_SESSION_set1_id, SSL_has_matching_session_id,
};
use super::connection::{fits_version, is_looked_up_by_id, is_single_use, may_resume};
use super::lineage::mark;
use super::link::{client_hung_up, count_other_context, link, note_found};
use super::version::leaves_failed_sessions_on_list;
use super::visit::Visit;
use super::{session, store};
use crate::base::session_id::{MAX_LEN, SessionId};
use crate::instance::boundary::callback;
use crate::report::counters::Counter;
use crate::report::hooks::SessionEvent;

/// Called when a handshake has made a session: stores it.
pub unsafe extern "C" fn new_session(ssl: *mut SSL, session: *mut SSL_SESSION) -> c_int {
    // SAFETY: OpenSSL passes a live connection and session.
    callback(|instance| unsafe {
        let session = SslSessionRef::from_ptr(session);
        if is_looked_up_by_id(ssl, session) {
            mark(session);
            if let Some(id) = SessionId::new(session.id()) {
                link(ssl, session);
                count_other_context(instance, ssl, session);
                match store::store(instance, &id, session) {
                    // One that may carry early data must not be copied: each copy could be used.
                    Ok(()) if session.max_early_data() > 0 => {}
                    Ok(()) => instance.hooks.fire(SessionEvent::New, &id),
                    Err(error) => {
                        log::log!(target: "ssl.session_cache.insert", error.level(), "the session of a handshake is not stored: {error}");
                    }
                }
            }
        }
    });
    // 0: the library does not keep the reference that OpenSSL took for it.
    0
}

/// Called when a client offers a session ID: finds the session.
pub unsafe extern "C" fn get_session(
    ssl: *mut SSL,
    id: *const c_uchar,
    len: c_int,
    copy: *mut c_int,
) -> *mut SSL_SESSION {
    // SAFETY: OpenSSL passes a live connection, `len` bytes of ID and a place for its
    // answer.
    callback(|instance| unsafe {
        // OpenSSL gets the session's reference, and must not take another one.
        *copy = 0;
        let len = usize::try_from(len).unwrap_or(0);
        let Some(id) = SessionId::new(slice::from_raw_parts(id, len)) else {
            return ptr::null_mut();
        };
        let Some((session, peer)) = store::find_for_handshake(instance, &id) else {
            return ptr::null_mut();
        };
        let refuse = |session| {
            instance.stats.count(Counter::MissRefused);
            log::debug!(target: "ssl.session_cache.get", "{id:?}: not allowed for this connection; full handshake");
            session::free(session);
            ptr::null_mut()
        };
        if session.id() != id.as_bytes()
            || !fits_version(ssl, &session)
            || !may_resume(ssl, &session, || peer)
        {
            return refuse(session);
        }
        let mut offer = None;
        if is_single_use(ssl, &session) {
            // Only one of the connections that find it takes it, and none in a forked child.
            if !store::take_own(instance, &id, &session) {
                return refuse(session);
            }
            offer = Offer::make(ssl, &session);
            if offer.is_none() {
                instance.hooks.fire(SessionEvent::Remove, &id);
                return refuse(session);
            }
        }
        instance.sessions.used(&id);
        // If it has no mark (another machine has made it, for example), its time is still that of its
        // own full handshake.
        mark(&session);
        link(ssl, &session);
        note_found(ssl, &session);
        instance.hooks.fire(SessionEvent::Get, &id);
        if offer.is_some() {
            instance.hooks.fire(SessionEvent::Remove, &id);
        }
        // From here on nothing can fail before OpenSSL takes the session out.
        mem::forget(offer);
        session::into_raw(session)
    })
}

thread_local! {
    /// Whether this thread is making or dropping an [`Offer`]. OpenSSL then calls the remove callback
    /// for a session in a context's own cache: a lock may be held, and the session is not in ours.
    static OFFERS: Cell<bool> = const { Cell::new(false) };
}

/// A single-use session in the place where OpenSSL looks for it. OpenSSL resumes such a session only
/// if it can remove it from the internal cache of the context that the connection began with: so
/// only one of two connections resumes. It does this as soon as [`get_session`] has returned. If
/// this is dropped before, the session is removed, so none ever stays there.
struct Offer {
    context: *mut SSL_CTX,
    session: *mut SSL_SESSION,
}

impl Offer {
    /// `None`: the context is not known, or there is no memory.
    ///
    /// # Safety
    /// `ssl` is a live connection, and the session lives longer than the result.
    unsafe fn make(ssl: *const SSL, session: &SslSessionRef) -> Option<Self> {
        let _visit = Visit::begin()?;
        // SAFETY: the caller vouches for `ssl`; the contexts that are asked are alive.
        unsafe {
            let now = ffi::SSL_get_SSL_CTX(ssl);
            let context = if is_ours(now) {
                // Not the session itself: OpenSSL does not resume one that was in a cache before and was
                // removed.
                let probe = probe(session)?;
                attached::first_context(ssl, |context| {
                    is_ours(context)
                        && Self::to(context, &probe).is_some_and(|offer| offer.is_of(ssl, &probe))
                })?
            } else {
                now
            };
            let offer = Self::to(context, session)?;
            offer.is_of(ssl, session).then_some(offer)
        }
    }

    /// Whether the connection began with its context.
    ///
    /// # Safety
    /// `ssl` is a live connection.
    unsafe fn is_of(&self, ssl: *const SSL, session: &SslSessionRef) -> bool {
        let id = session.id();
        // SAFETY: passed on to the caller.
        unsafe { SSL_has_matching_session_id(ssl, id.as_ptr(), id.len() as c_uint) == 1 }
    }

    /// # Safety
    /// The context is alive, and the session lives longer than the result.
    unsafe fn to(context: *mut SSL_CTX, session: &SslSessionRef) -> Option<Self> {
        let session = session.as_ptr();
        // SAFETY: passed on to the caller.
        unsafe {
            OFFERS.set(true);
            let is_added = ffi::SSL_CTX_add_session(context, session) == 1;
            if !is_added && leaves_failed_sessions_on_list() {
                // The list needs a reference, and removes only sessions that have expired.
                ffi::SSL_SESSION_up_ref(session);
                SSL_SESSION_set_time(session, 0);
                SSL_SESSION_set_timeout(session, 0);
                SSL_CTX_flush_sessions(context, 1);
            }
            OFFERS.set(false);
            is_added.then_some(Self { context, session })
        }
    }
}

/// Whether the context has these callbacks: the host has not replaced them.
///
/// # Safety
/// `ctx` is a live `SSL_CTX`.
unsafe fn is_ours(ctx: *mut SSL_CTX) -> bool {
    // SAFETY: the caller vouches for `ctx`; these only read.
    let (get, remove) = unsafe {
        (
            SSL_CTX_sess_get_get_cb(ctx),
            SSL_CTX_sess_get_remove_cb(ctx),
        )
    };
    get.map(|f| f as usize) == Some(get_session as GetSession as usize)
        && remove.map(|f| f as usize) == Some(remove_session as RemoveSession as usize)
}

/// A copy of a session under an ID that no client knows.
fn probe(session: &SslSessionRef) -> Option<SslSession> {
    let mut id = [0; MAX_LEN];
    for (byte, of_session) in id.iter_mut().zip(session.id()) {
        *byte = !of_session;
    }
    // SAFETY: the session is live; the copy, if there is one, belongs to the caller alone.
    unsafe {
        let copy = SSL_SESSION_dup(session.as_ptr());
        let copy = (!copy.is_null()).then(|| SslSession::from_ptr(copy))?;
        let len = session.id().len().min(id.len());
        (SSL_SESSION_set1_id(copy.as_ptr(), id.as_ptr(), len as c_uint) == 1).then_some(copy)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let Some(_visit) = Visit::begin() else {
            return;
        };
        OFFERS.set(true);
        // SAFETY: both are alive, as `make` demands.
        unsafe { ffi::SSL_CTX_remove_session(self.context, self.session) };
        OFFERS.set(false);
    }
}

/// Called when a session has expired or its connection has failed: removes the session, unless the
/// client has only closed the connection.
pub unsafe extern "C" fn remove_session(_ctx: *mut SSL_CTX, session: *mut SSL_SESSION) {
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
