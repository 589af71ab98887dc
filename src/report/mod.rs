//! What the library reports: counters, hooks, log lines.

#![forbid(unsafe_code)]

pub mod counters;
pub mod hooks;
pub mod log;
