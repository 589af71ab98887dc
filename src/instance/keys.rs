//! The ticket keys of the process: given by a call or read from a file, whichever was last.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use crate::base::alloc::{NoMemory, os_string};
use crate::base::files::{FileError, RegularFile};
use crate::base::spin::{Patience, lock, try_lock};
use crate::keys::file::{self, FilesRead, Stamp};
use crate::keys::ring::{KeyError, KeyRing, KeySet, Layout};
use crate::report::counters::{Counter, Stats};
use crate::settings::table::{Config, Record};

/// Why the keys of a file are not active; those that were, still are.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyFileError {
    /// No file is configured.
    NoneSet,
    /// The file could not be read.
    File(PathBuf, FileError),
    /// Its content is not a set of keys.
    Keys(PathBuf, KeyError),
    /// Its content is text that is no set of keys, where bytes should be.
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
            Self::NoneSet => write!(f, "no file of ticket keys is configured"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Keys(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Text(path) => write!(
                f,
                "{}: text, but not lines of base64 of 48 or of 80 bytes each",
                path.display()
            ),
            Self::NoMemory => NoMemory.fmt(f),
        }
    }
}

impl Error for KeyFileError {}

impl KeyFileError {
    /// Whether the file may be in order.
    pub fn is_lack_of_memory(&self) -> bool {
        matches!(
            self,
            Self::NoMemory | Self::File(_, FileError::NoMemory) | Self::Keys(_, KeyError::NoMemory)
        )
    }
}

/// The active keys, and the files that were read.
pub struct TicketKeys {
    /// The active keys.
    pub ring: KeyRing,
    config: Arc<Config>,
    stats: Arc<Stats>,
    /// The directory of the key file, if neither its name nor its own directory is absolute;
    /// empty: that of the process.
    base_directory: OnceLock<PathBuf>,
    /// Held while a file is read and its keys become active: of two threads that do that, the
    /// later one has the newer content. Nothing is logged meanwhile.
    files: Mutex<FilesRead>,
}

impl TicketKeys {
    pub(super) fn new(config: Arc<Config>, stats: Arc<Stats>) -> Self {
        Self {
            ring: KeyRing::default(),
            config,
            stats,
            base_directory: OnceLock::new(),
            files: Mutex::default(),
        }
    }

    /// Sets the directory that relative file names are resolved against. Only the first call
    /// counts.
    pub fn set_base_directory(&self, directory: PathBuf) {
        let _ = self.base_directory.set(directory);
    }

    /// Makes a set of ticket keys active. What is left out of it is logged under the name of
    /// where the keys came from.
    pub fn update(&self, origin: impl fmt::Display, data: &[u8]) -> Result<(), KeyError> {
        let left_out = self.replace(data, Layout::ATS)?;
        left_out.log(format_args!("{origin}"));
        log::debug!(target: "ssl_session_ticket", "{origin}: the keys are in force");
        Ok(())
    }

    /// Makes the ticket keys of a file active, or of the configured one, unless the file
    /// has not changed since it was read.
    pub fn load(&self, path: Option<&Path>) -> Result<(), KeyFileError> {
        let path = match path {
            Some(path) => os_string(path.as_os_str())?.into(),
            None => self.configured_file()?.ok_or(KeyFileError::NoneSet)?,
        };
        let mut read = lock(&self.files);
        fault!("key file locked");
        let opened = RegularFile::open(&path).and_then(|mut file| {
            let content = file.read()?;
            Ok((file, content))
        });
        let (file, content) = match opened {
            Ok(opened) => opened,
            Err(error) => return Err(KeyFileError::File(path, error)),
        };
        let stamp = Stamp::new(file.metadata(), &content, &read);
        if read.is_unchanged(&stamp) {
            drop(read);
            log::debug!(target: "ssl_session_ticket", "{}: not changed since it was read; the keys in force stay", path.display());
            return Ok(());
        }
        let Some((keys, layout)) = file::keys(content)? else {
            return Err(KeyFileError::Text(path));
        };
        let left_out = match self.replace(&keys, layout) {
            Ok(left_out) => left_out,
            Err(error) => return Err(KeyFileError::Keys(path, error)),
        };
        read.remember(stamp);
        drop(read);
        let origin = format_args!("ticket keys in {}", path.display());
        if file::is_open_to_others(file.metadata()) {
            log::warn!(target: "ssl_session_ticket", "{origin}: others than the owner may read or write the file");
        }
        left_out.log(origin);
        log::debug!(target: "ssl_session_ticket", "{origin} are in force");
        Ok(())
    }

    fn replace(&self, data: &[u8], layout: Layout) -> Result<LeftOut, KeyError> {
        self.ring.prepare_thread();
        let keys = KeySet::parse(data, layout)?;
        let left_out = LeftOut {
            blanks: keys.blanks,
            tail: keys.tail,
            key_len: layout.key_len(),
        };
        fault!("ticket keys read");
        self.ring.replace(keys)?;
        self.stats.count(Counter::TicketKeysRenewed);
        Ok(left_out)
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
        path.try_reserve_exact(base.len() + 1 + directory.len() + 1 + file.len())
            .map_err(|_| NoMemory)?;
        path.push(base);
        path.push(directory);
        path.push(file);
        Ok(Some(path))
    }

    /// Waits until no other thread is reading a file.
    pub(super) fn freeze_files(&self, patience: Patience) -> Option<MutexGuard<'_, FilesRead>> {
        patience.wait_for(|| try_lock(&self.files))
    }
}

/// What of the given ticket keys is not active.
struct LeftOut {
    blanks: usize,
    tail: usize,
    key_len: usize,
}

impl LeftOut {
    fn log(&self, origin: fmt::Arguments<'_>) {
        let Self {
            blanks,
            tail,
            key_len,
        } = self;
        if *tail > 0 {
            log::warn!(target: "ssl_session_ticket", "{origin}: the last {tail} bytes are not a whole key of {key_len} and are not used");
        }
        if *blanks > 0 {
            log::warn!(target: "ssl_session_ticket", "{origin}: {blanks} keys are all zero and are left out");
        }
    }
}
