//! A session or a removal as bytes: the plaintext of a sealed message. `docs/design/farm.md` has
//! the layout.

use zeroize::Zeroizing;

/// Encodes a session: its ID and its DER bytes.
pub fn encode_session(id: &[u8], der: &[u8]) -> Zeroizing<Vec<u8>> {
    // Of the right size at once: a vector that grows leaves a copy behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(1 + id.len() + der.len()));
    plain.push(id.len() as u8);
    plain.extend_from_slice(id);
    plain.extend_from_slice(der);
    plain
}

/// Encodes a removal.
pub fn encode_removal(id: &[u8]) -> Zeroizing<Vec<u8>> {
    encode_session(id, &[])
}

/// The ID and the DER bytes. `None` if the ID is not valid or there are no DER bytes.
pub fn decode_session(plain: &[u8]) -> Option<(&[u8], &[u8])> {
    let (id, der) = split(plain)?;
    (!der.is_empty()).then_some((id, der))
}

/// The ID of the removed session. `None` if it is not valid or bytes follow it.
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
    }
}
