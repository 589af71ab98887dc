//! Connections to Redis: a single server, one that Sentinels name, or a Cluster.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::cluster::{ClusterClient, ClusterConnection, cluster_pipe};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, Cmd, Connection, ConnectionInfo, FromRedisValue, IntoConnectionInfo, RedisResult,
    TlsCertificates, TlsMode, Value,
};

use crate::config::{Mode, Redis};

/// The shortest and the longest wait before connecting again.
const BACKOFF: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

enum Server {
    Single(Client),
    Sentinel(Box<SentinelClient>),
    Cluster(ClusterClient),
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
    backoff: Duration,
    /// Whether the last attempt failed.
    pub is_down: bool,
}

impl Link {
    /// Connects when there is need to; only settings that make no sense fail here.
    pub fn new(settings: &Redis) -> RedisResult<Self> {
        Ok(Self {
            server: server(settings)?,
            open: None,
            timeout: settings.timeout,
            backoff: BACKOFF[0],
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

    /// Runs commands of one partition together, and returns what each came to.
    pub fn run_all(&mut self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        let timeout = self.timeout;
        let result = match self.connected()? {
            Open::One(connection) => {
                let mut pipe = redis::pipe();
                for command in commands {
                    pipe.add_command(command);
                }
                connection
                    .set_read_timeout(Some(timeout))
                    .and_then(|()| pipe.query(connection))
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

    /// How long to wait before the next attempt: longer each time, and for each member and
    /// thread a different time, so that they do not come all at once.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.backoff;
        self.backoff = (wait * 2).min(BACKOFF[1]);
        let mut byte = [128];
        // Without random bytes all wait alike, which is no harm.
        let _ = openssl::rand::rand_bytes(&mut byte);
        wait.mul_f32(0.5 + f32::from(byte[0]) / 256.0)
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
        let one = |client: &Client| -> RedisResult<Open> {
            let connection = client.get_connection_with_timeout(timeout)?;
            connection.set_write_timeout(Some(timeout))?;
            Ok(Open::One(connection))
        };
        match &mut self.server {
            Server::Single(client) => one(client),
            Server::Sentinel(client) => one(&client.get_client()?),
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
            Ok(_) => self.backoff = BACKOFF[0],
            Err(error) if is_answer(error) => {}
            Err(_) => self.open = None,
        }
        result
    }
}

/// Whether Redis is there and has refused. One that has become a replica is as good as gone.
pub fn is_answer(error: &redis::RedisError) -> bool {
    use redis::{ErrorKind, ServerErrorKind};
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => false,
        ErrorKind::Server(_) | ErrorKind::Extension => true,
        _ => false,
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
        infos.push(with_credentials(
            url.as_str().into_connection_info()?,
            settings,
        ));
    }
    let certificates = || TlsCertificates {
        client_tls: None,
        root_cert: settings.ca_file.clone(),
    };
    Ok(match &settings.mode {
        Mode::Single => {
            let info = infos.swap_remove(0);
            Server::Single(match settings.tls {
                true => Client::build_with_tls(info, certificates())?,
                false => Client::open(info)?,
            })
        }
        Mode::Sentinel { service } => {
            let addresses = infos.iter().map(|info| info.addr().clone());
            let mut builder =
                SentinelClientBuilder::new(addresses, service, SentinelServerType::Master)?;
            if settings.tls {
                builder = builder
                    .set_client_to_redis_tls_mode(TlsMode::Secure)
                    .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                    .set_client_to_redis_certificates(certificates())
                    .set_client_to_sentinel_certificates(certificates());
            }
            if let Some(user) = &settings.user {
                builder = builder.set_client_to_redis_username(user);
            }
            if let Some(password) = &settings.password {
                builder = builder.set_client_to_redis_password(password.as_str());
            }
            if let Some(user) = &settings.sentinel_user {
                builder = builder.set_client_to_sentinel_username(user);
            }
            if let Some(password) = &settings.sentinel_password {
                builder = builder.set_client_to_sentinel_password(password.as_str());
            }
            Server::Sentinel(Box::new(builder.build()?))
        }
        Mode::Cluster => {
            let mut builder = ClusterClient::builder(infos)
                .connection_timeout(settings.timeout)
                .response_timeout(settings.timeout)
                .retries(3);
            if settings.tls {
                builder = builder.tls(TlsMode::Secure).certs(certificates());
            }
            Server::Cluster(builder.build()?)
        }
    })
}

fn with_credentials(info: ConnectionInfo, settings: &Redis) -> ConnectionInfo {
    let mut redis = info.redis_settings().clone();
    if let Some(user) = &settings.user {
        redis = redis.set_username(user);
    }
    if let Some(password) = &settings.password {
        redis = redis.set_password(password.as_str());
    }
    info.set_redis_settings(redis)
}

#[cfg(test)]
mod tests {
    use super::*;

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
