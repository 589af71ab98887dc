//! Any bytes as records.config and as records.yaml. Lines are read as by a second, simpler reader. An
//! error names a line of the file. What is accepted is a valid setting.
//!
//! SPDX-License-Identifier: Apache-2.0
#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use libfuzzer_sys::fuzz_target;
use tssession::settings::records::{Format, Problem, Records, RecordsError, parse};
use tssession::settings::table::{Config, Setting, Source};

/// The names and the ranges of numbers.
const NUMBERS: [(&str, i128, i128); 13] = [
    ("proxy.config.ssl.session_cache", 0, 2),
    ("proxy.config.ssl.session_cache.mode", 0, 2),
    ("proxy.config.ssl.session_cache.enabled", 0, 2),
    ("proxy.config.ssl.session_cache.value", 0, 2),
    ("proxy.config.ssl.session_cache.size", 1, 1 << 30),
    ("proxy.config.ssl.session_cache.num_buckets", 1, 65536),
    (
        "proxy.config.ssl.session_cache.skip_cache_on_bucket_contention",
        0,
        1,
    ),
    ("proxy.config.ssl.session_cache.timeout", 0, 0x7fff_ffff),
    ("proxy.config.ssl.session_cache.auto_clear", 0, 1),
    ("proxy.config.ssl.server.session_ticket.enable", 0, 1),
    ("proxy.config.ssl.server.session_ticket.number", 0, 255),
    ("tssession.session_cache.max_session_bytes", 1, 1 << 24),
    ("tssession.session_cache.max_bytes", 0, 1 << 40),
];

const TEXTS: [&str; 2] = [
    "proxy.config.ssl.server.ticket_key.filename",
    "proxy.config.ssl.server.cert.path",
];

#[derive(Debug, PartialEq)]
enum Value {
    Number(i64),
    Text(Option<OsString>),
}

fn value_of(setting: &Setting) -> Value {
    let config = Config::default();
    assert!(config.put(setting.clone(), Source::File, 1));
    if setting.is_number() {
        Value::Number(config.int(setting.record()))
    } else {
        Value::Text(config.text(setting.record()).unwrap())
    }
}

/// The names, as they are written, and values in the lines; or the number of the line that is wrong.
type Read = Result<Vec<(String, Value)>, usize>;

fn read_lines(content: &[u8]) -> Read {
    let mut read = Vec::new();
    let mut line = 1usize;
    let mut rest = content;
    loop {
        let len = rest.iter().position(|byte| *byte == b'\n');
        let this = &rest[..len.unwrap_or(rest.len())];
        if let Some(record) = read_line(this).map_err(|()| line)? {
            read.push(record);
        }
        let Some(len) = len else {
            return Ok(read);
        };
        rest = &rest[len + 1..];
        line += 1;
    }
}

fn is_space(byte: u8) -> bool {
    [b' ', b'\t', b'\r', 0x0c].contains(&byte)
}

fn read_line(line: &[u8]) -> Result<Option<(String, Value)>, ()> {
    let words: Vec<&[u8]> = line
        .split(|byte| is_space(*byte))
        .filter(|word| !word.is_empty())
        .collect();
    let Some(scope) = words.first().filter(|word| word[0] != b'#') else {
        return Ok(None);
    };
    if !["CONFIG", "LOCAL", "PROCESS", "NODE", "CLUSTER", "PLUGIN"]
        .iter()
        .any(|known| known.as_bytes() == *scope)
    {
        return Err(());
    }
    let Some(name) = words.get(1).and_then(|name| str::from_utf8(name).ok()) else {
        return Ok(None);
    };
    let number = NUMBERS.iter().find(|(known, ..)| *known == name);
    if number.is_none() && !TEXTS.contains(&name) {
        return Ok(None);
    }
    // The value is from the fourth word to the last.
    let [kind, first, ..] = words[2..] else {
        return Err(());
    };
    let at = |word: &[u8]| word.as_ptr().addr() - line.as_ptr().addr();
    let last = words[words.len() - 1];
    let text = &line[at(first)..at(last) + last.len()];
    let value = match number {
        Some((_, min, max)) => {
            let commented = words.get(4).is_some_and(|word| word[0] == b'#');
            let number = read_number(if commented { first } else { text }).ok_or(())?;
            if kind != b"INT" || number < *min || number > *max {
                return Err(());
            }
            Value::Number(number as i64)
        }
        None if kind == b"STRING" => {
            let text = (text != b"NULL").then(|| OsString::from_vec(text.to_vec()));
            Value::Text(text)
        }
        None => return Err(()),
    };
    Ok(Some((name.to_owned(), value)))
}

/// Reads a sign, digits and a letter, or hexadecimal digits behind 0x.
fn read_number(text: &[u8]) -> Option<i128> {
    // Unicode spaces, which do not separate words in a line.
    let text = str::from_utf8(text).ok()?.trim();
    let (digits, base, sign, factor) = if let Some(digits) = text.strip_prefix("0x") {
        (digits, 16, 1, 1)
    } else {
        let (digits, factor) = match text.chars().last()? {
            'K' => (&text[..text.len() - 1], 1 << 10),
            'M' => (&text[..text.len() - 1], 1 << 20),
            'G' => (&text[..text.len() - 1], 1 << 30),
            'T' => (&text[..text.len() - 1], 1 << 40),
            _ => (text, 1),
        };
        match digits.as_bytes().first()? {
            b'-' => (&digits[1..], 10, -1, factor),
            b'+' => (&digits[1..], 10, 1, factor),
            _ => (digits, 10, 1, factor),
        }
    };
    if digits.is_empty() {
        return None;
    }
    let mut number = 0i128;
    for digit in digits.chars() {
        number = number * base + i128::from(digit.to_digit(base as u32)?);
        // Enough: this is more than any setting allows.
        number = number.min(1 << 80);
    }
    Some(sign * number * factor)
}

fn check(content: &[u8], format: Format, result: &Result<Records, RecordsError>) {
    let breaks = content.iter().enumerate().filter(|(at, byte)| match byte {
        b'\n' => true,
        b'\r' => format == Format::Yaml && content.get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    let lines = 1 + breaks.count();
    let is_in_file = |line: usize| assert!((1..=lines).contains(&line), "line {line} of {lines}");
    match result {
        Ok(records) => {
            for setting in &records.settings {
                let text = match value_of(setting) {
                    Value::Number(number) => OsString::from(number.to_string()),
                    Value::Text(text) => text.unwrap_or_default(),
                };
                assert_eq!(Setting::parse(setting.name(), &text).as_ref(), Ok(setting));
            }
            for (line, name) in &records.unknown {
                is_in_file(*line);
                assert!(name.split('.').next() == Some("tssession"));
                assert!(Setting::parse(name, OsStr::from_bytes(b"1")).is_err());
            }
        }
        Err(error) => {
            is_in_file(error.line);
            assert!(error.to_string().starts_with(&format!("{}: ", error.line)));
            assert_eq!(
                matches!(error.problem, Problem::NotUtf8),
                error.record.is_none() && error.to_string().ends_with(": not UTF-8")
            );
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let yaml = parse(data, Format::Yaml);
    check(data, Format::Yaml, &yaml);
    let lines = parse(data, Format::Lines);
    check(data, Format::Lines, &lines);

    let expected = read_lines(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data));
    match (expected, lines) {
        (Ok(expected), Ok(Records { settings, .. })) => {
            assert_eq!(settings.len(), expected.len());
            for ((name, value), setting) in expected.iter().zip(&settings) {
                assert_eq!(value_of(setting), *value);
                // All names of the cache's mode mean one record.
                assert!(
                    setting.name() == name
                        || setting.name() == "proxy.config.ssl.session_cache"
                            && NUMBERS[..4].iter().any(|(known, ..)| known == name)
                );
            }
        }
        (expected, lines) => {
            let lines = lines.map(drop).map_err(|error| error.line);
            assert_eq!(expected.map(drop), lines);
        }
    }
});
