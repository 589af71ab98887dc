//! `libtssession_preload.so`: makes an unmodified server resume through libtssession.
//!
//! `LD_PRELOAD` loads it. Its functions replace those of libssl at which a connection becomes a
//! server's: they attach the connection's context and call the real function.
//!
//! # Invariants
//!
//! 1. It is linked with neither OpenSSL nor libtssession, because `LD_PRELOAD` reaches every
//!    program that the server runs. It opens nothing until a program makes a context that can
//!    serve.
//! 2. The real function is called with the same arguments, and its result is returned. There is one
//!    exception: when the host adds a session to the own cache of an attached context. OpenSSL does
//!    not search that cache, but would remove the session for all contexts when this one ends.
//! 3. A failure leaves the host as it would be without this library, and is reported in one line.
//! 4. A context that only connects is not touched.
//! 5. No thread outlives the call that started it until the process has its first server
//!    connection: the host has forked by then. All files are opened and read when the first context
//!    is made: the host may give up its rights, or change its root directory, before it serves.
//! 6. No function of the host is called while the lock is held.

// The address of the caller is passed on for these machines, and glibc shows which file contains
// it. On others the library is empty.
#![cfg(all(
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
// OpenSSL's names.
#![allow(non_snake_case)]

mod contexts;
mod library;
mod loader;
mod lock;
mod memory;
mod openssl;

use std::arch::naked_asm;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use tssession_common::boundary::{self, Name, Panic};
use tssession_common::stderr;

use openssl::{AnyFunction, Caller, Connection, Context, Decrypt, Generate, Method};

const SSL_CTRL_SET_TLSEXT_TICKET_KEYS: c_int = 59;
const SSL_CTRL_SET_TLSEXT_TICKET_KEY_CB: c_int = 72;

extern "C" fn at_load() {
    boundary::take_panics_over();
    stderr::note();
}

/// Run by the loader.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;

/// Writes a line to stderr.
fn line(text: &str) {
    let text = text.replace(char::is_control, " ");
    stderr::write(format!("tssession_preload: {text}\n").as_bytes());
}

fn report(name: Name, panic: &Panic) {
    line(&format!("{name}: a panic{panic}"));
}

/// Runs `body`, mostly before the real function. That one is called whatever happens in `body`.
fn before(body: impl FnOnce()) {
    boundary::guard(Name::of(&body), report, body);
}

fn caller(address: usize) -> Option<Caller> {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    Caller::known(address).or_else(|| {
        let mut found = None;
        before(|| found = Caller::find(address));
        if found.is_none() && !IS_TOLD.swap(true, Ordering::Relaxed) {
            line("no libssl is found for a function that the program calls");
        }
        found
    })
}

/// Declares functions of libssl. Each passes its arguments to a function of this file, followed by
/// the address that it was called from. The number is that of its arguments.
macro_rules! doors {
    ($($name:ident => $inner:ident, $count:tt;)*) => {$(
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            #[cfg(target_arch = "x86_64")]
            naked_asm!(door!(x86_64 $count), "jmp {inner}", inner = sym $inner);
            #[cfg(target_arch = "aarch64")]
            naked_asm!(door!(aarch64 $count), "b {inner}", inner = sym $inner);
        }
    )*};
}

/// The place of the argument after the last one.
macro_rules! door {
    (x86_64 1) => {
        "mov rsi, [rsp]"
    };
    (x86_64 2) => {
        "mov rdx, [rsp]"
    };
    (x86_64 3) => {
        "mov rcx, [rsp]"
    };
    (x86_64 4) => {
        "mov r8, [rsp]"
    };
    (aarch64 1) => {
        "mov x1, x30"
    };
    (aarch64 2) => {
        "mov x2, x30"
    };
    (aarch64 3) => {
        "mov x3, x30"
    };
    (aarch64 4) => {
        "mov x4, x30"
    };
}

doors! {
    SSL_CTX_new => context_new, 1;
    SSL_CTX_new_ex => context_new_ex, 3;
    SSL_CTX_ctrl => context_ctrl, 4;
    SSL_CTX_callback_ctrl => context_callback_ctrl, 3;
    SSL_CTX_set_tlsext_ticket_key_evp_cb => context_set_ticket_key_cb, 2;
    SSL_CTX_set_session_ticket_cb => context_set_session_ticket_cb, 4;
    SSL_CTX_add_session => context_add_session, 2;
    SSL_new => connection_new, 1;
    SSL_up_ref => connection_up_ref, 1;
    SSL_dup => connection_dup, 1;
    SSL_free => connection_free, 1;
    SSL_set_accept_state => connection_set_accept_state, 1;
    SSL_accept => connection_accept, 1;
    SSL_set_SSL_CTX => connection_set_context, 2;
}

unsafe extern "C" fn context_new(method: *const Method, from: usize) -> *mut Context {
    let Some(caller) = caller(from) else {
        return ptr::null_mut();
    };
    let openssl = caller.openssl;
    if !openssl.is_client(method) {
        before(|| contexts::prepare(openssl));
    }
    // SAFETY: the caller's arguments.
    openssl
        .SSL_CTX_new
        .map_or(ptr::null_mut(), |real| unsafe { real(method) })
}

unsafe extern "C" fn context_new_ex(
    libctx: *mut c_void,
    properties: *const c_char,
    method: *const Method,
    from: usize,
) -> *mut Context {
    let Some(caller) = caller(from) else {
        return ptr::null_mut();
    };
    let openssl = caller.openssl;
    if !openssl.is_client(method) {
        before(|| contexts::prepare(openssl));
    }
    // SAFETY: the caller's arguments.
    openssl
        .SSL_CTX_new_ex
        .map_or(ptr::null_mut(), |real| unsafe {
            real(libctx, properties, method)
        })
}

/// Notes that the host has its own ticket keys.
fn note_keys(caller: Caller, ctx: *mut Context, has_own_keys: bool) {
    if !caller.is_library {
        // SAFETY: the caller's context is live.
        before(|| unsafe { contexts::note_keys(caller.openssl, ctx, has_own_keys) });
    }
}

unsafe extern "C" fn context_ctrl(
    ctx: *mut Context,
    command: c_int,
    number: c_long,
    argument: *mut c_void,
    from: usize,
) -> c_long {
    let Some(caller) = caller(from) else {
        return 0;
    };
    if command == SSL_CTRL_SET_TLSEXT_TICKET_KEYS && !argument.is_null() {
        note_keys(caller, ctx, true);
    }
    // SAFETY: the caller's arguments.
    caller
        .openssl
        .SSL_CTX_ctrl
        .map_or(0, |real| unsafe { real(ctx, command, number, argument) })
}

unsafe extern "C" fn context_callback_ctrl(
    ctx: *mut Context,
    command: c_int,
    function: AnyFunction,
    from: usize,
) -> c_long {
    let Some(caller) = caller(from) else {
        return 0;
    };
    if command == SSL_CTRL_SET_TLSEXT_TICKET_KEY_CB {
        note_keys(caller, ctx, function.is_some());
    }
    // SAFETY: the caller's arguments.
    caller
        .openssl
        .SSL_CTX_callback_ctrl
        .map_or(0, |real| unsafe { real(ctx, command, function) })
}

unsafe extern "C" fn context_set_ticket_key_cb(
    ctx: *mut Context,
    function: AnyFunction,
    from: usize,
) -> c_int {
    let Some(caller) = caller(from) else {
        return 0;
    };
    note_keys(caller, ctx, function.is_some());
    // SAFETY: the caller's arguments.
    caller
        .openssl
        .SSL_CTX_set_tlsext_ticket_key_evp_cb
        .map_or(0, |real| unsafe { real(ctx, function) })
}

unsafe extern "C" fn context_set_session_ticket_cb(
    ctx: *mut Context,
    generate: Option<Generate>,
    decrypt: Option<Decrypt>,
    argument: *mut c_void,
    from: usize,
) -> c_int {
    let Some(caller) = caller(from) else {
        return 0;
    };
    let mut is_set = false;
    if caller.is_library {
        contexts::note_library(generate, decrypt);
    } else {
        // SAFETY: the caller's context is live.
        before(|| unsafe {
            is_set = contexts::note_callbacks(caller.openssl, ctx, generate, decrypt, argument);
        });
    }
    if is_set {
        return 1;
    }
    // SAFETY: the caller's arguments.
    caller
        .openssl
        .SSL_CTX_set_session_ticket_cb
        .map_or(0, |real| unsafe { real(ctx, generate, decrypt, argument) })
}

unsafe extern "C" fn context_add_session(
    ctx: *mut Context,
    session: *mut c_void,
    from: usize,
) -> c_int {
    let Some(caller) = caller(from) else {
        return 0;
    };
    let mut is_left_out = false;
    if !caller.is_library {
        // SAFETY: the caller's context is live.
        before(|| is_left_out = unsafe { contexts::is_never_searched(caller.openssl, ctx) });
    }
    if is_left_out {
        return 1;
    }
    // SAFETY: the caller's arguments.
    caller
        .openssl
        .SSL_CTX_add_session
        .map_or(0, |real| unsafe { real(ctx, session) })
}

unsafe extern "C" fn connection_new(ctx: *mut Context, from: usize) -> *mut Connection {
    let Some(caller) = caller(from) else {
        return ptr::null_mut();
    };
    let openssl = caller.openssl;
    // SAFETY: the caller's context is live.
    if !ctx.is_null() && unsafe { openssl.is_server(ctx) } {
        // Before OpenSSL copies from it. If a context can also connect, it is not known yet whether
        // it serves.
        // SAFETY: as above.
        before(|| unsafe { contexts::serve(openssl, ctx) });
    }
    // SAFETY: the caller's arguments.
    openssl
        .SSL_new
        .map_or(ptr::null_mut(), |real| unsafe { real(ctx) })
}

unsafe extern "C" fn connection_up_ref(ssl: *mut Connection, from: usize) -> c_int {
    let Some(caller) = caller(from) else {
        return 0;
    };
    // SAFETY: the caller's connection is live.
    before(|| unsafe { contexts::share(caller.openssl, ssl) });
    // SAFETY: the caller's arguments.
    caller
        .openssl
        .SSL_up_ref
        .map_or(0, |real| unsafe { real(ssl) })
}

unsafe extern "C" fn connection_dup(ssl: *mut Connection, from: usize) -> *mut Connection {
    let Some(caller) = caller(from) else {
        return ptr::null_mut();
    };
    // SAFETY: the caller's arguments.
    let dup = caller
        .openssl
        .SSL_dup
        .map_or(ptr::null_mut(), |real| unsafe { real(ssl) });
    if dup == ssl {
        // OpenSSL does not duplicate a connection that has begun, but counts another owner.
        // SAFETY: the caller's connection is live.
        before(|| unsafe { contexts::share(caller.openssl, ssl) });
    }
    dup
}

unsafe extern "C" fn connection_free(ssl: *mut Connection, from: usize) {
    let Some(caller) = caller(from) else {
        return;
    };
    // SAFETY: the caller's connection is live.
    before(|| unsafe { contexts::end(caller.openssl, ssl) });
    if let Some(real) = caller.openssl.SSL_free {
        // SAFETY: the caller's arguments.
        unsafe { real(ssl) };
    }
}

unsafe extern "C" fn connection_set_accept_state(ssl: *mut Connection, from: usize) {
    let Some(caller) = caller(from) else {
        return;
    };
    // SAFETY: the caller's connection is live.
    before(|| unsafe { contexts::accept(caller.openssl, ssl) });
    if let Some(real) = caller.openssl.SSL_set_accept_state {
        // SAFETY: the caller's arguments.
        unsafe { real(ssl) };
    }
}

unsafe extern "C" fn connection_accept(ssl: *mut Connection, from: usize) -> c_int {
    let Some(caller) = caller(from) else {
        return -1;
    };
    // SAFETY: the caller's connection is live.
    before(|| unsafe { contexts::accept(caller.openssl, ssl) });
    // SAFETY: the caller's arguments.
    caller
        .openssl
        .SSL_accept
        .map_or(-1, |real| unsafe { real(ssl) })
}

unsafe extern "C" fn connection_set_context(
    ssl: *mut Connection,
    ctx: *mut Context,
    from: usize,
) -> *mut Context {
    let Some(caller) = caller(from) else {
        return ptr::null_mut();
    };
    // SAFETY: the caller's connection and context are live.
    before(|| unsafe { contexts::switch(caller.openssl, ssl, ctx) });
    // SAFETY: the caller's arguments.
    caller
        .openssl
        .SSL_set_SSL_CTX
        .map_or(ptr::null_mut(), |real| unsafe { real(ssl, ctx) })
}
