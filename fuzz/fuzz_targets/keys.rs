//! Any bytes as ticket data and as a key file. The results are compared with those of simpler code.
//!
//! SPDX-License-Identifier: Apache-2.0
#![no_main]

use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use tssession::ffi::ts::TSSslTicketKeyUpdate;
use tssession::ffi::types::TSReturnCode;
use tssession::instance::Instance;
use tssession::keys::file;
use tssession::keys::ring::{KeyError, KeySet, Layout};
use tssession_fuzz::{check_lines, stat};
use zeroize::Zeroizing;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A key, split into its parts.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    name: [u8; 16],
    hmac: Vec<u8>,
    aes: Vec<u8>,
}

/// The layout of a key: the bytes of each secret, and whether that of AES comes first.
type Order = (usize, bool);

fn cut(bytes: &[u8], (len, aes_first): Order) -> Key {
    let (one, other) = (bytes[16..16 + len].to_vec(), bytes[16 + len..].to_vec());
    let (hmac, aes) = if aes_first {
        (other, one)
    } else {
        (one, other)
    };
    Key {
        name: bytes[..16].try_into().unwrap(),
        hmac,
        aes,
    }
}

/// Returns the keys that must become active, or the reason why none does.
fn expected(data: &[u8], order: Order) -> Result<Vec<Key>, KeyError> {
    let len = 16 + 2 * order.0;
    let mut keys: Vec<Key> = Vec::new();
    for at in 0..data.len() / len {
        let bytes = &data[at * len..(at + 1) * len];
        let key = cut(bytes, order);
        if bytes[16..].iter().all(|byte| *byte == 0) {
            if at == 0 {
                return Err(KeyError::FirstIsBlank);
            }
            continue;
        }
        match keys.iter().find(|earlier| earlier.name == key.name) {
            None => keys.push(key),
            Some(earlier) if *earlier == key => {}
            Some(_) => return Err(KeyError::NameTwice),
        }
    }
    if keys.is_empty() {
        return Err(KeyError::TooShort(len));
    }
    Ok(keys)
}

fn check(set: &KeySet, keys: &[Key]) {
    assert_eq!(set.count(), keys.len());
    for (at, key) in keys.iter().enumerate() {
        let (found, place) = set.find(&key.name).expect("every key decrypts");
        assert_eq!(place, at);
        assert_eq!(found.name(), &key.name);
        assert_eq!(
            (found.hmac_secret(), found.aes_key()),
            (&*key.hmac, &*key.aes)
        );
    }
    assert_eq!(set.first().name(), &keys[0].name);
}

/// Decodes a line of base64.
fn decode(line: &[u8]) -> Option<Vec<u8>> {
    let digits = line.strip_suffix(b"==").or(line.strip_suffix(b"="));
    let digits = digits.unwrap_or(line);
    let mut bits = Vec::new();
    for digit in digits {
        let value = BASE64.iter().position(|known| known == digit)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1));
    }
    let bytes: Vec<u8> = bits
        .chunks_exact(8)
        .map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | *bit as u8))
        .collect();
    // The remaining bits are all zero.
    let whole = line.len().is_multiple_of(4)
        && bytes.len() == line.len() / 4 * 3 - (line.len() - digits.len());
    (whole && bits[bytes.len() * 8..].iter().all(|bit| *bit == 0)).then_some(bytes)
}

/// Returns whether at most one byte in 32 is not UTF-8 text.
fn is_text(content: &[u8]) -> bool {
    let letters = String::from_utf8_lossy(content);
    // Bytes that are not part of a letter are not text, and neither are control characters.
    let of_text = |letter: &char| {
        *letter != char::REPLACEMENT_CHARACTER
            && (!letter.is_control() || letter.is_ascii_whitespace())
    };
    let bytes: usize = letters.chars().filter(of_text).map(char::len_utf8).sum();
    let replacements = content.windows(3).filter(|bytes| *bytes == b"\xef\xbf\xbd");
    let controls = letters
        .chars()
        .filter(|letter| !of_text(letter) && letter.len_utf8() == 2);
    // A control character of two bytes counts only once.
    let text = bytes + 3 * replacements.count() + controls.count();
    content.len() - text <= content.len() / 32
}

/// Returns whether at least half of the two-byte units are ASCII text, in either byte order.
fn is_wide(content: &[u8]) -> bool {
    let count = |at: usize| {
        let units = content.chunks_exact(2);
        units
            .filter(|unit| {
                unit[1 - at] == 0 && matches!(unit[at], b' '..=b'~' | b'\t'..=b'\n' | 0x0c | b'\r')
            })
            .count()
    };
    let units = content.len() / 2;
    units > 0 && (2 * count(0) >= units || 2 * count(1) >= units)
}

/// Returns the keys in a file and their layout, or `None` for other text.
fn read_file(content: &[u8]) -> Option<(Vec<u8>, Order)> {
    let content = match content.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) if is_text(content) => rest,
        _ => content,
    };
    let lines: Vec<&[u8]> = content
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .collect();
    let mut keys: Vec<Vec<u8>> = lines.iter().map_while(|line| decode(line)).collect();
    if keys.len() == lines.len() {
        for len in [48, 80] {
            if !keys.is_empty() && keys.iter().all(|key| key.len() == len) {
                let encrypts = keys.remove(keys.len().saturating_sub(2));
                keys.insert(0, encrypts);
                return Some((keys.concat(), ((len - 16) / 2, true)));
            }
        }
    }
    let has_lines = content.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    let hex = String::from_utf8_lossy(content).replace([' ', ':', '-'], "");
    let is_hex = hex.chars().all(|digit| digit.is_ascii_hexdigit())
        && hex.contains(|digit: char| digit.is_ascii_digit())
        && hex.contains(|digit: char| digit.is_ascii_alphabetic());
    let len = content.len();
    let whole = |len: usize| len.is_multiple_of(48) || len.is_multiple_of(80);
    let is_behind = !whole(len)
        && (content.ends_with(b"\n") && whole(len - 1)
            || content.ends_with(b"\r\n") && whole(len - 2));
    if has_lines && is_text(content) || is_behind || is_hex || is_wide(content) {
        return None;
    }
    let is_long = !len.is_multiple_of(48) && len.is_multiple_of(80);
    Some((content.to_vec(), (if is_long { 32 } else { 16 }, false)))
}

fuzz_target!(|data: &[u8]| {
    static LINES: Once = Once::new();
    LINES.call_once(|| check_lines(true));
    let generation = stat(c"tssession.ticket_keys.generation");
    // A separate copy for C, of exactly this length.
    let mut copy: Box<[u8]> = data.into();
    // SAFETY: the length is that of the bytes.
    let result = unsafe { TSSslTicketKeyUpdate(copy.as_mut_ptr().cast(), copy.len() as _) };
    assert_eq!(&*copy, data);
    let came = stat(c"tssession.ticket_keys.generation") - generation;
    let as_data = expected(data, (16, false));
    match &as_data {
        Ok(keys) => {
            assert_eq!((result, came), (TSReturnCode::TS_SUCCESS, 1));
            let ring = Instance::global().keys.ring.current();
            check(ring.as_ref().expect("there are keys"), keys);
        }
        Err(_) => assert_eq!((result, came), (TSReturnCode::TS_ERROR, 0)),
    }
    let parsed = KeySet::parse(data, Layout::ATS);
    assert_eq!(parsed.map(drop), as_data.map(drop));

    let found = file::keys(Zeroizing::new(data.to_vec())).expect("there is memory");
    match (found, read_file(data)) {
        (None, None) => {}
        (Some((found, layout)), Some((bytes, order))) => {
            assert_eq!(*found, bytes);
            match (KeySet::parse(&found, layout), expected(&bytes, order)) {
                (Ok(set), Ok(keys)) => {
                    check(&set, &keys);
                    assert_eq!(set.tail, bytes.len() % (16 + 2 * order.0));
                }
                (set, keys) => assert_eq!(set.map(drop), keys.map(drop)),
            }
        }
        (found, expected) => panic!("{} keys, not {}", found.is_some(), expected.is_some()),
    }
});
