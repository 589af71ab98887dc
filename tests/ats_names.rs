//! The names of the functions, beside those that compilers find for them.

use std::collections::BTreeSet;
use std::process::Command;

use tssession_ats::{DEBUG_NAMES, NAMES};
use tssession_test_support::{root, run, scratch, stdout};

#[test]
fn the_cxx_names_are_those_of_a_compiler() {
    let object = scratch().join("ats_names.o");
    run(Command::new("g++")
        .args(["-std=c++20", "-Wall", "-Wextra", "-Werror", "-c", "-o"])
        .arg(&object)
        .arg(root().join("tests/ats_names.cc")));
    let symbols = stdout(Command::new("nm").arg("--defined-only").arg(object));
    let compiled: BTreeSet<&str> = symbols
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        // What comes with the compiler's own headers.
        .filter(|name| !name.starts_with("_ZNSt") && !name.starts_with("_ZSt"))
        .collect();
    let ours = NAMES.iter().map(|(_, cxx)| cxx).chain(&DEBUG_NAMES);
    assert_eq!(ours.copied().collect::<BTreeSet<_>>(), compiled);
}

/// With the header of ATS 9 itself.
#[test]
#[cfg_attr(not(has_ats), ignore = "needs the headers of trafficserver-dev")]
fn the_c_names_are_those_of_ats_9() {
    let source = scratch().join("ats9.c");
    let places: Vec<String> = NAMES.iter().map(|(c, _)| format!("(void *){c}")).collect();
    let text = format!(
        "#include <ts/ts.h>\nvoid *functions[] = {{{}}};\n",
        places.join(", ")
    );
    std::fs::write(&source, text).unwrap();
    run(Command::new("gcc")
        .args(["-std=gnu11", "-Wall", "-Werror", "-fsyntax-only"])
        .arg(source));
}
