//! What the tickets of one address have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use openssl::ssl::SslSessionRef;
use serde::Serialize;

use crate::client::Kind;
use crate::ticket;

const SESSION_ID: usize = 32;
/// A ticket of RFC 5077 begins with the name of its key; a vector and a MAC follow.
const KEY_NAME: usize = 16;
const SHORTEST: usize = 64;

/// The tickets of an address.
#[derive(Serialize)]
pub struct Tickets {
    pub kind: Kind,
    pub address: SocketAddr,
    pub count: usize,
    /// In TLS 1.2, 0 means that there is no hint.
    pub lifetimes_s: BTreeSet<u64>,
    pub format: Format,
    pub key_names: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    KeyName,
    /// The ticket is the ID of a session that the server keeps.
    Stateful,
    /// Too short for a key's name, or each ticket begins differently.
    Unknown,
}

/// The tickets of all addresses.
#[derive(Default)]
pub struct Seen(BTreeMap<(Kind, SocketAddr), Tickets>);

impl Seen {
    pub fn note(&mut self, kind: Kind, address: SocketAddr, session: &SslSessionRef) {
        let Some(ticket) = ticket::bytes(session) else {
            return;
        };
        let tickets = self.0.entry((kind, address)).or_insert_with(|| Tickets {
            kind,
            address,
            count: 0,
            lifetimes_s: BTreeSet::new(),
            format: Format::KeyName,
            key_names: BTreeSet::new(),
        });
        tickets.count += 1;
        tickets.lifetimes_s.insert(ticket::lifetime(session));
        match ticket.len() {
            SESSION_ID => tickets.format = Format::Stateful,
            ..SHORTEST => tickets.format = Format::Unknown,
            _ => {
                let name = ticket[..KEY_NAME].iter().map(|byte| format!("{byte:02x}"));
                tickets.key_names.insert(name.collect());
            }
        }
    }

    /// All tickets; and for each kind for which several addresses show key names, whether these are
    /// the same.
    pub fn judge(self) -> (Vec<Tickets>, BTreeMap<Kind, bool>) {
        let mut all: Vec<Tickets> = self.0.into_values().collect();
        for tickets in &mut all {
            // Other formats begin with something else, often at random.
            if tickets.count > 1 && tickets.key_names.len() == tickets.count {
                tickets.format = Format::Unknown;
            }
            if tickets.format != Format::KeyName {
                tickets.key_names.clear();
            }
        }
        let mut agree = BTreeMap::new();
        for tickets in all.chunk_by(|a, b| a.kind == b.kind) {
            let names = &tickets[0].key_names;
            if tickets.len() > 1 && tickets.iter().all(|one| !one.key_names.is_empty()) {
                let same = tickets.iter().all(|one| one.key_names == *names);
                agree.insert(tickets[0].kind, same);
            }
        }
        (all, agree)
    }
}
