//! What is inside a sealed message. `docs/farm.md` has the layout.

use zeroize::Zeroizing;

use crate::keys::plan::{Key, KeySet};

/// Bytes of a key in a key set: those of the key, when it was made, and from when it encrypts.
const KEY_LEN: usize = 48 + 8 + 8;

/// A session: its ID and its DER bytes.
pub fn encode_session(id: &[u8], der: &[u8]) -> Zeroizing<Vec<u8>> {
    // Of the right size at once: a vector that grows leaves a copy behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(1 + id.len() + der.len()));
    plain.push(id.len() as u8);
    plain.extend_from_slice(id);
    plain.extend_from_slice(der);
    plain
}

/// A removal.
pub fn encode_removal(id: &[u8]) -> Zeroizing<Vec<u8>> {
    encode_session(id, &[])
}

/// ID and DER bytes. `None` for an ID that is none, and no DER bytes.
pub fn decode_session(plain: &[u8]) -> Option<(&[u8], &[u8])> {
    let (id, der) = split(plain)?;
    (!der.is_empty()).then_some((id, der))
}

/// The ID of what was removed.
pub fn decode_removal(plain: &[u8]) -> Option<&[u8]> {
    let (id, rest) = split(plain)?;
    rest.is_empty().then_some(id)
}

fn split(plain: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = plain.split_first()?;
    (1..=32)
        .contains(&len)
        .then(|| rest.split_at_checked(len.into()))?
}

/// A key set.
pub fn encode_key_set(set: &KeySet) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(9 + set.keys.len() * KEY_LEN));
    plain.extend_from_slice(&set.number.to_be_bytes());
    plain.push(set.keys.len() as u8);
    for key in &set.keys {
        plain.extend_from_slice(key.bytes.as_slice());
        plain.extend_from_slice(&key.made_ms.to_be_bytes());
        plain.extend_from_slice(&key.from_ms.to_be_bytes());
    }
    plain
}

/// `None` if it is not exactly one key set of at least one key.
pub fn decode_key_set(plain: &[u8]) -> Option<KeySet> {
    let (number, rest) = plain.split_first_chunk()?;
    let (&count, rest) = rest.split_first()?;
    if count == 0 || rest.len() != usize::from(count) * KEY_LEN {
        return None;
    }
    let key = |bytes: &[u8]| {
        let (key, times) = bytes.split_first_chunk()?;
        let (made, from) = times.split_first_chunk()?;
        Some(Key {
            bytes: Box::new(Zeroizing::new(*key)),
            made_ms: u64::from_be_bytes(*made),
            from_ms: u64::from_be_bytes(from.try_into().ok()?),
        })
    };
    Some(KeySet {
        number: u64::from_be_bytes(*number),
        keys: rest.chunks_exact(KEY_LEN).map(key).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            id in proptest::collection::vec(any::<u8>(), 1..=32),
            der in proptest::collection::vec(any::<u8>(), 1..300),
        ) {
            let plain = encode_session(&id, &der);
            prop_assert_eq!(decode_session(&plain), Some((&id[..], &der[..])));
            prop_assert_eq!(decode_removal(&plain), None);
            let plain = encode_removal(&id);
            prop_assert_eq!(decode_removal(&plain), Some(&id[..]));
            prop_assert_eq!(decode_session(&plain), None);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(plain in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some((id, der)) = decode_session(&plain) {
                prop_assert_eq!(&*encode_session(id, der), &plain);
            }
            if let Some(set) = decode_key_set(&plain) {
                prop_assert_eq!(&*encode_key_set(&set), &plain);
            }
        }

        #[test]
        fn key_sets_are_decoded(number: u64, keys in proptest::collection::vec((any::<u8>(), any::<u64>(), any::<u64>()), 1..20)) {
            let keys = keys.into_iter().map(|(byte, made_ms, from_ms)| Key {
                bytes: Box::new(Zeroizing::new([byte; 48])),
                made_ms,
                from_ms,
            });
            let set = KeySet { number, keys: keys.collect() };
            let plain = encode_key_set(&set);
            let again = decode_key_set(&plain).unwrap();
            prop_assert_eq!(again.number, number);
            prop_assert_eq!(encode_key_set(&again), plain);
        }
    }

    #[test]
    fn what_is_not_exactly_one_is_refused() {
        for plain in [
            &b""[..],
            b"\x00der",
            b"\x21aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaader",
            b"\x04abc",
        ] {
            assert_eq!(decode_session(plain), None);
            assert_eq!(decode_removal(plain), None);
        }
        assert!(decode_key_set(&[0; 9]).is_none());
    }
}
