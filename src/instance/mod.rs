//! The one instance per process: the cache, the ticket keys, the settings, the hooks and the
//! counters.

#![forbid(unsafe_code)]

pub mod boundary;
pub mod keys;
pub mod sessions;
pub mod settings;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smallvec::SmallVec;
use tssession_common::metrics::{Metric, Numbers};

use crate::base::alloc::{NoMemory, Shared, boxed, os_string};
use crate::base::once::{self, Current};
use crate::base::spin::Patience;
use crate::report::counters::{Counter, Gauge, METRICS, Stats};
use crate::report::hooks::Hooks;
use crate::settings::table::{Config, Record, SetError, Setting, Source};
use keys::{FrozenKeys, TicketKeys};
use sessions::{FrozenSessions, Sessions};
use settings::{Loaded, NotInForceList, RecordsFileError};

/// The sessions, the ticket keys and the settings of this process.
pub struct Instance {
    /// The settings. Change them through [`Instance::set`].
    pub config: Shared<Config>,
    /// The sessions.
    pub sessions: Sessions,
    /// The ticket keys.
    pub keys: TicketKeys,
    /// The session hooks.
    pub hooks: Hooks,
    /// The counters.
    pub stats: Arc<Stats>,
    /// The number of attached contexts.
    pub contexts: AtomicU64,
    has_read_environment: AtomicBool,
}

static INSTANCE: Current<Instance> = Current::new();

impl Instance {
    /// The instance of this process. The first call reads the environment.
    pub fn global() -> &'static Self {
        let instance = Self::if_made().unwrap_or_else(Self::make);
        if !instance.has_all_settings() {
            instance.read_environment();
        }
        instance
    }

    /// The instance of this process, if it has been made.
    pub fn if_made() -> Option<&'static Self> {
        INSTANCE.get()
    }

    #[cold]
    fn make() -> &'static Self {
        let _making = once::begin();
        if INSTANCE.get().is_none() {
            let made = Self::new(Config::default(), Arc::default()).and_then(boxed);
            INSTANCE.put(made.expect("there is memory when the library is loaded"));
        }
        INSTANCE.get().expect("it was made")
    }

    fn new(config: Config, stats: Arc<Stats>) -> Result<Self, NoMemory> {
        let config = Shared::new(config)?;
        Ok(Self {
            sessions: Sessions::new(config.clone(), Arc::clone(&stats)),
            keys: TicketKeys::new(config.clone(), Arc::clone(&stats)),
            config,
            stats,
            hooks: Hooks::default(),
            contexts: AtomicU64::new(0),
            has_read_environment: AtomicBool::new(false),
        })
    }

    /// Another instance, for a forked child in which threads that do not exist would hold the locks
    /// of this one. It has the same hooks, counters and settings, but no sessions and no ticket
    /// keys. If a thread is changing settings, it has only those of the environment.
    pub(crate) fn successor(&self) -> Result<Box<Self>, NoMemory> {
        let config = self.config.copy();
        let has_settings = config.is_some() && self.has_all_settings();
        let new = Self {
            hooks: self.hooks.clone(),
            contexts: AtomicU64::new(self.contexts.load(Ordering::Relaxed)),
            has_read_environment: AtomicBool::new(has_settings),
            ..Self::new(config.unwrap_or_default(), Arc::clone(&self.stats))?
        };
        if let Some(base) = self.keys.base_directory() {
            new.keys
                .set_base_directory(os_string(base.as_os_str())?.into());
        }
        boxed(new)
    }

    /// Makes this the instance of the process. The previous one stays in memory: this thread may be
    /// inside it.
    pub(crate) fn succeed(self: Box<Self>) {
        INSTANCE.put(self);
    }

    fn read_environment(&self) {
        let mut errors = SmallVec::<[_; 16]>::new();
        let making = once::begin();
        if self.has_read_environment.load(Ordering::Relaxed) {
            return;
        }
        self.config
            .read_environment(|name, error| errors.push((name, error)));
        // If there was no memory for a setting, the next call reads the environment again.
        let lacks_memory = |(_, error): &(_, SetError)| *error == SetError::NoMemory;
        let is_done = !errors.iter().any(lacks_memory);
        self.has_read_environment.store(is_done, Ordering::Release);
        drop(making);
        for (name, error) in errors {
            let then = match error {
                SetError::NoMemory => "the next call reads it again",
                _ => "the setting keeps its default",
            };
            log::error!(target: "ssl.session_cache", "environment: {name}: {error}; {then}");
        }
    }

    /// Whether there was memory for all settings of the environment.
    pub fn has_all_settings(&self) -> bool {
        self.has_read_environment.load(Ordering::Acquire)
    }

    /// Whether the library, not the host, encrypts and decrypts tickets.
    pub fn serves_tickets(&self) -> bool {
        self.config.int(Record::TicketMode) == 1
    }

    /// Changes settings from now on. Returns the names of those that have no effect.
    pub fn set(
        &self,
        settings: impl IntoIterator<Item = Setting>,
        source: Source,
    ) -> NotInForceList {
        settings::set(&self.config, &self.sessions, settings, source, 0)
    }

    /// Makes all settings of a records file active, or none of them.
    pub fn load_records(&self, path: &Path) -> Result<Loaded, RecordsFileError> {
        settings::load(&self.config, &self.sessions, path)
    }

    /// Wipes all secrets at the end of the process. Threads that are still inside find an empty
    /// cache.
    pub fn wipe_at_exit(&self) {
        self.hooks.clear();
        self.keys.ring.clear();
        self.sessions.clear_at_exit();
    }

    /// Takes all of its locks; `None` if one cannot be had in time, or there is no memory.
    pub(crate) fn freeze(&self, patience: Patience) -> Option<Frozen<'_>> {
        Some(Frozen {
            _keys: self.keys.freeze(patience)?,
            sessions: self.sessions.freeze(patience)?,
        })
    }
}

impl Numbers for Instance {
    type Counter = Counter;
    type Gauge = Gauge;
    type Number = u64;

    const METRICS: &'static [Metric<Counter, Gauge>] = METRICS;

    fn counter(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }

    fn gauge(&self, gauge: Gauge) -> u64 {
        match gauge {
            Gauge::Entries => self.sessions.entries() as u64,
            Gauge::Bytes => self.sessions.bytes() as u64,
            Gauge::Contexts => self.contexts.load(Ordering::Relaxed),
            Gauge::TicketKeys => {
                let keys = self.keys.ring.current();
                keys.as_ref().map_or(0, |keys| keys.count()) as u64
            }
            Gauge::TicketKeyGeneration => self.keys.ring.generation(),
        }
    }
}

/// While this lives, no other thread has a lock of the instance.
pub(crate) struct Frozen<'a> {
    _keys: FrozenKeys<'a>,
    sessions: FrozenSessions<'a>,
}

impl Frozen<'_> {
    /// Releases the locks in a forked child.
    pub(crate) fn release_in_child(self) {
        self.sessions.release_in_child();
    }
}

/// Makes, while the library is loaded, everything that later calls need: a lack of memory does no
/// harm yet. The environment can still change.
pub fn prepare() {
    let instance = Instance::if_made().unwrap_or_else(Instance::make);
    let config = Config::default();
    config.read_environment(|_, _| {});
    instance.sessions.prepare_for(&config);
    instance.keys.ring.prepare_thread();
}
