//! The address of a server, as it is written on the command line.

use std::net::{Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

pub const HTTPS: u16 = 443;

/// `HOST[:PORT]`; an IPv6 address with a port is in brackets.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub host: String,
    pub port: u16,
}

impl Place {
    pub fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = if text.parse::<Ipv6Addr>().is_ok() {
            (text, None)
        } else if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            match rest {
                "" => (host, None),
                _ => (host, Some(rest.strip_prefix(':')?)),
            }
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
        (!host.is_empty() && port != 0).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }

    /// Returns the first of its addresses that accepts a connection.
    pub fn connect(&self, timeout: Duration) -> Result<SocketAddr, String> {
        let failed = |error| {
            format!(
                "cannot connect to {}, port {}: {error}",
                self.host, self.port
            )
        };
        let mut last = None;
        for address in (&*self.host, self.port).to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(_) => return Ok(address),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| format!("{} has no address", self.host), failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_place() {
        for (text, host, port) in [
            ("a.example", "a.example", 443),
            ("a.example:8443", "a.example", 8443),
            ("192.0.2.1:1", "192.0.2.1", 1),
            ("::1", "::1", 443),
            ("[::1]", "::1", 443),
            ("[::1]:8443", "::1", 8443),
        ] {
            let host = host.to_owned();
            assert_eq!(
                Place::parse(text, HTTPS),
                Some(Place { host, port }),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_none() {
        for text in [
            "", ":443", "a:", "a:0", "a:65536", "a:b", "a:1:2", "[::1", "[::1]1", "[a]:1", "[]",
        ] {
            assert_eq!(Place::parse(text, HTTPS), None, "{text}");
        }
    }
}
