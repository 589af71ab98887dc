//! The session ID, checked once at the door and trusted from there on.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The longest session ID TLS allows (RFC 5246, 7.4.1.2).
pub const MAX_LEN: usize = 32;

/// A session ID of 1 to 32 bytes.
///
/// Unused bytes are zero, so equality and hashing work on the whole array.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionId {
    len: u8,
    bytes: [u8; MAX_LEN],
}

impl SessionId {
    /// Copies `bytes`, or returns `None` when there are none or more than 32.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || bytes.len() > MAX_LEN {
            return None;
        }
        let mut id = Self {
            len: bytes.len() as u8,
            bytes: [0; MAX_LEN],
        };
        id.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(id)
    }

    /// The bytes of the ID, without padding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Hash for SessionId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.bytes);
        state.write_u8(self.len);
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
