//! What the threads of a member share, and how they report events.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::RedisError;

use crate::config::Config;
use crate::counters::{Counter, Counters};
use crate::host::Host;
use crate::host::log::Level;
use crate::log_limit::{LogLimit, Topic};
use crate::redis::clock::{CLOCK_LEEWAY_MS, Clock, is_near};
use crate::redis::link::{Link, is_answer};
use crate::seal::{AHEAD_MS, Header, SenderId};
use crate::sessions::queue::Queue;
use crate::sessions::tombstones::Tombstones;

/// The most characters of an error in a log line: an error can contain an answer of any length.
const ERROR_CHARS: usize = 300;

/// The most removals that are remembered: about 100 bytes each.
const TOMBSTONES: usize = 100_000;

/// How much longer a tombstone lives than is configured. A message may have been sealed while Redis's
/// clock was as far ahead as is believed; it is accepted until that clock is as far behind.
const LONGER_MS: u64 = AHEAD_MS + 2 * CLOCK_LEEWAY_MS;

/// A member of a farm.
pub struct Member {
    pub(crate) config: Config,
    pub(crate) host: Host,
    /// The counters.
    pub counters: Counters,
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    tombstones: Mutex<Tombstones>,
    sender: SenderId,
    /// The number of connections that are down.
    down: AtomicU32,
    is_refused: AtomicBool,
    log_limit: Mutex<LogLimit>,
    is_disbelieved: AtomicBool,
    /// The member that led at the last look; empty: none.
    leader: Mutex<String>,
    /// An operator or the host has ordered a new ticket key.
    is_rotation_due: AtomicBool,
}

impl Member {
    /// `sender` is the one that seals its messages.
    pub(crate) fn new(config: Config, host: Host, sender: SenderId) -> Self {
        let lifetime_ms = config.tombstone_lifetime.as_millis() as u64 + LONGER_MS;
        Self {
            queue: Queue::new(config.queue),
            tombstones: Mutex::new(Tombstones::new(lifetime_ms, TOMBSTONES)),
            config,
            host,
            counters: Counters::default(),
            clock: Clock::default(),
            sender,
            down: AtomicU32::new(0),
            is_refused: AtomicBool::new(false),
            log_limit: Mutex::default(),
            is_disbelieved: AtomicBool::new(false),
            leader: Mutex::default(),
            is_rotation_due: AtomicBool::new(false),
        }
    }

    fn tombstones(&self) -> MutexGuard<'_, Tombstones> {
        self.tombstones
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line that can recur, now or when it is due.
    pub(crate) fn log(&self, topic: Topic, level: Level, text: String) {
        let now = self.clock.elapsed_ms();
        let line = self.log_limit().say(topic, (level, text), now);
        if let Some((level, text)) = line {
            self.host.log(level, &text);
        }
    }

    /// Writes the lines that are due.
    pub(crate) fn log_held(&self) {
        let now = self.clock.elapsed_ms();
        let lines: Vec<_> = self.log_limit().due(now).collect();
        for (level, text) in lines {
            self.host.log(level, &text);
        }
    }

    /// Notes the member that Redis names as the leader; empty: none.
    pub(crate) fn note_leader(&self, leader: String) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }

    /// The member that leads; empty: none, or it is not known.
    pub(crate) fn leader(&self) -> String {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        leader.clone()
    }

    /// Orders a new ticket key.
    pub(crate) fn ask_for_rotation(&self) {
        self.is_rotation_due.store(true, Ordering::Relaxed);
    }

    /// Whether a new ticket key is ordered.
    pub(crate) fn is_rotation_due(&self) -> bool {
        self.is_rotation_due.load(Ordering::Relaxed)
    }

    /// Logs the answer to the order of a new ticket key, if there is one.
    pub(crate) fn answer_rotation(&self, level: Level, text: &str) {
        if self.is_rotation_due.swap(false, Ordering::Relaxed) {
            self.host.log(level, &format!("farm rotate: {text}"));
        }
    }

    fn log_limit(&self) -> MutexGuard<'_, LogLimit> {
        self.log_limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_removal(&self, id: &[u8], sender: SenderId, counter: u64, sealed_ms: u64) {
        let mut tombstones = self.tombstones();
        tombstones.add(id, sender, counter, sealed_ms, self.clock.elapsed_ms());
        self.counters
            .set(Counter::Tombstones, tombstones.len() as i64);
    }

    /// Notes a removal here: no message of another member brings the session back.
    pub(crate) fn note_own_removal(&self, id: &[u8]) {
        self.note_removal(id, self.sender, u64::MAX, self.clock.now_ms());
    }

    pub(crate) fn is_removed(&self, id: &[u8], header: &Header) -> bool {
        let now = self.clock.elapsed_ms();
        self.tombstones()
            .covers(id, header.sender, header.counter, header.time_ms, now)
    }

    /// The time before which entries are too old for every member, given the time that Redis reported.
    /// Entries have the times of Redis's clock, believed or not. But a clock that is ahead must not
    /// make members skip everything.
    pub(crate) fn oldest_entry(&self, redis_ms: u64) -> u64 {
        let now = redis_ms.min(self.clock.now_ms());
        now.saturating_sub(self.config.session_lifetime.as_millis() as u64)
    }

    /// Takes over the time that Redis reported; `false`: it is too far from this machine's clock to be
    /// believed. Logs that once, until it is believed again.
    pub(crate) fn hear_time(&self, redis_ms: u64) -> bool {
        let ahead = self.clock.set(redis_ms);
        self.counters.set(Counter::ClockAheadMs, ahead);
        let is_believed = is_near(ahead);
        if self.is_disbelieved.swap(!is_believed, Ordering::Relaxed) == is_believed {
            if is_believed {
                let text = "the clocks of Redis and of this machine agree again".to_owned();
                self.log(Topic::Clock, Level::Warning, text);
            } else {
                let (seconds, side) = match ahead / 1000 {
                    seconds @ 0.. => (seconds, "ahead of"),
                    seconds => (-seconds, "behind"),
                };
                let text = format!(
                    "Redis's clock is {seconds} s {side} this machine's; it is not believed, and this member makes no keys for others: correct the wrong clock"
                );
                self.log(Topic::Clock, Level::Error, text);
            }
        }
        is_believed
    }

    /// Whether Redis's clock was believed the last time.
    pub(crate) fn believes_redis(&self) -> bool {
        !self.is_disbelieved.load(Ordering::Relaxed)
    }

    /// A server's answer as it is logged: cut off, and without passwords, which it may repeat.
    fn describe(&self, mut text: String) -> String {
        let redis = &self.config.redis;
        for password in redis.password.iter().chain(&redis.sentinel_password) {
            text = text.replace(password.as_str(), "***");
        }
        match text.char_indices().nth(ERROR_CHARS) {
            None => text,
            Some((end, _)) => format!("{}...", &text[..end]),
        }
    }

    /// Notes that Redis has answered on this connection. Logs when it answers on all of them again.
    pub(crate) fn redis_works(&self, link: &mut Link) {
        if std::mem::take(&mut link.is_down) && self.down.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.counters.count(Counter::Reconnects);
            self.log(Topic::Redis, Level::Warning, "Redis is back".to_owned());
        }
        let is_up = self.down.load(Ordering::Relaxed) == 0;
        self.counters.set(Counter::RedisUp, is_up.into());
    }

    /// Notes that Redis has not answered on this connection. Logs that once, until it answers on all of
    /// them.
    pub(crate) fn redis_failed(&self, link: &mut Link, what: &str, error: &RedisError) {
        self.counters.count(Counter::RedisErrors);
        self.counters.set(Counter::RedisUp, 0);
        if !std::mem::replace(&mut link.is_down, true)
            && self.down.fetch_add(1, Ordering::Relaxed) == 0
        {
            let redis = link.name();
            let text = match error {
                _ if error.is_timeout() => format!("{what}: {redis} does not answer in time"),
                _ if is_answer(error) => format!("{what}: {redis} refuses: {error}"),
                _ => format!("{what}: no connection with {redis}: {error}"),
            };
            self.log(Topic::Redis, Level::Error, self.describe(text));
        }
    }

    /// Notes that Redis has refused messages. Logs that once, until it accepts some.
    pub(crate) fn redis_refuses(&self, link: &Link, error: &RedisError) {
        self.counters.count(Counter::RedisErrors);
        if !self.is_refused.swap(true, Ordering::Relaxed) {
            let redis = link.name();
            let text = format!("{redis} refuses messages, which are dropped: {error}");
            self.log(Topic::Refusal, Level::Error, self.describe(text));
        }
    }

    /// Notes that Redis has accepted messages.
    pub(crate) fn redis_takes(&self) {
        if self.is_refused.swap(false, Ordering::Relaxed) {
            let text = "Redis accepts messages again".to_owned();
            self.log(Topic::Refusal, Level::Warning, text);
        }
    }
}
