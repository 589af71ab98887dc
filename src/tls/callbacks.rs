//! What OpenSSL asks about sessions during a handshake and after it.
//!
//! None of these fails a handshake: without a session the handshake is a full one.

use std::ffi::{c_int, c_uchar};
use std::{ptr, slice};

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslSessionRef;
use openssl_sys as ffi;
use openssl_sys::{SSL, SSL_CTX, SSL_SESSION};

use super::connection::{first_context, is_looked_up_by_id, is_single_use, may_resume};
use super::link::{client_hung_up, link};
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
        if is_looked_up_by_id(ssl) {
            let session = SslSessionRef::from_ptr(session);
            if let Some(id) = SessionId::new(session.id()) {
                link(ssl, session);
                match store::store(instance, &id, session) {
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
        let single_use = is_single_use(ssl);
        let session = if !single_use {
            store::find(instance, &id, Purpose::Handshake)
        } else if first_context(ssl).is_null() {
            None
        } else {
            store::take(instance, &id)
        };
        let Some(session) = session else {
            return ptr::null_mut();
        };
        if session.id() != id.as_bytes() || !may_resume(ssl, &session) {
            instance.stats.count(Counter::MissRefused);
            log::debug!(target: "ssl.session_cache.get", "{id:?}: not for this connection");
            session::free(session);
            return ptr::null_mut();
        }
        instance.sessions.used(&id);
        link(ssl, &session);
        instance.hooks.fire(SessionEvent::Get, &id);
        if single_use {
            // OpenSSL resumes it only if it can take it out of the own cache of the context
            // that the connection began with: this is how it sees to it that of two
            // connections one resumes.
            let _visit = Visit::begin();
            let added = ffi::SSL_CTX_add_session(first_context(ssl), session.as_ptr()) == 1;
            if !added {
                // Without memory for its table, OpenSSL 3.0 gives its reference back although the
                // session is on its list: this one is for the list.
                ffi::SSL_SESSION_up_ref(session.as_ptr());
            }
            drop(_visit);
            instance.hooks.fire(SessionEvent::Remove, &id);
        }
        session::into_raw(session)
    })
}

/// A session has expired or its connection has failed: it may not be resumed, unless
/// all that happened is that the client has gone.
pub unsafe extern "C" fn remove_session(_ctx: *mut SSL_CTX, session: *mut SSL_SESSION) {
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
