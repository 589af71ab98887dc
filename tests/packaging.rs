//! Tests what is installed beside the library: manual pages, and the files for Debian.

use std::fs;
use std::process::Command;

use tssession_common::generate::man;
use tssession_test_support::{root, run, scratch, stdout};

/// Returns lines with a character that some formatters replace by a typographic one.
fn bare_signs(page: &str) -> Vec<&str> {
    page.lines()
        .filter(|line| !line.starts_with(".\\\""))
        .filter(|line| line.replace("\\-", "").contains(['-', '`', '^', '~']))
        .collect()
}

#[test]
fn manual_pages_are_clean() {
    for entry in fs::read_dir(root().join("man")).unwrap() {
        let page = entry.unwrap().path();
        let output = Command::new("mandoc")
            .args(["-Tlint", "-Wwarning"])
            .arg(&page)
            .output()
            .expect("tools/deps.sh test installs mandoc");
        let said = String::from_utf8(output.stdout).unwrap();
        // The pages have a version instead of a date.
        let complaints: Vec<&str> = said
            .lines()
            .filter(|line| !line.ends_with("WARNING: missing date, using \"\": TH"))
            .collect();
        assert_eq!(complaints, Vec::<&str>::new());

        let text = fs::read_to_string(&page).unwrap();
        assert_eq!(bare_signs(&text), Vec::<&str>::new(), "{page:?}");

        let groff = run(Command::new("man").args(["--warnings", "-l"]).arg(&page));
        assert_eq!(String::from_utf8(groff.stderr).unwrap(), "");
    }
}

/// A reader sees exactly what the author wrote, and can copy it.
#[test]
fn manual_pages_show_every_character() {
    let odd = [
        ".dot and 'quote' first",
        "'quote first",
        r"a\b \fIc \&d \",
        "-1 --all ^ ~ ` \" <a@b> 100%",
        ".. .XX \"",
    ];
    let below = "Returns:\n *   0.\n *\n * Errors:\n *   None.\n *\n * Threads:\n *   .any";
    let header = format!(
        "/**\n * Tests odd text.\n *\n * {}\n *\n * {below}\n */\n\
         int odd(const char *text, int len);\n",
        odd.join("\n *\n * ")
    );
    let code = r#"char *a = "\n" - 1 ^ ~2; /* '`. */"#;
    let example = ["/* Example: odd */", "int", "odd;", code, "/* End */\n"].join("\n");
    let pages = man::pages(
        &[("odd.h", &header)],
        "",
        &man::Overview {
            title: "Odd text",
            template: ".SH NAME\n",
            counters: "",
            settings: "",
            soname: "libodd.so.1",
        },
        &example,
        "1",
        "banner",
    );
    let (name, text) = &pages[1];
    assert_eq!(name, "odd.3");
    assert_eq!(bare_signs(text), Vec::<&str>::new());
    let page = scratch().join(name);
    fs::write(&page, text).unwrap();
    for mut formatter in [Command::new("mandoc"), Command::new("man")] {
        if formatter.get_program() == "mandoc" {
            formatter.args(["-Tutf8", "-Owidth=120"]);
        } else {
            formatter.env("MANWIDTH", "120").arg("-l");
        }
        let shown = stdout(formatter.env("LC_ALL", "C.UTF-8").arg(&page));
        // A bold letter is printed over itself.
        let mut plain = String::new();
        for c in shown.chars() {
            if c == '\u{8}' {
                plain.pop();
            } else {
                plain.push(c);
            }
        }
        let others = ["int odd(const char *text, int len);", "0.", ".any", code];
        for line in [&odd[..], &others].concat() {
            assert!(
                plain.lines().any(|shown| shown.trim() == line),
                "{formatter:?} does not show {line}:\n{plain}"
            );
        }
    }
}

#[test]
fn debian_knows_the_version() {
    let changelog = fs::read_to_string(root().join("debian/changelog")).unwrap();
    let start = format!("tssession ({}) ", env!("CARGO_PKG_VERSION"));
    assert!(
        changelog.starts_with(&start),
        "debian/changelog begins with {start}"
    );
}

/// Returns whether a licence requires its text with a binary, whichever alternative is chosen.
fn asks_for_a_notice(licence: &str) -> bool {
    let asks_for_none = ["Apache-2.0", "BSL-1.0", "Unlicense", "Zlib"];
    licence.split(" AND ").any(|part| {
        let mut choices = part.split(" OR ").flat_map(|choice| choice.split('/'));
        !choices.any(|choice| asks_for_none.contains(&choice.trim_matches(['(', ')'])))
    })
}

#[test]
fn debian_has_the_notices_of_all_that_is_linked_in() {
    let notices = fs::read_to_string(root().join("debian/copyright")).unwrap();
    let named = |name: &str| {
        let mut words = notices.split(|c: char| !(c.is_alphanumeric() || "-_".contains(c)));
        words.any(|word| word == name)
    };
    for library in ["tssession", "tssession-farm", "tssession-doctor"] {
        let tree = stdout(
            Command::new(env!("CARGO"))
                .current_dir(root())
                .args(["tree", "--locked", "--offline", "--package", library])
                .args(["--edges", "normal,no-proc-macro", "--prefix", "none"])
                .args(["--format", "{p}|{l}"]),
        );
        let mut asking = 0;
        for line in tree.lines() {
            let (package, licence) = line.split_once('|').unwrap();
            let name = package.split(' ').next().unwrap();
            if asks_for_a_notice(licence.trim_end_matches(" (*)")) {
                assert!(named(name), "{name}, {licence}: not in debian/copyright");
                asking += 1;
            }
        }
        assert!(asking > 0, "{tree}");
    }
}
