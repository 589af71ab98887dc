//! Any bytes as ticket data and as a file of keys, beside a plain reading of both.
//!
//! SPDX-License-Identifier: Apache-2.0
#![no_main]

use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use tssession::ffi::ts::TSSslTicketKeyUpdate;
use tssession::ffi::types::TSReturnCode;
use tssession::keys::file;
use tssession::instance::Instance;
use tssession::keys::ring::{KeyError, KeySet, Layout};
use tssession_fuzz::{check_lines, stat};
use zeroize::Zeroizing;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A key, taken apart.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    name: [u8; 16],
    hmac: Vec<u8>,
    aes: Vec<u8>,
}

/// Where things are in a key: bytes of each secret, and whether that of AES comes first.
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

/// The keys that come into force, or why none do.
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

/// The bytes of a line of base64.
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
    // What is left over is nothing but zeros.
    let whole = line.len().is_multiple_of(4)
        && bytes.len() == line.len() / 4 * 3 - (line.len() - digits.len());
    (whole && bits[bytes.len() * 8..].iter().all(|bit| *bit == 0)).then_some(bytes)
}

/// The run of keys in a file, and their order; `None` for text that is none.
fn read_file(content: &[u8]) -> Option<(Vec<u8>, Order)> {
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
    let is_text = |byte: &u8| matches!(byte, b'!'..=b'~' | b' ' | b'\t' | b'\n' | b'\r' | 0x0c);
    let len = content.len();
    if !len.is_multiple_of(48) && content.contains(&b'\n') && content.iter().all(is_text) {
        return None;
    }
    let secret = if !len.is_multiple_of(48) && len.is_multiple_of(80) {
        32
    } else {
        16
    };
    Some((content.to_vec(), (secret, false)))
}

fuzz_target!(|data: &[u8]| {
    static LINES: Once = Once::new();
    LINES.call_once(|| check_lines(true));
    let generation = stat(c"tssession.ticket_keys.generation");
    // Of C's own, and as long as is said.
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
