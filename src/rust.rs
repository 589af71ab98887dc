//! The library for Rust programs that terminate TLS with the `openssl` crate.
//!
//! What the functions do is what the C functions of the same meaning do, and they share
//! the one cache and the one set of ticket keys of the process with them: a plugin in C
//! finds the sessions of a host in Rust. Log lines go to the `log` crate, to whatever
//! logger the program has.
//!
//! ```
//! use openssl::ssl::{SslContext, SslMethod};
//! use tssession::rust as sessions;
//!
//! sessions::set("proxy.config.ssl.session_cache.size", "10000")?;
//! let mut builder = SslContext::builder(SslMethod::tls_server())?;
//! builder.set_session_id_context(b"my host")?;
//! sessions::attach(&mut builder)?;
//! let context = builder.build(); // Its sessions and tickets are served from now on.
//! # drop(context);
//!
//! let id = sessions::SessionId::new(&[1, 2, 3]).unwrap();
//! assert!(sessions::get(&id).is_none());
//! assert_eq!(sessions::stat("proxy.process.ssl.ssl_session_cache_miss"), Some(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use openssl::ssl::{SslContextBuilder, SslSession, SslSessionRef};
use zeroize::Zeroizing;

pub use crate::config::SetError;
pub use crate::hooks::SessionEvent;
pub use crate::id::SessionId;
pub use crate::library::{KeyFileError, Loaded, NotInForce, RecordsFileError};
pub use crate::ticket::KeyError;
pub use crate::tls::{AttachError, StoreError};

use crate::config::{Setting, Source};
use crate::hooks::HookKey;
use crate::library::Library;
use crate::tls;

/// Has the sessions and tickets of a context served. See `TSSslSessionCacheAttach`.
pub fn attach(context: &mut SslContextBuilder) -> Result<(), AttachError> {
    // SAFETY: the context is live, and while it is borrowed mutably nobody else uses it.
    unsafe { tls::attach(Library::global(), context.as_ptr()) }
}

/// A session, which the cache keeps too. See `TSSslSessionGet`.
pub fn get(id: &SessionId) -> Option<SslSession> {
    tls::find(Library::global(), id)
}

/// A session as DER bytes, which are wiped when dropped. See `TSSslSessionGetBuffer`.
pub fn get_der(id: &SessionId) -> Option<Zeroizing<Vec<u8>>> {
    Library::global().with_der(id, |der| Zeroizing::new(der.to_vec()))
}

/// Stores a session under an ID, in place of the one that is there. See
/// `TSSslSessionInsert`.
pub fn insert(id: &SessionId, session: &SslSessionRef) -> Result<(), StoreError> {
    tls::store(Library::global(), id, session)
}

/// Stores the DER bytes of exactly one session. See `TSSslSessionInsertBuffer`.
pub fn insert_der(id: &SessionId, der: &[u8]) -> Result<(), StoreError> {
    tls::store_der(Library::global(), id, der)
}

/// Removes a session; `true` if there was one. See `TSSslSessionRemove`.
pub fn remove(id: &SessionId) -> bool {
    Library::global().remove(id)
}

/// Forgets every session. See `TSSslSessionCacheClear`.
pub fn clear() {
    Library::global().clear();
}

/// Puts a set of 48-byte ticket keys in force. See `TSSslTicketKeyUpdate`.
pub fn update_ticket_keys(keys: &[u8]) -> Result<(), KeyError> {
    Library::global().update_ticket_keys("update_ticket_keys", keys)
}

/// Puts the ticket keys of a file in force, or of the configured one. See
/// `TSSslTicketKeyFileLoad`.
pub fn load_ticket_keys(path: Option<&Path>) -> Result<(), KeyFileError> {
    Library::global().load_ticket_keys(path)
}

/// Changes a setting; if that has no effect, the result says why. See
/// `TSSslSessionCacheConfigSet`.
pub fn set(name: &str, value: impl AsRef<OsStr>) -> Result<Option<NotInForce>, SetError> {
    let setting = Setting::parse(name, value.as_ref())?;
    let notes = Library::global().set([setting], Source::Call);
    Ok(notes.first().map(|(_, why)| *why))
}

/// Puts the settings of a file of records in force. See `TSSslSessionCacheConfigLoad`.
pub fn load_records(path: &Path) -> Result<Loaded, RecordsFileError> {
    Library::global().load_records(path)
}

/// One counter. See `TSSslSessionCacheStatGet`.
pub fn stat(name: &str) -> Option<u64> {
    Library::global().stat(name)
}

/// All counters in the text format of Prometheus. See `TSSslSessionCacheStatsText`.
pub fn stats_text() -> String {
    let mut text = String::with_capacity(8192);
    let result = Library::global().write_stats(&mut text);
    result.expect("a String takes everything");
    text
}

/// A hook that is called as long as this lives. See `TSSslSessionHookAdd`.
#[must_use = "the hook is removed when this is dropped"]
pub struct Hook {
    key: HookKey,
}

impl Hook {
    /// Has `call` called after a handshake has stored, fetched or removed a session.
    pub fn add(call: impl Fn(SessionEvent, &SessionId) + Send + Sync + 'static) -> Self {
        static ADDED: AtomicUsize = AtomicUsize::new(0);
        // A hook from C has the address of its function in the place of the 0.
        let key = (0, ADDED.fetch_add(1, Ordering::Relaxed));
        let added = Library::global().hooks.add(key, Box::new(call));
        added.expect("there is memory for a hook");
        Self { key }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        Library::global().hooks.remove(self.key);
    }
}
