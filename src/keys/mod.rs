//! Session-ticket keys: the ring of active keys, and files of keys.

#![forbid(unsafe_code)]

pub mod file;
pub mod ring;
