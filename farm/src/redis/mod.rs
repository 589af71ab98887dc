//! Redis: connections to it, and its clock.

#![forbid(unsafe_code)]

pub mod link;
