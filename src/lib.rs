//! The TLS session cache and the session-ticket keys of Apache Traffic Server, for programs that
//! terminate TLS with OpenSSL: a C library, and this crate for Rust programs that use the
//! `openssl` crate.
//!
//! Both use the one cache and the one set of ticket keys of the process: a plugin in C finds the
//! sessions of a host in Rust. Each Rust function does what the C function that it names does. Log
//! lines go to the `log` crate, and so to the logger of the program.
//!
//! ```
//! use openssl::ssl::{SslContext, SslMethod};
//!
//! tssession::set("proxy.config.ssl.session_cache.size", "10000")?;
//! let mut builder = SslContext::builder(SslMethod::tls_server())?;
//! builder.set_session_id_context(b"my host")?;
//! tssession::attach(&mut builder)?;
//! let context = builder.build(); // Its sessions and tickets are served from now on.
//! # drop(context);
//!
//! let id = tssession::SessionId::new(&[1, 2, 3]).unwrap();
//! assert!(tssession::get(&id).is_none());
//! assert_eq!(tssession::stat("tssession.session_cache.get.absent"), Some(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// For those who work on the library. A directory may use those below it in this table, and the
// crates `common` (its lib.rs says what is in it) and `ats`; tests/layers.rs checks this.
//
//     ffi        the C functions           api     the Rust functions
//     plugin     in Traffic Server         process what the loader, fork and exit call
//     tls        the only code that knows OpenSSL
//     instance   the one per process: sessions, ticket keys and settings, and the way in from C
//     cache      the sessions              keys    the ticket keys
//     settings   their table and files     report  counters, hooks, log lines
//     base       what all others need

#![allow(rustdoc::private_intra_doc_links)] // Its readers work on the library.

/// A point that panics if a test asks for it; nothing at all without the feature
/// `inject-faults`.
macro_rules! fault {
    ($name:expr) => {
        #[cfg(feature = "inject-faults")]
        tssession_common::faults::point($name);
    };
}

mod api;
mod plugin;
mod process;
mod tls;

// Public only for the tests, bench/ and fuzz/. Not by a macro: rustfmt would not find the modules.
#[cfg(not(feature = "__internal"))]
mod base;
#[cfg(feature = "__internal")]
pub mod base;
#[cfg(not(feature = "__internal"))]
mod cache;
#[cfg(feature = "__internal")]
pub mod cache;
#[cfg(not(feature = "__internal"))]
mod ffi;
#[cfg(feature = "__internal")]
pub mod ffi;
#[cfg(not(feature = "__internal"))]
mod instance;
#[cfg(feature = "__internal")]
pub mod instance;
#[cfg(not(feature = "__internal"))]
mod keys;
#[cfg(feature = "__internal")]
pub mod keys;
#[cfg(not(feature = "__internal"))]
mod report;
#[cfg(feature = "__internal")]
pub mod report;
#[cfg(not(feature = "__internal"))]
mod settings;
#[cfg(feature = "__internal")]
pub mod settings;

pub use api::*;
