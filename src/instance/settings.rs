//! Settings that a call or a records file changes.

use std::error::Error;
use std::fmt;
use std::path::Path;

use log::Level;
use smallvec::SmallVec;

use super::sessions::Sessions;
use crate::base::files::{self, FileError};
use crate::settings::records::{self, Format, Records, RecordsError};
use crate::settings::table::{Config, Record, Setting, Source};

/// Why no setting of a records file has become active.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordsFileError {
    /// The file could not be read.
    File(FileError),
    /// Its content is not valid.
    Records(RecordsError),
}

impl fmt::Display for RecordsFileError {
    /// The text to put right after the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, ": {error}"),
            Self::Records(error) => write!(f, ":{error}"),
        }
    }
}

impl Error for RecordsFileError {}

/// Why a valid setting changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotInForce {
    /// A source of higher priority has set it.
    Overruled,
    /// The cache is in use, so the number of its shards cannot change.
    ShardsStay,
}

impl fmt::Display for NotInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overruled => "already set by a higher-priority source; unchanged",
            Self::ShardsStay => "the cache is in use; its number of shards is unchanged",
        })
    }
}

/// The names of settings that have no effect, each with a reason. There is room for all.
pub type NotInForceList = SmallVec<[(&'static str, NotInForce); 24]>;

/// What was loaded from a records file.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The number of settings in it.
    pub settings: usize,
    /// The names of those that have no effect.
    pub not_in_force: NotInForceList,
    /// Lines with an unknown name that begins with `tssession.`, as only this library's names do.
    pub unknown: Vec<(usize, String)>,
}

impl Loaded {
    /// Logs what the operator should know about it.
    pub fn log(&self, who: impl fmt::Display, path: &Path) {
        let path = path.display();
        for (line, name) in &self.unknown {
            log::warn!(target: "ssl.session_cache", "{who}: {path}:{line}: {name}: there is no such setting; the line is skipped");
        }
        log_not_in_force(&who, &self.not_in_force, Level::Debug);
        log::debug!(target: "ssl.session_cache", "{who}: {path}: read {} settings", self.settings);
    }
}

/// Logs which valid settings have no effect. `overruled` is the level for those that a source of
/// higher priority has set.
pub fn log_not_in_force(who: impl fmt::Display, notes: &NotInForceList, overruled: Level) {
    for (name, note) in notes {
        let level = match note {
            NotInForce::Overruled => overruled,
            NotInForce::ShardsStay => Level::Warn,
        };
        log::log!(target: "ssl.session_cache", level, "{who}: {name}: {note}");
    }
}

/// Changes settings and applies them to the cache. Returns the names of those without effect. Of
/// two files, the one with the higher `order` counts.
pub(super) fn set(
    config: &Config,
    sessions: &Sessions,
    settings: impl IntoIterator<Item = Setting>,
    source: Source,
    order: u64,
) -> NotInForceList {
    let mut notes = NotInForceList::new();
    let mut note = |name, why| {
        if !notes.contains(&(name, why)) {
            notes.push((name, why));
        }
    };
    sessions.change_settings(|is_in_use| {
        for setting in settings {
            let name = setting.name();
            let shards = config.int(Record::NumBuckets);
            if !config.put(setting, source, order) {
                note(name, NotInForce::Overruled);
            }
            if is_in_use && shards != config.int(Record::NumBuckets) {
                note(name, NotInForce::ShardsStay);
            }
        }
    });
    notes
}

/// Makes all settings of a records file active, or none of them. If two threads do this at once,
/// the file that was opened later has the newer content, and its settings stay.
pub(super) fn load(
    config: &Config,
    sessions: &Sessions,
    path: &Path,
) -> Result<Loaded, RecordsFileError> {
    let content = files::read(path).map_err(RecordsFileError::File)?;
    let records = records::parse(&content.bytes, Format::of(path));
    let Records { settings, unknown } = records.map_err(RecordsFileError::Records)?;
    Ok(Loaded {
        settings: settings.len(),
        not_in_force: set(config, sessions, settings, Source::File, content.order),
        unknown,
    })
}
