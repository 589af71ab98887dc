//! Reads the fields of a session's DER without OpenSSL, which has no functions for some of them.

use std::ffi::{c_int, c_long};

/// The tags of a session's fields.
pub mod tag {
    pub const INTEGER: u8 = 0x02;
    pub const OCTET_STRING: u8 = 0x04;
    pub const SEQUENCE: u8 = 0x30;
    pub const TIME: u8 = 0xa1;
    pub const TIMEOUT: u8 = 0xa2;
    pub const PEER: u8 = 0xa3;
    pub const CONTEXT: u8 = 0xa4;
    pub const VERIFY_RESULT: u8 = 0xa5;
    pub const HOST_NAME: u8 = 0xa6;
    pub const FLAGS: u8 = 0xad;
    pub const ALPN: u8 = 0xb0;
    pub const FRAGMENT_LEN: u8 = 0xb1;
    pub const GROUP: u8 = 0xb3;
    pub const RAW_PUBLIC_KEY: u8 = 0xb4;
}

/// What a session says about the client's certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct Peer {
    pub identity: Identity,
    /// OpenSSL's result of verifying it; 0: all is well. DER leaves out a 0. It is also 0 without an
    /// identity.
    pub verify_result: c_int,
}

/// What a client has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    None,
    Certificate,
    RawPublicKey,
}

impl Peer {
    /// `None` for anything but the DER of one session.
    pub fn of(der: &[u8]) -> Option<Self> {
        let mut peer = Self {
            identity: Identity::None,
            verify_result: 0,
        };
        each_field(der, |field, content| match field {
            tag::PEER => peer.identity = Identity::Certificate,
            tag::RAW_PUBLIC_KEY => peer.identity = Identity::RawPublicKey,
            tag::VERIFY_RESULT => {
                let bytes = Reader(content).content(tag::INTEGER).unwrap_or_default();
                // OpenSSL has no larger results, and no verification gives -1.
                peer.verify_result = match *bytes {
                    [low @ ..=0x7f] => low.into(),
                    [high @ ..=0x7f, low] => i32::from(high) << 8 | i32::from(low),
                    _ => -1,
                };
            }
            _ => {}
        })?;
        Some(peer)
    }
}

/// Whether a session has a negative timeout, so that it is over from the start. The decoder of
/// OpenSSL 3.3 and later, which counts nanoseconds, makes a long time of it.
pub fn has_negative_timeout(der: &[u8]) -> bool {
    let mut is_negative = false;
    each_field(der, |field, content| {
        let timeout = || Reader(content).content(tag::INTEGER)?.first();
        is_negative |= field == tag::TIMEOUT && timeout().is_some_and(|first| *first >= 0x80);
    });
    is_negative
}

/// Calls `see` with the tag and the content of each field. Stops at a field that cannot be read, and
/// returns `None`.
fn each_field<'a>(der: &'a [u8], mut see: impl FnMut(u8, &'a [u8])) -> Option<()> {
    let mut fields = Reader(Reader(der).content(tag::SEQUENCE)?);
    while let Some(&field) = fields.0.first() {
        see(field, fields.content(field)?);
    }
    Some(())
}

/// The part of `all` before its tail `rest`.
pub fn before<'a>(all: &'a [u8], rest: &[u8]) -> &'a [u8] {
    &all[..all.len() - rest.len()]
}

/// The part of DER bytes that is still to be read.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next value, which must have this tag, and its length in the shortest form.
    #[inline]
    pub fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&[first, len], rest) = self.0.split_first_chunk()?;
        if first != tag {
            return None;
        }
        if len > 0x7f {
            return self.long_content();
        }
        let (content, rest) = rest.split_at_checked(usize::from(len))?;
        self.0 = rest;
        Some(content)
    }

    /// [`Reader::content`] of more than 127 bytes.
    fn long_content(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = match *self.0.get(1..)? {
            [0x81, len @ 0x80..=0xff, ref rest @ ..] => (usize::from(len), rest),
            [0x82, high @ 1..=0xff, low, ref rest @ ..] => {
                (usize::from(u16::from_be_bytes([high, low])), rest)
            }
            [0x83, high @ 1..=0xff, middle, low, ref rest @ ..] => {
                let len = u32::from_be_bytes([0, high, middle, low]);
                (len as usize, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(content)
    }

    /// A number above 0 in its shortest form, in a value with this tag.
    #[inline]
    pub fn number(&mut self, tag: u8) -> Option<c_long> {
        let bytes = Reader(self.content(tag)?).content(tag::INTEGER)?;
        let shortest = matches!(bytes, [1..=0x7f, ..] | [0, 0x80..=0xff, ..]);
        (shortest && bytes.len() <= size_of::<c_long>()).then(|| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | c_long::from(*byte))
        })
    }
}
