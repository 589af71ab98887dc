//! The keeper of ticket keys: one member at a time makes them, all take them over.
//!
//! The lease is a string that expires, with the number that it was given out under; who writes
//! the key set names both, and Redis compares in the same script. So a member that was stopped
//! for longer than its lease, and does not know, writes nothing.

use std::time::Duration;

use redis::{RedisResult, cmd};
use zeroize::Zeroizing;

use crate::Farm;
use crate::config::TicketKeys;
use crate::counters::Counter;
use crate::host::Level;
use crate::keys::{self, Alone, Key, KeySet};
use crate::log_limit::Topic;
use crate::message;
use crate::redis_link::Link;
use crate::seal::{Kind, Opener, Refusal, Sealer};

/// Takes the lease if nobody has it, prolongs it if it is ours, and tells how things are. A
/// lease that has longer to go than any is given out for is one that Redis's clock has gone back
/// on: its holder has as long as if it had just been prolonged.
const LOOK: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local holder = redis.call('GET', KEYS[1])
local number = 0
if not holder then
  number = redis.call('INCR', KEYS[2])
  redis.call('SET', KEYS[1], ARGV[1] .. ':' .. number, 'PX', ARGV[2])
else
  local member, lease = string.match(holder, '^(.*):(%d+)$')
  if member == ARGV[1] then
    number = tonumber(lease)
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  elseif redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  end
end
return {now, number, redis.call('GET', KEYS[3])}
";

/// Stores the key set for who holds the lease, unless it was planned too long ago: the others must
/// have read a new key before it encrypts.
const STORE: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
if time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(ARGV[3]) then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
";

/// A set that nobody has confirmed for so long is not believed by who knows a newer one; the
/// leader seals its set anew as often.
const CONFIRM: Duration = Duration::from_secs(60);

/// What the keeper knows.
pub struct Keeper {
    link: Link,
    sealer: Sealer,
    opener: Opener,
    times: TicketKeys,
    member: String,
    /// The set that is in force here, and when its sealer says it was sealed.
    set: Option<KeySet>,
    sealed_ms: u64,
    alone: Alone,
    /// By this process's own clock.
    last_contact_ms: u64,
    /// What was in Redis at the last look, and whether it was of use.
    seen: Vec<u8>,
    is_good: bool,
    /// What the host was given last.
    given: Zeroizing<Vec<u8>>,
}

impl Keeper {
    /// A keeper that knows nothing yet.
    pub fn new(link: Link, sealer: Sealer, opener: Opener, times: TicketKeys) -> Self {
        let member = sealer.sender().map(|byte| format!("{byte:02x}"));
        Self {
            link,
            member: member.concat(),
            sealer,
            opener,
            times,
            set: None,
            sealed_ms: 0,
            alone: Alone::default(),
            last_contact_ms: 0,
            seen: Vec::new(),
            is_good: false,
            given: Zeroizing::default(),
        }
    }

    /// Runs for as long as the process.
    pub fn run(mut self, farm: &'static Farm) {
        loop {
            let pause = match self.link.is_down {
                true => self.link.next_wait().min(self.pause()),
                false => self.pause(),
            };
            std::thread::sleep(pause);
            self.step(farm);
        }
    }

    /// Three looks in each lease, and in each time that a key takes to spread.
    fn pause(&self) -> Duration {
        let shortest = self.times.lease.min(self.times.spread) / 3;
        shortest.min(Duration::from_secs(1))
    }

    /// Looks at Redis, does what the leader has to, and gives the host what is in force.
    pub fn step(&mut self, farm: &Farm) {
        match self.look(farm) {
            Ok(()) => {
                self.last_contact_ms = farm.clock.elapsed_ms();
                farm.redis_works(&mut self.link);
            }
            Err(error) => {
                farm.counters.set(Counter::Leader, 0);
                farm.redis_failed(&mut self.link, "keeping ticket keys", &error);
            }
        }
        let (contact, now) = (self.last_contact_ms, farm.clock.elapsed_ms());
        let has_keys = self.set.is_some();
        if self
            .alone
            .step(contact, now, has_keys, &self.times, random_key)
        {
            let text =
                "no contact with Redis for a key's lifetime: this member makes keys of its own";
            farm.host.log(Level::Warning, text);
        }
        self.give(farm);
    }

    fn name(farm: &Farm, what: &str) -> String {
        format!("tssession:{{{}}}:{what}", farm.config.farm)
    }

    fn look(&mut self, farm: &Farm) -> RedisResult<()> {
        let mut command = cmd("EVAL");
        command.arg(LOOK).arg(3);
        for what in ["lease", "number", "keys"] {
            command.arg(Self::name(farm, what));
        }
        command.arg(&self.member);
        command.arg(self.times.lease.as_millis() as u64);
        let (now, number, sealed): (u64, u64, Option<Vec<u8>>) =
            self.link.run(&command, Duration::ZERO)?;
        farm.clock.set(now);
        farm.counters.set(Counter::Leader, i64::from(number > 0));
        let sealed = sealed.unwrap_or_default();
        if sealed != self.seen {
            self.is_good = !sealed.is_empty() && self.take_over(farm, &sealed, now);
            self.seen = sealed;
        }
        let is_lost = !self.is_good;
        if number > 0 {
            self.lead(farm, number, now, is_lost)?;
        }
        Ok(())
    }

    /// Takes a set from Redis, unless it is one that was in force before; `false`: it is of no
    /// use, and whoever leads writes another one.
    fn take_over(&mut self, farm: &Farm, sealed: &[u8], now: u64) -> bool {
        let oldest = self.times.lifetime + self.times.rotation;
        let refused = match self.opener.open(sealed, now, oldest.as_millis() as u64) {
            // What this member has written itself is in force here.
            Err(Refusal::Own) => return true,
            Err(refusal) => format!("{refusal:?}"),
            Ok(opened) if opened.time_ms < self.sealed_ms => "older than the one in force".into(),
            Ok(opened) => match message::decode_key_set(&opened.plain) {
                Some(set) if opened.kind == Kind::KeySet => {
                    self.sealed_ms = opened.time_ms;
                    self.set = Some(set);
                    return true;
                }
                _ => "no key set".into(),
            },
        };
        farm.counters.count(Counter::RefusedForged);
        let text = format!("the key set in Redis is refused: {refused}");
        farm.log(Topic::Keys, Level::Warning, text);
        false
    }

    fn lead(&mut self, farm: &Farm, number: u64, now: u64, is_lost: bool) -> RedisResult<()> {
        let planned = keys::plan(self.set.as_ref(), number, now, &self.times, random_key);
        let is_old = now.saturating_sub(self.sealed_ms) >= CONFIRM.as_millis() as u64;
        let (plain, planned) = match (&planned, &self.set) {
            (Some(set), _) => (message::encode_key_set(set), planned),
            (None, Some(set)) if is_lost || is_old => (message::encode_key_set(set), None),
            _ => return Ok(()),
        };
        // Not earlier than the set that it takes the place of, even when Redis's clock has gone
        // back: the others would refuse it.
        let time = now.max(self.sealed_ms);
        let sealed = match self.sealer.seal(Kind::KeySet, &[0; 32], time, &plain) {
            Ok(sealed) => sealed,
            Err(error) => {
                let text = format!("a key set cannot be sealed: {error}");
                farm.log(Topic::Sealing, Level::Error, text);
                return Ok(());
            }
        };
        let mut command = cmd("EVAL");
        command.arg(STORE).arg(2);
        command
            .arg(Self::name(farm, "lease"))
            .arg(Self::name(farm, "keys"));
        let latest = now + self.times.spread.as_millis() as u64 / 2;
        command
            .arg(format!("{}:{number}", self.member))
            .arg(sealed)
            .arg(latest);
        let is_stored: bool = self.link.run(&command, Duration::ZERO)?;
        // Only what all others will see may be in force here.
        if is_stored {
            self.sealed_ms = time;
            if let Some(set) = planned {
                self.set = Some(set);
            }
        }
        Ok(())
    }

    /// Gives the host the keys that are in force, if they are others than before.
    fn give(&mut self, farm: &Farm) {
        let shared = self.set.iter().flat_map(|set| &set.keys);
        let keys: Vec<&Key> = shared.collect();
        let in_force = self.alone.in_force(&keys, farm.clock.now_ms());
        if in_force.is_empty() || *in_force == *self.given {
            return;
        }
        if farm.host.update_ticket_keys(&in_force) {
            farm.counters.count(Counter::KeyGeneration);
            self.given = in_force;
        } else {
            let text = "the host refuses the ticket keys".to_owned();
            farm.log(Topic::Keys, Level::Error, text);
        }
    }
}

/// `None` without random bytes: then no key is made.
fn random_key() -> Option<Zeroizing<[u8; 48]>> {
    let mut key = Zeroizing::new([0; 48]);
    openssl::rand::rand_bytes(key.as_mut_slice()).ok()?;
    Some(key)
}
