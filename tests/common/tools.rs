//! What the tests of both libraries need.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::{X509, X509NameBuilder};

use super::root;

pub const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

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

/// Where cargo leaves what a test depends on.
pub fn built(name: &str) -> PathBuf {
    env::current_exe().unwrap().with_file_name(name)
}

/// A folder in which libraries have the names that the linker and the loader look for.
pub fn folder_of(libraries: &[PathBuf]) -> PathBuf {
    let dir = scratch().join("lib");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    for library in libraries {
        let name = library.file_name().unwrap().to_str().unwrap();
        symlink(library, dir.join(name)).unwrap();
        symlink(library, dir.join(format!("{name}.0"))).unwrap();
    }
    dir
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

/// The names that a library shows to the loader.
pub fn exported_by(library: &Path) -> BTreeSet<String> {
    let nm = stdout(
        "nm",
        [
            "-D".as_ref(),
            "--defined-only".as_ref(),
            library.as_os_str(),
        ],
    );
    nm.lines()
        .filter_map(|line| line.split(' ').nth(2))
        .map(String::from)
        .collect()
}

/// What a library says to the loader of itself: its own name, and those of what it needs.
pub fn dynamic_section(library: &Path) -> String {
    stdout("readelf", ["--dynamic".as_ref(), library.as_os_str()])
}

/// The name under which the loader looks for a library.
pub fn soname_of(library: &Path) -> String {
    let dynamic = dynamic_section(library);
    let (_, rest) = dynamic.split_once("Library soname: [").unwrap();
    rest.split_once(']').unwrap().0.to_owned()
}

/// The names that Debian is told a library has.
pub fn debian_symbols(package: &str) -> BTreeSet<String> {
    let symbols = fs::read_to_string(root().join(format!("debian/{package}.symbols"))).unwrap();
    symbols
        .lines()
        .filter_map(|line| line.strip_prefix(' ')?.split_once('@'))
        .map(|(name, _)| name.to_string())
        .collect()
}

/// Compares the headers and manual pages that a build script has made with the committed ones,
/// those that are `of_the_farm` or the others. With `UPDATE_HEADERS` set (`make header`) it
/// brings these up to date instead. Every header has the version of the package.
pub fn check_generated(generated: &Path, of_the_farm: bool) {
    let files = |dir: &Path| -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
        let ours = named.filter(|(name, _)| name.to_lowercase().contains("farm") == of_the_farm);
        ours.map(|(name, path)| (name, fs::read(path).unwrap()))
            .collect()
    };
    for dir in ["include/ts", "man"] {
        let generated = files(&generated.join(dir));
        assert!(!generated.is_empty());
        let committed = root().join(dir);
        if env::var_os("UPDATE_HEADERS").is_some() {
            for name in files(&committed).keys() {
                fs::remove_file(committed.join(name)).unwrap();
            }
            for (name, text) in &generated {
                fs::write(committed.join(name), text).unwrap();
            }
        }
        assert!(
            generated == files(&committed),
            "{dir} is stale: run `make header` and commit"
        );
    }
    let version = format!(
        "\n#define TSSESSION_VERSION \"{}\"\n",
        env!("CARGO_PKG_VERSION")
    );
    for (name, text) in files(&generated.join("include/ts")) {
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.matches(&version).count(), 1, "{name}: {version}");
    }
}

/// A certificate that is good for a day, and its key.
pub fn certificate() -> (X509, PKey<Private>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    certificate
        .set_not_after(&Asn1Time::days_from_now(1).unwrap())
        .unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    (certificate.build(), key)
}
