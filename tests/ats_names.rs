//! Compares the names of ATS's functions in the code with those that compilers make for them.

use std::collections::BTreeSet;
use std::process::Command;

use tssession_ats::{DEBUG_NAMES, NAMES};
use tssession_test_support::{Ats, stdout};

/// Returns the names that the stand-in for a version defines.
fn defined(server: Ats) -> BTreeSet<String> {
    let symbols = stdout(
        Command::new("nm")
            .arg("--defined-only")
            .arg(server.object()),
    );
    let names = symbols.lines().filter_map(|line| line.split(' ').nth(2));
    names.map(str::to_owned).collect()
}

#[test]
fn the_cxx_names_are_those_of_a_compiler() {
    let defined = defined(Ats::V10);
    let ours = NAMES.iter().map(|(_, cxx)| cxx).chain(&DEBUG_NAMES);
    for name in ours {
        assert!(defined.contains(*name), "{name}");
    }
}

/// Uses the header of ATS 9.
#[test]
#[cfg_attr(not(has_ats), ignore = "needs the headers of trafficserver-dev")]
fn the_c_names_are_those_of_ats_9() {
    let defined = defined(Ats::V9);
    for (c, _) in NAMES {
        assert!(defined.contains(*c), "{c}");
    }
}
