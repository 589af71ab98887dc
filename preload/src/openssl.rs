//! The OpenSSL that a caller uses. A process may have several, and each must get its own objects
//! back.
//!
//! # Invariants
//!
//! 1. A caller gets the function that it would get without this library: from the libraries that
//!    its file is linked with, or from the process.
//! 2. An OpenSSL whose functions are known here is never unloaded. Neither is a file that has
//!    called from here: its handle is never closed, so the address of a call always belongs to the
//!    same call.

use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_uint, c_ulong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::line;
use crate::loader::{File, Handle};
use crate::memory::{boxed, unboxed};

/// `SSL_CTX`.
pub enum Context {}
/// `SSL`.
pub enum Connection {}
/// `SSL_METHOD`.
pub enum Method {}

/// The methods of contexts that only connect.
const CLIENTS: [&CStr; 8] = [
    c"TLS_client_method",
    c"DTLS_client_method",
    c"TLSv1_2_client_method",
    c"TLSv1_1_client_method",
    c"TLSv1_client_method",
    c"DTLSv1_2_client_method",
    c"OSSL_QUIC_client_method",
    c"OSSL_QUIC_client_thread_method",
];

/// A callback for a ticket that is to be made.
pub type Generate = unsafe extern "C" fn(*mut Connection, *mut c_void) -> c_int;
/// A callback for a session that was in a ticket.
pub type Decrypt = unsafe extern "C" fn(
    *mut Connection,
    *mut c_void,
    *const c_uchar,
    usize,
    c_int,
    *mut c_void,
) -> c_int;
/// A function of any type.
pub type AnyFunction = Option<unsafe extern "C" fn()>;
/// A function that OpenSSL calls at the end of an object that carries data.
pub type FreeData =
    unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void, c_int, c_long, *mut c_void);

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of one OpenSSL. An older one lacks some.
        #[allow(non_snake_case)] // The names are OpenSSL's.
        pub struct Openssl {
            $(pub $name: Option<unsafe extern "C" fn($($argument),*) $(-> $result)?>,)*
            /// The file that contains it.
            pub name: String,
            /// Its contexts are left alone.
            is_left_alone: AtomicBool,
            is_client: [*const Method; CLIENTS.len()],
            is_server: [*const Method; 2],
            next: *const Self,
        }

        impl Openssl {
            fn of(handle: Handle, name: String) -> Self {
                // SAFETY: these are the types that OpenSSL declares them with; the functions for
                // methods take nothing.
                unsafe {
                    let method = |name: &CStr| {
                        let method = handle.find::<unsafe extern "C" fn() -> *const Method>(name);
                        method.map_or(ptr::null(), |method| method())
                    };
                    Self {
                        $($name: {
                            const NAME: &CStr = match CStr::from_bytes_with_nul(
                                concat!(stringify!($name), "\0").as_bytes(),
                            ) {
                                Ok(name) => name,
                                Err(_) => panic!("names are ASCII"),
                            };
                            handle.find(NAME)
                        },)*
                        name,
                        is_left_alone: AtomicBool::new(false),
                        is_client: CLIENTS.map(method),
                        is_server: [method(c"TLS_server_method"), method(c"DTLS_server_method")],
                        next: ptr::null(),
                    }
                }
            }
        }
    };
}

functions! {
    SSL_CTX_new: fn(*const Method) -> *mut Context;
    SSL_CTX_new_ex: fn(*mut c_void, *const c_char, *const Method) -> *mut Context;
    SSL_CTX_free: fn(*mut Context);
    SSL_CTX_ctrl: fn(*mut Context, c_int, c_long, *mut c_void) -> c_long;
    SSL_CTX_callback_ctrl: fn(*mut Context, c_int, AnyFunction) -> c_long;
    SSL_CTX_set_tlsext_ticket_key_evp_cb: fn(*mut Context, AnyFunction) -> c_int;
    SSL_CTX_set_session_ticket_cb: fn(*mut Context, Option<Generate>, Option<Decrypt>, *mut c_void) -> c_int;
    SSL_CTX_add_session: fn(*mut Context, *mut c_void) -> c_int;
    SSL_CTX_get_ssl_method: fn(*const Context) -> *const Method;
    SSL_CTX_get_options: fn(*const Context) -> u64;
    SSL_CTX_get_num_tickets: fn(*const Context) -> usize;
    SSL_CTX_get_ex_data: fn(*const Context, c_int) -> *mut c_void;
    SSL_CTX_set_ex_data: fn(*mut Context, c_int, *mut c_void) -> c_int;
    SSL_new: fn(*mut Context) -> *mut Connection;
    SSL_free: fn(*mut Connection);
    SSL_dup: fn(*mut Connection) -> *mut Connection;
    SSL_up_ref: fn(*mut Connection) -> c_int;
    SSL_accept: fn(*mut Connection) -> c_int;
    SSL_set_accept_state: fn(*mut Connection);
    SSL_set_SSL_CTX: fn(*mut Connection, *mut Context) -> *mut Context;
    SSL_get_SSL_CTX: fn(*const Connection) -> *mut Context;
    SSL_is_server: fn(*const Connection) -> c_int;
    SSL_set_options: fn(*mut Connection, u64) -> u64;
    SSL_get_num_tickets: fn(*const Connection) -> usize;
    SSL_set_num_tickets: fn(*mut Connection, usize) -> c_int;
    SSL_get_ex_data: fn(*const Connection, c_int) -> *mut c_void;
    SSL_set_ex_data: fn(*mut Connection, c_int, *mut c_void) -> c_int;
    SSL_version: fn(*const Connection) -> c_int;
    SSL_get_shutdown: fn(*const Connection) -> c_int;
    SSL_set_shutdown: fn(*mut Connection, c_int);
    TLS_server_method: fn() -> *const Method;
    CRYPTO_get_ex_new_index: fn(c_int, c_long, *mut c_void, AnyFunction, AnyFunction, Option<FreeData>) -> c_int;
    ERR_set_mark: fn() -> c_int;
    ERR_pop_to_mark: fn() -> c_int;
    OpenSSL_version_num: fn() -> c_ulong;
}

/// All that are known, the newest first.
static KNOWN: AtomicPtr<Openssl> = AtomicPtr::new(ptr::null_mut());

impl Openssl {
    /// The major version; 0 if it is not known.
    pub fn major(&self) -> c_uint {
        // SAFETY: takes nothing, and may be called at any time.
        self.OpenSSL_version_num
            .map_or(0, |version| unsafe { version() >> 28 } as c_uint)
    }

    /// Whether a method's contexts only connect.
    pub fn is_client(&self, method: *const Method) -> bool {
        !method.is_null() && self.is_client.contains(&method)
    }

    /// Whether a context's connections are servers from the beginning.
    ///
    /// # Safety
    /// `ctx` is a live context of this OpenSSL.
    pub unsafe fn is_server(&self, ctx: *const Context) -> bool {
        // SAFETY: passed on to the caller.
        self.SSL_CTX_get_ssl_method
            .is_some_and(|method| self.is_server.contains(&unsafe { method(ctx) }))
    }

    /// Whether this is the OpenSSL that a library linked with the system's would find.
    pub fn is_systems(&self) -> bool {
        let Ok(name) = std::ffi::CString::new(format!("libssl.so.{}", self.major())) else {
            return false;
        };
        let loaded = Handle::open(&name, libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        // SAFETY: only compared.
        let accept = loaded
            .ok()
            .and_then(|handle| unsafe { handle.find::<*const c_uchar>(c"SSL_accept") });
        let own = self.SSL_accept.map(|accept| accept as *const c_uchar);
        accept.is_some() && accept == own
    }

    /// The OpenSSL that a file in the process uses.
    fn of_file(file: File) -> Option<&'static Self> {
        let noload = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
        // SAFETY: only its file is asked for.
        let accept = |handle: Handle| unsafe { handle.find::<*const c_void>(c"SSL_accept") };
        let own = || accept(Handle::open(file.name, noload).ok()?);
        let own = if file.name.is_empty() { None } else { own() };
        // A file with its own copy of OpenSSL calls here because the loader gave it the process's
        // function. But libssl itself calls its own functions.
        let is_own =
            |own: &*const c_void| !file.is_libssl() && File::of(*own).is_some_and(|of| of.is(file));
        let found = match own {
            Some(own) if is_own(&own) => accept(Handle::NEXT).or(Some(own)),
            own => own.or_else(|| accept(Handle::NEXT)),
        };
        // A call through a pointer may come from any file.
        let found = found.or_else(|| {
            // SAFETY: null, or from a box that is never freed.
            let known = unsafe { KNOWN.load(Ordering::Acquire).as_ref() };
            let accept_of = |known: &Self| known.SSL_accept.map(|f| f as *const c_void);
            let loaded = || {
                [c"libssl.so.3", c"libssl.so.4"]
                    .into_iter()
                    .find_map(|name| accept(Handle::open(name, noload).ok()?))
            };
            known.and_then(accept_of).or_else(loaded)
        })?;
        let known = Self::known(found);
        if known.is_some() {
            return known;
        }
        let file = File::of(found)?;
        let handle = if file.name.is_empty() {
            Handle::NEXT
        } else {
            Handle::open(file.name, noload | libc::RTLD_NODELETE).ok()?
        };
        let name = file.name.to_string_lossy().into_owned();
        let new = Box::into_raw(Box::new(Self::of(handle, name)));
        let mut first = KNOWN.load(Ordering::Acquire);
        loop {
            // SAFETY: from the box above; nobody else has it before it is stored.
            unsafe { (*new).next = first };
            match KNOWN.compare_exchange(first, new, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: from a box that is never freed.
                Ok(_) => return Some(unsafe { &*new }),
                Err(other) => first = other,
            }
            // Each libssl has only one entry.
            if let Some(known) = Self::known(found) {
                // SAFETY: from the box above, which was not stored.
                drop(unsafe { Box::from_raw(new) });
                return Some(known);
            }
        }
    }

    /// Whether its contexts are left alone.
    pub fn is_left_alone(&self) -> bool {
        self.is_left_alone.load(Ordering::Relaxed)
    }

    /// Leaves its contexts alone from now on, and says so once.
    pub fn leave_alone(&self, why: &str) {
        if !self.is_left_alone.swap(true, Ordering::Relaxed) {
            let name = &self.name;
            line(&format!(
                "the contexts of {name} are left as they are: {why}"
            ));
        }
    }

    /// The OpenSSL with this `SSL_accept`, if it is known.
    fn known(accept: *const c_void) -> Option<&'static Self> {
        let mut next = KNOWN.load(Ordering::Acquire).cast_const();
        // SAFETY: null, or from a box that is never freed.
        while let Some(known) = unsafe { next.as_ref() } {
            if known.SSL_accept.map(|f| f as *const c_void) == Some(accept) {
                return Some(known);
            }
            next = known.next;
        }
        None
    }
}

// SAFETY: the pointers are to OpenSSL's static tables and to a list that only grows; the functions
// may be called by any thread.
unsafe impl Sync for Openssl {}

/// A place in the code that calls a function.
#[derive(Clone, Copy)]
pub struct Caller {
    address: usize,
    /// The OpenSSL that it uses.
    pub openssl: &'static Openssl,
    /// Whether it is in libtssession itself.
    pub is_library: bool,
}

/// The known callers. A host has one or two for each function.
static CALLERS: [AtomicPtr<Caller>; 256] = [const { AtomicPtr::new(ptr::null_mut()) }; 256];
/// How many places are tried for a caller.
const TRIES: usize = 8;

impl Caller {
    fn places(address: usize) -> impl Iterator<Item = &'static AtomicPtr<Self>> {
        let start = address.wrapping_mul(0x9e37_79b9) >> 8;
        (start..start + TRIES).map(|place| &CALLERS[place % CALLERS.len()])
    }

    /// The caller at this address, if it has called before.
    pub fn known(address: usize) -> Option<Self> {
        for place in Self::places(address) {
            // SAFETY: null, or from a box that is never freed.
            match unsafe { place.load(Ordering::Acquire).as_ref() } {
                Some(known) if known.address == address => return Some(*known),
                Some(_) => {}
                None => break,
            }
        }
        None
    }

    /// Finds the caller at this address, and keeps it if there is memory.
    pub fn find(address: usize) -> Option<Self> {
        let new = Self::new(address)?;
        for place in Self::places(address) {
            if place.load(Ordering::Relaxed).is_null() {
                let Some(stored) = boxed(new) else {
                    break;
                };
                let free = ptr::null_mut();
                if place
                    .compare_exchange(free, stored, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                {
                    break;
                }
                // SAFETY: from the box above, which nobody else has.
                unsafe { unboxed(stored) };
            }
        }
        Some(new)
    }

    fn new(address: usize) -> Option<Self> {
        let file = File::of(ptr::without_provenance(address)).unwrap_or(File::PROGRAM);
        Some(Self {
            address,
            openssl: Openssl::of_file(file)?,
            is_library: file.is_called(b"libtssession"),
        })
    }
}
