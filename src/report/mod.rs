//! What others hear of the library: counters, hooks, log lines.

#![forbid(unsafe_code)]

pub mod counters;
pub mod hooks;
pub mod log;
