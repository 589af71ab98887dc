//! The file of settings: TOML, described in `farm/farm.example.toml`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::IntoConnectionInfo;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::keys::MAX_KEYS;
use crate::seal::{Secret, read_private};

/// Everything that can be set, checked.
#[derive(Debug)]
pub struct Config {
    /// The farm's name: members of one share, those of another do not.
    pub farm: String,
    /// Where Redis is.
    pub redis: Redis,
    /// The first seals, all open. At least one.
    pub secrets: Vec<Secret>,
    /// Streams that the sessions are spread over.
    pub partitions: u32,
    /// Sessions that Redis keeps, of all partitions together.
    pub max_sessions: u64,
    /// How long a message is good.
    pub session_lifetime: Duration,
    /// How long a removed session stays removed.
    pub tombstone_lifetime: Duration,
    /// Events that wait for the publisher.
    pub queue: usize,
    /// `None`: ticket keys are not shared.
    pub ticket_keys: Option<TicketKeys>,
}

/// Where Redis is, and how to get in.
pub struct Redis {
    /// One for a single server, else several.
    pub urls: Vec<String>,
    /// What they lead to.
    pub mode: Mode,
    /// ACL user.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Zeroizing<String>>,
    /// PEM of the authorities that are trusted for `rediss://`; `None`: those of the system.
    pub ca_file: Option<Vec<u8>>,
    /// For connecting, and for each answer.
    pub timeout: Duration,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({:?}, ..)", self.mode)
    }
}

/// What the URLs lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One server.
    Single,
    /// Sentinels, which know the master of this service.
    Sentinel {
        /// Its name.
        service: String,
    },
    /// Nodes of a Cluster.
    Cluster,
}

/// The times of ticket keys.
#[derive(Clone, Debug)]
pub struct TicketKeys {
    /// A new key so often.
    pub rotation: Duration,
    /// A key decrypts for so long after it has ceased to encrypt.
    pub lifetime: Duration,
    /// A key decrypts for so long before it encrypts.
    pub spread: Duration,
    /// The member that makes keys is given up after so long without a sign of life.
    pub lease: Duration,
}

/// What is wrong with a file of settings.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

impl std::error::Error for ConfigError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    farm: String,
    secrets: Vec<PathBuf>,
    #[serde(default = "partitions")]
    partitions: u32,
    #[serde(default = "max_sessions")]
    max_sessions: u64,
    #[serde(default = "session_lifetime")]
    session_lifetime: Seconds,
    tombstone_lifetime: Option<Seconds>,
    #[serde(default = "queue")]
    queue: usize,
    redis: RedisFile,
    ticket_keys: Option<TicketKeysFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedisFile {
    urls: Vec<String>,
    #[serde(default = "single")]
    mode: String,
    service: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    #[serde(default = "timeout")]
    timeout: Seconds,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketKeysFile {
    #[serde(default = "rotation")]
    rotation: Seconds,
    #[serde(default = "lifetime")]
    lifetime: Seconds,
    #[serde(default = "spread")]
    spread: Seconds,
    #[serde(default = "lease")]
    lease: Seconds,
}

/// Seconds, whole or not.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Seconds {
    Whole(u64),
    Parts(f64),
}

fn partitions() -> u32 {
    16
}
fn max_sessions() -> u64 {
    1_000_000
}
fn session_lifetime() -> Seconds {
    Seconds::Whole(86_400)
}
fn queue() -> usize {
    65_536
}
fn single() -> String {
    "single".to_owned()
}
fn timeout() -> Seconds {
    Seconds::Whole(1)
}
fn rotation() -> Seconds {
    Seconds::Whole(43_200)
}
fn lifetime() -> Seconds {
    Seconds::Whole(129_600)
}
fn spread() -> Seconds {
    Seconds::Whole(60)
}
fn lease() -> Seconds {
    Seconds::Whole(10)
}

/// The longest time that can be set.
const LONGEST: f64 = 366.0 * 86_400.0;

impl Config {
    /// Reads a file and those that it names, relative to its folder.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::of(path).map_err(|what| ConfigError {
            file: path.to_owned(),
            what,
        })
    }

    fn of(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let file: File = toml::from_str(&text).map_err(|error| in_line(&text, &error))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let name = 1..=64;
        if !name.contains(&file.farm.len()) || !file.farm.bytes().all(is_good) {
            return Err("farm: 1 to 64 letters, digits, dots, dashes and underscores".into());
        }
        if file.secrets.is_empty() {
            return Err("secrets: at least one file".into());
        }
        let mut secrets = Vec::new();
        for secret in &file.secrets {
            let path = folder.join(secret);
            let read = Secret::read(&path);
            secrets.push(read.map_err(|error| format!("secrets: {}: {error}", path.display()))?);
        }
        let session_lifetime = seconds("session_lifetime", file.session_lifetime)?;
        let tombstone_lifetime = match file.tombstone_lifetime {
            None => session_lifetime,
            Some(time) => seconds("tombstone_lifetime", time)?,
        };
        Ok(Self {
            farm: file.farm,
            redis: redis(file.redis, folder)?,
            secrets,
            partitions: within("partitions", file.partitions, 1, 4096)?,
            max_sessions: within("max_sessions", file.max_sessions, 1, 1 << 40)?,
            session_lifetime,
            tombstone_lifetime,
            queue: within("queue", file.queue, 1, 1 << 24)?,
            ticket_keys: file.ticket_keys.map(ticket_keys).transpose()?,
        })
    }
}

/// Names the line and the setting, but not its value, which may be a password.
fn in_line(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    let number = 1 + before.matches('\n').count();
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let setting = line
        .split_once('=')
        .map_or("", |(setting, _)| setting.trim());
    format!("line {number}: {setting}: {}", error.message())
}

fn redis(file: RedisFile, folder: &Path) -> Result<Redis, String> {
    if file.urls.is_empty() {
        return Err("redis.urls: at least one".into());
    }
    for url in &file.urls {
        // The URL is not repeated: there may be a password in it.
        url.as_str().into_connection_info().map_err(|_| {
            "redis.urls: not like redis://host:port or rediss://host:port".to_owned()
        })?;
    }
    let mode = match (file.mode.as_str(), file.service) {
        ("single", None) if file.urls.len() == 1 => Mode::Single,
        ("single", None) => return Err("redis.urls: a single server has one".into()),
        ("cluster", None) => Mode::Cluster,
        ("sentinel", Some(service)) => Mode::Sentinel { service },
        ("sentinel", None) => return Err("redis.service: missing with mode = \"sentinel\"".into()),
        ("single" | "cluster", Some(_)) => {
            return Err("redis.service: only with mode = \"sentinel\"".into());
        }
        _ => return Err("redis.mode: \"single\", \"sentinel\" or \"cluster\"".into()),
    };
    let password = match file.password_file.map(|path| folder.join(path)) {
        None => None,
        Some(path) => {
            let named = |what: String| format!("redis.password_file: {}: {what}", path.display());
            let content = read_private(&path).map_err(|error| named(error.to_string()))?;
            let text = std::str::from_utf8(&content).map_err(|_| named("not UTF-8".to_owned()))?;
            Some(Zeroizing::new(
                text.trim_end_matches(['\r', '\n']).to_owned(),
            ))
        }
    };
    let ca_file = match file.ca_file.map(|path| folder.join(path)) {
        None => None,
        Some(path) => {
            let named = |error| format!("redis.ca_file: {}: {error}", path.display());
            Some(fs::read(&path).map_err(named)?)
        }
    };
    Ok(Redis {
        urls: file.urls,
        mode,
        user: file.user,
        password,
        ca_file,
        timeout: seconds("redis.timeout", file.timeout)?,
    })
}

fn ticket_keys(file: TicketKeysFile) -> Result<TicketKeys, String> {
    let times = TicketKeys {
        rotation: seconds("ticket_keys.rotation", file.rotation)?,
        lifetime: seconds("ticket_keys.lifetime", file.lifetime)?,
        spread: seconds("ticket_keys.spread", file.spread)?,
        lease: seconds("ticket_keys.lease", file.lease)?,
    };
    if times.spread >= times.rotation {
        return Err("ticket_keys.spread: must be shorter than rotation".into());
    }
    if times.lifetime < times.rotation + times.spread {
        return Err("ticket_keys.lifetime: must be rotation and spread together, or longer".into());
    }
    if times.lifetime.as_secs_f64() / times.rotation.as_secs_f64() > MAX_KEYS as f64 - 2.0 {
        return Err(format!(
            "ticket_keys.lifetime: must be less than {} rotations",
            MAX_KEYS - 2
        ));
    }
    Ok(times)
}

fn seconds(setting: &str, value: Seconds) -> Result<Duration, String> {
    let value = match value {
        Seconds::Whole(value) => value as f64,
        Seconds::Parts(value) => value,
    };
    match (0.01..=LONGEST).contains(&value) {
        true => Ok(Duration::from_secs_f64(value)),
        false => Err(format!("{setting}: a number of seconds, 0.01 to {LONGEST}")),
    }
}

fn within<T: PartialOrd + fmt::Display>(
    setting: &str,
    value: T,
    min: T,
    max: T,
) -> Result<T, String> {
    match min <= value && value <= max {
        true => Ok(value),
        false => Err(format!("{setting}: {min} to {max}, not {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const LEAST: &str =
        "farm = \"a\"\nsecrets = [\"secret\"]\n[redis]\nurls = [\"redis://localhost\"]\n";

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["secret", "password", "secret-new", "secret-old", "ca.pem"] {
            let path = folder.path().join(name);
            fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        folder
    }

    fn read(folder: &tempfile::TempDir, text: &str) -> Result<Config, String> {
        let path = folder.path().join("farm.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_least_that_must_be_set() {
        let config = read(&folder(), LEAST).unwrap();
        assert_eq!(
            (config.partitions, config.queue, config.max_sessions),
            (16, 65_536, 1_000_000)
        );
        assert_eq!(config.session_lifetime, Duration::from_secs(86_400));
        assert_eq!(config.tombstone_lifetime, config.session_lifetime);
        assert!(config.ticket_keys.is_none());
        assert_eq!(
            (config.redis.mode, config.redis.timeout),
            (Mode::Single, Duration::from_secs(1))
        );
    }

    /// With its comment signs in front of settings taken away.
    #[test]
    fn the_example_has_everything() {
        let example = include_str!("../farm.example.toml");
        let folder = folder();
        read(&folder, example).unwrap();
        let all: String = example
            .lines()
            .map(|line| {
                line.strip_prefix("#")
                    .filter(|line| line.contains(" = ") && !line.starts_with(' '))
                    .unwrap_or(line)
            })
            .fold(String::new(), |all, line| all + line + "\n");
        let config = read(&folder, &all).unwrap();
        assert_eq!(
            config.redis.password.unwrap().as_str(),
            "0123456789abcdef0123456789abcdef"
        );
        assert!(config.redis.user.is_some() && config.redis.ca_file.is_some());
        for setting in [
            "partitions",
            "max_sessions",
            "session_lifetime",
            "tombstone_lifetime",
            "queue",
            "mode",
            "service",
            "user",
            "password_file",
            "ca_file",
            "timeout",
            "rotation",
            "lifetime",
            "spread",
            "lease",
        ] {
            assert!(
                all.lines()
                    .any(|line| line.starts_with(&format!("{setting} = "))),
                "{setting}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = folder();
        for (line, name) in [
            ("partitions = 0", "partitions"),
            ("partitions = 5000", "partitions"),
            ("partitions = \"many\"", "partitions"),
            ("queue = 0", "queue"),
            ("session_lifetime = 0", "session_lifetime"),
            ("session_lifetime = -1", "session_lifetime"),
            ("session_lifetime = nan", "session_lifetime"),
            ("tombstone_lifetime = 1e30", "tombstone_lifetime"),
            ("typo = 1", "typo"),
        ] {
            let error = read(&folder, &format!("{line}\n{LEAST}")).unwrap_err();
            assert!(
                error.contains(name) && error.contains("farm.toml"),
                "{error}"
            );
        }
        for (line, name) in [
            ("mode = \"many\"", "redis.mode"),
            ("mode = \"sentinel\"", "redis.service"),
            ("service = \"a\"", "redis.service"),
            ("password_file = \"none\"", "redis.password_file"),
            ("ca_file = \"none\"", "redis.ca_file"),
            ("timeout = 0", "redis.timeout"),
            ("[ticket_keys]\nspread = 50000", "ticket_keys.spread"),
            ("[ticket_keys]\nlifetime = 50", "ticket_keys.lifetime"),
            ("[ticket_keys]\nrotation = 100", "ticket_keys.lifetime"),
            ("[ticket_keys]\nlease = 0", "ticket_keys.lease"),
            ("[ticket_keys]\nrotations = 1", "rotations"),
        ] {
            let error = read(&folder, &format!("{LEAST}{line}\n")).unwrap_err();
            assert!(error.contains(name), "{line}: {error}");
        }
        for (from, to, name) in [
            ("\"a\"", "\"a b\"", "farm"),
            ("\"a\"", "\"\"", "farm"),
            ("\"secret\"", "", "secrets"),
            ("\"secret\"", "\"none\"", "secrets"),
            ("redis://localhost", "http://localhost", "redis.urls"),
            ("\"redis://localhost\"", "", "redis.urls"),
        ] {
            let error = read(&folder, &LEAST.replace(from, to)).unwrap_err();
            assert!(error.contains(name), "{to}: {error}");
        }
        assert!(Config::read(&folder.path().join("none")).is_err());
    }
}
