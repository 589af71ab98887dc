//! A file of ticket keys.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// More than any set of keys takes; a larger file is something else.
const MAX_LEN: u64 = 1 << 20;

/// A file as it was when it was opened: another stamp, another content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    len: u64,
}

/// An open key file.
pub struct KeyFile {
    file: File,
    metadata: Metadata,
    path: PathBuf,
}

/// Why a file was not read.
#[derive(Debug)]
pub enum FileError {
    /// What the system said.
    Io(io::Error),
    /// A directory, a FIFO, a device.
    NotAFile,
    /// No set of keys is that large.
    TooLarge,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotAFile => write!(f, "not a regular file"),
            Self::TooLarge => write!(f, "larger than {MAX_LEN} bytes"),
        }
    }
}

impl KeyFile {
    /// Opens a regular file; does not wait for whatever else it may be.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(FileError::Io)?;
        let metadata = file.metadata().map_err(FileError::Io)?;
        if !metadata.is_file() {
            return Err(FileError::NotAFile);
        }
        if metadata.len() > MAX_LEN {
            return Err(FileError::TooLarge);
        }
        let path = path.to_owned();
        Ok(Self {
            file,
            metadata,
            path,
        })
    }

    /// Taken before the content is read: who writes to the file meanwhile gives it
    /// another one.
    pub fn stamp(&self) -> Stamp {
        let metadata = &self.metadata;
        Stamp {
            path: self.path.clone(),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            len: metadata.len(),
        }
    }

    /// Whether others than its owner may read or write it.
    pub fn is_open_to_others(&self) -> bool {
        self.metadata.mode() & 0o066 != 0
    }

    /// The content, wiped when dropped.
    pub fn read(mut self) -> Result<Zeroizing<Vec<u8>>, FileError> {
        // Room for all of it: a vector that grows leaves a copy behind.
        let mut content = Zeroizing::new(vec![0; self.metadata.len() as usize]);
        let mut len = 0;
        while len < content.len() {
            match self.file.read(&mut content[len..]) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::Io(error)),
            }
        }
        content.truncate(len);
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_change_of_any_kind_gives_another_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        fs::write(&path, [1; 48]).unwrap();
        let stamp = || KeyFile::open(&path).unwrap().stamp();
        let first = stamp();
        assert_eq!(first, stamp());

        File::open(&path)
            .unwrap()
            .set_modified(std::time::SystemTime::now() + std::time::Duration::from_nanos(1_000_000))
            .unwrap();
        let touched = stamp();
        assert_ne!(first, touched);

        // Another file of the same size and time.
        let other = dir.path().join("other");
        fs::write(&other, [2; 48]).unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        File::open(&other).unwrap().set_modified(modified).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(touched, stamp());
    }

    #[test]
    fn what_is_not_a_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let kind = |path: &Path| KeyFile::open(path).err().unwrap();
        assert!(matches!(kind(dir.path()), FileError::NotAFile));
        assert!(matches!(kind(Path::new("/dev/null")), FileError::NotAFile));
        assert!(matches!(kind(&dir.path().join("absent")), FileError::Io(_)));
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(MAX_LEN + 1).unwrap();
        assert!(matches!(kind(&large), FileError::TooLarge));
    }
}
