//! The library under test, and the C compilers.

#![allow(dead_code)] // Each test file uses a part.

pub mod host;

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

pub const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder for what this test file makes.
pub fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let name = env::current_exe().unwrap();
        let name = name.file_stem().unwrap();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    })
}

/// The library: the one of this build, or `$TSSESSION_LIB`.
pub fn library() -> PathBuf {
    match env::var_os("TSSESSION_LIB") {
        Some(path) => path.into(),
        // Where cargo leaves what a test depends on.
        None => env::current_exe()
            .unwrap()
            .with_file_name("libtssession.so"),
    }
}

/// A folder in which the library has the names that the linker and the loader
/// look for.
pub fn library_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = scratch().join("lib");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for name in ["libtssession.so", "libtssession.so.0"] {
            symlink(library(), dir.join(name)).unwrap();
        }
        dir
    })
}

/// The API levels that `<ts/ts.h>` has.
pub const API_LEVELS: [&str; 3] = ["8", "9", "10"];

/// Where the committed description of the ABI at such a level is.
pub fn abi_baseline(level: &str) -> PathBuf {
    root().join("tests/abi").join(level).with_extension("xml")
}

/// The functions that it describes.
pub fn abi_names(level: &str) -> BTreeSet<String> {
    let baseline = fs::read_to_string(abi_baseline(level)).unwrap();
    let functions = baseline
        .lines()
        .filter(|line| line.contains("<elf-symbol ") && line.contains("type='func-type'"));
    functions
        .map(|line| line.split('\'').nth(1).unwrap().to_owned())
        .collect()
}

/// The SONAME that it is of.
pub fn abi_soname(level: &str) -> String {
    let baseline = fs::read_to_string(abi_baseline(level)).unwrap();
    let (_, rest) = baseline.split_once(" soname='").unwrap();
    rest.split('\'').next().unwrap().to_owned()
}

/// The name under which the loader looks for the library.
pub fn soname() -> String {
    let dynamic = stdout("readelf", ["--dynamic".as_ref(), library().as_os_str()]);
    let (_, rest) = dynamic.split_once("Library soname: [").unwrap();
    rest.split_once(']').unwrap().0.to_owned()
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

/// Compiles `c_tests/SOURCE` with what it needs.
pub fn compile(source: &str, reach: Reach, defines: &[&str]) -> PathBuf {
    let cpp = source.ends_with(".cc");
    let name = format!("{source}-{reach:?}{}", defines.concat());
    let c_tests = root().join("c_tests");
    let dir = scratch().join(name);
    std::fs::create_dir_all(&dir).unwrap();

    let object = |source: &str, cpp: bool, defines: &[&str]| {
        let object = dir.join(source).with_extension("o");
        run(compiler(cpp)
            .args(WARNINGS)
            .args(["-Wno-unused-function", "-D_GNU_SOURCE"])
            .arg(if cpp { "-std=c++11" } else { "-std=c11" })
            .args(defines)
            .arg("-I")
            .arg(root().join("include"))
            .arg("-c")
            .arg(c_tests.join(source))
            .arg("-o")
            .arg(&object));
        object
    };
    let how: &[&str] = match reach {
        Reach::Link => &[],
        Reach::Dlopen => &["-DAPI_DLOPEN"],
    };

    let program = dir.join("program");
    let mut link = linker(cpp);
    link.arg("-o")
        .arg(&program)
        .arg(object(source, cpp, &[defines, how].concat()))
        .arg(object("tls.c", false, &[]));
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

/// Runs a command; its output, which is shown if it fails.
pub fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; tools/deps.sh test installs it"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

/// What a command prints.
pub fn stdout<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> String {
    String::from_utf8(run(Command::new(program).args(args)).stdout).unwrap()
}

/// The names that the library shows to the loader.
pub fn exported() -> BTreeSet<String> {
    let nm = stdout(
        "nm",
        [
            "-D".as_ref(),
            "--defined-only".as_ref(),
            library().as_os_str(),
        ],
    );
    nm.lines()
        .filter_map(|line| line.split(' ').nth(2))
        .map(String::from)
        .collect()
}
