//! The headers and the manual pages made of them are up to date. The headers compile with every
//! compiler, language level and order.

use std::fs;
use std::path::Path;
use std::process::Command;

use tssession_test_support::{TSSESSION, WARNINGS, check_syntax, root, run, scratch};

#[test]
fn the_committed_headers_and_manual_pages_are_those_of_the_source() {
    TSSESSION.check_generated(Path::new(env!("TSSESSION_GENERATED")));
}

const TS: &str = "#include <ts/ts.h>\n";
const HOST: &str = "#include <ts/ssl_session_cache.h>\n";

/// Calls functions, so that the declarations are used and not only parsed.
const USE: &str = r"
int use(void);
int use(void)
{
  TSSslSessionID id = {1, {0}};
  int len = 0;
  return TSSslSessionGetBuffer(&id, 0, &len) + (TSSslSessionGet(&id) == 0) + (int)TSSslSessionRemove(&id);
}
";

fn compile_everywhere(compiler: &str, standards: &[&str], apis: &[&str]) {
    for std in standards {
        for api in apis {
            for order in [
                format!("{TS}{HOST}{USE}"),
                format!("{HOST}{TS}{USE}"),
                format!("{TS}{TS}{HOST}{HOST}{USE}"),
                format!("{HOST}{USE}"),
                format!("{TS}{USE}"),
            ] {
                let text = format!("#define TS_SSL_SESSION_API {api}\n{order}");
                check_syntax(compiler, std, "-I", &text);
            }
        }
    }
}

#[test]
fn c_with_gcc() {
    compile_everywhere("gcc", &["c99", "c11", "c17"], &["8", "9"]);
}

#[test]
fn c_with_clang() {
    compile_everywhere("clang", &["c99", "c11", "c17"], &["8", "9"]);
}

#[test]
fn cxx_with_gcc() {
    compile_everywhere("g++", &["c++11", "c++20"], &["8", "9", "10"]);
}

#[test]
fn cxx_with_clang() {
    compile_everywhere("clang++", &["c++11", "c++20"], &["8", "9", "10"]);
}

#[test]
fn the_level_is_8_unless_chosen_and_others_do_not_exist() {
    let include = root().join("include");
    let preprocess = |defines: &[&str]| {
        let source = scratch().join("level.c");
        fs::write(&source, format!("{TS}int level = TS_SSL_SESSION_API;\n")).unwrap();
        Command::new("gcc")
            .args(["-E", "-I"])
            .arg(&include)
            .args(defines)
            .arg(source)
            .output()
            .unwrap()
    };
    let text = String::from_utf8(preprocess(&[]).stdout).unwrap();
    assert!(text.contains("int level = 8;"));
    assert!(text.contains("void TSSslTicketKeyUpdate(char *ticketData, int ticketDataLength);"));
    for bad in ["7", "10", "11"] {
        let output = preprocess(&[&format!("-DTS_SSL_SESSION_API={bad}")]);
        assert!(!output.status.success(), "level {bad} in C");
    }
}

/// `<ts/ts.h>` may be that of ATS, if its directory comes first.
#[test]
#[cfg_attr(not(has_ats), ignore = "needs the headers of trafficserver-dev")]
fn beside_the_header_of_ats() {
    let text = r"
#define TS_SSL_SESSION_API 9
#include <ts/ssl_session_cache.h>
#ifndef TS_VERSION_MAJOR
#error this is not the header of ATS
#endif
TSReturnCode use(TSSslContext ctx, TSEventFunc func, TSCont contp);
TSReturnCode use(TSSslContext ctx, TSEventFunc func, TSCont contp)
{
  return TSSslSessionCacheAttach(ctx) == TS_SUCCESS ? TSSslSessionHookAdd(func, contp) : TS_ERROR;
}
";
    // Without c99 and c++11: the header of ATS does not compile with them and -Wpedantic.
    for (compiler, std) in [
        ("gcc", "gnu11"),
        ("clang", "gnu11"),
        ("g++", "c++17"),
        ("clang++", "c++17"),
    ] {
        check_syntax(compiler, std, "-idirafter", text);
    }
}

/// The examples in the manual pages compile.
#[test]
fn the_examples_in_manual_pages() {
    for compiler in ["gcc", "clang"] {
        run(Command::new(compiler)
            .args(WARNINGS)
            .args(["-std=c11", "-O2", "-c", "-I"])
            .arg(root().join("include"))
            .arg(root().join("build/examples.c"))
            .arg("-o")
            .arg(scratch().join("examples.o")));
    }
}
