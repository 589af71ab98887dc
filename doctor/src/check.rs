//! Makes the visits, and judges what they show.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use openssl::ssl::SslSession;
use serde::Serialize;

use crate::client::{Certificate, Client, Kind, Trouble};
use crate::ticket;
use crate::tickets::{Seen, Tickets};

/// The number of tries for each case: several machines can be behind one address.
pub const TRIES: usize = 5;
/// How long a row waits for sessions to reach the other address: machines exchange them after the
/// handshake.
const SPREAD: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

const FULL_HANDSHAKE: &str = "full handshake: the server does not know the session, or refuses it";

/// What is examined, and how.
pub struct Plan {
    /// The hosts as they were given; `addresses` has the address of each that is visited.
    pub hosts: Vec<String>,
    pub addresses: Vec<SocketAddr>,
    /// The name for SNI.
    pub name: Option<String>,
    pub certificate: Option<Certificate>,
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    Plain,
    ClientCertificate,
    HangUp,
    OtherAddress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Resumes,
    Fails,
    NotOffered,
}

/// One case: sessions made at an address and offered at the same or another one.
#[derive(Serialize)]
pub struct Row {
    pub kind: Kind,
    pub case: Case,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub client_certificate: bool,
    pub verdict: Verdict,
    /// Why the first try that failed did not resume.
    pub reason: Option<String>,
    /// The number of tries in which the server gave a session, and in which it resumed it.
    pub sessions: usize,
    pub resumed: usize,
    /// The time of a handshake: medians, in microseconds.
    pub full_us: Option<u64>,
    pub resumed_us: Option<u64>,
    /// The longest time that a try waited until the other address knew the session.
    pub longest_wait_ms: u64,
}

#[derive(Serialize)]
pub struct Report {
    pub all_resume: bool,
    pub rows: Vec<Row>,
    pub tickets: Vec<Tickets>,
    /// For each kind for which several addresses show key names: whether these are the same.
    pub key_names_agree: BTreeMap<Kind, bool>,
}

/// Makes all visits. Calls `progress` before each row.
pub fn run(plan: &Plan, progress: impl Fn(Kind, SocketAddr, SocketAddr)) -> Result<Report, String> {
    let mut clients = Vec::new();
    for kind in Kind::ALL {
        let client = |certificate| Client::new(kind, certificate, plan.name.clone(), plan.timeout);
        clients.push(client(None).map_err(|error| error.to_string())?);
        if let Some(certificate) = &plan.certificate {
            clients.push(client(Some(certificate)).map_err(|error| error.to_string())?);
        }
    }
    let mut seen = Seen::default();
    let mut rows: Vec<Row> = Vec::new();
    let mut sources = Vec::new();
    for &at in &plan.addresses {
        for kind in Kind::ALL {
            progress(kind, at, at);
            // The first client that gets sessions: the one without a certificate, unless the server
            // requires one.
            let mut source = None;
            for client in clients.iter().filter(|client| client.kind == kind) {
                let case = if client.has_certificate {
                    Case::ClientCertificate
                } else {
                    Case::Plain
                };
                rows.push(row(client, case, at, at, &mut seen));
                if rows[rows.len() - 1].sessions > 0 {
                    source = source.or(Some(client));
                }
            }
            if let Some(client) = source {
                rows.push(row(client, Case::HangUp, at, at, &mut seen));
                sources.push((client, at));
            }
        }
        let here = || rows.iter().filter(|row| row.from == at);
        if here().all(|row| row.full_us.is_none()) {
            let mut reasons: Vec<&str> = here().flat_map(|row| row.reason.as_deref()).collect();
            reasons.dedup();
            return Err(format!("{at}: {}", reasons.join("; ")));
        }
    }
    for (client, from) in sources {
        for &to in plan.addresses.iter().filter(|&&to| to != from) {
            progress(client.kind, from, to);
            rows.push(row(client, Case::OtherAddress, from, to, &mut seen));
        }
    }
    rows.sort_by_key(|row| row.kind);
    let (tickets, key_names_agree) = seen.judge();
    let any = |verdict| rows.iter().any(|row| row.verdict == verdict);
    Ok(Report {
        all_resume: any(Verdict::Resumes) && !any(Verdict::Fails),
        key_names_agree,
        tickets,
        rows,
    })
}

fn row(client: &Client, case: Case, from: SocketAddr, to: SocketAddr, seen: &mut Seen) -> Row {
    let (mut full, mut again) = (Vec::new(), Vec::new());
    let mut sessions = 0;
    let mut trouble = None;
    let (mut waited, mut longest_wait) = (Duration::ZERO, Duration::ZERO);
    'tries: for _ in 0..TRIES {
        let made = match client.visit(from, None, case == Case::HangUp) {
            Ok(made) => made,
            Err(error) => {
                trouble.get_or_insert(error);
                break;
            }
        };
        full.push(made.took);
        let session = match usable(client.kind, made.session) {
            Ok(session) => session,
            Err(why) => {
                trouble.get_or_insert(Trouble::NotOffered(why.to_owned()));
                continue;
            }
        };
        sessions += 1;
        seen.note(client.kind, from, &session);
        let before = waited;
        loop {
            match client.visit(to, Some(&session), false) {
                Ok(visit) if visit.is_resumed => again.push(visit.took),
                Ok(_) if from != to && waited < SPREAD => {
                    thread::sleep(PAUSE);
                    waited += PAUSE;
                    continue;
                }
                Ok(_) => {
                    trouble.get_or_insert(Trouble::Failed(FULL_HANDSHAKE.to_owned()));
                }
                Err(Trouble::NotOffered(why) | Trouble::Failed(why)) => {
                    trouble.get_or_insert(Trouble::Failed(why));
                    break 'tries;
                }
            }
            break;
        }
        longest_wait = longest_wait.max(waited - before);
    }
    let verdict = match trouble {
        None => Verdict::Resumes,
        Some(Trouble::NotOffered(_)) if sessions == 0 => Verdict::NotOffered,
        Some(_) => Verdict::Fails,
    };
    Row {
        kind: client.kind,
        case,
        from,
        to,
        client_certificate: client.has_certificate,
        verdict,
        reason: trouble.map(|(Trouble::NotOffered(why) | Trouble::Failed(why))| why),
        sessions,
        resumed: again.len(),
        full_us: median_us(full),
        resumed_us: median_us(again),
        longest_wait_ms: longest_wait.as_millis() as u64,
    }
}

/// The session, or why it cannot be offered.
fn usable(kind: Kind, session: Option<SslSession>) -> Result<SslSession, &'static str> {
    let is_ticket = kind != Kind::Tls12Id;
    let missing = if is_ticket {
        "the server gave no ticket"
    } else {
        "the server gave no session ID"
    };
    let session = session.ok_or(missing)?;
    if is_ticket && ticket::bytes(&session).is_none() {
        return Err(missing);
    }
    if kind == Kind::Tls13 && ticket::lifetime(&session) == 0 {
        return Err("the server gave a ticket with lifetime 0");
    }
    Ok(session)
}

fn median_us(mut times: Vec<Duration>) -> Option<u64> {
    times.sort();
    times
        .get(times.len() / 2)
        .map(|time| time.as_micros() as u64)
}
