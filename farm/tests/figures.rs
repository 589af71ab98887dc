//! What a member can do, in numbers: `make farm-figures` prints them. What is asserted is that
//! nothing is lost; how long it takes, is not.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use common::{Redis, scratch};
use tssession_farm::Farm;
use tssession_farm::config::Config;
use tssession_farm::counters::Counter;
use tssession_farm::host::Host;
use tssession_farm::message::encode_session;
use tssession_farm::queue::{Event, Item, Queue};
use tssession_farm::seal::{Kind, Sealer, partition};

const SESSIONS: u32 = 100_000;
const PARTITIONS: u32 = 16;

/// A session of TLS 1.2, good for long.
const DER: &[u8] = include_bytes!("../../fuzz/seeds/der/tls12");

/// Seconds of the processor that this process has used.
fn cpu() -> f64 {
    // SAFETY: the structure is written to, and of numbers only.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

#[test]
#[ignore = "prints figures"]
fn a_member_catches_up() {
    let redis = Redis::start();
    let secret = scratch().join("secret");
    let _ = fs::remove_file(&secret);
    fs::write(&secret, [7; 32]).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = scratch().join("farm.toml");
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let text = format!(
        "farm = \"figures\"\nsecrets = [\"secret\"]\npartitions = {PARTITIONS}\n[redis]\nurls = [\"{url}\"]\ntimeout = 10\n"
    );
    fs::write(&settings, text).unwrap();
    let config = Config::read(&settings).unwrap();

    // What another member has sent.
    let mut sealer = Sealer::new("figures", &config.secrets[0]).unwrap();
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let memory = |connection: &mut redis::Connection| -> u64 {
        let info: redis::InfoDict = redis::cmd("INFO").query(connection).unwrap();
        info.get("used_memory").unwrap()
    };
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut connection).unwrap();
    let now = seconds * 1000 + micros / 1000;
    let before = memory(&mut connection);
    let (began, mut bytes) = (Instant::now(), 0);
    let ids: Vec<[u8; 32]> = (0..SESSIONS)
        .map(|number| {
            let mut id = [7; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            id
        })
        .collect();
    for ids in ids.chunks(500) {
        let mut pipe = redis::pipe();
        for id in ids {
            let subject = sealer.subject(id);
            let sealed = sealer.seal(Kind::Session, &subject, now, &encode_session(id, DER));
            let sealed = sealed.unwrap();
            bytes += sealed.len();
            let stream = format!(
                "tssession:{{figures:{}}}:sessions",
                partition(&subject, PARTITIONS)
            );
            pipe.cmd("XADD")
                .arg(stream)
                .arg("*")
                .arg("m")
                .arg(sealed)
                .ignore();
        }
        pipe.exec(&mut connection).unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    let count = f64::from(SESSIONS);
    println!(
        "sealed and appended: {:.0} sessions a second, {} bytes a message",
        count / took,
        bytes / SESSIONS as usize
    );
    let in_redis = (memory(&mut connection) - before) as f64 / count;
    println!(
        "memory of Redis: {in_redis:.0} bytes a session of {} bytes of DER",
        DER.len()
    );

    let library = common::built("libtssession.so");
    let library = std::ffi::CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string; the library has no effects but to be there.
    let library = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    assert!(!library.is_null());
    let (began, cpu_before) = (Instant::now(), cpu());
    let farm = Farm::start(config, Host::find().unwrap()).unwrap();
    while farm.counters().value(Counter::Inserted) < SESSIONS.into() {
        assert!(
            began.elapsed() < Duration::from_secs(300),
            "{}",
            farm.counters().text()
        );
        thread::sleep(Duration::from_millis(2));
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu() - cpu_before);
    println!(
        "caught up with {SESSIONS} sessions in {took:.2} s, {:.0} a second of one core",
        count / cpu
    );
}

/// What a handshake pays: the event goes into the queue, and the publisher may have to be woken.
#[test]
#[ignore = "prints figures"]
fn an_event_is_handed_over() {
    const EVENTS: u32 = 200_000;
    let queue = Queue::new(1 << 20);
    let item = Item::new(Event::New, &[7; 32]).unwrap();
    for pause in [Duration::ZERO, Duration::from_micros(50)] {
        let events = if pause.is_zero() { EVENTS } else { EVENTS / 20 };
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut taken, mut all) = (Vec::new(), 0);
                while all < events as usize {
                    taken.clear();
                    queue.take(&mut taken, 512, Duration::from_secs(10));
                    all += taken.len();
                }
            });
            let mut times: Vec<u32> = (0..events)
                .map(|_| {
                    let until = Instant::now() + pause;
                    while Instant::now() < until {
                        std::hint::spin_loop();
                    }
                    let began = Instant::now();
                    assert!(queue.push(item));
                    began.elapsed().as_nanos() as u32
                })
                .collect();
            times.sort_unstable();
            let at = |share: f64| times[(f64::from(events) * share) as usize];
            println!(
                "handed over, one each {pause:?}: median {} ns, 99 % {} ns, 99.9 % {} ns",
                at(0.5),
                at(0.99),
                at(0.999)
            );
        });
    }
}
