//! The only code that knows OpenSSL.

pub mod attached;
pub mod bindings;
mod callbacks;
mod connection;
mod context;
mod der;
mod error;
mod ex_data;
pub mod gate;
mod lineage;
mod link;
mod session;
mod store;
mod template;
mod tickets;
mod verify;
mod version;
mod visit;

pub use connection::context_of_new as context_of_new_connection;
pub use context::{AttachError, attach, detach, is_attached};
pub use error::StoreError;
pub use session::into_raw;
pub use store::{find, find_at_once, restore_found, store, store_der};
pub use tickets::rotate as rotate_ticket_keys;
pub use version::versions;
