//! The secret of a farm, and files that only their owner may read.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::md::Md;
use openssl::memcmp;
use openssl::pkey::Id;
use openssl::pkey_ctx::PkeyCtx;
use zeroize::Zeroizing;

/// The fewest bytes of a secret.
const SECRET_MIN: usize = 32;
/// The most bytes of a secret; a larger file is something else.
const SECRET_MAX: usize = 4096;

/// The bytes of a secret file. They are wiped at the end.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Reads a file that only its owner has access to.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let from_system = |error: io::Error| error.to_string();
    // Does not wait for the other end of a FIFO.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(from_system)?;
    let metadata = file.metadata().map_err(from_system)?;
    if !metadata.is_file() {
        return Err("not a regular file".into());
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "group or others have access (mode {mode:04o}): chmod 0600 or 0400"
        ));
    }
    // Of full length from the start: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(vec![0; SECRET_MAX + 1]);
    let mut len = 0;
    while len < bytes.len() {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(from_system(error)),
        }
    }
    if len > SECRET_MAX {
        return Err(format!("more than {SECRET_MAX} bytes"));
    }
    bytes.truncate(len);
    Ok(bytes)
}

impl Secret {
    /// Reads a secret from its file: every byte of it counts, a newline at the end too.
    pub fn read(path: &Path) -> Result<Self, String> {
        Self::new(read_private(path)?)
    }

    pub(super) fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, String> {
        if bytes.len() < SECRET_MIN {
            let len = bytes.len();
            return Err(format!("{len} bytes, must be {SECRET_MIN} or more"));
        }
        Ok(Self(bytes))
    }

    /// Whether two files have the same secret.
    pub fn is(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && memcmp::eq(&self.0, &other.0)
    }

    /// HKDF-SHA256 of the secret.
    pub(super) fn derive(
        &self,
        salt: &[u8],
        info: [&[u8]; 2],
        to: &mut [u8],
    ) -> Result<(), ErrorStack> {
        let mut hkdf = PkeyCtx::new_id(Id::HKDF)?;
        hkdf.derive_init()?;
        hkdf.set_hkdf_md(Md::sha256())?;
        hkdf.set_hkdf_key(&self.0)?;
        // None is the same as an empty one.
        if !salt.is_empty() {
            hkdf.set_hkdf_salt(salt)?;
        }
        for part in info.into_iter().filter(|part| !part.is_empty()) {
            hkdf.add_hkdf_info(part)?;
        }
        hkdf.derive(Some(to))?;
        Ok(())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 5869, test case 3: neither salt nor info; case 1 with both.
    #[test]
    fn hkdf_is_that_of_the_rfc() {
        let secret = Secret(Zeroizing::new(vec![0x0b; 22]));
        let mut derived = [0; 42];
        secret.derive(&[], [&[], &[]], &mut derived).unwrap();
        let expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d\
                        9d201395faa4b61a96c8";
        assert_eq!(hex(&derived), expected);
        let salt: Vec<u8> = (0..13).collect();
        let info: Vec<u8> = (0xf0..0xfa).collect();
        let (one, other) = info.split_at(3);
        secret.derive(&salt, [one, other], &mut derived).unwrap();
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf\
                        34007208d5b887185865";
        assert_eq!(hex(&derived), expected);
    }

    fn secret_file(folder: &Path, len: usize, mode: u32) -> PathBuf {
        let path = folder.join(format!("{len}-{mode:o}"));
        fs::write(&path, vec![b'\n'; len]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_secret_is_a_private_file_of_enough_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let read = |len, mode| Secret::read(&secret_file(folder.path(), len, mode));
        for (len, mode) in [(32, 0o600), (32, 0o400), (33, 0o700), (SECRET_MAX, 0o600)] {
            assert_eq!(read(len, mode).unwrap().0.len(), len);
        }
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644] {
            let error = read(32, mode).unwrap_err();
            assert!(error.starts_with(&format!("group or others have access (mode {mode:04o})")));
        }
        for len in [0, 1, 31] {
            let error = read(len, 0o600).unwrap_err();
            assert_eq!(error, format!("{len} bytes, must be 32 or more"));
        }
        let error = read(SECRET_MAX + 1, 0o600).unwrap_err();
        assert_eq!(error, "more than 4096 bytes");
    }

    #[test]
    fn a_secret_is_a_regular_file_and_a_link_leads_to_one() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink(secret_file(folder.path(), 32, 0o600), &link).unwrap();
        assert!(Secret::read(&link).is_ok());
        // Does not wait for somebody who writes, either.
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for path in [folder.path(), &fifo, Path::new("/dev/zero")] {
            let error = Secret::read(path).unwrap_err();
            assert_eq!(error, "not a regular file", "{}", path.display());
        }
        let error = Secret::read(&folder.path().join("none")).unwrap_err();
        assert!(error.starts_with("No such file"), "{error}");
    }
}
