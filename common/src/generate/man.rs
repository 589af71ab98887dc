//! Generates the manual pages of section 3: one for each function of the headers, from its doc comment
//! and its example, and an overview from a template.

use std::collections::BTreeSet;
use std::fmt::Write;

/// The width of a line of C: a terminal of 80 columns shows this much of an indented line.
const WIDTH: usize = 72;

/// The headings of a doc comment, in this order. Only the last one can be missing; it names the
/// document that defines the function.
const HEADINGS: [&str; 4] = ["Returns:", "Errors:", "Threads:", "Source:"];

/// A function as a header has it.
struct Function<'a> {
    /// As in `#include <...>`.
    header: &'a str,
    name: &'a str,
    prototype: &'a str,
    /// The prototype at the other API levels, if it differs.
    newer_prototype: Option<&'a str>,
    /// The lines of the doc comment.
    doc: Vec<&'a str>,
}

/// The input for the overview.
pub struct Overview<'a> {
    /// What the library is, in a few words.
    pub title: &'a str,
    /// The template. In it, `@FUNCTIONS@` becomes the list of the functions, `@SEE_ALSO@` the list of
    /// their pages, `@LIBRARY@` and `@EXAMPLES@` the sections of those names; the fields below say
    /// what the others become.
    pub template: &'a str,
    /// `@COUNTERS@`: the table in this documentation in Markdown.
    pub counters: &'a str,
    /// `@SETTINGS@`: the table in this documentation in Markdown.
    pub settings: &'a str,
    /// `@SONAME@`: the name that the loader looks for.
    pub soname: &'a str,
}

impl Overview<'_> {
    /// The name of the page: that of the library, without `lib`.
    fn name(&self) -> &str {
        let name = self.soname.strip_prefix("lib");
        let name = name.and_then(|name| name.split_once(".so"));
        name.expect("the SONAME is libNAME.so.NUMBER").0
    }

    /// The section that says what to link.
    fn library(&self) -> String {
        let name = self.name();
        format!(
            ".SH LIBRARY\n{}\n.RI ( lib{name} \", \" \\-l{name} )\n",
            self.title
        )
    }
}

/// The pages, by file name. `headers` are pairs of a name in `#include` and the text; `beside` is the
/// text of other headers, whose functions have pages too; `examples` is C, as in examples.c.
pub fn pages(
    headers: &[(&str, &str)],
    beside: &str,
    overview: &Overview,
    examples: &str,
    version: &str,
    banner: &str,
) -> Vec<(String, String)> {
    let mut functions: Vec<Function> = Vec::new();
    for (header, text) in headers {
        read(header, text, &mut functions);
    }
    let own: BTreeSet<&str> = functions.iter().map(|function| function.name).collect();
    let mut names = own.clone();
    names.extend(beside.lines().filter_map(declared));

    let mut list = String::new();
    for function in &functions {
        let text = marked(&function.summary(), &names, function);
        write!(list, ".TP\n.BR {} (3)\n{text}\n", function.name).unwrap();
    }
    let (name, library) = (overview.name(), overview.library());
    let text = overview
        .template
        .replace("@LIBRARY@\n", &library)
        .replace("@FUNCTIONS@\n", &list)
        .replace("@COUNTERS@\n", &counters_of(overview.counters))
        .replace("@SETTINGS@\n", &settings_of(overview.settings))
        .replace("@EXAMPLES@\n", &examples_of(name, examples))
        .replace("@SEE_ALSO@", &see_also(&own))
        .replace("@SONAME@", overview.soname);
    let mut pages = vec![(
        format!("{name}.3"),
        format!("{}{text}", start(name, version, banner)),
    )];
    for function in &functions {
        let start = start(function.name, version, banner);
        let page = function.page(&names, name, &library, examples);
        let page = format!("{start}{page}");
        pages.push((format!("{}.3", function.name), page));
    }
    pages
}

/// The cells of the rows that begin with the name of a setting or a counter.
fn rows(markdown: &str) -> impl Iterator<Item = Vec<String>> {
    markdown
        .lines()
        .filter(|line| line.starts_with("| `proxy.") || line.starts_with("| `tssession."))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().replace('`', "")).collect()
        })
}

fn counters_of(markdown: &str) -> String {
    let mut list = String::new();
    for row in rows(markdown) {
        let [name, parts, meaning] = &row[..] else {
            panic!("a counter has three cells: {row:?}");
        };
        let parts = match parts.split_once(": ") {
            Some((label, parts)) => format!("; by {label}: {parts}"),
            None => String::new(),
        };
        let text = escaped(&format!("{meaning}{parts}"));
        write!(list, ".TP\n.B {name}\n{text}\n").unwrap();
    }
    list
}

fn settings_of(markdown: &str) -> String {
    let mut list = String::new();
    for row in rows(markdown) {
        let [name, default, allowed, meaning, active] = &row[..] else {
            panic!("a setting has five cells: {row:?}");
        };
        let text = escaped(&format!("{allowed}. {meaning}. Active: {active}."));
        write!(list, ".TP\n.BR {name} \" ({default})\"\n{text}\n").unwrap();
    }
    list
}

/// The section EXAMPLES of a page: each piece of C between `Example: NAME` and `End`.
fn examples_of(name: &str, examples: &str) -> String {
    let begin = format!("/* Example: {name} */\n");
    let mut lines = Vec::new();
    for piece in examples.split(&begin).skip(1) {
        if !lines.is_empty() {
            lines.push("");
        }
        let indent = piece.len() - piece.trim_start().len();
        let code = piece.lines().take_while(|line| line.trim() != "/* End */");
        lines.extend(code.map(|line| line.get(indent..).unwrap_or_default()));
    }
    let count = lines.len();
    assert!(
        (3..14).contains(&count),
        "the example of {name} has {count} lines"
    );
    let mut section = String::from(".SH EXAMPLES\n.nf\n");
    for line in lines {
        let line = format!("    {line}");
        assert!(line.len() <= WIDTH, "{name}: too wide: {line}");
        writeln!(section, "{}", escaped(line.trim_end())).unwrap();
    }
    section + ".fi\n"
}

fn start(name: &str, version: &str, banner: &str) -> String {
    let mut start = String::new();
    for line in banner.lines() {
        writeln!(start, ".\\\" {line}").unwrap();
    }
    // No date: the version says what the page describes. No hyphenation: many words are names that
    // readers copy.
    write!(
        start,
        ".TH {name} 3 \"\" \"tssession {version}\" \"tssession\"\n.nh\n.ad l\n"
    )
    .unwrap();
    start
}

/// Finds the functions of a header: unindented declarations of one line, with a doc
/// comment before the first of a name.
fn read<'a>(header: &'a str, text: &'a str, functions: &mut Vec<Function<'a>>) {
    let mut doc = Vec::new();
    for line in text.lines() {
        if line.starts_with("/**") {
            doc.clear();
        } else if let Some(text) = line.strip_prefix(" *") {
            if text != "/" {
                doc.push(text.strip_prefix(' ').unwrap_or(text));
            }
        } else if let Some(name) = declared(line) {
            match functions.iter_mut().find(|known| known.name == name) {
                Some(known) if line != known.prototype => known.newer_prototype = Some(line),
                Some(_) => {}
                None => {
                    let doc = std::mem::take(&mut doc);
                    assert!(!doc.is_empty(), "{name} has no doc comment");
                    functions.push(Function {
                        header,
                        name,
                        prototype: line,
                        newer_prototype: None,
                        doc,
                    });
                }
            }
        }
    }
}

/// The function that a line declares. A function with `extern` does not count: the caller defines it.
fn declared(line: &str) -> Option<&str> {
    let declaration = line.strip_suffix(");")?;
    if declaration.starts_with("typedef") || declaration.starts_with("extern ") {
        return None;
    }
    let (before, _) = declaration.split_once('(')?;
    before.split([' ', '*']).next_back()
}

impl Function<'_> {
    /// A summary: the first clause of the doc comment.
    fn summary(&self) -> String {
        let text = self.doc.join(" ");
        let end = text
            .find([',', ':', '.'])
            .unwrap_or_else(|| panic!("{}: the doc comment has no sentence", self.name));
        let summary = text[..1].to_lowercase() + &text[1..end];
        assert!(
            summary.len() <= 72,
            "{}: the first clause is too long for a summary: {summary}",
            self.name
        );
        summary
    }

    /// `names` are the functions that have a page, and `overview` is the page of this library.
    fn page(
        &self,
        names: &BTreeSet<&str>,
        overview: &str,
        library: &str,
        examples: &str,
    ) -> String {
        let mut page = format!(
            ".SH NAME\n{} \\- {}\n{library}\
             .SH SYNOPSIS\n.nf\n\\fB#include <{}>\\fP\n.PP\n{}.fi\n",
            self.name,
            escaped(&self.summary()),
            self.header,
            synopsis(self.prototype),
        );
        if let Some(prototype) = self.newer_prototype {
            write!(
                page,
                ".PP\nWith \\fBTS_SSL_SESSION_API\\fP defined as 9, and as 10 for the names of C++:\n\
                 .PP\n.nf\n{}.fi\n",
                synopsis(prototype)
            )
            .unwrap();
        }
        let [description, returns, errors, threads, source] =
            self.parts().map(|part| self.prose(&part, names));
        let examples = examples_of(self.name, examples);
        write!(
            page,
            ".SH DESCRIPTION\n{description}.SS Threads\n{threads}\
             .SH RETURN VALUE\n{returns}.SH ERRORS\n{errors}{examples}"
        )
        .unwrap();
        let mut others: BTreeSet<&str> = self
            .doc
            .iter()
            .flat_map(|line| words(line))
            .filter(|word| names.contains(word) || is_openssl_function(word))
            .collect();
        others.insert(overview);
        others.remove(self.name);
        write!(page, ".SH SEE ALSO\n{}\n", see_also(&others)).unwrap();
        if !source.is_empty() {
            write!(page, ".PP\n{source}").unwrap();
        }
        page
    }

    /// The description, and the text below each of the headings.
    fn parts(&self) -> [Vec<&str>; 1 + HEADINGS.len()] {
        let mut parts = [const { Vec::new() }; 1 + HEADINGS.len()];
        let mut at = 0;
        for &line in &self.doc {
            match HEADINGS.iter().position(|heading| *heading == line) {
                Some(heading) => {
                    assert!(at <= heading, "{}: {line} comes too late", self.name);
                    at = heading + 1;
                }
                None if at == 0 || line.is_empty() => parts[at].push(line),
                None => {
                    let text = line.strip_prefix("  ");
                    parts[at].push(text.expect("text below a heading is indented"));
                }
            }
        }
        // All parts but the source.
        for (heading, part) in HEADINGS[..3].iter().zip(&parts[1..]) {
            assert!(!part.is_empty(), "{} has no {heading}", self.name);
        }
        parts
    }

    /// These lines as paragraphs.
    fn prose(&self, lines: &[&str], names: &BTreeSet<&str>) -> String {
        let mut prose = String::new();
        for line in lines {
            let list_or_code = [" ", "- ", "* ", "# ", "|", "```"];
            assert!(
                !list_or_code.iter().any(|start| line.starts_with(start)),
                "{}: in manual pages there are only paragraphs, not: {line}",
                self.name
            );
            let text = if line.is_empty() {
                ".PP".to_owned()
            } else {
                marked(line, names, self)
            };
            prose += &text;
            prose.push('\n');
        }
        // What follows begins a paragraph in any case.
        prose.truncate(prose.trim_end_matches(".PP\n").len());
        prose
    }

    fn parameters(&self) -> BTreeSet<&str> {
        parameters(self.prototype).collect()
    }
}

/// The names of the parameters: the words before a comma or the closing bracket.
fn parameters(prototype: &str) -> impl Iterator<Item = &str> {
    words(prototype)
        .filter(|word| *word != "void")
        .filter(|word| {
            let end = word.as_ptr() as usize - prototype.as_ptr() as usize + word.len();
            prototype[end..].starts_with([',', ')'])
        })
}

/// A prototype in lines that fit, with its parameters in italics.
fn synopsis(prototype: &str) -> String {
    let mut lines = vec![String::new()];
    for part in prototype.split_inclusive(", ") {
        let line = lines.last_mut().expect("begins with one");
        if !line.is_empty() && line.len() + part.trim_end().len() > WIDTH {
            lines.push(format!("    {part}"));
        } else {
            line.push_str(part);
        }
    }
    let parameters: BTreeSet<&str> = parameters(prototype).collect();
    let mut out = String::new();
    for line in lines {
        let text = by_word(line.trim_end(), |word| {
            parameters
                .contains(word)
                .then(|| format!("\\fI{}\\fB", escaped(word)))
        });
        writeln!(out, "\\fB{text}\\fP").unwrap();
    }
    out
}

/// A line of prose: constants and functions in bold, the latter with their section, and
/// parameters in italics.
fn marked(line: &str, names: &BTreeSet<&str>, function: &Function) -> String {
    let parameters = function.parameters();
    let text = by_word(line, |word| {
        let shown = escaped(word);
        if word == function.name || word.starts_with("TS_") {
            Some(format!("\\fB{shown}\\fP"))
        } else if names.contains(word) || is_openssl_function(word) {
            Some(format!("\\fB{shown}\\fP(3)"))
        } else if parameters.contains(word) {
            Some(format!("\\fI{shown}\\fP"))
        } else {
            None
        }
    });
    // A request of roff begins with a dot, or with a quote, which is escaped already.
    if text.starts_with('.') {
        format!("\\&{text}")
    } else {
        text
    }
}

/// `SSL_CTX_free`, but not the type `SSL_CTX`.
fn is_openssl_function(word: &str) -> bool {
    word.starts_with("d2i_")
        || word.starts_with("i2d_")
        || word.starts_with("SSL_") && word.contains(|c: char| c.is_ascii_lowercase())
}

fn see_also(names: &BTreeSet<&str>) -> String {
    let names: Vec<String> = names.iter().map(|name| format!(".BR {name} (3)")).collect();
    names.join(",\n")
}

fn is_part_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The words of a line, as in C.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c| !is_part_of_word(c))
        .filter(|word| !word.is_empty())
}

/// A line in which words are replaced and all else is escaped.
fn by_word(line: &str, replace: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let in_word = is_part_of_word(first);
        let end = rest
            .find(|c| is_part_of_word(c) != in_word)
            .unwrap_or(rest.len());
        let part = &rest[..end];
        out.push_str(&replace(part).unwrap_or_else(|| escaped(part)));
        rest = &rest[end..];
    }
    out
}

/// Text that roff shows as it is, ready to be copied. It would show a bare `-`, `'`, `` ` ``, `^` or
/// `~` as a typographic sign.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\(rs"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            _ => {
                assert!(c.is_ascii(), "manual pages are ASCII, which {c} is not");
                out.push(c);
            }
        }
    }
    out
}
