//! The base of everything else: it uses nothing else of the library.

pub mod alloc;
pub mod atomics;
pub mod clock;
pub mod files;
pub mod once;
pub mod secret_memory;
pub mod session_id;
pub mod sharded;
pub mod spin;
pub mod stripe;
pub mod system;
