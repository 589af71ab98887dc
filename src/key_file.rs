//! A file of ticket keys.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// More than any set of keys takes; a larger file is something else.
const MAX_LEN: u64 = 1 << 20;

/// A file as it was when it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    len: u64,
    /// Tells a rewrite that came within one tick of the file system's clock.
    digest: u64,
}

/// The files that were read, each as it was then.
#[derive(Default)]
pub struct FilesRead {
    stamps: Vec<Stamp>,
    hasher: RandomState,
}

/// Of how many files that is remembered.
const MAX_STAMPS: usize = 64;

impl FilesRead {
    /// Whether the file is as it was when it was read last.
    pub fn is_unchanged(&self, stamp: &Stamp) -> bool {
        self.stamps.contains(stamp)
    }

    /// Remembers it, in place of what the same file was before.
    pub fn remember(&mut self, stamp: Stamp) {
        let file = (stamp.device, stamp.inode);
        self.stamps.retain(|old| (old.device, old.inode) != file);
        if self.stamps.len() == MAX_STAMPS {
            self.stamps.remove(0);
        }
        self.stamps.push(stamp);
    }
}

/// An open key file.
pub struct KeyFile {
    file: File,
    metadata: Metadata,
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
        Ok(Self { file, metadata })
    }

    /// The file with this content, at the time when it was opened: who writes to it
    /// meanwhile gives it another stamp.
    pub fn stamp(&self, content: &[u8], read: &FilesRead) -> Stamp {
        let metadata = &self.metadata;
        Stamp {
            digest: read.hasher.hash_one(content),
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
    pub fn read(&mut self) -> Result<Zeroizing<Vec<u8>>, FileError> {
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
    fn only_a_change_makes_a_file_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let mut read = FilesRead::default();
        let mut is_new = |path: &Path| {
            let mut file = KeyFile::open(path).unwrap();
            let content = file.read().unwrap();
            let stamp = file.stamp(&content, &read);
            let is_new = !read.is_unchanged(&stamp);
            read.remember(stamp);
            is_new
        };
        let set_modified =
            |path: &Path, time| File::open(path).unwrap().set_modified(time).unwrap();

        fs::write(&path, [1; 48]).unwrap();
        assert!(is_new(&path) && !is_new(&path));
        let modified = fs::metadata(&path).unwrap().modified().unwrap();

        // By another name it is the same file.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(!is_new(&link));

        set_modified(&path, modified + std::time::Duration::from_nanos(1));
        assert!(is_new(&path) && !is_new(&path));

        // Another content, with the same size and time.
        fs::write(&path, [2; 48]).unwrap();
        set_modified(&path, modified);
        assert!(is_new(&path));

        // Another file, with the same content, size and time; and then the first again.
        let other = dir.path().join("other");
        fs::write(&other, [2; 48]).unwrap();
        set_modified(&other, modified);
        assert!(is_new(&other) && !is_new(&path));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut read = FilesRead::default();
        for i in 0..MAX_STAMPS + 10 {
            let path = dir.path().join(i.to_string());
            fs::write(&path, [1]).unwrap();
            let stamp = KeyFile::open(&path).unwrap().stamp(&[1], &read);
            read.remember(stamp);
        }
        assert_eq!(read.stamps.len(), MAX_STAMPS);
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
