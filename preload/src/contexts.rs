//! The contexts of the host: which are attached, and what the host set before.
//!
//! # Invariants
//!
//! 1. The data about a context is in its ex_data, and ends with it: a new context at the same
//!    address has new data. It is read and written only under the lock, except when it ends. Only
//!    what attaching changed is also in a table that is read without the lock: the contexts of most
//!    connections are attached.
//! 2. A context is attached once, before the first handshake of the connections that pass here. The
//!    try is noted first. It is not repeated if it fails, or if a fork happens in the middle.
//! 3. A connection may be freed without a shutdown. With TLS 1.1 and later it then keeps its
//!    session (RFC 5246, 7.2.1), as if the host had shut it down quietly, unless it has another
//!    owner. A fatal alert ends the session before that.
//! 4. A connection may be older than the attachment of its context. When it becomes a server's, it
//!    gets the values that OpenSSL otherwise copies from the context.

use std::ffi::{c_int, c_long, c_uchar, c_void};
use std::mem;
use std::ops::RangeInclusive;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::library::Library;
use crate::line;
use crate::lock::{Held, lock, watch_forks};
use crate::memory::{boxed, unboxed};
use crate::openssl::{Connection, Context, Decrypt, FreeData, Generate, Openssl};

const CRYPTO_EX_INDEX_SSL_CTX: c_int = 1;
const CRYPTO_EX_INDEX_SSL: c_int = 0;
const SSL_OP_NO_TICKET: u64 = 1 << 14;
const SSL_CTRL_GET_SESS_CACHE_MODE: c_int = 45;
const SSL_SESS_CACHE_NO_INTERNAL_LOOKUP: c_long = 0x100;
const SSL_SENT_AND_RECEIVED_SHUTDOWN: c_int = 3;
/// TLS 1.1 to 1.3.
const MAY_HANG_UP: RangeInclusive<c_int> = 0x302..=0x304;

/// The data about a context.
#[derive(Default)]
struct Known {
    /// The host has its own ticket keys.
    has_own_keys: bool,
    /// The host's callbacks for session tickets. They stay in memory until the context ends, or longer
    /// if the host sets others: a connection may be using them.
    callbacks: Option<NonNull<Callbacks>>,
    /// Attaching was tried.
    is_tried: bool,
    /// What attaching changed, in memory from [`boxed`]; `None`: the context is not attached.
    changes: Option<NonNull<Changes>>,
    /// The library makes its tickets.
    has_tickets: bool,
}

/// What attaching changed of the values that OpenSSL copies from a context into a new connection. It
/// stays as it is until the context ends.
#[derive(Default)]
struct Changes {
    /// Tickets were switched off.
    without_tickets: bool,
    /// The number of tickets before and after, if they differ.
    tickets: Option<(usize, usize)>,
}

struct Callbacks {
    generate: Option<Generate>,
    decrypt: Option<Decrypt>,
    argument: *mut c_void,
}

/// `SSL_TICKET_RETURN` in ssl.h: the session in a ticket is resumed or not, and the ticket perhaps renewed.
const IGNORE_RENEW: c_int = 2;
const USE: c_int = 3;
const USE_RENEW: c_int = 4;
/// `SSL_TICKET_STATUS` in ssl.h.
const SSL_TICKET_SUCCESS: c_int = 5;
const SSL_TICKET_SUCCESS_RENEW: c_int = 6;
const TLS1_3_VERSION: c_int = 0x304;

/// The library's callbacks for session tickets, the same for all contexts.
static LIBRARY_GENERATE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static LIBRARY_DECRYPT: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Notes the callbacks that the library sets in a context.
pub fn note_library(generate: Option<Generate>, decrypt: Option<Decrypt>) {
    if let (Some(generate), Some(decrypt)) = (generate, decrypt) {
        LIBRARY_GENERATE.store(generate as *mut c_void, Ordering::Relaxed);
        LIBRARY_DECRYPT.store(decrypt as *mut c_void, Ordering::Relaxed);
    }
}

fn library_generate() -> Option<Generate> {
    let generate = LIBRARY_GENERATE.load(Ordering::Relaxed);
    // SAFETY: null, or from a function of this type.
    unsafe { mem::transmute::<*mut c_void, Option<Generate>>(generate) }
}

fn library_decrypt() -> Option<Decrypt> {
    let decrypt = LIBRARY_DECRYPT.load(Ordering::Relaxed);
    // SAFETY: null, or from a function of this type.
    unsafe { mem::transmute::<*mut c_void, Option<Decrypt>>(decrypt) }
}

/// Calls the host's callback, or the library's if the host has none: a ticket has room for the data of
/// one of them.
unsafe extern "C" fn generate_both(ssl: *mut Connection, argument: *mut c_void) -> c_int {
    // SAFETY: OpenSSL passes a live connection; the argument is from `Serving::chain`.
    unsafe {
        let host = &*argument.cast::<Callbacks>();
        match (host.generate, library_generate()) {
            (Some(generate), _) => generate(ssl, host.argument),
            (None, Some(generate)) => generate(ssl, ptr::null_mut()),
            (None, None) => 1,
        }
    }
}

/// Calls the host's callback, then the library's. A session is resumed if both allow it.
///
/// In TLS 1.3 the host is not told that the ticket's key is an older one. A new ticket would be a
/// duplicate of the session, with its data: stunnel 5.68, which never has two keys, crashes when its
/// data are duplicated.
unsafe extern "C" fn decrypt_both(
    ssl: *mut Connection,
    session: *mut c_void,
    name: *const c_uchar,
    len: usize,
    status: c_int,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        let host = &*argument.cast::<Callbacks>();
        let is_tls13 = opened()
            .and_then(|serving| serving.openssl.SSL_version)
            .is_some_and(|version| version(ssl) == TLS1_3_VERSION);
        let told = match status {
            SSL_TICKET_SUCCESS_RENEW if is_tls13 => SSL_TICKET_SUCCESS,
            status => status,
        };
        let hosts = host
            .decrypt
            .map(|decrypt| decrypt(ssl, session, name, len, told, host.argument));
        if let Some(refused) = hosts.filter(|hosts| ![USE, USE_RENEW].contains(hosts)) {
            return refused;
        }
        let librarys = library_decrypt().map_or(IGNORE_RENEW, |decrypt| {
            decrypt(ssl, session, name, len, status, ptr::null_mut())
        });
        match (hosts, librarys) {
            (Some(hosts), USE | USE_RENEW) => hosts,
            (_, librarys) => librarys,
        }
    }
}

/// Serves the contexts of this process.
pub struct Serving {
    openssl: &'static Openssl,
    library: Library,
    /// The index of a context's [`Known`].
    index: c_int,
    /// The index of the address of [`MARK`], in a server connection of an attached context.
    of_connections: c_int,
}

static MARK: u8 = 0;
/// The mark of a connection that has several owners.
static SHARED_MARK: u8 = 1;

/// An attached context, and its changes. Written under the lock, the context last.
struct Published {
    ctx: AtomicPtr<Context>,
    changes: AtomicPtr<Changes>,
}

/// The attached contexts that have found a place.
static PUBLISHED: [Published; 1024] = [const {
    Published {
        ctx: AtomicPtr::new(ptr::null_mut()),
        changes: AtomicPtr::new(ptr::null_mut()),
    }
}; 1024];

impl Published {
    /// The places that a context may have.
    fn places(ctx: *const Context) -> impl Iterator<Item = &'static Self> {
        const TRIES: usize = 8;
        let start = ctx.addr().wrapping_mul(0x9e37_79b9) >> 12;
        (start..start + TRIES).map(|place| &PUBLISHED[place % PUBLISHED.len()])
    }

    /// The place of a context.
    fn of(ctx: *const Context) -> Option<&'static Self> {
        Self::places(ctx).find(|place| ptr::eq(place.ctx.load(Ordering::Acquire), ctx))
    }

    fn put(_held: &mut Held, ctx: *mut Context, changes: NonNull<Changes>) {
        let is_free = |place: &&Self| place.ctx.load(Ordering::Relaxed).is_null();
        if let Some(place) = Self::places(ctx).find(is_free) {
            place.changes.store(changes.as_ptr(), Ordering::Relaxed);
            place.ctx.store(ctx, Ordering::Release);
        }
    }
}

/// The changes of an attached context, without the lock. `None`: it is not attached, or has no place.
///
/// # Safety
/// `ctx` is null or live, and stays so as long as the result is used.
unsafe fn published<'a>(ctx: *const Context) -> Option<&'a Changes> {
    if ctx.is_null() {
        return None;
    }
    // SAFETY: the place is that of this context until the context ends, and so are its changes, which
    // were written before it.
    unsafe { Published::of(ctx)?.changes.load(Ordering::Relaxed).as_ref() }
}

/// Null: not opened yet; [`FAILED`]: opening failed.
static SERVING: AtomicPtr<Serving> = AtomicPtr::new(ptr::null_mut());
const FAILED: *mut Serving = ptr::without_provenance_mut(1);

/// The one that serves contexts, if it is open.
fn opened() -> Option<&'static Serving> {
    let serving = SERVING.load(Ordering::Acquire);
    if serving == FAILED {
        return None;
    }
    // SAFETY: null, or from a box that is never freed.
    unsafe { serving.as_ref() }
}

/// Takes the lock. `None`: the contexts of this OpenSSL are left alone.
fn enter(openssl: &'static Openssl) -> Option<(Held, &'static Serving)> {
    if SERVING.load(Ordering::Acquire) == FAILED || openssl.is_left_alone() {
        return None;
    }
    // Before the lock is held: or a child could not tell that a thread of its parent has it.
    if !watch_forks() {
        openssl.leave_alone("no memory to register the fork handlers");
        return None;
    }
    let held = lock()?;
    if SERVING.load(Ordering::Acquire).is_null() {
        if !openssl.is_systems() {
            // Another OpenSSL in this process may be the right one.
            openssl.leave_alone("libtssession uses another libssl");
            return None;
        }
        let opened = match Serving::open(openssl) {
            Ok(serving) => Box::into_raw(Box::new(serving)),
            Err(error) => {
                line(&format!("contexts are left as they are: {error}"));
                FAILED
            }
        };
        SERVING.store(opened, Ordering::Release);
    }
    let serving = opened()?;
    if !ptr::eq(serving.openssl, openssl) {
        openssl.leave_alone(&format!("those of {} are served", serving.openssl.name));
        return None;
    }
    Some((held, serving))
}

/// Called before a context is made that may become a server's. The host still has its rights then,
/// and has not forked.
pub fn prepare(openssl: &'static Openssl) {
    drop(enter(openssl));
}

/// Attaches a context whose connections will be servers.
///
/// # Safety
/// `ctx` is null or a live context of this OpenSSL.
pub unsafe fn serve(openssl: &'static Openssl, ctx: *mut Context) {
    // SAFETY: passed on to the caller.
    unsafe { attached(openssl, ctx) };
}

/// Attaches a context unless that was tried before. Returns what that changed if it is attached.
///
/// # Safety
/// `ctx` is null or a live context of this OpenSSL, and stays so as long as the result is used.
unsafe fn attached<'a>(openssl: &'static Openssl, ctx: *mut Context) -> Option<&'a Changes> {
    // SAFETY: passed on to the caller.
    unsafe {
        published(ctx).or_else(|| {
            let (mut held, serving) = enter(openssl)?;
            Some(serving.attached(&mut held, ctx)?.as_ref())
        })
    }
}

/// Called before a connection becomes a server's.
///
/// # Safety
/// `ssl` is null or a live connection of this OpenSSL.
pub unsafe fn accept(openssl: &'static Openssl, ssl: *mut Connection) {
    if ssl.is_null() {
        return;
    }
    // SAFETY: passed on to the caller; the connection keeps its context.
    unsafe {
        let ctx = openssl
            .SSL_get_SSL_CTX
            .map_or(ptr::null_mut(), |get| get(ssl));
        if let Some(changes) = attached(openssl, ctx)
            && let Some(serving) = opened()
        {
            changes.bring_up_to_date(openssl, ssl);
            if serving.mark_of(ssl).is_null() {
                serving.mark(ssl, &MARK);
            }
            serving.library.join_farm();
        }
    }
}

/// Notes that a connection gets another owner, which may continue with it. It need not be a server's
/// yet.
///
/// # Safety
/// `ssl` is null or a live connection of this OpenSSL.
pub unsafe fn share(openssl: &'static Openssl, ssl: *mut Connection) {
    if let Some(serving) = serving_of(openssl, ssl) {
        // SAFETY: passed on to the caller.
        unsafe { serving.mark(ssl, &SHARED_MARK) };
    }
}

/// Called before a connection is freed, and before OpenSSL checks whether it was shut down.
///
/// # Safety
/// As for [`share`].
pub unsafe fn end(openssl: &'static Openssl, ssl: *mut Connection) {
    // SAFETY: passed on to the caller.
    unsafe {
        if serving_of(openssl, ssl).is_some_and(|serving| ptr::eq(serving.mark_of(ssl), &MARK))
            && let (Some(version), Some(get), Some(set)) = (
                openssl.SSL_version,
                openssl.SSL_get_shutdown,
                openssl.SSL_set_shutdown,
            )
            && MAY_HANG_UP.contains(&version(ssl))
            && get(ssl) == 0
        {
            set(ssl, SSL_SENT_AND_RECEIVED_SHUTDOWN);
        }
    }
}

/// The one that serves a connection, if it becomes a server's.
fn serving_of(openssl: &Openssl, ssl: *mut Connection) -> Option<&'static Serving> {
    opened().filter(|serving| !ssl.is_null() && ptr::eq(serving.openssl, openssl))
}

/// Called before a connection gets another context.
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
    // SAFETY: passed on to the caller.
    unsafe {
        if is_server(ssl) == 1 && is_attached(openssl, get(ssl)) {
            attached(openssl, ctx);
        }
    }
}

/// Whether a context is attached.
///
/// # Safety
/// `ctx` is null or a live context of this OpenSSL.
unsafe fn is_attached(openssl: &'static Openssl, ctx: *mut Context) -> bool {
    // SAFETY: passed on to the caller; the lock is held where it must be.
    unsafe {
        published(ctx).is_some()
            || enter(openssl).is_some_and(|(mut held, serving)| {
                let known = serving.seen(&mut held, ctx);
                known.is_some_and(|known| known.changes.is_some())
            })
    }
}

/// Whether a context is attached, and OpenSSL does not search its own cache for sessions.
///
/// # Safety
/// `ctx` is null or a live context of this OpenSSL.
pub unsafe fn is_never_searched(openssl: &'static Openssl, ctx: *mut Context) -> bool {
    // SAFETY: passed on to the caller. The command only reads.
    unsafe {
        is_attached(openssl, ctx)
            && openssl.SSL_CTX_ctrl.is_some_and(|ctrl| {
                let mode = ctrl(ctx, SSL_CTRL_GET_SESS_CACHE_MODE, 0, ptr::null_mut());
                mode & SSL_SESS_CACHE_NO_INTERNAL_LOOKUP != 0
            })
    }
}

/// Notes that the host has its own ticket keys for a context, or no longer has them.
///
/// # Safety
/// `ctx` is null or a live context of this OpenSSL.
pub unsafe fn note_keys(openssl: &'static Openssl, ctx: *mut Context, has_own_keys: bool) {
    // SAFETY: passed on to the caller.
    unsafe {
        note(openssl, ctx, |serving, known| {
            known.has_own_keys = has_own_keys;
            // OpenSSL would prefer the library's callback to keys that the host sets now.
            if known.changes.is_some()
                && serving.library.leaves_tickets(has_own_keys)
                && let Some(set) = openssl.SSL_CTX_set_tlsext_ticket_key_evp_cb
            {
                set(ctx, None);
            }
        });
    }
}

/// Notes the host's callbacks for session tickets in a context. Returns whether they are set beside the
/// library's, so that the host's call is done.
///
/// # Safety
/// As for [`note_keys`].
pub unsafe fn note_callbacks(
    openssl: &'static Openssl,
    ctx: *mut Context,
    generate: Option<Generate>,
    decrypt: Option<Decrypt>,
    argument: *mut c_void,
) -> bool {
    let mut is_set = false;
    // SAFETY: passed on to the caller.
    unsafe {
        note(openssl, ctx, |serving, known| {
            let callbacks = Callbacks {
                generate,
                decrypt,
                argument,
            };
            known.callbacks = boxed(callbacks).and_then(NonNull::new);
            is_set = known.has_tickets && serving.chain(ctx, known);
        });
    }
    is_set
}

/// # Safety
/// As for [`note_keys`].
unsafe fn note(
    openssl: &'static Openssl,
    ctx: *mut Context,
    change: impl FnOnce(&Serving, &mut Known),
) {
    if let Some((mut held, serving)) = enter(openssl) {
        // SAFETY: passed on to the caller; the lock is held.
        if let Some(known) = unsafe { serving.known(&mut held, ctx) } {
            change(serving, known);
        }
    }
}

impl Serving {
    fn open(openssl: &'static Openssl) -> Result<Self, String> {
        let _errors = Errors::keep(openssl);
        let library = Library::open(openssl)?;
        let new_index = |class, free: Option<FreeData>| {
            // SAFETY: the function is of the type asked for, and is never unloaded.
            let index = openssl
                .CRYPTO_get_ex_new_index
                .map(|new_index| unsafe { new_index(class, 0, ptr::null_mut(), None, None, free) });
            let index = index.filter(|index| *index >= 0);
            index.ok_or_else(|| "OpenSSL gives out no index for its objects".to_owned())
        };
        Ok(Self {
            openssl,
            library,
            index: new_index(CRYPTO_EX_INDEX_SSL_CTX, Some(forget))?,
            of_connections: new_index(CRYPTO_EX_INDEX_SSL, None)?,
        })
    }

    /// The mark of a connection; null: none.
    ///
    /// # Safety
    /// `ssl` is a live connection of this OpenSSL.
    unsafe fn mark_of(&self, ssl: *mut Connection) -> *const u8 {
        let get = self.openssl.SSL_get_ex_data;
        // SAFETY: passed on to the caller; only reads.
        get.map_or(ptr::null(), |get| unsafe {
            get(ssl, self.of_connections).cast_const().cast()
        })
    }

    /// Gives a connection a mark.
    ///
    /// # Safety
    /// `ssl` is a live connection of this OpenSSL.
    unsafe fn mark(&self, ssl: *mut Connection, mark: &'static u8) {
        let _errors = Errors::keep(self.openssl);
        if let Some(set) = self.openssl.SSL_set_ex_data {
            let mark = ptr::from_ref(mark).cast_mut().cast();
            // SAFETY: passed on to the caller.
            unsafe { set(ssl, self.of_connections, mark) };
        }
    }

    /// The data about a context, if there is any yet.
    ///
    /// # Safety
    /// `ctx` is null or a live context of this OpenSSL.
    unsafe fn seen<'a>(&self, _held: &'a mut Held, ctx: *mut Context) -> Option<&'a mut Known> {
        let get = self.openssl.SSL_CTX_get_ex_data?;
        // SAFETY: the index holds null or a box, which `forget` frees.
        unsafe { (!ctx.is_null()).then(|| get(ctx, self.index).cast::<Known>().as_mut())? }
    }

    /// The data about a context, made if there is none. `None`: there is no memory for it.
    ///
    /// # Safety
    /// As for [`Self::seen`].
    unsafe fn known<'a>(&self, held: &'a mut Held, ctx: *mut Context) -> Option<&'a mut Known> {
        // SAFETY: passed on to the caller.
        unsafe {
            if ctx.is_null() || self.seen(held, ctx).is_some() {
                return self.seen(held, ctx);
            }
            let set = self.openssl.SSL_CTX_set_ex_data?;
            let _errors = Errors::keep(self.openssl);
            let known = boxed(Known::default())?;
            if set(ctx, self.index, known.cast()) != 1 {
                unboxed(known);
                return None;
            }
            Some(&mut *known)
        }
    }

    /// Sets the host's callbacks for session tickets beside the library's. `false`: there are none.
    ///
    /// # Safety
    /// As for [`Self::known`].
    unsafe fn chain(&self, ctx: *mut Context, known: &Known) -> bool {
        let set = self.openssl.SSL_CTX_set_session_ticket_cb;
        let (Some(callbacks), Some(set)) = (known.callbacks, set) else {
            return false;
        };
        let argument = callbacks.as_ptr().cast();
        // SAFETY: passed on to the caller; the callbacks outlive the context.
        unsafe { set(ctx, Some(generate_both), Some(decrypt_both), argument) == 1 }
    }

    /// Attaches a context unless that was tried before. Returns its changes if it is attached.
    ///
    /// # Safety
    /// As for [`Self::known`].
    unsafe fn attached(&self, held: &mut Held, ctx: *mut Context) -> Option<NonNull<Changes>> {
        // SAFETY: passed on to the caller.
        unsafe {
            let known = self.known(held, ctx)?;
            if known.is_tried {
                return known.changes;
            }
            let _errors = Errors::keep(self.openssl);
            let before = Copied::of(self.openssl, ctx)?;
            let changes = NonNull::new(boxed(Changes::default())?)?;
            known.is_tried = true;
            let Some(has_tickets) = self.library.attach(ctx, known.has_own_keys) else {
                unboxed(changes.as_ptr());
                return None;
            };
            known.has_tickets = has_tickets;
            if has_tickets {
                self.chain(ctx, known);
            }
            if let Some(now) = Copied::of(self.openssl, ctx) {
                changes.write(Changes {
                    without_tickets: now.without_tickets && !before.without_tickets,
                    tickets: (now.tickets != before.tickets)
                        .then_some((before.tickets, now.tickets)),
                });
            }
            known.changes = Some(changes);
            Published::put(held, ctx, changes);
            Some(changes)
        }
    }
}

/// The values that OpenSSL copies from a context into a new connection and that attaching changes.
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

impl Changes {
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
    ctx: *mut c_void,
    known: *mut c_void,
    _data: *mut c_void,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) {
    if !known.is_null() {
        if let Some(place) = Published::of(ctx.cast()) {
            place.ctx.store(ptr::null_mut(), Ordering::Release);
        }
        // SAFETY: from boxes in `known` and `attached`; the context is not used any more.
        unsafe {
            let known = known.cast::<Known>();
            if let Some(changes) = (*known).changes {
                unboxed(changes.as_ptr());
            }
            if let Some(callbacks) = (*known).callbacks {
                unboxed(callbacks.as_ptr());
            }
            unboxed(known);
        }
    }
}

/// Restores OpenSSL's error queue when dropped.
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
