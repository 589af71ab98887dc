//! Redis: connections to it, and its clock.

#![forbid(unsafe_code)]

pub mod clock;
mod connect;
pub mod link;
mod nodes;
mod sentinels;
