//! A file of ticket keys.

use std::collections::hash_map::RandomState;
use std::fs::Metadata;
use std::hash::BuildHasher;
use std::os::unix::fs::MetadataExt;

use base64::engine::{Engine, general_purpose::STANDARD};
use smallvec::SmallVec;
use zeroize::Zeroizing;

use crate::base::alloc::{self, NoMemory};
use crate::keys::ring::{KEY_LEN, Layout};

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
    /// In place: to remember one takes no memory.
    stamps: SmallVec<[Stamp; MAX_STAMPS]>,
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

impl Stamp {
    /// The file with this content, at the time when it was opened: who writes to it
    /// meanwhile gives it another stamp.
    pub fn new(metadata: &Metadata, content: &[u8], read: &FilesRead) -> Self {
        Self {
            digest: read.hasher.hash_one(content),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            len: metadata.len(),
        }
    }
}

/// Whether others than its owner may read or write a file.
pub fn is_open_to_others(metadata: &Metadata) -> bool {
    metadata.mode() & 0o066 != 0
}

/// A run of keys, wiped when dropped, and their layout.
pub type Keys = (Zeroizing<Vec<u8>>, Layout);

/// What a file of keys holds.
///
/// * Bytes, of which 48 are a key, as ATS has them. Only where the length is a multiple of
///   80 and not of 48 are they the 80-byte keys of nginx.
/// * Lines of base64, each a key of 48 or each one of 80 bytes, as HAProxy has them. There
///   the last but one encrypts, and the last is one that the others have not begun with.
///
/// `None` for lines of any other text: a file of base64 that was damaged, for example, whose
/// letters would make keys too.
pub fn keys(content: Zeroizing<Vec<u8>>) -> Result<Option<Keys>, NoMemory> {
    if let Some(keys) = lines_of_base64(&content)? {
        return Ok(Some(keys));
    }
    let is_text = content
        .iter()
        .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    // ATS's manual has keys made of letters, as many as fill them.
    if is_text && content.contains(&b'\n') && !content.len().is_multiple_of(KEY_LEN) {
        return Ok(None);
    }
    let layout = [Layout::ATS, Layout::NGINX_256]
        .into_iter()
        .find(|layout| content.len().is_multiple_of(layout.key_len()));
    Ok(Some((content, layout.unwrap_or(Layout::ATS))))
}

/// The keys of a file that has nothing but whole lines of base64, the one that encrypts
/// first. One line is enough to tell: it is longer than the key, and none of its bytes is
/// other than a letter, a digit, `+`, `/` or `=`.
fn lines_of_base64(content: &[u8]) -> Result<Option<Keys>, NoMemory> {
    let lines = content
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    let line_len = lines.clone().next().map_or(0, <[u8]>::len);
    let layout = [Layout::HAPROXY_128, Layout::HAPROXY_256]
        .into_iter()
        .find(|layout| layout.key_len().div_ceil(3) * 4 == line_len);
    let Some(layout) = layout else {
        return Ok(None);
    };
    let key_len = layout.key_len();
    let mut keys = Zeroizing::new(alloc::zeros(lines.clone().count() * key_len)?);
    for (line, key) in lines.zip(keys.chunks_exact_mut(key_len)) {
        if STANDARD.decode_slice(line, key) != Ok(key_len) {
            return Ok(None);
        }
    }
    let encrypts = (keys.len() / key_len).saturating_sub(2);
    keys[..(encrypts + 1) * key_len].rotate_right(key_len);
    Ok(Some((keys, layout)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::files::RegularFile;
    use std::fs::{self, File};
    use std::path::Path;

    #[test]
    fn only_a_change_makes_a_file_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let mut read = FilesRead::default();
        let mut is_new = |path: &Path| {
            let mut file = RegularFile::open(path).unwrap();
            let content = file.read().unwrap();
            let stamp = Stamp::new(file.metadata(), &content, &read);
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
            let file = RegularFile::open(&path).unwrap();
            let stamp = Stamp::new(file.metadata(), &[1], &read);
            read.remember(stamp);
        }
        assert_eq!(read.stamps.len(), MAX_STAMPS);
    }

    #[test]
    fn the_length_tells_the_layout_and_48_is_the_rule() {
        for (len, layout) in [
            (0, Layout::ATS),
            (47, Layout::ATS),
            (48, Layout::ATS),
            (79, Layout::ATS),
            (80, Layout::NGINX_256),
            (81, Layout::ATS),
            (96, Layout::ATS),
            (160, Layout::NGINX_256),
            (240, Layout::ATS),
            (400, Layout::NGINX_256),
        ] {
            let content = Zeroizing::new(vec![b'a'; len]);
            let (keys, found) = keys(content.clone()).unwrap().unwrap();
            assert_eq!((found, keys), (layout, content), "{len} bytes");
        }
    }

    fn lines(keys: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        let lines = keys.iter().map(|key| STANDARD.encode(key) + "\n");
        Zeroizing::new(lines.collect::<String>().into_bytes())
    }

    #[test]
    fn of_lines_of_base64_the_last_but_one_comes_first() {
        for layout in [Layout::HAPROXY_128, Layout::HAPROXY_256] {
            let key = |byte: u8| vec![byte; layout.key_len()];
            for (given, order) in [
                (&[1u8][..], &[1u8][..]),
                (&[1, 2], &[1, 2]),
                (&[1, 2, 3], &[2, 1, 3]),
                (&[1, 2, 3, 4], &[3, 1, 2, 4]),
            ] {
                let given: Vec<_> = given.iter().map(|byte| key(*byte)).collect();
                let given: Vec<_> = given.iter().map(Vec::as_slice).collect();
                let (keys, found) = keys(lines(&given)).unwrap().unwrap();
                let order: Vec<u8> = order.iter().flat_map(|byte| key(*byte)).collect();
                assert_eq!((found, &*keys), (layout, &order));
            }
        }
        // As they come from another system, and without the last line's end.
        let mut content = lines(&[&[7; 80], &[8; 80]]);
        content.pop();
        let text = String::from_utf8(content.to_vec()).unwrap();
        let text = Zeroizing::new(text.replace('\n', "\r\n\n").into_bytes());
        let (keys, layout) = keys(text).unwrap().unwrap();
        assert_eq!((layout, &keys[..80]), (Layout::HAPROXY_256, &[7; 80][..]));
    }

    #[test]
    fn other_lines_of_text_are_refused() {
        let mut damaged = lines(&[&[1; 48], &[2; 48], &[3; 48]]);
        damaged[70] = b'!';
        let mut commented = b"# keys\n".to_vec();
        commented.extend_from_slice(&lines(&[&[1; 80]]));
        let wrapped = STANDARD.encode([1; 80]);
        let wrapped = format!("{}\n{}\n", &wrapped[..64], &wrapped[64..]);
        for text in [
            damaged.to_vec(),
            commented,
            wrapped.into_bytes(),
            lines(&[&[1; 48], &[1; 80]]).to_vec(),
            lines(&[&[1; 47]]).to_vec(),
            b"0123456789abcdef"
                .repeat(6)
                .into_iter()
                .chain([b'\n'])
                .collect(),
            b"\n".to_vec(),
        ] {
            assert!(
                keys(Zeroizing::new(text.clone())).unwrap().is_none(),
                "{text:?}"
            );
        }
        // Letters that fill keys, one byte that is none, or no line at all.
        let mut letters = lines(&[&[1; 48], &[2; 48], &[3; 48], &[4; 48]]).to_vec();
        letters.truncate(144);
        letters[7] = b'!';
        let mut bytes = damaged.to_vec();
        bytes[7] = 0;
        for content in [letters, bytes, vec![b'a'; 50]] {
            let (keys, layout) = keys(Zeroizing::new(content.clone())).unwrap().unwrap();
            assert_eq!((&*keys, layout), (&content, Layout::ATS));
        }
    }
}
