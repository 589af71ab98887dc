//! Everything that there is one of per process, and what the settings make of it.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use log::Level;
use smallvec::SmallVec;

use crate::cache::{Cache, Frozen, Limits, Refused};
use crate::config::{Config, FrozenConfig, Record, SetError, Setting, Source};
use crate::entry::Lifetime;
use crate::file::{FileError, RegularFile};
use crate::gate::{self, Closed};
use crate::hooks::Hooks;
use crate::id::SessionId;
use crate::key_file::{self, FilesRead, Stamp};
use crate::logger;
use crate::memory::{NoMemory, os_string};
use crate::records::{self, Format, Records, RecordsError};
use crate::stats::{Counter, Gauge, Stats};
use crate::sys;
use crate::ticket::{KeyError, KeyRing, KeySet, Layout};
use crate::wait::{Patience, lock, try_lock};

/// The value of `proxy.config.ssl.session_cache` that stands for this cache.
const OURS: i64 = 2;

/// Why a session was not stored. What was cached before still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The cache is switched off.
    Off,
    /// Larger than a single session may be.
    OverSessionLimit {
        /// Bytes of DER.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The cache would not have it.
    Refused(Refused),
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => write!(f, "the session cache is switched off"),
            Self::OverSessionLimit { len, max } => {
                write!(f, "{len} bytes, and a session may have {max}")
            }
            Self::Refused(Refused::Expired) => write!(f, "the session has expired"),
            Self::Refused(Refused::TooLarge) => write!(f, "larger than the whole cache may be"),
            Self::Refused(Refused::Contention) => write!(f, "the shard is locked"),
            Self::Refused(Refused::NoMemory) => write!(f, "no memory"),
        }
    }
}

/// Why the keys of a file are not in force; those that were, still are.
#[derive(Debug)]
pub enum KeyFileError {
    /// No file is configured.
    NoneSet,
    /// The file could not be read.
    File(PathBuf, FileError),
    /// Its content is not a set of keys.
    Keys(PathBuf, KeyError),
    /// Its content is text that is no set of keys, where bytes should be.
    Text(PathBuf),
    /// The allocator had nothing left.
    NoMemory,
}

impl From<NoMemory> for KeyFileError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneSet => write!(f, "no file of ticket keys is configured"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Keys(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Text(path) => write!(
                f,
                "{}: text, but not lines of base64 of 48 or of 80 bytes each",
                path.display()
            ),
            Self::NoMemory => NoMemory.fmt(f),
        }
    }
}

impl Error for KeyFileError {}

impl KeyFileError {
    /// Whether the file may be in order.
    pub fn is_lack_of_memory(&self) -> bool {
        matches!(
            self,
            Self::NoMemory | Self::File(_, FileError::NoMemory) | Self::Keys(_, KeyError::NoMemory)
        )
    }
}

/// Why nothing of a file of records is in force.
#[derive(Debug)]
pub enum RecordsFileError {
    /// The file could not be read.
    File(FileError),
    /// Something in it is wrong.
    Records(RecordsError),
}

impl fmt::Display for RecordsFileError {
    /// To stand right behind the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, ": {error}"),
            Self::Records(error) => write!(f, ":{error}"),
        }
    }
}

impl Error for RecordsFileError {}

/// Why a valid setting changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInForce {
    /// The environment, or a call where a file would set it, counts more.
    Overruled,
    /// The cache is in use, and the number of its shards stays.
    ShardsStay,
}

impl fmt::Display for NotInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overruled => write!(f, "it has been set by what counts more, and stays so"),
            Self::ShardsStay => {
                write!(f, "the cache is in use, and the number of its shards stays")
            }
        }
    }
}

/// The settings that have no effect, by name, each once for a reason. There is room for all.
pub type NotInForceList = SmallVec<[(&'static str, NotInForce); 24]>;

/// What came of a file of records.
#[derive(Debug)]
pub struct Loaded {
    /// How many settings there are in it.
    pub settings: usize,
    /// Those of them that have no effect, by name.
    pub not_in_force: NotInForceList,
    /// Lines with a name that begins as this library's own do, but is none of them.
    pub unknown: Vec<(usize, String)>,
}

impl Loaded {
    /// Logs what the operator wants to know of it.
    pub fn log(&self, who: &str, path: &Path) {
        let path = path.display();
        for (line, name) in &self.unknown {
            log::warn!(target: "ssl.session_cache", "{who}: {path}:{line}: {name}: there is no such setting");
        }
        log_not_in_force(who, &self.not_in_force, Level::Debug);
        log::debug!(target: "ssl.session_cache", "{who}: {path}: {} settings are read", self.settings);
    }
}

/// Logs which valid settings have no effect; that they are overruled, at the given level.
pub fn log_not_in_force(who: &str, notes: &NotInForceList, overruled: Level) {
    for (name, note) in notes {
        let level = match note {
            NotInForce::Overruled => overruled,
            NotInForce::ShardsStay => Level::Warn,
        };
        log::log!(target: "ssl.session_cache", level, "{who}: {name}: {note}");
    }
}

/// The cache, the keys and the settings of this process.
pub struct Library {
    /// The settings. Change them through [`Library::set`].
    pub config: Config,
    /// The ticket keys.
    pub tickets: KeyRing,
    /// The session hooks.
    pub hooks: Hooks,
    /// The counters.
    pub stats: Arc<Stats>,
    /// How many contexts are attached.
    pub contexts: AtomicU64,
    /// Where the file of ticket keys is looked for, if neither its name nor its folder is
    /// absolute; empty: where the process is.
    base_folder: OnceLock<PathBuf>,
    /// Made at first use, so that settings made before that shape it.
    cache: OnceLock<Cache>,
    /// Made before that, when the settings are: only the memory of sessions may be lacking
    /// then. Locked while something is made or set.
    prepared: Mutex<Option<Prepared>>,
    has_read_environment: AtomicBool,
    /// Held while a setting is changed and applied: what was set last is in force.
    setting: Mutex<()>,
    /// Held while a file is read and what it says is put in force: of two who do that, the
    /// one that comes later has the newer content. Nothing is logged meanwhile.
    files: Mutex<FilesRead>,
}

impl Library {
    /// The one of this process. The first call reads the environment.
    pub fn global() -> &'static Self {
        let library = make_once(&LIBRARY, Self::new);
        if !library.has_all_settings() {
            library.read_environment();
        }
        library
    }

    fn new() -> Self {
        Self {
            config: Config::default(),
            tickets: KeyRing::default(),
            hooks: Hooks::default(),
            stats: Arc::default(),
            contexts: AtomicU64::new(0),
            base_folder: OnceLock::new(),
            cache: OnceLock::new(),
            prepared: Mutex::default(),
            has_read_environment: AtomicBool::new(false),
            setting: Mutex::default(),
            files: Mutex::default(),
        }
    }

    fn read_environment(&self) {
        let mut errors = SmallVec::<[_; 16]>::new();
        let making = lock(&MAKING);
        if self.has_read_environment.load(Ordering::Relaxed) {
            return;
        }
        self.config
            .read_environment(|name, error| errors.push((name, error)));
        // What there was no memory for is read by the next call.
        let lacks_memory = |(_, error): &(_, SetError)| *error == SetError::NoMemory;
        let is_done = !errors.iter().any(lacks_memory);
        self.has_read_environment.store(is_done, Ordering::Release);
        drop(making);
        for (name, error) in errors {
            let then = match error {
                SetError::NoMemory => "it is read again",
                _ => "it keeps its default",
            };
            log::error!(target: "ssl.session_cache", "environment: {name}: {error}; {then}");
        }
    }

    /// Whether there was memory for all settings of the environment.
    pub fn has_all_settings(&self) -> bool {
        self.has_read_environment.load(Ordering::Acquire)
    }

    /// Whether sessions are cached here, not by OpenSSL and not nowhere.
    pub fn caches(&self) -> bool {
        self.config.int(Record::SessionCache) == OURS
    }

    /// Whether tickets are for the library to encrypt and decrypt, and not for the host.
    pub fn serves_tickets(&self) -> bool {
        self.config.int(Record::TicketMode) == 1
    }

    /// Has relative names of files, which the host's settings have, begin in this folder. Once.
    pub fn set_base_folder(&self, folder: PathBuf) {
        // What was set first stays.
        let _ = self.base_folder.set(folder);
    }

    /// Changes settings, with effect from now on. Returns those that have none, by name.
    pub fn set(
        &self,
        settings: impl IntoIterator<Item = Setting>,
        source: Source,
    ) -> NotInForceList {
        let _setting = lock(&self.setting);
        fault!("settings locked");
        let cached = self.caches();
        let cache = self.cache.get();
        let mut notes = NotInForceList::new();
        let mut note = |name, why| {
            if !notes.contains(&(name, why)) {
                notes.push((name, why));
            }
        };
        for setting in settings {
            let name = setting.name();
            let shards = self.config.int(Record::NumBuckets);
            if !self.config.put(setting, source) {
                note(name, NotInForce::Overruled);
            }
            if cache.is_some() && shards != self.config.int(Record::NumBuckets) {
                note(name, NotInForce::ShardsStay);
            }
        }
        if let Some(cache) = cache {
            // Off and on again: an insert that was under way has come too late.
            if cached != self.caches() {
                cache.clear();
            }
            self.apply(cache);
        } else {
            self.prepare_cache(&self.config);
        }
        notes
    }

    /// Puts all settings of a file of records in force, or none of them.
    pub fn load_records(&self, path: &Path) -> Result<Loaded, RecordsFileError> {
        let _files = lock(&self.files);
        fault!("records file locked");
        let content = RegularFile::open(path)
            .and_then(|mut file| file.read())
            .map_err(RecordsFileError::File)?;
        let records = records::parse(&content, Format::of(path));
        let Records { settings, unknown } = records.map_err(RecordsFileError::Records)?;
        Ok(Loaded {
            settings: settings.len(),
            not_in_force: self.set(settings, Source::File),
            unknown,
        })
    }

    /// The DER of a session, as much of it as fits into `buffer`; returns the
    /// size of all of it. `None`: no such session, or none is cached here.
    pub fn copy_der(&self, id: &SessionId, buffer: &mut [MaybeUninit<u8>]) -> Option<usize> {
        let len = self.cache_if_on()?.copy_der(id, sys::now, buffer);
        log_lookup(id, len.is_some());
        len
    }

    /// [`Library::copy_der`] if that can be done without waiting, allocating or freeing.
    pub fn copy_der_at_once(
        &self,
        id: &SessionId,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Option<Option<usize>> {
        match self.caches() {
            true => self.cache.get()?.copy_der_at_once(id, sys::now, buffer),
            false => None,
        }
    }

    /// The library of this process if it is there already.
    pub fn if_made() -> Option<&'static Self> {
        LIBRARY.get()
    }

    /// Calls `read` with the DER of a session, while no lock is held. `None`: no
    /// such session, or none is cached here.
    pub fn with_der<R>(&self, id: &SessionId, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let result = self.cache_if_on()?.with_der(id, sys::now, read);
        log_lookup(id, result.is_some());
        result
    }

    /// Removes a session and calls `read` with its DER: of several callers, one gets it.
    pub fn take_der<R>(&self, id: &SessionId, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let cache = self.cache_if_on()?;
        let result = cache.take_der(id, sys::now(), read);
        give_back(cache);
        log_lookup(id, result.is_some());
        result
    }

    /// Stores a session made at `time` (seconds since 1970) and good for
    /// `timeout` seconds.
    pub fn insert(
        &self,
        id: &SessionId,
        der: &[u8],
        time: i64,
        timeout: i64,
    ) -> Result<(), NotStored> {
        let Some(cache) = self.cache_if_on() else {
            self.stats.count(Counter::RefusedOff);
            return Err(NotStored::Off);
        };
        let max = self.config.int(Record::MaxSessionBytes) as usize;
        if der.len() > max {
            self.stats.count(Counter::RefusedTooLarge);
            let len = der.len();
            return Err(NotStored::OverSessionLimit { len, max });
        }
        let now = sys::now();
        let lifetime = Lifetime::new(time, timeout, now);
        let result = cache.insert(id, der, lifetime, now);
        if result.is_ok() {
            log::debug!(target: "ssl.session_cache.insert", "{id:?}: stored, {} bytes", der.len());
        }
        // It may have cleared away more than it stored.
        give_back(cache);
        result.map_err(NotStored::Refused)
    }

    /// Removes a session; `true` if there was one to remove. With the cache off
    /// there is none.
    pub fn remove(&self, id: &SessionId) -> bool {
        self.cache_if_on().is_some_and(|cache| {
            let removed = cache.remove(id, sys::now());
            give_back(cache);
            log::debug!(target: "ssl.session_cache.remove", "{id:?}: {}", if removed { "removed" } else { "absent" });
            removed
        })
    }

    /// Puts a set of ticket keys in force. What is left out of it is logged under the name
    /// of where the keys came from.
    pub fn update_ticket_keys(&self, origin: &str, data: &[u8]) -> Result<(), KeyError> {
        let left_out = self.replace_keys(data, Layout::ATS)?;
        left_out.log(format_args!("{origin}"));
        log::debug!(target: "ssl_session_ticket", "{origin}: the keys are in force");
        Ok(())
    }

    /// Puts the ticket keys of a file in force, or of the configured one, unless the file
    /// has not changed since it was read.
    pub fn load_ticket_keys(&self, path: Option<&Path>) -> Result<(), KeyFileError> {
        let path = match path {
            Some(path) => os_string(path.as_os_str())?.into(),
            None => self.key_file()?.ok_or(KeyFileError::NoneSet)?,
        };
        let mut read = lock(&self.files);
        fault!("key file locked");
        let opened = RegularFile::open(&path).and_then(|mut file| {
            let content = file.read()?;
            Ok((file, content))
        });
        let (file, content) = match opened {
            Ok(opened) => opened,
            Err(error) => return Err(KeyFileError::File(path, error)),
        };
        let stamp = Stamp::new(file.metadata(), &content, &read);
        if read.is_unchanged(&stamp) {
            drop(read);
            log::debug!(target: "ssl_session_ticket", "{}: not changed since it was read; the keys in force stay", path.display());
            return Ok(());
        }
        let Some((keys, layout)) = key_file::keys(content)? else {
            return Err(KeyFileError::Text(path));
        };
        let left_out = match self.replace_keys(&keys, layout) {
            Ok(left_out) => left_out,
            Err(error) => return Err(KeyFileError::Keys(path, error)),
        };
        read.remember(stamp);
        drop(read);
        let origin = format_args!("ticket keys in {}", path.display());
        if key_file::is_open_to_others(file.metadata()) {
            log::warn!(target: "ssl_session_ticket", "{origin}: others than the owner may read or write the file");
        }
        left_out.log(origin);
        log::debug!(target: "ssl_session_ticket", "{origin} are in force");
        Ok(())
    }

    fn replace_keys(&self, data: &[u8], layout: Layout) -> Result<LeftOut, KeyError> {
        self.tickets.prepare_thread();
        let keys = KeySet::parse(data, layout)?;
        let left_out = LeftOut {
            blanks: keys.blanks,
            tail: keys.tail,
            key_len: layout.key_len(),
        };
        fault!("ticket keys read");
        self.tickets.replace(keys)?;
        self.stats.count(Counter::TicketKeysRenewed);
        Ok(left_out)
    }

    /// The configured file of ticket keys.
    fn key_file(&self) -> Result<Option<PathBuf>, NoMemory> {
        let Some(file) = self.config.text(Record::TicketKeyFile)? else {
            return Ok(None);
        };
        let base = self
            .base_folder
            .get()
            .map_or(OsStr::new(""), |base| base.as_os_str());
        let folder = self.config.text(Record::CertPath)?.unwrap_or_default();
        let mut path = PathBuf::new();
        path.try_reserve_exact(base.len() + 1 + folder.len() + 1 + file.len())
            .map_err(|_| NoMemory)?;
        path.push(base);
        path.push(folder);
        path.push(file);
        Ok(Some(path))
    }

    /// Forgets every session.
    pub fn clear(&self) {
        if let Some(cache) = self.cache.get() {
            cache.clear();
            give_back(cache);
        }
    }

    /// A metric by its name.
    pub fn stat(&self, name: &str) -> Option<u64> {
        self.stats.by_name(name, |gauge| self.gauge(gauge))
    }

    /// Calls `show` with each metric and each part of one.
    pub fn each_stat(&self, show: impl FnMut(&'static str, Option<&'static str>, u64)) {
        self.stats.each(|gauge| self.gauge(gauge), show);
    }

    /// Writes all metrics in the text format of Prometheus.
    pub fn write_stats(&self, out: &mut impl fmt::Write) -> fmt::Result {
        self.stats.write_text(out, |gauge| self.gauge(gauge))
    }

    fn gauge(&self, gauge: Gauge) -> u64 {
        let of_cache = |number: fn(&Cache) -> usize| self.cache.get().map_or(0, number) as u64;
        match gauge {
            Gauge::Entries => of_cache(Cache::entries),
            Gauge::Bytes => of_cache(Cache::bytes),
            Gauge::Contexts => self.contexts.load(Ordering::Relaxed),
            Gauge::TicketKeys => self
                .tickets
                .current()
                .as_ref()
                .map_or(0, |keys| keys.count()) as u64,
            Gauge::TicketKeyGeneration => self.tickets.generation(),
        }
    }

    fn cache_if_on(&self) -> Option<&Cache> {
        self.caches().then(|| self.cache())
    }

    fn cache(&self) -> &Cache {
        self.cache.get().unwrap_or_else(|| {
            let cache = make_once(&self.cache, || {
                fault!("making the cache");
                let shape = Shape::of(&self.config);
                let prepared = lock(&self.prepared).take();
                match prepared.filter(|prepared| prepared.shape == shape) {
                    Some(prepared) => prepared.cache,
                    None => shape.cache(&self.stats),
                }
            });
            // A setting that changed since is applied now, or by who changes it.
            let _setting = lock(&self.setting);
            self.apply(cache);
            cache
        })
    }

    /// Makes the cache that these settings ask for, if they do and it is not there.
    fn prepare_cache(&self, config: &Config) {
        let shape = (config.int(Record::SessionCache) == OURS).then(|| Shape::of(config));
        let mut prepared = lock(&self.prepared);
        if prepared.as_ref().map(|prepared| prepared.shape) != shape {
            *prepared = shape.map(|shape| Prepared {
                shape,
                cache: shape.cache(&self.stats),
            });
        }
    }

    fn apply(&self, cache: &Cache) {
        cache.set_timeout(self.config.int(Record::Timeout) as u32);
        cache.set_skip_on_contention(self.config.int(Record::SkipOnContention) == 1);
        cache.set_limits(Shape::of(&self.config).limits, sys::now());
        give_back(cache);
    }
}

/// What the settings make of a new cache.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    limits: Limits,
    shards: usize,
}

impl Shape {
    fn of(config: &Config) -> Self {
        let entries = config.int(Record::Size) as usize;
        Self {
            limits: Limits {
                entries,
                bytes: match config.int(Record::MaxBytes) {
                    0 => entries * 1024,
                    bytes => bytes as usize,
                },
            },
            shards: config.int(Record::NumBuckets) as usize,
        }
    }

    fn cache(self, stats: &Arc<Stats>) -> Cache {
        Cache::new(self.limits, self.shards, Arc::clone(stats))
    }
}

struct Prepared {
    shape: Shape,
    cache: Cache,
}

fn log_lookup(id: &SessionId, found: bool) {
    log::debug!(target: "ssl.session_cache.get", "{id:?}: {}", if found { "found" } else { "not found" });
}

/// What of the given ticket keys is not in force.
struct LeftOut {
    blanks: usize,
    tail: usize,
    key_len: usize,
}

impl LeftOut {
    fn log(&self, origin: fmt::Arguments<'_>) {
        let Self {
            blanks,
            tail,
            key_len,
        } = self;
        if *tail > 0 {
            log::warn!(target: "ssl_session_ticket", "{origin}: the last {tail} bytes are not a whole key of {key_len} and are not used");
        }
        if *blanks > 0 {
            log::warn!(target: "ssl_session_ticket", "{origin}: {blanks} keys are all zero and are left out");
        }
    }
}

/// Gives memory back to the system where it has become worth the time.
fn give_back(cache: &Cache) {
    if cache.has_shrunk(sys::now) {
        sys::trim_heap();
    }
}

static LIBRARY: OnceLock<Library> = OnceLock::new();

/// Held while something is made that there is one of. `OnceLock` would do that
/// itself, but a child forked in the middle of it would wait for the other thread
/// for ever; this lock can be taken before a fork.
static MAKING: Mutex<()> = Mutex::new(());

/// What is in `place`, made now if it is empty. `make` must not call this again.
pub(crate) fn make_once<T>(place: &OnceLock<T>, make: impl FnOnce() -> T) -> &T {
    place.get().unwrap_or_else(|| {
        let _making = lock(&MAKING);
        place.get_or_init(make)
    })
}

/// [`make_once`] for what may fail: then the next call tries again.
pub(crate) fn try_make_once<T>(
    place: &OnceLock<T>,
    make: impl FnOnce() -> Option<T>,
) -> Option<&T> {
    place.get().or_else(|| {
        let _making = lock(&MAKING);
        match place.get() {
            Some(made) => Some(made),
            None => make().map(|made| place.get_or_init(|| made)),
        }
    })
}

/// Makes what later calls cannot do without: for the time when the library is loaded, when
/// there is nobody yet whom the lack of memory would harm. The environment may still change.
pub fn prepare() {
    let library = make_once(&LIBRARY, Library::new);
    let config = Config::default();
    config.read_environment(|_, _| {});
    library.prepare_cache(&config);
    library.tickets.prepare_thread();
}

/// Wipes what is secret, for the end of the process.
/// Threads may still be inside: they find an empty cache.
pub fn wipe_at_exit() {
    if let Some(library) = LIBRARY.get() {
        library.hooks.clear();
        logger::forget_function();
        library.tickets.clear();
        if let Some(cache) = library.cache.get() {
            cache.clear_at_exit();
        }
    }
}

/// Takes every lock of the library, so that a `fork` finds none held by another thread.
///
/// `None` if that takes too long: when this thread was inside the library itself, and
/// forks in a signal handler that has interrupted it. Its child may call `exec`, but
/// not the library.
pub fn freeze(is_inside: bool) -> Option<FrozenLibrary> {
    let patience = Patience::of(Duration::from_secs(match is_inside {
        true => 1,
        // For another thread that forks, or reads a file of keys.
        false => 30,
    }));
    // The one that may be held for long comes first: nobody else waits for what follows.
    let mut files = None;
    if let Some(library) = LIBRARY.get() {
        files = Some(patience.wait_for(|| try_lock(&library.files))?);
    }
    let making = patience.wait_for(|| try_lock(&MAKING))?;
    let gate = gate::close(patience)?;
    let mut frozen = FrozenLibrary {
        cache: None,
        _config: None,
        _setting: None,
        _files: files,
        gate,
        _making: making,
    };
    if let Some(library) = LIBRARY.get() {
        if frozen._files.is_none() {
            // It was made in between.
            frozen._files = Some(patience.wait_for(|| try_lock(&library.files))?);
        }
        frozen._setting = Some(patience.wait_for(|| try_lock(&library.setting))?);
        frozen._config = Some(patience.wait_for(|| library.config.try_freeze())?);
        if let Some(cache) = library.cache.get() {
            frozen.cache = Some(cache.freeze(patience)?);
        }
    }
    fault!("all locks held for a fork");
    Some(frozen)
}

/// A library of which no lock is held by another thread.
pub struct FrozenLibrary {
    cache: Option<Frozen<'static>>,
    _config: Option<FrozenConfig<'static>>,
    _setting: Option<MutexGuard<'static, ()>>,
    _files: Option<MutexGuard<'static, FilesRead>>,
    gate: Closed,
    // Last to go: it keeps a second thread that forks out of all the others.
    _making: MutexGuard<'static, ()>,
}

impl FrozenLibrary {
    /// The same, to be dropped in a forked child.
    pub fn for_child(self) -> FrozenInChild {
        FrozenInChild(Some(self))
    }
}

/// A [`FrozenLibrary`] in a forked child, where the threads that waited for its locks do not
/// exist.
pub struct FrozenInChild(Option<FrozenLibrary>);

impl Drop for FrozenInChild {
    fn drop(&mut self) {
        let Some(frozen) = self.0.take() else {
            return;
        };
        if let Some(cache) = frozen.cache {
            cache.release_in_child();
        }
        frozen.gate.open_in_child();
    }
}
