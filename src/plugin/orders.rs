//! The orders that an operator can give while the server runs:
//! `traffic_ctl plugin msg tssession ORDER`.

use std::fmt::Write as _;

use tssession_common::metrics::Numbers;

use super::names::short_name;
use crate::base::session_id::{MAX_LEN, SessionId};
use crate::instance::Instance;
use crate::report::hooks::SessionEvent;
use crate::tls;

const KNOWN: &str = "clear, remove HEX-ID, keys reload, keys rotate, stats, dump-settings, and with \
                     libtssession_farm farm status, farm rotate";

/// The most characters of an order that an answer repeats.
const REPEATED: usize = 100;

/// The farm beside the plugin.
#[derive(Clone, Copy)]
pub struct Farm {
    /// The active ticket keys are the farm's.
    pub gives_keys: bool,
}

/// Carries out an order and returns the answer, one line. `None`: the order is for the farm, which
/// answers it.
pub fn answer(
    instance: &Instance,
    order: &[u8],
    farm: Option<Farm>,
) -> Option<Result<String, String>> {
    let order = String::from_utf8_lossy(order);
    let words: Vec<&str> = order.split_ascii_whitespace().collect();
    let answer = match words[..] {
        ["farm", ..] if farm.is_some() => return None,
        ["clear"] => Ok(clear(instance)),
        ["remove", id] => remove(instance, id),
        ["keys", what @ ("reload" | "rotate")] => change_keys(instance, what, farm)
            .map_err(|why| format!("keys {what}: {why}; the active keys are unchanged")),
        ["stats"] => Ok(stats(instance)),
        ["dump-settings"] => Ok(settings(instance)),
        _ => {
            let order: String = order.chars().take(REPEATED).collect();
            Err(format!(
                "{order:?}: there is no such order; the orders are {KNOWN}"
            ))
        }
    };
    Some(answer)
}

fn clear(instance: &Instance) -> String {
    let entries = instance.sessions.entries();
    instance.sessions.clear();
    format!("clear: discarded sessions: {entries}")
}

fn remove(instance: &Instance, hex: &str) -> Result<String, String> {
    let Some(id) = parse_id(hex) else {
        let hex: String = hex.chars().take(REPEATED).collect();
        return Err(format!(
            "remove {hex:?}: not a session ID of 1 to {MAX_LEN} bytes in hex"
        ));
    };
    let is_removed = instance.sessions.remove(&id);
    // The farm removes it at the other members.
    instance.hooks.fire(SessionEvent::Remove, &id);
    if is_removed {
        Ok(format!("remove {id:?}: the session is removed"))
    } else {
        Err(format!(
            "remove {id:?}: there is no such session in this process"
        ))
    }
}

fn parse_id(hex: &str) -> Option<SessionId> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * MAX_LEN {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = digits
        .chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8));
    SessionId::new(&bytes.collect::<Option<Vec<u8>>>()?)
}

fn change_keys(instance: &Instance, what: &str, farm: Option<Farm>) -> Result<String, String> {
    if !instance.serves_tickets() {
        return Err("tickets are the server's (tssession.session_ticket.mode is 0)".to_owned());
    }
    if farm.is_some_and(|farm| farm.gives_keys) {
        return Err("the farm makes the ticket keys; order farm rotate for a new one".to_owned());
    }
    let count = if what == "reload" {
        instance
            .keys
            .load(None)
            .map_err(|error| error.to_string())?;
        instance
            .keys
            .ring
            .current()
            .as_ref()
            .map_or(0, |keys| keys.count())
    } else {
        let rotated = tls::rotate_ticket_keys(instance).ok_or("OpenSSL has no random bytes")?;
        rotated.map_err(|error| error.to_string())?
    };
    Ok(format!("keys {what}: active keys: {count}"))
}

fn stats(instance: &Instance) -> String {
    let mut line = "stats:".to_owned();
    instance.each_stat(|name, part, value| {
        let _ = write!(line, " {}={value}", short_name(name, part));
    });
    line
}

fn settings(instance: &Instance) -> String {
    let mut line = "dump-settings:".to_owned();
    instance.config.each(|name, value, source| {
        let comma = if line.ends_with(':') { "" } else { "," };
        let _ = write!(line, "{comma} {name} {value} ({source})");
    });
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(order: &[u8]) -> Result<String, String> {
        super::answer(Instance::global(), order, None).unwrap()
    }

    #[test]
    fn an_unknown_order_names_the_known_ones() {
        for order in [
            "",
            "clea",
            "clear all",
            "remove",
            "keys",
            "keys drop",
            "farm status",
            "stats\u{7}",
        ] {
            let error = answer(order.as_bytes()).unwrap_err();
            assert!(
                error.ends_with(KNOWN) && error.starts_with(&format!("{order:?}: ")),
                "{error}"
            );
        }
        let long = answer(&[b'x'; 5000]).unwrap_err();
        assert!(long.len() < 2 * REPEATED + KNOWN.len(), "{long}");
        let other = answer(b"\xff\n").unwrap_err();
        assert!(!other.contains('\n'), "{other}");
        assert!(
            super::answer(
                Instance::global(),
                b"farm status",
                Some(Farm { gives_keys: true })
            )
            .is_none()
        );
    }

    #[test]
    fn only_a_session_id_is_removed() {
        for bad in ["0", "0g", "+1", &"00".repeat(33)] {
            let error = answer(format!("remove {bad}").as_bytes()).unwrap_err();
            assert!(
                error.contains("not a session ID of 1 to 32 bytes in hex"),
                "{error}"
            );
        }
        let absent = answer(b"remove 0Aff").unwrap_err();
        assert_eq!(
            absent,
            "remove 0aff: there is no such session in this process"
        );
    }
}
