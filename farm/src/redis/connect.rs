//! A connection to one server.

use std::time::Duration;

use redis::{Client, Connection, ConnectionAddr, ConnectionInfo, RedisResult, TlsCertificates};
use zeroize::Zeroizing;

pub(super) fn client(
    info: ConnectionInfo,
    certificates: Option<&TlsCertificates>,
) -> RedisResult<Client> {
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates.clone()),
        None => Client::open(info),
    }
}

/// The address of an announced server.
pub(super) fn address(host: String, port: u16, tls: bool) -> ConnectionAddr {
    if tls {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

/// Adds user and password. Also leaves out `CLIENT SETINFO`, which a user with the documented
/// permissions is not allowed to call: Redis 7.2 would log a denial for each connection.
pub(super) fn with_credentials(
    info: ConnectionInfo,
    user: &Option<String>,
    password: &Option<Zeroizing<String>>,
) -> ConnectionInfo {
    let mut redis = info.redis_settings().clone().set_skip_set_lib_name();
    if let Some(user) = user {
        redis = redis.set_username(user);
    }
    if let Some(password) = password {
        redis = redis.set_password(password.as_str());
    }
    info.set_redis_settings(redis)
}

pub(super) fn connect(client: &Client, timeout: Duration) -> RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(timeout)?;
    connection.set_write_timeout(Some(timeout))?;
    connection.set_read_timeout(Some(timeout))?;
    Ok(connection)
}
