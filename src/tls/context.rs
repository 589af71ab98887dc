//! An `SSL_CTX` of the host's: attached to the cache and the keys, and detached.

use std::error::Error;
use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::fmt;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use openssl_sys as ffi;
use openssl_sys::{SSL, SSL_CTX};

use super::{
    CRYPTO_set_ex_data, GetSession, MOST_SECONDS_TLS13, NewSession, RemoveSession,
    SSL_CTX_get_timeout, SSL_CTX_sess_get_get_cb, SSL_CTX_sess_get_new_cb,
    SSL_CTX_sess_get_remove_cb, SSL_CTX_set_session_ticket_cb, SSL_CTX_set_timeout,
    SSL_CTX_set_tlsext_ticket_key_evp_cb, Visit, callbacks, ensure_ticket_key,
};
use crate::config::Record;
use crate::guard::guard;
use crate::library::{KeyFileError, Library, try_make_once};
use crate::memory::boxed;

/// From ssl.h; openssl-sys has the setter's number only.
const SSL_CTRL_GET_SESS_CACHE_MODE: c_int = 45;
/// From crypto.h.
const CRYPTO_EX_INDEX_SSL: c_int = 0;
const CRYPTO_EX_INDEX_SSL_CTX: c_int = 1;

/// Everything in a context that attaching may change, but for the callbacks for tickets and
/// their keys, which OpenSSL does not tell.
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
    /// What the host wants: as it was, or as the host has set it since.
    hosts: Settings,
    /// What was set for the library.
    ours: Settings,
    /// Whether the library has set the callbacks for tickets and their keys.
    serves_tickets: bool,
}

/// A context could not be attached: what OpenSSL did not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachError(&'static str);

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for AttachError {}

/// Wires a context to the library, as the settings say at this moment.
///
/// # Safety
/// `ctx` is a live `SSL_CTX` that no other thread changes meanwhile.
pub unsafe fn attach(library: &Library, ctx: *mut SSL_CTX) -> Result<(), AttachError> {
    let no_index = AttachError("OpenSSL gives out no index for its objects");
    let index = context_index().ok_or(no_index)?;
    if !library.has_all_settings() {
        return Err(AttachError("no memory for the settings of the environment"));
    }
    let serves_tickets = library.serves_tickets();
    if serves_tickets {
        provide_ticket_keys(library)?;
    }
    // SAFETY: the caller vouches for `ctx`; what is stored under `index` is an `Attached`
    // of ours or null. The callback is of the type asked for.
    unsafe {
        let visit = Visit::begin();
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
                return Err(AttachError("OpenSSL does not take context data"));
            }
            library.contexts.fetch_add(1, Ordering::Relaxed);
        }
        let attached = &mut *attached;
        attached.learn_from(Settings::of(ctx));
        attached.ours = attached.hosts.adapted(library, serves_tickets);
        attached.ours.put(ctx);
        if serves_tickets {
            if !attached.serves_tickets {
                // Once: those that the host has set since stay, and OpenSSL does not tell of them.
                SSL_CTX_set_session_ticket_cb(
                    ctx,
                    None,
                    Some(callbacks::decrypted_ticket),
                    ptr::null_mut(),
                );
            }
            SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, Some(callbacks::ticket_key));
        } else {
            attached.leave_tickets(ctx);
        }
        attached.serves_tickets = serves_tickets;
        drop(visit);
        if ffi::SSL_CTX_get_max_early_data(ctx) > 0 {
            // Now, so that the first connection can be resumed already.
            connection_index();
        }
    }
    Ok(())
}

/// Gives a context back as the host wants it; one that is not attached stays as it is.
///
/// # Safety
/// As for [`attach`].
pub unsafe fn detach(ctx: *mut SSL_CTX) {
    let Some(index) = context_index() else {
        return;
    };
    // SAFETY: as in `attach`. The box is taken back after the context forgot it.
    unsafe {
        let attached = ffi::SSL_CTX_get_ex_data(ctx, index).cast::<Attached>();
        if attached.is_null() {
            return;
        }
        ffi::SSL_CTX_set_ex_data(ctx, index, ptr::null_mut());
        let mut attached = Box::from_raw(attached);
        attached.learn_from(Settings::of(ctx));
        attached.hosts.put(ctx);
        attached.leave_tickets(ctx);
    }
    count_gone();
}

/// Whether a context is attached.
///
/// # Safety
/// `ctx` is a live `SSL_CTX`.
pub unsafe fn is_attached(ctx: *const SSL_CTX) -> bool {
    // SAFETY: passed on to the caller.
    context_index().is_some_and(|index| !unsafe { ffi::SSL_CTX_get_ex_data(ctx, index) }.is_null())
}

/// Whether the process's OpenSSL, whose objects a plugin is given, is the one that the library
/// is linked with. A host may be linked with an older one, whose names have other versions, or
/// have one of another make within itself, whose names then come before those of OpenSSL 3.
pub fn is_openssl_of_process() -> bool {
    const MAJOR: c_ulong = 28;
    // SAFETY: takes nothing, and may be called at any time.
    if unsafe { ffi::OpenSSL_version_num() } >> MAJOR < 3 {
        return false;
    }
    // SAFETY: looks only; the name is a C string.
    let of_process = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"SSL_get_SSL_CTX".as_ptr()) };
    of_process.cast_const() == ffi::SSL_get_SSL_CTX as *const c_void
}

/// The context that a connection has now, which is the one that it began with until SNI
/// switches to another.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn of_new_connection(ssl: *const SSL) -> *mut SSL_CTX {
    // SAFETY: passed on to the caller.
    unsafe { ffi::SSL_get_SSL_CTX(ssl) }
}

/// Sees to it that there is a ticket key: that of the file, if one is configured, or a random one.
fn provide_ticket_keys(library: &Library) -> Result<(), AttachError> {
    if library.tickets.current().is_none()
        && let Err(error) = library.load_ticket_keys(None)
        && !matches!(error, KeyFileError::NoneSet)
    {
        // A key of this process's own would keep the file's out.
        if error.is_lack_of_memory() {
            return Err(AttachError("no memory for the file of ticket keys"));
        }
        log::error!(target: "ssl_session_ticket", "TSSslSessionCacheAttach: ticket keys: {error}; a random key is used");
    }
    ensure_ticket_key(&library.tickets);
    Ok(())
}

/// An attached context is attached no more.
fn count_gone() {
    if let Some(library) = Library::if_made() {
        library.contexts.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Attached {
    /// Takes off the callbacks for tickets that the library has set.
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

    /// Whatever is not as we have set it, the host has set since.
    fn learn_from(&mut self, now: Settings) {
        fn learn<T: Copy, K: PartialEq>(hosts: &mut T, ours: T, now: T, key: impl Fn(T) -> K) {
            if key(now) != key(ours) {
                *hosts = now;
            }
        }
        let Self { hosts, ours, .. } = self;
        // The mode bit by bit: a host adds one to what it finds there.
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
        // By address: one function may have two, which at worst is "set by the host".
        learn(&mut hosts.new, ours.new, now.new, |x| x.map(|f| f as usize));
        learn(&mut hosts.get, ours.get, now.get, |x| x.map(|f| f as usize));
        learn(&mut hosts.remove, ours.remove, now.remove, |x| {
            x.map(|f| f as usize)
        });
    }
}

impl Settings {
    /// What the library's settings make of the host's.
    fn adapted(self, library: &Library, serves_tickets: bool) -> Self {
        let config = &library.config;
        let ours = library.caches();
        let mut mode = match config.int(Record::SessionCache) {
            // Off is not enough: OpenSSL would still look for the sessions it has.
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
            cache_size: match ours {
                true => self.cache_size,
                false => config.int(Record::Size) as c_long,
            },
            // New sessions have it from here, and so do those in tickets.
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
            match self.no_ticket {
                true => ffi::SSL_CTX_set_options(ctx, ffi::SSL_OP_NO_TICKET),
                false => ffi::SSL_CTX_clear_options(ctx, ffi::SSL_OP_NO_TICKET),
            };
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

/// The context that a connection began with, whatever SNI made of it since; null for a
/// connection from before that was asked for the first time. That is the one whose
/// callbacks and session cache OpenSSL uses, and it does not tell.
///
/// # Safety
/// `ssl` is a live connection.
pub unsafe fn of_connection(ssl: *const SSL) -> *mut SSL_CTX {
    match connection_index() {
        // SAFETY: the caller vouches for `ssl`; what is stored there is null or a context
        // that the connection keeps alive.
        Some(index) => unsafe { ffi::SSL_get_ex_data(ssl, index).cast() },
        None => ptr::null_mut(),
    }
}

/// Where a context carries its `Attached`.
fn context_index() -> Option<c_int> {
    static INDEX: OnceLock<c_int> = OnceLock::new();
    let index = try_make_once(&INDEX, || {
        // SAFETY: the function is of the type asked for and stays in memory.
        unsafe { new_index(CRYPTO_EX_INDEX_SSL_CTX, None, None, Some(free_attached)) }
    });
    index.copied()
}

/// Where a connection carries the context that it began with. Made when it is needed first:
/// from then on every connection of the process pays for it.
fn connection_index() -> Option<c_int> {
    static INDEX: OnceLock<c_int> = OnceLock::new();
    let index = try_make_once(&INDEX, || {
        // SAFETY: the function is of the type asked for and stays in memory.
        unsafe {
            new_index(
                CRYPTO_EX_INDEX_SSL,
                Some(note_context),
                Some(forget_context),
                None,
            )
        }
    });
    index.copied()
}

/// # Safety
/// The functions stay valid as long as there are objects of the class.
unsafe fn new_index(
    class: c_int,
    new: Option<ffi::CRYPTO_EX_new>,
    dup: Option<ffi::CRYPTO_EX_dup>,
    free: Option<ffi::CRYPTO_EX_free>,
) -> Option<c_int> {
    let _visit = Visit::begin();
    // SAFETY: passed on to the caller.
    let index = unsafe { ffi::CRYPTO_get_ex_new_index(class, 0, ptr::null_mut(), new, dup, free) };
    (index >= 0).then_some(index)
}

/// Called by OpenSSL at the beginning of every connection.
unsafe extern "C" fn note_context(
    ssl: *mut c_void,
    _none: *mut c_void,
    data: *mut ffi::CRYPTO_EX_DATA,
    index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) {
    guard("note_context", || {
        let visit = Visit::begin();
        // SAFETY: OpenSSL passes the new connection and its data; the connection holds a
        // reference to the context.
        let noted =
            unsafe { CRYPTO_set_ex_data(data, index, ffi::SSL_get_SSL_CTX(ssl.cast()).cast()) };
        if noted == 1 {
            visit.end_in_success();
        }
    });
}

/// Called by OpenSSL when a connection is duplicated: the duplicate may begin with another
/// context.
unsafe extern "C" fn forget_context(
    _to: *mut ffi::CRYPTO_EX_DATA,
    _from: *const ffi::CRYPTO_EX_DATA,
    context: *mut *mut c_void,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) -> c_int {
    // 0, after a panic, has SSL_dup fail.
    guard("forget_context", || {
        // SAFETY: OpenSSL passes the place of what it is about to copy.
        unsafe { *context = ptr::null_mut() };
        1
    })
}

/// Called by OpenSSL at the end of every context.
unsafe extern "C" fn free_attached(
    _ctx: *mut c_void,
    attached: *mut c_void,
    _data: *mut ffi::CRYPTO_EX_DATA,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) {
    guard("free_attached", || {
        if !attached.is_null() {
            // SAFETY: what is stored under our index is a box from `attach`, and the
            // context is not used any more.
            drop(unsafe { Box::from_raw(attached.cast::<Attached>()) });
            count_gone();
        }
    });
}
