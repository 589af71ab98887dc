//! The messages in Redis: AES-256-SIV under keys that HKDF derives from a file. This module implements
//! "Protocol" in `docs/design/farm.md`.

#![forbid(unsafe_code)]

pub mod secret;

use std::collections::HashMap;
use std::fmt;

use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::{CipherCtx, CipherCtxRef};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::{PKey, Private};
use openssl::rand::rand_bytes;
use openssl::sign::Signer;
use zeroize::Zeroizing;

use crate::host::gate;
use secret::Secret;

/// How far in the future the time of a message can be; a later one is refused. So nothing is lost if
/// Redis's clock goes back by this much, or if that of the server after a failover is behind. A
/// tombstone lives this much longer than a session, or such a message could outlive it.
pub const AHEAD_MS: u64 = 3_600_000;

const VERSION: u8 = 2;
const HEADER_LEN: usize = 70;
const TAG_LEN: usize = 16;
/// The most bytes of a message. No member seals more. Without a limit, an attacker who can write to
/// Redis could use up the memory of members.
pub const SEALED_MAX: usize = 1 << 20;
/// The most senders that an [`Opener`] has keys and counters of.
const SENDERS: usize = 1024;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A session, which is to be inserted.
    Session = 1,
    /// The ID of a session that is to be removed.
    Removal = 2,
    /// The ticket keys of the farm.
    KeySet = 3,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Session, Self::Removal, Self::KeySet]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Random bytes that a member draws once, when it starts.
pub type SenderId = [u8; 16];

/// The name and the key that are derived from a secret for one farm.
struct Keys {
    name: [u8; 4],
    id_key: PKey<Private>,
}

impl Keys {
    fn new(farm: &str, secret: &Secret) -> Result<Self, ErrorStack> {
        let mut name = [0; 4];
        secret.derive(&[], [b"tssession-farm 2 name", &[]], &mut name)?;
        let mut id_key = Zeroizing::new([0; 32]);
        let info = [&b"tssession-farm 2 id"[..], farm.as_bytes()];
        secret.derive(&[], info, &mut *id_key)?;
        let id_key = PKey::hmac(&*id_key)?;
        Ok(Self { name, id_key })
    }

    fn subject(&self, id: &[u8]) -> Result<[u8; 32], ErrorStack> {
        let mut subject = [0; 32];
        Signer::new(MessageDigest::sha256(), &self.id_key)?.sign_oneshot(&mut subject, id)?;
        Ok(subject)
    }
}

/// Prepares a context for encrypting or for decrypting, with a cipher and its key.
type Init = fn(
    &mut CipherCtxRef,
    Option<&CipherRef>,
    Option<&[u8]>,
    Option<&[u8]>,
) -> Result<(), ErrorStack>;

/// A context with the key of a sender's messages, which `init` prepares.
fn cipher(
    farm: &str,
    secret: &Secret,
    sender: &SenderId,
    init: Init,
) -> Result<CipherCtx, ErrorStack> {
    let mut key = Zeroizing::new([0; 64]);
    let info = [&b"tssession-farm 2 seal"[..], farm.as_bytes()];
    secret.derive(sender, info, &mut *key)?;
    let siv = Cipher::fetch(None, "AES-256-SIV", None)?;
    let mut cipher = CipherCtx::new()?;
    init(&mut cipher, Some(&siv), Some(&*key), None)?;
    Ok(cipher)
}

/// A context for one message: OpenSSL uses one of SIV only once.
fn for_one(cipher: &CipherCtx) -> Result<CipherCtx, ErrorStack> {
    let mut copy = CipherCtx::new()?;
    copy.copy(cipher)?;
    Ok(copy)
}

/// Makes messages, as one sender.
pub struct Sealer {
    farm: String,
    keys: Keys,
    sender: SenderId,
    cipher: CipherCtx,
    next: Option<u64>,
}

impl Sealer {
    /// A sealer with a new sender.
    pub fn new(farm: &str, secret: &Secret) -> Result<Self, ErrorStack> {
        let mut sender = [0; 16];
        rand_bytes(&mut sender)?;
        Self::with_sender(farm, secret, sender)
    }

    /// Private: receivers would take the messages of a second sealer with the same sender for replayed
    /// ones.
    fn with_sender(farm: &str, secret: &Secret, sender: SenderId) -> Result<Self, ErrorStack> {
        let cipher = cipher(farm, secret, &sender, CipherCtxRef::encrypt_init)?;
        Ok(Self {
            farm: farm.to_owned(),
            keys: Keys::new(farm, secret)?,
            sender,
            cipher,
            next: Some(0),
        })
    }

    /// The sender of its messages.
    pub fn sender(&self) -> SenderId {
        self.sender
    }

    /// The subject that stands for a session's ID outside the ciphertext.
    ///
    /// # Panics
    ///
    /// If OpenSSL has no memory, as Rust's own allocations do.
    pub fn subject(&self, id: &[u8]) -> [u8; 32] {
        let _inside = gate::enter();
        self.keys.subject(id).expect("HMAC-SHA256 of a session ID")
    }

    /// Makes a message. Its counter is used up even if sealing fails. The plaintext must not be empty.
    pub fn seal(
        &mut self,
        kind: Kind,
        subject: &[u8; 32],
        time_ms: u64,
        plain: &[u8],
    ) -> Result<Vec<u8>, String> {
        // Some versions of OpenSSL seal an empty plaintext, others refuse it.
        if plain.is_empty() {
            return Err("it is empty".to_owned());
        }
        let _inside = gate::enter();
        let len = HEADER_LEN + plain.len() + TAG_LEN;
        if len > SEALED_MAX {
            return Err(format!("it is {len} bytes; the limit is {SEALED_MAX}"));
        }
        let counter = self.next.ok_or("all counters are used up")?;
        self.next = counter.checked_add(1);

        let mut message = Vec::with_capacity(len);
        message.extend_from_slice(&[VERSION, kind as u8]);
        message.extend_from_slice(&self.keys.name);
        message.extend_from_slice(&self.sender);
        message.extend_from_slice(&counter.to_be_bytes());
        message.extend_from_slice(&time_ms.to_be_bytes());
        message.extend_from_slice(subject);
        message.resize(len, 0);
        self.encrypt(plain, &mut message)
            .map_err(|error| error.to_string())?;
        Ok(message)
    }

    /// Writes the ciphertext and the tag after the header.
    fn encrypt(&self, plain: &[u8], to: &mut [u8]) -> Result<(), ErrorStack> {
        let (header, sealed) = to.split_at_mut(HEADER_LEN);
        let (body, tag) = sealed.split_at_mut(plain.len());
        let mut cipher = for_one(&self.cipher)?;
        cipher.cipher_update(header, None)?;
        cipher.cipher_update(self.farm.as_bytes(), None)?;
        cipher.cipher_update(plain, Some(body))?;
        cipher.cipher_final(&mut [])?;
        cipher.tag(tag)
    }
}

/// Why a message is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is this member's own.
    Own,
    /// It is too short or too long, or of another version or an unknown kind.
    Garbage,
    /// It is under a secret that this member does not have.
    UnknownSecret,
    /// It is not authentic, or of another farm.
    Forged,
    /// It is older than its lifetime, or from the future.
    Stale,
    /// Its counter is not above the last one of its sender.
    Replayed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "it is this member's own",
            Self::Garbage => "it is not a message of this version",
            Self::UnknownSecret => "it is sealed with a secret that this member does not have",
            Self::Forged => "it has been changed, or is of another farm",
            Self::Stale => "it is too old, or from the future",
            Self::Replayed => "it has been used before",
        })
    }
}

/// A message that is authentic, in time and new.
pub struct Opened {
    /// The part outside the ciphertext.
    pub header: Header,
    /// The plaintext.
    pub plain: Plain,
    secret: usize,
}

/// A plaintext. It is wiped at the end.
type Plain = Zeroizing<Vec<u8>>;

impl Opened {
    /// Whether it was sealed for this session ID. `opener` is the one that opened it.
    pub fn is_for(&self, opener: &Opener, id: &[u8]) -> bool {
        let _inside = gate::enter();
        opener.secrets[self.secret]
            .1
            .subject(id)
            .is_ok_and(|subject| memcmp::eq(&subject, &self.header.subject))
    }
}

/// The part of a message outside the ciphertext.
pub struct Header {
    /// The kind of message.
    pub kind: Kind,
    name: [u8; 4],
    /// The sender that sealed it.
    pub sender: SenderId,
    /// Its number among the messages of this sender.
    pub counter: u64,
    /// When it was sealed, by Redis's clock.
    pub time_ms: u64,
    /// The subject, which stands for the session's ID; [`Opened::is_for`] compares it.
    pub subject: [u8; 32],
}

impl Header {
    /// `None` if the version or the kind is unknown.
    fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let mut rest = &bytes[..];
        let [VERSION, kind] = take(&mut rest) else {
            return None;
        };
        Some(Self {
            kind: Kind::from_byte(kind)?,
            name: take(&mut rest),
            sender: take(&mut rest),
            counter: u64::from_be_bytes(take(&mut rest)),
            time_ms: u64::from_be_bytes(take(&mut rest)),
            subject: take(&mut rest),
        })
    }
}

/// A message in its parts.
struct Message<'a> {
    header: Header,
    header_bytes: &'a [u8; HEADER_LEN],
    body: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> Message<'a> {
    /// `None` if it is too short or too long, or its header is not valid.
    fn parse(message: &'a [u8]) -> Option<Self> {
        let (header_bytes, sealed) = message.split_first_chunk()?;
        let (body, tag) = sealed.split_last_chunk()?;
        let header = Header::parse(header_bytes)?;
        (message.len() <= SEALED_MAX).then_some(Self {
            header,
            header_bytes,
            body,
            tag,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (taken, behind) = rest
        .split_first_chunk()
        .expect("the fields add up to the header's length");
    *rest = behind;
    *taken
}

/// A sender of an authentic message.
struct Sender {
    cipher: CipherCtx,
    last_counter: u64,
    last_time_ms: u64,
}

/// Opens the messages of one stream. It knows the last counter of each sender.
pub struct Opener {
    farm: String,
    secrets: Vec<(Secret, Keys)>,
    own: SenderId,
    senders: HashMap<(usize, SenderId), Sender>,
    /// The latest time of all senders that were forgotten. Of a sender that is not in `senders`, only
    /// a message later than this is certainly new.
    forgotten_until_ms: Option<u64>,
}

impl Opener {
    /// Opens what was sealed under any of `secrets`, except by `own`.
    pub fn new(farm: &str, secrets: &[Secret], own: SenderId) -> Result<Self, ErrorStack> {
        let secrets = secrets
            .iter()
            .map(|secret| Ok((secret.clone(), Keys::new(farm, secret)?)));
        Ok(Self {
            farm: farm.to_owned(),
            secrets: secrets.collect::<Result<_, ErrorStack>>()?,
            own,
            senders: HashMap::new(),
            forgotten_until_ms: None,
        })
    }

    /// Opens a message if it is authentic, not older than `lifetime_ms` at `now_ms`, and new. A refused
    /// message changes nothing here.
    pub fn open(
        &mut self,
        message: &[u8],
        now_ms: u64,
        lifetime_ms: u64,
    ) -> Result<Opened, Refusal> {
        let _inside = gate::enter();
        let message = Message::parse(message).ok_or(Refusal::Garbage)?;
        let header = &message.header;
        if header.sender == self.own {
            return Err(Refusal::Own);
        }
        let (secret, plain, stranger) = self.decrypt(&message)?;
        if header.time_ms > now_ms.saturating_add(AHEAD_MS)
            || now_ms.saturating_sub(header.time_ms) > lifetime_ms
        {
            return Err(Refusal::Stale);
        }
        self.admit(secret, header, stranger)?;
        Ok(Opened {
            header: message.header,
            plain,
            secret,
        })
    }

    /// Which secret opens the message, the plaintext, and the cipher if the sender is not known yet.
    fn decrypt(&self, message: &Message<'_>) -> Result<(usize, Plain, Option<CipherCtx>), Refusal> {
        let Header { name, sender, .. } = message.header;
        // Two secrets with the same name are unlikely, but possible.
        let named = |(_, (_, keys)): &(usize, &(Secret, Keys))| keys.name == name;
        let mut refusal = Refusal::UnknownSecret;
        for (secret, (bytes, _)) in self.secrets.iter().enumerate().filter(named) {
            refusal = Refusal::Forged;
            let mut stranger = None;
            let cipher = match self.senders.get(&(secret, sender)) {
                Some(sender) => &sender.cipher,
                None => match cipher(&self.farm, bytes, &sender, CipherCtxRef::decrypt_init) {
                    Ok(cipher) => &*stranger.insert(cipher),
                    Err(_) => continue,
                },
            };
            if let Ok(plain) = decrypt(cipher, &self.farm, message) {
                return Ok((secret, plain, stranger));
            }
        }
        Err(refusal)
    }

    /// Refuses a counter that is not above the last one of its sender; remembers any other.
    fn admit(
        &mut self,
        secret: usize,
        header: &Header,
        stranger: Option<CipherCtx>,
    ) -> Result<(), Refusal> {
        let key = (secret, header.sender);
        match stranger {
            None => {
                let sender = self.senders.get_mut(&key).expect("its cipher was used");
                if header.counter <= sender.last_counter {
                    return Err(Refusal::Replayed);
                }
                sender.last_counter = header.counter;
                sender.last_time_ms = sender.last_time_ms.max(header.time_ms);
            }
            Some(cipher) => {
                if Some(header.time_ms) <= self.forgotten_until_ms {
                    return Err(Refusal::Replayed);
                }
                self.remember(
                    key,
                    Sender {
                        cipher,
                        last_counter: header.counter,
                        last_time_ms: header.time_ms,
                    },
                );
            }
        }
        Ok(())
    }

    /// Only for senders of an authentic message: so no other can evict one.
    fn remember(&mut self, key: (usize, SenderId), sender: Sender) {
        if self.senders.len() >= SENDERS {
            let oldest = self
                .senders
                .iter()
                .min_by_key(|(_, sender)| sender.last_time_ms)
                .map(|(key, sender)| (*key, sender.last_time_ms));
            if let Some((key, time_ms)) = oldest {
                self.senders.remove(&key);
                self.forgotten_until_ms = self.forgotten_until_ms.max(Some(time_ms));
            }
        }
        self.senders.insert(key, sender);
    }
}

fn decrypt(cipher: &CipherCtx, farm: &str, message: &Message<'_>) -> Result<Plain, ErrorStack> {
    let mut plain = Zeroizing::new(vec![0; message.body.len()]);
    let mut cipher = for_one(cipher)?;
    cipher.set_tag(message.tag)?;
    cipher.cipher_update(message.header_bytes, None)?;
    cipher.cipher_update(farm.as_bytes(), None)?;
    cipher.cipher_update(message.body, Some(&mut plain))?;
    cipher.cipher_final(&mut [])?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FARM: &str = "edge.example";
    const NOW: u64 = 1_800_000_000_123;
    const DAY: u64 = 86_400_000;
    const OWN: SenderId = [0xee; 16];
    const NONE: [u8; 32] = [0; 32];

    fn secret(first: u8) -> Secret {
        let bytes = (0..48).map(|n| first.wrapping_add(n)).collect();
        Secret::new(Zeroizing::new(bytes)).unwrap()
    }

    fn sealer() -> Sealer {
        Sealer::new(FARM, &secret(0)).unwrap()
    }

    fn opener() -> Opener {
        Opener::new(FARM, &[secret(0)], OWN).unwrap()
    }

    fn open(opener: &mut Opener, message: &[u8]) -> Result<Opened, Refusal> {
        opener.open(message, NOW, DAY)
    }

    fn refusal(opener: &mut Opener, message: &[u8]) -> Refusal {
        open(opener, message).map(|_| ()).unwrap_err()
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits = text.trim().as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.map(byte).collect()
    }

    /// Other implementations can be written from the document: `vectors/sealed.py` is one.
    #[test]
    fn the_bytes_are_those_of_the_document() {
        let vector = hex(include_str!("../../vectors/sealed.txt"));
        let id: Vec<u8> = (0x40..0x60).collect();
        let plain = [&[32], &id[..], b"thirty bytes that are not DER."].concat();
        let sender = std::array::from_fn(|n| 0xa0 + n as u8);
        let mut sealer = Sealer::with_sender(FARM, &secret(0), sender).unwrap();
        sealer.next = Some(0x0102_0304_0506_0708);
        let subject = sealer.subject(&id);
        let sealed = sealer.seal(Kind::Session, &subject, NOW, &plain).unwrap();
        assert_eq!(sealed, vector);

        let mut opener = opener();
        let opened = open(&mut opener, &vector).ok().unwrap();
        assert_eq!(*opened.plain, plain);
        assert_eq!(opened.header.kind, Kind::Session);
        assert_eq!(opened.header.sender, sender);
        assert_eq!(opened.header.counter, 0x0102_0304_0506_0708);
        assert_eq!(opened.header.time_ms, NOW);
        assert!(opened.is_for(&opener, &id));
        assert!(!opened.is_for(&opener, &id[1..]));
    }

    #[test]
    fn every_changed_bit_is_refused_and_changes_nothing() {
        let mut sealer = sealer();
        let message = sealer.seal(Kind::Removal, &NONE, NOW, b"plain").unwrap();
        let mut opener = opener();
        for bit in 0..message.len() * 8 {
            let mut changed = message.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 {
                0 => [Refusal::Garbage; 2],
                1 => [Refusal::Garbage, Refusal::Forged],
                2..6 => [Refusal::UnknownSecret; 2],
                _ => [Refusal::Forged; 2],
            };
            let refusal = refusal(&mut opener, &changed);
            assert!(expected.contains(&refusal), "bit {bit}: {refusal:?}");
        }
        for len in 0..message.len() {
            let short = match len {
                0..86 => Refusal::Garbage,
                _ => Refusal::Forged,
            };
            assert_eq!(refusal(&mut opener, &message[..len]), short, "{len} bytes");
        }
        let longer = [&message[..], &[0]].concat();
        assert_eq!(refusal(&mut opener, &longer), Refusal::Forged);
        assert!(opener.senders.is_empty());
        assert_eq!(*open(&mut opener, &message).ok().unwrap().plain, b"plain");
    }

    #[test]
    fn nothing_of_another_farm_or_secret_is_opened() {
        let message = sealer().seal(Kind::Session, &NONE, NOW, b"x").unwrap();
        let mut other = Opener::new("edge.exampl", &[secret(0)], OWN).unwrap();
        assert_eq!(refusal(&mut other, &message), Refusal::Forged);
        let mut other = Opener::new(FARM, &[secret(1)], OWN).unwrap();
        assert_eq!(refusal(&mut other, &message), Refusal::UnknownSecret);
        let mut none = Opener::new(FARM, &[], OWN).unwrap();
        assert_eq!(refusal(&mut none, &message), Refusal::UnknownSecret);
    }

    /// The name of the farm is authenticated itself, not only as a part of the key.
    #[test]
    fn the_farm_is_in_the_associated_data() {
        let message = sealer().seal(Kind::Session, &NONE, NOW, b"x").unwrap();
        let mut opener = opener();
        opener.farm.push('x');
        let sender = message[6..22].try_into().unwrap();
        let cipher = cipher(FARM, &secret(0), &sender, CipherCtxRef::decrypt_init).unwrap();
        opener.remember(
            (0, sender),
            Sender {
                cipher,
                last_counter: 0,
                last_time_ms: 0,
            },
        );
        assert_eq!(refusal(&mut opener, &message), Refusal::Forged);
    }

    #[test]
    fn old_and_new_secret_are_both_opened_while_they_are_changed() {
        let mut opener = Opener::new(FARM, &[secret(7), secret(0)], OWN).unwrap();
        for first in [0, 7, 0] {
            let mut sealer = Sealer::new(FARM, &secret(first)).unwrap();
            let subject = sealer.subject(b"id");
            let message = sealer.seal(Kind::Session, &subject, NOW, b"x").unwrap();
            let opened = open(&mut opener, &message).ok().unwrap();
            assert!(opened.is_for(&opener, b"id"));
            assert!(!opened.is_for(&opener, b"ie"));
        }
    }

    #[test]
    fn a_secret_whose_name_another_one_has_too_is_found() {
        let mut opener = Opener::new(FARM, &[secret(7), secret(0)], OWN).unwrap();
        opener.secrets[0].1.name = opener.secrets[1].1.name;
        let message = sealer().seal(Kind::Session, &NONE, NOW, b"x").unwrap();
        assert_eq!(open(&mut opener, &message).ok().unwrap().secret, 1);
    }

    #[test]
    fn own_messages_are_known() {
        let mut sealer = sealer();
        let mut opener = Opener::new(FARM, &[secret(0)], sealer.sender()).unwrap();
        let message = sealer.seal(Kind::Session, &NONE, NOW, b"x").unwrap();
        assert_eq!(refusal(&mut opener, &message), Refusal::Own);
    }

    #[test]
    fn a_message_is_good_for_its_lifetime() {
        let cases = [
            (NOW, true),
            (NOW - DAY, true),
            (NOW - DAY - 1, false),
            (NOW + AHEAD_MS, true),
            (NOW + AHEAD_MS + 1, false),
            (0, false),
            (u64::MAX, false),
        ];
        for (time_ms, good) in cases {
            let message = sealer().seal(Kind::Session, &NONE, time_ms, b"x").unwrap();
            let mut opener = opener();
            match open(&mut opener, &message) {
                Ok(opened) => assert!(good && *opened.plain == b"x", "{time_ms}"),
                Err(refusal) => {
                    assert!(!good && refusal == Refusal::Stale, "{time_ms}");
                    assert!(opener.senders.is_empty(), "a refused one is remembered");
                }
            }
        }
    }

    #[test]
    fn a_stale_message_does_not_raise_the_counter() {
        let mut sealer = sealer();
        let mut opener = opener();
        let mut seal = |time_ms| sealer.seal(Kind::Session, &NONE, time_ms, b"x").unwrap();
        let (first, second, stale) = (seal(NOW), seal(NOW), seal(0));
        assert!(open(&mut opener, &first).is_ok());
        assert_eq!(refusal(&mut opener, &stale), Refusal::Stale);
        assert!(open(&mut opener, &second).is_ok());
    }

    #[test]
    fn no_counter_comes_twice() {
        let mut sealer = sealer();
        sealer.next = Some(u64::MAX);
        assert!(sealer.seal(Kind::Session, &NONE, NOW, b"x").is_ok());
        for _ in 0..2 {
            let error = sealer.seal(Kind::Session, &NONE, NOW, b"x").unwrap_err();
            assert_eq!(error, "all counters are used up");
        }
        assert_ne!(self::sealer().sender(), self::sealer().sender());
    }

    /// If a machine is copied with its memory, both copies use the same sender and counters. With
    /// AES-GCM, the XOR of two ciphertexts would then be that of the plaintexts.
    #[test]
    fn a_copy_of_a_sealer_gives_nothing_away() {
        let seal = |plain| {
            let mut copy = Sealer::with_sender(FARM, &secret(0), [9; 16]).unwrap();
            copy.seal(Kind::Session, &NONE, NOW, plain).unwrap()
        };
        let (one, other) = (seal(&[0; 64]), seal(&[1; 64]));
        assert_eq!(one[..HEADER_LEN], other[..HEADER_LEN]);
        let differences = one.iter().zip(&other).skip(HEADER_LEN);
        let alike = differences.filter(|(a, b)| *a ^ *b == 1).count();
        assert!(
            alike < 16,
            "{alike} bytes of 64 differ as the plaintexts do"
        );
        assert_eq!(one, seal(&[0; 64]));
    }

    #[test]
    fn nothing_is_neither_sealed_nor_opened() {
        let mut sealer = sealer();
        assert!(sealer.seal(Kind::Session, &NONE, NOW, b"").is_err());
        let mut message = sealer.seal(Kind::Session, &NONE, NOW, b"x").unwrap();
        message.remove(HEADER_LEN);
        assert_eq!(refusal(&mut opener(), &message), Refusal::Forged);
    }

    /// Members of different versions do not understand each other.
    #[test]
    fn the_version_before_is_refused() {
        let mut message = sealer().seal(Kind::Session, &NONE, NOW, b"x").unwrap();
        message[0] = 1;
        assert_eq!(refusal(&mut opener(), &message), Refusal::Garbage);
    }

    #[test]
    fn what_is_too_long_is_neither_sealed_nor_opened() {
        let mut sealer = sealer();
        let most = vec![0; SEALED_MAX - HEADER_LEN - TAG_LEN];
        let message = sealer.seal(Kind::Session, &NONE, NOW, &most).unwrap();
        assert_eq!(message.len(), SEALED_MAX);
        assert!(open(&mut opener(), &message).is_ok());
        let longer = [&message[..], &[0]].concat();
        assert_eq!(refusal(&mut opener(), &longer), Refusal::Garbage);
        let more = [&most[..], &[0]].concat();
        let error = sealer.seal(Kind::Session, &NONE, NOW, &more).unwrap_err();
        assert_eq!(error, "it is 1048577 bytes; the limit is 1048576");
    }

    #[test]
    fn a_sender_who_was_forgotten_cannot_be_replayed() {
        let mut opener = opener();
        let mut first = sealer();
        let mut seal = |time_ms| first.seal(Kind::Session, &NONE, time_ms, b"x").unwrap();
        let (old, next) = (seal(NOW), seal(NOW + 1));
        assert!(open(&mut opener, &old).is_ok());
        for _ in 0..SENDERS {
            let message = sealer().seal(Kind::Session, &NONE, NOW + 1, b"x").unwrap();
            assert!(open(&mut opener, &message).is_ok());
        }
        assert_eq!(opener.senders.len(), SENDERS);
        assert!(!opener.senders.contains_key(&(0, first.sender())));
        assert_eq!(refusal(&mut opener, &old), Refusal::Replayed);
        assert!(
            open(&mut opener, &next).is_ok(),
            "what is newer still comes"
        );
        assert_eq!(opener.senders.len(), SENDERS);
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_once(
            plain in proptest::collection::vec(any::<u8>(), 1..600),
            ids in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..=32), 1..8),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 1..30),
        ) {
            let mut sealer = sealer();
            let mut opener = opener();
            let messages = ids.iter().map(|id| {
                let subject = sealer.subject(id);
                sealer.seal(Kind::Session, &subject, NOW, &plain).unwrap()
            });
            let messages: Vec<_> = messages.collect();
            let mut last = None;
            for index in order {
                let counter = index.index(messages.len());
                match open(&mut opener, &messages[counter]) {
                    Ok(opened) => {
                        prop_assert!(Some(counter) > last);
                        prop_assert_eq!(opened.header.counter, counter as u64);
                        prop_assert_eq!(&*opened.plain, &plain);
                        prop_assert!(opened.is_for(&opener, &ids[counter]));
                        last = Some(counter);
                    }
                    Err(refusal) => {
                        prop_assert_eq!(refusal, Refusal::Replayed);
                        prop_assert!(Some(counter) <= last);
                    }
                }
            }
        }

        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open(&mut opener(), &bytes).is_err());
        }
    }
}
