//! The nodes of a Cluster, as it announces them.

use std::time::Duration;

use redis::{Cmd, ConnectionAddr, ConnectionInfo, TlsCertificates, Value, cmd};

use super::connect::{address, client, connect};

/// Finds out which node of a Cluster cannot be reached: the errors of the redis crate do not say that.
pub(super) struct Nodes {
    pub(super) infos: Vec<ConnectionInfo>,
    pub(super) certificates: Option<TlsCertificates>,
}

impl Nodes {
    /// The first of the announced masters that does not answer.
    pub(super) fn unreachable(&self, timeout: Duration) -> Option<ConnectionAddr> {
        let ask = |info: ConnectionInfo, question: &Cmd| {
            let client = client(info, self.certificates.as_ref())?;
            question.query::<Value>(&mut connect(&client, timeout)?)
        };
        let slots = cmd("CLUSTER").arg("SLOTS").to_owned();
        let masters = self.infos.iter().find_map(|info| {
            let answer = ask(info.clone(), &slots).ok()?;
            Some(self.masters(info.addr(), &answer))
        })?;
        masters.into_iter().find(|address| {
            let info = self.infos[0].clone().set_addr(address.clone());
            ask(info, &cmd("PING")).is_err()
        })
    }

    /// The masters in an answer to `CLUSTER SLOTS`. One without a host has that of `asked`.
    fn masters(&self, asked: &ConnectionAddr, answer: &Value) -> Vec<ConnectionAddr> {
        let Value::Array(slots) = answer else {
            return Vec::new();
        };
        let master = |slot: &Value| {
            let Value::Array(slot) = slot else {
                return None;
            };
            let [_, _, Value::Array(node), ..] = &slot[..] else {
                return None;
            };
            let [host, Value::Int(port), ..] = &node[..] else {
                return None;
            };
            let host = match (host, asked) {
                (Value::BulkString(host), _) if !host.is_empty() => {
                    String::from_utf8_lossy(host).into_owned()
                }
                (_, ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. }) => {
                    host.clone()
                }
                _ => return None,
            };
            let tls = self.certificates.is_some();
            Some(address(host, u16::try_from(*port).ok()?, tls))
        };
        slots.iter().filter_map(master).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_the_first_nodes_of_slots() {
        let nodes = Nodes {
            infos: Vec::new(),
            certificates: None,
        };
        let answer = b"*4\r\n\
            *4\r\n:0\r\n:9\r\n*3\r\n$1\r\na\r\n:1\r\n$2\r\nid\r\n*2\r\n$1\r\nb\r\n:2\r\n\
            *3\r\n:10\r\n:19\r\n*2\r\n$0\r\n\r\n:3\r\n\
            *3\r\n:20\r\n:29\r\n*2\r\n$1\r\nc\r\n:65536\r\n\
            *1\r\n:30\r\n";
        let answer = redis::parse_redis_value(answer).unwrap();
        let masters = nodes.masters(&address("asked".into(), 9, false), &answer);
        let masters: Vec<String> = masters.iter().map(ToString::to_string).collect();
        assert_eq!(masters, ["a:1", "asked:3"]);
        assert!(
            nodes
                .masters(&address("x".into(), 9, false), &Value::Nil)
                .is_empty()
        );
    }
}
