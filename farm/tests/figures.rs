//! Measures the throughput of Redis and of a receiver. `make farm-figures` prints these figures and
//! those of `farm/lab/figures.py`. The test asserts that nothing is lost, but no times.

use std::ffi::CString;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use redis::Connection;
use redis::streams::StreamReadReply;
use tssession_farm::{Config, Counter, Host, Kind, Sealer, encode_session, partition, start};
use tssession_test_support::{Redis, TSSESSION, scratch};

const SESSIONS: u32 = 100_000;
const PARTITIONS: u32 = 16;
const PIPELINE: usize = 512;

/// A TLS 1.2 session that is valid for long.
const DER: &[u8] = include_bytes!("../../fuzz/seeds/der/tls12");

/// Returns the rate per second of something that happened `SESSIONS` times.
fn rate(seconds: f64) -> f64 {
    f64::from(SESSIONS) / seconds
}

/// Returns the CPU seconds of this process.
fn cpu() -> f64 {
    // SAFETY: the structure is writable, and has only numbers.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Returns the answer of Redis to INFO.
fn info(connection: &mut Connection) -> redis::InfoDict {
    redis::cmd("INFO").query(connection).unwrap()
}

/// Returns the CPU seconds of Redis.
fn cpu_of_redis(connection: &mut Connection) -> f64 {
    let info = info(connection);
    let used = |name| info.get::<f64>(name).unwrap();
    used("used_cpu_user") + used("used_cpu_sys")
}

/// Returns the bytes of memory that Redis uses.
fn memory_of_redis(connection: &mut Connection) -> u64 {
    info(connection).get("used_memory").unwrap()
}

fn stream(partition: u32) -> String {
    format!("tssession:{{test:{partition}}}:sessions")
}

/// Returns messages of another member, each with its partition.
fn seal(config: &Config, connection: &mut Connection) -> Vec<(u32, Vec<u8>)> {
    let mut sealer = Sealer::new("test", &config.secrets[0]).unwrap();
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(connection).unwrap();
    let now = seconds * 1000 + micros / 1000;
    let (mut bytes, cpu_before) = (0, cpu());
    let messages = (0..SESSIONS)
        .map(|number| {
            let mut id = [7; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            let subject = sealer.subject(&id);
            let plain = encode_session(&id, DER);
            let sealed = sealer.seal(Kind::Session, &subject, now, &plain).unwrap();
            bytes += sealed.len();
            (partition(&subject, PARTITIONS), sealed)
        })
        .collect();
    println!(
        "sealed: {:.0} messages a second of one core, {} bytes each, with {} bytes of DER",
        rate(cpu() - cpu_before),
        bytes / SESSIONS as usize,
        DER.len()
    );
    messages
}

fn append(connection: &mut Connection, messages: &[(u32, Vec<u8>)]) {
    let (before, began) = (memory_of_redis(connection), Instant::now());
    let cpu_before = cpu_of_redis(connection);
    for messages in messages.chunks(PIPELINE) {
        let mut pipe = redis::pipe();
        for (partition, sealed) in messages {
            pipe.cmd("XADD").arg(stream(*partition));
            pipe.arg("MAXLEN").arg("~").arg(SESSIONS).arg("*");
            pipe.arg("m").arg(sealed.as_slice()).ignore();
        }
        pipe.exec(connection).unwrap();
    }
    println!(
        "Redis appends in pipelines of {PIPELINE}: {:.0} a second of one core, {:.0} in fact; {:.0} bytes of memory each",
        rate(cpu_of_redis(connection) - cpu_before),
        rate(began.elapsed().as_secs_f64()),
        (memory_of_redis(connection) - before) as f64 / f64::from(SESSIONS)
    );
}

fn read_all(connection: &mut Connection) {
    let (cpu_before, began) = (cpu_of_redis(connection), Instant::now());
    let mut last = vec!["0".to_owned(); PARTITIONS as usize];
    let mut entries = 0;
    while entries < SESSIONS as usize {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1000).arg("STREAMS");
        (0..PARTITIONS).for_each(|partition| _ = command.arg(stream(partition)));
        command.arg(&last);
        let reply: StreamReadReply = command.query(connection).unwrap();
        for key in reply.keys {
            let partition = (0..PARTITIONS).position(|partition| stream(partition) == key.key);
            entries += key.ids.len();
            last[partition.unwrap()] = key.ids.last().unwrap().id.clone();
        }
    }
    println!(
        "Redis sends up to 1000 of each of {PARTITIONS} streams: {:.0} a second of one core, {:.0} in fact",
        rate(cpu_of_redis(connection) - cpu_before),
        rate(began.elapsed().as_secs_f64())
    );
}

fn start_member(config: Config) {
    let library = CString::new(TSSESSION.path.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string, and loading the library has no other effect.
    let library = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    assert!(!library.is_null());
    let (began, cpu_before) = (Instant::now(), cpu());
    let member = start(config, Host::find().unwrap()).unwrap();
    while member.counters.value(Counter::Inserted) < SESSIONS.into() {
        assert!(
            began.elapsed() < Duration::from_secs(300),
            "{:?}",
            member.counters.each().collect::<Vec<_>>()
        );
        thread::sleep(Duration::from_millis(2));
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu() - cpu_before);
    println!("a member that starts has {SESSIONS} sessions after {took:.2} s; goal 5");
    println!(
        "applied: {:.0} sessions a second of one core; goal 20 000",
        rate(cpu)
    );
}

#[test]
#[ignore = "prints figures"]
fn a_member_catches_up() {
    let redis = Redis::start();
    let file = scratch().join("farm.toml");
    let settings = redis.settings();
    let settings = format!("partitions = {PARTITIONS}\n{settings}timeout = 10\n");
    fs::write(&file, settings).unwrap();
    let config = Config::read(&file).unwrap();
    let client = redis::Client::open(redis.url.as_str()).unwrap();
    let mut connection = client.get_connection().unwrap();

    let messages = seal(&config, &mut connection);
    append(&mut connection, &messages);
    read_all(&mut connection);
    start_member(config);
}
