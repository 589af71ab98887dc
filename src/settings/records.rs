//! Files of ATS records: the lines of a `records.config` (ATS 9 and before) and the nested
//! maps of a `records.yaml` (ATS 10 and later).
//!
//! Such a file is usually ATS's own, and most of its records are about other things. Records that
//! this library does not know are skipped, whatever they look like.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use super::table::{self, SetError, Setting};
use crate::base::alloc::{self, NoMemory};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A record in each line.
    Lines,
    /// Nested maps.
    Yaml,
}

impl Format {
    /// The format that the end of the file's name says: YAML for `.yaml` and `.yml`, otherwise
    /// lines.
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().unwrap_or_default();
        let is_yaml = |yaml: &&str| extension.eq_ignore_ascii_case(yaml);
        if ["yaml", "yml"].iter().any(is_yaml) {
            Self::Yaml
        } else {
            Self::Lines
        }
    }
}

/// The content of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The settings, in its order: of a record that comes twice, the later one counts.
    pub settings: Vec<Setting>,
    /// Lines with an unknown name that begins with `tssession.`, as only this library's names do.
    pub unknown: Vec<(usize, String)>,
}

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct RecordsError {
    /// The line, counted from 1.
    pub line: usize,
    /// The name of the record in the file, if the problem is one of a record.
    pub record: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    /// It does not begin with one of the words that a record begins with.
    NotARecord,
    /// The record has no type and value.
    NoValue,
    /// The type is not the record's.
    NotOfType(&'static str),
    /// The value is not valid for the record.
    Value(SetError),
    /// A list or a map stands in the place of a value.
    NotAScalar,
    /// An alias or a merge key stands in the place of a value or of a map of records.
    Alias,
    /// Something else stands in the place of a map.
    NotAMap,
    /// There is neither a map of ATS's records nor one of this library's own.
    NoRecords,
    /// The file is not UTF-8, which YAML must be.
    NotUtf8,
    /// The error of the YAML parser.
    Yaml(String),
    /// The allocator had nothing left.
    NoMemory,
}

impl fmt::Display for RecordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if let Some(record) = &self.record {
            write!(f, "{record}: ")?;
        }
        self.problem.fmt(f)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecord => write!(f, "not a record: a line must begin with one of {SCOPES:?}"),
            Self::NoValue => write!(f, "the value is missing"),
            Self::NotOfType(name) => write!(f, "the type must be {name}"),
            Self::Value(error) => error.fmt(f),
            Self::NotAScalar => write!(f, "a list or a map, but it must be a single value"),
            Self::Alias => write!(f, "YAML aliases and merge keys are not supported here"),
            Self::NotAMap => write!(f, "not a map"),
            Self::NoRecords => write!(
                f,
                "neither \"records:\" nor \"tssession:\" is at the top level"
            ),
            Self::NotUtf8 => write!(f, "not UTF-8"),
            Self::Yaml(error) => write!(f, "not YAML: {error}"),
            Self::NoMemory => NoMemory.fmt(f),
        }
    }
}

/// Reads a file.
pub fn parse(content: &[u8], format: Format) -> Result<Records, RecordsError> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    match format {
        Format::Lines => parse_lines(content),
        Format::Yaml => parse_yaml(content),
    }
}

/// The words that a line can begin with: those of all versions of ATS.
const SCOPES: [&str; 6] = ["CONFIG", "LOCAL", "PROCESS", "NODE", "CLUSTER", "PLUGIN"];

/// Whether the name begins as only this library's names do.
fn is_own(name: &str) -> bool {
    name.split('.').next() == Some("tssession")
}

fn parse_lines(content: &[u8]) -> Result<Records, RecordsError> {
    let mut records = Records::default();
    for (at, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let mut rest = line;
        let scope = word(&mut rest);
        if scope.is_empty() || scope.starts_with(b"#") {
            continue;
        }
        // If there is no memory for the record's name, the error is without it.
        let error = |record: Option<&str>, problem| RecordsError {
            line: at + 1,
            record: record.and_then(|name| alloc::string(name).ok()),
            problem,
        };
        let no_memory = || error(None, Problem::NoMemory);
        if !SCOPES.iter().any(|known| known.as_bytes() == scope) {
            return Err(error(None, Problem::NotARecord));
        }
        let name = str::from_utf8(word(&mut rest)).unwrap_or_default();
        if table::is_known(name) {
            let setting = value_of(name, rest).map_err(|problem| error(Some(name), problem))?;
            let room = records.settings.try_reserve(1);
            room.map_err(|_| no_memory())?;
            records.settings.push(setting);
        } else if is_own(name) {
            let room = records.unknown.try_reserve(1);
            room.map_err(|_| no_memory())?;
            let name = alloc::string(name).map_err(|_| no_memory())?;
            records.unknown.push((at + 1, name));
        }
    }
    Ok(records)
}

/// The setting of this name, from `rest`: the type and the value in a line.
fn value_of(name: &str, mut rest: &[u8]) -> Result<Setting, Problem> {
    let kind = word(&mut rest);
    let mut value = rest.trim_ascii();
    if value.is_empty() {
        return Err(Problem::NoValue);
    }
    // Text ends with the line; a comment can follow a number.
    if kind == b"INT" {
        let number = word(&mut rest);
        if rest.trim_ascii_start().starts_with(b"#") {
            value = number;
        }
    }
    let setting = Setting::parse(name, OsStr::from_bytes(value)).map_err(Problem::Value)?;
    let expected = if setting.is_number() { "INT" } else { "STRING" };
    if kind == expected.as_bytes() {
        Ok(setting)
    } else {
        Err(Problem::NotOfType(expected))
    }
}

/// Takes the next word off a line.
fn word<'a>(line: &mut &'a [u8]) -> &'a [u8] {
    let trimmed = line.trim_ascii_start();
    let len = trimmed
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(trimmed.len());
    let (word, rest) = trimmed.split_at(len);
    *line = rest;
    word
}

fn parse_yaml(content: &[u8]) -> Result<Records, RecordsError> {
    let text = str::from_utf8(content).map_err(|error| {
        let valid = &content[..error.valid_up_to()];
        RecordsError {
            line: 1 + valid.iter().filter(|byte| **byte == b'\n').count(),
            record: None,
            problem: Problem::NotUtf8,
        }
    })?;
    // The parser counts one line too many at the end of a text whose last line has no line break.
    let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count();
    let mut reader = YamlReader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| not_yaml(error, lines))?;
        reader.line = span.start.line().min(lines);
        let read = reader.read(event);
        read.map_err(|(record, problem)| RecordsError {
            line: reader.line,
            record,
            problem,
        })?;
    }
    if !reader.has_records {
        return Err(RecordsError {
            line: 1,
            record: None,
            problem: Problem::NoRecords,
        });
    }
    Ok(reader.records)
}

fn not_yaml(error: ScanError, lines: usize) -> RecordsError {
    RecordsError {
        line: error.marker().line().min(lines),
        record: None,
        problem: Problem::Yaml(error.info().to_owned()),
    }
}

/// Goes through the nested maps without building them. Whatever the nesting and the aliases, this
/// takes no more memory than the text.
#[derive(Default)]
struct YamlReader {
    /// The maps and lists that are open.
    open: Vec<Open>,
    /// The line of the event that is read.
    line: usize,
    /// Whether a key at the top level can have records below it.
    has_records: bool,
    records: Records,
}

enum Open {
    /// A map that can have records in it.
    Map {
        /// The keys that lead to it, with dots between them.
        path: String,
        /// The key whose value comes next; `None` before a key.
        key: Option<String>,
    },
    /// Any other map or list.
    Skipped,
}

type YamlProblem = (Option<String>, Problem);

impl YamlReader {
    fn read(&mut self, event: Event<'_>) -> Result<(), YamlProblem> {
        match event {
            Event::Scalar(text, style, ..) => {
                let null = style == ScalarStyle::Plain
                    && ["", "~", "null", "Null", "NULL"].contains(&&*text);
                match self.open.last_mut() {
                    // An empty document.
                    None if null => Ok(()),
                    None => Err((None, Problem::NotAMap)),
                    // The key that merges another map into this one.
                    Some(Open::Map { path, key: None }) if text == "<<" && !path.is_empty() => {
                        Err((Some(format!("{path}.<<")), Problem::Alias))
                    }
                    Some(Open::Map {
                        path,
                        key: key @ None,
                    }) => {
                        self.has_records |= path.is_empty() && may_have_records(&text);
                        *key = Some(text.into_owned());
                        Ok(())
                    }
                    Some(Open::Map { .. }) => self.value(&text, null),
                    Some(Open::Skipped) => Ok(()),
                }
            }
            Event::MappingStart(..) => self.begin(true),
            Event::SequenceStart(..) => self.begin(false),
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
                Ok(())
            }
            Event::Alias(_) => match self.next_path() {
                Some(path) if may_have_records(&path) || is_record(&path) => {
                    Err((Some(record_name(&path).unwrap_or(path)), Problem::Alias))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The path of what comes next, if that is the value of a key. A map or an alias can also be a
    /// key, but not the name of a record: it counts as an empty key.
    fn next_path(&mut self) -> Option<String> {
        let Some(Open::Map { path, key }) = self.open.last_mut() else {
            return None;
        };
        match key.take() {
            Some(key) if path.is_empty() => Some(key),
            Some(key) => Some(format!("{path}.{key}")),
            None => {
                *key = Some(String::new());
                None
            }
        }
    }

    /// A map or a list begins.
    fn begin(&mut self, is_map: bool) -> Result<(), YamlProblem> {
        let is_top = self.open.is_empty();
        let path = if is_top {
            Some(String::new())
        } else {
            self.next_path()
        };
        let opened = match path {
            Some(path) if is_map && (is_top || may_have_records(&path)) => {
                Open::Map { path, key: None }
            }
            _ if is_top => return Err((None, Problem::NotAMap)),
            Some(path) if is_record(&path) => {
                return Err((record_name(&path), Problem::NotAScalar));
            }
            Some(path) if may_have_records(&path) => return Err((Some(path), Problem::NotAMap)),
            Some(path) => {
                self.note_unknown(&path);
                Open::Skipped
            }
            None => Open::Skipped,
        };
        self.open.push(opened);
        Ok(())
    }

    fn note_unknown(&mut self, path: &str) {
        if let Some(name) = record_name(path).filter(|name| is_own(name)) {
            self.records.unknown.push((self.line, name));
        }
    }

    /// A value that is a single text.
    fn value(&mut self, text: &str, null: bool) -> Result<(), YamlProblem> {
        let Some(path) = self.next_path() else {
            return Ok(());
        };
        let name = match record_name(&path) {
            Some(name) if table::is_known(&name) => name,
            _ if may_have_records(&path) && !null => {
                return Err((Some(path), Problem::NotAMap));
            }
            _ => {
                self.note_unknown(&path);
                return Ok(());
            }
        };
        let parsed = Setting::parse(&name, OsStr::new(if null { "NULL" } else { text }));
        match parsed {
            Ok(setting) => self.records.settings.push(setting),
            // A number that is null keeps its default.
            Err(_) if null => {}
            Err(error) => return Err((Some(name), Problem::Value(error))),
        }
        Ok(())
    }
}

/// The name of the record that a path in a YAML file stands for. Under `records` ATS's names stand
/// without `proxy.config`; this library's own are at the top level or under `records`.
fn record_name(path: &str) -> Option<String> {
    match path.strip_prefix("records.") {
        Some(own) if is_own(own) => Some(own.to_owned()),
        Some(rest) => Some(format!("proxy.config.{rest}")),
        None if is_own(path) => Some(path.to_owned()),
        None => None,
    }
}

fn is_record(path: &str) -> bool {
    record_name(path).is_some_and(|name| table::is_known(&name))
}

fn may_have_records(path: &str) -> bool {
    path == "records" || record_name(path).is_some_and(|name| table::is_known_group(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: &str = "proxy.config.ssl.session_cache.size";
    const FILE: &str = "proxy.config.ssl.server.ticket_key.filename";
    const CACHE: &str = "proxy.config.ssl.session_cache";
    const BYTES: &str = "tssession.session_cache.max_bytes";

    fn setting(name: &str, value: &str) -> Setting {
        Setting::parse(name, OsStr::new(value)).unwrap()
    }

    fn lines(text: &str) -> Result<Vec<Setting>, RecordsError> {
        parse(text.as_bytes(), Format::Lines).map(|records| records.settings)
    }

    fn yaml(text: &str) -> Result<Vec<Setting>, RecordsError> {
        parse(text.as_bytes(), Format::Yaml).map(|records| records.settings)
    }

    fn error(line: usize, record: &str, problem: Problem) -> RecordsError {
        RecordsError {
            line,
            record: (!record.is_empty()).then(|| record.to_owned()),
            problem,
        }
    }

    #[test]
    fn the_name_tells_the_format() {
        for (name, format) in [
            ("records.config", Format::Lines),
            ("records.yaml", Format::Yaml),
            ("/a.b/R.YML", Format::Yaml),
            ("yaml", Format::Lines),
            ("", Format::Lines),
        ] {
            assert_eq!(Format::of(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn lines_as_ats_reads_them() {
        let text = "\u{feff}# a comment\r\n\
            \r\n\
            \t CONFIG  proxy.config.ssl.session_cache.size\tINT  4K  # sessions\r\n\
            LOCAL proxy.config.ssl.session_cache INT 0x1\n\
            CONFIG proxy.config.proxy_name STRING \n\
            CONFIG proxy.config.http.server_ports STRING 8080 8443:ssl # more\n\
            CONFIG a\n\
            PLUGIN\n\
            CONFIG proxy.config.ssl.server.ticket_key.filename STRING my keys # 1  \n\
            CONFIG proxy.config.ssl.server.cert.path STRING NULL\n\
            CONFIG tssession.session_cache.max_bytes INT 0\n\
            CONFIG proxy.config.ssl.session_cache.size INT 7";
        let expected = vec![
            setting(SIZE, "4096"),
            setting(CACHE, "1"),
            setting(FILE, "my keys # 1"),
            setting("proxy.config.ssl.server.cert.path", "NULL"),
            setting(BYTES, "0"),
            setting(SIZE, "7"),
        ];
        assert_eq!(lines(text), Ok(expected));
        assert_eq!(lines(""), Ok(vec![]));
    }

    #[test]
    fn lines_that_are_none_are_named() {
        let bad = |rest: &str| lines(&format!("# first\nCONFIG {SIZE}{rest}\n")).unwrap_err();
        let size = |problem| error(2, SIZE, problem);
        for rest in ["", " ", " INT", " INT  "] {
            assert_eq!(bad(rest), size(Problem::NoValue), "{rest:?}");
        }
        for rest in [" INT ten", " INT 1 2", " INT 1;", " INT NULL", " INT #1"] {
            assert_eq!(
                bad(rest),
                size(Problem::Value(SetError::NotANumber)),
                "{rest:?}"
            );
        }
        assert!(matches!(
            bad(" INT 0").problem,
            Problem::Value(SetError::OutOfRange { .. })
        ));
        for rest in [" STRING 1", " int 1", " FLOAT 1"] {
            assert_eq!(bad(rest), size(Problem::NotOfType("INT")), "{rest:?}");
        }
        assert_eq!(
            lines(&format!("CONFIG {FILE} INT 1")),
            Err(error(1, FILE, Problem::NotOfType("STRING")))
        );
        for text in ["records:\n", "config a INT 1", "\0"] {
            assert_eq!(
                lines(text),
                Err(error(1, "", Problem::NotARecord)),
                "{text:?}"
            );
        }
        assert_eq!(
            bad(" INT ten").to_string(),
            format!("2: {SIZE}: the value is not a whole number")
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_are_for_paths() {
        let text = [
            b"CONFIG ".as_slice(),
            FILE.as_bytes(),
            b" STRING /\xff\nCONFIG \xfe INT 1",
        ];
        let expected = Setting::parse(FILE, OsStr::from_bytes(b"/\xff")).unwrap();
        let records = parse(&text.concat(), Format::Lines).unwrap();
        assert_eq!(records.settings, [expected]);
    }

    #[test]
    fn nested_maps_as_ats_reads_them() {
        let text = "\
records:
  accept_threads: 1
  ssl:
    session_cache:
      mode: 2
      size: 4K
      value: !!int 1
    server:
      ticket_key: {filename: 'my keys'}
      cert.path: ~
      session_ticket:
        enable: null
    client: [1, {size: 2}, [3]]
    ? [a, {b: c}]
    : {d: e}
    ? {x: y}
    : z
  tssession: {session_cache: {max_session_bytes: !!int 0x10}}
<<: {a: b}
other: &anchor {ssl: {session_cache: {size: x}}}
again: *anchor
tssession:
  session_cache:
    max_bytes: 1M
---
records:
  ssl:
    session_cache:
      size: '7'
";
        let expected = vec![
            setting(CACHE, "2"),
            setting(SIZE, "4096"),
            setting(CACHE, "1"),
            setting(FILE, "my keys"),
            setting("proxy.config.ssl.server.cert.path", "NULL"),
            setting("tssession.session_cache.max_session_bytes", "16"),
            setting(BYTES, "1048576"),
            setting(SIZE, "7"),
        ];
        assert_eq!(yaml(text), Ok(expected));
        for nothing in [
            "records:\n",
            "tssession: {}",
            "records: {a: 5}",
            "a: b\n---\nrecords: ~",
        ] {
            assert_eq!(yaml(nothing), Ok(vec![]), "{nothing:?}");
        }
        for null in ["~", "null", "Null", "NULL", ""] {
            let text = format!(
                "records: {{ssl: {{session_cache: {{size: {null}}}, server.cert.path: {null}}}}}"
            );
            assert_eq!(
                yaml(&text),
                Ok(vec![setting("proxy.config.ssl.server.cert.path", "NULL")]),
                "{null}"
            );
        }
    }

    #[test]
    fn own_names_that_there_are_not_are_told() {
        let unknown = |text: &str, format| parse(text.as_bytes(), format).unwrap().unknown;
        let name = "tssession.session_cache.max_sesion_bytes".to_owned();
        assert_eq!(
            unknown(
                &format!("CONFIG a.b INT 1\nCONFIG {name} INT 1\n"),
                Format::Lines
            ),
            [(2, name.clone())]
        );
        for (text, line) in [
            (
                "records:\n tssession: {session_cache: {max_sesion_bytes: 1}}\n",
                2,
            ),
            ("tssession:\n session_cache:\n  max_sesion_bytes: [1]\n", 3),
        ] {
            assert_eq!(
                unknown(text, Format::Yaml),
                [(line, name.clone())],
                "{text}"
            );
        }
    }

    #[test]
    fn maps_that_are_none_are_named() {
        let size = |value: &str| {
            yaml(&format!(
                "records:\n ssl:\n  session_cache:\n   size: {value}"
            ))
        };
        for bad in ["ten", "true", "1.5", "''", "'null'"] {
            let expected = error(4, SIZE, Problem::Value(SetError::NotANumber));
            assert_eq!(size(bad), Err(expected), "{bad}");
        }
        for bad in ["[1]", "{a: 1}"] {
            assert_eq!(size(bad), Err(error(4, SIZE, Problem::NotAScalar)), "{bad}");
        }
        assert_eq!(size("1\n   timeout: -1").unwrap_err().line, 5);
        let aliased = "a: &a {size: 1}\nrecords:\n  ssl:\n    session_cache: *a\n";
        assert_eq!(yaml(aliased), Err(error(4, CACHE, Problem::Alias)));
        let aliased = "a: &a {ssl: {}}\nrecords: *a\n";
        assert_eq!(yaml(aliased), Err(error(2, "records", Problem::Alias)));
        for bad in [
            "5",
            "[records]",
            "a: b\n---\n- c\n",
            "records: 5",
            "records: [a]",
            "records: {ssl: 5}",
        ] {
            assert_eq!(yaml(bad).unwrap_err().problem, Problem::NotAMap, "{bad}");
        }
        for bad in [
            "",
            "# c\n",
            "~",
            "---\n",
            "a: b",
            "ssl: {session_cache: {size: 5}}",
        ] {
            assert_eq!(yaml(bad), Err(error(1, "", Problem::NoRecords)), "{bad}");
        }
        let merged = "a: &a {size: 1}\nrecords:\n  ssl:\n    session_cache:\n      <<: *a\n";
        assert_eq!(
            yaml(merged),
            Err(error(5, "records.ssl.session_cache.<<", Problem::Alias))
        );
        for bad in ["a: [", "a: b: c", "records:\n\tssl: 1\n", "a: *b"] {
            assert!(
                matches!(yaml(bad).unwrap_err().problem, Problem::Yaml(_)),
                "{bad}"
            );
        }
        // A file that is cut off has no line after its last one.
        for (cut_off, line) in [("a: {b", 1), ("a:\r\n  {b", 2), ("a: {b\n", 2)] {
            assert_eq!(yaml(cut_off).unwrap_err().line, line, "{cut_off:?}");
        }
        let no_value = parse(b"records:\n ? tssession.x", Format::Yaml).unwrap();
        assert_eq!(no_value.unknown, [(2, "tssession.x".to_owned())]);
        let not_utf8 = parse(b"a: b\nc: \xff", Format::Yaml);
        assert_eq!(not_utf8, Err(error(2, "", Problem::NotUtf8)));
    }

    #[test]
    fn nesting_does_not_reach_the_end_of_the_stack() {
        for open in ["[", "{a: ", "- ", "? "] {
            let _ = yaml(&open.repeat(50_000));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            for format in [Format::Lines, Format::Yaml] {
                let _ = parse(&content, format);
            }
        }

        #[test]
        fn any_words_are_read_or_refused(
            words in proptest::collection::vec(
                proptest::sample::select(vec![
                    "records", "ssl", "session_cache", "size", "value", ":", ": ", "\n", "\n  ", "\n    ",
                    "{", "}", "[", "]", ",", "&a", "*a", "? ", "- ", "1", "x", "'", "\"", "#", "CONFIG ",
                    SIZE, " INT ", "---\n", "<<: ", "| ", "> ", "!!int ", "~", "null",
                ]),
                0..60,
            ),
        ) {
            let text = words.concat();
            for format in [Format::Lines, Format::Yaml] {
                let _ = parse(text.as_bytes(), format);
            }
        }
    }
}
