//! The readers: take sessions and removals from the streams, and pass them to the host.

use std::thread;
use std::time::{Duration, Instant};

use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use redis::{RedisResult, Value, cmd};

use crate::counters::Counter;
use crate::host::NotInserted;
use crate::member::Member;
use crate::redis::link::Link;
use crate::seal::{Kind, Opened, Opener};
use crate::sessions::{message, stream};

/// The most entries of each stream in one answer. The number is halved each time Redis closes the
/// connection, as it does when entries are very large, and reset when nothing is left to read.
const BATCH: usize = 1000;

/// How long entries gather after an answer that left none: a request costs both sides more than an
/// entry.
const GATHER: Duration = Duration::from_millis(2);

/// How long Redis waits for an entry before it answers without one.
const BLOCK: Duration = Duration::from_millis(1000);

/// How much is read again after a connection was lost: another server may answer then, whose entries
/// have the times of its own clock.
const READ_AGAIN_MS: u64 = 10_000;

/// How often the readers check whether a stream has begun again with earlier times.
const LOOK_BACK: Duration = Duration::from_secs(1);

/// A stream, and how far it has been read.
struct Position {
    partition: u32,
    stream: String,
    last: String,
    opener: Opener,
}

/// Reads these partitions as long as the process runs.
pub fn run(member: &'static Member, mut link: Link, openers: Vec<(u32, Opener)>) {
    let mut positions = begin(member, &mut link, openers);
    let mut is_behind = true;
    let mut look_at = Instant::now();
    let mut batch = BATCH;
    loop {
        let mut result = read(member, &mut link, &mut positions, batch);
        if result.is_ok() && look_at <= Instant::now() {
            look_at = Instant::now() + LOOK_BACK;
            result = look_back(member, &mut link, &mut positions).and(result);
        }
        match result {
            Ok(is_all) => {
                member.redis_works(&mut link);
                is_behind = false;
                if is_all {
                    batch = BATCH;
                    thread::sleep(GATHER);
                }
            }
            Err(error) => {
                if error.is_connection_dropped() && !error.is_connection_refusal() {
                    batch = (batch / 2).max(1);
                }
                member.redis_failed(&mut link, "reading", &error);
                thread::sleep(link.next_wait());
                if !is_behind {
                    is_behind = true;
                    positions.iter_mut().for_each(Position::step_back);
                }
            }
        }
    }
}

/// Waits until Redis has reported its time, and begins with the oldest entries that are still
/// accepted.
fn begin(member: &Member, link: &mut Link, openers: Vec<(u32, Opener)>) -> Vec<Position> {
    let now = loop {
        match link.ask_time() {
            Ok(now) => break now,
            Err(error) => {
                member.redis_failed(link, "reading", &error);
                thread::sleep(link.next_wait());
            }
        }
    };
    member.hear_time(now);
    let from = member.oldest_entry(now);
    let position = |(partition, opener)| Position {
        partition,
        stream: stream::name(&member.config, partition),
        last: format!("{from}-0"),
        opener,
    };
    openers.into_iter().map(position).collect()
}

impl Position {
    fn step_back(&mut self) {
        let (ms, _) = parts(&self.last);
        self.last = format!("{}-0", ms.saturating_sub(READ_AGAIN_MS));
    }
}

/// The time in an entry's ID, and its number among the entries of that time.
fn parts(id: &str) -> (u64, u64) {
    let (ms, number) = id.split_once('-').unwrap_or((id, ""));
    (ms.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

/// Goes back to the beginning of streams whose last entry is earlier than what was read of them: they
/// were emptied and Redis's clock has gone back, or it is another Redis. Asks only while that is
/// possible. Messages that were read before are refused as replayed.
fn look_back(member: &Member, link: &mut Link, positions: &mut [Position]) -> RedisResult<()> {
    // The time that this process knows of Redis may be a little behind.
    let now = member.clock.now_ms() + LOOK_BACK.as_millis() as u64;
    for position in positions.iter_mut().filter(|p| parts(&p.last).0 > now) {
        let mut command = cmd("XREVRANGE");
        command.arg(&position.stream).arg("+").arg("-");
        command.arg("COUNT").arg(1);
        let newest: StreamRangeReply = link.run(&command, Duration::ZERO)?;
        let newest = newest.ids.first().map(|entry| parts(&entry.id));
        if newest.unwrap_or_default() < parts(&position.last) {
            position.last = "0-0".to_owned();
        }
    }
    Ok(())
}

/// Reads and applies entries once. Returns whether there are no more.
fn read(
    member: &Member,
    link: &mut Link,
    positions: &mut [Position],
    batch: usize,
) -> RedisResult<bool> {
    let mut command = cmd("XREAD");
    command.arg("COUNT").arg(batch);
    command
        .arg("BLOCK")
        .arg(BLOCK.as_millis() as u64)
        .arg("STREAMS");
    for position in &*positions {
        command.arg(&position.stream);
    }
    for position in &*positions {
        command.arg(&position.last);
    }
    let reply: Option<StreamReadReply> = link.run(&command, BLOCK)?;
    let mut is_all = true;
    for key in reply.map(|reply| reply.keys).unwrap_or_default() {
        is_all &= key.ids.len() < batch;
        let Some(position) = positions
            .iter_mut()
            .find(|position| position.stream == key.key)
        else {
            continue;
        };
        for entry in key.ids {
            apply(member, position, &entry);
            position.last = entry.id;
        }
    }
    Ok(is_all)
}

fn apply(member: &Member, position: &mut Position, entry: &StreamId) {
    let opener = &mut position.opener;
    let counters = &member.counters;
    counters.count(Counter::Received);
    let now = member.clock.now_ms();
    let Some(Value::BulkString(sealed)) = entry.map.get("m") else {
        return counters.count(Counter::RefusedGarbage);
    };
    let lifetime = member.config.session_lifetime.as_millis() as u64;
    let opened = match opener.open(sealed, now, lifetime) {
        Ok(opened) => opened,
        Err(refusal) => {
            return counters.count(refusal.into());
        }
    };
    // It was copied from another stream, whose reader has its counter.
    if stream::partition(&opened.header.subject, member.config.partitions) != position.partition {
        return counters.count(Counter::RefusedForged);
    }
    counters.set(
        Counter::LagMs,
        now.saturating_sub(opened.header.time_ms) as i64,
    );
    match opened.header.kind {
        Kind::Session => insert(member, opener, &opened),
        Kind::Removal => remove(member, opener, &opened),
        // Authentic, but it does not belong in a stream.
        Kind::KeySet => counters.count(Counter::RefusedGarbage),
    }
}

fn insert(member: &Member, opener: &Opener, opened: &Opened) {
    let counters = &member.counters;
    let session = message::decode_session(&opened.plain);
    let Some((id, der)) = session.filter(|(id, _)| opened.is_for(opener, id)) else {
        return counters.count(Counter::RefusedNotASession);
    };
    if member.is_removed(id, &opened.header) {
        return counters.count(Counter::RefusedTombstone);
    }
    let counter = match member.host.insert(id, der) {
        Ok(()) => Counter::Inserted,
        Err(NotInserted::NotASession) => Counter::RefusedNotASession,
        Err(NotInserted::EarlyData) => Counter::RefusedEarlyData,
    };
    counters.count(counter);
}

fn remove(member: &Member, opener: &Opener, opened: &Opened) {
    let id = message::decode_removal(&opened.plain);
    let Some(id) = id.filter(|id| opened.is_for(opener, id)) else {
        return member.counters.count(Counter::RefusedNotASession);
    };
    let header = &opened.header;
    member.note_removal(id, header.sender, header.counter, header.time_ms);
    if member.host.remove(id) {
        member.counters.count(Counter::Removed);
    }
}
