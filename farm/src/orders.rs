//! The orders that an operator can give while the farm runs.

#![forbid(unsafe_code)]

use tssession_common::metrics::Numbers as _;

use crate::counters::Counter;
use crate::host::log::Level;
use crate::member::Member;
use crate::start;

/// Carries out an order and returns the answer, one line; `None`: the answer is logged later.
pub fn answer(words: &[&str]) -> Option<(Level, String)> {
    let done = match words {
        ["status"] => start::member()
            .map(|member| Some(status(member)))
            .map_err(str::to_owned),
        ["rotate"] => start::member()
            .map_err(str::to_owned)
            .and_then(rotate)
            .map(|()| None),
        _ => Err("there is no such order; the orders are farm status, farm rotate".to_owned()),
    };
    match done {
        Ok(line) => line.map(|line| (Level::Note, line)),
        Err(why) => {
            let order: String = words.join(" ").chars().take(100).collect();
            Some((Level::Error, format!("farm {order}: {why}")))
        }
    }
}

/// One line about a member.
pub fn status(member: &Member) -> String {
    let value = |counter| member.counters.value(counter);
    let keys = if member.config.ticket_keys.is_none() {
        "ticket keys are not shared".to_owned()
    } else if value(Counter::Leader) == 1 {
        format!("this member leads ({:?})", member.leader())
    } else {
        match member.leader() {
            leader if leader.is_empty() => "no member leads".to_owned(),
            leader => format!("{leader:?} leads"),
        }
    };
    let age = match member.config.ticket_keys {
        None => String::new(),
        Some(_) => format!("key set {} s old; ", value(Counter::KeySetAgeMs) / 1000),
    };
    let redis =
        ["Redis does not answer", "Redis answers"][usize::from(value(Counter::RedisUp) == 1)];
    let refused = member
        .counters
        .stat("plugin.tssession_farm.refused")
        .unwrap_or(0);
    format!(
        "farm status: farm {}: {keys}; {redis}; {age}published {}, dropped {}, received {}, \
         inserted {}, removed {}, refused {refused}; lag {} ms",
        member.config.farm,
        value(Counter::Published),
        value(Counter::Dropped),
        value(Counter::Received),
        value(Counter::Inserted),
        value(Counter::Removed),
        value(Counter::LagMs),
    )
}

/// Orders a new ticket key from the keeper, if this member leads. The keeper logs the answer.
pub fn rotate(member: &Member) -> Result<(), String> {
    if member.config.ticket_keys.is_none() {
        return Err("ticket keys are not shared: the settings have no [ticket_keys]".to_owned());
    }
    if member.counters.value(Counter::Leader) == 1 {
        member.ask_for_rotation();
        return Ok(());
    }
    Err(match member.leader() {
        leader if leader.is_empty() => "no member leads: no key is made".to_owned(),
        leader => format!("{leader:?} leads: no key is made here"),
    })
}
