//! The library under test, and the C compilers.

#![allow(dead_code)] // Each test file uses a part.

pub mod abi;
pub mod host;
mod tools;

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

pub use tools::*;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The library: the one of this build, or `$TSSESSION_LIB`.
pub fn library() -> PathBuf {
    match env::var_os("TSSESSION_LIB") {
        Some(path) => path.into(),
        None => built("libtssession.so"),
    }
}

/// A folder in which the library has the names that the linker and the loader
/// look for.
pub fn library_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| folder_of(&[library()]))
}

/// The committed description of the ABI.
pub fn baseline() -> abi::Baseline {
    abi::Baseline(root().join("tests/abi"))
}

/// The name under which the loader looks for the library.
pub fn soname() -> String {
    soname_of(&library())
}

/// The names that the library shows to the loader.
pub fn exported() -> BTreeSet<String> {
    exported_by(&library())
}

/// The C or C++ compiler that the `cc` crate finds for this machine, with `$CFLAGS` or
/// `$CXXFLAGS`.
pub fn compiler(cpp: bool) -> Command {
    compiler_tool(cpp).to_command()
}

/// The same to link with, with `$LDFLAGS`.
pub fn linker(cpp: bool) -> Command {
    let mut command = Command::new(compiler_tool(cpp).path());
    let flags = env::var("LDFLAGS").unwrap_or_default();
    command.args(flags.split_whitespace());
    command
}

fn compiler_tool(cpp: bool) -> cc::Tool {
    cc::Build::new()
        .cpp(cpp)
        .cargo_metadata(false)
        .target(env!("TSSESSION_TARGET"))
        .host(env!("TSSESSION_TARGET"))
        .opt_level(1)
        .debug(true)
        .get_compiler()
}

/// How a program reaches the library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    Link,
    Dlopen,
}

/// Compiles `c_tests/SOURCE` into an object file in `dir`.
fn object(dir: &Path, source: &str, defines: &[&str]) -> PathBuf {
    let cpp = source.ends_with(".cc");
    let object = dir.join(source).with_extension("o");
    run(compiler(cpp)
        .args(WARNINGS)
        .args(["-Wno-unused-function", "-D_GNU_SOURCE"])
        .arg(if cpp { "-std=c++11" } else { "-std=c11" })
        .args(defines)
        .arg("-I")
        .arg(root().join("include"))
        .arg("-c")
        .arg(root().join("c_tests").join(source))
        .arg("-o")
        .arg(&object));
    object
}

/// Compiles `c_tests/SOURCE` with what it needs.
pub fn compile(source: &str, reach: Reach, defines: &[&str]) -> PathBuf {
    let cpp = source.ends_with(".cc");
    let name = format!("{source}-{reach:?}{}", defines.concat());
    let dir = scratch().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let how: &[&str] = match reach {
        Reach::Link => &[],
        Reach::Dlopen => &["-DAPI_DLOPEN"],
    };

    // The same for all programs.
    static TLS: OnceLock<PathBuf> = OnceLock::new();
    let tls = TLS.get_or_init(|| object(scratch(), "tls.c", &[]));
    let program = dir.join("program");
    let mut link = linker(cpp);
    link.arg("-o")
        .arg(&program)
        .arg(object(&dir, source, &[defines, how].concat()))
        .arg(tls);
    match reach {
        Reach::Link => link.arg("-L").arg(library_dir()).arg("-ltssession"),
        // Exported, the names of a host come before the library's.
        Reach::Dlopen => link.args(["-rdynamic", "-ldl"]),
    };
    run(link.args(["-lssl", "-lcrypto", "-lpthread"]));
    program
}

fn with_library(mut command: Command) -> Command {
    command.env("LD_LIBRARY_PATH", library_dir());
    command
}

/// What holds for every program, besides that its own checks pass: the library
/// prints nothing on stdout and does not panic.
pub fn execute(command: Command) -> Output {
    let output = run(&mut with_library(command));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !stderr.contains("panicked") && !stderr.contains("a panic"),
        "{stderr}"
    );
    output
}

/// The compiler with a source from `examples/`, as C or as C++.
pub fn compile_example(source: &str) -> Command {
    let cpp = source.ends_with(".cc");
    let mut command = compiler(cpp);
    command
        .args(WARNINGS)
        .arg(if cpp { "-std=c++20" } else { "-std=c11" })
        .args(["-D_GNU_SOURCE", "-I"])
        .arg(root().join("include"))
        .arg(root().join("examples").join(source));
    command
}

/// What runs a program, to be named next, and fails it for an error or a leak.
pub fn valgrind() -> Command {
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
        .args(["--errors-for-leak-kinds=definite,indirect,possible"])
        .arg(format!(
            "--suppressions={}/c_tests/valgrind.supp",
            root().display()
        ));
    command
}
