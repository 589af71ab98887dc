//! The contexts of the host: which are attached, and what the host has set before.
//!
//! # Invariants
//!
//! 1. What is known of a context is in its ex_data, and ends with it: a new context at the same
//!    address is a new one. It is read and written while the lock is held, but for its end.
//! 2. A context is attached once, before the first handshake of the connections that pass here.
//!    That it was tried is noted first: where it fails, or a forked child begins in the middle, it
//!    is not tried again.
//! 3. A connection that is freed without a shutdown keeps its session from TLS 1.1 on (RFC 5246,
//!    7.2.1), as if the host had shut it down without a word. What a fatal alert ends, ends before.
//!    Only with OpenSSL 3.0 and 3.1: later ones look at the shutdown before they tell of the end.
//! 4. A connection that was made before its context was attached gets what OpenSSL has copied
//!    from there, when it becomes a server's.

use std::ffi::{c_int, c_long, c_void};
use std::ops::RangeInclusive;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::library::Library;
use crate::line;
use crate::lock::{Held, lock, watch_forks};
use crate::openssl::{AnyFunction, Connection, Context, FreeData, Openssl};

const CRYPTO_EX_INDEX_SSL_CTX: c_int = 1;
const CRYPTO_EX_INDEX_SSL: c_int = 0;
const SSL_OP_NO_TICKET: u64 = 1 << 14;
const SSL_CTRL_GET_SESS_CACHE_MODE: c_int = 45;
const SSL_SESS_CACHE_NO_INTERNAL_LOOKUP: c_long = 0x100;
const SSL_SENT_AND_RECEIVED_SHUTDOWN: c_int = 3;
/// TLS 1.1 to 1.3.
const MAY_HANG_UP: RangeInclusive<c_int> = 0x302..=0x304;

/// What is known of a context.
#[derive(Default)]
struct Known {
    /// The host has ticket keys of its own.
    has_own_keys: bool,
    /// The host's callbacks for session tickets.
    callbacks: Option<Callbacks>,
    /// Attaching was tried.
    is_tried: bool,
    /// It is attached.
    is_attached: bool,
    /// Attaching has switched tickets off.
    without_tickets: bool,
    /// The number of tickets before attaching and afterwards, if they differ.
    tickets: Option<(usize, usize)>,
}

#[derive(Clone, Copy)]
struct Callbacks {
    generate: AnyFunction,
    decrypt: AnyFunction,
    argument: *mut c_void,
}

/// What serves the contexts of this process.
pub struct Serving {
    openssl: &'static Openssl,
    library: Library,
    /// Where a context carries its [`Known`].
    index: c_int,
    /// Where a server connection of an attached context carries the address of [`MARK`].
    of_connections: c_int,
}

static MARK: u8 = 0;

/// Null: not opened yet; [`FAILED`]: it could not be.
static SERVING: AtomicPtr<Serving> = AtomicPtr::new(ptr::null_mut());
const FAILED: *mut Serving = ptr::without_provenance_mut(1);

/// Takes the lock. `None`: the contexts of this OpenSSL are left alone.
fn enter(openssl: &'static Openssl) -> Option<(Held, &'static Serving)> {
    if SERVING.load(Ordering::Acquire) == FAILED {
        return None;
    }
    let held = lock()?;
    if SERVING.load(Ordering::Acquire).is_null() {
        let opened = match Serving::open(openssl) {
            Ok(serving) => Box::into_raw(Box::new(serving)),
            Err(error) => {
                line(&format!("contexts are left as they are: {error}"));
                FAILED
            }
        };
        SERVING.store(opened, Ordering::Release);
    }
    let serving = SERVING.load(Ordering::Acquire);
    if serving == FAILED {
        return None;
    }
    // SAFETY: from a box that is never freed.
    let serving = unsafe { &*serving };
    if !ptr::eq(serving.openssl, openssl) {
        if !openssl.is_told.swap(true, Ordering::Relaxed) {
            line(&format!(
                "the contexts of {} are left as they are: those of {} are served",
                openssl.name, serving.openssl.name
            ));
        }
        return None;
    }
    Some((held, serving))
}

/// A context is about to be made that may become a server's: while the host still has its rights,
/// and has not forked.
pub fn prepare(openssl: &'static Openssl) {
    drop(enter(openssl));
}

/// A context's connections will be servers.
///
/// # Safety
/// `ctx` is null or a live context of this OpenSSL.
pub unsafe fn serve(openssl: &'static Openssl, ctx: *mut Context) {
    if let Some((mut held, serving)) = enter(openssl) {
        // SAFETY: passed on to the caller.
        unsafe { serving.attached(&mut held, ctx) };
    }
}

/// A connection becomes a server's.
///
/// # Safety
/// `ssl` is null or a live connection of this OpenSSL.
pub unsafe fn accept(openssl: &'static Openssl, ssl: *mut Connection) {
    if ssl.is_null() {
        return;
    }
    if let Some((mut held, serving)) = enter(openssl) {
        // SAFETY: passed on to the caller; the lock is held.
        unsafe {
            let ctx = openssl
                .SSL_get_SSL_CTX
                .map_or(ptr::null_mut(), |get| get(ssl));
            if let Some(known) = serving.attached(&mut held, ctx) {
                known.bring_up_to_date(openssl, ssl);
                if let Some(set) = openssl.SSL_set_ex_data {
                    let mark = (&raw const MARK).cast_mut().cast();
                    set(ssl, serving.of_connections, mark);
                }
                serving.library.join_farm();
            }
        }
    }
}

/// A connection is to have another context.
///
/// # Safety
/// `ssl` is null or a live connection of this OpenSSL, `ctx` is null or a live context.
pub unsafe fn switch(openssl: &'static Openssl, ssl: *mut Connection, ctx: *mut Context) {
    let (Some(get), Some(is_server)) = (openssl.SSL_get_SSL_CTX, openssl.SSL_is_server) else {
        return;
    };
    if ssl.is_null() {
        return;
    }
    // SAFETY: passed on to the caller; the lock is held where it must be.
    unsafe {
        if is_server(ssl) == 1
            && let Some((mut held, serving)) = enter(openssl)
            && serving
                .known(&mut held, get(ssl))
                .is_some_and(|now| now.is_attached)
        {
            serving.attached(&mut held, ctx);
        }
    }
}

/// Whether a context is attached, and OpenSSL does not look for sessions in its own cache.
///
/// # Safety
/// `ctx` is null or a live context of this OpenSSL.
pub unsafe fn is_never_searched(openssl: &'static Openssl, ctx: *mut Context) -> bool {
    let Some((mut held, serving)) = enter(openssl) else {
        return false;
    };
    // SAFETY: passed on to the caller; the lock is held. The command only reads.
    unsafe {
        serving
            .known(&mut held, ctx)
            .is_some_and(|known| known.is_attached)
            && openssl.SSL_CTX_ctrl.is_some_and(|ctrl| {
                let mode = ctrl(ctx, SSL_CTRL_GET_SESS_CACHE_MODE, 0, ptr::null_mut());
                mode & SSL_SESS_CACHE_NO_INTERNAL_LOOKUP != 0
            })
    }
}

/// The host has ticket keys of its own for a context, or has them no more.
///
/// # Safety
/// `ctx` is null or a live context of this OpenSSL.
pub unsafe fn note_keys(openssl: &'static Openssl, ctx: *mut Context, has_own_keys: bool) {
    // SAFETY: passed on to the caller.
    unsafe { note(openssl, ctx, |known| known.has_own_keys = has_own_keys) };
}

/// The host has callbacks for session tickets in a context.
///
/// # Safety
/// As for [`note_keys`].
pub unsafe fn note_callbacks(
    openssl: &'static Openssl,
    ctx: *mut Context,
    generate: AnyFunction,
    decrypt: AnyFunction,
    argument: *mut c_void,
) {
    let callbacks = Callbacks {
        generate,
        decrypt,
        argument,
    };
    // SAFETY: passed on to the caller.
    unsafe { note(openssl, ctx, |known| known.callbacks = Some(callbacks)) };
}

/// # Safety
/// As for [`note_keys`].
unsafe fn note(openssl: &'static Openssl, ctx: *mut Context, change: impl FnOnce(&mut Known)) {
    if let Some((mut held, serving)) = enter(openssl) {
        // SAFETY: passed on to the caller; the lock is held.
        if let Some(known) = unsafe { serving.known(&mut held, ctx) } {
            change(known);
        }
    }
}

impl Serving {
    fn open(openssl: &'static Openssl) -> Result<Self, String> {
        if !watch_forks() {
            return Err("no memory to watch forks".to_owned());
        }
        let _errors = Errors::keep(openssl);
        let library = Library::open(openssl)?;
        let new_index = |class, free: FreeData| {
            // SAFETY: the function is of the type asked for, and is never unloaded.
            let index = openssl.CRYPTO_get_ex_new_index.map(|new_index| unsafe {
                new_index(class, 0, ptr::null_mut(), None, None, Some(free))
            });
            let index = index.filter(|index| *index >= 0);
            index.ok_or_else(|| "OpenSSL gives out no index for its objects".to_owned())
        };
        Ok(Self {
            openssl,
            library,
            index: new_index(CRYPTO_EX_INDEX_SSL_CTX, forget)?,
            of_connections: new_index(CRYPTO_EX_INDEX_SSL, shut_down)?,
        })
    }

    /// What is known of a context; `None`: there is no memory for it.
    ///
    /// # Safety
    /// `ctx` is null or a live context of this OpenSSL.
    unsafe fn known<'a>(&self, _held: &'a mut Held, ctx: *mut Context) -> Option<&'a mut Known> {
        let (get, set) = (
            self.openssl.SSL_CTX_get_ex_data?,
            self.openssl.SSL_CTX_set_ex_data?,
        );
        if ctx.is_null() {
            return None;
        }
        // SAFETY: what is stored under the index is null or from a box, which `forget` frees.
        unsafe {
            let known = get(ctx, self.index).cast::<Known>();
            if !known.is_null() {
                return Some(&mut *known);
            }
            let _errors = Errors::keep(self.openssl);
            let known = Box::into_raw(Box::<Known>::default());
            if set(ctx, self.index, known.cast()) != 1 {
                drop(Box::from_raw(known));
                return None;
            }
            Some(&mut *known)
        }
    }

    /// What is known of a context that is attached, now or before.
    ///
    /// # Safety
    /// As for [`Self::known`].
    unsafe fn attached<'a>(&self, held: &'a mut Held, ctx: *mut Context) -> Option<&'a mut Known> {
        // SAFETY: passed on to the caller.
        unsafe {
            let known = self.known(held, ctx)?;
            if !known.is_tried {
                known.is_tried = true;
                let _errors = Errors::keep(self.openssl);
                let before = Copied::of(self.openssl, ctx)?;
                if let Some(has_tickets) = self.library.attach(ctx, known.has_own_keys) {
                    known.is_attached = true;
                    if has_tickets
                        && let Some(callbacks) = known.callbacks
                        && let Some(set) = self.openssl.SSL_CTX_set_session_ticket_cb
                    {
                        set(
                            ctx,
                            callbacks.generate,
                            callbacks.decrypt,
                            callbacks.argument,
                        );
                    }
                    let now = Copied::of(self.openssl, ctx)?;
                    known.without_tickets = now.without_tickets && !before.without_tickets;
                    known.tickets =
                        (now.tickets != before.tickets).then_some((before.tickets, now.tickets));
                }
            }
            known.is_attached.then_some(known)
        }
    }
}

/// What OpenSSL copies from a context into a new connection, as far as attaching changes it.
struct Copied {
    without_tickets: bool,
    tickets: usize,
}

impl Copied {
    /// # Safety
    /// `ctx` is a live context of this OpenSSL.
    unsafe fn of(openssl: &Openssl, ctx: *const Context) -> Option<Self> {
        let options = openssl.SSL_CTX_get_options?;
        let tickets = openssl.SSL_CTX_get_num_tickets?;
        // SAFETY: passed on to the caller; these only read.
        unsafe {
            Some(Self {
                without_tickets: options(ctx) & SSL_OP_NO_TICKET != 0,
                tickets: tickets(ctx),
            })
        }
    }
}

impl Known {
    /// # Safety
    /// `ssl` is a live connection of this OpenSSL.
    unsafe fn bring_up_to_date(&self, openssl: &Openssl, ssl: *mut Connection) {
        // SAFETY: passed on to the caller.
        unsafe {
            if self.without_tickets
                && let Some(set) = openssl.SSL_set_options
            {
                set(ssl, SSL_OP_NO_TICKET);
            }
            if let Some((before, now)) = self.tickets
                && let (Some(get), Some(set)) =
                    (openssl.SSL_get_num_tickets, openssl.SSL_set_num_tickets)
                && get(ssl) == before
            {
                set(ssl, now);
            }
        }
    }
}

/// Called by OpenSSL at the end of every context.
unsafe extern "C" fn forget(
    _ctx: *mut c_void,
    known: *mut c_void,
    _data: *mut c_void,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) {
    if !known.is_null() {
        // SAFETY: from a box in `known`; the context is not used any more.
        drop(unsafe { Box::from_raw(known.cast::<Known>()) });
    }
}

/// Called by OpenSSL at the end of every connection; up to 3.1 before it looks whether that was
/// shut down. What is read and written here is there until the very end.
unsafe extern "C" fn shut_down(
    ssl: *mut c_void,
    mark: *mut c_void,
    _data: *mut c_void,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) {
    let serving = SERVING.load(Ordering::Acquire);
    if mark.is_null() || serving.is_null() || serving == FAILED {
        return;
    }
    // SAFETY: from a box that is never freed.
    let openssl = unsafe { (*serving).openssl };
    if let (Some(version), Some(get), Some(set)) = (
        openssl.SSL_version,
        openssl.SSL_get_shutdown,
        openssl.SSL_set_shutdown,
    ) {
        let ssl = ssl.cast();
        // SAFETY: OpenSSL passes a connection that nobody else uses any more.
        unsafe {
            if MAY_HANG_UP.contains(&version(ssl)) && get(ssl) == 0 {
                set(ssl, SSL_SENT_AND_RECEIVED_SHUTDOWN);
            }
        }
    }
}

/// Has OpenSSL's error queue be, when dropped, as it was.
struct Errors(&'static Openssl);

impl Errors {
    fn keep(openssl: &'static Openssl) -> Self {
        if let Some(mark) = openssl.ERR_set_mark {
            // SAFETY: takes nothing.
            unsafe { mark() };
        }
        Self(openssl)
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        if let Some(pop) = self.0.ERR_pop_to_mark {
            // SAFETY: takes nothing.
            unsafe { pop() };
        }
    }
}
