//! What is written to Redis and read from it: AES-256-GCM under keys that HKDF derives from a
//! secret. `docs/farm.md` has the protocol.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::md::Md;
use openssl::pkey::{Id, PKey};
use openssl::pkey_ctx::{HkdfMode, PkeyCtx};
use openssl::sign::Signer;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const HEADER_LEN: usize = 70;
const TAG_LEN: usize = 16;

/// How many senders' keys and counters are remembered.
const MAX_SENDERS: usize = 1024;

/// How far a message's time may lie in the future: the clocks of two Redis servers.
const FUTURE_MS: u64 = 60_000;

/// The longest secret file: more is not a secret but a mistake.
const MAX_SECRET: u64 = 4096;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A session.
    Session = 1,
    /// A removal.
    Removal = 2,
    /// Ticket keys.
    KeySet = 3,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Session, Self::Removal, Self::KeySet]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Random for each sealer: with its counter it makes every nonce one of its kind.
pub type SenderId = [u8; 16];

/// HMAC of a session ID: Redis never sees the ID itself.
pub type Subject = [u8; 32];

type DerivedKey = Zeroizing<[u8; 32]>;

/// Why a file is no secret.
#[derive(Debug)]
pub enum SecretError {
    /// It could not be read.
    Io(io::Error),
    /// It is a folder, a device, or the like.
    NotAFile,
    /// Its group or others may read or write it.
    OpenToOthers,
    /// Fewer than 32 bytes, or more than 4096.
    Length(u64),
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::NotAFile => write!(f, "not a regular file"),
            Self::OpenToOthers => write!(f, "its group or others have access to it (chmod 600)"),
            Self::Length(len) => write!(f, "{len} bytes, where a secret has 32 to {MAX_SECRET}"),
        }
    }
}

impl std::error::Error for SecretError {}

/// A secret that the members of a farm have in common.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// All bytes of a file, which nobody but its owner may read.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        // A FIFO is not waited for.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .map_err(SecretError::Io)?;
        let metadata = file.metadata().map_err(SecretError::Io)?;
        if !metadata.is_file() {
            return Err(SecretError::NotAFile);
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(SecretError::OpenToOthers);
        }
        let len = metadata.len();
        if !(32..=MAX_SECRET).contains(&len) {
            return Err(SecretError::Length(len));
        }
        let mut bytes = Zeroizing::new(vec![0; len as usize]);
        let mut file = file;
        file.read_exact(&mut bytes).map_err(SecretError::Io)?;
        Ok(Self { bytes })
    }

    fn derive(&self, salt: &[u8], info: &[&[u8]]) -> Result<DerivedKey, ErrorStack> {
        let mut context = PkeyCtx::new_id(Id::HKDF)?;
        context.derive_init()?;
        context.set_hkdf_mode(HkdfMode::EXTRACT_THEN_EXPAND)?;
        context.set_hkdf_md(Md::sha256())?;
        context.set_hkdf_key(&self.bytes)?;
        if !salt.is_empty() {
            context.set_hkdf_salt(salt)?;
        }
        for part in info {
            context.add_hkdf_info(part)?;
        }
        let mut key = Zeroizing::new([0; 32]);
        context.derive(Some(key.as_mut_slice()))?;
        Ok(key)
    }

    fn name(&self) -> Result<[u8; 4], ErrorStack> {
        let key = self.derive(&[], &[b"tssession-farm 1 name"])?;
        Ok([key[0], key[1], key[2], key[3]])
    }

    fn id_key(&self, farm: &str) -> Result<DerivedKey, ErrorStack> {
        self.derive(&[], &[b"tssession-farm 1 id", farm.as_bytes()])
    }

    fn seal_key(&self, farm: &str, sender: &SenderId) -> Result<DerivedKey, ErrorStack> {
        self.derive(sender, &[b"tssession-farm 1 seal", farm.as_bytes()])
    }
}

fn subject(id_key: &DerivedKey, id: &[u8]) -> Result<Subject, ErrorStack> {
    let key = PKey::hmac(id_key.as_slice())?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    let mut subject = [0; 32];
    signer.sign_oneshot(&mut subject, id)?;
    Ok(subject)
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

/// Seals messages; for one thread of one process.
pub struct Sealer {
    farm: String,
    secret: [u8; 4],
    sender: SenderId,
    id_key: DerivedKey,
    seal_key: DerivedKey,
    counter: u64,
}

impl Sealer {
    /// A new sender, under this secret.
    pub fn new(farm: &str, secret: &Secret) -> Result<Self, ErrorStack> {
        let mut sender = [0; 16];
        openssl::rand::rand_bytes(&mut sender)?;
        Self::with_sender(farm, secret, sender)
    }

    fn with_sender(farm: &str, secret: &Secret, sender: SenderId) -> Result<Self, ErrorStack> {
        Ok(Self {
            farm: farm.to_owned(),
            secret: secret.name()?,
            sender,
            id_key: secret.id_key(farm)?,
            seal_key: secret.seal_key(farm, &sender)?,
            counter: 0,
        })
    }

    /// Who this is to others.
    pub fn sender(&self) -> SenderId {
        self.sender
    }

    /// What stands for a session ID.
    pub fn subject(&self, id: &[u8]) -> Result<Subject, ErrorStack> {
        subject(&self.id_key, id)
    }

    /// Seals a message. Each has the next counter, also after one that failed.
    pub fn seal(
        &mut self,
        kind: Kind,
        subject: &Subject,
        time_ms: u64,
        plain: &[u8],
    ) -> Result<Vec<u8>, ErrorStack> {
        let counter = self.counter;
        // At a million a second it lasts half a million years.
        self.counter = counter.checked_add(1).expect("counters do not run out");
        let mut message = Vec::with_capacity(HEADER_LEN + plain.len() + TAG_LEN);
        message.push(VERSION);
        message.push(kind as u8);
        message.extend_from_slice(&self.secret);
        message.extend_from_slice(&self.sender);
        message.extend_from_slice(&counter.to_be_bytes());
        message.extend_from_slice(&time_ms.to_be_bytes());
        message.extend_from_slice(subject);
        let mut tag = [0; TAG_LEN];
        let sealed = encrypt_aead(
            Cipher::aes_256_gcm(),
            self.seal_key.as_slice(),
            Some(&nonce(counter)),
            &[&message, self.farm.as_bytes()].concat(),
            plain,
            &mut tag,
        )?;
        message.extend_from_slice(&sealed);
        message.extend_from_slice(&tag);
        Ok(message)
    }
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is from this process.
    Own,
    /// Too short, of another version, of no known kind.
    Garbage,
    /// Its secret is not known here.
    UnknownSecret,
    /// It was altered, or made for another farm or without the secret.
    Forged,
    /// Too old, or of the future.
    Stale,
    /// One of this sender with this counter or a higher one was here before.
    Replayed,
}

/// A message that is what it says it is.
pub struct Opened {
    /// What it is.
    pub kind: Kind,
    /// Who sent it.
    pub sender: SenderId,
    /// Its number among those of its sender.
    pub counter: u64,
    /// When it was sent, in milliseconds since 1970, by the clock of Redis.
    pub time_ms: u64,
    /// The session that it is about.
    subject: Subject,
    id_key: DerivedKey,
    /// What is inside.
    pub plain: Zeroizing<Vec<u8>>,
}

impl Opened {
    /// Whether it is about the session with this ID.
    pub fn is_for(&self, id: &[u8]) -> bool {
        subject(&self.id_key, id).is_ok_and(|subject| subject == self.subject)
    }
}

/// What is known of a secret.
struct KnownSecret {
    name: [u8; 4],
    secret: Secret,
    id_key: DerivedKey,
}

/// What is known of a sender.
struct KnownSender {
    seal_key: DerivedKey,
    /// The counter that comes next at the earliest.
    next: u64,
}

/// Opens messages of other senders; one for each partition, in the order in which they stand there.
pub struct Opener {
    farm: String,
    own: SenderId,
    secrets: Vec<KnownSecret>,
    senders: HashMap<(usize, SenderId), KnownSender>,
    /// In the order in which they came.
    order: VecDeque<(usize, SenderId)>,
}

impl Opener {
    /// Opens what was sealed under one of these secrets.
    pub fn new(farm: &str, secrets: &[Secret], own: SenderId) -> Result<Self, ErrorStack> {
        let known = |secret: &Secret| {
            Ok(KnownSecret {
                name: secret.name()?,
                secret: secret.clone(),
                id_key: secret.id_key(farm)?,
            })
        };
        Ok(Self {
            farm: farm.to_owned(),
            own,
            secrets: secrets.iter().map(known).collect::<Result<_, _>>()?,
            senders: HashMap::new(),
            order: VecDeque::new(),
        })
    }

    /// Opens a message that is not older than `lifetime_ms` and was not here before.
    pub fn open(
        &mut self,
        message: &[u8],
        now_ms: u64,
        lifetime_ms: u64,
    ) -> Result<Opened, Refusal> {
        let (header, sealed) = message
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Refusal::Garbage)?;
        let (sealed, tag) = sealed
            .split_last_chunk::<TAG_LEN>()
            .ok_or(Refusal::Garbage)?;
        let field = |from: usize| &header[from..];
        let number = |from| u64::from_be_bytes(*field(from).first_chunk().expect("in the header"));
        let kind = Kind::of(header[1]).filter(|_| header[0] == VERSION);
        let kind = kind.ok_or(Refusal::Garbage)?;
        let name: [u8; 4] = *field(2).first_chunk().expect("in the header");
        let sender: SenderId = *field(6).first_chunk().expect("in the header");
        let (counter, time_ms) = (number(22), number(30));
        let subject: Subject = *field(38).first_chunk().expect("in the header");
        if sender == self.own {
            return Err(Refusal::Own);
        }
        let place = self.secrets.iter().position(|known| known.name == name);
        let place = place.ok_or(Refusal::UnknownSecret)?;
        if time_ms.saturating_add(lifetime_ms) < now_ms || time_ms > now_ms + FUTURE_MS {
            return Err(Refusal::Stale);
        }
        let id_key = self.secrets[place].id_key.clone();
        let known = self.senders.get(&(place, sender));
        if known.is_some_and(|known| counter < known.next) {
            return Err(Refusal::Replayed);
        }
        let new_key = match known {
            Some(_) => None,
            None => {
                let key = self.secrets[place].secret.seal_key(&self.farm, &sender);
                Some(key.map_err(|_| Refusal::Forged)?)
            }
        };
        let seal_key = new_key.as_ref().or(known.map(|known| &known.seal_key));
        let plain = decrypt_aead(
            Cipher::aes_256_gcm(),
            seal_key.ok_or(Refusal::Forged)?.as_slice(),
            Some(&nonce(counter)),
            &[header, self.farm.as_bytes()].concat(),
            sealed,
            tag,
        );
        let plain = Zeroizing::new(plain.map_err(|_| Refusal::Forged)?);
        // Only what is authentic is remembered: strangers cannot push out others.
        self.remember((place, sender), new_key, counter);
        Ok(Opened {
            kind,
            sender,
            counter,
            time_ms,
            subject,
            id_key,
            plain,
        })
    }

    fn remember(&mut self, sender: (usize, SenderId), new_key: Option<DerivedKey>, counter: u64) {
        let next = counter.saturating_add(1);
        if let Some(known) = self.senders.get_mut(&sender) {
            known.next = next;
        } else if let Some(seal_key) = new_key {
            if self.order.len() == MAX_SENDERS
                && let Some(oldest) = self.order.pop_front()
            {
                self.senders.remove(&oldest);
            }
            self.order.push_back(sender);
            self.senders.insert(sender, KnownSender { seal_key, next });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;
    const DAY: u64 = 86_400_000;
    const OWN: SenderId = [9; 16];

    fn secret(byte: u8) -> Secret {
        Secret {
            bytes: Zeroizing::new(vec![byte; 32]),
        }
    }

    fn opener(secrets: &[Secret]) -> Opener {
        Opener::new("farm", secrets, OWN).unwrap()
    }

    fn sealed(sealer: &mut Sealer, plain: &[u8]) -> Vec<u8> {
        let subject = sealer.subject(b"id").unwrap();
        sealer.seal(Kind::Session, &subject, NOW, plain).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened() {
        let mut sealer = Sealer::new("farm", &secret(1)).unwrap();
        let mut opener = opener(&[secret(2), secret(1)]);
        for (number, plain) in [&b""[..], b"x", &[7; 3000]].into_iter().enumerate() {
            let message = sealed(&mut sealer, plain);
            let opened = opener.open(&message, NOW + 5, DAY).unwrap();
            assert_eq!((opened.kind, &opened.plain[..]), (Kind::Session, plain));
            assert_eq!((opened.counter, opened.time_ms), (number as u64, NOW));
            assert_eq!(opened.sender, sealer.sender());
            assert!(opened.is_for(b"id") && !opened.is_for(b"ie"));
        }
    }

    #[test]
    fn each_bit_counts() {
        let mut sealer = Sealer::new("farm", &secret(1)).unwrap();
        let message = sealed(&mut sealer, b"plain text");
        for bit in 0..message.len() * 8 {
            let mut changed = message.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                opener(&[secret(1)]).open(&changed, NOW, DAY).is_err(),
                "{bit}"
            );
        }
        for len in 0..message.len() {
            assert!(
                opener(&[secret(1)])
                    .open(&message[..len], NOW, DAY)
                    .is_err()
            );
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        let mut sealer = Sealer::new("farm", &secret(1)).unwrap();
        let first = sealed(&mut sealer, b"1");
        let second = sealed(&mut sealer, b"2");
        let refusal = |opener: &mut Opener, message: &[u8], now| {
            opener.open(message, now, DAY).map(|_| ()).unwrap_err()
        };
        let known = || opener(&[secret(1)]);
        assert_eq!(
            refusal(&mut opener(&[secret(2)]), &first, NOW),
            Refusal::UnknownSecret
        );
        assert_eq!(refusal(&mut known(), &first, NOW + DAY + 1), Refusal::Stale);
        assert_eq!(
            refusal(&mut known(), &first, NOW - FUTURE_MS - 1),
            Refusal::Stale
        );
        let mut other_farm = Opener::new("other", &[secret(1)], OWN).unwrap();
        assert_eq!(refusal(&mut other_farm, &first, NOW), Refusal::Forged);
        let mut own = Opener::new("farm", &[secret(1)], sealer.sender()).unwrap();
        assert_eq!(refusal(&mut own, &first, NOW), Refusal::Own);

        let mut opener = known();
        opener.open(&second, NOW, DAY).unwrap();
        assert_eq!(refusal(&mut opener, &second, NOW), Refusal::Replayed);
        assert_eq!(refusal(&mut opener, &first, NOW), Refusal::Replayed);
    }

    #[test]
    fn forgeries_change_nothing() {
        let mut sealer = Sealer::new("farm", &secret(1)).unwrap();
        let message = sealed(&mut sealer, b"1");
        let mut opener = opener(&[secret(1)]);
        let mut forged = message.clone();
        forged[22..30].copy_from_slice(&u64::MAX.to_be_bytes());
        assert!(opener.open(&forged, NOW, DAY).is_err());
        for number in 0..MAX_SENDERS + 1 {
            forged[6..14].copy_from_slice(&(number as u64).to_be_bytes());
            assert!(opener.open(&forged, NOW, DAY).is_err());
        }
        assert!(opener.senders.is_empty());
        opener.open(&message, NOW, DAY).unwrap();
    }

    #[test]
    fn senders_are_bounded() {
        let mut opener = opener(&[secret(1)]);
        for _ in 0..MAX_SENDERS + 5 {
            let mut sealer = Sealer::new("farm", &secret(1)).unwrap();
            opener.open(&sealed(&mut sealer, b"1"), NOW, DAY).unwrap();
        }
        assert_eq!(
            (opener.senders.len(), opener.order.len()),
            (MAX_SENDERS, MAX_SENDERS)
        );
    }

    #[test]
    fn secrets_are_files_of_their_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert!(matches!(Secret::read(&path), Err(SecretError::Io(_))));
        assert!(matches!(
            Secret::read(folder.path()),
            Err(SecretError::NotAFile)
        ));
        for (len, mode, good) in [
            (31, 0o600, false),
            (32, 0o600, true),
            (4096, 0o400, true),
            (4097, 0o600, false),
            (32, 0o640, false),
            (32, 0o604, false),
            (32, 0o620, false),
        ] {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, vec![1; len]).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Secret::read(&path).is_ok(), good, "{len} {mode:o}");
        }
        assert_eq!(format!("{:?}", secret(77)), "Secret(..)");
    }
}
