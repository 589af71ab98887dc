//! What the documents say is so: links and paths lead somewhere, code compiles, and the settings,
//! counters, alerts, functions, make targets and log lines that they name exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use tssession::report::counters::METRICS;
use tssession::settings::table::{is_known, is_known_group};
use tssession_common::metrics::Value;
use tssession_test_support::{root, run, scratch_dir};

/// Columns of a line, but for rows of tables and lines with a URL.
const WIDTH: usize = 100;

/// Columns of a row in what users read: three lines of a screen.
const ROW: usize = 200;

struct Document {
    /// From the root.
    path: PathBuf,
    text: String,
}

/// Code between fences.
struct Block {
    language: String,
    code: String,
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below a directory, from the root.
fn files(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(root().join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            match entry.file_type().unwrap() {
                kind if kind.is_file() => found.push(path),
                kind if kind.is_dir() => open.push(path),
                _ => {}
            }
        }
    }
    found
}

fn documents() -> Vec<Document> {
    let mut paths = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ]
    .map(PathBuf::from)
    .to_vec();
    paths.extend(files("docs").into_iter().filter(|path| has_end(path, "md")));
    assert!(paths.len() > 15, "{paths:?}");
    let read = |path: PathBuf| Document {
        text: read(&path),
        path,
    };
    paths.into_iter().map(read).collect()
}

fn has_end(path: &Path, end: &str) -> bool {
    path.extension().is_some_and(|found| found == end)
}

impl Document {
    fn is_for_users(&self) -> bool {
        self.path.starts_with("docs/guide") || self.path == Path::new("README.md")
    }

    /// What is between fences, and the lines that are not.
    fn parts(&self) -> (Vec<Block>, Vec<&str>) {
        let (mut blocks, mut prose) = (Vec::<Block>::new(), Vec::new());
        let mut indent = None;
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), indent) {
                (Some(language), None) => {
                    indent = Some(line.len() - line.trim_start().len());
                    blocks.push(Block {
                        language: language.to_owned(),
                        code: String::new(),
                    });
                    prose.push("");
                }
                (Some(_), Some(_)) => indent = None,
                (None, Some(indent)) => {
                    let code = &mut blocks.last_mut().unwrap().code;
                    code.push_str(line.get(indent..).unwrap_or_default());
                    code.push('\n');
                }
                (None, None) => prose.push(line),
            }
        }
        assert_eq!(indent, None, "{}: a fence is open", self.path.display());
        (blocks, prose)
    }

    /// The paragraphs, each in one line.
    fn paragraphs(&self) -> Vec<String> {
        let (_, prose) = self.parts();
        let paragraphs = prose.split(|line| line.trim().is_empty());
        paragraphs.map(|lines| lines.join("\n")).collect()
    }

    /// What is between backticks.
    fn spans(&self) -> Vec<String> {
        let paragraphs = self.paragraphs();
        let spans = paragraphs
            .iter()
            .flat_map(|text| text.split('`').skip(1).step_by(2));
        spans.map(|span| span.replace('\n', " ")).collect()
    }

    /// Spans and code: where names are.
    fn code(&self) -> String {
        let (blocks, _) = self.parts();
        let blocks = blocks.into_iter().map(|block| block.code);
        self.spans()
            .into_iter()
            .chain(blocks)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Fails for what is wrong with this document.
    fn expect(&self, is_right: bool, what: &str) {
        assert!(is_right, "{}: {what}", self.path.display());
    }
}

/// The words of a text, of letters, digits and these signs.
fn words<'a>(text: &'a str, signs: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(move |c: char| !(c.is_ascii_alphanumeric() || signs.contains(c)))
        .filter(|word| !word.is_empty())
}

/// The anchor that a heading has on GitHub.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    for heading in headings {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let mut again = (1..).map(|n| format!("{anchor}-{n}"));
        if !found.insert(anchor.clone()) {
            assert!(again.any(|anchor| found.insert(anchor)));
        }
    }
    found
}

/// Without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} leaves the tree", path.display()),
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for document in documents() {
        for paragraph in document.paragraphs() {
            for rest in paragraph.split("](").skip(1) {
                let link = rest.split(')').next().unwrap();
                if link.contains("://") {
                    continue;
                }
                links += 1;
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let path = match file {
                    "" => document.path.clone(),
                    file => plain(&document.path.with_file_name(file)),
                };
                let is_there = root().join(&path).exists();
                document.expect(is_there, &format!("{link}: there is no such file"));
                let has_anchor = anchor.is_empty() || anchors(&read(&path)).contains(anchor);
                document.expect(has_anchor, &format!("{link}: there is no such heading"));
            }
        }
    }
    assert!(links > 50, "{links}");
}

/// Whether a path with `*` for any name is there.
fn is_there(pattern: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return root().join(pattern).exists();
    };
    let (directory, start) = before.rsplit_once('/').unwrap();
    fs::read_dir(root().join(directory)).is_ok_and(|mut entries| {
        entries.any(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.starts_with(start) && name.ends_with(after)
        })
    })
}

#[test]
fn paths_lead_somewhere() {
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap());
    let directories = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let directories: BTreeSet<_> = directories
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name != "target")
        .collect();
    let mut paths = 0;
    for document in documents() {
        for span in document.spans() {
            let Some((first, _)) = span.split_once('/') else {
                continue;
            };
            if directories.contains(first) && !span.contains(['{', ' ']) {
                paths += 1;
                document.expect(is_there(&span), &format!("{span}: there is no such path"));
            }
        }
    }
    assert!(paths > 80, "{paths}");
    // What names a document elsewhere.
    let others = [
        "src",
        "farm",
        "c_tests",
        "tests",
        "tools",
        "mk",
        "packaging",
        "debian",
        "common",
    ];
    let mut named = 0;
    for file in others.iter().flat_map(|directory| files(directory)) {
        let Ok(text) = fs::read_to_string(root().join(&file)) else {
            continue;
        };
        for word in words(&text, "/._-").filter(|word| word.ends_with(".md")) {
            let word = word.trim_start_matches("../");
            if word.starts_with("docs/") {
                named += 1;
                assert!(root().join(word).exists(), "{}: {word}", file.display());
            }
        }
    }
    assert!(named > 10, "{named}");
}

#[test]
fn lines_are_of_one_width() {
    for document in documents() {
        for (number, line) in document.text.lines().enumerate() {
            let most = match line.trim_start().starts_with('|') {
                true if document.is_for_users() => ROW,
                true => usize::MAX,
                false if line.contains("://") => usize::MAX,
                false => WIDTH,
            };
            let columns = line.chars().count();
            let what = format!("line {} has {columns} columns: {line}", number + 1);
            document.expect(columns <= most, &what);
        }
    }
}

#[test]
fn code_is_between_fences_that_name_its_language() {
    for document in documents() {
        let (blocks, prose) = document.parts();
        for Block { language, code } in blocks {
            let known = ["c", "sh", "text", "toml", "yaml", "ini"];
            document.expect(
                known.contains(&&*language),
                &format!("{language:?}:\n{code}"),
            );
        }
        for line in prose {
            document.expect(
                !line.starts_with("    "),
                &format!("not between fences: {line}"),
            );
        }
    }
}

/// What is between a function's braces has these around it.
const FUNCTION: [&str; 2] = [
    "#include <dlfcn.h>\n#include <openssl/err.h>\n#include <openssl/ssl.h>\n\
     #include <ts/ssl_session_cache.h>\n#include <ts/ssl_session_farm.h>\n\
     void use(SSL_CTX *ssl_ctx, SSL *ssl);\nvoid use(SSL_CTX *ssl_ctx, SSL *ssl)\n{\n\
     (void)ssl_ctx;\n(void)ssl;\n",
    "}\n",
];

#[test]
fn c_in_the_guide_compiles() {
    let mut blocks = 0;
    for document in documents()
        .iter()
        .filter(|document| document.is_for_users())
    {
        for block in document
            .parts()
            .0
            .iter()
            .filter(|block| block.language == "c")
        {
            blocks += 1;
            let text = if block.code.contains("#include") {
                format!("#include <unistd.h>\n{}", block.code)
            } else {
                FUNCTION.join(&block.code)
            };
            let source = scratch_dir().join("block.c");
            fs::write(&source, &text).unwrap();
            let mut compiler = Command::new("cc");
            compiler.args(["-fsyntax-only", "-std=gnu17", "-Wall", "-Wextra", "-Werror"]);
            run(compiler.arg("-I").arg(root().join("include")).arg(source));
        }
    }
    assert!(blocks > 4, "{blocks}");
}

#[test]
fn shell_is_shell_and_make_targets_exist() {
    let mut makefiles = read("Makefile");
    for file in files("mk") {
        makefiles += &read(file);
    }
    let is_target = |name: &str| {
        let rule = format!("{name}:");
        makefiles.lines().any(|line| line.starts_with(&rule))
    };
    let mut targets = 0;
    for document in documents() {
        let blocks = document.parts().0;
        let shell = blocks.iter().filter(|block| block.language == "sh");
        let mut lines = document.spans();
        for Block { code, .. } in shell {
            let script = scratch_dir().join("block.sh");
            fs::write(&script, code).unwrap();
            run(Command::new("bash").arg("-n").arg(script));
            lines.extend(code.lines().map(str::to_owned));
        }
        for line in lines {
            let line = line.split('#').next().unwrap().trim_start_matches("sudo ");
            let Some(rest) = line.strip_prefix("make ") else {
                continue;
            };
            for name in rest
                .split_whitespace()
                .take_while(|word| !word.contains('='))
            {
                // A word in capitals stands for any target.
                if name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                {
                    targets += 1;
                    document.expect(is_target(name), &format!("make {name}: no such target"));
                }
            }
        }
    }
    assert!(targets > 50, "{targets}");
}

/// The counters, as `NAME` and `NAME.PART`.
fn counters() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for metric in METRICS {
        names.insert(metric.name.to_owned());
        if let Value::ByLabel(_, parts) = metric.value {
            names.extend(
                parts
                    .iter()
                    .map(|(part, _)| format!("{}.{part}", metric.name)),
            );
        }
    }
    let in_ats = names.iter().map(|name| {
        let rest = name.strip_prefix("proxy.process.ssl.");
        let rest = rest.or(name.strip_prefix("tssession.")).unwrap();
        format!("plugin.tssession.{rest}")
    });
    let in_ats: Vec<_> = in_ats.collect();
    names.extend(in_ats);
    // The farm's table: NAME = VALUE, HELP; a VALUE with parts begins with the label.
    let farm = read("farm/src/counters.rs");
    let (_, table) = farm.split_once("metrics! {").unwrap();
    let (table, _) = table.split_once("\n};").unwrap();
    for row in table.split(";\n") {
        let literals: Vec<_> = row.split('"').skip(1).step_by(2).collect();
        if let [name, parts @ .., _help] = &literals[..] {
            names.insert((*name).to_owned());
            let parts = parts.iter().skip(1);
            names.extend(parts.map(|part| format!("{name}.{part}")));
        }
    }
    names
}

/// Whether a word is the name of a setting or a counter, or the beginning of one.
fn exists(word: &str, is_beginning: bool, counters: &BTreeSet<String>) -> bool {
    let begins = |name: &String| name.starts_with(word);
    let is_file = ["yaml", "yml", "prom"]
        .iter()
        .any(|end| has_end(Path::new(word), end));
    is_file
        || is_known(word)
        || counters.contains(word)
        || is_beginning && (is_known_group(word) || counters.iter().any(begins))
}

#[test]
fn settings_and_counters_exist() {
    let counters = counters();
    let begin = [
        "proxy.config.ssl",
        "proxy.process.ssl",
        "tssession.",
        "plugin.tssession",
    ];
    let settings = read("docs/guide/settings.md");
    let variables: BTreeSet<String> = words(&settings, "._")
        .filter(|word| is_known(word))
        .map(|name| name.replace('.', "_").to_uppercase())
        .collect();
    let mut found = 0;
    for document in documents() {
        let code = document.code();
        for word in words(&code, "._*") {
            let plain = word.trim_end_matches(['.', '_', '*']);
            if begin.iter().any(|begin| word.starts_with(begin)) {
                found += 1;
                let is_beginning = plain.len() < word.len() || plain == "plugin.tssession";
                let is_there = exists(plain, is_beginning, &counters);
                document.expect(is_there, &format!("{word}: no such setting or counter"));
            } else if word.starts_with("PROXY_CONFIG_") {
                document.expect(
                    variables.contains(word),
                    &format!("{word}: no such variable"),
                );
            }
        }
        // As tables shorten them.
        let rows = document.text.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.map(|row| row.split(" | ").next().unwrap());
        let growing = cells.filter(|cell| cell.contains(" grow") || cell.contains(" stay"));
        let growing = growing.flat_map(|cell| cell.split('`').skip(1).step_by(2));
        for name in growing.filter(|name| !name.contains(' ')) {
            let is_there = counters.iter().any(|counter| counter.ends_with(name));
            document.expect(is_there, &format!("{name} grows: no such counter"));
        }
        for span in document.spans() {
            let is_short = ["miss.", "refused.", "get."]
                .iter()
                .any(|start| span.starts_with(start));
            let is_end = |name: &String| {
                name.strip_suffix(&span)
                    .is_some_and(|rest| rest.ends_with(['.', '_']))
            };
            let is_there = !is_short || counters.iter().any(is_end);
            document.expect(is_there, &format!("{span}: no such counter"));
        }
    }
    assert!(found > 100, "{found}");
    // The counters that the code does not compare.
    let document = read("docs/guide/counters.md");
    for counter in counters
        .iter()
        .filter(|name| name.starts_with("plugin.tssession_farm."))
    {
        let is_there = match counter.strip_prefix("plugin.tssession_farm.refused.") {
            Some(part) => document.contains(&format!("\n| `{part}` |")),
            None => document.contains(&format!("\n| `{counter}` |")),
        };
        assert!(is_there, "docs/guide/counters.md has no {counter}");
    }
}

#[test]
fn settings_of_the_farm_exist() {
    let example = read("farm/farm.example.toml");
    let known: BTreeSet<_> = example
        .lines()
        .map(|line| line.trim_start_matches('#'))
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name).or(Some(line)))
        .collect();
    let mut found = 0;
    for document in documents() {
        for block in document
            .parts()
            .0
            .iter()
            .filter(|block| block.language == "toml")
        {
            for line in block.code.lines().filter(|line| !line.is_empty()) {
                found += 1;
                let name = line.split(" = ").next().unwrap();
                document.expect(known.contains(name), &format!("{name}: no such setting"));
            }
        }
    }
    assert!(found > 5, "{found}");
    // What the user of Redis is allowed is what the farm is tested with.
    let guide = read("docs/guide/farm.md");
    let tested = read("farm/lab/access.py");
    let lines = tested.lines().filter(|line| line.contains("COMMANDS"));
    let commands: Vec<_> = lines
        .flat_map(|line| line.split(['"', ' ']))
        .filter(|word| word.starts_with('+') && word.len() > 2)
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let is_there = guide.split(['`', ' ', '\n']).any(|word| word == command);
        assert!(is_there, "docs/guide/farm.md has no {command}");
    }
}

#[test]
fn functions_and_alerts_exist() {
    let mut headers = String::new();
    for file in files("include") {
        headers += &read(file);
    }
    let rules = read("packaging/prometheus/tssession.rules.yml");
    let (mut functions, mut alerts) = (0, 0);
    for document in documents() {
        for word in words(&document.text, "_") {
            if word.starts_with("TSSsl") {
                functions += 1;
                document.expect(headers.contains(word), &format!("{word}: no such function"));
            } else if word.starts_with("Tssession") {
                alerts += 1;
                let alert = format!("- alert: {word}\n");
                document.expect(rules.contains(&alert), &format!("{word}: no such alert"));
            }
        }
    }
    assert!(functions > 40 && alerts > 3, "{functions} {alerts}");
}

/// The guide explains lines that the libraries write.
#[test]
fn log_lines_exist() {
    let mut source = String::new();
    let directories = ["src", "farm/src", "common/src", "ats/src"];
    for file in directories.iter().flat_map(|directory| files(directory)) {
        for line in read(file).lines().map(str::trim_start) {
            // A literal may go on in the next line.
            match line.strip_suffix('\\') {
                _ if line.starts_with("//") => {}
                Some(line) => source += line,
                None => source += &format!("{line}\n"),
            }
        }
    }
    let guide = read("docs/guide/troubleshooting.md");
    let rows = guide
        .split("\n## ")
        .filter(|section| section.contains("\n| the line |") || section.contains("\n| line |"))
        .flat_map(str::lines)
        .filter(|line| line.starts_with("| `"));
    let mut lines = 0;
    for row in rows {
        let cell = row.split(" | ").next().unwrap();
        for piece in cell.split('`').skip(1).step_by(2) {
            lines += 1;
            assert!(source.contains(piece), "no log line has {piece:?}");
        }
    }
    assert!(lines > 20, "{lines}");
}

#[test]
fn pictures_are_those_of_their_sources() {
    let mut pictures = 0;
    for source in files("docs")
        .into_iter()
        .filter(|path| has_end(path, "dot"))
    {
        pictures += 1;
        let sum = openssl::sha::sha256(read(&source).as_bytes());
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        let is_drawn = read(source.with_extension("svg")).contains(&sum);
        assert!(is_drawn, "{}: make pictures draws it", source.display());
    }
    assert!(pictures > 3, "{pictures}");
}

/// README shows what the demo prints and what was measured.
#[test]
fn readme_shows_what_there_is() {
    let readme = read("README.md");
    let demo = read("examples/demo.sh");
    let rows = readme.lines().filter(|line| line.ends_with("   ok"));
    let rows: Vec<_> = rows.map(|row| row.split("  ").next().unwrap()).collect();
    assert!(rows.len() > 5, "{rows:?}");
    for row in rows {
        assert!(
            demo.contains(&format!("row \"{row}\"")),
            "make demo has no row {row:?}"
        );
    }
    let measured = read("docs/evidence/performance.md");
    let measured: BTreeSet<_> = words(&measured, ".").collect();
    let (_, table) = readme.split_once("\n## What it costs\n").unwrap();
    let rows = table.lines().take_while(|line| !line.starts_with('#'));
    let cells = rows
        .filter(|line| line.starts_with('|'))
        .flat_map(|row| row.split('|').skip(2).take(2));
    let figures: Vec<_> = cells
        .flat_map(|cell| words(cell, "."))
        .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.len() > 1)
        .filter(|word| *word != "9.2")
        .collect();
    assert!(figures.len() > 8, "{figures:?}");
    for figure in figures {
        assert!(
            measured.contains(figure),
            "docs/evidence/performance.md has no {figure}"
        );
    }
}
