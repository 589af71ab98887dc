//! What the measuring programs have in common: the line in which each of them writes a
//! measurement down, the tables and charts that are made of such lines, and the contest of
//! eviction policies.

pub mod chart;
pub mod contest;
pub mod measurement;
pub mod recorded;
pub mod table;
pub mod trace;
