//! The settings: a table with the names of ATS records, and files of them.

#![forbid(unsafe_code)]

pub mod records;
pub mod table;
