//! The session ID. It is checked once, when it comes in.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU8;

/// The longest session ID TLS allows (RFC 5246, 7.4.1.2).
pub const MAX_LEN: usize = 32;

/// The same in words.
const WORDS: usize = MAX_LEN / 8;

/// A session ID of 1 to 32 bytes.
///
/// Kept in words, which are compared and hashed. Unused bytes are zero, so all words can be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionId {
    words: [u64; WORDS],
    len: NonZeroU8,
}

impl SessionId {
    /// Copies `bytes`, or returns `None` when there are none or more than 32.
    #[inline]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_LEN {
            return None;
        }
        let len = NonZeroU8::new(bytes.len() as u8)?;
        if let Some(all) = bytes.first_chunk() {
            return Some(Self::from_padded(all, len));
        }
        let mut padded = [0; MAX_LEN];
        padded[..bytes.len()].copy_from_slice(bytes);
        Some(Self::from_padded(&padded, len))
    }

    fn from_padded(padded: &[u8; MAX_LEN], len: NonZeroU8) -> Self {
        Self {
            words: words(padded),
            len,
        }
    }

    /// The bytes of the ID, without padding.
    pub fn as_bytes(&self) -> &[u8] {
        &bytemuck::bytes_of(&self.words)[..usize::from(self.len.get())]
    }

    /// The bytes with their padding.
    #[inline]
    pub(crate) fn padded(&self) -> &[u8; MAX_LEN] {
        bytemuck::cast_ref(&self.words)
    }
}

fn words(bytes: &[u8; MAX_LEN]) -> [u64; WORDS] {
    let (chunks, _) = bytes.as_chunks();
    std::array::from_fn(|at| u64::from_ne_bytes(chunks[at]))
}

impl Hash for SessionId {
    /// The length is left out: at most 32 IDs differ in nothing else.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.words.iter().for_each(|word| state.write_u64(*word));
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_1_to_32() {
        assert!(SessionId::new(&[]).is_none());
        assert!(SessionId::new(&[7]).is_some());
        assert!(SessionId::new(&[7; 32]).is_some());
        assert!(SessionId::new(&[7; 33]).is_none());
    }

    #[test]
    fn trailing_zero_bytes_belong_to_the_id() {
        assert_ne!(SessionId::new(&[1]), SessionId::new(&[1, 0]));
    }

    #[test]
    fn debug_is_hex() {
        let id = SessionId::new(&[0x0a, 0xff]).unwrap();
        assert_eq!(format!("{id:?}"), "0aff");
    }
}
