//! The settings, under the names of ATS records.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::wait::{lock, try_lock};

/// A setting. The order is that of the table `RECORDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// 0: no session cache, 1: OpenSSL's own in each context, 2: this one.
    SessionCache,
    /// How many sessions at most.
    Size,
    /// How many shards, rounded up to a power of two.
    NumBuckets,
    /// 1: give up on a locked shard instead of waiting.
    SkipOnContention,
    /// Seconds that a session may be used at most; 0: as long as it says itself.
    Timeout,
    /// 0: OpenSSL's own cache is not flushed every 255 connections.
    AutoClear,
    /// 0: no session tickets.
    TicketEnable,
    /// How many TLS 1.3 tickets a full handshake gives out.
    TicketNumber,
    /// The largest session in DER bytes that is stored.
    MaxSessionBytes,
    /// How many bytes of DER at most; 0: 1 KiB for each entry of `Size`.
    MaxBytes,
    /// The file with ticket keys.
    TicketKeyFile,
    /// The folder that a relative `TicketKeyFile` is in.
    CertPath,
}

enum Kind {
    Int { min: i64, max: i64, default: i64 },
    Text,
}

const fn int(min: i64, max: i64, default: i64) -> Kind {
    Kind::Int { min, max, default }
}

const RECORDS: [(Record, &str, Kind); 12] = [
    (
        Record::SessionCache,
        "proxy.config.ssl.session_cache",
        int(0, 2, 2),
    ),
    (
        Record::Size,
        "proxy.config.ssl.session_cache.size",
        int(1, 1 << 30, 102_400),
    ),
    (
        Record::NumBuckets,
        "proxy.config.ssl.session_cache.num_buckets",
        int(1, 1 << 16, 256),
    ),
    (
        Record::SkipOnContention,
        "proxy.config.ssl.session_cache.skip_cache_on_bucket_contention",
        int(0, 1, 0),
    ),
    (
        Record::Timeout,
        "proxy.config.ssl.session_cache.timeout",
        int(0, i32::MAX as i64, 0),
    ),
    (
        Record::AutoClear,
        "proxy.config.ssl.session_cache.auto_clear",
        int(0, 1, 1),
    ),
    (
        Record::TicketEnable,
        "proxy.config.ssl.server.session_ticket.enable",
        int(0, 1, 1),
    ),
    (
        Record::TicketNumber,
        "proxy.config.ssl.server.session_ticket.number",
        int(0, 255, 2),
    ),
    (
        Record::MaxSessionBytes,
        "tssession.session_cache.max_session_bytes",
        int(1, 1 << 24, 16_384),
    ),
    (
        Record::MaxBytes,
        "tssession.session_cache.max_bytes",
        int(0, 1 << 40, 0),
    ),
    (
        Record::TicketKeyFile,
        "proxy.config.ssl.server.ticket_key.filename",
        Kind::Text,
    ),
    (
        Record::CertPath,
        "proxy.config.ssl.server.cert.path",
        Kind::Text,
    ),
];

/// Who gave a setting its value. A later one in this list is not overruled by
/// an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody.
    Default,
    /// A call.
    Call,
    /// The environment of the process.
    Environment,
}

/// Why a setting was refused; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetError {
    /// There is no record of that name.
    UnknownName,
    /// Not a number where one is needed.
    NotANumber,
    /// A number outside the range.
    OutOfRange {
        /// The lowest number allowed.
        min: i64,
        /// The highest number allowed.
        max: i64,
    },
    /// The environment has set it, and that counts more. The value was well-formed.
    Overruled,
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName => write!(f, "there is no such setting"),
            Self::NotANumber => write!(f, "the value is not a number"),
            Self::OutOfRange { min, max } => {
                write!(f, "the value is not between {min} and {max}")
            }
            Self::Overruled => write!(f, "the environment variable of that name counts more"),
        }
    }
}

#[derive(Default)]
struct Value {
    int: AtomicI64,
    source: AtomicU8,
}

type Texts = [Option<String>; RECORDS.len()];

/// The values in force.
pub struct Config {
    values: [Value; RECORDS.len()],
    texts: Mutex<Texts>,
}

/// A configuration that nobody can change at the moment.
pub(crate) struct FrozenConfig<'a> {
    _texts: MutexGuard<'a, Texts>,
}

impl Default for Config {
    /// Every record at its default.
    fn default() -> Self {
        let config = Self {
            values: Default::default(),
            texts: Mutex::default(),
        };
        for (record, _, kind) in &RECORDS {
            if let Kind::Int { default, .. } = kind {
                config.values[*record as usize]
                    .int
                    .store(*default, Ordering::Relaxed);
            }
        }
        config
    }
}

impl Config {
    /// The records that `variable` names a value for, as ATS names environment
    /// variables: upper case, with `_` for `.`. Gives each record's own name and
    /// the value.
    pub fn overrides(
        variable: impl Fn(&str) -> Option<String>,
    ) -> impl Iterator<Item = (&'static str, String)> {
        RECORDS.iter().filter_map(move |(_, name, _)| {
            let value = variable(&name.to_ascii_uppercase().replace('.', "_"))?;
            Some((*name, value))
        })
    }

    /// Sets one record by its name.
    pub fn set(&self, name: &str, value: &str, source: Source) -> Result<Record, SetError> {
        let (record, _, kind) = RECORDS
            .iter()
            .find(|(_, known, _)| *known == name)
            .ok_or(SetError::UnknownName)?;
        let int = match kind {
            Kind::Int { min, max, .. } => {
                let int = parse_int(value).ok_or(SetError::NotANumber)?;
                if !(*min..=*max).contains(&int) {
                    return Err(SetError::OutOfRange {
                        min: *min,
                        max: *max,
                    });
                }
                Some(int)
            }
            Kind::Text => None,
        };
        let slot = &self.values[*record as usize];
        // One setter at a time, so that source and value belong together.
        let mut texts = lock(&self.texts);
        if slot.source.load(Ordering::Relaxed) > source as u8 {
            return Err(SetError::Overruled);
        }
        slot.source.store(source as u8, Ordering::Relaxed);
        match int {
            Some(int) => slot.int.store(int, Ordering::Relaxed),
            None => {
                // An empty string and NULL are how ATS writes "none".
                let none = value.is_empty() || value == "NULL";
                texts[*record as usize] = (!none).then(|| value.to_owned());
            }
        }
        Ok(*record)
    }

    /// The value of a number record.
    pub fn int(&self, record: Record) -> i64 {
        self.values[record as usize].int.load(Ordering::Relaxed)
    }

    /// The value of a number record, if somebody has set it.
    pub fn int_if_set(&self, record: Record) -> Option<i64> {
        let source = self.values[record as usize].source.load(Ordering::Relaxed);
        (source != Source::Default as u8).then(|| self.int(record))
    }

    /// The value of a text record.
    pub fn text(&self, record: Record) -> Option<String> {
        let texts = lock(&self.texts);
        texts[record as usize].clone()
    }

    /// Holds back every setter until the result is dropped; `None` if one is at work.
    pub(crate) fn try_freeze(&self) -> Option<FrozenConfig<'_>> {
        let _texts = try_lock(&self.texts)?;
        Some(FrozenConfig { _texts })
    }
}

/// A whole number as ATS takes it: with `K`, `M`, `G` or `T` behind it for powers of 1024.
fn parse_int(value: &str) -> Option<i64> {
    let value = value.trim();
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

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (at, (record, _, _)) in RECORDS.iter().enumerate() {
            assert_eq!(*record as usize, at);
        }
    }

    #[test]
    fn names_and_ranges_are_checked() {
        let config = Config::default();
        let set = |name: &str, value: &str| config.set(name, value, Source::Call);
        let size = "proxy.config.ssl.session_cache.size";
        assert_eq!(
            set("proxy.config.ssl.session_cache.siz", "1"),
            Err(SetError::UnknownName)
        );
        for bad in ["", " ", "K", "ten", "1.5", "0x10", "1k", "--1", "9999999T"] {
            assert_eq!(set(size, bad), Err(SetError::NotANumber), "{bad:?}");
        }
        for bad in ["0", "-1", "2G"] {
            assert!(
                matches!(set(size, bad), Err(SetError::OutOfRange { .. })),
                "{bad:?}"
            );
        }
        assert_eq!(config.int(Record::Size), 102_400);
        assert_eq!(set(size, " 4K "), Ok(Record::Size));
        assert_eq!(config.int(Record::Size), 4096);
    }

    #[test]
    fn the_environment_counts_more_than_a_call() {
        let config = Config::default();
        let name = "proxy.config.ssl.session_cache.timeout";
        let variables = |name: &str| {
            (name == "PROXY_CONFIG_SSL_SESSION_CACHE_TIMEOUT").then(|| "60".to_owned())
        };
        for (name, value) in Config::overrides(variables) {
            config.set(name, &value, Source::Environment).unwrap();
        }
        assert_eq!(
            config.set(name, "70", Source::Call),
            Err(SetError::Overruled)
        );
        assert_eq!(config.int_if_set(Record::Timeout), Some(60));
        assert_eq!(config.int_if_set(Record::Size), None);
    }

    #[test]
    fn null_and_the_empty_string_are_no_text() {
        let config = Config::default();
        let name = "proxy.config.ssl.server.ticket_key.filename";
        config.set(name, "keys", Source::Call).unwrap();
        assert_eq!(config.text(Record::TicketKeyFile).as_deref(), Some("keys"));
        config.set(name, "NULL", Source::Call).unwrap();
        assert_eq!(config.text(Record::TicketKeyFile), None);
    }

    proptest! {
        #[test]
        fn any_value_is_taken_or_refused(value in ".*") {
            let config = Config::default();
            for (record, name, kind) in &RECORDS {
                let before = config.int(*record);
                let result = config.set(name, &value, Source::Call);
                if let Kind::Int { min, max, .. } = kind {
                    let after = config.int(*record);
                    prop_assert!((*min..=*max).contains(&after));
                    prop_assert!(result.is_ok() || after == before);
                }
            }
        }
    }
}
