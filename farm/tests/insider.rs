//! Messages of another member that this one refuses.

use std::ffi::CString;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use foreign_types::ForeignType as _;
use openssl::ssl::SslSession;
use tssession_farm::{Config, Counter, Host, Kind, Sealer, encode_session, partition, start};
use tssession_test_support::{Redis, TSSESSION, scratch};

fn comes_true(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30));
        thread::sleep(Duration::from_millis(10));
    }
}

/// A session with early data, which every member would accept once. And a key set with a key that
/// encrypts only in ten years: until then no other key would be made.
#[test]
fn early_data_and_keys_of_the_far_future_are_refused() {
    let library = CString::new(TSSESSION.path.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string, and loading the library has no other effect.
    let library = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    assert!(!library.is_null());
    let redis = Redis::start();
    let file = scratch().join("farm.toml");
    let times = "[ticket_keys]\nrotation = 1\nspread = 0.2\nlifetime = 10\nlease = 1\n";
    fs::write(&file, format!("{}{times}", redis.settings())).unwrap();
    let config = Config::read(&file).unwrap();
    let mut sealer = Sealer::new("test", &config.secrets[0]).unwrap();
    let partitions = config.partitions;
    let client = redis::Client::open(redis.url.as_str()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut connection).unwrap();
    let now = seconds * 1000;
    let member = start(config, Host::find().unwrap()).unwrap();
    let count = |counter| member.counters.value(counter);

    let session = SslSession::from_der(include_bytes!("../../fuzz/seeds/der/tls13")).unwrap();
    // SAFETY: the session is ours alone.
    unsafe { openssl_sys::SSL_SESSION_set_max_early_data(session.as_ptr(), 1) };
    let subject = sealer.subject(b"id");
    let plain = encode_session(b"id", &session.to_der().unwrap());
    let sealed = sealer.seal(Kind::Session, &subject, now, &plain).unwrap();
    let stream = partition(&subject, partitions);
    let stream = format!("tssession:{{test:{stream}}}:sessions");
    let mut append = redis::cmd("XADD");
    append.arg(stream).arg("*").arg("m").arg(sealed);
    append.exec(&mut connection).unwrap();
    comes_true(|| count(Counter::RefusedEarlyData) == 1);
    assert_eq!(count(Counter::Inserted), 0);

    // A set without a lease, with one key, made now.
    let mut set = vec![0; 8];
    set.push(1);
    set.extend([7; 48]);
    set.extend(now.to_be_bytes());
    set.extend((now + 10 * 365 * 86_400_000).to_be_bytes());
    let sealed = sealer.seal(Kind::KeySet, &[0; 32], now, &set).unwrap();
    let mut replace = redis::cmd("SET");
    replace.arg("tssession:{test}:keys").arg(sealed);
    replace.exec(&mut connection).unwrap();
    comes_true(|| count(Counter::RefusedStale) >= 1);
    let generation = count(Counter::KeyGeneration);
    comes_true(|| count(Counter::KeyGeneration) >= generation + 3);
}
