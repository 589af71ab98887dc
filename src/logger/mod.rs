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
use std::sync::atomic::{AtomicI64, Ordering};
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

/// The longest line that is passed on; a caller may have passed a name of any length.
const MAX_LINE: usize = 2000;

/// A function of the host's, called with the level, the tag and the line.
pub(crate) type Function = Box<dyn Fn(Level, &CStr, &CStr) + Send + Sync>;

/// Where the host has lines go to, and up to which level it wants them.
struct Sink {
    call: Function,
    wanted: LevelFilter,
}

struct Logger {
    limit: Limit,
    /// Looked up once.
    host: OnceLock<Option<Host>>,
    sink: ArcSwapOption<Sink>,
    /// The second in which the host was last asked for its debug tags.
    asked: AtomicI64,
}

static LOGGER: Logger = Logger {
    limit: Limit::new(),
    host: OnceLock::new(),
    sink: ArcSwapOption::const_empty(),
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
    let sink = function.map(|call| Arc::new(Sink { call, wanted }));
    LOGGER.sink.store(sink);
    LOGGER.set_level();
}

/// Forgets the host's function, for the end of the process.
pub(crate) fn forget_function() {
    LOGGER.sink.store(None);
}

/// Whether the host wants debug lines with this tag, unless a function of the host's is at
/// work on a line of this thread: it would be called for what itself has called.
fn wants_debug(host: &Host, tag: &CStr) -> bool {
    if BUSY.replace(true) {
        return false;
    }
    let wants = host.wants_debug(tag);
    BUSY.set(false);
    wants
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
        loop {
            let sink = self.sink.load_full();
            let debug = match self.host() {
                Some(host) => TAGS.iter().any(|tag| wants_debug(host, tag)),
                None => sink
                    .as_ref()
                    .is_some_and(|sink| sink.wanted == LevelFilter::Debug),
            };
            log::set_max_level(match debug {
                true => LevelFilter::Debug,
                false => LevelFilter::Warn,
            });
            // Of two who do this at once, the last one has the sink that is in force.
            let now = self.sink.load_full();
            if now.as_ref().map(Arc::as_ptr) == sink.as_ref().map(Arc::as_ptr) {
                return;
            }
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
        let sink = self.sink.load_full();
        if let Some(sink) = &sink
            && level <= sink.wanted
        {
            (sink.call)(level, tag, &line);
        }
        // What it does not want goes nowhere else.
        sink.is_some()
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
            || match self.host() {
                Some(host) => wants_debug(host, tag(metadata.target())),
                // As far as the level that is set lets lines through.
                None => true,
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
        if line.len() > MAX_LINE {
            let end = (0..=MAX_LINE).rev().find(|at| line.is_char_boundary(*at));
            line.truncate(end.unwrap_or(0));
            line.push_str("...");
        }
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
