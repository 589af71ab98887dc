//! Connections to Redis: a single server, one that Sentinels name, or a Cluster.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::cluster::{ClusterClient, ClusterConnection, cluster_pipe};
use redis::{
    Client, Cmd, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode, Value, cmd,
};

use zeroize::Zeroizing;

use crate::config::{Mode, Redis};

/// The shortest and the longest wait before connecting again.
const BACKOFF: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

enum Server {
    Single(Client),
    Sentinel(Sentinels),
    Cluster(ClusterClient),
}

/// Who knows which server is the master. They are asked in turn, each for no longer than a server.
struct Sentinels {
    sentinels: Vec<Client>,
    service: String,
    /// The way to the master, but for its address.
    master: ConnectionInfo,
    certificates: Option<TlsCertificates>,
}

enum Open {
    One(Connection),
    Cluster(Box<ClusterConnection>),
}

/// A connection that one thread uses, and opens again when it fails.
pub struct Link {
    server: Server,
    open: Option<Open>,
    timeout: Duration,
    backoff: Backoff,
    /// Whether the last attempt failed.
    pub is_down: bool,
}

/// How long to wait before the next attempt: longer each time, and for each member and
/// thread a different time, so that they do not come all at once.
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF[0])
    }
}

impl Backoff {
    /// The time to wait after a failure.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(BACKOFF[1]);
        let mut byte = [128];
        // Without random bytes all wait alike, which is no harm.
        let _ = openssl::rand::rand_bytes(&mut byte);
        wait.mul_f32(0.5 + f32::from(byte[0]) / 256.0)
    }
}

impl Link {
    /// Connects when there is need to; only settings that make no sense fail here.
    pub fn new(settings: &Redis) -> RedisResult<Self> {
        Ok(Self {
            server: server(settings)?,
            open: None,
            timeout: settings.timeout,
            backoff: Backoff::default(),
            is_down: false,
        })
    }

    /// Whether commands of different partitions must not be mixed.
    pub fn is_cluster(&self) -> bool {
        matches!(self.server, Server::Cluster(_))
    }

    /// Runs one command, which may itself wait for `blocks` at the server.
    pub fn run<T: FromRedisValue>(&mut self, command: &Cmd, blocks: Duration) -> RedisResult<T> {
        let timeout = self.timeout + blocks;
        let result = match self.connected()? {
            Open::One(connection) => connection
                .set_read_timeout(Some(timeout))
                .and_then(|()| command.query(connection)),
            Open::Cluster(connection) => connection
                .set_read_timeout(Some(timeout))
                .and_then(|()| command.query(&mut **connection)),
        };
        self.checked(result)
    }

    /// Runs commands of one partition together, and returns what each came to: a
    /// [`Value::ServerError`] where Redis has refused.
    pub fn run_all(&mut self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        let timeout = self.timeout;
        let result = match self.connected()? {
            Open::One(connection) => {
                let mut pipe = redis::pipe();
                for command in commands {
                    pipe.add_command(command);
                }
                pipe.ignore_errors();
                connection
                    .set_read_timeout(Some(timeout))
                    .and_then(|()| pipe.query(connection))
                    .and_then(none_gone)
            }
            Open::Cluster(connection) => {
                let mut pipe = cluster_pipe();
                for command in commands {
                    pipe.add_command(command);
                }
                connection
                    .set_read_timeout(Some(timeout))
                    .and_then(|()| pipe.query(connection))
            }
        };
        self.checked(result)
    }

    /// How long to wait before the next attempt, since nothing has worked.
    pub fn next_wait(&mut self) -> Duration {
        self.backoff.next_wait()
    }

    fn connected(&mut self) -> RedisResult<&mut Open> {
        if self.open.is_none() {
            self.open = Some(self.connect()?);
        }
        self.open
            .as_mut()
            .ok_or_else(|| redis::RedisError::from((redis::ErrorKind::Client, "not connected")))
    }

    fn connect(&mut self) -> RedisResult<Open> {
        let timeout = self.timeout;
        match &self.server {
            Server::Single(client) => Ok(Open::One(connect(client, timeout)?)),
            Server::Sentinel(sentinels) => Ok(Open::One(sentinels.connect(timeout)?)),
            Server::Cluster(client) => {
                let connection = client.get_connection()?;
                connection.set_write_timeout(Some(timeout))?;
                Ok(Open::Cluster(Box::new(connection)))
            }
        }
    }

    /// A connection on which something went wrong is not used again, unless Redis merely
    /// answered that it would not: what comes next on it might be the answer to another question.
    fn checked<T>(&mut self, result: RedisResult<T>) -> RedisResult<T> {
        match &result {
            Ok(_) => self.backoff = Backoff::default(),
            Err(error) if is_answer(error) => {}
            Err(_) => self.open = None,
        }
        result
    }
}

/// Whether Redis is there and has refused. One that has become a replica, that is loading, or that
/// waits for the rest of its Cluster is as good as gone: in a moment it may be otherwise.
pub fn is_answer(error: &RedisError) -> bool {
    use redis::ServerErrorKind::{
        Ask, BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain,
    };
    match error.kind() {
        ErrorKind::Server(
            Ask | BusyLoading | ClusterDown | MasterDown | Moved | ReadOnly | TryAgain,
        ) => false,
        ErrorKind::Server(_) | ErrorKind::Extension => true,
        _ => false,
    }
}

/// Fails if one of these says that Redis is as good as gone.
fn none_gone(values: Vec<Value>) -> RedisResult<Vec<Value>> {
    let errors = values.iter().filter_map(|value| match value {
        Value::ServerError(error) => Some(RedisError::from(error.clone())),
        _ => None,
    });
    match { errors }.find(|error| !is_answer(error)) {
        Some(error) => Err(error),
        None => Ok(values),
    }
}

fn connect(client: &Client, timeout: Duration) -> RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(timeout)?;
    connection.set_write_timeout(Some(timeout))?;
    connection.set_read_timeout(Some(timeout))?;
    Ok(connection)
}

impl Sentinels {
    /// Asks one after the other, until one knows a master that says itself that it is one.
    fn connect(&self, timeout: Duration) -> RedisResult<Connection> {
        let mut last =
            RedisError::from((ErrorKind::EmptySentinelList, "no Sentinel is configured"));
        for sentinel in &self.sentinels {
            match self.connect_by(sentinel, timeout) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn connect_by(&self, sentinel: &Client, timeout: Duration) -> RedisResult<Connection> {
        let mut question = cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&self.service);
        let known: Option<(String, u16)> = question.query(&mut connect(sentinel, timeout)?)?;
        let Some((host, port)) = known else {
            let kind = ErrorKind::MasterNameNotFoundBySentinel;
            return Err((kind, "a Sentinel does not know the service").into());
        };
        let address = match self.certificates {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
        };
        let info = self.master.clone().set_addr(address);
        let mut connection = connect(&client(info, self.certificates.as_ref())?, timeout)?;
        // The Sentinel may not have noticed yet that another one is the master now.
        match cmd("ROLE").query(&mut connection)? {
            redis::Role::Primary { .. } => Ok(connection),
            _ => Err((ErrorKind::Client, "the master of the Sentinels is none").into()),
        }
    }
}

/// Redis's clock is believed when it is no further than this from the machine's own. Who rules Redis
/// could otherwise have what was sealed long ago taken for new. Sessions could not be resumed on a
/// machine that is so far off anyway: the times in them are those of the machines.
pub const CLOCK_LEEWAY_MS: u64 = 3_600_000;

/// The clock of Redis, as this process knows it.
pub struct Clock {
    start: Instant,
    /// Milliseconds since 1970 at `start`.
    at_start: AtomicI64,
}

/// Milliseconds since 1970 by this machine's clock.
fn machine_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

impl Default for Clock {
    /// Until Redis has been asked, it is this machine's.
    fn default() -> Self {
        Self {
            start: Instant::now(),
            at_start: AtomicI64::new(machine_ms() as i64),
        }
    }
}

impl Clock {
    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        let at_start = self.at_start.load(Ordering::Relaxed);
        u64::try_from(at_start + self.elapsed_ms() as i64).unwrap_or(0)
    }

    /// Milliseconds since this process began: it never jumps.
    pub fn elapsed_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Redis said that it is so late. The result is by how much it is ahead of this machine; if that
    /// is more than [`CLOCK_LEEWAY_MS`], or less than its negative, the machine's own clock counts.
    pub fn set(&self, redis_ms: u64) -> i64 {
        self.set_at(redis_ms, machine_ms())
    }

    fn set_at(&self, redis_ms: u64, machine_ms: u64) -> i64 {
        let redis_ms = i64::try_from(redis_ms).unwrap_or(i64::MAX);
        let ahead = redis_ms.saturating_sub(machine_ms as i64);
        let now = match is_near(ahead) {
            true => redis_ms,
            false => machine_ms as i64,
        };
        self.at_start
            .store(now - self.elapsed_ms() as i64, Ordering::Relaxed);
        ahead
    }
}

/// Whether a clock that is so far ahead of the machine's is believed.
pub fn is_near(ahead_ms: i64) -> bool {
    ahead_ms.unsigned_abs() <= CLOCK_LEEWAY_MS
}

/// What Redis's clock says, believed or not, in milliseconds since 1970.
pub fn ask_time(link: &mut Link) -> RedisResult<u64> {
    let (seconds, micros): (u64, u64) = link.run(&redis::cmd("TIME"), Duration::ZERO)?;
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}

fn server(settings: &Redis) -> RedisResult<Server> {
    let mut infos = Vec::new();
    for url in &settings.urls {
        infos.push(url.as_str().into_connection_info()?);
    }
    let certificates = settings.tls.then(|| TlsCertificates {
        client_tls: None,
        root_cert: settings.ca_file.clone(),
    });
    let with_own = |info| with_credentials(info, &settings.user, &settings.password);
    Ok(match &settings.mode {
        Mode::Single => {
            let info = with_own(infos.swap_remove(0));
            Server::Single(client(info, certificates.as_ref())?)
        }
        Mode::Sentinel { service } => {
            let master = with_own(infos[0].clone());
            let sentinels = infos.into_iter().map(|info| {
                let (user, password) = (&settings.sentinel_user, &settings.sentinel_password);
                client(
                    with_credentials(info, user, password),
                    certificates.as_ref(),
                )
            });
            Server::Sentinel(Sentinels {
                sentinels: sentinels.collect::<RedisResult<_>>()?,
                service: service.clone(),
                master,
                certificates,
            })
        }
        Mode::Cluster => {
            let infos = infos.into_iter().map(with_own);
            let mut builder = ClusterClient::builder(infos)
                .connection_timeout(settings.timeout)
                .response_timeout(settings.timeout)
                .retries(3);
            if let Some(certificates) = certificates {
                builder = builder.tls(TlsMode::Secure).certs(certificates);
            }
            Server::Cluster(builder.build()?)
        }
    })
}

fn client(info: ConnectionInfo, certificates: Option<&TlsCertificates>) -> RedisResult<Client> {
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates.clone()),
        None => Client::open(info),
    }
}

fn with_credentials(
    info: ConnectionInfo,
    user: &Option<String>,
    password: &Option<Zeroizing<String>>,
) -> ConnectionInfo {
    let mut redis = info.redis_settings().clone();
    if let Some(user) = user {
        redis = redis.set_username(user);
    }
    if let Some(password) = password {
        redis = redis.set_password(password.as_str());
    }
    info.set_redis_settings(redis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answer: &str) -> Value {
        redis::parse_redis_value(format!("{answer}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn who_cannot_answer_now_is_as_good_as_gone() {
        for gone in [
            "-LOADING Redis is loading the dataset in memory",
            "-CLUSTERDOWN The cluster is down",
            "-TRYAGAIN Multiple keys request during rehashing of slot",
            "-READONLY You can't write against a read only replica.",
            "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "-MOVED 3999 127.0.0.1:6381",
        ] {
            let all = vec![said("$3\r\n1-0"), said("-OOM no memory"), said(gone)];
            assert!(none_gone(all).is_err(), "{gone}");
        }
        let refused = vec![
            said("$3\r\n1-0"),
            said("-OOM command not allowed when used memory > 'maxmemory'."),
            said("-NOPERM this user has no permissions to run the 'xadd' command"),
            said("-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ];
        assert_eq!(none_gone(refused.clone()), Ok(refused));
    }

    #[test]
    fn waits_grow_to_a_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] < BACKOFF[0] * 3 / 2);
        assert!(waits[19] >= BACKOFF[1] / 2);
        assert!(waits.iter().all(|wait| *wait <= BACKOFF[1] * 3 / 2));
    }

    #[test]
    fn a_clock_that_is_far_off_is_not_believed() {
        const HERE: u64 = 1_800_000_000_000;
        let clock = Clock::default();
        let leeway = CLOCK_LEEWAY_MS as i64;
        for (ahead, is_believed) in [
            (0, true),
            (600_000, true),
            (-600_000, true),
            (leeway, true),
            (-leeway, true),
            (leeway + 1, false),
            (-leeway - 1, false),
            (-(HERE as i64), false),
        ] {
            let said = HERE.saturating_add_signed(ahead);
            assert_eq!(clock.set_at(said, HERE), ahead);
            let now = if is_believed { said } else { HERE };
            assert!((now..now + 5000).contains(&clock.now_ms()), "{ahead}");
        }
        for said in [u64::MAX, 1 << 63, (1 << 63) - 1] {
            assert!(!is_near(clock.set_at(said, HERE)));
            assert!((HERE..HERE + 5000).contains(&clock.now_ms()), "{said}");
        }
    }
}
