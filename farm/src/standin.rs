// STAND-IN for `config`, `queue` and `Farm`, so that the doors can be tried before those are
// there. It is no farm: it does with the host's functions, on a thread of its own, what the
// lines of the "settings" say, and each session that a handshake makes, it inserts again under
// an ID whose first byte is changed.

#[allow(missing_docs)]
pub mod queue {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Event {
        New,
        Removed,
    }
}

#[allow(missing_docs)]
pub mod config {
    pub struct Config {
        pub text: String,
    }
    impl Config {
        pub fn read(path: &std::path::Path) -> Result<Self, String> {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            if text.contains("wrong") {
                return Err(format!("{}: wrong: there is no such setting", path.display()));
            }
            Ok(Self { text })
        }
    }
}

#[allow(missing_docs)]
pub struct Farm {
    host: host::Host,
    counters: counters::Counters,
    events: std::sync::mpsc::Sender<(queue::Event, Vec<u8>)>,
}

static STANDIN: std::sync::OnceLock<Farm> = std::sync::OnceLock::new();

#[allow(missing_docs)]
impl Farm {
    pub fn start(config: config::Config, host: host::Host) -> Result<&'static Self, String> {
        use host::Level::{Error, Warning};
        let (events, to_do) = std::sync::mpsc::channel();
        let farm = STANDIN.get_or_init(|| Self {
            host,
            counters: counters::Counters::default(),
            events,
        });
        let keys = config.text.contains("keys");
        let started = farm.host.spawn(
            "farm publisher",
            Box::new(move || {
                farm.host.show(&farm.counters);
                if keys {
                    let set = farm.host.update_ticket_keys(&[0x4b; 48]);
                    farm.host.log(Warning, &format!("ticket keys: {set}"));
                }
                for (event, mut id) in to_do {
                    let id: &mut Vec<u8> = &mut id;
                    if event == queue::Event::Removed {
                        farm.counters.count(counters::Counter::Removed);
                        continue;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    let Some(der) = farm.host.get_der(id) else {
                        farm.counters.count(counters::Counter::Missing);
                        farm.host.log(Error, "GetBuffer: nothing");
                        continue;
                    };
                    farm.counters.count(counters::Counter::Published);
                    id[0] ^= 0xff;
                    let inserted = farm.host.insert(id, &der)
                        && farm.host.get_der(id).is_some_and(|copy| *copy == *der);
                    let trailing = [&der[..], b"x"].concat();
                    let refused = !farm.host.insert(id, &trailing) && !farm.host.insert(id, b"");
                    let removed = farm.host.remove(id) && farm.host.get_der(id).is_none();
                    if inserted {
                        farm.counters.count(counters::Counter::Inserted);
                    }
                    farm.host.show(&farm.counters);
                    farm.host.log(Warning, &format!(
                        "session of {} bytes: inserted {inserted}, refused {refused}, removed {removed}",
                        der.len()
                    ));
                }
            }),
        );
        let hooked = farm.host.add_hook(|event, id| {
            if let Some(farm) = STANDIN.get() {
                let _ = farm.events.send((event, id.to_vec()));
            }
        });
        (started && hooked).then_some(farm).ok_or_else(|| "not started".into())
    }

    pub fn counters(&self) -> &counters::Counters {
        &self.counters
    }
}
