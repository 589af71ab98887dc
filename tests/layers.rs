//! The imports of both libraries, beside the table of what each folder may use: none goes up, and
//! no two files import each other. Re-exports, `super::` and paths within the code are followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Item, Visibility};

/// A folder or file of modules, and those that it may use.
type Table = &'static [(&'static str, &'static [&'static str])];

const LIBRARY: Table = &[
    ("base", &[]),
    ("keys", &["base"]),
    ("settings", &["base"]),
    ("report", &["base"]),
    ("cache", &["report", "base"]),
    ("instance", &["cache", "keys", "settings", "report", "base"]),
    ("tls", &["instance", "keys", "settings", "report", "base"]),
    ("plugin", &["tls", "instance", "settings", "report", "base"]),
    ("process", &["tls", "instance", "report", "base"]),
    // Of cache and keys, the errors that it re-exports.
    (
        "api",
        &[
            "tls", "instance", "cache", "keys", "settings", "report", "base",
        ],
    ),
    (
        "ffi",
        &["plugin", "tls", "instance", "settings", "report", "base"],
    ),
];

const MEMBER: &[&str] = &[
    "boundary",
    "config",
    "counters",
    "host",
    "keys::plan",
    "keys::set",
    "log_limit",
    "member",
    "redis",
    "seal",
    "sessions::message",
    "sessions::queue",
    "sessions::stream",
    "sessions::tombstones",
];

const FARM: Table = &[
    ("host", &[]),
    ("seal", &["host"]),
    ("keys", &[]),
    ("keys::plan", &["keys::set"]),
    ("keys::set", &[]),
    ("sessions", &[]),
    ("sessions::message", &[]),
    ("boundary", &["host"]),
    ("log_limit", &["host"]),
    ("sessions::queue", &["host"]),
    ("counters", &["seal"]),
    ("sessions::tombstones", &["seal"]),
    ("config", &["seal", "keys::plan", "keys::set"]),
    ("redis", &["config"]),
    ("sessions::stream", &["config"]),
    ("member", MEMBER),
    ("sessions::publish", MEMBER),
    ("sessions::receive", MEMBER),
    ("keys::keeper", MEMBER),
    (
        "start",
        &[
            "config",
            "counters",
            "host",
            "keys::keeper",
            "log_limit",
            "member",
            "redis",
            "seal",
            "sessions::publish",
            "sessions::queue",
            "sessions::receive",
        ],
    ),
    ("ffi", &["boundary", "config", "host", "start"]),
];

/// The path of a module from the crate's root.
type Module = Vec<String>;

/// One place that names something of the crate.
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
    /// Modules that have a file of their own.
    files: BTreeSet<Module>,
    uses: Vec<Use>,
    /// What a module passes on, by the name it has there, or `*`.
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

    /// Of files by their paths below `src`.
    fn of<'a>(sources: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let mut all = Self {
            files: sources.clone().map(|(path, _)| module(path)).collect(),
            ..Self::default()
        };
        for (path, text) in sources {
            let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            all.add(&module(path), &file.items, false);
        }
        all
    }

    fn add(&mut self, module: &Module, items: &[Item], is_in_tests: bool) {
        for item in items {
            if let Some(name) = item_name(item) {
                self.items.entry(module.clone()).or_default().insert(name);
            }
            match item {
                Item::Mod(inner) => {
                    let is_in_tests = is_in_tests || is_for_tests(&inner.attrs);
                    if let Some((_, items)) = &inner.content {
                        let name = inner.ident.to_string();
                        self.add(&[&module[..], &[name]].concat(), items, is_in_tests);
                    }
                }
                Item::Use(item) => {
                    let is_reexport = !matches!(item.vis, Visibility::Inherited);
                    let mut paths = Vec::new();
                    let tree = item.tree.to_token_stream();
                    flatten(&mut tree.into_iter().peekable(), vec![], &mut paths);
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
                item => {
                    let mut paths = Vec::new();
                    scan(item.to_token_stream(), &mut paths);
                    for path in paths {
                        if let Some(path) = self.absolute(module, &path) {
                            self.push(module, path, false, is_in_tests);
                        }
                    }
                }
            }
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

    /// From the crate's root; `None` for a path that is none of the crate's own.
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

    /// The file that a module is written in.
    fn file_of(&self, module: &Module) -> Module {
        let mut file = module.clone();
        while !file.is_empty() && !self.files.contains(&file) {
            file.pop();
        }
        file
    }

    /// The file of what a path names, wherever it is passed on.
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

    /// What is wrong with the imports.
    fn faults(&self, table: Table) -> BTreeSet<String> {
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
                && !may_use.contains(&folder)
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

/// The row of a file: the one with the longest path.
fn row(table: Table, file: &Module) -> Option<(&'static str, &'static [&'static str])> {
    let file = file.join("::");
    let is_below = |row: &&(&str, _)| {
        let rest = file.strip_prefix(row.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    table
        .iter()
        .filter(is_below)
        .max_by_key(|row| row.0.len())
        .copied()
}

/// A way from a file back to itself.
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

/// The module of a file, by its path below `src`.
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

fn item_name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let mut attributes = attributes
        .iter()
        .map(|attribute| attribute.to_token_stream().to_string());
    attributes.any(|text| text.contains("cfg") && text.contains("test"))
}

type Tokens = std::iter::Peekable<proc_macro2::token_stream::IntoIter>;

fn is_colon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}

/// Takes the paths of a use tree apart: each with the name that it has then.
fn flatten(tokens: &mut Tokens, start: Vec<String>, into: &mut Vec<(Vec<String>, String)>) {
    let mut path = start.clone();
    let mut name = None;
    let mut is_done = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if ident == "as" => {
                name = tokens.next().map(|name| name.to_string());
            }
            TokenTree::Ident(ident) => path.push(ident.to_string()),
            TokenTree::Punct(punct) if punct.as_char() == '*' => path.push("*".to_owned()),
            TokenTree::Punct(punct) if punct.as_char() == ',' => {
                finish(&mut path, &mut name, &mut is_done, into);
                path.clone_from(&start);
            }
            TokenTree::Group(group) => {
                flatten(
                    &mut group.stream().into_iter().peekable(),
                    path.clone(),
                    into,
                );
                is_done = true;
            }
            _ => {}
        }
    }
    finish(&mut path, &mut name, &mut is_done, into);
}

fn finish(
    path: &mut Vec<String>,
    name: &mut Option<String>,
    is_done: &mut bool,
    into: &mut Vec<(Vec<String>, String)>,
) {
    if !std::mem::take(is_done) && !path.is_empty() {
        // `module::{self}` is the module.
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let name = name.take().or_else(|| path.last().cloned());
        into.push((path.clone(), name.unwrap_or_default()));
    }
}

/// Finds the paths that stand anywhere in the code, within macros too.
fn scan(tokens: TokenStream, into: &mut Vec<Vec<String>>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut is_in_path = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => scan(group.stream(), into),
            TokenTree::Ident(first) if !is_in_path && is_colon(tokens.peek()) => {
                let mut path = vec![first.to_string()];
                while is_colon(tokens.peek()) {
                    tokens.next();
                    if !is_colon(tokens.peek()) {
                        break;
                    }
                    tokens.next();
                    match tokens.peek() {
                        Some(TokenTree::Ident(next)) => {
                            path.push(next.to_string());
                            tokens.next();
                        }
                        Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => {
                            path.push("*".to_owned());
                        }
                        Some(TokenTree::Group(group)) => {
                            let mut paths = Vec::new();
                            let inner = group.stream();
                            flatten(&mut inner.into_iter().peekable(), path.clone(), &mut paths);
                            into.extend(paths.into_iter().map(|(path, _)| path));
                            break;
                        }
                        _ => break,
                    }
                }
                into.push(path);
            }
            TokenTree::Punct(punct) => {
                is_in_path = punct.as_char() == ':' && is_colon(tokens.peek())
                    || is_in_path && punct.as_char() == ':';
                continue;
            }
            _ => {}
        }
        is_in_path = false;
    }
}

#[test]
fn no_import_goes_up_or_round() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (source, table) in [("src", LIBRARY), ("farm/src", FARM)] {
        let library = Crate::read(&root.join(source));
        assert!(library.uses.len() > 100, "{source}: {}", library.uses.len());
        assert_eq!(library.faults(table), BTreeSet::new(), "{source}");
    }
}

/// A small crate in which all is well: `top` may use `low`, both have two files.
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

const SMALL: Table = &[("low", &[]), ("top", &["low"])];

fn faults_with(file: &str, more: &str) -> Vec<String> {
    let sources = WELL.map(|(path, text)| {
        let more = if path == file { more } else { "" };
        (path, format!("{text}\n{more}\n"))
    });
    let sources = sources
        .each_ref()
        .map(|(path, text)| (*path, text.as_str()));
    Crate::of(sources.into_iter())
        .faults(SMALL)
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
        // Two files that use each other: by name, by a re-export, by the folder, in a path.
        ("low/a.rs", "use super::b;"),
        ("low/a.rs", "fn f() { super::b::b(A) }"),
        ("top/one.rs", "use super::two;"),
        ("top/one.rs", "use crate::top::two as t;"),
        ("top/one.rs", "fn g() { super::two(Top) }"),
        (
            "top/mod.rs",
            "fn here() { one::f() } pub mod three { use super::two; }",
        ),
    ] {
        let found = faults_with(file, import);
        let expected = !import.contains("here()");
        assert_eq!(!found.is_empty(), expected, "{file}: {import}: {found:?}");
    }
    let unknown = Crate::of([("lib.rs", "mod new;"), ("new.rs", "")].into_iter());
    assert_eq!(unknown.faults(SMALL).len(), 1);
}
