//! The names that the farm's library shows to the loader, compared with other files about them.

use std::process::Command;

use tssession_test_support::{FARM, stdout};

#[test]
fn exactly_the_promised_names() {
    FARM.check_names();
}

/// One file works in every host, because the host's functions are found at run time.
#[test]
fn no_function_of_a_host_is_linked() {
    let undefined = stdout(
        Command::new("nm")
            .args(["-D", "--undefined-only"])
            .arg(&FARM.path),
    );
    assert!(undefined.contains(" U SSL_SESSION_free"), "{undefined}");
    let mut of_a_host = undefined.lines().filter(|line| line.contains("TS"));
    assert_eq!(of_a_host.next(), None);
    let dynamic = FARM.dynamic_section();
    assert!(!dynamic.contains("libtssession.so"), "{dynamic}");
}
