//! The keeper of ticket keys: one member at a time makes keys, and all members take them over.
//!
//! The lease is a string that expires: the member's name and a number. A member that makes a key sends
//! both, and Redis compares them in the same script. So a member that was stopped for longer than its
//! lease, and does not know it, writes nothing. A member that knows keys that the set in Redis lacks
//! adds them, whoever leads. So all members come to have the same keys.

use std::time::Duration;

use redis::{RedisResult, cmd};
use zeroize::Zeroizing;

use crate::counters::Counter;
use crate::host::gate;
use crate::host::log::Level;
use crate::host::name_of_process;
use crate::keys::plan::{self, Alone, Times};
use crate::keys::set::{self, Key, KeyBytes};
use crate::log_limit::Topic;
use crate::member::Member;
use crate::redis::link::Link;
use crate::seal::{AHEAD_MS, Kind, Opened, Opener, Refusal, SEALED_MAX, Sealer};

/// Takes the lease if it is free, and prolongs it if it is this member's. If the lease is not wanted
/// (`ARGV[3]`), releases it. Returns the time, the number of the lease, the key set and the member
/// that has the lease. Values that no member writes do not stop the script: a lease that does not end
/// soon counts as free, a number that is not valid starts again at 1, and a key set that is too large
/// or of another type counts as absent.
const LOOK: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local number = 0
local leader = ''
local left = redis.call('PTTL', KEYS[1])
if left < 0 or left > 10 * ARGV[2] then
  if ARGV[3] == '1' then
    number = redis.pcall('INCR', KEYS[2])
    if type(number) ~= 'number' or number < 1 or number >= 2^53 then
      number = 1
      redis.call('SET', KEYS[2], number)
    end
    redis.call('SET', KEYS[1], string.format('%s:%.0f', ARGV[1], number), 'PX', ARGV[2])
    leader = ARGV[1]
  end
else
  local holder = redis.pcall('GET', KEYS[1])
  if type(holder) == 'string' then
    local member, lease = string.match(holder, '^(.*):(%d+)$')
    leader = member or ''
    if member == ARGV[1] then
      if ARGV[3] == '1' then
        number = tonumber(lease)
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
      else
        redis.call('DEL', KEYS[1])
        leader = ''
      end
    end
  end
end
local keys = redis.pcall('GET', KEYS[3])
if type(keys) ~= 'string' or #keys > tonumber(ARGV[4]) then keys = '' end
return {now, number, keys, leader}
";

/// Replaces the key set that was seen (an empty string if it was absent or unusable). Does nothing if
/// the new set was planned too long ago: the others must have read a new key before it encrypts. With
/// a lease, does nothing if the lease is no longer held.
const STORE: &str = r"
if ARGV[1] ~= '' and redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
if time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(ARGV[3]) then return 0 end
local keys = redis.pcall('GET', KEYS[2])
if type(keys) ~= 'string' or #keys > tonumber(ARGV[6]) then keys = '' end
if keys ~= ARGV[4] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[5])
return 1
";

/// The most characters of a leader's name that are kept.
const LEADER_MAX: usize = 200;

/// How often the leader seals its set again, so that the others know that theirs is current.
const CONFIRM: Duration = Duration::from_secs(60);

/// The state of the keeper.
pub struct Keeper {
    link: Link,
    sealer: Sealer,
    opener: Opener,
    times: Times,
    /// This member's name in the lease.
    name: String,
    /// The farm's keys, the newest first: those of all sets that were read, except those that are
    /// over.
    keys: Vec<Key>,
    alone: Alone,
    /// Times by this process's own clock: when Redis last answered, when the latest known set was
    /// sealed, and when this member last wrote one.
    answered_ms: u64,
    sealed_ms: u64,
    written_ms: Option<u64>,
    /// The set that was in Redis at the last look, and its worth.
    seen: Vec<u8>,
    worth: Worth,
    /// The keys that the host was given last.
    given: Zeroizing<Vec<u8>>,
}

/// The worth of the set in Redis, for a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// It has all keys that the member knows.
    Complete,
    /// It is a set of the farm, but lacks some of these keys.
    Lacking,
    /// There is no set.
    Nothing,
    /// The set was refused, or one of its keys was.
    Refused,
}

impl Keeper {
    /// A keeper that knows nothing yet.
    pub fn new(link: Link, sealer: Sealer, opener: Opener, times: Times) -> Self {
        let sender = sealer.sender().map(|byte| format!("{byte:02x}")).concat();
        Self {
            link,
            name: format!("{}/{sender}", name_of_process()),
            sealer,
            opener,
            times,
            keys: Vec::new(),
            alone: Alone::default(),
            answered_ms: 0,
            sealed_ms: 0,
            written_ms: None,
            seen: Vec::new(),
            worth: Worth::Nothing,
            given: Zeroizing::default(),
        }
    }

    /// Runs as long as the process.
    pub fn run(mut self, member: &'static Member) {
        loop {
            let pause = if self.link.is_down {
                self.link.next_wait().min(self.pause())
            } else {
                self.pause()
            };
            std::thread::sleep(pause);
            self.step(member);
        }
    }

    /// The time between two looks: there are three in each `lease` and `spread`, and at least one a
    /// second.
    fn pause(&self) -> Duration {
        let shortest = self.times.lease.min(self.times.spread) / 3;
        shortest.min(Duration::from_secs(1))
    }

    /// Looks at Redis, does the leader's work if this member leads, and gives the host the active
    /// keys.
    pub fn step(&mut self, member: &Member) {
        match self.look(member) {
            Ok(()) => {
                self.answered_ms = member.clock.elapsed_ms();
                member.redis_works(&mut self.link);
            }
            Err(error) => {
                member.counters.set(Counter::Leader, 0);
                member.note_leader(String::new());
                let text = "Redis does not answer; it is not known whether a key was made";
                member.answer_rotation(Level::Error, text);
                member.redis_failed(&mut self.link, "keeping ticket keys", &error);
            }
        }
        self.see_to_being_alone(member);
        self.give(member);
    }

    /// A member is alone if Redis has not answered for the lifetime of a key. It is also alone if
    /// answers come, but no new set for that time and the time that another member needs to take the
    /// lead: a Redis that holds sets back must not keep one key in use forever.
    fn see_to_being_alone(&mut self, member: &Member) {
        let now = member.clock.elapsed_ms();
        let takes_over_ms = self.times.lease.as_millis() as u64;
        let contact = self.answered_ms.min(self.sealed_ms + takes_over_ms);
        member
            .counters
            .set(Counter::KeySetAgeMs, (now - self.sealed_ms) as i64);
        if self.alone.step(contact, now, &self.times, random_key) {
            let text = format!(
                "Redis has given no new key set for {:?} (ticket_keys.lifetime); this member makes its own keys, and their tickets resume only here",
                self.times.lifetime
            );
            member.log(Topic::Keys, Level::Warning, text);
        }
        // The farm's last key stopped encrypting a lifetime ago.
        let lifetime = self.times.lifetime.as_millis() as u64;
        if now.saturating_sub(contact) >= 2 * lifetime {
            self.keys.clear();
        }
    }

    /// The name of a key in Redis.
    fn in_redis(member: &Member, what: &str) -> String {
        format!("tssession:{{{}}}:{what}", member.config.farm)
    }

    fn look(&mut self, member: &Member) -> RedisResult<()> {
        let mut command = cmd("EVAL");
        command.arg(LOOK).arg(3);
        for what in ["lease", "number", "keys"] {
            command.arg(Self::in_redis(member, what));
        }
        command.arg(&self.name);
        command.arg(self.times.lease.as_millis() as u64);
        command.arg(u8::from(member.believes_redis()));
        command.arg(SEALED_MAX);
        let (redis_ms, number, sealed, leader): (u64, u64, Vec<u8>, Vec<u8>) =
            self.link.run(&command, Duration::ZERO)?;
        // An attacker who answers in the place of Redis can send anything.
        let shown = leader.iter().filter(|byte| byte.is_ascii_graphic());
        member.note_leader(
            shown
                .take(LEADER_MAX)
                .map(|byte| char::from(*byte))
                .collect(),
        );
        if !member.hear_time(redis_ms) {
            // Either clock may be wrong. The others would refuse a set that is sealed by this one.
            member.counters.set(Counter::Leader, 0);
            let text = "no key is made: Redis's clock is not believed";
            member.answer_rotation(Level::Error, text);
            return Ok(());
        }
        member.counters.set(Counter::Leader, i64::from(number > 0));
        self.drop_far_ahead(member);
        if sealed != self.seen {
            self.worth = self.take_over(member, &sealed);
            self.seen = sealed;
        }
        if number == 0 {
            let text = "no key is made: this member no longer leads";
            member.answer_rotation(Level::Error, text);
        }
        if number > 0 {
            self.lead(member, number, redis_ms)?;
        } else if self.worth == Worth::Lacking {
            self.write(member, None, redis_ms)?;
        }
        Ok(())
    }

    /// Drops keys that are now far ahead because clocks were set back.
    fn drop_far_ahead(&mut self, member: &Member) {
        let latest_ms = member.clock.now_ms() + AHEAD_MS;
        let ahead = plan::take_out_far_ahead(&mut self.keys, latest_ms, &self.times);
        if let Some(ahead_ms) = ahead {
            let text = format!(
                "the clock was set back: dropped a key that starts to encrypt in {} s",
                (ahead_ms + AHEAD_MS) / 1000
            );
            member.log(Topic::Keys, Level::Warning, text);
        }
    }

    /// Takes over the keys of a set from Redis.
    fn take_over(&mut self, member: &Member, sealed: &[u8]) -> Worth {
        if sealed.is_empty() {
            return Worth::Nothing;
        }
        let now = member.clock.now_ms();
        let opened = self.opener.open(sealed, now, self.oldest_ms());
        let set = opened.and_then(|opened| Ok((key_set(&opened)?, opened.header.time_ms)));
        match set {
            Ok((mut theirs, time_ms)) => {
                let ahead = plan::take_out_far_ahead(&mut theirs, now + AHEAD_MS, &self.times);
                let sealed_ms = member
                    .clock
                    .elapsed_ms()
                    .saturating_sub(now.saturating_sub(time_ms));
                self.sealed_ms = self.sealed_ms.max(sealed_ms);
                self.keys = plan::merged(&self.keys, &theirs, now, &self.times);
                if let Some(ahead_ms) = ahead {
                    let ahead = (ahead_ms + AHEAD_MS) / 1000;
                    let text = format!(
                        "a key in the key set in Redis is refused: it starts to encrypt only in {ahead} s; the other keys are used"
                    );
                    self.refuse(member, Refusal::Stale, text)
                } else if plan::has_all(&theirs, &self.keys) {
                    Worth::Complete
                } else {
                    Worth::Lacking
                }
            }
            Err(refusal) => {
                let text = format!("the key set in Redis is refused: {refusal}");
                self.refuse(member, refusal, text)
            }
        }
    }

    /// Counts that a set, or a key of it, is refused. Logs it once, until a set is accepted again.
    fn refuse(&self, member: &Member, refusal: Refusal, text: String) -> Worth {
        member.counters.count(refusal.into());
        if self.worth != Worth::Refused {
            member.log(Topic::Keys, Level::Warning, text);
        }
        Worth::Refused
    }

    /// The age from which on a set is of no use.
    fn oldest_ms(&self) -> u64 {
        (self.times.lifetime + self.times.rotation).as_millis() as u64
    }

    fn lead(&mut self, member: &Member, number: u64, redis_ms: u64) -> RedisResult<()> {
        let now = member.clock.now_ms();
        let mut rotate = member.is_rotation_due();
        if rotate && let Err(why) = plan::may_rotate(&self.keys, now, &self.times) {
            member.answer_rotation(Level::Error, &format!("no key is made: {why}"));
            rotate = false;
        }
        let planned = plan::plan(&self.keys, now, &self.times, rotate, random_key);
        if rotate && planned.is_none() {
            member.answer_rotation(Level::Error, "no key is made: there are no random bytes");
        }
        let is_due = self.written_ms.is_none_or(|written| {
            member.clock.elapsed_ms() - written >= CONFIRM.as_millis() as u64
        });
        let has_changed = planned.is_some() || self.worth != Worth::Complete;
        if !has_changed && !is_due {
            return Ok(());
        }
        let before = planned.map(|keys| std::mem::replace(&mut self.keys, keys));
        let is_written = self.write(member, Some(number), redis_ms);
        // Only keys that all others will see may be active here.
        if !matches!(is_written, Ok(true))
            && let Some(before) = before
        {
            self.keys = before;
            if is_written.is_ok() {
                let text = "no key is made: the set in Redis has changed in the meantime; order farm rotate again";
                member.answer_rotation(Level::Error, text);
            }
        } else if let Some(newest) = self.keys.first()
            && newest.made_ms == now
        {
            let wait = newest.from_ms.saturating_sub(now).div_ceil(1000);
            let text = format!("a new key is made; it starts to encrypt in {wait} s");
            member.answer_rotation(Level::Note, &text);
        }
        is_written.map(drop)
    }

    /// Writes the known keys: as the leader, with a lease, or as a member that knows keys that are not
    /// in Redis. `false`: the set or the lease there has changed in the meantime.
    fn write(&mut self, member: &Member, lease: Option<u64>, redis_ms: u64) -> RedisResult<bool> {
        if self.keys.is_empty() {
            return Ok(false);
        }
        let plain = set::encode(lease.unwrap_or(0), &self.keys);
        let now = member.clock.now_ms();
        let sealed = match self.sealer.seal(Kind::KeySet, &[0; 32], now, &plain) {
            Ok(sealed) => sealed,
            Err(error) => {
                let text = format!("a key set cannot be sealed: {error}; it is not written");
                member.log(Topic::Sealing, Level::Error, text);
                return Ok(false);
            }
        };
        let lease = lease.map_or_else(String::new, |number| format!("{}:{number}", self.name));
        let latest = redis_ms.saturating_add(self.times.spread.as_millis() as u64 / 2);
        let mut command = cmd("EVAL");
        command.arg(STORE).arg(2);
        command
            .arg(Self::in_redis(member, "lease"))
            .arg(Self::in_redis(member, "keys"));
        command.arg(lease).arg(&sealed).arg(latest).arg(&self.seen);
        command.arg(self.oldest_ms()).arg(SEALED_MAX);
        let is_written = self.link.run(&command, Duration::ZERO)?;
        if is_written {
            self.seen = sealed;
            self.worth = Worth::Complete;
            self.sealed_ms = member.clock.elapsed_ms();
            self.written_ms = Some(self.sealed_ms);
        }
        Ok(is_written)
    }

    /// Gives the host the active keys, if they have changed.
    fn give(&mut self, member: &Member) {
        let active = self.alone.active(&self.keys, member.clock.now_ms());
        if active.is_empty() || *active == *self.given {
            return;
        }
        if member.host.update_ticket_keys(&active) {
            member.counters.count(Counter::KeyGeneration);
            self.given = active;
        } else {
            let text =
                "the host refuses the farm's ticket keys; its active keys are unchanged".to_owned();
            member.log(Topic::Keys, Level::Error, text);
        }
    }
}

/// The keys in an authentic message.
fn key_set(opened: &Opened) -> Result<Vec<Key>, Refusal> {
    match set::decode(&opened.plain) {
        Some((_, keys)) if opened.header.kind == Kind::KeySet => Ok(keys),
        _ => Err(Refusal::Garbage),
    }
}

/// Makes a random key; `None` without random bytes.
fn random_key() -> Option<KeyBytes> {
    let _inside = gate::enter();
    let mut key = Box::new(Zeroizing::new([0; 48]));
    openssl::rand::rand_bytes(key.as_mut_slice()).ok()?;
    Some(key)
}
