//! Ticket keys: when each is active, and how all members come to have the same keys.

#![forbid(unsafe_code)]

pub mod keeper;
pub mod plan;
pub mod set;
