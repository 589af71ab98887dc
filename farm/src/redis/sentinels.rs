//! Sentinels, which know the master.

use std::time::Duration;

use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult,
    TlsCertificates, cmd,
};

use super::connect::{address, client, connect, with_credentials};
use crate::config::Redis;

/// Servers that know which server is the master. They are asked in turn, with the same timeout as the
/// master.
pub(super) struct Sentinels {
    sentinels: Vec<Client>,
    service: String,
    /// How to connect to the master, without its address.
    master: ConnectionInfo,
    certificates: Option<TlsCertificates>,
}

impl Sentinels {
    pub(super) fn new(
        settings: &Redis,
        service: &str,
        infos: Vec<ConnectionInfo>,
        certificates: Option<TlsCertificates>,
    ) -> RedisResult<Self> {
        let master = with_credentials(infos[0].clone(), &settings.user, &settings.password);
        let sentinels = infos.into_iter().map(|info| {
            let (user, password) = (&settings.sentinel_user, &settings.sentinel_password);
            client(
                with_credentials(info, user, password),
                certificates.as_ref(),
            )
        });
        Ok(Self {
            sentinels: sentinels.collect::<RedisResult<_>>()?,
            service: service.to_owned(),
            master,
            certificates,
        })
    }

    /// Asks one after the other, until one names a server that confirms that it is the master.
    /// `named` becomes the address of the last server that was named.
    pub(super) fn connect(
        &self,
        timeout: Duration,
        named: &mut Option<ConnectionAddr>,
    ) -> RedisResult<Connection> {
        let mut last =
            RedisError::from((ErrorKind::EmptySentinelList, "no Sentinel is configured"));
        for sentinel in &self.sentinels {
            *named = None;
            match self.connect_by(sentinel, timeout, named) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn connect_by(
        &self,
        sentinel: &Client,
        timeout: Duration,
        named: &mut Option<ConnectionAddr>,
    ) -> RedisResult<Connection> {
        let mut question = cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&self.service);
        let known: Option<(String, u16)> = question.query(&mut connect(sentinel, timeout)?)?;
        let Some((host, port)) = known else {
            let kind = ErrorKind::MasterNameNotFoundBySentinel;
            return Err((kind, "a Sentinel does not know the service").into());
        };
        let address = address(host, port, self.certificates.is_some());
        *named = Some(address.clone());
        let info = self.master.clone().set_addr(address);
        let mut connection = connect(&client(info, self.certificates.as_ref())?, timeout)?;
        // The Sentinel may not have noticed yet that another server is the master now.
        match cmd("ROLE").query(&mut connection)? {
            redis::Role::Primary { .. } => Ok(connection),
            _ => Err((ErrorKind::Client, "the Sentinels name a replica").into()),
        }
    }
}
