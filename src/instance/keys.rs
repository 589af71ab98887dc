//! The ticket keys of the process: those that a call or a file gave last.

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use crate::base::alloc::{NoMemory, Shared, os_string};
use crate::base::files::{self, Content, FileError};
use crate::base::spin::{Patience, lock, try_lock};
use crate::keys::file::{self, LastRead, Stamp};
use crate::keys::ring::{KeyError, KeyRing, KeySet, LONGEST_KEY, Layout};
use crate::report::counters::{Counter, Stats};
use crate::settings::table::{Config, Record};

/// Why the keys of a file are not active. The keys that were active still are.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyFileError {
    /// No file is configured.
    NoneSet,
    /// The file could not be read.
    File(PathBuf, FileError),
    /// Its content is not a set of keys.
    Keys(PathBuf, KeyError),
    /// Its content is text, but not lines of base64 of keys; or it is keys and a line break.
    Text(PathBuf),
    /// The allocator had nothing left.
    NoMemory,
}

impl From<NoMemory> for KeyFileError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneSet => write!(
                f,
                "no file of ticket keys is configured (proxy.config.ssl.server.ticket_key.filename)"
            ),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Keys(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Text(path) => write!(
                f,
                "{}: text, but not lines of base64 with 48 or with 80 bytes each; or a line break follows the keys",
                path.display()
            ),
            Self::NoMemory => NoMemory.fmt(f),
        }
    }
}

impl Error for KeyFileError {}

impl KeyFileError {
    /// Whether there was no memory: the file itself may be correct.
    pub fn is_lack_of_memory(&self) -> bool {
        matches!(
            self,
            Self::NoMemory | Self::File(_, FileError::NoMemory) | Self::Keys(_, KeyError::NoMemory)
        )
    }
}

/// The active keys, and the file that was read last.
pub struct TicketKeys {
    /// The active keys.
    pub ring: KeyRing,
    config: Shared<Config>,
    stats: Arc<Stats>,
    /// The directory that the file is resolved against if neither its name nor the configured
    /// directory is absolute. Not set: the working directory of the process.
    base_directory: OnceLock<PathBuf>,
    hasher: RandomState,
    /// Held while the keys of a file become active, not while it is read.
    last_read: Mutex<LastRead>,
}

impl TicketKeys {
    pub(super) fn new(config: Shared<Config>, stats: Arc<Stats>) -> Self {
        Self {
            ring: KeyRing::default(),
            config,
            stats,
            base_directory: OnceLock::new(),
            hasher: RandomState::new(),
            last_read: Mutex::default(),
        }
    }

    /// Sets the directory that relative file names are resolved against. Only the first call
    /// counts.
    pub fn set_base_directory(&self, directory: PathBuf) {
        let _ = self.base_directory.set(directory);
    }

    /// The directory that relative file names are resolved against, if it was set.
    pub(super) fn base_directory(&self) -> Option<&Path> {
        self.base_directory.get().map(PathBuf::as_path)
    }

    /// Makes a set of ticket keys active. Logs what is left out of it; `origin` says where the keys
    /// came from.
    pub fn update(&self, origin: impl fmt::Display, data: &[u8]) -> Result<(), KeyError> {
        let (keys, summary) = self.parse(data, Layout::ATS)?;
        self.replace(keys)?;
        summary.log(format_args!("{origin}"));
        Ok(())
    }

    /// Makes the ticket keys of a file active; `None`: the configured file. Does nothing if it is the
    /// file that was read last and has not changed.
    pub fn load(&self, path: Option<&Path>) -> Result<(), KeyFileError> {
        let path = match path {
            Some(path) => os_string(path.as_os_str())?.into(),
            None => self.configured_file()?.ok_or(KeyFileError::NoneSet)?,
        };
        let Content {
            bytes,
            metadata,
            order,
        } = match files::read(&path) {
            Ok(content) => content,
            Err(error) => return Err(KeyFileError::File(path, error)),
        };
        let stamp = Stamp::new(&metadata, &bytes, &self.hasher);
        let Some((keys, layout)) = file::keys(bytes)? else {
            return Err(KeyFileError::Text(path));
        };
        let (keys, summary) = match self.parse(&keys, layout) {
            Ok(parsed) => parsed,
            Err(error) => return Err(KeyFileError::Keys(path, error)),
        };
        let mut last = lock(&self.last_read);
        fault!("key file locked");
        if !last.is_outdone_by(&stamp, order) {
            drop(last);
            log::debug!(target: "ssl_session_ticket", "{}: not changed since it was read; the active keys are unchanged", path.display());
            return Ok(());
        }
        if let Err(error) = self.replace(keys) {
            return Err(KeyFileError::Keys(path, error));
        }
        *last = LastRead {
            stamp: Some(stamp),
            order,
        };
        drop(last);
        let path = path.display();
        if file::is_open_to_others(&metadata) {
            log::warn!(target: "ssl_session_ticket", "ticket keys in {path}: users other than the owner can read or write the file; the keys are active; use chmod 600");
        }
        summary.log(format_args!("ticket keys in {path}"));
        Ok(())
    }

    /// Makes a new key that encrypts from now on: see [`KeyRing::rotate`].
    pub fn rotate(&self, random: &[u8; LONGEST_KEY]) -> Result<usize, KeyError> {
        let count = self.ring.rotate(random)?;
        self.stats.count(Counter::TicketKeysRenewed);
        Ok(count)
    }

    fn parse(&self, data: &[u8], layout: Layout) -> Result<(KeySet, Summary), KeyError> {
        self.ring.prepare_thread();
        let keys = KeySet::parse(data, layout)?;
        let summary = Summary {
            count: keys.count(),
            layout,
            blanks: keys.blanks,
            tail: keys.tail,
        };
        fault!("ticket keys read");
        Ok((keys, summary))
    }

    fn replace(&self, keys: KeySet) -> Result<(), KeyError> {
        self.ring.replace(keys)?;
        self.stats.count(Counter::TicketKeysRenewed);
        Ok(())
    }

    /// The configured file of ticket keys.
    fn configured_file(&self) -> Result<Option<PathBuf>, NoMemory> {
        let Some(file) = self.config.text(Record::TicketKeyFile)? else {
            return Ok(None);
        };
        let base = self
            .base_directory
            .get()
            .map_or(OsStr::new(""), |base| base.as_os_str());
        let directory = self.config.text(Record::CertPath)?.unwrap_or_default();
        let mut path = PathBuf::new();
        path.try_reserve_exact(base.len() + 1 + directory.len() + 1 + file.len())?;
        path.push(base);
        path.push(directory);
        path.push(file);
        Ok(Some(path))
    }

    /// Takes the lock that is held while the keys of a file become active.
    pub(super) fn freeze(&self, patience: Patience) -> Option<FrozenKeys<'_>> {
        patience.wait_for(|| try_lock(&self.last_read))
    }
}

/// While this lives, no other thread makes the keys of a file active.
pub(super) type FrozenKeys<'a> = MutexGuard<'a, LastRead>;

/// What was used of a set of keys, and what was not.
struct Summary {
    count: usize,
    layout: Layout,
    blanks: usize,
    tail: usize,
}

impl Summary {
    fn log(&self, origin: fmt::Arguments<'_>) {
        let Self {
            count,
            layout,
            blanks,
            tail,
        } = self;
        if *tail > 0 {
            let key_len = layout.key_len();
            log::warn!(target: "ssl_session_ticket", "{origin}: the last {tail} bytes are not a whole key of {key_len} bytes; they are ignored");
        }
        if *blanks > 0 {
            log::warn!(target: "ssl_session_ticket", "{origin}: the secrets of {blanks} keys are all zero; these keys are left out");
        }
        log::debug!(target: "ssl_session_ticket", "{origin}: active keys: {count}, of {layout}");
    }
}
