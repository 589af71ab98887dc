//! Panics in the library. With the feature `inject-faults` (make faults) it panics at every boundary.
//! Without it, the library contains no fault points.

use std::collections::BTreeMap;
#[cfg(feature = "inject-faults")]
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tssession_test_support::{TSSESSION, root};

/// The text of an injected panic, which appears nowhere else in the library.
const MARK: &[u8] = b"injected at ";

/// This function returns a constant, and needs no guard.
const CONSTANT: &str = "TSSslSessionCacheVersion";

/// Collects the sources of the library.
fn sources(dir: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else {
            into.push(fs::read_to_string(path).unwrap());
        }
    }
}

#[cfg(feature = "inject-faults")]
/// Returns the string literals that follow `before` in the sources.
fn literals(sources: &[String], before: &str) -> BTreeSet<String> {
    let all = sources
        .iter()
        .flat_map(|source| source.split(before).skip(1));
    all.filter_map(|rest| rest.strip_prefix('"'))
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

/// Returns the functions that C calls, with their bodies.
fn called_by_c(sources: &[String]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for source in sources {
        for rest in source.split("extern \"C\" fn ").skip(1) {
            let (name, rest) = rest.split_once('(').unwrap();
            // Skip types and declarations.
            let ends = rest.find([';', '{']).unwrap();
            if !name.is_empty() && rest.as_bytes()[ends] == b'{' {
                let body = rest[ends..].split("\n}\n").next().unwrap();
                found.insert(name.to_owned(), body.to_owned());
            }
        }
    }
    found
}

/// Returns those with C names. Those with C++ names, in src/ffi/cxx.rs, only call these.
fn called_by_name(sources: &[String]) -> BTreeMap<String, String> {
    let cxx = fs::read_to_string(root().join("src/ffi/cxx.rs")).unwrap();
    let mut called = called_by_c(sources);
    for (name, body) in called_by_c(&[cxx]) {
        assert!(body.contains("sessions::TSSsl"), "{name}");
        assert!(called.remove(&name).is_some(), "{name}");
    }
    assert!(called.remove(CONSTANT).is_some());
    called
}

/// Every function that C calls has a guarded body, or only calls the function with its plain name.
#[test]
fn every_function_that_c_calls_is_guarded() {
    let mut all = Vec::new();
    sources(&root().join("src"), &mut all);
    let called = called_by_name(&all);
    for (name, body) in &called {
        let is_guarded = |body: &str| {
            let calls = ["guard(", "callback(", "enter(", "catch("];
            calls.iter().any(|call| body.contains(call))
        };
        let shared = format!("pub unsafe fn {name}(");
        let shared = all.iter().find_map(|source| source.split_once(&shared));
        assert!(
            is_guarded(body)
                || body.contains(&format!("sessions::{name}("))
                    && shared
                        .is_some_and(|(_, body)| is_guarded(body.split("\n}\n").next().unwrap())),
            "{name}"
        );
    }
    assert!(called.len() > 25, "{called:?}");
}

#[cfg(not(feature = "inject-faults"))]
#[test]
fn the_library_has_nothing_to_inject() {
    let library = fs::read(&TSSESSION.path).unwrap();
    let has = |text: &[u8]| library.windows(text.len()).any(|bytes| bytes == text);
    assert!(!has(MARK) && !has(b"tssession_panic") && !has(b"shard locked"));
    // The search finds a text that is there.
    assert!(has(b"the session ID is NULL"));
}

#[cfg(feature = "inject-faults")]
#[test]
fn panics() {
    use std::process::Command;

    use tssession_test_support::{Ats, Reach, compile, execute, scratch};

    let bytes = fs::read(&TSSESSION.path).unwrap();
    assert!(bytes.windows(MARK.len()).any(|bytes| bytes == MARK));
    let report = scratch().join("panics.txt");
    let program = compile("panics.c", Reach::Link, &[]);
    execute(Command::new(program).arg(&report));
    let mut plugin = Command::new(compile("plugin.c", Reach::InAts, &[]));
    plugin.arg("panics").arg(&report);
    execute(&mut Ats::V11.command(plugin, &[]));

    // The program reached all fault points.
    let report = fs::read_to_string(report).unwrap();
    let reported = |kind: &str| -> BTreeSet<String> {
        let lines = report.lines().filter_map(|line| line.strip_prefix(kind));
        lines.map(str::to_owned).collect()
    };
    let mut exported = TSSESSION.exported();
    for name in ["tssession_panic_at", "tssession_panics", CONSTANT] {
        assert!(exported.remove(name), "{name}");
    }
    assert_eq!(reported("function "), exported);
    let mut all = Vec::new();
    sources(&root().join("src"), &mut all);
    let mut points = literals(&all, "fault!(");
    let called = called_by_name(&all).into_iter();
    // A function that only catches panics has no fault point.
    let guarded = called.filter(|(_, body)| !body.contains("catch("));
    points.extend(guarded.map(|(name, _)| name));
    let at_once = ["Get", "GetBuffer", "Remove"];
    points.extend(at_once.map(|name| format!("TSSslSession{name}, at once")));
    assert_eq!(reported("point "), points);
}

/// In a Rust program a panic reaches the program's panic hook and its logger, once each.
#[cfg(feature = "inject-faults")]
#[test]
fn in_a_rust_program_both_are_its_own() {
    use std::ffi::{c_char, c_int};
    use std::panic;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    unsafe extern "C" {
        fn tssession_panic_at(point: *const c_char, nth: c_int);
    }
    static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static HOOKED: AtomicUsize = AtomicUsize::new(0);
    struct Program;
    impl log::Log for Program {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            LINES.lock().unwrap().push(record.args().to_string());
        }
        fn flush(&self) {}
    }
    log::set_logger(&Program).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let before = panic::take_hook();
    panic::set_hook(Box::new(|_| {
        HOOKED.fetch_add(1, Ordering::SeqCst);
    }));
    let id = tssession::ffi::types::TSSslSessionID {
        len: 1,
        bytes: [1; 32],
    };
    // SAFETY: the name is static, and the ID outlives the call.
    let session = unsafe {
        tssession_panic_at(c"TSSslSessionGet".as_ptr(), 1);
        tssession::ffi::ts::TSSslSessionGet(&id)
    };
    panic::set_hook(before);
    assert!(session.is_null());
    assert_eq!(HOOKED.load(Ordering::SeqCst), 1);
    let said = "TSSslSessionGet: a panic: injected at \"TSSslSessionGet\"";
    assert_eq!(*LINES.lock().unwrap(), [said]);
}
