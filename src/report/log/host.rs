//! The log functions of Traffic Server, or of a host that exports functions with the same names.

use std::ffi::CStr;

use log::Level;
use tssession_ats::{DebugTag, ERROR, Report, WARNING};

use super::line::TAGS;

/// The log functions that a process exports.
pub(super) struct Host {
    error: Report,
    /// `None`: warnings go to the function for errors.
    warning: Option<Report>,
    /// In the order of [`TAGS`].
    debug: [Option<DebugTag>; TAGS.len()],
}

impl Host {
    /// Looks for the functions under the names of each version of ATS.
    pub(super) fn find() -> Option<Self> {
        Some(Self {
            error: ERROR.find()?,
            warning: WARNING.find(),
            debug: TAGS.map(DebugTag::find),
        })
    }

    fn debug(&self, tag: &CStr) -> Option<&DebugTag> {
        let place = TAGS.iter().position(|known| *known == tag)?;
        self.debug[place].as_ref()
    }

    pub(super) fn wants_debug(&self, tag: &CStr) -> bool {
        self.debug(tag).is_some_and(DebugTag::is_wanted)
    }

    pub(super) fn log(&self, level: Level, tag: &CStr, line: &CStr) {
        let report = match level {
            Level::Error => self.error,
            Level::Warn => self.warning.unwrap_or(self.error),
            _ => {
                if let Some(debug) = self.debug(tag) {
                    debug.write(line);
                }
                return;
            }
        };
        report.write(c"tssession", line);
    }
}
