//! Files that the host names: keys and records.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::base::alloc::{self, NoMemory};
use crate::base::system;

/// More than any file of keys or records takes; a larger one is something else.
pub const MAX_LEN: u64 = 1 << 20;

/// An open regular file.
pub struct RegularFile {
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
    /// Larger than what such a file may be.
    TooLarge,
    /// The allocator had nothing left.
    NoMemory,
}

impl From<NoMemory> for FileError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => system::fmt_error(error, f),
            Self::NotAFile => write!(f, "not a regular file"),
            Self::TooLarge => write!(f, "larger than {MAX_LEN} bytes"),
            Self::NoMemory => NoMemory.fmt(f),
        }
    }
}

impl RegularFile {
    /// Opens a regular file; does not wait for whatever else it may be.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = system::open_to_read(path)?.map_err(FileError::Io)?;
        let metadata = file.metadata().map_err(FileError::Io)?;
        if !metadata.is_file() {
            return Err(FileError::NotAFile);
        }
        if metadata.len() > MAX_LEN {
            return Err(FileError::TooLarge);
        }
        Ok(Self { file, metadata })
    }

    /// The file as it was when it was opened.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The content, wiped when dropped.
    pub fn read(&mut self) -> Result<Zeroizing<Vec<u8>>, FileError> {
        // Room for all of it: a vector that grows leaves a copy behind.
        let mut content = Zeroizing::new(alloc::zeros(self.metadata.len() as usize)?);
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

    #[test]
    fn what_is_not_a_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let kind = |path: &Path| RegularFile::open(path).err().unwrap();
        assert!(matches!(kind(dir.path()), FileError::NotAFile));
        assert!(matches!(kind(Path::new("/dev/null")), FileError::NotAFile));
        assert!(matches!(kind(&dir.path().join("absent")), FileError::Io(_)));
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(MAX_LEN + 1).unwrap();
        assert!(matches!(kind(&large), FileError::TooLarge));
    }
}
