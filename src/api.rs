//! The functions for Rust programs, which the crate's root re-exports. They only translate.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use openssl::ssl::{SslContextBuilder, SslSession, SslSessionRef};
use tssession_common::metrics::Numbers;
use zeroize::Zeroizing;

pub use crate::base::alloc::NoMemory;
pub use crate::base::files::FileError;
pub use crate::base::session_id::SessionId;
pub use crate::cache::Refused;
pub use crate::instance::keys::KeyFileError;
pub use crate::instance::sessions::NotStored;
pub use crate::instance::settings::{Loaded, NotInForce, RecordsFileError};
pub use crate::keys::ring::KeyError;
pub use crate::report::hooks::SessionEvent;
pub use crate::settings::records::RecordsError;
pub use crate::settings::table::SetError;
pub use crate::tls::{AttachError, StoreError};

use crate::base::alloc::{boxed, vec};
use crate::instance::Instance;
use crate::report::counters::Purpose;
use crate::report::hooks::HookKey;
use crate::settings::table::{Setting, Source};
use crate::tls;

/// Attaches a context to the session cache and the ticket keys. See `TSSslSessionCacheAttach`.
pub fn attach(context: &mut SslContextBuilder) -> Result<(), AttachError> {
    // SAFETY: the context is live, and nothing else uses it while it is borrowed mutably.
    unsafe { tls::attach(Instance::global(), context.as_ptr()) }
}

/// Detaches a context that [`attach`] has attached. See `TSSslSessionCacheDetach`.
pub fn detach(context: &mut SslContextBuilder) -> Result<(), AttachError> {
    // SAFETY: as in `attach`.
    unsafe { tls::detach(context.as_ptr()) }
}

/// Gets a session, which the cache keeps too. See `TSSslSessionGet`.
pub fn get(id: &SessionId) -> Option<SslSession> {
    tls::find(Instance::global(), id)
}

/// Gets a session as DER bytes, which are wiped when dropped. See `TSSslSessionGetBuffer`.
pub fn get_der(id: &SessionId) -> Option<Zeroizing<Vec<u8>>> {
    let sessions = &Instance::global().sessions;
    let der = sessions.with_der(id, Purpose::Call, |der| vec(der).ok());
    der.map(Zeroizing::new)
}

/// Stores a session under an ID; it replaces a session that is there. See
/// `TSSslSessionInsert`.
pub fn insert(id: &SessionId, session: &SslSessionRef) -> Result<(), StoreError> {
    tls::store(Instance::global(), id, session)
}

/// Stores the DER bytes of exactly one session. See `TSSslSessionInsertBuffer`.
pub fn insert_der(id: &SessionId, der: &[u8]) -> Result<(), StoreError> {
    tls::store_der(Instance::global(), id, der)
}

/// Removes a session; `true` if there was one. See `TSSslSessionRemove`.
pub fn remove(id: &SessionId) -> bool {
    Instance::global().sessions.remove(id)
}

/// Discards all sessions. See `TSSslSessionCacheClear`.
pub fn clear() {
    Instance::global().sessions.clear();
}

/// Makes a set of 48-byte ticket keys active. See `TSSslTicketKeyUpdate`.
pub fn update_ticket_keys(keys: &[u8]) -> Result<(), KeyError> {
    Instance::global().keys.update("update_ticket_keys", keys)
}

/// Makes the ticket keys of a file active; `None`: the configured file. See
/// `TSSslTicketKeyFileLoad`.
pub fn load_ticket_keys(path: Option<&Path>) -> Result<(), KeyFileError> {
    Instance::global().keys.load(path)
}

/// Changes a setting. The result says why, if that has no effect. See
/// `TSSslSessionCacheConfigSet`.
pub fn set(name: &str, value: impl AsRef<OsStr>) -> Result<Option<NotInForce>, SetError> {
    let setting = Setting::parse(name, value.as_ref())?;
    let notes = Instance::global().set([setting], Source::Call);
    Ok(notes.first().map(|(_, why)| *why))
}

/// Makes the settings of a records file active. See `TSSslSessionCacheConfigLoad`.
pub fn load_records(path: &Path) -> Result<Loaded, RecordsFileError> {
    Instance::global().load_records(path)
}

/// Reads one counter. See `TSSslSessionCacheStatGet`.
pub fn stat(name: &str) -> Option<u64> {
    Instance::global().stat(name)
}

/// Writes all counters in the text format of Prometheus. See `TSSslSessionCacheStatsText`.
pub fn stats_text() -> Result<String, NoMemory> {
    /// A text that grows as far as there is memory.
    struct Text(String);
    impl Write for Text {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.try_reserve(text.len()).map_err(|_| fmt::Error)?;
            self.0.push_str(text);
            Ok(())
        }
    }
    let mut text = Text(String::new());
    let result = Instance::global().write_stats(&mut text);
    result.map(|()| text.0).map_err(|fmt::Error| NoMemory)
}

/// A hook, which is called as long as this lives. See `TSSslSessionHookAdd`.
#[must_use = "the hook is removed when this is dropped"]
#[derive(Debug)]
pub struct Hook {
    key: HookKey,
}

impl Hook {
    /// Calls `call` after a handshake has stored, fetched or removed a session.
    pub fn add(
        call: impl Fn(SessionEvent, &SessionId) + Send + Sync + 'static,
    ) -> Result<Self, NoMemory> {
        static ADDED: AtomicUsize = AtomicUsize::new(0);
        // The key of a hook from C has the address of its function instead of the 0.
        let key = (0, ADDED.fetch_add(1, Ordering::Relaxed));
        Instance::global().hooks.add(key, boxed(call)?)?;
        Ok(Self { key })
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        Instance::global().hooks.remove(self.key);
    }
}
