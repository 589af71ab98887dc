//! TLS sessions, on their way to the other members and from them.

#![forbid(unsafe_code)]

pub mod message;
pub mod publish;
pub mod queue;
pub mod receive;
pub mod stream;
pub mod tombstones;
