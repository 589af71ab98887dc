//! The arguments in a line of `plugin.config`.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use crate::settings::table::{Record, SetError, Setting};

/// What the arguments ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The settings, in the order in which they are written.
    pub settings: Vec<Setting>,
    /// The file of records that `--config` names.
    pub file: Option<OsString>,
}

/// An argument that is not valid. Nothing in the line becomes active.
#[derive(Debug, PartialEq, Eq)]
pub enum LineError {
    /// It is not `--NAME=VALUE`.
    NotASetting(OsString),
    /// It has no value.
    NoValue(OsString),
    /// Its setting is unknown or its value is not valid.
    Setting(OsString, SetError),
    /// It is a second `--config`.
    SecondFile,
    /// It is ATS's record for its own cache. This cache is on if the line is there.
    Mode(OsString),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASetting(argument) => {
                write!(
                    f,
                    "{}: settings are written --NAME=VALUE",
                    argument.display()
                )
            }
            Self::NoValue(argument) => write!(f, "{}: the value is missing", argument.display()),
            Self::Setting(argument, error) => write!(f, "{}: {error}", argument.display()),
            Self::SecondFile => write!(f, "--config: only one file of settings is allowed"),
            Self::Mode(argument) => write!(
                f,
                "{}: this sets ATS's own cache; to switch this one off, remove the line from plugin.config",
                argument.display()
            ),
        }
    }
}

impl Error for LineError {}

/// The prefixes that the short names of records lack.
const PREFIXES: [&str; 4] = [
    "",
    "proxy.config.ssl.",
    "proxy.config.ssl.server.",
    "tssession.",
];

impl Line {
    /// Reads `--NAME=VALUE` and `--NAME VALUE`. NAME is that of a record. It can be without its
    /// prefix, and can have `-` for `_`: `--session-cache.size=4K`.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<Self, LineError> {
        let mut line = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(rest) = argument.as_bytes().strip_prefix(b"--") else {
                return Err(LineError::NotASetting(argument.to_owned()));
            };
            let (name, value) = match rest.iter().position(|byte| *byte == b'=') {
                Some(at) => (&rest[..at], Some(OsStr::from_bytes(&rest[at + 1..]))),
                None => (rest, arguments.next()),
            };
            let value = value.ok_or_else(|| LineError::NoValue(argument.to_owned()))?;
            line.take(argument, name, value)?;
        }
        Ok(line)
    }

    fn take(&mut self, argument: &OsStr, name: &[u8], value: &OsStr) -> Result<(), LineError> {
        if name == b"config" {
            if value.is_empty() {
                return Err(LineError::NoValue(argument.to_owned()));
            }
            return match self.file.replace(value.to_owned()) {
                None => Ok(()),
                Some(_) => Err(LineError::SecondFile),
            };
        }
        let failed = |error| LineError::Setting(argument.to_owned(), error);
        let name = String::from_utf8_lossy(name).replace('-', "_");
        let setting = PREFIXES
            .iter()
            .map(|prefix| Setting::parse(&format!("{prefix}{name}"), value))
            .find(|result| *result != Err(SetError::UnknownName))
            .unwrap_or(Err(SetError::UnknownName))
            .map_err(failed)?;
        if setting.record() == Record::SessionCache {
            return Err(LineError::Mode(argument.to_owned()));
        }
        self.settings.push(setting);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(arguments: &[&str]) -> Result<Line, LineError> {
        Line::parse(arguments.iter().map(OsStr::new))
    }

    fn setting(name: &str, value: &str) -> Setting {
        Setting::parse(name, OsStr::new(value)).unwrap()
    }

    #[test]
    fn settings_have_their_names_and_short_ones() {
        let size = setting("proxy.config.ssl.session_cache.size", "4096");
        let written: [&[&str]; 5] = [
            &["--session-cache.size=4K"],
            &["--session_cache.size=4096"],
            &["--session-cache.size", "4096"],
            &["--proxy.config.ssl.session_cache.size=0x1000"],
            &["--proxy.config.ssl.session-cache.size", "4K"],
        ];
        for arguments in written {
            let line = parse(arguments).unwrap();
            assert_eq!(line.settings, std::slice::from_ref(&size), "{arguments:?}");
            assert_eq!(line.file, None);
        }
        let line = parse(&[
            "--session-cache.max-bytes=1M",
            "--session-ticket.number=1",
            "--session-ticket.mode=1",
            "--ticket-key.filename=a=b",
            "--config=records.yaml",
        ]);
        let line = line.unwrap();
        assert_eq!(
            line.settings,
            [
                setting("tssession.session_cache.max_bytes", "1048576"),
                setting("proxy.config.ssl.server.session_ticket.number", "1"),
                setting("tssession.session_ticket.mode", "1"),
                setting("proxy.config.ssl.server.ticket_key.filename", "a=b"),
            ]
        );
        assert_eq!(line.file.unwrap(), "records.yaml");
        assert_eq!(parse(&[]), Ok(Line::default()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(&[&str], &str); 10] = [
            (&["size=1"], "size=1: settings are written --NAME=VALUE"),
            (&["-x"], "-x: settings are written --NAME=VALUE"),
            (
                &["--session-cache.size"],
                "--session-cache.size: the value is missing",
            ),
            (&["--config="], "--config=: the value is missing"),
            (
                &["--config=a", "--config", "b"],
                "--config: only one file of settings is allowed",
            ),
            (
                &["--session-cache.siz=1"],
                "--session-cache.siz=1: there is no such setting",
            ),
            (&["--=1"], "--=1: there is no such setting"),
            (
                &["--session-cache.size=ten"],
                "--session-cache.size=ten: the value is not a whole number",
            ),
            (
                &["--session-ticket.mode=2"],
                "--session-ticket.mode=2: the value is not between 0 and 1",
            ),
            (
                &["--session-cache.mode=2"],
                "--session-cache.mode=2: this sets ATS's own cache; to switch this one off, remove the line from plugin.config",
            ),
        ];
        for (arguments, message) in cases {
            assert_eq!(parse(arguments).unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn any_arguments_have_a_defined_result(
            arguments in proptest::collection::vec("(--)?[a-z_.=-]{0,30}|\\PC{0,10}", 0..6)
        ) {
            let _ = Line::parse(arguments.iter().map(OsStr::new));
        }
    }
}
