//! What OpenSSL asks about sessions during a handshake and after it.
//!
//! None of these fails a handshake: without a session the handshake is a full one.

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
                count_other_context(instance, ssl, session);
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
        if session.id() != id.as_bytes()
            || !fits_version(ssl, &session)
            || !may_resume(ssl, &session)
        {
            return refuse(session);
        }
        let mut offer = None;
        if is_single_use(ssl, &session) {
            // Of several connections that find it, one takes it, and none of a forked child.
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
        // One that nobody has marked (another machine's, say): its time is still its own.
        mark(&session);
        link(ssl, &session);
        note_found(ssl, &session);
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
    /// Whether this thread makes an [`Offer`] or takes it back: what OpenSSL removes from a
    /// context's own cache then, it removes while a lock is held, and it is in no other.
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
    unsafe fn make(ssl: *const SSL, session: &SslSessionRef) -> Option<Self> {
        let _visit = Visit::begin()?;
        // SAFETY: the caller vouches for `ssl`; the contexts that are asked are alive.
        unsafe {
            let now = ffi::SSL_get_SSL_CTX(ssl);
            let context = if is_ours(now) {
                // Whatever has been in a cache and was taken out, OpenSSL does not resume.
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
                // The list needs a reference. It lets only sessions go that have expired.
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

/// Whether nobody has put callbacks for sessions of his own in the place of these.
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

/// A copy of a session that no client knows.
fn probe(session: &SslSessionRef) -> Option<SslSession> {
    let mut id = [0; MAX_LEN];
    for (byte, of_session) in id.iter_mut().zip(session.id()) {
        *byte = !of_session;
    }
    // SAFETY: the session is live; the copy, if there is one, is the caller's alone.
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

/// A session has expired or its connection has failed: it may not be resumed, unless
/// all that happened is that the client has gone.
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
