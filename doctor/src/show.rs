//! The report as a table and as JSON.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;

use serde_json::json;

use crate::check::{Case, Plan, Report, Row, TRIES, Verdict};
use crate::tickets::{Format, Tickets};

pub fn json(plan: &Plan, report: &Report) -> String {
    let mut all = serde_json::to_value(report).expect("all keys are words");
    all["version"] = json!(env!("CARGO_PKG_VERSION"));
    let address = |(host, address)| json!({"host": host, "address": address});
    all["addresses"] = plan
        .hosts
        .iter()
        .zip(&plan.addresses)
        .map(address)
        .collect();
    all["server_name"] = json!(plan.name);
    all["tries"] = json!(TRIES);
    format!("{all:#}\n")
}

/// The letter of an address, in the order in which the addresses were given.
fn letter(plan: &Plan, address: SocketAddr) -> char {
    let index = plan.addresses.iter().position(|&other| other == address);
    index.map_or('?', |index| char::from(b'A' + index as u8))
}

pub fn table(plan: &Plan, report: &Report) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        let _ = writeln!(text, "{}", line.trim_end());
    };
    for (host, &address) in plan.hosts.iter().zip(&plan.addresses) {
        line(&format!("{}  {address}  ({host})", letter(plan, address)));
    }
    match &plan.name {
        Some(name) => line(&format!("SNI {name}")),
        None => line("without SNI"),
    }
    line("");
    line(&columns("", "", "full", "resumed", ""));
    let mut last = None;
    for row in &report.rows {
        let kind = row.kind.to_string();
        if last.replace(row.kind) != Some(row.kind) {
            line(&kind);
        }
        let way = format!("{} -> {}", letter(plan, row.from), letter(plan, row.to));
        line(&columns(
            case(row),
            &way,
            &ms(row.full_us),
            &ms(row.resumed_us),
            &verdict(row),
        ));
    }
    if !report.tickets.is_empty() {
        line("");
        line("Tickets");
    }
    for tickets in &report.tickets {
        let at = letter(plan, tickets.address);
        line(&format!(
            "  {:<16} {at}: {}; {}",
            tickets.kind.protocol(),
            lifetimes(tickets),
            keys(tickets)
        ));
    }
    for (kind, agree) in &report.key_names_agree {
        let verb = if *agree { "the same" } else { "NOT the same" };
        line(&format!(
            "  {:<16} the key names are {verb} at all addresses",
            kind.protocol()
        ));
    }
    line("");
    line(&summary(report));
    text
}

fn columns(case: &str, way: &str, full: &str, resumed: &str, verdict: &str) -> String {
    format!("  {case:<32} {way:<6}  {full:>9}  {resumed:>9}  {verdict}")
}

fn case(row: &Row) -> &'static str {
    match (row.case, row.client_certificate) {
        (Case::Plain, _) => "the same client",
        (Case::ClientCertificate, _) => "with the client certificate",
        (Case::HangUp, false) => "after a hang-up",
        (Case::HangUp, true) => "after a hang-up, certificate",
        (Case::OtherAddress, false) => "at another address",
        (Case::OtherAddress, true) => "at another address, certificate",
    }
}

fn ms(time: Option<u64>) -> String {
    time.map_or_else(
        || "-".to_owned(),
        |us| format!("{:.2} ms", us as f64 / 1000.0),
    )
}

fn verdict(row: &Row) -> String {
    let reason = row.reason.as_deref().unwrap_or_default();
    let resumed = row.resumed;
    match row.verdict {
        Verdict::Resumes if row.longest_wait_ms > 0 => {
            format!("resumed, after up to {} ms", row.longest_wait_ms)
        }
        Verdict::Resumes => "resumed".to_owned(),
        Verdict::NotOffered => format!("not offered: {reason}"),
        Verdict::Fails if resumed == 0 => format!("NOT RESUMED: {reason}"),
        Verdict::Fails => format!("RESUMED {resumed} of {TRIES} times: {reason}"),
    }
}

fn lifetimes(tickets: &Tickets) -> String {
    let all: Vec<String> = tickets.lifetimes_s.iter().map(u64::to_string).collect();
    match all.join(", ").as_str() {
        "0" => "no lifetime hint".to_owned(),
        all => format!("lifetime {all} s"),
    }
}

fn keys(tickets: &Tickets) -> String {
    match tickets.format {
        Format::KeyName => format!("key {}", join(&tickets.key_names)),
        Format::Stateful => "no key: they are IDs of sessions that the server keeps".to_owned(),
        Format::Unknown => "no key name: they are of another format".to_owned(),
    }
}

fn join(names: &BTreeSet<String>) -> String {
    names
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

fn summary(report: &Report) -> String {
    let count = |verdict| {
        report
            .rows
            .iter()
            .filter(|row| row.verdict == verdict)
            .count()
    };
    match (count(Verdict::Fails), count(Verdict::Resumes)) {
        (0, 0) => "Nothing resumes.".to_owned(),
        (0, _) => "All that the server offers resumes.".to_owned(),
        (fails, resumes) => format!("{fails} of {} cases do not resume.", fails + resumes),
    }
}
