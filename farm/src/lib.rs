//! Shares TLS sessions and session-ticket keys between machines through Redis.
//!
//! `docs/design/farm.md` has the design and the protocol, and says what each module does. No module
//! imports from a row below its own:
//!
//! | module | may use |
//! |---|---|
//! | `host`, `keys::{set, plan}`, `sessions::message` | nothing of ours; `plan`: `set` |
//! | `boundary`, `log_limit`, `seal`, `sessions::queue` | `host` |
//! | `counters`, `sessions::tombstones` | `seal` |
//! | `config` | `seal`, `keys::plan` |
//! | `redis`, `sessions::stream` | `config` |
//! | `member` | all above |
//! | `sessions::{publish, receive}`, `keys::keeper` | all above, not each other |
//! | `orders`, `start` | all above, `orders`: `start` |
//! | `ffi` | all above |

#[cfg(not(any(panic = "unwind", doc)))]
compile_error!("the C boundary needs panic = \"unwind\": a panic must not end the host");

mod boundary;
mod config;
mod counters;
mod ffi;
mod host;
mod keys;
mod log_limit;
mod member;
mod orders;
mod redis;
mod seal;
mod sessions;
mod start;

// For the tests.
pub use config::Config;
pub use counters::{Counter, Counters};
pub use host::events::Event;
pub use host::functions::Missing;
pub use host::log::Level;
pub use host::{Host, NotInserted, register};
pub use seal::{Kind, Sealer};
pub use sessions::message::encode_session;
pub use sessions::stream::partition;
pub use start::start;
