//! What the measuring programs share: the JSON line for a measurement, the tables and charts made of
//! such lines, and the contest of eviction policies.

pub mod chart;
pub mod contest;
pub mod measurement;
pub mod recorded;
pub mod table;
pub mod trace;
