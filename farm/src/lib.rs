//! Shares TLS sessions and session-ticket keys between machines through Redis.
//!
//! `docs/farm.md` has the design and the protocol, and says what each module does.
