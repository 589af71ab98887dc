//! Files that the host names: keys and records.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tssession_common::secret_file::fill;
use zeroize::Zeroizing;

use crate::base::alloc::{self, NoMemory};
use crate::base::system;

/// No file of keys or records is larger than this.
pub const MAX_LEN: u64 = 1 << 20;

/// The content of a regular file.
pub struct Content {
    /// Wiped when dropped.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The file's metadata when it was opened.
    pub metadata: Metadata,
    /// Larger than that of any file that was opened before.
    pub order: u64,
}

/// Why a file was not read.
#[derive(Debug)]
pub enum FileError {
    /// The system's error.
    Io(io::Error),
    /// A directory, a FIFO, a device.
    NotAFile,
    /// Larger than such a file may be.
    TooLarge,
    /// The allocator had no memory.
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

/// Reads a regular file. Does not wait for other kinds of file. A slow file system may take any
/// time: hold no lock.
pub fn read(path: &Path) -> Result<Content, FileError> {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    // Taken before the file is opened: of two files, the one with the higher order has newer
    // content.
    let order = OPENED.fetch_add(1, Ordering::Relaxed) + 1;
    let file = system::open_to_read(path)?.map_err(FileError::Io)?;
    let metadata = file.metadata().map_err(FileError::Io)?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile);
    }
    if metadata.len() > MAX_LEN {
        return Err(FileError::TooLarge);
    }
    let mut bytes = Zeroizing::new(alloc::zeros(metadata.len() as usize)?);
    fill(&mut bytes, file).map_err(FileError::Io)?;
    Ok(Content {
        bytes,
        metadata,
        order,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_is_not_a_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let kind = |path: &Path| read(path).err().unwrap();
        assert!(matches!(kind(dir.path()), FileError::NotAFile));
        assert!(matches!(kind(Path::new("/dev/null")), FileError::NotAFile));
        assert!(matches!(kind(&dir.path().join("absent")), FileError::Io(_)));
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(MAX_LEN + 1).unwrap();
        assert!(matches!(kind(&large), FileError::TooLarge));
    }
}
