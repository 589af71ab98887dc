//! Ticket keys, and a key set as bytes: the plaintext of a sealed message. `docs/design/farm.md` has the
//! layout.

use zeroize::Zeroizing;

/// A ticket key in the layout of `TSSslTicketKeyUpdate`. Boxed, because moving it, as a vector does
/// when it grows, would leave a copy behind that is not wiped.
pub type KeyBytes = Box<Zeroizing<[u8; 48]>>;

/// A key and its times, by the clock of Redis.
#[derive(Clone)]
pub struct Key {
    /// Name, HMAC secret, AES key.
    pub bytes: KeyBytes,
    /// When it was made.
    pub made_ms: u64,
    /// When it starts to encrypt.
    pub from_ms: u64,
}

/// Bytes of a key in a key set: the key, when it was made, and when it starts to encrypt.
const KEY_LEN: usize = 48 + 8 + 8;

/// Encodes a set, with the number of the lease under which it is written (0 without a lease).
pub fn encode(number: u64, keys: &[Key]) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(9 + keys.len() * KEY_LEN));
    plain.extend_from_slice(&number.to_be_bytes());
    plain.push(keys.len() as u8);
    for key in keys {
        plain.extend_from_slice(key.bytes.as_slice());
        plain.extend_from_slice(&key.made_ms.to_be_bytes());
        plain.extend_from_slice(&key.from_ms.to_be_bytes());
    }
    plain
}

/// Decodes a set; `None` if the bytes are not exactly one set of at least one key.
pub fn decode(plain: &[u8]) -> Option<(u64, Vec<Key>)> {
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
    let keys = rest.chunks_exact(KEY_LEN).map(key).collect::<Option<_>>()?;
    Some((u64::from_be_bytes(*number), keys))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(number: u64, keys in proptest::collection::vec((any::<u8>(), any::<u64>(), any::<u64>()), 1..20)) {
            let keys = keys.into_iter().map(|(byte, made_ms, from_ms)| Key {
                bytes: Box::new(Zeroizing::new([byte; 48])),
                made_ms,
                from_ms,
            });
            let keys: Vec<Key> = keys.collect();
            let plain = encode(number, &keys);
            let (again, decoded) = decode(&plain).unwrap();
            prop_assert_eq!((again, decoded.len()), (number, keys.len()));
            prop_assert_eq!(encode(again, &decoded), plain);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(plain in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some((number, keys)) = decode(&plain) {
                prop_assert_eq!(&*encode(number, &keys), &plain);
            }
        }
    }

    #[test]
    fn a_set_without_keys_is_refused() {
        assert!(decode(&[0; 9]).is_none());
    }
}
