//! Attaching an `SSL_CTX` of the host's to the cache and the keys, and detaching it.

use std::error::Error;
use std::ffi::{c_int, c_long, c_void};
use std::fmt;
use std::ptr;
use std::sync::atomic::Ordering;

use openssl_sys as ffi;
use openssl_sys::SSL_CTX;

use super::bindings::{
    CRYPTO_EX_INDEX_SSL_CTX, GetSession, NewSession, RemoveSession, SSL_CTRL_GET_SESS_CACHE_MODE,
    SSL_CTX_get_timeout, SSL_CTX_sess_get_get_cb, SSL_CTX_sess_get_new_cb,
    SSL_CTX_sess_get_remove_cb, SSL_CTX_set_session_ticket_cb, SSL_CTX_set_timeout,
    SSL_CTX_set_tlsext_ticket_key_evp_cb,
};
use super::ex_data::new_index;
use super::lineage::{MOST_SECONDS_TLS13, generate_ticket};
use super::version::is_of_this_openssl;
use super::visit::Visit;
use super::{attached, callbacks, tickets};
use crate::base::alloc::boxed;
use crate::base::once::{Once, try_make_once};
use crate::instance::Instance;
use crate::instance::boundary::guard;
use crate::settings::table::Record;

/// Everything in a context that attaching can change, except the callbacks for tickets and their
/// keys, which OpenSSL does not report.
#[derive(Clone, Copy)]
struct Settings {
    mode: c_long,
    cache_size: c_long,
    timeout: c_long,
    tickets: usize,
    no_ticket: bool,
    new: Option<NewSession>,
    get: Option<GetSession>,
    remove: Option<RemoveSession>,
}

/// What an attached context carries.
struct Attached {
    /// What the host wants: the values before attaching, or those that it has set since.
    hosts: Settings,
    /// The values that the library has set.
    ours: Settings,
    /// Whether the library has set the callbacks for tickets and their keys.
    serves_tickets: bool,
}

/// Why a context could not be attached or detached. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachError(&'static str);

impl AttachError {
    const OTHER_OPENSSL: Self = Self("the SSL_CTX belongs to another OpenSSL than this library's");
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for AttachError {}

/// Attaches a context as the current settings say.
///
/// # Safety
/// `ctx` is a live `SSL_CTX` that no other thread changes during the call.
pub unsafe fn attach(instance: &Instance, ctx: *mut SSL_CTX) -> Result<(), AttachError> {
    // SAFETY: the caller vouches for `ctx`.
    if !unsafe { is_of_this_openssl(ctx) } {
        return Err(AttachError::OTHER_OPENSSL);
    }
    let no_index = AttachError("OpenSSL has no index for data of a context");
    let index = index().ok_or(no_index)?;
    if !instance.has_all_settings() {
        return Err(AttachError("no memory for the settings of the environment"));
    }
    let serves_tickets = instance.serves_tickets();
    if serves_tickets {
        tickets::provide(instance)
            .map_err(|_| AttachError("no memory for the file of ticket keys"))?;
    }
    // SAFETY: the caller vouches for `ctx`; what is stored under `index` is an `Attached`
    // of ours or null. The callback is of the type asked for.
    unsafe {
        let visit = Visit::begin().ok_or(AttachError("the process is ending"))?;
        let mut attached = ffi::SSL_CTX_get_ex_data(ctx, index).cast::<Attached>();
        if attached.is_null() {
            let hosts = Settings::of(ctx);
            let new = boxed(Attached {
                hosts,
                ours: hosts,
                serves_tickets: false,
            });
            attached = Box::into_raw(new.map_err(|_| AttachError("no memory"))?);
            if ffi::SSL_CTX_set_ex_data(ctx, index, attached.cast()) != 1 {
                drop(Box::from_raw(attached));
                return Err(AttachError("OpenSSL cannot store data in the context"));
            }
            if attached::add(ctx).is_err() {
                ffi::SSL_CTX_set_ex_data(ctx, index, ptr::null_mut());
                drop(Box::from_raw(attached));
                return Err(AttachError("no memory"));
            }
            instance.contexts.fetch_add(1, Ordering::Relaxed);
        }
        let attached = &mut *attached;
        attached.learn_from(Settings::of(ctx));
        attached.ours = attached.hosts.adapted(instance, serves_tickets);
        attached.ours.put(ctx);
        if serves_tickets {
            if !attached.serves_tickets {
                // Once: OpenSSL does not report those that the host has set since, and they stay.
                SSL_CTX_set_session_ticket_cb(
                    ctx,
                    Some(generate_ticket),
                    Some(tickets::decrypted_ticket),
                    ptr::null_mut(),
                );
            }
            SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, Some(tickets::ticket_key));
        } else {
            attached.leave_tickets(ctx);
        }
        attached.serves_tickets = serves_tickets;
        drop(visit);
    }
    Ok(())
}

/// Detaches a context: gives it the values that the host wants. Leaves one that is not attached
/// unchanged.
///
/// # Safety
/// As for [`attach`].
pub unsafe fn detach(ctx: *mut SSL_CTX) -> Result<(), AttachError> {
    // SAFETY: the caller vouches for `ctx`.
    if !unsafe { is_of_this_openssl(ctx) } {
        return Err(AttachError::OTHER_OPENSSL);
    }
    let Some(index) = index() else {
        return Ok(());
    };
    // SAFETY: as in `attach`. The box is taken back after the context has forgotten it.
    unsafe {
        let attached = ffi::SSL_CTX_get_ex_data(ctx, index).cast::<Attached>();
        if attached.is_null() {
            return Ok(());
        }
        attached::remove(ctx);
        ffi::SSL_CTX_set_ex_data(ctx, index, ptr::null_mut());
        let mut attached = Box::from_raw(attached);
        attached.learn_from(Settings::of(ctx));
        attached.hosts.put(ctx);
        attached.leave_tickets(ctx);
    }
    count_gone();
    Ok(())
}

/// Whether a context is attached.
///
/// # Safety
/// `ctx` is a live `SSL_CTX`.
pub unsafe fn is_attached(ctx: *const SSL_CTX) -> bool {
    // SAFETY: passed on to the caller; the data of another OpenSSL's context are not read.
    index().is_some_and(|index| unsafe {
        is_of_this_openssl(ctx) && !ffi::SSL_CTX_get_ex_data(ctx, index).is_null()
    })
}

/// Counts that a context is no longer attached.
fn count_gone() {
    if let Some(instance) = Instance::if_made() {
        instance.contexts.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Attached {
    /// Removes the callbacks for tickets that the library has set.
    ///
    /// # Safety
    /// As for [`attach`].
    unsafe fn leave_tickets(&self, ctx: *mut SSL_CTX) {
        if self.serves_tickets {
            // SAFETY: passed on to the caller.
            unsafe {
                SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, None);
                SSL_CTX_set_session_ticket_cb(ctx, None, None, ptr::null_mut());
            }
        }
    }

    /// Takes over values that the host has set since: those that differ from what the library set.
    fn learn_from(&mut self, now: Settings) {
        fn learn<T: Copy, K: PartialEq>(hosts: &mut T, ours: T, now: T, key: impl Fn(T) -> K) {
            if key(now) != key(ours) {
                *hosts = now;
            }
        }
        let Self { hosts, ours, .. } = self;
        // The mode bit by bit: a host may have added a bit.
        let changed = ours.mode ^ now.mode;
        hosts.mode = hosts.mode & !changed | now.mode & changed;
        learn(
            &mut hosts.cache_size,
            ours.cache_size,
            now.cache_size,
            |x| x,
        );
        learn(&mut hosts.timeout, ours.timeout, now.timeout, |x| x);
        learn(&mut hosts.tickets, ours.tickets, now.tickets, |x| x);
        learn(&mut hosts.no_ticket, ours.no_ticket, now.no_ticket, |x| x);
        // By address. One function can have two; at worst it then counts as set by the host.
        learn(&mut hosts.new, ours.new, now.new, |x| x.map(|f| f as usize));
        learn(&mut hosts.get, ours.get, now.get, |x| x.map(|f| f as usize));
        learn(&mut hosts.remove, ours.remove, now.remove, |x| {
            x.map(|f| f as usize)
        });
    }
}

impl Settings {
    /// The host's values, changed as the library's settings say.
    fn adapted(self, instance: &Instance, serves_tickets: bool) -> Self {
        let config = &instance.config;
        let ours = instance.sessions.is_on();
        let mut mode = match config.int(Record::SessionCache) {
            // OFF alone is not enough: OpenSSL would still look into its own cache.
            0 => ffi::SSL_SESS_CACHE_OFF | ffi::SSL_SESS_CACHE_NO_INTERNAL,
            1 => ffi::SSL_SESS_CACHE_SERVER,
            _ => ffi::SSL_SESS_CACHE_SERVER | ffi::SSL_SESS_CACHE_NO_INTERNAL,
        };
        if config.int(Record::AutoClear) == 0 {
            mode |= ffi::SSL_SESS_CACHE_NO_AUTO_CLEAR;
        }
        let timeout = config.int(Record::Timeout) as c_long;
        let tickets = config.int_if_set(Record::TicketNumber);
        let tickets = tickets.filter(|_| serves_tickets);
        Self {
            mode,
            cache_size: if ours {
                self.cache_size
            } else {
                config.int(Record::Size) as c_long
            },
            // New sessions take it from here, those in tickets too.
            timeout: match timeout {
                0 => self.timeout.min(MOST_SECONDS_TLS13),
                timeout => timeout.min(MOST_SECONDS_TLS13),
            },
            tickets: tickets.map_or(self.tickets, |number| number as usize),
            no_ticket: self.no_ticket || serves_tickets && config.int(Record::TicketEnable) == 0,
            new: ours.then_some(callbacks::new_session as NewSession),
            get: ours.then_some(callbacks::get_session as GetSession),
            remove: ours.then_some(callbacks::remove_session as RemoveSession),
        }
    }

    /// # Safety
    /// As for [`attach`].
    unsafe fn of(ctx: *mut SSL_CTX) -> Self {
        // SAFETY: the caller vouches for `ctx`; all of these only read.
        unsafe {
            Self {
                mode: control(ctx, SSL_CTRL_GET_SESS_CACHE_MODE, 0),
                cache_size: control(ctx, ffi::SSL_CTRL_GET_SESS_CACHE_SIZE, 0),
                timeout: SSL_CTX_get_timeout(ctx),
                tickets: ffi::SSL_CTX_get_num_tickets(ctx),
                no_ticket: ffi::SSL_CTX_get_options(ctx) & ffi::SSL_OP_NO_TICKET != 0,
                new: SSL_CTX_sess_get_new_cb(ctx),
                get: SSL_CTX_sess_get_get_cb(ctx),
                remove: SSL_CTX_sess_get_remove_cb(ctx),
            }
        }
    }

    /// # Safety
    /// As for [`attach`].
    unsafe fn put(&self, ctx: *mut SSL_CTX) {
        // SAFETY: the caller vouches for `ctx`; the callbacks are of the types asked for
        // and stay in memory, because the library is never unloaded.
        unsafe {
            control(ctx, ffi::SSL_CTRL_SET_SESS_CACHE_MODE, self.mode);
            control(ctx, ffi::SSL_CTRL_SET_SESS_CACHE_SIZE, self.cache_size);
            SSL_CTX_set_timeout(ctx, self.timeout);
            ffi::SSL_CTX_set_num_tickets(ctx, self.tickets);
            if self.no_ticket {
                ffi::SSL_CTX_set_options(ctx, ffi::SSL_OP_NO_TICKET);
            } else {
                ffi::SSL_CTX_clear_options(ctx, ffi::SSL_OP_NO_TICKET);
            }
            ffi::SSL_CTX_sess_set_new_cb(ctx, self.new);
            ffi::SSL_CTX_sess_set_get_cb(ctx, self.get);
            ffi::SSL_CTX_sess_set_remove_cb(ctx, self.remove);
        }
    }
}

/// # Safety
/// As for [`attach`].
unsafe fn control(ctx: *mut SSL_CTX, command: c_int, value: c_long) -> c_long {
    // SAFETY: the caller vouches for `ctx`; the commands used take a number only.
    unsafe { ffi::SSL_CTX_ctrl(ctx, command, value, ptr::null_mut()) }
}

/// The index under which a context carries its `Attached`.
fn index() -> Option<c_int> {
    static INDEX: Once<c_int> = Once::new();
    let index = try_make_once(&INDEX, || {
        // SAFETY: the function is of the type asked for and stays in memory.
        unsafe { new_index(CRYPTO_EX_INDEX_SSL_CTX, None, Some(free_attached)) }
    });
    index.copied()
}

/// Called by OpenSSL at the end of every context.
unsafe extern "C" fn free_attached(
    ctx: *mut c_void,
    attached: *mut c_void,
    _data: *mut ffi::CRYPTO_EX_DATA,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) {
    guard(|| {
        if !attached.is_null() {
            attached::remove(ctx.cast());
            // SAFETY: what is stored under our index is a box from `attach`, and the
            // context is not used any more.
            drop(unsafe { Box::from_raw(attached.cast::<Attached>()) });
            count_gone();
        }
    });
}
