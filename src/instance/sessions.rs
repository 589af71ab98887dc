//! The sessions of the process: the cache, which follows the settings.

use std::fmt;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use crate::base::alloc::Shared;
use crate::base::clock;
use crate::base::secret_memory::SecretCopy;
use crate::base::session_id::SessionId;
use crate::base::spin::{Patience, lock, try_lock};
use crate::cache::lifetime::Lifetime;
use crate::cache::{Cache, Frozen, Limits, Refused};
use crate::report::counters::{Counter, Purpose, Stats};
use crate::settings::table::{Config, FrozenConfig, Record};

/// The value of `proxy.config.ssl.session_cache` that stands for this cache.
const OURS: i64 = 2;

/// Why a session was not stored. What was cached stays cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotStored {
    /// The cache is off.
    Off,
    /// Larger than the limit for one session.
    OverSessionLimit {
        /// Bytes of DER.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The cache refused it.
    Refused(Refused),
}

impl NotStored {
    /// Whether this is part of normal operation.
    pub fn is_normal(&self) -> bool {
        matches!(
            self,
            Self::Off | Self::Refused(Refused::Expired | Refused::Contention)
        )
    }
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => write!(f, "the session cache is off"),
            Self::OverSessionLimit { len, max } => write!(
                f,
                "the session is {len} bytes; the limit is {max} (tssession.session_cache.max_session_bytes)"
            ),
            Self::Refused(Refused::Expired) => write!(f, "the session has expired"),
            Self::Refused(Refused::TooLarge) => write!(
                f,
                "the session is larger than the whole cache is allowed to be (tssession.session_cache.max_bytes)"
            ),
            Self::Refused(Refused::Contention) => write!(f, "the session's shard is locked"),
            Self::Refused(Refused::NoMemory) => write!(f, "no memory"),
        }
    }
}

/// The session cache. It is made when it is needed, and follows the settings.
pub struct Sessions {
    config: Shared<Config>,
    stats: Arc<Stats>,
    /// Made at first use, so that the settings made before shape it.
    cache: OnceLock<Cache>,
    /// Made earlier, when the settings are made, so that a use can lack memory for sessions only.
    /// Locked while the cache is made, and while a setting is changed and applied: the setting that
    /// was made last is active.
    prepared: Mutex<Option<Prepared>>,
}

impl Sessions {
    pub(super) fn new(config: Shared<Config>, stats: Arc<Stats>) -> Self {
        Self {
            config,
            stats,
            cache: OnceLock::new(),
            prepared: Mutex::default(),
        }
    }

    /// Whether this cache is on. If not, OpenSSL's own cache or no cache is configured.
    pub fn is_on(&self) -> bool {
        self.config.int(Record::SessionCache) == OURS
    }

    /// Copies as much of a session's DER as fits into `buffer`, for a call, and returns the size of
    /// all of it. `None`: there is no such session, or the cache is off.
    pub fn copy_der(&self, id: &SessionId, buffer: &mut [MaybeUninit<u8>]) -> Option<usize> {
        let len = self.if_on()?.copy_der(id, clock::now, buffer);
        log_lookup(id, len.is_some());
        len
    }

    /// As [`Sessions::copy_der`], if that can be done without waiting, allocating or freeing.
    #[inline]
    pub fn copy_der_at_once(
        &self,
        id: &SessionId,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Option<Option<usize>> {
        self.if_on_and_made()?
            .copy_der_at_once(id, clock::now, buffer)
    }

    /// Copies the DER of a session if that can be done without waiting, allocating or freeing.
    /// `false`: no such session. Otherwise [`Sessions::counted_call`] is to be called.
    #[inline]
    pub fn take_copy_at_once(&self, id: &SessionId, copy: &mut SecretCopy) -> Option<bool> {
        self.if_on_and_made()?
            .take_copy_at_once(id, clock::now, copy)
    }

    /// Counts what became of a session that was found for a call.
    pub fn counted_call<R>(&self, result: Option<R>) -> Option<R> {
        match self.cache.get() {
            Some(cache) => cache.counted_call(result),
            None => result,
        }
    }

    /// [`Sessions::remove`] if that can be done without waiting, allocating or freeing.
    #[inline]
    pub fn remove_at_once(&self, id: &SessionId) -> Option<bool> {
        self.if_on_and_made()?.remove_at_once(id, clock::now)
    }

    #[inline]
    fn if_on_and_made(&self) -> Option<&Cache> {
        self.cache.get().filter(|_| self.is_on())
    }

    /// Calls `read` with the DER of a session, while no lock is held; `read` returns `None` if there
    /// is no memory. `None`: that, there is no such session, or the cache is off.
    pub fn with_der<R>(
        &self,
        id: &SessionId,
        purpose: Purpose,
        read: impl FnOnce(&[u8]) -> Option<R>,
    ) -> Option<R> {
        let result = self.if_on()?.with_der(id, purpose, clock::now, read);
        log_lookup(id, result.is_some());
        result
    }

    /// Counts a use: a handshake was given the session that it looked up.
    pub fn used(&self, id: &SessionId) {
        if let Some(cache) = self.cache.get() {
            cache.used(id);
        }
    }

    /// Stores a session that was made at `time` (seconds since 1970) and can be resumed for
    /// `timeout` seconds.
    pub fn insert(
        &self,
        id: &SessionId,
        der: &[u8],
        time: i64,
        timeout: i64,
    ) -> Result<(), NotStored> {
        let Some(cache) = self.if_on() else {
            self.stats.count(Counter::RefusedOff);
            return Err(NotStored::Off);
        };
        let len = der.len();
        let max = self.config.int(Record::MaxSessionBytes) as usize;
        if len > max {
            self.stats.count(Counter::RefusedTooLarge);
            return Err(NotStored::OverSessionLimit { len, max });
        }
        let now = clock::now();
        let lifetime = Lifetime::new(time, timeout, now);
        cache
            .insert(id, der, lifetime, now)
            .map_err(NotStored::Refused)?;
        log::debug!(target: "ssl.session_cache.insert", "{id:?}: stored, {len} bytes");
        Ok(())
    }

    /// Removes a session; `true` if there was one. There is none while the cache is off.
    pub fn remove(&self, id: &SessionId) -> bool {
        self.log_removal(id, |cache| cache.remove(id, clock::now()))
    }

    /// [`Sessions::remove`], if the session's DER has these bytes in it.
    pub fn remove_containing(&self, id: &SessionId, part: &[u8]) -> bool {
        self.log_removal(id, |cache| cache.remove_containing(id, part, clock::now()))
    }

    /// [`Sessions::remove_containing`], if no parent of this process has the session too.
    pub fn take_own(&self, id: &SessionId, part: &[u8]) -> bool {
        self.log_removal(id, |cache| cache.take_own(id, part, clock::now()))
    }

    fn log_removal(&self, id: &SessionId, remove: impl FnOnce(&Cache) -> bool) -> bool {
        self.if_on().is_some_and(|cache| {
            let removed = remove(cache);
            log::debug!(target: "ssl.session_cache.remove", "{id:?}: {}", if removed { "removed" } else { "absent" });
            removed
        })
    }

    /// Discards all sessions.
    pub fn clear(&self) {
        if let Some(cache) = self.cache.get() {
            cache.clear();
        }
    }

    pub(super) fn clear_at_exit(&self) {
        if let Some(cache) = self.cache.get() {
            cache.clear_at_exit();
        }
    }

    /// The number of sessions.
    pub fn entries(&self) -> usize {
        self.cache.get().map_or(0, Cache::entries)
    }

    pub(super) fn bytes(&self) -> usize {
        self.cache.get().map_or(0, Cache::bytes)
    }

    /// Calls `change`, which changes settings and is told whether the cache is in use. Then applies
    /// the settings.
    pub(super) fn change_settings(&self, change: impl FnOnce(bool)) {
        let mut prepared = lock(&self.prepared);
        fault!("settings locked");
        let was_on = self.is_on();
        let cache = self.cache.get();
        change(cache.is_some());
        let Some(cache) = cache else {
            return self.prepare(&self.config, &mut prepared);
        };
        // Also when it is switched on: an insert that was in progress when it was switched off may
        // have stored a session since.
        if was_on != self.is_on() {
            cache.clear();
        }
        self.apply(cache);
    }

    fn if_on(&self) -> Option<&Cache> {
        self.is_on().then(|| self.cache())
    }

    fn cache(&self) -> &Cache {
        self.cache.get().unwrap_or_else(|| {
            let mut prepared = lock(&self.prepared);
            let cache = self.cache.get_or_init(|| {
                fault!("making the cache");
                let shape = Shape::of(&self.config);
                match prepared.take().filter(|prepared| prepared.shape == shape) {
                    Some(prepared) => prepared.cache,
                    None => shape.cache(&self.stats),
                }
            });
            self.apply(cache);
            cache
        })
    }

    /// Makes the cache that these settings ask for before it is needed.
    pub(super) fn prepare_for(&self, config: &Config) {
        self.prepare(config, &mut lock(&self.prepared));
    }

    fn prepare(&self, config: &Config, prepared: &mut Option<Prepared>) {
        let shape = (config.int(Record::SessionCache) == OURS).then(|| Shape::of(config));
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
        cache.set_limits(Shape::of(&self.config).limits, clock::now());
    }

    /// Takes all locks of the settings and the cache.
    pub(super) fn freeze(&self, patience: Patience) -> Option<FrozenSessions<'_>> {
        let prepared = patience.wait_for(|| try_lock(&self.prepared))?;
        let config = patience.wait_for(|| self.config.try_freeze())?;
        let cache = match self.cache.get() {
            Some(cache) => Some(cache.freeze(patience)?),
            None => None,
        };
        Some(FrozenSessions {
            cache,
            _config: config,
            _prepared: prepared,
        })
    }
}

/// While this lives, no other thread has a lock of the settings or the cache.
pub(crate) struct FrozenSessions<'a> {
    cache: Option<Frozen<'a>>,
    _config: FrozenConfig<'a>,
    _prepared: MutexGuard<'a, Option<Prepared>>,
}

impl FrozenSessions<'_> {
    /// Releases the locks in a forked child, where the threads that waited for them do not exist.
    pub(crate) fn release_in_child(self) {
        if let Some(cache) = self.cache {
            cache.release_in_child();
        }
    }
}

/// The shape that the settings give a new cache.
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
