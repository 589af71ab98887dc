//! What the measuring programs have in common: the line in which each of them writes a
//! measurement down, and the tables and charts that are made of such lines.

pub mod chart;
pub mod measurement;
pub mod table;
