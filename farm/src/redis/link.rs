//! Connections to Redis: a single server, one that Sentinels name, or a Cluster.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterConnection, cluster_pipe};
use redis::{
    Client, Cmd, Connection, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo,
    RedisError, RedisResult, TlsCertificates, TlsMode, Value, cmd,
};

use super::connect::{client, connect, with_credentials};
use super::nodes::Nodes;
use super::sentinels::Sentinels;
use crate::config::{Mode, Redis};

/// The shortest and the longest wait before connecting again.
const BACKOFF: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

enum Server {
    Single(Client),
    Sentinel(Sentinels),
    Cluster(ClusterClient, Nodes),
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
    /// The address that Sentinels named last, unless they failed themselves.
    named: Option<ConnectionAddr>,
    /// Whether the last attempt failed.
    pub is_down: bool,
}

/// The wait before the next attempt: longer each time, and different for each member and thread, so
/// that they do not all come at once.
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
        // Not OpenSSL's: this thread is not inside it, and the process may be ending.
        let random = RandomState::new().hash_one(()) as u8;
        wait.mul_f32(0.5 + f32::from(random) / 256.0)
    }
}

impl Link {
    /// A link that is not connected yet. Fails only if the settings make no sense.
    pub fn new(settings: &Redis) -> RedisResult<Self> {
        Ok(Self {
            server: server(settings)?,
            open: None,
            timeout: settings.timeout,
            backoff: Backoff::default(),
            named: None,
            is_down: false,
        })
    }

    /// The name of the server, for the log line about an error: with its address, if Sentinels or a
    /// Cluster have announced that. For a Cluster this asks for the addresses of the nodes, and each
    /// node for an answer.
    pub fn name(&self) -> String {
        let announced = match &self.server {
            Server::Single(client) => Some(client.get_connection_info().addr().clone()),
            Server::Sentinel(_) => self.named.clone(),
            Server::Cluster(_, nodes) => nodes.unreachable(self.timeout),
        };
        match announced {
            Some(address) => format!("Redis at {address}"),
            None => "Redis".to_owned(),
        }
    }

    /// Whether this is a Cluster: then commands for different partitions must not be mixed.
    pub fn is_cluster(&self) -> bool {
        matches!(self.server, Server::Cluster(..))
    }

    /// Runs one command, which can wait for `blocks` at the server.
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

    /// Runs commands for one partition together, and returns the result of each: a
    /// [`Value::ServerError`] if Redis refused it.
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

    /// Asks for the time of Redis's clock, believed or not, in milliseconds since 1970.
    pub fn ask_time(&mut self) -> RedisResult<u64> {
        let (seconds, micros): (u64, u64) = self.run(&cmd("TIME"), Duration::ZERO)?;
        Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
    }

    /// How long to wait before the next attempt after a failure.
    pub fn next_wait(&mut self) -> Duration {
        self.backoff.next_wait()
    }

    fn connected(&mut self) -> RedisResult<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        Ok(self.open.insert(open))
    }

    fn connect(&mut self) -> RedisResult<Open> {
        let timeout = self.timeout;
        match &self.server {
            Server::Single(client) => Ok(Open::One(connect(client, timeout)?)),
            Server::Sentinel(sentinels) => {
                Ok(Open::One(sentinels.connect(timeout, &mut self.named)?))
            }
            Server::Cluster(client, _) => {
                let connection = client.get_connection()?;
                connection.set_write_timeout(Some(timeout))?;
                Ok(Open::Cluster(Box::new(connection)))
            }
        }
    }

    /// Closes the connection after an error, unless Redis answered with a refusal: the next
    /// answer on it might belong to another command.
    fn checked<T>(&mut self, result: RedisResult<T>) -> RedisResult<T> {
        match &result {
            Ok(_) => self.backoff = Backoff::default(),
            Err(error) if is_answer(error) => {}
            Err(_) => self.open = None,
        }
        result
    }
}

/// Whether Redis is there and has refused. A server that has become a replica, is loading, or waits
/// for the rest of its Cluster counts as gone: it may answer again soon.
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

/// Fails if one of these means that Redis counts as gone.
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
            Server::Sentinel(Sentinels::new(settings, service, infos, certificates)?)
        }
        Mode::Cluster => {
            let infos: Vec<_> = infos.into_iter().map(with_own).collect();
            let mut builder = ClusterClient::builder(infos.clone())
                .connection_timeout(settings.timeout)
                .response_timeout(settings.timeout)
                .retries(3);
            if let Some(certificates) = certificates.clone() {
                builder = builder.tls(TlsMode::Secure).certs(certificates);
            }
            let nodes = Nodes {
                infos,
                certificates,
            };
            Server::Cluster(builder.build()?, nodes)
        }
    })
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
}
