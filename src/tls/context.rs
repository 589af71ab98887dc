//! An `SSL_CTX` of the host's: attached to the cache and the keys, and detached.

use std::ffi::{c_int, c_long, c_void};
use std::ptr;
use std::sync::OnceLock;

use openssl_sys as ffi;
use openssl_sys::SSL_CTX;

use super::{
    GetSession, NewSession, RemoveSession, SSL_CTX_get_timeout, SSL_CTX_sess_get_get_cb,
    SSL_CTX_sess_get_new_cb, SSL_CTX_sess_get_remove_cb, SSL_CTX_set_timeout,
    SSL_CTX_set_tlsext_ticket_key_evp_cb, callbacks, ensure_ticket_key,
};
use crate::config::Record;
use crate::library::{Library, make_once};
use crate::sys;

/// From ssl.h; openssl-sys has the setter's number only.
const SSL_CTRL_GET_SESS_CACHE_MODE: c_int = 45;
/// From crypto.h.
const CRYPTO_EX_INDEX_SSL_CTX: c_int = 1;

/// What the host had set before the first attach; the context carries it.
struct Before {
    mode: c_long,
    cache_size: c_long,
    timeout: c_long,
    tickets: usize,
    no_ticket: bool,
    new: Option<NewSession>,
    get: Option<GetSession>,
    remove: Option<RemoveSession>,
}

/// Wires a context to the library, as the settings say at this moment.
///
/// # Safety
/// `ctx` is a live `SSL_CTX` that no other thread changes meanwhile.
pub unsafe fn attach(library: &Library, ctx: *mut SSL_CTX) -> Result<(), &'static str> {
    let index = ex_index().ok_or("OpenSSL gives out no index for context data")?;
    // SAFETY: the caller vouches for `ctx`; what is stored under `index` is a `Before`
    // of ours or null.
    unsafe {
        let mut before = ffi::SSL_CTX_get_ex_data(ctx, index).cast::<Before>();
        if before.is_null() {
            before = Box::into_raw(Box::new(Before::of(ctx)));
            if ffi::SSL_CTX_set_ex_data(ctx, index, before.cast()) != 1 {
                drop(Box::from_raw(before));
                return Err("OpenSSL does not take context data");
            }
        }
        sys::pin();
        apply(library, ctx, &*before);
    }
    Ok(())
}

/// Gives a context back as it was before [`attach`]; one that is not attached
/// stays as it is.
///
/// # Safety
/// As for [`attach`].
pub unsafe fn detach(ctx: *mut SSL_CTX) {
    let Some(index) = ex_index() else { return };
    // SAFETY: as in `attach`. The box is taken back after the context forgot it.
    unsafe {
        let before = ffi::SSL_CTX_get_ex_data(ctx, index).cast::<Before>();
        if before.is_null() {
            return;
        }
        ffi::SSL_CTX_set_ex_data(ctx, index, ptr::null_mut());
        let before = Box::from_raw(before);
        set_mode(ctx, before.mode);
        ffi::SSL_CTX_sess_set_new_cb(ctx, before.new);
        ffi::SSL_CTX_sess_set_get_cb(ctx, before.get);
        ffi::SSL_CTX_sess_set_remove_cb(ctx, before.remove);
        before.restore_limits(ctx);
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, None);
    }
}

/// # Safety
/// As for [`attach`].
unsafe fn apply(library: &Library, ctx: *mut SSL_CTX, before: &Before) {
    let config = &library.config;
    let mut mode = match config.int(Record::SessionCache) {
        0 => ffi::SSL_SESS_CACHE_OFF,
        1 => ffi::SSL_SESS_CACHE_SERVER,
        _ => ffi::SSL_SESS_CACHE_SERVER | ffi::SSL_SESS_CACHE_NO_INTERNAL,
    };
    if config.int(Record::AutoClear) == 0 {
        mode |= ffi::SSL_SESS_CACHE_NO_AUTO_CLEAR;
    }
    let ours = library.caches();
    ensure_ticket_key(&library.tickets);
    // SAFETY: the caller vouches for `ctx`; the callbacks are of the types asked for
    // and stay in memory, because the library was pinned.
    unsafe {
        set_mode(ctx, mode);
        ffi::SSL_CTX_sess_set_new_cb(ctx, ours.then_some(callbacks::new_session as NewSession));
        ffi::SSL_CTX_sess_set_get_cb(ctx, ours.then_some(callbacks::get_session as GetSession));
        ffi::SSL_CTX_sess_set_remove_cb(
            ctx,
            ours.then_some(callbacks::remove_session as RemoveSession),
        );
        before.restore_limits(ctx);
        if !ours {
            set_cache_size(ctx, config.int(Record::Size) as c_long);
        }
        let timeout = config.int(Record::Timeout);
        if timeout > 0 {
            SSL_CTX_set_timeout(ctx, timeout as c_long);
        }
        if let Some(number) = config.int_if_set(Record::TicketNumber) {
            ffi::SSL_CTX_set_num_tickets(ctx, number as usize);
        }
        if config.int(Record::TicketEnable) == 0 {
            ffi::SSL_CTX_set_options(ctx, ffi::SSL_OP_NO_TICKET);
        }
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, Some(callbacks::ticket_key));
    }
}

impl Before {
    /// # Safety
    /// As for [`attach`].
    unsafe fn of(ctx: *mut SSL_CTX) -> Self {
        // SAFETY: the caller vouches for `ctx`; all of these only read.
        unsafe {
            Self {
                mode: ffi::SSL_CTX_ctrl(ctx, SSL_CTRL_GET_SESS_CACHE_MODE, 0, ptr::null_mut()),
                cache_size: ffi::SSL_CTX_ctrl(
                    ctx,
                    ffi::SSL_CTRL_GET_SESS_CACHE_SIZE,
                    0,
                    ptr::null_mut(),
                ),
                timeout: SSL_CTX_get_timeout(ctx),
                tickets: ffi::SSL_CTX_get_num_tickets(ctx),
                no_ticket: ffi::SSL_CTX_get_options(ctx) & ffi::SSL_OP_NO_TICKET != 0,
                new: SSL_CTX_sess_get_new_cb(ctx),
                get: SSL_CTX_sess_get_get_cb(ctx),
                remove: SSL_CTX_sess_get_remove_cb(ctx),
            }
        }
    }

    /// Gives `ctx` back the host's numbers and options.
    ///
    /// # Safety
    /// As for [`attach`].
    unsafe fn restore_limits(&self, ctx: *mut SSL_CTX) {
        // SAFETY: the caller vouches for `ctx`.
        unsafe {
            set_cache_size(ctx, self.cache_size);
            SSL_CTX_set_timeout(ctx, self.timeout);
            ffi::SSL_CTX_set_num_tickets(ctx, self.tickets);
            if !self.no_ticket {
                ffi::SSL_CTX_clear_options(ctx, ffi::SSL_OP_NO_TICKET);
            }
        }
    }
}

/// # Safety
/// As for [`attach`].
unsafe fn set_mode(ctx: *mut SSL_CTX, mode: c_long) {
    // SAFETY: the caller vouches for `ctx`.
    unsafe {
        ffi::SSL_CTX_ctrl(
            ctx,
            ffi::SSL_CTRL_SET_SESS_CACHE_MODE,
            mode,
            ptr::null_mut(),
        )
    };
}

/// # Safety
/// As for [`attach`].
unsafe fn set_cache_size(ctx: *mut SSL_CTX, size: c_long) {
    // SAFETY: the caller vouches for `ctx`.
    unsafe {
        ffi::SSL_CTX_ctrl(
            ctx,
            ffi::SSL_CTRL_SET_SESS_CACHE_SIZE,
            size,
            ptr::null_mut(),
        )
    };
}

/// The index under which a context carries its `Before`.
fn ex_index() -> Option<c_int> {
    static INDEX: OnceLock<c_int> = OnceLock::new();
    let index = *make_once(&INDEX, || {
        // Its free function is called as long as there are contexts.
        sys::pin();
        // SAFETY: `free_before` is of the type asked for and stays in memory.
        unsafe {
            ffi::CRYPTO_get_ex_new_index(
                CRYPTO_EX_INDEX_SSL_CTX,
                0,
                ptr::null_mut(),
                None,
                None,
                Some(free_before),
            )
        }
    });
    (index >= 0).then_some(index)
}

/// Called by OpenSSL at the end of every context.
unsafe extern "C" fn free_before(
    _ctx: *mut c_void,
    before: *mut c_void,
    _data: *mut ffi::CRYPTO_EX_DATA,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) {
    if !before.is_null() {
        // SAFETY: what is stored under our index is a box from `attach`, and the
        // context is not used any more.
        drop(unsafe { Box::from_raw(before.cast::<Before>()) });
    }
}
