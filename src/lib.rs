//! The TLS session cache and the session-ticket keys of Apache Traffic Server, as
//! a C library for anyone who terminates TLS with OpenSSL.
//!
//! The layers, from the core outwards:
//!
//! * the core, without unsafe code and without OpenSSL: [`id`], [`entry`], `blocks` (its bytes),
//!   `policy` (what is evicted), `budget` (its limits), [`cache`], [`config`], [`records`] (files of
//!   settings), [`stats`], [`ticket`] (the key ring), [`key_file`], [`mod@file`], [`hooks`];
//! * [`library`]: the one of each that a process has;
//! * `sys`: the operating system; `pages`: memory for secrets; `memory`: what may be refused;
//!   `sync`: atomics, or those of a model; `logger`: where log lines go; `tls`: OpenSSL;
//!   `guard`: where panics end; `plugin`: the library as a plugin of Traffic Server;
//! * [`ffi`]: the C functions, and [`rust`]: those for Rust programs. Both only translate.

// The documentation is read by whoever works on the library.
#![allow(rustdoc::private_intra_doc_links)]

#[cfg(not(any(panic = "unwind", doc)))]
compile_error!("the C boundary needs panic = \"unwind\": a panic must not end the host");

/// A point that panics when a test wants it to; nothing at all without the feature
/// `inject-faults`.
macro_rules! fault {
    ($name:expr) => {
        #[cfg(feature = "inject-faults")]
        crate::faults::point($name);
    };
}

#[forbid(unsafe_code)]
mod blocks;
#[forbid(unsafe_code)]
mod budget;
#[forbid(unsafe_code)]
pub mod cache;
#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
pub mod entry;
#[cfg(feature = "inject-faults")]
mod faults;
#[allow(non_camel_case_types, non_snake_case)] // The names are the C API's.
pub mod ffi;
#[forbid(unsafe_code)]
pub mod file;
#[forbid(unsafe_code)]
mod gate;
mod guard;
#[forbid(unsafe_code)]
pub mod hooks;
#[forbid(unsafe_code)]
pub mod id;
#[forbid(unsafe_code)]
pub mod key_file;
#[forbid(unsafe_code)]
pub mod library;
mod logger;
mod memory;
mod pages;
mod plugin;
#[forbid(unsafe_code)]
mod policy;
#[forbid(unsafe_code)]
pub mod records;
pub mod rust;
#[forbid(unsafe_code)]
pub mod stats;
#[forbid(unsafe_code)]
mod stripe;
#[forbid(unsafe_code)]
mod sync;
mod sys;
#[forbid(unsafe_code)]
pub mod ticket;
mod tls;
#[forbid(unsafe_code)]
mod wait;
