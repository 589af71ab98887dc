//! The C and C++ compilers, and C programs that use libtssession.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::{Ats, library_dir, root, run, scratch, scratch_dir};

pub const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// Returns the words of an environment variable, or those of `default`.
fn words(variable: &str, default: &str) -> Vec<String> {
    let text = env::var(variable).unwrap_or_else(|_| default.to_owned());
    text.split_whitespace().map(str::to_owned).collect()
}

/// `$CC` or `$CXX`.
fn driver(cpp: bool) -> Command {
    let words = if cpp {
        words("CXX", "c++")
    } else {
        words("CC", "cc")
    };
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Returns the C or C++ compiler, with `$CFLAGS` or `$CXXFLAGS`.
pub fn compiler(cpp: bool) -> Command {
    let mut command = driver(cpp);
    command
        .args(["-O1", "-g"])
        .args(words(if cpp { "CXXFLAGS" } else { "CFLAGS" }, ""));
    command
}

/// Returns the compiler with a source of this project: C11, or C++20 if its name ends with `.cc`.
pub fn compile_source(source: &str) -> Command {
    let cpp = source.ends_with(".cc");
    let mut command = compiler(cpp);
    command
        .args(WARNINGS)
        .arg(if cpp { "-std=c++20" } else { "-std=c11" })
        .args(["-D_GNU_SOURCE", "-I"])
        .arg(root().join("include"))
        .arg(root().join(source));
    command
}

/// Checks that a compiler accepts a text without a warning. `include` is the option that adds the
/// directory of the headers.
pub fn check_syntax(compiler: &str, std: &str, include: &str, text: &str) {
    let name = if std.contains("++") {
        "text.cc"
    } else {
        "text.c"
    };
    let source = scratch_dir().join(name);
    fs::write(&source, text).unwrap();
    run(Command::new(compiler)
        .args(WARNINGS)
        .args(["-fsyntax-only", &format!("-std={std}"), include])
        .arg(root().join("include"))
        .arg(source));
}

/// How a program reaches the library.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    Link,
    Dlopen,
    /// With `dlopen`, in a program of [`Ats::command`].
    InAts,
}

/// Compiles `c_tests/SOURCE` into an object file in `dir`.
fn object(dir: &Path, source: &str, defines: &[&str]) -> PathBuf {
    let object = dir.join(source).with_extension("o");
    run(compile_source(&format!("c_tests/{source}"))
        // C++ callers need no newer standard.
        .args(source.ends_with(".cc").then_some("-std=c++11"))
        .arg("-Wno-unused-function")
        .args(defines)
        .args(["-c", "-o"])
        .arg(&object));
    object
}

/// Compiles and links `c_tests/SOURCE`.
pub fn compile(source: &str, reach: Reach, defines: &[&str]) -> PathBuf {
    let cpp = source.ends_with(".cc");
    let dir = scratch().join(format!("{source}-{reach:?}{}", defines.concat()));
    fs::create_dir_all(&dir).unwrap();

    let program = dir.join("program");
    let mut link = driver(cpp);
    link.args(words("LDFLAGS", "")).arg("-o").arg(&program);
    match reach {
        Reach::Link => link.arg(object(&dir, source, defines)),
        Reach::Dlopen | Reach::InAts => {
            link.arg(object(&dir, source, &[defines, &["-DAPI_DLOPEN"]].concat()))
        }
    };
    // All programs share this object.
    static TLS: LazyLock<PathBuf> = LazyLock::new(|| object(scratch(), "tls.c", &[]));
    link.arg(&*TLS);
    match reach {
        Reach::Link => link.arg("-L").arg(library_dir()).arg("-ltssession"),
        // Exported names of a host come before those of the library.
        Reach::Dlopen => link.args(["-rdynamic", "-ldl"]),
        Reach::InAts => link.arg(Ats::V10.library()).arg("-ldl"),
    };
    run(link.args(["-lssl", "-lcrypto", "-lpthread"]));
    program
}

/// Runs a program with the library, and returns what it logged. In addition to the program's own checks,
/// the library must print nothing on stdout and must not panic.
pub fn execute(command: &mut Command) -> String {
    let output = run(command.env("LD_LIBRARY_PATH", library_dir()));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        !stderr.contains("panicked") && !stderr.contains("a panic"),
        "{stderr}"
    );
    stderr
}

/// Returns a command that runs a program in valgrind, and fails for an error or a leak.
pub fn valgrind(program: &Path) -> Command {
    let suppressions = root().join("c_tests/valgrind.supp");
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
        .arg("--errors-for-leak-kinds=definite,indirect,possible")
        .arg(format!("--suppressions={}", suppressions.display()))
        .arg(program);
    command
}
