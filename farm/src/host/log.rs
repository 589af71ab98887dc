//! Where log lines go.

use std::ffi::CString;

use tssession_ats::{ERROR, NOTE, Report, WARNING};
use tssession_common::boundary::{Name, Panic};
use tssession_common::stderr;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is wrong, and the farm goes on.
    Warning,
    /// What the operator asked for.
    Note,
}

/// Where log lines go: to ATS, else to stderr.
#[derive(Clone, Copy)]
pub struct Log {
    error: Option<Report>,
    warning: Option<Report>,
    note: Option<Report>,
}

impl Log {
    /// Looks for the functions of the process. A host that is not a Traffic Server may have them
    /// too, as libtssession allows.
    pub fn find() -> Self {
        let error = ERROR.find();
        Self {
            error,
            warning: WARNING.find().or(error),
            note: NOTE.find().or(error),
        }
    }

    /// Writes a line.
    pub fn write(&self, level: Level, line: &str) {
        let (report, word) = match level {
            Level::Error => (self.error, "ERROR"),
            Level::Warning => (self.warning, "WARNING"),
            Level::Note => (self.note, "NOTE"),
        };
        match report {
            Some(report) => report.write(c"tssession_farm", &c_line(line)),
            None => {
                let line = format!("tssession_farm: {word}: {}\n", one_line(line));
                stderr::write(line.as_bytes());
            }
        }
    }
}

/// Logs that a function which the host called has ended in a panic.
pub fn report(name: Name, panic: &Panic) {
    Log::find().write(Level::Error, &format!("{name}: a panic{panic}"));
}

/// Without characters that end the line early or control a terminal: parts of it may come from
/// whoever answered in Redis's place.
fn one_line(line: &str) -> String {
    line.replace(char::is_control, " ")
}

/// A line for C.
pub(super) fn c_line(line: &str) -> CString {
    CString::new(one_line(line)).unwrap_or_default()
}
