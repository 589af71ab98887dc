//! What the build scripts of both libraries share: linking, C declarations generated from Rust
//! sources, manual pages, and files in `OUT_DIR`.

pub mod man;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use cbindgen::{Builder, Config};

/// The version of the OpenSSL that a library is built with: major, minor and patch.
pub fn openssl() -> [u32; 3] {
    let number = env::var("DEP_OPENSSL_VERSION_NUMBER").expect("openssl-sys tells it");
    let number = u32::from_str_radix(&number, 16).expect("it is in hex");
    [number >> 28, number >> 20 & 0xff, number >> 4 & 0xff]
}

/// The name that the loader looks for. It differs between OpenSSL 3 and later ones, so that a program
/// for one OpenSSL never loads a library that returns objects of another. mk/install.mk makes the same
/// name.
pub fn soname(library: &str, version: &str) -> String {
    match openssl()[0] {
        3 => format!("{library}.so.{version}"),
        major => format!("{library}.so.{version}-openssl{major}"),
    }
}

/// Sets `has_ats` if the system has the headers of ATS 9, which some tests compile beside ours.
/// Without them these tests are ignored.
pub fn look_for_ats() {
    let headers = Path::new("/usr/include/ts");
    println!("cargo::rustc-check-cfg=cfg(has_ats)");
    // A missing file would count as changed each time.
    let watched = if headers.exists() {
        headers
    } else {
        Path::new("/usr/include")
    };
    println!("cargo::rerun-if-changed={}", watched.display());
    if headers.join("apidefs.h").exists() {
        println!("cargo::rustc-cfg=has_ats");
    }
}

/// Passes the linker the flags of a library.
pub fn link(soname: &str) {
    // dlclose must not unmap functions that an SSL_CTX, a thread's end or the end of the
    // process will still call.
    for flag in [&format!("-soname,{soname}"), "-z,nodelete"] {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{flag}");
    }
    // A symbol that is not defined anywhere fails the build, not the first dlopen. Sanitizers are
    // linked into the program only.
    if env::var_os("CARGO_CFG_SANITIZE").is_none() {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,defs");
    }
}

/// The C declarations of one source file below `root`, the directory of cbindgen.toml.
pub fn declarations(root: &Path, source: &str) -> String {
    let config = Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let bindings = Builder::new()
        .with_config(config)
        .with_src(root.join(source))
        .generate()
        .unwrap_or_else(|error| panic!("cbindgen, {source}: {error}"));
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).expect("cbindgen writes UTF-8");
    with_c_headings(text.trim_start())
}

/// The declarations with C linkage, in C++ too.
pub fn with_c_linkage(declarations: &str) -> String {
    let [begin, end] =
        ["extern \"C\" {", "}"].map(|line| format!("#ifdef __cplusplus\n{line}\n#endif\n"));
    format!("{begin}\n{declarations}\n{end}")
}

/// The version of libtssession and libtssession_farm.
pub fn version() -> String {
    env::var("CARGO_PKG_VERSION").expect("set by cargo")
}

/// The macro for the version. Every header has it, because each can be included without the others.
pub fn version_macro() -> String {
    let version = version();
    format!(
        "/* The version of this header; that of the library: TSSslSessionCacheVersion(). */\n\
         #define TSSESSION_VERSION \"{version}\"\n"
    )
}

/// Gives the headings of doc comments their form in C: `# Returns` becomes `Returns:`, and the text
/// below it is indented. `# Safety` is left out: it repeats for Rust what the other parts say.
fn with_c_headings(text: &str) -> String {
    let mut out = String::new();
    let mut heading = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix(" * # ") {
            heading = Some(name);
            if name == "Safety" {
                // Removes the empty line before it.
                out.truncate(out.trim_end_matches(" *\n").len());
            } else {
                writeln!(out, " * {name}:").unwrap();
            }
            continue;
        }
        if line == " */" {
            heading = None;
        }
        match (heading, line.strip_prefix(" * ")) {
            (Some("Safety"), _) => {}
            (Some(_), Some(text)) => writeln!(out, " *   {text}").unwrap(),
            _ => writeln!(out, "{line}").unwrap(),
        }
    }
    out
}

/// Writes files into a directory, which then contains nothing else.
pub fn write_all<N: AsRef<Path>>(dir: &Path, files: impl IntoIterator<Item = (N, String)>) {
    let _ = fs::remove_dir_all(dir);
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("is in dir")).expect("OUT_DIR is writable");
        fs::write(path, text).expect("OUT_DIR is writable");
    }
}
