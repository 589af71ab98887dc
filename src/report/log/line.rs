//! A log line. It needs no allocation: lines matter most when there is no memory.

use std::ffi::CStr;
use std::fmt::{self, Write};

use log::Level;

/// All tags that a line can have: those of ATS.
pub(super) const TAGS: [&CStr; 5] = [
    c"ssl.session_cache",
    c"ssl.session_cache.insert",
    c"ssl.session_cache.get",
    c"ssl.session_cache.remove",
    c"ssl_session_ticket",
];

/// The tag of a line's target.
pub(super) fn tag(target: &str) -> &'static CStr {
    let found = TAGS.iter().find(|tag| tag.to_bytes() == target.as_bytes());
    found.unwrap_or(&TAGS[0])
}

/// The longest text of a line, in bytes; a caller can have passed a name of any length.
const MAX_TEXT: usize = 2000;

/// More than the longest head of a line on stderr.
const MAX_HEAD: usize = 60;

/// Marks text that was cut off.
const ELLIPSIS: &str = "...";

/// The head and the text, each with room for an ellipsis, and a zero.
const SIZE: usize = MAX_HEAD + MAX_TEXT + 2 * ELLIPSIS.len() + 1;

/// A text without line breaks, and the head that it has on stderr.
pub(super) struct Line {
    bytes: [u8; SIZE],
    /// Where the text begins.
    start: usize,
    /// Where it ends.
    end: usize,
    /// Where it is cut off.
    limit: usize,
    is_cut: bool,
}

impl Line {
    pub(super) fn new(level: Level, target: &str) -> Self {
        let mut line = Self {
            bytes: [0; SIZE],
            start: 0,
            end: 0,
            limit: MAX_HEAD,
            is_cut: false,
        };
        let _ = write!(line, "tssession: {level}: ({target}) ");
        line.start = line.end;
        line.limit = line.start + MAX_TEXT;
        line.is_cut = false;
        line
    }

    /// The text so far.
    pub(super) fn text(&self) -> &CStr {
        let text = CStr::from_bytes_until_nul(&self.bytes[self.start..]);
        text.unwrap_or_default()
    }

    /// All of it, for stderr.
    pub(super) fn for_stderr(&mut self) -> &[u8] {
        self.bytes[self.end] = b'\n';
        &self.bytes[..=self.end]
    }

    fn append(&mut self, text: &str) {
        self.bytes[self.end..][..text.len()].copy_from_slice(text.as_bytes());
        self.end += text.len();
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|letter| self.write_char(letter))
    }

    fn write_char(&mut self, letter: char) -> fmt::Result {
        // Text from a caller can be part of the line, and must not make two lines of it.
        if letter.is_control() {
            return Ok(());
        }
        if self.is_cut {
            return Err(fmt::Error);
        }
        self.is_cut = self.end + letter.len_utf8() > self.limit;
        if self.is_cut {
            self.append(ELLIPSIS);
        } else {
            self.append(letter.encode_utf8(&mut [0; 4]));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        let mut line = Line::new(Level::Warn, "ssl.session_cache");
        let _ = write!(line, "{text}");
        line
    }

    #[test]
    fn a_line_is_one_line() {
        let mut line = line("a\nb\0c\u{85}d");
        assert_eq!(line.text(), c"abcd");
        let all = line.for_stderr();
        assert_eq!(all, b"tssession: WARN: (ssl.session_cache) abcd\n");
    }

    #[test]
    fn what_is_too_long_is_cut_between_letters() {
        for (letter, fits) in [("x", MAX_TEXT), ("\u{e9}", MAX_TEXT / 2), ("\u{20ac}", 666)] {
            let whole = letter.repeat(fits);
            assert_eq!(line(&whole).text().to_str(), Ok(&*whole));
            let mut longer = line(&letter.repeat(fits + 1));
            let _ = write!(longer, " and more");
            assert_eq!(longer.text().to_str(), Ok(&*(whole + ELLIPSIS)));
            assert_eq!(longer.for_stderr().last(), Some(&b'\n'));
        }
        let mut line = Line::new(Level::Error, &"t".repeat(1000));
        let _ = write!(line, "{}", "x".repeat(MAX_TEXT + 1));
        assert_eq!(line.text().count_bytes(), MAX_TEXT + ELLIPSIS.len());
        assert_eq!(line.for_stderr().last(), Some(&b'\n'));
    }
}
