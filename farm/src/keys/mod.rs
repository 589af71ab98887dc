//! Ticket keys: which are active when, and how all members come to have the same ones.

#![forbid(unsafe_code)]

pub mod keeper;
pub mod plan;
pub mod set;
