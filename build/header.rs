//! What the build scripts of both libraries do: C declarations made of Rust sources, and
//! files in `OUT_DIR`.

use std::env;
use std::fs;
use std::path::Path;

use cbindgen::{Builder, Config};

/// The C declarations of one source below `root`, where cbindgen.toml is too.
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
    without_safety_sections(text.trim_start())
}

/// The version of libtssession and libtssession_farm.
pub fn version() -> String {
    env::var("CARGO_PKG_VERSION").expect("set by cargo")
}

/// The same in every header, since each can be included without the others.
pub fn version_macro() -> String {
    let version = version();
    format!(
        "/* The version of this header; that of the library: TSSslSessionCacheVersion(). */\n\
         #define TSSESSION_VERSION \"{version}\"\n"
    )
}

/// Leaves out the `# Safety` end of a doc comment, which is Rust's way to say what
/// the text before it says to C callers.
fn without_safety_sections(text: &str) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for line in text.lines() {
        if line == " * # Safety" {
            skipping = true;
            // The empty line before it.
            out.truncate(out.trim_end_matches(" *\n").len());
        }
        if line == " */" {
            skipping = false;
        }
        if !skipping {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Writes files into a folder that has nothing else in it then.
pub fn write_all<N: AsRef<Path>>(dir: &Path, files: impl IntoIterator<Item = (N, String)>) {
    let _ = fs::remove_dir_all(dir);
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("is in dir")).expect("OUT_DIR is writable");
        fs::write(path, text).expect("OUT_DIR is writable");
    }
}
