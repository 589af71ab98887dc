//! A file of ticket keys.

use std::collections::hash_map::RandomState;
use std::fs::Metadata;
use std::hash::BuildHasher;
use std::os::unix::fs::MetadataExt;

use base64::engine::{Engine, general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::base::alloc::{self, NoMemory};
use crate::keys::ring::Layout;

/// A file as it was when it was read.
#[derive(PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    len: u64,
    /// Shows a rewrite within one tick of the file system's clock.
    digest: u64,
}

impl Stamp {
    /// The file with this content, as it was when it was opened. A write in the meantime gives the
    /// file another stamp.
    pub fn new(metadata: &Metadata, content: &[u8], hasher: &RandomState) -> Self {
        Self {
            digest: hasher.hash_one(content),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            len: metadata.len(),
        }
    }
}

/// The file whose keys became active last.
#[derive(Default)]
pub struct LastRead {
    /// `None` before the first.
    pub stamp: Option<Stamp>,
    /// When it was opened: see [`crate::base::files::Content::order`].
    pub order: u64,
}

impl LastRead {
    /// Whether another file, or a changed version of this one, takes its place: it was opened later,
    /// and its stamp differs. If the stamp is the same, this file was read again.
    pub fn is_outdone_by(&mut self, stamp: &Stamp, order: u64) -> bool {
        let is_other = self.stamp.as_ref() != Some(stamp);
        let is_later = order > self.order;
        if !is_other {
            self.order = self.order.max(order);
        }
        is_other && is_later
    }
}

/// Whether users other than its owner can read or write a file.
pub fn is_open_to_others(metadata: &Metadata) -> bool {
    metadata.mode() & 0o066 != 0
}

/// A sequence of keys, wiped when dropped, and their layout.
pub type Keys = (Zeroizing<Vec<u8>>, Layout);

/// The keys in a file, which can begin with a byte order mark. A file has one of two formats:
///
/// * Bytes: keys of 48 bytes, as in ATS. If the length is a multiple of 80 and not of 48, they are
///   the 80-byte keys of nginx.
/// * Lines of base64: all keys of 48 or all of 80 bytes, as in HAProxy. The last but one encrypts;
///   the last one is next, and only decrypts so far.
///
/// `None` for other text, whose letters would make keys that are easy to guess: text with line
/// breaks, hexadecimal digits, and keys that a line break follows. Letters without a line break that
/// fill whole keys are keys: ATS's manual makes such files.
pub fn keys(mut content: Zeroizing<Vec<u8>>) -> Result<Option<Keys>, NoMemory> {
    if content.starts_with(UTF8_BOM) && is_text(&content) {
        content.drain(..UTF8_BOM.len());
    }
    if let Some(keys) = lines_of_base64(&content)? {
        return Ok(Some(keys));
    }
    let layout_of = |len: usize| {
        let mut layouts = [Layout::ATS, Layout::NGINX_256].into_iter();
        layouts.find(|layout| len.is_multiple_of(layout.key_len()))
    };
    let layout = layout_of(content.len());
    let has_lines = content.contains(&b'\n') || content.contains(&b'\r');
    let ends_in_line = layout.is_none()
        && [&b"\n"[..], b"\r\n"].iter().any(|line_break| {
            let keys = content.strip_suffix(*line_break);
            keys.is_some_and(|keys| layout_of(keys.len()).is_some())
        });
    if has_lines && is_text(&content) || ends_in_line || is_hex(&content) || is_utf16(&content) {
        return Ok(None);
    }
    Ok(Some((content, layout.unwrap_or(Layout::ATS))))
}

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

/// Whether this is text in UTF-8, apart from at most one byte in 32.
///
/// About 0.465^n of all runs of n bytes are text without an exception (98 of 256 bytes are ASCII
/// text; more begin longer letters). So one in 10^13 random keys of 48 bytes is taken for text, and
/// even fewer runs of several keys. The caller also requires a line break, which half of those have.
fn is_text(content: &[u8]) -> bool {
    let strange: usize = content
        .utf8_chunks()
        .map(|chunk| {
            let letters = chunk.valid().chars();
            chunk.invalid().len() + letters.filter(|letter| !is_of_text(*letter)).count()
        })
        .sum();
    strange <= content.len() / 32
}

fn is_of_text(letter: char) -> bool {
    !letter.is_control() || letter.is_ascii_whitespace()
}

/// Whether this is hexadecimal text: both digits and letters, with or without separators. One in
/// 10^48 random keys of 48 bytes is.
fn is_hex(content: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_hexdigit() || b" \t:,-_xX{}".contains(byte);
    content.iter().all(is_digit)
        && content.iter().any(u8::is_ascii_digit)
        && content.iter().any(u8::is_ascii_alphabetic)
}

/// Whether this is text in UTF-16, in either byte order: at least half of its units are ASCII text.
/// One unit in 700 is by chance, so one in 10^27 random keys of 48 bytes is taken for text.
fn is_utf16(content: &[u8]) -> bool {
    let (units, _) = content.as_chunks::<2>();
    [u16::from_le_bytes, u16::from_be_bytes].iter().any(|unit| {
        let ascii = units.iter().filter(|bytes| {
            u8::try_from(unit(**bytes)).is_ok_and(|byte| byte.is_ascii() && is_of_text(byte.into()))
        });
        !units.is_empty() && ascii.count() * 2 >= units.len()
    })
}

/// The keys of a file that has only whole lines of base64, with the key that encrypts first. One
/// line is enough to recognize the format: it is longer than a key, and all of its bytes are
/// letters, digits, `+`, `/` or `=`.
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
    use crate::base::files;
    use proptest::prelude::*;
    use std::fs::{self, File};
    use std::path::Path;

    #[test]
    fn only_a_change_makes_a_file_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let hasher = RandomState::new();
        let mut last = LastRead::default();
        let mut is_new = |path: &Path| {
            let content = files::read(path).unwrap();
            let stamp = Stamp::new(&content.metadata, &content.bytes, &hasher);
            let is_new = last.is_outdone_by(&stamp, content.order);
            last = LastRead {
                stamp: Some(stamp),
                order: content.order,
            };
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
        assert!(is_new(&other) && is_new(&path) && !is_new(&path));
    }

    #[test]
    fn of_two_files_the_one_that_was_opened_later_stays() {
        let dir = tempfile::tempdir().unwrap();
        let hasher = RandomState::new();
        let [early, late, again] = [1, 2, 1].map(|byte| {
            let path = dir.path().join(byte.to_string());
            if !path.exists() {
                fs::write(&path, [byte; 48]).unwrap();
            }
            let content = files::read(&path).unwrap();
            let stamp = Stamp::new(&content.metadata, &content.bytes, &hasher);
            (stamp, content.order)
        });
        let mut last = LastRead::default();
        assert!(last.is_outdone_by(&early.0, early.1));
        // It was read once more after the second was opened.
        last = LastRead {
            stamp: Some(early.0),
            order: early.1,
        };
        assert!(!last.is_outdone_by(&again.0, again.1));
        assert!(!last.is_outdone_by(&late.0, late.1));
        last = LastRead {
            stamp: Some(late.0),
            order: late.1,
        };
        assert!(!last.is_outdone_by(&again.0, early.1));
    }

    /// The keys in a file of these bytes.
    fn read(content: &[u8]) -> Option<(Vec<u8>, Layout)> {
        let keys = keys(Zeroizing::new(content.to_vec())).unwrap();
        keys.map(|(keys, layout)| (keys.to_vec(), layout))
    }

    #[test]
    fn the_length_tells_the_layout_and_48_is_the_rule() {
        for (len, layout) in [
            (0, Layout::ATS),
            (47, Layout::ATS),
            (48, Layout::ATS),
            (49, Layout::ATS),
            (79, Layout::ATS),
            (80, Layout::NGINX_256),
            (81, Layout::ATS),
            (96, Layout::ATS),
            (160, Layout::NGINX_256),
            (240, Layout::ATS),
            (400, Layout::NGINX_256),
        ] {
            for byte in [b'a', 0xa5] {
                let content = vec![byte; len];
                let expected = Some((content.clone(), layout));
                assert_eq!(read(&content), expected, "{len} bytes");
            }
        }
    }

    proptest! {
        #[test]
        fn random_bytes_are_keys(
            content in proptest::collection::vec(any::<u8>(), 48),
            repeats in 1usize..4,
        ) {
            let content = content.repeat(repeats);
            prop_assert_eq!(read(&content), Some((content, Layout::ATS)));
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
                let order: Vec<u8> = order.iter().flat_map(|byte| key(*byte)).collect();
                let given = lines(&given);
                assert_eq!(read(&given), Some((order.clone(), layout)));
                assert_eq!(read(&[UTF8_BOM, &given].concat()), Some((order, layout)));
            }
        }
        // With the line breaks of another system, and without the last one.
        let mut content = lines(&[&[7; 80], &[8; 80]]);
        content.pop();
        let text = String::from_utf8(content.to_vec()).unwrap();
        let (keys, layout) = read(text.replace('\n', "\r\n\n").as_bytes()).unwrap();
        assert_eq!((layout, &keys[..80]), (Layout::HAPROXY_256, &[7; 80][..]));
    }

    #[test]
    fn other_text_is_refused_whatever_its_length() {
        let four = lines(&[&[1; 48], &[2; 48], &[3; 48], &[4; 48]]);
        let mut damaged = four[..195].to_vec();
        damaged[70] = b'!';
        let mut strange = four[..195].to_vec();
        strange[70] = 0xe9;
        let mut commented = "# clés\n".as_bytes().to_vec();
        commented.extend_from_slice(&lines(&[&[1; 80]]));
        let wrapped = STANDARD.encode([1; 80]);
        let wrapped = format!("{}\n{}\n", &wrapped[..64], &wrapped[64..]);
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n",
            "MIICyTCCAbGgAwIBAgIUdiuP7kz2WjRbS0wm4VIzXUr6tD8wDQYJKoZIhvcNAQEL\n".repeat(15)
        );
        let hex = "0123456789abcdef".repeat(6);
        let utf16 = |text: &[u8], bytes: fn(u16) -> [u8; 2], mark: &[u16]| -> Vec<u8> {
            let units = text.iter().map(|byte| u16::from(*byte));
            mark.iter().copied().chain(units).flat_map(bytes).collect()
        };
        let texts = [
            damaged,
            strange,
            commented,
            wrapped.into_bytes(),
            pem.into_bytes(),
            lines(&[&[1; 48], &[1; 80]]).to_vec(),
            lines(&[&[1; 47]]).to_vec(),
            hex.clone().into_bytes(),
            hex.replace('8', "8:").into_bytes(),
            hex.replace('8', "8, 0x").into_bytes(),
            [b'a'; 48].into_iter().chain([b'\n']).collect(),
            [b'a'; 80].into_iter().chain(*b"\r\n").collect(),
            utf16(&four, u16::to_le_bytes, &[0xfeff]),
            utf16(&four, u16::to_be_bytes, &[0xfeff]),
            utf16(&four, u16::to_le_bytes, &[]),
            b"\n".to_vec(),
        ];
        let with_break = |len, line_break: &[u8]| [&vec![0xa5; len], line_break].concat();
        for len in [48, 80, 96, 240] {
            assert_eq!(read(&with_break(len, b"\n")), None);
            assert_eq!(read(&with_break(len, b"\r\n")), None);
        }
        for text in texts {
            // Also repeated so often that it fills whole keys.
            let filled = text.repeat(48);
            for text in [&text, &filled, &[UTF8_BOM, &text].concat()] {
                assert_eq!(read(text), None, "{}", text.escape_ascii());
            }
        }
        // But letters that fill keys are keys, and so are bytes with a line break.
        let letters = STANDARD.encode([1; 108]).into_bytes();
        let mut bytes = [0xa5; 96].to_vec();
        bytes[95] = b'\n';
        for content in [&letters, &bytes] {
            assert_eq!(read(content), Some((content.clone(), Layout::ATS)));
        }
        let marked = [UTF8_BOM, &letters].concat();
        assert_eq!(read(&marked), Some((letters, Layout::ATS)));
        // A byte order mark at their beginning does not make bytes text.
        bytes[..3].copy_from_slice(UTF8_BOM);
        assert_eq!(read(&bytes), Some((bytes, Layout::ATS)));
    }
}
