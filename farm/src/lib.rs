//! Shares TLS sessions and session-ticket keys between machines through Redis.
//!
//! `docs/farm.md` has the design and the protocol, and says what each module does.

#![allow(rustdoc::private_intra_doc_links)]

#[cfg(not(any(panic = "unwind", doc)))]
compile_error!("the C boundary needs panic = \"unwind\": a panic must not end the host");

#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
pub mod counters;
#[forbid(unsafe_code)]
mod farm;
pub mod ffi;
pub mod host;
#[forbid(unsafe_code)]
pub mod keeper;
#[forbid(unsafe_code)]
pub mod keys;
#[forbid(unsafe_code)]
mod log_limit;
#[forbid(unsafe_code)]
pub mod message;
#[forbid(unsafe_code)]
pub mod publish;
#[forbid(unsafe_code)]
pub mod queue;
#[forbid(unsafe_code)]
pub mod receive;
#[forbid(unsafe_code)]
pub mod redis_link;
#[forbid(unsafe_code)]
pub mod seal;
#[forbid(unsafe_code)]
pub mod tombstones;

pub use farm::Farm;
