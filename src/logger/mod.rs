//! Where log lines go: to the log functions of a host that is Traffic Server, else to the
//! function that the host has set, else to stderr (warnings and errors). A Rust program
//! that has a logger of its own keeps it.
//!
//! Nobody who logs holds a lock: the host may call the library back from there.

mod host;
mod limit;

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::library::make_once;
use crate::sys;
use host::Host;
use limit::Limit;

/// Every tag that a line may have: those of ATS.
const TAGS: [&CStr; 5] = [
    c"ssl.session_cache",
    c"ssl.session_cache.insert",
    c"ssl.session_cache.get",
    c"ssl.session_cache.remove",
    c"ssl_session_ticket",
];

/// The tag of a line's target.
fn tag(target: &str) -> &'static CStr {
    let found = TAGS.iter().find(|tag| tag.to_bytes() == target.as_bytes());
    found.unwrap_or(&TAGS[0])
}

/// A function of the host's, called with the level, the tag and the line.
pub(crate) type Function = Box<dyn Fn(Level, &CStr, &CStr) + Send + Sync>;

struct Logger {
    limit: Limit,
    /// Looked up once.
    host: OnceLock<Option<Host>>,
    function: ArcSwapOption<Function>,
    /// Up to which level `function` wants lines.
    wanted: AtomicUsize,
    /// The second in which the host was last asked for its debug tags.
    asked: AtomicI64,
}

static LOGGER: Logger = Logger {
    limit: Limit::new(),
    host: OnceLock::new(),
    function: ArcSwapOption::const_empty(),
    wanted: AtomicUsize::new(LevelFilter::Warn as usize),
    asked: AtomicI64::new(-1),
};

/// Whether the lines of this library come to [`LOGGER`].
static INSTALLED: OnceLock<bool> = OnceLock::new();

thread_local! {
    /// Whether a function of the host's is at work on a line of this thread.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Installs the logger, once.
pub(crate) fn install() {
    if INSTALLED.get().is_none() {
        // The loader has a lock too: it is not waited for while one of ours is held.
        let host = Host::find();
        make_once(&INSTALLED, || {
            // Infallible: it is set here only.
            let _ = LOGGER.host.set(host);
            log::set_logger(&LOGGER).is_ok()
        });
        LOGGER.set_level();
    }
}

/// Sees every second whether debug lines are wanted: the operator of a host switches them on
/// and off while it runs.
pub(crate) fn ask_host() {
    if LOGGER.host().is_some() {
        let second = sys::now().up;
        if LOGGER.asked.swap(second, Ordering::Relaxed) != second {
            LOGGER.set_level();
        }
    }
}

/// Has `function` get the lines up to a level from now on; `None`: nobody.
pub(crate) fn set_function(function: Option<Function>, wanted: LevelFilter) {
    LOGGER.function.store(function.map(Arc::new));
    LOGGER.wanted.store(wanted as usize, Ordering::Relaxed);
    LOGGER.set_level();
}

/// Forgets the host's function, for the end of the process.
pub(crate) fn forget_function() {
    LOGGER.function.store(None);
}

impl Logger {
    fn host(&self) -> Option<&Host> {
        self.host.get()?.as_ref()
    }

    /// Lets the lines through that somebody wants: all others cost a comparison.
    fn set_level(&self) {
        if INSTALLED.get() != Some(&true) {
            return;
        }
        let debug = match self.host() {
            Some(host) => TAGS.iter().any(|tag| host.wants_debug(tag)),
            None => self.wanted() == LevelFilter::Debug && self.function.load().is_some(),
        };
        log::set_max_level(match debug {
            true => LevelFilter::Debug,
            false => LevelFilter::Warn,
        });
    }

    fn wanted(&self) -> LevelFilter {
        match self.wanted.load(Ordering::Relaxed) {
            level if level == LevelFilter::Error as usize => LevelFilter::Error,
            level if level == LevelFilter::Debug as usize => LevelFilter::Debug,
            _ => LevelFilter::Warn,
        }
    }

    /// Calls a function of the host's, unless that is what has led to this line.
    fn call(&self, level: Level, tag: &CStr, line: &str) -> bool {
        if BUSY.replace(true) {
            return false;
        }
        let done = self.call_host(level, tag, line);
        BUSY.set(false);
        done
    }

    fn call_host(&self, level: Level, tag: &CStr, line: &str) -> bool {
        let Ok(line) = CString::new(line) else {
            return false;
        };
        if let Some(host) = self.host() {
            host.log(level, tag, &line);
            return true;
        }
        match self.function.load_full() {
            Some(function) if level <= self.wanted() => {
                function(level, tag, &line);
                true
            }
            // Not wanted.
            Some(_) => true,
            None => false,
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
            || match self.host() {
                Some(host) => host.wants_debug(tag(metadata.target())),
                None => self.wanted() == LevelFilter::Debug,
            }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = String::with_capacity(160);
        let _ = write!(line, "{}", record.args());
        if record.level() <= Level::Warn {
            // A kind is a place in the code and the function that got there: the line as
            // far as the colon behind that.
            let function = line.split(": ").next().unwrap_or_default();
            let kind = (record.file(), record.line(), function);
            let Some(hidden) = self.limit.admit(kind, sys::now().up as u32) else {
                return;
            };
            if hidden > 0 {
                let _ = write!(line, " ({hidden} more like this were not shown)");
            }
        }
        // What a caller passed may be part of the line, and must not make it two.
        line.retain(|c| !c.is_control());
        if !self.call(record.level(), tag(record.target()), &line) && record.level() <= Level::Warn
        {
            let line = format!(
                "tssession: {}: ({}) {line}\n",
                record.level(),
                record.target()
            );
            sys::write_stderr(line.as_bytes());
        }
    }

    fn flush(&self) {}
}
