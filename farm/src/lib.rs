//! Shares TLS sessions and session-ticket keys between machines through Redis.
//!
//! `docs/farm.md` has the design and the protocol, and says what each module does.

#![allow(rustdoc::private_intra_doc_links)]

#[cfg(not(any(panic = "unwind", doc)))]
compile_error!("the C boundary needs panic = \"unwind\": a panic must not end the host");

mod boundary;
pub mod config;
pub mod counters;
pub mod ffi;
pub mod host;
pub mod keys;
mod log_limit;
pub mod member;
pub mod redis;
pub mod seal;
pub mod sessions;
pub mod start;
