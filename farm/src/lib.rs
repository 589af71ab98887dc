//! Shares TLS sessions and session-ticket keys between machines through Redis.
//!
//! `docs/farm.md` has the design and the protocol, and says what each module does.

#[cfg(not(any(panic = "unwind", doc)))]
compile_error!("the C boundary needs panic = \"unwind\": a panic must not end the host");

#[forbid(unsafe_code)]
pub mod counters;
pub mod ffi;
pub mod host;

// STAND-IN for what is written elsewhere at the same time: to be replaced when merged.
include!("standin.rs");
