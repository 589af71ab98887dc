//! Compares the imports of both libraries with a table of what each directory may use: none goes up,
//! and no two files import each other. Re-exports, `super::` and paths within the code are followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Directories or files of modules, and those that each may use.
const LIBRARY: &str = "\
    base may use nothing
    keys settings report may use base
    cache may use report base
    instance may use cache keys settings report base
    tls may use instance keys settings report base
    plugin may use tls instance settings report base
    process may use tls instance report base
    api may use tls instance cache keys settings report base
    ffi may use plugin tls instance settings report base";

const FARM: &str = "\
    host keys keys::set sessions sessions::message may use nothing
    keys::plan may use keys::set
    seal boundary log_limit sessions::queue may use host
    counters sessions::tombstones may use seal
    config may use seal keys::plan keys::set
    redis sessions::stream may use config
    member sessions::publish sessions::receive keys::keeper may use MEMBER
    start may use config counters host keys::keeper log_limit member redis seal \
        sessions::publish sessions::queue sessions::receive
    orders may use counters host member start
    ffi may use boundary config host orders start";

const MEMBER: &str = "boundary config counters host keys::plan keys::set log_limit member redis seal \
    sessions::message sessions::queue sessions::stream sessions::tombstones";

type Table = Vec<(String, Vec<String>)>;

fn table(text: &str) -> Table {
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let row = |line: &str| {
        let (folders, may_use) = line.split_once(" may use ").unwrap();
        let may_use = words(&may_use.replace("MEMBER", MEMBER));
        words(folders)
            .into_iter()
            .map(move |folder| (folder, may_use.clone()))
    };
    text.lines().flat_map(row).collect()
}

/// The path of a module from the crate's root.
type Module = Vec<String>;

/// A place that names something of the crate.
struct Use {
    from: Module,
    /// From the crate's root.
    path: Module,
    is_reexport: bool,
    is_in_tests: bool,
}

/// A crate, as far as its imports go.
#[derive(Default)]
struct Crate {
    /// Modules that have a separate file.
    files: BTreeSet<Module>,
    uses: Vec<Use>,
    /// What a module re-exports, by its name there, or `*`.
    reexports: BTreeMap<Module, Vec<(String, Module)>>,
    /// The names of the items of each module.
    items: BTreeMap<Module, BTreeSet<String>>,
}

impl Crate {
    fn read(dir: &Path) -> Self {
        let mut sources = Vec::new();
        collect(dir, dir, &mut sources);
        Self::of(
            sources
                .iter()
                .map(|(path, text)| (path.as_str(), text.as_str())),
        )
    }

    /// Makes it of files with their paths below `src`.
    fn of<'a>(sources: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let mut all = Self {
            files: sources.clone().map(|(path, _)| module(path)).collect(),
            ..Self::default()
        };
        for (path, text) in sources {
            all.add(module(path), &tokens(text));
        }
        all
    }

    fn add(&mut self, file: Module, tokens: &[&str]) {
        // The modules around the current place: each with the depth of its items, and whether it is
        // for tests.
        let mut inside = vec![(file, 0, false)];
        let mut depth = 0;
        let mut is_for_tests = false;
        let (mut at, mut before) = (0, "");
        while at < tokens.len() - 1 {
            let (token, next) = (tokens[at], tokens[at + 1]);
            let &(ref module, items, is_in_tests) = inside.last().unwrap();
            at += 1;
            match token {
                "#" if next == "[" => {
                    let len = tokens[at..].iter().position(|&token| token == "]");
                    let attribute = &tokens[at..at + len.unwrap_or_default()];
                    is_for_tests |= attribute.contains(&"cfg") && attribute.contains(&"test");
                }
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                ";" => is_for_tests = false,
                "{" => {
                    is_for_tests = false;
                    depth += 1;
                }
                "}" => {
                    depth -= 1;
                    if depth < items {
                        inside.pop();
                    }
                }
                "mod" if tokens[at + 1] == "{" => {
                    let module = [&module[..], &[next.to_owned()]].concat();
                    inside.push((module, depth + 1, is_in_tests || is_for_tests));
                }
                "use" => {
                    let is_reexport = ["pub", ")"].contains(&before);
                    let mut paths = Vec::new();
                    flatten(tokens, &mut at, &[], &mut paths);
                    for (path, name) in paths {
                        let Some(path) = self.absolute(module, &path) else {
                            continue;
                        };
                        if is_reexport {
                            let all = self.reexports.entry(module.clone()).or_default();
                            all.push((name, path.clone()));
                        }
                        self.push(module, path, is_reexport, is_in_tests);
                    }
                }
                "const" | "enum" | "fn" | "static" | "struct" | "trait" | "type"
                    if depth == items && before != "*" =>
                {
                    self.items
                        .entry(module.clone())
                        .or_default()
                        .insert(next.to_owned());
                }
                _ if next == "::" && is_name(token) && before != "::" => {
                    let mut path = vec![token.to_owned()];
                    while tokens[at] == "::" && is_name(tokens[at + 1]) {
                        path.push(tokens[at + 1].to_owned());
                        at += 2;
                    }
                    if let Some(path) = self.absolute(module, &path) {
                        self.push(module, path, false, is_in_tests);
                    }
                }
                _ => {}
            }
            before = tokens[at - 1];
        }
    }

    fn push(&mut self, from: &Module, path: Module, is_reexport: bool, is_in_tests: bool) {
        self.uses.push(Use {
            from: self.file_of(from),
            path,
            is_reexport,
            is_in_tests,
        });
    }

    /// Returns the path from the crate's root, or `None` for a path of another crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let base = match first.as_str() {
            "crate" => vec![],
            "self" => module.clone(),
            "super" => {
                let parent = &module[..module.len().checked_sub(1)?].to_vec();
                if rest.first().is_some_and(|next| next == "super") {
                    return self.absolute(parent, rest);
                }
                parent.clone()
            }
            child => {
                let child = [&module[..], &[child.to_owned()]].concat();
                if !self.files.contains(&child) {
                    return None;
                }
                child
            }
        };
        Some([&base[..], rest].concat())
    }

    /// Returns the file that contains a module.
    fn file_of(&self, module: &Module) -> Module {
        let mut file = module.clone();
        while !file.is_empty() && !self.files.contains(&file) {
            file.pop();
        }
        file
    }

    /// Returns the file that defines what a path names, through all re-exports.
    fn target(&self, path: &Module, depth: usize) -> Module {
        assert!(depth < 20, "{path:?} is re-exported in a circle");
        let file = self.file_of(path);
        let Some(name) = path.get(file.len()) else {
            return file;
        };
        let defines = |module: &Module| {
            let items = self.items.get(module);
            items.is_some_and(|items| items.contains(name))
        };
        if defines(&file) {
            return file;
        }
        for (passed_on, to) in self.reexports.get(&file).into_iter().flatten() {
            let mut to = to.clone();
            if passed_on == "*" {
                to.pop();
                to.push(name.clone());
                let found = self.target(&to, depth + 1);
                if defines(&found) {
                    return found;
                }
            } else if passed_on == name {
                return self.target(&to, depth + 1);
            }
        }
        file
    }

    /// Returns the faults of the imports.
    fn faults(&self, table: &Table) -> BTreeSet<String> {
        let mut faults = BTreeSet::new();
        let mut edges = BTreeMap::<Module, BTreeSet<Module>>::new();
        for used in &self.uses {
            let to = self.target(&used.path, 0);
            if to == used.from {
                continue;
            }
            if let (Some((from, may_use)), Some((folder, _))) =
                (row(table, &used.from), row(table, &to))
                && from != folder
                && !may_use.contains(folder)
            {
                faults.insert(format!(
                    "{} uses {}",
                    used.from.join("::"),
                    used.path.join("::")
                ));
            }
            if !used.is_reexport && !used.is_in_tests {
                edges.entry(used.from.clone()).or_default().insert(to);
            }
        }
        for file in &self.files {
            if !file.is_empty() && row(table, file).is_none() {
                faults.insert(format!("{} is not in the table", file.join("::")));
            }
            if let Some(circle) = circle(&edges, file) {
                faults.insert(format!("a circle: {circle}"));
            }
        }
        faults
    }
}

/// Returns the row for a file: the one with the longest path that fits.
fn row<'a>(table: &'a Table, file: &Module) -> Option<&'a (String, Vec<String>)> {
    let file = file.join("::");
    let is_below = |row: &&(String, _)| {
        let rest = file.strip_prefix(&row.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    table.iter().filter(is_below).max_by_key(|row| row.0.len())
}

/// Returns a path of imports from a file back to itself.
fn circle(edges: &BTreeMap<Module, BTreeSet<Module>>, start: &Module) -> Option<String> {
    let mut before = BTreeMap::<&Module, &Module>::new();
    let mut open = vec![start];
    while let Some(file) = open.pop() {
        for next in edges.get(file).into_iter().flatten() {
            if next == start {
                let mut way = vec![start.join("::"), file.join("::")];
                let mut at = file;
                while let Some(earlier) = before.get(at) {
                    way.push(earlier.join("::"));
                    at = earlier;
                }
                way.reverse();
                return Some(way.join(" -> "));
            }
            if !before.contains_key(next) {
                before.insert(next, file);
                open.push(next);
            }
        }
    }
    None
}

/// Returns the module of a file, given its path below `src`.
fn module(path: &str) -> Module {
    let path = path.strip_suffix(".rs").unwrap();
    let parts = path
        .split('/')
        .filter(|part| !["lib", "mod"].contains(part));
    parts.map(str::to_owned).collect()
}

fn collect(root: &Path, dir: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, into);
        } else {
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            into.push((name, fs::read_to_string(path).unwrap()));
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first == '_' || first.is_ascii_alphabetic())
}

/// Returns the length of the name or number with which the text begins. It makes no calls, because it is
/// the test's inner loop, and not optimised.
fn word(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut len = 0;
    while len < bytes.len() && matches!(bytes[len], b'a'..=b'z' | b'_' | b'A'..=b'Z' | b'0'..=b'9')
    {
        len += 1;
    }
    len
}

/// Returns names, `::` and single signs, then "", without comments, literals, lifetimes and operators.
fn tokens(mut text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    loop {
        let bytes = text.as_bytes();
        let mut space = 0;
        while space < bytes.len() && bytes[space] <= b' ' {
            space += 1;
        }
        text = &text[space..];
        let Some(first) = text.as_bytes().first() else {
            tokens.push("");
            return tokens;
        };
        let len = match first {
            b'/' if text.starts_with("//") => text.find('\n').unwrap_or(text.len()),
            b'"' => literal(text, '"'),
            b'\'' if text[1..].starts_with('\\') || text[1..].chars().nth(1) == Some('\'') => {
                literal(text, '\'')
            }
            b'\'' => 1 + word(&text[1..]),
            b'r' if text.starts_with("r\"") || text.starts_with("r#") => raw_literal(text),
            b'0'..=b'9' => word(text),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let len = word(text);
                tokens.push(&text[..len]);
                len
            }
            b'.' | b'&' | b'=' | b'|' | b'+' | b'-' | b'!' => 1,
            _ => {
                let len = if text.starts_with("::") { 2 } else { 1 };
                tokens.push(&text[..len]);
                len
            }
        };
        text = &text[len..];
    }
}

fn raw_literal(text: &str) -> usize {
    let open = text.find('"').unwrap() + 1;
    let end = format!("\"{}", "#".repeat(open - 2));
    open + text[open..].find(&end).unwrap() + end.len()
}

/// Returns the length of the literal with which the text begins.
fn literal(text: &str, quote: char) -> usize {
    let mut len = 1;
    loop {
        let end = text[len..].find([quote, '\\']).unwrap();
        let is_end = text[len + end..].starts_with(quote);
        len += end + if is_end { 1 } else { 2 };
        if is_end {
            return len;
        }
    }
}

/// Splits a use tree into its paths, each with the name that it gets. Ends behind the `;` or the `}` of
/// the tree.
fn flatten(tokens: &[&str], at: &mut usize, start: &[String], into: &mut Vec<(Module, String)>) {
    let mut path = start.to_vec();
    let mut name = None;
    loop {
        let token = tokens[*at];
        *at += 1;
        match token {
            "{" => {
                flatten(tokens, at, &path, into);
                path = start.to_vec();
            }
            "as" => {
                name = Some(tokens[*at].to_owned());
                *at += 1;
            }
            "," | "}" | ";" => {
                let len = path.len();
                // `module::{self}` is the module.
                if len > 1 && path[len - 1] == "self" {
                    path.pop();
                }
                if len > start.len() {
                    let name = name.take().or_else(|| path.last().cloned());
                    into.push((path, name.unwrap_or_default()));
                }
                path = start.to_vec();
                if token != "," {
                    return;
                }
            }
            "::" => {}
            token => path.push(token.to_owned()),
        }
    }
}

fn check(source: &str, may_use: &str) {
    let library = Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(source));
    assert!(library.uses.len() > 100, "{}", library.uses.len());
    assert_eq!(library.faults(&table(may_use)), BTreeSet::new());
}

#[test]
fn no_import_of_the_library_goes_up_or_round() {
    check("src", LIBRARY);
}

#[test]
fn no_import_of_the_farm_goes_up_or_round() {
    check("farm/src", FARM);
}

/// A small crate without faults: `top` may use `low`, and both have two files.
const WELL: [(&str, &str); 7] = [
    ("lib.rs", "mod low; mod top; pub use top::one::Top;"),
    ("low/mod.rs", "pub mod a; pub mod b; pub use a::A;"),
    ("low/a.rs", "pub struct A; pub const N: u8 = 0;"),
    (
        "low/b.rs",
        "use super::A; pub fn b(_: A) {} #[cfg(test)] mod tests { use super::*; fn t() { b(A) } }",
    ),
    (
        "top/mod.rs",
        "mod one; mod two; pub use one::Top; pub use two::*;",
    ),
    (
        "top/one.rs",
        "use crate::low::{self, a::{A as _, N}, b}; pub struct Top; fn f() { low::b::b(crate::low::A); b::b(low::A) }",
    ),
    ("top/two.rs", "use super::one::Top; pub fn two(_: Top) {}"),
];

const SMALL: &str = "low may use nothing\ntop may use low";

fn faults_with(file: &str, more: &str) -> Vec<String> {
    let sources = WELL.map(|(path, text)| {
        let more = if path == file { more } else { "" };
        (path, format!("{text}\n{more}\n"))
    });
    let sources = sources
        .each_ref()
        .map(|(path, text)| (*path, text.as_str()));
    Crate::of(sources.into_iter())
        .faults(&table(SMALL))
        .into_iter()
        .collect()
}

#[test]
fn a_planted_import_of_each_kind_is_found() {
    assert_eq!(faults_with("", ""), [""; 0]);
    for (file, import) in [
        ("low/a.rs", "use crate::top::Top;"),
        ("low/a.rs", "use crate::{low::b, top::one::Top};"),
        ("low/a.rs", "use super::super::top::one as other;"),
        ("low/a.rs", "use crate::Top;"),
        ("low/a.rs", "use crate::top::two;"),
        ("low/a.rs", "fn f() { crate::top::two(todo!()) }"),
        ("low/a.rs", "fn f() { use crate::top::*; }"),
        (
            "low/a.rs",
            "fn f() { println!(\"{:?}\", crate::top::two::two as usize) }",
        ),
        ("low/mod.rs", "pub use crate::top::Top;"),
        (
            "low/a.rs",
            "#[cfg(test)] mod tests { use crate::top::Top; }",
        ),
        ("low/a.rs", "mod inner { use super::super::super::top; }"),
        (
            "low/a.rs",
            "impl From<crate::top::Top> for A { fn from(_: crate::top::Top) -> A { A } }",
        ),
        // Two files that use each other: by name, by a re-export, by the directory, in a path.
        ("low/a.rs", "use super::b;"),
        ("low/a.rs", "fn f() { super::b::b(A) }"),
        ("top/one.rs", "use super::two;"),
        ("top/one.rs", "use crate::top::two as t;"),
        ("top/one.rs", "fn g() { super::two(Top) }"),
        (
            "top/mod.rs",
            "fn here() { one::f() } pub mod three { use super::two; }",
        ),
        // Text that is not code, and code behind it.
        (
            "low/a.rs",
            r###"fn here() { "\" crate::top::two"; r#"" crate::top::two"#; } // crate::top::two"###,
        ),
        (
            "low/a.rs",
            r###"fn f<'a>() { '"'; '\''; b"\""; r#""; "#; r"\"; crate::top::two() }"###,
        ),
    ] {
        let found = faults_with(file, import);
        let expected = !import.contains("here()");
        assert_eq!(!found.is_empty(), expected, "{file}: {import}: {found:?}");
    }
    let unknown = Crate::of([("lib.rs", "mod new;"), ("new.rs", "")].into_iter());
    assert_eq!(unknown.faults(&table(SMALL)).len(), 1);
}
