//! The settings, under the names of ATS records.

use std::error::Error;
use std::ffi::{CStr, OsStr, OsString};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::base::alloc::{NoMemory, os_string};
use crate::base::spin::{lock, try_lock};
use crate::base::system;

enum Kind {
    Int { min: i64, max: i64, default: i64 },
    Text,
}

const fn int(min: i64, max: i64, default: i64) -> Kind {
    Kind::Int { min, max, default }
}

/// Declares the settings: `VARIANT = NAME, KIND;`, each with its meaning.
macro_rules! records {
    ($($(#[$doc:meta])* $record:ident = $name:literal, $kind:expr;)*) => {
        /// A setting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Record {
            $($(#[$doc])* $record),*
        }

        const RECORDS: &[(Record, &str, Kind)] = &[$((Record::$record, $name, $kind)),*];
    };
}

records! {
    /// 0: no session cache, 1: OpenSSL's own in each context, 2: this one.
    SessionCache = "proxy.config.ssl.session_cache", int(0, 2, 2);
    /// The most sessions that the cache holds.
    Size = "proxy.config.ssl.session_cache.size", int(1, 1 << 30, 102_400);
    /// The number of shards, rounded up to a power of two.
    NumBuckets = "proxy.config.ssl.session_cache.num_buckets", int(1, 1 << 16, 256);
    /// 1: give up on a locked shard instead of waiting.
    SkipOnContention = "proxy.config.ssl.session_cache.skip_cache_on_bucket_contention", int(0, 1, 0);
    /// The most seconds that a session can be resumed; 0: as long as its own timeout says.
    Timeout = "proxy.config.ssl.session_cache.timeout", int(0, i32::MAX as i64, 0);
    /// 0: OpenSSL does not remove expired sessions from its own cache every 255 connections.
    AutoClear = "proxy.config.ssl.session_cache.auto_clear", int(0, 1, 1);
    /// 0: no session tickets.
    TicketEnable = "proxy.config.ssl.server.session_ticket.enable", int(0, 1, 1);
    /// The number of TLS 1.3 tickets that a full handshake issues.
    TicketNumber = "proxy.config.ssl.server.session_ticket.number", int(0, 255, 2);
    /// The size of the largest session that is stored, in bytes of DER.
    MaxSessionBytes = "tssession.session_cache.max_session_bytes", int(1, 1 << 24, 16_384);
    /// The most bytes of DER that the cache holds; 0: 1 KiB for each session of `Size`.
    MaxBytes = "tssession.session_cache.max_bytes", int(0, 1 << 40, 0);
    /// The most seconds after its full handshake that a client can resume.
    MaxAge = "tssession.max_resumption_age", int(1, 7 * 24 * 3600, 7 * 24 * 3600);
    /// 1: the library encrypts and decrypts tickets, 0: the host does.
    TicketMode = "tssession.session_ticket.mode", int(0, 1, 1);
    /// The file of ticket keys.
    TicketKeyFile = "proxy.config.ssl.server.ticket_key.filename", Kind::Text;
    /// The directory that a relative `TicketKeyFile` is resolved against.
    CertPath = "proxy.config.ssl.server.cert.path", Kind::Text;
}

/// The names that ATS 10 has for `proxy.config.ssl.session_cache`: in YAML the name of a record
/// cannot also be the beginning of another name.
const SESSION_CACHE_ALIASES: [&str; 3] = [
    "proxy.config.ssl.session_cache.mode",
    "proxy.config.ssl.session_cache.enabled",
    "proxy.config.ssl.session_cache.value",
];

/// The length of the longest name of a record, in bytes.
const LONGEST_NAME: usize = 63;

/// Every name of every record.
fn names() -> impl Iterator<Item = (&'static str, Record)> {
    let own = RECORDS.iter().map(|(record, name, _)| (*name, *record));
    let aliases = SESSION_CACHE_ALIASES.map(|name| (name, Record::SessionCache));
    own.chain(aliases)
}

/// Whether this is the name of a record.
pub fn is_known(name: &str) -> bool {
    names().any(|(known, _)| known == name)
}

/// Whether the names of some records begin with these words and a dot.
pub fn is_known_group(words: &str) -> bool {
    let under = |name: &str| {
        name.strip_prefix(words)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    names().any(|(name, _)| under(name))
}

/// Where a setting has its value from. A source has priority over all sources before it in this
/// list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The value is the default.
    Default,
    /// A file of records.
    File,
    /// A call.
    Call,
    /// The environment of the process.
    Environment,
    /// The line of `plugin.config` that has loaded the library into Traffic Server. Files and the
    /// environment have the server's own settings.
    PluginLine,
}

impl Source {
    const ALL: [Self; 5] = [
        Self::Default,
        Self::File,
        Self::Call,
        Self::Environment,
        Self::PluginLine,
    ];

    fn of(number: u8) -> Self {
        let known = Self::ALL.into_iter().find(|source| *source as u8 == number);
        known.unwrap_or(Self::Default)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Call => "call",
            Self::Environment => "environment",
            Self::PluginLine => "plugin.config",
        })
    }
}

/// Why a setting was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetError {
    /// There is no record of that name.
    UnknownName,
    /// Not a whole number where one is needed.
    NotANumber,
    /// A number outside the range.
    OutOfRange {
        /// The lowest number allowed.
        min: i64,
        /// The highest number allowed.
        max: i64,
    },
    /// The allocator had nothing left.
    NoMemory,
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName => write!(f, "there is no such setting"),
            Self::NotANumber => write!(f, "the value is not a whole number"),
            Self::OutOfRange { min, max } => {
                write!(f, "the value is not between {min} and {max}")
            }
            Self::NoMemory => NoMemory.fmt(f),
        }
    }
}

impl Error for SetError {}

/// A record and a checked value for it, which is not active yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    record: Record,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Int(i64),
    Text(Option<OsString>),
}

impl Setting {
    /// Checks `value` for the record of this name.
    pub fn parse(name: &str, value: &OsStr) -> Result<Self, SetError> {
        let (_, record) = names()
            .find(|(known, _)| *known == name)
            .ok_or(SetError::UnknownName)?;
        let value = match RECORDS[record as usize].2 {
            Kind::Int { min, max, .. } => {
                let int = value.to_str().and_then(parse_int);
                let int = int.ok_or(SetError::NotANumber)?;
                if !(min..=max).contains(&int) {
                    return Err(SetError::OutOfRange { min, max });
                }
                Value::Int(int)
            }
            Kind::Text => {
                // ATS writes an empty string or NULL for "none".
                let none = value.is_empty() || value == "NULL";
                let text = (!none).then(|| os_string(value)).transpose();
                Value::Text(text.map_err(|_| SetError::NoMemory)?)
            }
        };
        Ok(Self { record, value })
    }

    /// The record.
    pub fn record(&self) -> Record {
        self.record
    }

    /// The name that a record has in ATS 9.
    pub fn name(&self) -> &'static str {
        RECORDS[self.record as usize].1
    }

    /// Whether the record holds a number.
    pub fn is_number(&self) -> bool {
        matches!(self.value, Value::Int(_))
    }
}

#[derive(Default)]
struct Slot {
    int: AtomicI64,
    source: AtomicU8,
    order: AtomicU64,
}

type Texts = [Option<OsString>; RECORDS.len()];

/// While this lives, no thread can change the settings.
pub(crate) type FrozenConfig<'a> = MutexGuard<'a, Texts>;

/// The active values.
pub struct Config {
    slots: [Slot; RECORDS.len()],
    texts: Mutex<Texts>,
}

impl Default for Config {
    /// Every record at its default.
    fn default() -> Self {
        let config = Self {
            slots: Default::default(),
            texts: Mutex::default(),
        };
        for (record, _, kind) in RECORDS {
            if let Kind::Int { default, .. } = kind {
                config.slots[*record as usize]
                    .int
                    .store(*default, Ordering::Relaxed);
            }
        }
        config
    }
}

impl Config {
    /// Calls `read` with each name of a record and the name of its environment variable, which ATS
    /// writes in upper case, with `_` for `.`.
    fn variables(mut read: impl FnMut(&'static str, &CStr)) {
        for (name, _) in names() {
            let mut variable = [0; LONGEST_NAME + 1];
            for (to, from) in variable.iter_mut().zip(name.bytes()) {
                *to = match from {
                    b'.' => b'_',
                    letter => letter.to_ascii_uppercase(),
                };
            }
            let variable = CStr::from_bytes_until_nul(&variable);
            read(
                name,
                variable.expect("there is a zero behind the longest name"),
            );
        }
    }

    /// Makes the settings of the environment active. Calls `failed` for each that is not valid.
    pub fn read_environment(&self, mut failed: impl FnMut(&'static str, SetError)) {
        Self::variables(|name, variable| {
            let setting = system::with_variable(variable, |value| Setting::parse(name, value));
            match setting {
                Some(Ok(setting)) => drop(self.put(setting, Source::Environment, 0)),
                Some(Err(error)) => failed(name, error),
                None => {}
            }
        });
    }

    /// A copy. `None`: a thread is changing settings, or there is no memory.
    pub fn copy(&self) -> Option<Self> {
        let copy = Self::default();
        let texts = try_lock(&self.texts)?;
        for (to, from) in lock(&copy.texts).iter_mut().zip(&*texts) {
            *to = from.as_deref().map(os_string).transpose().ok()?;
        }
        for (to, from) in copy.slots.iter().zip(&self.slots) {
            to.int
                .store(from.int.load(Ordering::Relaxed), Ordering::Relaxed);
            to.source
                .store(from.source.load(Ordering::Relaxed), Ordering::Relaxed);
            to.order
                .store(from.order.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Some(copy)
    }

    /// Makes a setting active, unless a source of higher priority has set the record, or the same
    /// source with a higher `order`: then `false`.
    pub fn put(&self, setting: Setting, source: Source, order: u64) -> bool {
        let slot = &self.slots[setting.record as usize];
        // One setter at a time, so that source and value belong together.
        let mut texts = lock(&self.texts);
        let before = (
            slot.source.load(Ordering::Relaxed),
            slot.order.load(Ordering::Relaxed),
        );
        if before > (source as u8, order) {
            return false;
        }
        slot.source.store(source as u8, Ordering::Relaxed);
        slot.order.store(order, Ordering::Relaxed);
        match setting.value {
            Value::Int(int) => slot.int.store(int, Ordering::Relaxed),
            Value::Text(text) => texts[setting.record as usize] = text,
        }
        true
    }

    /// The value of a number record.
    pub fn int(&self, record: Record) -> i64 {
        self.slots[record as usize].int.load(Ordering::Relaxed)
    }

    /// The value of a number record, if a source other than the default has set it.
    pub fn int_if_set(&self, record: Record) -> Option<i64> {
        let source = self.slots[record as usize].source.load(Ordering::Relaxed);
        (source != Source::Default as u8).then(|| self.int(record))
    }

    /// The value of a text record.
    pub fn text(&self, record: Record) -> Result<Option<OsString>, NoMemory> {
        let texts = lock(&self.texts);
        texts[record as usize].as_deref().map(os_string).transpose()
    }

    /// Calls `read` with the name, value and source of each record, all as of one moment. A text
    /// record without a value is `NULL`.
    pub fn each(&self, mut read: impl FnMut(&'static str, &dyn fmt::Display, Source)) {
        let texts = lock(&self.texts);
        for (record, name, kind) in RECORDS {
            let slot = &self.slots[*record as usize];
            let source = Source::of(slot.source.load(Ordering::Relaxed));
            match (kind, &texts[*record as usize]) {
                (Kind::Int { .. }, _) => read(name, &slot.int.load(Ordering::Relaxed), source),
                (Kind::Text, None) => read(name, &"NULL", source),
                (Kind::Text, Some(text)) => read(name, &text.display(), source),
            }
        }
    }

    /// Keeps other threads from changing settings until the result is dropped; `None` if a thread
    /// is changing one.
    pub(crate) fn try_freeze(&self) -> Option<FrozenConfig<'_>> {
        try_lock(&self.texts)
    }
}

/// A whole number as ATS accepts it: hexadecimal after `0x`, or decimal, with `K`, `M`, `G` or `T`
/// for powers of 1024 at its end.
fn parse_int(value: &str) -> Option<i64> {
    let value = value.trim();
    if let Some(digits) = value.strip_prefix("0x") {
        // from_str_radix accepts a sign, ATS does not.
        let unsigned = digits.starts_with(|c: char| c.is_ascii_hexdigit());
        return i64::from_str_radix(digits, 16).ok().filter(|_| unsigned);
    }
    let (digits, shift) = match value.as_bytes().last()? {
        b'K' => (&value[..value.len() - 1], 10),
        b'M' => (&value[..value.len() - 1], 20),
        b'G' => (&value[..value.len() - 1], 30),
        b'T' => (&value[..value.len() - 1], 40),
        _ => (value, 0),
    };
    digits.parse::<i64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(config: &Config, name: &str, value: &str, source: Source) -> Result<bool, SetError> {
        Setting::parse(name, OsStr::new(value)).map(|setting| config.put(setting, source, 0))
    }

    #[test]
    fn the_documentation_has_every_setting_as_it_is() {
        let rows: Vec<Vec<&str>> = include_str!("../../docs/guide/settings.md")
            .lines()
            .filter(|line| line.starts_with("| `proxy.") || line.starts_with("| `tssession."))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        assert_eq!(rows.len(), RECORDS.len());
        for (_, name, kind) in RECORDS {
            let row = rows.iter().find(|row| row[1] == format!("`{name}`"));
            let row = row.unwrap_or_else(|| panic!("{name}"));
            let (default, allowed) = match kind {
                Kind::Int {
                    min,
                    max: 1,
                    default,
                } => (default.to_string(), format!("{min}, 1")),
                Kind::Int { min, max, default } => (default.to_string(), format!("{min} to {max}")),
                Kind::Text => ("none".to_owned(), "a path".to_owned()),
            };
            assert_eq!(
                row[1..4],
                [&format!("`{name}`"), &default, &allowed],
                "{name}"
            );
        }
        let text = include_str!("../../docs/guide/settings.md");
        assert!(SESSION_CACHE_ALIASES.iter().all(|name| text.contains(name)));
    }

    #[test]
    fn names_and_ranges_are_checked() {
        let config = Config::default();
        let set = |name: &str, value: &str| set(&config, name, value, Source::Call);
        let size = "proxy.config.ssl.session_cache.size";
        assert_eq!(
            set("proxy.config.ssl.session_cache.siz", "1"),
            Err(SetError::UnknownName)
        );
        for bad in [
            "", " ", "K", "ten", "1.5", "1k", "--1", "9999999T", "0x", "0x-1", "0x+1", "0x1K",
            "0xg",
        ] {
            assert_eq!(set(size, bad), Err(SetError::NotANumber), "{bad:?}");
        }
        for bad in ["0", "-1", "2G", "0x0"] {
            assert!(
                matches!(set(size, bad), Err(SetError::OutOfRange { .. })),
                "{bad:?}"
            );
        }
        assert_eq!(config.int(Record::Size), 102_400);
        assert_eq!(set(size, " 4K "), Ok(true));
        assert_eq!(config.int(Record::Size), 4096);
        assert_eq!(set(size, "0x1f"), Ok(true));
        assert_eq!(config.int(Record::Size), 31);
    }

    #[test]
    fn the_environment_counts_more_than_a_call_and_that_more_than_a_file() {
        let config = Config::default();
        let timeout = "proxy.config.ssl.session_cache.timeout";
        let size = "proxy.config.ssl.session_cache.size";
        let mut variables = 0;
        Config::variables(|name, variable| {
            variables += 1;
            let given = variable == c"PROXY_CONFIG_SSL_SESSION_CACHE_TIMEOUT";
            assert_eq!(given, name == timeout);
            if given {
                assert_eq!(set(&config, name, "60", Source::Environment), Ok(true));
            }
        });
        assert_eq!(variables, RECORDS.len() + SESSION_CACHE_ALIASES.len());
        assert!(names().all(|(name, _)| name.len() <= LONGEST_NAME));
        assert_eq!(set(&config, timeout, "70", Source::Call), Ok(false));
        assert_eq!(config.int_if_set(Record::Timeout), Some(60));
        assert_eq!(config.int_if_set(Record::Size), None);
        assert_eq!(set(&config, size, "1", Source::File), Ok(true));
        assert_eq!(set(&config, size, "2", Source::File), Ok(true));
        assert_eq!(set(&config, size, "3", Source::Call), Ok(true));
        assert_eq!(set(&config, size, "4", Source::File), Ok(false));
        assert_eq!(config.int(Record::Size), 3);
    }

    #[test]
    fn each_setting_is_told_with_its_source() {
        let config = Config::default();
        let file = "proxy.config.ssl.server.ticket_key.filename";
        let size = "proxy.config.ssl.session_cache.size";
        set(&config, file, "keys", Source::PluginLine).unwrap();
        set(&config, size, "4K", Source::Environment).unwrap();
        let mut told = Vec::new();
        config.each(|name, value, source| told.push(format!("{name} {value} ({source})")));
        assert_eq!(told.len(), RECORDS.len());
        for line in [
            format!("{file} keys (plugin.config)"),
            format!("{size} 4096 (environment)"),
            "proxy.config.ssl.session_cache 2 (default)".to_owned(),
            "proxy.config.ssl.server.cert.path NULL (default)".to_owned(),
        ] {
            assert!(told.contains(&line), "{line}");
        }
    }

    #[test]
    fn the_cache_has_the_names_of_each_version_of_ats() {
        let config = Config::default();
        for (name, mode) in SESSION_CACHE_ALIASES.iter().zip([0, 1, 2]) {
            assert_eq!(
                set(&config, name, &mode.to_string(), Source::Call),
                Ok(true)
            );
            assert_eq!(config.int(Record::SessionCache), mode);
        }
        assert!(is_known_group("proxy.config.ssl.session_cache"));
        assert!(!is_known_group("proxy.config.ssl.session_cach"));
        assert!(!is_known_group("proxy.config.ssl.session_cache.size"));
        assert!(is_known("proxy.config.ssl.session_cache.size") && !is_known("proxy.config.ssl"));
    }

    #[test]
    fn null_and_the_empty_string_are_no_text() {
        let config = Config::default();
        let name = "proxy.config.ssl.server.ticket_key.filename";
        for none in ["NULL", ""] {
            set(&config, name, "keys", Source::Call).unwrap();
            assert_eq!(config.text(Record::TicketKeyFile), Ok(Some("keys".into())));
            set(&config, name, none, Source::Call).unwrap();
            assert_eq!(config.text(Record::TicketKeyFile), Ok(None));
        }
    }

    proptest! {
        #[test]
        fn any_value_is_taken_or_refused(value in ".*") {
            let config = Config::default();
            for (record, name, kind) in RECORDS {
                let before = config.int(*record);
                let result = set(&config, name, &value, Source::Call);
                if let Kind::Int { min, max, .. } = kind {
                    let after = config.int(*record);
                    prop_assert!((*min..=*max).contains(&after));
                    prop_assert!(result.is_ok() || after == before);
                }
            }
        }
    }
}
