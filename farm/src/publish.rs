//! The publisher: takes what handshakes reported, and appends it to the streams.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use redis::{Cmd, Value, cmd};

use crate::Farm;
use crate::config::Config;
use crate::counters::Counter;
use crate::host::Level;
use crate::message;
use crate::queue::{Event, Item};
use crate::redis_link::{self, Link};
use crate::seal::{self, Kind, Sealer};

/// How many items one pipeline has at most.
const BATCH: usize = 512;

/// ATS reports a session before it stores it: so often is it looked for, and so long apart.
const ATTEMPTS: u32 = 20;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(2);

/// How often streams are trimmed by age and the clock is read.
const UPKEEP: Duration = Duration::from_secs(10);

/// How often the host's own metrics are brought up to date.
const SHOW: Duration = Duration::from_secs(1);

/// A session that was reported and not found yet.
struct Early {
    item: Item,
    attempts: u32,
    next: Instant,
}

/// A message on its way.
struct Sealed {
    partition: u32,
    bytes: Vec<u8>,
}

/// The name of a partition's stream. What is in braces decides on the slot of a Cluster.
pub fn stream(config: &Config, partition: u32) -> String {
    format!("tssession:{{{}:{partition}}}:sessions", config.farm)
}

/// Runs for as long as the process.
pub fn run(farm: &'static Farm, mut link: Link, mut sealer: Sealer) {
    let mut items = Vec::with_capacity(BATCH);
    let mut early = VecDeque::new();
    let mut unsent = Vec::<Sealed>::new();
    let mut upkeep_at = Instant::now();
    let mut show_at = Instant::now();
    loop {
        if show_at <= Instant::now() {
            show_at = Instant::now() + SHOW;
            farm.host.show(&farm.counters);
        }
        // Nothing is taken from the queue while Redis is away: it keeps the newest.
        if let Err(error) = send(farm, &mut link, &mut unsent) {
            farm.redis_failed(&mut link, "publishing", &error);
            std::thread::sleep(link.next_wait());
            continue;
        }
        if upkeep_at <= Instant::now() {
            upkeep_at = Instant::now() + UPKEEP;
            if let Err(error) = upkeep(farm, &mut link) {
                farm.redis_failed(&mut link, "trimming", &error);
            }
        }
        let wait = match early.is_empty() {
            true => Duration::from_millis(500),
            false => BETWEEN_ATTEMPTS,
        };
        items.clear();
        farm.queue.take(&mut items, BATCH, wait);
        for item in items.drain(..) {
            prepare(farm, &mut sealer, &mut unsent, &mut early, item, 1);
        }
        let now = Instant::now();
        for _ in 0..early.len() {
            match early.pop_front() {
                Some(Early {
                    item,
                    attempts,
                    next,
                }) if next <= now => {
                    prepare(
                        farm,
                        &mut sealer,
                        &mut unsent,
                        &mut early,
                        item,
                        attempts + 1,
                    );
                }
                later => early.extend(later),
            }
        }
    }
}

/// Makes a message of what was reported.
fn prepare(
    farm: &Farm,
    sealer: &mut Sealer,
    unsent: &mut Vec<Sealed>,
    early: &mut VecDeque<Early>,
    item: Item,
    attempts: u32,
) {
    let id = item.id();
    let (kind, plain) = match item.event {
        Event::Removed => {
            farm.note_own_removal(id);
            (Kind::Removal, message::encode_removal(id))
        }
        Event::New => match farm.host.get_der(id) {
            Some(der) => (Kind::Session, message::encode_session(id, &der)),
            None if attempts < ATTEMPTS && early.len() < BATCH * 8 => {
                let next = Instant::now() + BETWEEN_ATTEMPTS;
                early.push_back(Early {
                    item,
                    attempts,
                    next,
                });
                return;
            }
            None => return farm.counters.count(Counter::Missing),
        },
    };
    let subject = sealer.subject(id);
    match sealer.seal(kind, &subject, farm.clock.now_ms(), &plain) {
        Ok(bytes) => unsent.push(Sealed {
            partition: seal::partition(&subject, farm.config.partitions),
            bytes,
        }),
        Err(error) => farm.host.log(
            Level::Error,
            &format!("a message cannot be sealed: {error}"),
        ),
    }
}

/// Appends messages, which stay unsent when the connection fails.
fn send(farm: &Farm, link: &mut Link, unsent: &mut Vec<Sealed>) -> redis::RedisResult<()> {
    if unsent.is_empty() {
        return Ok(());
    }
    // In a Cluster what is together in a pipeline must be of one partition.
    unsent.sort_by_key(|sealed| sealed.partition);
    while let Some(first) = unsent.first() {
        let count = match link.is_cluster() {
            false => unsent.len(),
            true => {
                let of_first = |sealed: &&Sealed| sealed.partition == first.partition;
                unsent.iter().take_while(of_first).count()
            }
        };
        let commands = unsent[..count]
            .iter()
            .map(|sealed| append(&farm.config, sealed));
        let results = link.run_all(commands.collect());
        match results {
            Ok(results) => {
                farm.redis_takes();
                count_sent(farm, &unsent[..count], &results);
            }
            // Redis will not have them, now or in a moment: it is full, or we may not.
            Err(error) if redis_link::is_answer(&error) => {
                farm.redis_refuses(&error);
                farm.counters.add(Counter::Dropped, count as i64);
            }
            Err(error) => return Err(error),
        }
        unsent.drain(..count);
    }
    farm.redis_works(link);
    Ok(())
}

fn append(config: &Config, sealed: &Sealed) -> Cmd {
    let mut command = cmd("XADD");
    let max = (config.max_sessions / u64::from(config.partitions)).max(1);
    command.arg(stream(config, sealed.partition));
    command.arg("MAXLEN").arg("~").arg(max).arg("*");
    command.arg("m").arg(sealed.bytes.as_slice());
    command
}

fn count_sent(farm: &Farm, sent: &[Sealed], results: &[Value]) {
    for (sealed, result) in sent.iter().zip(results) {
        if matches!(result, Value::ServerError(_)) {
            farm.counters.count(Counter::Dropped);
            continue;
        }
        farm.counters.count(Counter::Published);
        farm.counters
            .add(Counter::PublishedBytes, sealed.bytes.len() as i64);
    }
}

/// Drops what no receiver would take any more, and reads the clock.
fn upkeep(farm: &Farm, link: &mut Link) -> redis::RedisResult<()> {
    let now = redis_link::ask_time(link)?;
    farm.hear_time(now);
    let oldest = farm.oldest_entry(now);
    for partition in 0..farm.config.partitions {
        let mut command = cmd("XTRIM");
        command.arg(stream(&farm.config, partition));
        command.arg("MINID").arg("~").arg(oldest);
        match link.run::<Value>(&command, Duration::ZERO) {
            // Something else has been put in its place, which would stop readers and publishers.
            Err(error) if error.code() == Some("WRONGTYPE") => {
                let stream = stream(&farm.config, partition);
                link.run::<Value>(cmd("DEL").arg(stream), Duration::ZERO)?;
            }
            result => drop(result?),
        }
    }
    farm.redis_works(link);
    Ok(())
}
