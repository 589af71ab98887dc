//! Reading a file without leaving copies of it in memory.

use std::io::{self, Read};

/// Fills `bytes` from a file, and truncates them at the end of the file. `bytes` never grows: a
/// vector that grows leaves copies behind.
pub fn fill(bytes: &mut Vec<u8>, mut file: impl Read) -> io::Result<()> {
    let mut len = 0;
    while len < bytes.len() {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(len);
    Ok(())
}
