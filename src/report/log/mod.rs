//! Log lines. They go to the log functions of a host that is Traffic Server, otherwise to the
//! function that the host has set, otherwise to stderr (warnings and errors). In a Rust program that
//! has its own logger, they go there.
//!
//! No lock is held while a line is logged: the host can call the library from its log function.

mod host;
mod line;

use std::cell::Cell;
use std::ffi::CStr;
use std::fmt::{Arguments, Display, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::RefCnt;
use log::{Level, LevelFilter, Log, Metadata, Record};
use tssession_common::boundary::catch;
use tssession_common::log_rate::{Kind, Rate};
use tssession_common::stderr;

use crate::base::alloc::{NoMemory, Shared, Swap};
use crate::base::clock;
use crate::base::once::{Once, make_once};
use crate::base::system;
use host::Host;
use line::{Line, TAGS, tag};

/// How often lines of one kind are written: a burst, and then one for each second.
const RATE: Rate = Rate {
    burst: 100,
    interval: 1,
};

/// The number of kinds of line. Kinds that share one by their hash are limited together.
const KINDS: usize = 1024;

/// A function of the host's, called with the level, the tag and the line.
pub(crate) type Function = Box<dyn Fn(Level, &CStr, &CStr) + Send + Sync>;

/// The host's function for lines, and the least severe level that it wants.
struct Sink {
    call: Function,
    wanted: LevelFilter,
}

struct Logger {
    /// The state of each kind of line, from [`Kind::pack`].
    kinds: [AtomicU64; KINDS],
    /// Looked up once.
    host: Once<Option<Host>>,
    /// Made when the host sets a function for the first time.
    sink: Once<Swap<Sink>>,
    /// The second in which the host was last asked for its debug tags.
    asked: AtomicI64,
}

static LOGGER: Logger = Logger {
    kinds: [const { AtomicU64::new(0) }; KINDS],
    host: Once::new(),
    sink: Once::new(),
    asked: AtomicI64::new(-1),
};

/// Whether this library's lines go to [`LOGGER`], and not to a logger of the program.
static INSTALLED: Once<bool> = Once::new();

thread_local! {
    /// Whether a log function of the host's is in progress on this thread.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// What the library logs about itself as soon as debug lines are wanted.
static INTRODUCTION: OnceLock<Introduction> = OnceLock::new();

type Introduction = Box<dyn Display + Send + Sync>;

/// Sets what the library logs about itself, once.
pub(crate) fn introduce(introduction: impl Display + Send + Sync + 'static) {
    let _ = INTRODUCTION.set(Box::new(introduction));
}

/// Installs the logger, once.
pub(crate) fn install() {
    if INSTALLED.get().is_none() {
        // This takes the loader's lock: do not wait for it while one of ours is held.
        let host = Host::find();
        make_once(&LOGGER.host, || host);
        make_once(&INSTALLED, || log::set_logger(&LOGGER).is_ok());
        LOGGER.set_level();
    }
}

/// Asks once a second whether debug lines are wanted: an operator switches them on and off while the
/// host runs.
pub(crate) fn ask_host() {
    if LOGGER.host().is_some() {
        let second = clock::now().up;
        // All threads read this line; one of them writes it, once a second.
        if LOGGER.asked.load(Ordering::Relaxed) != second
            && LOGGER.asked.swap(second, Ordering::Relaxed) != second
        {
            LOGGER.set_level();
        }
    }
}

/// Sends the lines of a level and of more severe ones to `function` from now on.
pub(crate) fn set_function(function: Function, wanted: LevelFilter) -> Result<(), NoMemory> {
    let sink = Shared::new(Sink {
        call: function,
        wanted,
    })?;
    make_once(&LOGGER.sink, Swap::default).store(Some(sink));
    LOGGER.set_level();
    Ok(())
}

/// Forgets the host's function.
pub(crate) fn forget_function() {
    if let Some(sink) = LOGGER.sink.get() {
        sink.store(None);
        LOGGER.set_level();
    }
}

/// A call of a log function of the host's, until this is dropped.
struct Busy;

impl Busy {
    /// `None` if such a call is in progress on this thread: the function must not be called for lines
    /// that it causes itself.
    fn begin() -> Option<Self> {
        (!BUSY.replace(true)).then(|| Self)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.set(false);
    }
}

/// Whether the host wants debug lines with this tag.
fn wants_debug(host: &Host, tag: &CStr) -> bool {
    Busy::begin().is_some_and(|_busy| host.wants_debug(tag))
}

/// Logs that a panic ended a function that C called. It may be the first function that was called.
pub(crate) fn panicked(what: Arguments<'_>) {
    const TARGET: &str = "ssl.session_cache";
    if INSTALLED.get().is_none() && system::is_loaded_by_itself() {
        let mut record = Record::builder();
        record.level(Level::Error).target(TARGET);
        LOGGER.log(&record.args(what).build());
    } else {
        log::error!(target: TARGET, "{what}");
    }
}

/// Writes a line to stderr, without the logger.
pub(crate) fn write_stderr(text: Arguments<'_>) {
    let mut line = Line::new(Level::Error, "ssl.session_cache");
    let _ = line.write_fmt(text);
    stderr::write(line.for_stderr());
}

/// Logs the introduction, once.
fn say_introduction() {
    static SAID: AtomicBool = AtomicBool::new(false);
    const TARGET: &str = "ssl.session_cache";
    if let Some(introduction) = INTRODUCTION.get()
        && log::log_enabled!(target: TARGET, Level::Debug)
        && !SAID.swap(true, Ordering::Relaxed)
    {
        log::debug!(target: TARGET, "{introduction}");
    }
}

impl Logger {
    fn sink(&self) -> Option<Shared<Sink>> {
        self.sink.get()?.load_full()
    }

    fn host(&self) -> Option<&Host> {
        self.host.get()?.as_ref()
    }

    /// Sets the level of lines that are wanted. Any other line costs one comparison.
    fn set_level(&self) {
        if INSTALLED.get() != Some(&true) {
            return;
        }
        loop {
            let sink = self.sink();
            let debug = match self.host() {
                Some(host) => TAGS.iter().any(|tag| wants_debug(host, tag)),
                None => sink
                    .as_ref()
                    .is_some_and(|sink| sink.wanted == LevelFilter::Debug),
            };
            log::set_max_level(if debug {
                LevelFilter::Debug
            } else {
                LevelFilter::Warn
            });
            // If two threads do this at once, the last one sees the sink that is active.
            if RefCnt::as_ptr(&self.sink()) == RefCnt::as_ptr(&sink) {
                if debug {
                    say_introduction();
                }
                return;
            }
        }
    }

    /// Calls the host's log function; `false` if there is none, or if it has caused this line
    /// itself.
    fn call(&self, level: Level, tag: &CStr, line: &CStr) -> bool {
        let Some(_busy) = Busy::begin() else {
            return false;
        };
        fault!("log function");
        if let Some(host) = self.host() {
            host.log(level, tag, line);
            return true;
        }
        let sink = self.sink();
        if let Some(sink) = &sink
            && level <= sink.wanted
        {
            (sink.call)(level, tag, line);
        }
        // A line that it does not want goes nowhere else.
        sink.is_some()
    }

    /// Whether a line of this kind is written in this second: if so, the number of lines of the kind
    /// that were not written before it.
    #[allow(deprecated)] // Its new name is younger than our lowest Rust.
    fn admit(&self, kind: impl Hash, second: u32) -> Option<u32> {
        let mut hash = DefaultHasher::new();
        kind.hash(&mut hash);
        let before = self.kinds[hash.finish() as usize % KINDS]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
                Some(Kind::unpack(bits).next(RATE, second).0.pack())
            })
            .unwrap_or_default();
        let before = Kind::unpack(before);
        before.has_room(RATE, second).then_some(before.hidden())
    }

    fn write(&self, record: &Record<'_>) {
        fault!("logger");
        let mut line = Line::new(record.level(), record.target());
        let _ = line.write_fmt(*record.args());
        if record.level() <= Level::Warn {
            // A kind is a place in the code and the beginning of the line up to the first colon, which
            // names the function that was called.
            let text = line.text().to_bytes();
            let colon = text.windows(2).position(|two| two == b": ");
            let kind = (
                record.file(),
                record.line(),
                &text[..colon.unwrap_or(text.len())],
            );
            let Some(hidden) = self.admit(kind, clock::now().up as u32) else {
                return;
            };
            if hidden > 0 {
                let _ = write!(line, " ({hidden} more like this were not shown)");
            }
        }
        if !self.call(record.level(), tag(record.target()), line.text())
            && record.level() <= Level::Warn
        {
            stderr::write(line.for_stderr());
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
            || match self.host() {
                Some(host) => wants_debug(host, tag(metadata.target())),
                // The level that was set has let the line through.
                None => true,
            }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // A panic here must not fail the call that logs.
        if let Err(panic) = catch(|| self.write(record)) {
            write_stderr(format_args!("a panic{panic}; a log line is lost"));
        }
    }

    fn flush(&self) {}
}
