//! Session-ticket keys: the ring of them that is active, and files of them.

#![forbid(unsafe_code)]

pub mod file;
pub mod ring;
