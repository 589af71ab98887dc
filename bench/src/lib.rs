//! What the measuring programs have in common.
