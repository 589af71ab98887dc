//! Log lines.

use std::ffi::CString;

use tssession_ats::{ERROR, NOTE, Report, WARNING};
use tssession_common::boundary::{Name, Panic};
use tssession_common::stderr;

/// The severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is wrong, but the farm continues.
    Warning,
    /// The answer to an operator.
    Note,
}

/// Where log lines go: to ATS, otherwise to stderr.
#[derive(Clone, Copy)]
pub struct Log {
    error: Option<Report>,
    warning: Option<Report>,
    note: Option<Report>,
}

impl Log {
    /// Looks for the log functions of the process. A host that is not a Traffic Server can have them
    /// too, as for libtssession.
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

/// Logs that a function that the host called has ended in a panic.
pub fn report(name: Name, panic: &Panic) {
    Log::find().write(Level::Error, &format!("{name}: a panic{panic}"));
}

/// The line without characters that end it early or control a terminal: parts of it may come from an
/// attacker who answers in the place of Redis.
fn one_line(line: &str) -> String {
    line.replace(char::is_control, " ")
}

/// A line for C.
pub(super) fn c_line(line: &str) -> CString {
    CString::new(one_line(line)).unwrap_or_default()
}
