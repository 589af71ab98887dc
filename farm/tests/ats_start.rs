//! Whatever is wrong, both plugins register and the server starts: ATS ends if a plugin has not
//! registered, and so does the stand-in.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tssession_ats::NAMES;
use tssession_test_support::{
    Ats, FARM, TSSESSION, compile_source, in_each_ats, library_dir, root, run, scratch_dir,
};

/// Returns settings of a farm whose Redis is away.
fn settings() -> PathBuf {
    let dir = scratch_dir();
    let secret = dir.join("secret");
    fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "farm = \"test\"\nsecrets = [\"{}\"]\n[redis]\nurls = [\"redis://127.0.0.1:1\"]\ntimeout = 0.1\n",
        secret.display()
    );
    let file = dir.join("farm.toml");
    fs::write(&file, text).unwrap();
    file
}

/// Runs a server with these lines of plugin.config. Returns the calls of the plugins.
fn live(program: &Path, lines: &[&[&OsStr]], environment: &[(&str, &OsStr)]) -> String {
    let words = lines.join(&OsStr::new("+"));
    let output = run(Command::new(program)
        .args(words)
        .env("LD_LIBRARY_PATH", library_dir())
        .envs(environment.iter().copied()));
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Vec<&str> = told
        .lines()
        .filter(|line| !line.starts_with("TSStat"))
        .collect();
    let told = told.join("\n");
    assert!(!told.contains("panic"), "{told}");
    told
}

fn errors(told: &str) -> Vec<&str> {
    let errors = told.lines().filter(|line| line.starts_with("TSError("));
    errors.collect()
}

/// The functions without which a plugin cannot work. (TSPluginRegister shows that the host is ATS.)
const NEEDED: [&[&str]; 2] = [
    &["TSContCreate", "TSLifecycleHookAdd"],
    &["TSTrafficServerVersionGetMajor"],
];

fn check_lacking(server: Ats) {
    let settings = settings();
    let plugins: [&[&OsStr]; 2] = [
        &[TSSESSION.path.as_os_str()],
        &[FARM.path.as_os_str(), settings.as_os_str()],
    ];
    let functions = NAMES.iter().map(|(name, _)| *name);
    for function in functions.filter(|name| *name != "TSPluginRegister") {
        let told = live(&server.program(&[function]), &plugins, &[]);
        assert_eq!(told.matches("TSPluginRegister(").count(), 2, "{told}");
        for (plugin, needed) in ["tssession", "tssession_farm"].into_iter().zip(NEEDED) {
            let says = format!("TSError({plugin}: TSPluginInit: the host has no {function}");
            assert_eq!(told.contains(&says), needed.contains(&function), "{told}");
        }
    }
}

in_each_ats!(lacking_a_function, crate::check_lacking);

#[test]
fn with_all_that_it_needs() {
    let settings = settings();
    let told = live(
        &Ats::V11.program(&[]),
        &[
            &[TSSESSION.path.as_os_str()],
            &[FARM.path.as_os_str(), settings.as_os_str()],
        ],
        &[],
    );
    assert!(
        told.contains("TSNote(tssession: serves TLS sessions, "),
        "{told}"
    );
    // The member continues alone.
    let errors = errors(&told);
    assert!(
        errors
            .iter()
            .all(|line| line.contains("no connection with Redis at ")),
        "{told}"
    );
    assert!(!errors.is_empty(), "{told}");
}

/// The errors for which the farm does not start, and their log lines.
#[test]
fn with_a_farm_that_cannot_start() {
    let farm = FARM.path.as_os_str();
    let settings = settings();
    let broken = scratch_dir().join("broken.toml");
    fs::write(&broken, "farm = 1\n").unwrap();
    let nothing = scratch_dir();
    let older = scratch_dir().join("older.so");
    let map = root().join("c_tests/other_openssl.map");
    run(compile_source("c_tests/other_openssl.c")
        .args(["-DOLDER", "-shared", "-fPIC", "-o"])
        .arg(&older)
        .arg(format!("-Wl,--version-script={}", map.display())));
    let good: &[&OsStr] = &[farm, settings.as_os_str()];
    type Case<'a> = (&'a [&'a [&'a OsStr]], &'a [(&'a str, &'a OsStr)], &'a str);
    let cases: [Case<'_>; 8] = [
        (
            &[&[farm]],
            &[],
            "plugin.config must name exactly one file of settings",
        ),
        (
            &[&[farm, farm, farm]],
            &[],
            "plugin.config must name exactly one file of settings",
        ),
        (
            &[&[farm, OsStr::new("/no/such.toml")]],
            &[],
            "/no/such.toml: ",
        ),
        (
            &[&[farm, broken.as_os_str()]],
            &[],
            "/broken.toml: line 1: farm: ",
        ),
        (&[good, good], &[], "plugin.config names the plugin twice"),
        (
            &[good],
            &[("ATS_VERSION", OsStr::new("8"))],
            "Traffic Server 8 is too old",
        ),
        (
            &[good],
            &[("LD_PRELOAD", older.as_os_str())],
            "the server has another OpenSSL",
        ),
        (
            &[good],
            &[("LD_LIBRARY_PATH", nothing.as_os_str())],
            "libtssession cannot be loaded: ",
        ),
    ];
    let program = Ats::V11.program(&[]);
    for (lines, environment, why) in cases {
        let told = live(&program, lines, environment);
        let registered = told.matches("TSPluginRegister(tssession_farm, ").count();
        assert_eq!(registered, lines.len(), "{told}");
        assert!(
            errors(&told).iter().any(|line| line.contains(why)),
            "{why:?}: {told}"
        );
    }
}
