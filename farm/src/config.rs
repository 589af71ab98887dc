//! The file of settings, in TOML. `farm/farm.example.toml` describes it.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::x509::X509;
use redis::{ConnectionAddr, IntoConnectionInfo};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::keys::plan::{MAX_KEYS, Times};
use crate::seal::secret::{Secret, read_private};

/// All settings, checked.
#[derive(Debug)]
pub struct Config {
    /// The farm's name. Members of different farms share nothing.
    pub farm: String,
    /// Where Redis is.
    pub redis: Redis,
    /// The secrets, at least one. The first seals messages; all of them open messages.
    pub secrets: Vec<Secret>,
    /// The number of streams that the sessions are spread over.
    pub partitions: u32,
    /// The number of sessions that Redis keeps, in all partitions together.
    pub max_sessions: u64,
    /// The age up to which a message is accepted.
    pub session_lifetime: Duration,
    /// How long a removed session stays removed.
    pub tombstone_lifetime: Duration,
    /// The most events that wait for the publisher.
    pub queue: usize,
    /// `None`: ticket keys are not shared.
    pub ticket_keys: Option<Times>,
}

/// Where Redis is, and how to log in.
pub struct Redis {
    /// One URL for a single server, otherwise one or several.
    pub urls: Vec<String>,
    /// What the URLs lead to.
    pub mode: Mode,
    /// The ACL user.
    pub user: Option<String>,
    /// The password of the user.
    pub password: Option<Zeroizing<String>>,
    /// The user for the Sentinels.
    pub sentinel_user: Option<String>,
    /// The password for the Sentinels.
    pub sentinel_password: Option<Zeroizing<String>>,
    /// Whether all URLs begin with `rediss://`.
    pub tls: bool,
    /// PEM of the authorities that are trusted for TLS; `None`: those of the system.
    pub ca_file: Option<Vec<u8>>,
    /// The longest time for connecting, and for each answer.
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
    sentinel_user: Option<String>,
    sentinel_password_file: Option<PathBuf>,
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

/// A number of seconds, whole or not.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected a number of seconds")]
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

/// The most partitions in a Cluster. There each partition has a thread, a connection to every node,
/// and room for messages while its node is away: for at least 512, so all together for half of the
/// default `queue`.
const CLUSTER_PARTITIONS: u32 = 64;

/// The longest time that can be set.
const LONGEST: f64 = 366.0 * 86_400.0;

impl Config {
    /// Reads a file, and the files that it names relative to its directory. An error names the file
    /// and the setting.
    pub fn read(path: &Path) -> Result<Self, String> {
        Self::of(path).map_err(|what| format!("{}: {what}", path.display()))
    }

    fn of(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let file: File = toml::from_str(&text).map_err(|error| in_line(&text, &error))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let name = 1..=64;
        if !name.contains(&file.farm.len()) || !file.farm.bytes().all(is_good) {
            return Err(format!(
                "farm: must be 1 to 64 letters, digits, dots, dashes and underscores, not {:?}",
                file.farm
            ));
        }
        if file.secrets.is_empty() {
            return Err("secrets: must name at least one file".into());
        }
        let mut secrets = Vec::<Secret>::new();
        for secret in &file.secrets {
            let path = folder.join(secret);
            let named = |what: String| format!("secrets: {}: {what}", path.display());
            let secret = Secret::read(&path).map_err(named)?;
            if secrets.iter().any(|other| other.is(&secret)) {
                return Err(named("another file has the same secret".to_owned()));
            }
            secrets.push(secret);
        }
        let session_lifetime = seconds("session_lifetime", file.session_lifetime)?;
        let tombstone_lifetime = match file.tombstone_lifetime {
            None => session_lifetime,
            Some(time) => seconds("tombstone_lifetime", time)?,
        };
        if tombstone_lifetime < session_lifetime {
            // Otherwise a message that is still accepted could bring back a removed session.
            return Err(format!(
                "tombstone_lifetime: must be session_lifetime ({session_lifetime:?}) or longer, not {tombstone_lifetime:?}"
            ));
        }
        let redis = redis(file.redis, folder)?;
        let (most, partitions) = match redis.mode {
            Mode::Cluster => (CLUSTER_PARTITIONS, "partitions with mode = \"cluster\""),
            _ => (4096, "partitions"),
        };
        Ok(Self {
            farm: file.farm,
            redis,
            secrets,
            partitions: within(partitions, file.partitions, 1, most)?,
            max_sessions: within("max_sessions", file.max_sessions, 1, 1 << 40)?,
            session_lifetime,
            tombstone_lifetime,
            queue: within("queue", file.queue, 1, 1 << 24)?,
            ticket_keys: file.ticket_keys.map(ticket_keys).transpose()?,
        })
    }
}

/// The error with its line and setting. It does not repeat the value, which may be a password.
fn in_line(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    let number = 1 + before.matches('\n').count();
    let message = match error.message().rsplit_once(", expected ") {
        Some((before, expected)) if before.starts_with("invalid ") => {
            format!("expected {expected}")
        }
        _ => error.message().to_owned(),
    };
    if message.starts_with("missing field") {
        // The line would be that of the whole table.
        return message;
    }
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let is_name = |setting: &&str| {
        let mut bytes = setting.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    let setting = line.split_once('=').map(|(setting, _)| setting.trim());
    match setting.filter(is_name) {
        Some(setting) => format!("line {number}: {setting}: {message}"),
        None => format!("line {number}: {message}"),
    }
}

fn redis(file: RedisFile, folder: &Path) -> Result<Redis, String> {
    let tls = with_tls(&file.urls)?;
    if !tls && file.ca_file.is_some() {
        return Err("redis.ca_file: allowed only with rediss://".into());
    }
    if file.user.is_some() && file.password_file.is_none() {
        return Err("redis.user: password_file is missing".into());
    }
    if file.sentinel_user.is_some() && file.sentinel_password_file.is_none() {
        return Err("redis.sentinel_user: sentinel_password_file is missing".into());
    }
    let mode = mode(&file.mode, file.service, file.urls.len())?;
    if file.sentinel_password_file.is_some() && !matches!(mode, Mode::Sentinel { .. }) {
        return Err("redis.sentinel_password_file: allowed only with mode = \"sentinel\"".into());
    }
    let ca_file = file.ca_file.map(|path| certificates(&folder.join(path)));
    let ca_file = ca_file.transpose()?;
    Ok(Redis {
        urls: file.urls,
        mode,
        user: file.user,
        password: password("redis.password_file", file.password_file, folder)?,
        sentinel_user: file.sentinel_user,
        sentinel_password: password(
            "redis.sentinel_password_file",
            file.sentinel_password_file,
            folder,
        )?,
        tls,
        ca_file,
        timeout: seconds("redis.timeout", file.timeout)?,
    })
}

/// Whether all URLs begin with `rediss://`. An error does not repeat a URL: there may be a password
/// in it.
fn with_tls(urls: &[String]) -> Result<bool, String> {
    if urls.is_empty() {
        return Err("redis.urls: must have at least one URL".into());
    }
    let mut with_tls = 0;
    for url in urls {
        let wrong = "redis.urls: each must be like redis://host:port or rediss://host:port";
        let info = url.as_str().into_connection_info().map_err(|_| wrong)?;
        with_tls += match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => return Err(wrong.into()),
            ConnectionAddr::TcpTls { .. } => 1,
            _ => 0,
        };
        let settings = info.redis_settings();
        if settings.username().is_some() || settings.password().is_some() {
            return Err(
                "redis.urls: must not contain a user or a password; set user and password_file"
                    .into(),
            );
        }
    }
    if with_tls != 0 && with_tls != urls.len() {
        return Err("redis.urls: all must begin with redis://, or all with rediss://".into());
    }
    Ok(with_tls != 0)
}

fn mode(name: &str, service: Option<String>, urls: usize) -> Result<Mode, String> {
    match (name, service) {
        ("single", None) if urls == 1 => Ok(Mode::Single),
        ("single", None) => {
            Err("redis.urls: must have exactly one URL with mode = \"single\"".into())
        }
        ("cluster", None) => Ok(Mode::Cluster),
        ("sentinel", Some(service)) if service.is_empty() => Err("redis.service: is empty".into()),
        ("sentinel", Some(service)) => Ok(Mode::Sentinel { service }),
        ("sentinel", None) => Err("redis.service: required with mode = \"sentinel\"".into()),
        ("single" | "cluster", Some(_)) => {
            Err("redis.service: allowed only with mode = \"sentinel\"".into())
        }
        (mode, _) => Err(format!(
            "redis.mode: must be \"single\", \"sentinel\" or \"cluster\", not {mode:?}"
        )),
    }
}

/// The PEM of at least one certificate.
fn certificates(path: &Path) -> Result<Vec<u8>, String> {
    let named = |error: &str| format!("redis.ca_file: {}: {error}", path.display());
    let pem = fs::read(path).map_err(|error| named(&error.to_string()))?;
    if X509::stack_from_pem(&pem).is_ok_and(|certificates| !certificates.is_empty()) {
        Ok(pem)
    } else {
        Err(named("must have certificates in PEM"))
    }
}

/// The password in a file.
fn password(
    setting: &str,
    file: Option<PathBuf>,
    folder: &Path,
) -> Result<Option<Zeroizing<String>>, String> {
    let Some(path) = file.map(|file| folder.join(file)) else {
        return Ok(None);
    };
    let named = |what: &str| format!("{setting}: {}: {what}", path.display());
    let content = read_private(&path).map_err(|error| named(&error))?;
    let text = std::str::from_utf8(&content).map_err(|_| named("not UTF-8"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        Err(named("is empty"))
    } else {
        Ok(Some(Zeroizing::new(password.to_owned())))
    }
}

fn ticket_keys(file: TicketKeysFile) -> Result<Times, String> {
    let times = Times {
        rotation: seconds("ticket_keys.rotation", file.rotation)?,
        lifetime: seconds("ticket_keys.lifetime", file.lifetime)?,
        spread: seconds("ticket_keys.spread", file.spread)?,
        lease: seconds("ticket_keys.lease", file.lease)?,
    };
    if times.spread >= times.rotation {
        return Err(format!(
            "ticket_keys.spread: must be shorter than rotation ({:?}), not {:?}",
            times.rotation, times.spread
        ));
    }
    if times.lifetime < times.rotation + times.spread {
        return Err(format!(
            "ticket_keys.lifetime: must be rotation and spread together ({:?}) or longer, not {:?}",
            times.rotation + times.spread,
            times.lifetime
        ));
    }
    if times.lifetime.as_secs_f64() / times.rotation.as_secs_f64() > MAX_KEYS as f64 - 2.0 {
        return Err(format!(
            "ticket_keys.lifetime: must be at most {} rotations of {:?}, not {:?}",
            MAX_KEYS - 2,
            times.rotation,
            times.lifetime
        ));
    }
    Ok(times)
}

fn seconds(setting: &str, value: Seconds) -> Result<Duration, String> {
    let value = match value {
        Seconds::Whole(value) => value as f64,
        Seconds::Parts(value) => value,
    };
    if (0.01..=LONGEST).contains(&value) {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(format!(
            "{setting}: must be a number of seconds, 0.01 to {LONGEST}, not {value}"
        ))
    }
}

fn within<T: PartialOrd + fmt::Display>(
    setting: &str,
    value: T,
    min: T,
    max: T,
) -> Result<T, String> {
    if min <= value && value <= max {
        Ok(value)
    } else {
        Err(format!("{setting}: must be {min} to {max}, not {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use proptest::prelude::*;
    use tssession_test_support::certificate;

    const LEAST: &str =
        "farm = \"a\"\nsecrets = [\"secret\"]\n[redis]\nurls = [\"redis://localhost\"]\n";

    /// Rows of cells with ` => ` between them, and `\\n` for a line break.
    fn rows<const N: usize>(text: &str) -> impl Iterator<Item = [String; N]> {
        text.trim().lines().map(|row| {
            let cells = row
                .trim()
                .split(" => ")
                .map(|cell| cell.replace("\\n", "\n"));
            cells.collect::<Vec<_>>().try_into().unwrap()
        })
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8], mode| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for name in ["secret", "password", "secret-new"] {
            file(name, b"0123456789abcdef0123456789abcdef\n", 0o600);
        }
        file("secret-old", b"fedcba9876543210fedcba9876543210", 0o440);
        file("zeros", &[0; 32], 0o600);
        file("ca.pem", &certificate().0.to_pem().unwrap(), 0o644);
        file("empty", b"", 0o600);
        file("newline", b"\n", 0o600);
        file("short", &[7; 31], 0o600);
        file("long", &[7; 5000], 0o600);
        file("binary", &[0xff; 40], 0o600);
        file("public", &[7; 40], 0o644);
        symlink("secret", folder.path().join("link")).unwrap();
        symlink("public", folder.path().join("link-to-public")).unwrap();
        symlink("nothing", folder.path().join("dangling")).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        folder
    }

    fn read(folder: &tempfile::TempDir, text: &str) -> Result<Config, String> {
        let path = folder.path().join("farm.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path)
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
        // ca_file is allowed only with TLS.
        let all = all.replace("redis://127.0.0.1", "rediss://127.0.0.1");
        let config = read(&folder, &all).unwrap();
        assert_eq!(
            config.redis.password.unwrap().as_str(),
            "0123456789abcdef0123456789abcdef"
        );
        assert!(config.redis.user.is_some() && config.redis.ca_file.is_some());
        let settings = "partitions max_sessions session_lifetime tombstone_lifetime queue mode service \
            user password_file sentinel_user sentinel_password_file ca_file timeout \
            rotation lifetime spread lease";
        for setting in settings.split_whitespace() {
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
        for [line, message] in rows(
            r#"
            partitions = 0 => partitions: must be 1 to 4096, not 0
            partitions = 5000 => partitions: must be 1 to 4096, not 5000
            partitions = "many" => line 1: partitions: expected u32
            partitions = -1 => line 1: partitions: expected u32
            max_sessions = 0 => max_sessions: must be 1 to
            max_sessions = 1e9 => line 1: max_sessions: expected u64
            queue = 0 => queue: must be 1 to 16777216, not 0
            queue = 16777217 => queue: must be 1 to 16777216
            session_lifetime = 0 => session_lifetime: must be a number of seconds
            session_lifetime = -1 => session_lifetime: must be a number of seconds
            session_lifetime = nan => session_lifetime: must be a number of seconds
            session_lifetime = inf => session_lifetime: must be a number of seconds
            session_lifetime = "1d" => line 1: session_lifetime: expected a number of seconds
            tombstone_lifetime = 1e30 => tombstone_lifetime: must be a number of seconds
            tombstone_lifetime = 86399 => tombstone_lifetime: must be session_lifetime (86400s) or longer, not 86399s
            typo = 1 => line 1: typo: unknown field `typo`
            queue = 1\nqueue = 2 => line 2: queue: duplicate key
            queue => line 1: key with no value
            "#,
        ) {
            let error = read(&folder, &format!("{line}\n{LEAST}")).unwrap_err();
            let named = format!("farm.toml: {message}");
            assert!(error.contains(&named), "{line}: {error}");
        }
        for [line, message] in rows(
            r#"
            mode = "many" => redis.mode: must be "single", "sentinel" or "cluster", not "many"
            mode = 1 => line 5: mode: expected a string
            mode = "sentinel" => redis.service: required with mode
            service = "a" => redis.service: allowed only with mode
            mode = "cluster"\nservice = "a" => redis.service: allowed only with mode
            mode = "sentinel"\nservice = "" => redis.service: is empty
            user = "farm" => redis.user: password_file is missing
            password = "x" => line 5: password: unknown field `password`
            password_file = "none" => none: No such file
            password_file = "public" => public: others have access, or the group can write (mode 0644)
            password_file = "empty" => redis.password_file:
            password_file = "newline" => newline: is empty
            password_file = "binary" => binary: not UTF-8
            ca_file = "ca.pem" => redis.ca_file: allowed only with rediss://
            timeout = 0 => redis.timeout: must be a number of seconds
            timeout = true => line 5: timeout: expected a number of seconds
            [ticket_keys]\nspread = 50000 => ticket_keys.spread: must be shorter than rotation (43200s), not 50000s
            [ticket_keys]\nlifetime = 50 => ticket_keys.lifetime: must be rotation and spread together (43260s) or longer, not 50s
            [ticket_keys]\nrotation = 100 => ticket_keys.lifetime: must be at most 198 rotations of 100s, not 129600s
            [ticket_keys]\nlease = 0 => ticket_keys.lease: must be a number of seconds
            [ticket_keys]\nrotations = 1 => line 6: rotations: unknown field
            [ticket_keys]\n[ticket_keys] => line 6:
            [tickets] => unknown field `tickets`
            "#,
        ) {
            let error = read(&folder, &format!("{LEAST}{line}\n")).unwrap_err();
            assert!(error.contains(&message), "{line}: {error}");
        }
        for [from, to, message] in rows(
            r#"
            "a" => "a b" => farm: must be 1 to 64 letters
            "a" => "" => farm: must be 1 to 64 letters
            "a" => "a:0" => farm: must be 1 to 64 letters
            "a" => "a}" => farm: must be 1 to 64 letters
            "a" => "{a" => farm: must be 1 to 64 letters
            "a" => "ä" => farm: must be 1 to 64 letters
            farm = "a" =>  => missing field `farm`
            secrets = ["secret"] =>  => missing field `secrets`
            urls = ["redis://localhost"] =>  => missing field `urls`
            ["secret"] => "secret" => line 2: secrets: expected a sequence
            "secret" =>  => secrets: must name at least one file
            "secret" => "none" => none: No such file
            "secret" => "dangling" => dangling: No such file
            "secret" => "empty" => empty: has 0 bytes; must have 32 or more
            "secret" => "short" => short: has 31 bytes; must have 32 or more
            "secret" => "long" => long: has more than 4096 bytes
            "secret" => "zeros" => zeros: all bytes are equal
            "secret" => "folder" => folder: not a regular file
            "secret" => "public" => public: others have access, or the group can write (mode 0644)
            "secret" => "link-to-public" => others have access, or the group can write (mode 0644)
            "secret" => "secret", "link" => link: another file has the same secret
            "secret" => "secret", "short" => secrets:
            redis://localhost => http://localhost => redis.urls: each must be like redis://
            redis://localhost => localhost:6379 => redis.urls: each must be like redis://
            redis://localhost => rediss://localhost#insecure => redis.urls: each must be like redis://
            redis://localhost => redis://:pass@localhost => redis.urls: must not contain a user or a password
            redis://localhost => redis://me@localhost => redis.urls: must not contain a user or a password
            "redis://localhost" =>  => redis.urls: must have at least one URL
            "redis://localhost" => "redis://a", "redis://b" => redis.urls: must have exactly one URL
            "redis://localhost" => "redis://a", "rediss://b" => redis.urls: all must begin with redis://, or all with rediss://
            "redis://localhost"] => "rediss://a"]\nca_file = "none" => none: No such file
            "redis://localhost"] => "rediss://a"]\nca_file = "secret" => secret: must have certificates in PEM
            "#,
        ) {
            let error = read(&folder, &LEAST.replacen(&from, &to, 1)).unwrap_err();
            assert!(error.contains(&message), "{to}: {error}");
        }
        assert!(Config::read(&folder.path().join("none")).is_err());
        assert!(Config::read(folder.path()).is_err());
        assert!(read(&folder, &LEAST.replacen("\"secret\"", "\"link\"", 1)).is_ok());
    }

    #[test]
    fn a_cluster_has_fewer_partitions() {
        let folder = folder();
        let with = |partitions| {
            let text = format!("partitions = {partitions}\n{LEAST}mode = \"cluster\"\n");
            read(&folder, &text)
        };
        assert_eq!(with(64).unwrap().partitions, 64);
        let error = with(65).unwrap_err();
        let message = "partitions with mode = \"cluster\": must be 1 to 64, not 65";
        assert!(error.ends_with(message), "{error}");
        assert!(read(&folder, &format!("partitions = 4096\n{LEAST}")).is_ok());
    }

    /// Whatever is wrong with the line that has the password.
    #[test]
    fn no_message_has_the_password() {
        let folder = folder();
        for urls in [
            "urls = [\"redis://:geheim@localhost\"]",
            "urls = [\"redis://geheim@localhost\"]",
            "urls = [\"http://u:geheim@localhost\"]",
            "urls = [\"redis://u:geheim@localhost:99999\"]",
            "urls = [\"redis://u:geheim@\"]",
            "urls = \"redis://u:geheim@localhost\"",
            "urls = [[\"redis://u:geheim@localhost\"]]",
            "urls = { a = \"redis://u:geheim@localhost\" }",
            "urls = [\"redis://u:geheim@localhost?a=1\"",
            "urls [\"redis://u:geheim@localhost?a=1\"]",
            "urls = [\"redis://u:geheim@localhost]",
            "urls = ['redis://u:geheim@localhost\"]",
            "urls = [redis://u:geheim@localhost]",
            "\"redis://u:geheim@localhost\"",
            "timeout = \"geheim\"",
            "mode = \"geheim\"",
            "mode = \"geheim",
            "password = \"geheim\"",
            "password = geheim",
        ] {
            let text = LEAST.replace("urls = [\"redis://localhost\"]", urls);
            let error = read(&folder, &text).unwrap_err();
            assert!(!error.contains("geheim"), "{urls}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("farm.toml");
            fs::write(&path, bytes).unwrap();
            prop_assert!(Config::read(&path).is_err());
        }

        /// An example with a mistake in it.
        #[test]
        fn an_example_with_something_else_in_it_is_read_or_refused(
            at in any::<prop::sample::Index>(),
            len in 0usize..20,
            other in "(\\PC|[\n\"'=\\[\\]{}#,.0-9e-]){0,12}",
        ) {
            let example: Vec<char> = include_str!("../farm.example.toml").chars().collect();
            let at = at.index(example.len());
            let rest = &example[(at + len).min(example.len())..];
            let text: String = example[..at].iter().copied().chain(other.chars()).chain(rest.iter().copied()).collect();
            // Neither panics nor waits.
            let _ = read(&folder(), &text);
        }
    }
}
