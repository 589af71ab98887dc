//! The header and the manual pages made of it are up to date. The header compiles with every compiler,
//! language level and order.

use std::path::Path;

use tssession_test_support::{FARM, check_syntax};

#[test]
fn the_committed_header_and_manual_pages_are_those_of_the_source() {
    FARM.check_generated(Path::new(env!("TSSESSION_GENERATED")));
}

/// Calls functions, so that the declarations are used and not only parsed.
const USE: &str = r#"
int use(void);
int use(void)
{
  int len = 0;
  int64_t value = 0;
  return TSSslSessionFarmStart("farm.toml") == TS_SUCCESS && TSSslSessionFarmStatsText(0, &len) != 0 &&
         TSSslSessionFarmStatGet("plugin.tssession_farm.published", &value) == TS_SUCCESS;
}
"#;

const HEADER: &str = "#include <ts/ssl_session_farm.h>\n";
const TS: &str = "#include <ts/ts.h>\n";
const CACHE: &str = "#include <ts/ssl_session_cache.h>\n";

#[test]
fn every_language_and_order() {
    for (compiler, std) in [
        ("gcc", "c99"),
        ("gcc", "c17"),
        ("clang", "c99"),
        ("g++", "c++11"),
        ("g++", "c++20"),
        ("clang++", "c++20"),
    ] {
        for text in [
            format!("{HEADER}{USE}"),
            format!("{TS}{HEADER}{HEADER}{CACHE}{USE}"),
            format!("{CACHE}{HEADER}{USE}"),
            format!("#define TS_SSL_SESSION_API 9\n{HEADER}{TS}{USE}"),
        ] {
            check_syntax(compiler, std, "-I", &text);
        }
    }
}

/// `<ts/ts.h>` may be that of ATS, if its directory comes first.
#[test]
#[cfg_attr(not(has_ats), ignore = "needs the headers of trafficserver-dev")]
fn beside_the_header_of_ats() {
    let check = "#ifndef TS_VERSION_MAJOR\n#error this is not the header of ATS\n#endif\n";
    for (compiler, std) in [("gcc", "gnu11"), ("g++", "c++17")] {
        check_syntax(
            compiler,
            std,
            "-idirafter",
            &format!("{HEADER}{check}{USE}"),
        );
    }
}
