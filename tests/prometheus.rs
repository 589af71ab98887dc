//! The alert rules for Prometheus name only counters that exist, under each name that they can have in
//! Prometheus. `make prometheus-test` tests whether the alerts fire.

use std::collections::{BTreeMap, BTreeSet};

use tssession::report::counters::METRICS;
use tssession_common::metrics::Value;

const RULES: &str = include_str!("../packaging/prometheus/tssession.rules.yml");
const TESTS: &str = include_str!("../packaging/prometheus/tssession.test.yml");
const FARM: &str = include_str!("../farm/src/counters.rs");

/// A metric, with its names in Prometheus.
struct Metric {
    /// The name in the library's text.
    in_text: String,
    /// The name as a metric of Traffic Server.
    in_ats: String,
    parts: Vec<&'static str>,
}

impl Metric {
    fn new(name: &str, parts: Vec<&'static str>) -> Self {
        let rest = name.strip_prefix("proxy.process.ssl.");
        let in_ats = match rest.or(name.strip_prefix("tssession.")) {
            Some(rest) => format!("plugin.tssession.{rest}"),
            None => name.to_owned(),
        };
        Self {
            in_text: name.replace('.', "_"),
            in_ats: in_ats.replace('.', "_"),
            parts,
        }
    }

    /// Returns whether a word of an expression names this metric. A word that ends in `_` is followed
    /// by a pattern for the parts.
    fn is_named(&self, word: &str) -> bool {
        let part = word.strip_prefix(&self.in_ats);
        let part = part.and_then(|rest| rest.strip_prefix('_'));
        word == self.in_text
            || word == self.in_ats
            || part.is_some_and(|part| {
                self.parts.contains(&part) || part.is_empty() && !self.parts.is_empty()
            })
    }
}

/// Returns the string literals in Rust code.
fn literals(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split('"').skip(1).step_by(2)
}

fn metrics() -> Vec<Metric> {
    let mut all: Vec<Metric> = METRICS
        .iter()
        .map(|metric| {
            let parts = match metric.value {
                Value::ByLabel(_, parts) => parts.iter().map(|part| part.0).collect(),
                _ => Vec::new(),
            };
            Metric::new(metric.name, parts)
        })
        .collect();
    // Rows of the farm's table are NAME = VALUE, HELP; a VALUE with parts begins with the label.
    let (_, table) = FARM.split_once("metrics! {").unwrap();
    let (table, _) = table.split_once("\n};").unwrap();
    all.extend(table.split(";\n").filter_map(|row| {
        let mut literals: Vec<_> = literals(row).collect();
        literals.pop()?;
        let parts = literals.iter().skip(2).copied().collect();
        Some(Metric::new(literals[0], parts))
    }));
    all
}

/// Returns the names and expressions of the rules of a kind, `record` or `alert`.
fn rules(kind: &str) -> BTreeMap<&'static str, &'static str> {
    let rules = RULES.split("\n  - ").filter_map(|rule| {
        let (name, rest) = rule
            .strip_prefix(kind)?
            .strip_prefix(": ")?
            .split_once('\n')?;
        let expression = rest.split_once("expr: ")?.1;
        let end = ["\n    for:", "\n    labels:", "\n  #", "\n\n"];
        let ends = end.iter().filter_map(|end| expression.find(end));
        Some((name, &expression[..ends.min().unwrap_or(expression.len())]))
    });
    rules.collect()
}

fn words(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.contains("tssession") || word.starts_with("proxy"))
}

#[test]
fn the_rules_name_counters_that_exist() {
    let metrics = metrics();
    let records = rules("record");
    let alerts = rules("alert");
    assert_eq!(RULES.matches("expr:").count(), records.len() + alerts.len());
    for (name, expression) in records.iter().chain(&alerts) {
        let named: BTreeSet<_> = words(expression).collect();
        assert!(!named.is_empty(), "{name}: {expression}");
        for word in &named {
            let exists = records.contains_key(word) || metrics.iter().any(|m| m.is_named(word));
            assert!(exists, "{name} names {word}, which does not exist");
        }
        // A rule uses both names of a metric, or neither.
        for metric in &metrics {
            let in_ats = |word: &&&str| metric.is_named(word) && **word != metric.in_text;
            let in_text = named.contains(metric.in_text.as_str());
            assert!(
                metric.in_text == metric.in_ats
                    || in_text == named.iter().any(|word| in_ats(&word)),
                "{name} names {} in one way only",
                metric.in_text
            );
        }
    }
}

#[test]
fn the_causes_in_the_rules_exist() {
    let metrics = metrics();
    let records = rules("record");
    let mut causes = 0;
    for (name, expression) in rules("alert") {
        for (before, after) in expression.match_indices("{cause=\"").map(|(at, sign)| {
            let (before, after) = expression.split_at(at);
            (before, &after[sign.len()..])
        }) {
            let record = before.rsplit(['(', ' ']).next().unwrap();
            let cause = after.split('"').next().unwrap();
            // A ratio has the causes of the record that it is computed from.
            let record = record.strip_suffix(":ratio10m").unwrap_or(record);
            let mut sources = words(records[record]);
            let has_it = sources.any(|word| {
                let source = metrics.iter().find(|metric| metric.in_text == word);
                source.is_some_and(|metric| metric.parts.contains(&cause))
            });
            assert!(has_it, "{name}: {record} has no cause {cause}");
            causes += 1;
        }
    }
    assert!(causes > 0);
}

#[test]
fn every_rule_is_tested() {
    for alert in rules("alert").keys() {
        assert!(TESTS.contains(&format!("alertname=\"{alert}\"")), "{alert}");
    }
    let records = rules("record");
    for record in records.keys().filter(|name| name.matches(':').count() == 1) {
        assert!(TESTS.contains(&format!("\"{record}\"")), "{record}");
    }
}
