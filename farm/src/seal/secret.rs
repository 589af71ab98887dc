//! The secret of a farm, and files that other users cannot access.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::md::Md;
use openssl::memcmp;
use openssl::pkey::Id;
use openssl::pkey_ctx::PkeyCtx;
use tssession_common::secret_file::fill;
use zeroize::Zeroizing;

use crate::host::effective_user;

/// The fewest bytes of a secret.
const SECRET_MIN: usize = 32;
/// The most bytes of a secret; a larger file is something else.
const SECRET_MAX: usize = 4096;

/// The bytes of a secret file. They are wiped at the end.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Whether only `user`, root and a group with read access can read a file, and only `user` and root
/// can change it. Credentials of systemd and volumes of Kubernetes belong to root and have mode 0440.
fn check_private(mode: u32, owner: u32, user: u32) -> Result<(), String> {
    let mode = mode & 0o7777;
    if mode & 0o027 != 0 {
        return Err(format!(
            "others have access, or the group can write (mode {mode:04o}): chmod 0600, 0400 or 0440"
        ));
    }
    if owner != 0 && owner != user {
        return Err(format!(
            "belongs to user {owner}: chown it to root or to user {user}, as which this process runs"
        ));
    }
    Ok(())
}

/// Reads a file that other users cannot access.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let from_system = |error: io::Error| error.to_string();
    // Does not wait for the other end of a FIFO.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(from_system)?;
    let metadata = file.metadata().map_err(from_system)?;
    if !metadata.is_file() {
        return Err("not a regular file".into());
    }
    check_private(metadata.mode(), metadata.uid(), effective_user())?;
    let mut bytes = Zeroizing::new(vec![0; SECRET_MAX + 1]);
    fill(&mut bytes, file).map_err(from_system)?;
    if bytes.len() > SECRET_MAX {
        return Err(format!("has more than {SECRET_MAX} bytes"));
    }
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
            return Err(format!("has {len} bytes; must have {SECRET_MIN} or more"));
        }
        if bytes.iter().all(|byte| *byte == bytes[0]) {
            return Err("all bytes are equal: head -c 32 /dev/urandom makes a secret".into());
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
        // No salt is the same as an empty one.
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
    use std::os::unix::fs::{PermissionsExt, symlink};
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
        let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_secret_is_a_private_file_of_enough_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let read = |len, mode| Secret::read(&secret_file(folder.path(), len, mode));
        for (len, mode) in [
            (32, 0o600),
            (32, 0o400),
            (32, 0o440),
            (32, 0o640),
            (33, 0o700),
            (SECRET_MAX, 0o600),
        ] {
            assert_eq!(read(len, mode).unwrap().0.len(), len);
        }
        for mode in [0o604, 0o620, 0o602, 0o660, 0o601, 0o644, 0o444] {
            let error = read(32, mode).unwrap_err();
            let expected = format!("others have access, or the group can write (mode {mode:04o})");
            assert!(error.starts_with(&expected), "{error}");
        }
        for len in [0, 1, 31] {
            let error = read(len, 0o600).unwrap_err();
            assert_eq!(error, format!("has {len} bytes; must have 32 or more"));
        }
        let error = read(SECRET_MAX + 1, 0o600).unwrap_err();
        assert_eq!(error, "has more than 4096 bytes");
    }

    #[test]
    fn a_private_file_is_roots_or_of_this_user() {
        assert_eq!(check_private(0o100440, 0, 1000), Ok(()));
        assert_eq!(check_private(0o100440, 1000, 1000), Ok(()));
        let error = check_private(0o100400, 1001, 1000).unwrap_err();
        assert!(error.starts_with("belongs to user 1001: "), "{error}");
        let error = check_private(0o100400, 1001, 0).unwrap_err();
        assert!(error.starts_with("belongs to user 1001: "), "{error}");
    }

    /// Kubernetes: the name is a link into a directory that is a link, and changes.
    #[test]
    fn a_mounted_secret_is_read_from_where_its_links_lead_now() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["1", "2"] {
            let directory = folder.path().join(version);
            fs::create_dir(&directory).unwrap();
            let file = directory.join("secret");
            fs::write(&file, format!("{version}123456789abcdef0123456789abcdef")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
        }
        let data = folder.path().join("..data");
        let name = folder.path().join("secret");
        symlink("..data/secret", &name).unwrap();
        for version in ["1", "2"] {
            let next = folder.path().join("..next");
            symlink(version, &next).unwrap();
            fs::rename(&next, &data).unwrap();
            assert!(
                Secret::read(&name)
                    .unwrap()
                    .0
                    .starts_with(version.as_bytes())
            );
        }
    }

    #[test]
    fn bytes_that_are_all_equal_are_no_secret() {
        for bytes in [vec![0; 32], vec![7; 32], vec![b'a'; 100]] {
            let error = Secret::new(Zeroizing::new(bytes)).unwrap_err();
            assert!(error.starts_with("all bytes are equal"), "{error}");
        }
        let mut bytes = vec![0; 32];
        bytes[31] = 1;
        assert!(Secret::new(Zeroizing::new(bytes)).is_ok());
    }

    #[test]
    fn a_secret_is_a_regular_file_and_a_link_leads_to_one() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink(secret_file(folder.path(), 32, 0o600), &link).unwrap();
        assert!(Secret::read(&link).is_ok());
        // A FIFO: reading it does not wait for a writer.
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
