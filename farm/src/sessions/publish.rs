//! The publisher: takes the events of handshakes from the queue and appends messages to the streams.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Cmd, RedisError, RedisResult, Value, cmd};

use crate::config::Config;
use crate::counters::Counter;
use crate::host::events::Event;
use crate::host::log::Level;
use crate::host::may_carry_early_data;
use crate::log_limit::Topic;
use crate::member::Member;
use crate::redis::link::{self, Backoff, Link};
use crate::seal::{Kind, Sealer};
use crate::sessions::queue::Item;
use crate::sessions::{message, stream};

/// The most items in one pipeline.
const BATCH: usize = 512;

/// ATS reports a session before it stores it. This is how often the publisher looks for it, and the
/// time between two looks.
const ATTEMPTS: u32 = 20;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(2);

/// The time between two upkeeps, and after one that failed.
const UPKEEP: Duration = Duration::from_secs(10);
const UPKEEP_AGAIN: Duration = Duration::from_secs(2);

/// How often the host's own metrics are updated and waiting log lines are written.
const SHOW: Duration = Duration::from_secs(1);

/// A session that was reported but not found yet.
struct Early {
    item: Item,
    attempts: u32,
    next: Instant,
}

/// A message that is to be sent.
struct Sealed {
    partition: u32,
    bytes: Vec<u8>,
}

/// The messages for partitions that fail together: for all partitions, or in a Cluster for one, whose
/// node may be away while others are there.
#[derive(Default)]
struct Outbox {
    messages: VecDeque<Sealed>,
    backoff: Backoff,
    /// After a failure: when to try again.
    again_at: Option<Instant>,
}

/// The state of the publisher's thread.
struct Publisher {
    member: &'static Member,
    sealer: Sealer,
    outboxes: Outboxes,
    early: VecDeque<Early>,
}

/// All messages that are to be sent.
struct Outboxes {
    boxes: Vec<Outbox>,
    /// The most messages that each holds while it cannot send.
    most: usize,
}

/// Runs as long as the process.
pub fn run(member: &'static Member, mut link: Link, sealer: Sealer) {
    let mut publisher = Publisher {
        member,
        sealer,
        outboxes: Outboxes::new(&member.config, link.is_cluster()),
        early: VecDeque::new(),
    };
    let mut items = Vec::with_capacity(BATCH);
    let mut show_at = Instant::now();
    loop {
        if show_at <= Instant::now() {
            show_at = Instant::now() + SHOW;
            member.host.show(member.counters.each());
            member.log_held();
        }
        if let Err(error) = publisher.outboxes.send(member, &mut link) {
            member.redis_failed(&mut link, "publishing", &error);
        }
        // While all of Redis is away, nothing is taken from the queue, which keeps the newest.
        if publisher.outboxes.all_wait() {
            thread::sleep(publisher.outboxes.first_wait().unwrap_or_default());
            continue;
        }
        items.clear();
        member.queue.take(&mut items, BATCH, publisher.wait());
        for item in items.drain(..) {
            publisher.prepare(item, 1);
        }
        publisher.look_again();
    }
}

impl Publisher {
    /// How long the queue may be empty before something else is due.
    fn wait(&self) -> Duration {
        if self.early.is_empty() {
            let retry = self.outboxes.first_wait();
            retry.unwrap_or(Duration::from_millis(500))
        } else {
            BETWEEN_ATTEMPTS
        }
    }

    /// Makes a message of an event.
    fn prepare(&mut self, item: Item, attempts: u32) {
        let member = self.member;
        let id = item.id();
        let (kind, plain) = match item.event {
            Event::Removed => {
                member.note_own_removal(id);
                (Kind::Removal, message::encode_removal(id))
            }
            Event::New => match member.host.get_der(id) {
                // Each member that has it would accept its early data once.
                Some(der) if may_carry_early_data(&der) => return,
                Some(der) => (Kind::Session, message::encode_session(id, &der)),
                None if attempts < ATTEMPTS && self.early.len() < BATCH * 8 => {
                    let next = Instant::now() + BETWEEN_ATTEMPTS;
                    self.early.push_back(Early {
                        item,
                        attempts,
                        next,
                    });
                    return;
                }
                None => return member.counters.count(Counter::Missing),
            },
        };
        let subject = self.sealer.subject(id);
        let now = member.clock.now_ms();
        match self.sealer.seal(kind, &subject, now, &plain) {
            Ok(bytes) => {
                let partition = stream::partition(&subject, member.config.partitions);
                if !self.outboxes.put(Sealed { partition, bytes }) {
                    member.counters.count(Counter::Dropped);
                }
            }
            Err(error) => {
                let text = format!("a message cannot be sealed: {error}; it is dropped");
                member.log(Topic::Sealing, Level::Error, text);
            }
        }
    }

    /// Looks again for the sessions whose time has come.
    fn look_again(&mut self) {
        let now = Instant::now();
        for _ in 0..self.early.len() {
            match self.early.pop_front() {
                Some(early) if early.next <= now => self.prepare(early.item, early.attempts + 1),
                later => self.early.extend(later),
            }
        }
    }
}

impl Outboxes {
    fn new(config: &Config, is_cluster: bool) -> Self {
        let count = if is_cluster {
            config.partitions as usize
        } else {
            1
        };
        Self {
            boxes: std::iter::repeat_with(Outbox::default)
                .take(count)
                .collect(),
            most: (config.queue / count).max(BATCH),
        }
    }

    /// Adds a message; `false`: the oldest one was dropped for it.
    fn put(&mut self, sealed: Sealed) -> bool {
        let index = sealed.partition as usize % self.boxes.len();
        let messages = &mut self.boxes[index].messages;
        let has_room = messages.len() < self.most || messages.pop_front().is_none();
        messages.push_back(sealed);
        has_room
    }

    fn all_wait(&self) -> bool {
        let now = Instant::now();
        self.boxes.iter().all(|outbox| outbox.waits(now))
    }

    /// The time until the first of those that wait can try again.
    fn first_wait(&self) -> Option<Duration> {
        let first = self
            .boxes
            .iter()
            .filter_map(|outbox| outbox.again_at)
            .min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// Sends the messages of all that need not wait. Returns the error of the last one that failed.
    fn send(&mut self, member: &Member, link: &mut Link) -> RedisResult<()> {
        let mut result = Ok(());
        let mut has_sent = false;
        for outbox in &mut self.boxes {
            let now = Instant::now();
            if outbox.messages.is_empty() || outbox.waits(now) {
                continue;
            }
            match outbox.send(member, link) {
                Ok(()) => {
                    (outbox.backoff, outbox.again_at) = Default::default();
                    has_sent = true;
                }
                Err(error) => {
                    outbox.again_at = Some(Instant::now() + outbox.backoff.next_wait());
                    result = Err(error);
                }
            }
        }
        if has_sent && self.first_wait().is_none() {
            member.redis_works(link);
        }
        result
    }
}

impl Outbox {
    fn waits(&self, now: Instant) -> bool {
        self.again_at.is_some_and(|again_at| again_at > now)
    }

    /// Appends the messages to the streams. They stay here if the connection fails.
    fn send(&mut self, member: &Member, link: &mut Link) -> RedisResult<()> {
        while !self.messages.is_empty() {
            let count = self.messages.len().min(BATCH);
            let commands = self.messages.range(..count);
            let commands = commands.map(|sealed| append(&member.config, sealed));
            match link.run_all(commands.collect()) {
                Ok(results) => count_sent(member, link, self.messages.drain(..count), results),
                // Redis will not accept them later either: it is full, or permission is missing.
                Err(error) if link::is_answer(&error) => {
                    member.redis_refuses(link, &error);
                    member.counters.add(Counter::Dropped, count as i64);
                    self.messages.drain(..count);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn append(config: &Config, sealed: &Sealed) -> Cmd {
    let mut command = cmd("XADD");
    let max = (config.max_sessions / u64::from(config.partitions)).max(1);
    command.arg(stream::name(config, sealed.partition));
    command.arg("MAXLEN").arg("~").arg(max).arg("*");
    command.arg("m").arg(sealed.bytes.as_slice());
    command
}

fn count_sent(
    member: &Member,
    link: &Link,
    sent: impl Iterator<Item = Sealed>,
    results: Vec<Value>,
) {
    let mut refused = None;
    for (sealed, result) in sent.zip(results) {
        if let Value::ServerError(error) = result {
            member.counters.count(Counter::Dropped);
            refused = Some(error);
            continue;
        }
        member.counters.count(Counter::Published);
        member
            .counters
            .add(Counter::PublishedBytes, sealed.bytes.len() as i64);
    }
    match refused {
        Some(error) => member.redis_refuses(link, &RedisError::from(error)),
        None => member.redis_takes(),
    }
}

/// Trims entries that no reader accepts any more, and reads Redis's clock. It has a separate
/// connection, because a node of a Cluster that does not answer must not keep the publisher waiting.
/// Runs as long as the process.
pub fn keep_up(member: &'static Member, mut link: Link) {
    loop {
        let pause = match upkeep(member, &mut link) {
            Ok(()) => {
                member.redis_works(&mut link);
                UPKEEP
            }
            Err(error) => {
                member.redis_failed(&mut link, "trimming", &error);
                UPKEEP_AGAIN
            }
        };
        thread::sleep(pause);
    }
}

fn upkeep(member: &Member, link: &mut Link) -> RedisResult<()> {
    let now = link.ask_time()?;
    member.hear_time(now);
    let oldest = member.oldest_entry(now);
    for partition in 0..member.config.partitions {
        let mut command = cmd("XTRIM");
        command.arg(stream::name(&member.config, partition));
        command.arg("MINID").arg("~").arg(oldest);
        match link.run::<Value>(&command, Duration::ZERO) {
            // A value that is not a stream is in its place, and would stop readers and publishers.
            Err(error) if error.code() == Some("WRONGTYPE") => {
                let stream = stream::name(&member.config, partition);
                link.run::<Value>(cmd("DEL").arg(stream), Duration::ZERO)?;
            }
            result => drop(result?),
        }
    }
    Ok(())
}
