//! Compares the ABI of the headers with the baseline in `tests/abi/*.xml`.

use std::path::PathBuf;

use tssession_test_support::TSSESSION;
use tssession_test_support::abi::{LEVELS, different, incompatible};

#[test]
fn the_abi_is_that_of_the_baseline() {
    TSSESSION.api().check(&TSSESSION.baseline());
}

/// A change of the headers: its description, the text before, the text after.
type Change = (&'static str, &'static str, &'static str);

const BREAKING: [Change; 11] = [
    (
        "a function removed",
        "void TSSslSessionCacheClear(void);",
        "",
    ),
    (
        "a function renamed",
        "TSSslSessionRemove(const",
        "TSSslSessionDelete(const",
    ),
    (
        "a parameter's type",
        "char *buffer, int *len_ptr",
        "char *buffer, size_t *len_ptr",
    ),
    (
        "a result's type",
        "int TSSslSessionGetBuffer(",
        "long TSSslSessionGetBuffer(",
    ),
    (
        "a callback's parameters",
        "TSCont contp, enum TSEvent event, ",
        "TSCont contp, ",
    ),
    (
        "the order of fields",
        "  size_t len;
  /**
   * The ID.
   */
  char bytes[TS_SSL_MAX_SSL_SESSION_ID_LENGTH];",
        "  char bytes[TS_SSL_MAX_SSL_SESSION_ID_LENGTH];
  size_t len;",
    ),
    ("a field's size", "  size_t len;", "  int len;"),
    (
        "a field's offset",
        "typedef struct TSSslSessionID {",
        "typedef struct TSSslSessionID {\n  int before;",
    ),
    ("an event's value", "_NEW = 2001", "_NEW = 2003"),
    ("an error's value", "TS_ERROR = -1", "TS_ERROR = 1"),
    (
        "a macro's value",
        "TS_SSL_MAX_SSL_SESSION_ID_LENGTH 32",
        "TS_SSL_MAX_SSL_SESSION_ID_LENGTH 64",
    ),
];

const ADDING: [Change; 2] = [
    (
        "a function added",
        "void TSSslSessionCacheClear(void);",
        "void TSSslSessionCacheClear(void);\nvoid TSSslSessionCacheNew(void);",
    ),
    (
        "an event added",
        "_REMOVE = 2002,",
        "_REMOVE = 2002,\n  TS_EVENT_SSL_SESSION_OTHER = 2003,",
    ),
];

/// Builds the stand-in with a change.
fn changed(level: &str, (what, from, to): Change) -> PathBuf {
    let before = TSSESSION.api();
    let mut after = before.clone();
    for header in &mut after.headers {
        header.text = header.text.replace(from, to);
    }
    assert_ne!(before, after, "{what}");
    after.stand_in(&what.replace(' ', "-"), level)
}

/// The comparison relies on this: abidiff sees every kind of change, at every level.
#[test]
fn what_breaks_callers_is_told_from_what_adds() {
    for level in LEVELS {
        let baseline = TSSESSION.api().stand_in("before", level);
        for change in BREAKING {
            let after = changed(level, change);
            assert!(
                incompatible(&baseline, &after).is_some(),
                "{change:?}, {level}"
            );
        }
        for change in ADDING {
            let after = changed(level, change);
            assert_eq!(incompatible(&baseline, &after), None, "{change:?}, {level}");
            assert!(
                different(&baseline, &after).is_some(),
                "{change:?}, {level}"
            );
        }
        let mut renamed = TSSESSION.api();
        renamed.soname = "libtssession.so.other".to_owned();
        let renamed = renamed.stand_in("soname", level);
        assert!(incompatible(&baseline, &renamed).is_some());
    }
}
