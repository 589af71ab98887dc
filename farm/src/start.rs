//! Makes this process a member of a farm: the only place that knows all of its threads.

#![forbid(unsafe_code)]

use std::sync::{OnceLock, mpsc};

use crate::config::Config;
use crate::counters::Counter;
use crate::host::Host;
use crate::host::events::Event;
use crate::keys::keeper::Keeper;
use crate::member::Member;
use crate::redis::link::Link;
use crate::seal::{Opener, Sealer};
use crate::sessions::publish;
use crate::sessions::queue::Item;
use crate::sessions::receive;

static MEMBER: OnceLock<Member> = OnceLock::new();

/// Called in handshakes.
fn on_session_event(event: Event, id: &[u8]) {
    let Some(member) = MEMBER.get() else {
        return;
    };
    if let Some(item) = Item::new(event, id)
        && !member.queue.push(item)
    {
        member.counters.count(Counter::Dropped);
    }
}

/// Joins the farm, once in a process. Waits for the current ticket keys for no longer than
/// Redis is given to accept a connection and to answer once.
pub fn start(config: Config, host: Host) -> Result<&'static Member, String> {
    let threads = Threads::new(&config)?;
    let member = Member::new(config, host, threads.sealer.sender());
    MEMBER
        .set(member)
        .map_err(|_| "this process has joined a farm already")?;
    let member = MEMBER.wait();
    threads.start(member)?;
    if !member.host.add_hook(on_session_event) {
        return Err("the host has no hook for TLS sessions".to_owned());
    }
    Ok(member)
}

/// What the threads run with, one connection each. It is made before the first of them starts:
/// if any of it cannot be made, nothing has changed.
struct Threads {
    publisher: Link,
    sealer: Sealer,
    upkeep: Link,
    readers: Vec<(Link, Vec<(u32, Opener)>)>,
    keeper: Option<Keeper>,
}

impl Threads {
    fn new(config: &Config) -> Result<Self, String> {
        let new_link = || Link::new(&config.redis).map_err(|error| format!("redis: {error}"));
        let new_sealer =
            || Sealer::new(&config.farm, &config.secrets[0]).map_err(|error| error.to_string());
        let sealer = new_sealer()?;
        let sender = sealer.sender();
        let new_opener = || {
            Opener::new(&config.farm, &config.secrets, sender).map_err(|error| error.to_string())
        };
        let publisher = new_link()?;
        let partitions: Vec<u32> = (0..config.partitions).collect();
        // The nodes of a Cluster do not wait for each other.
        let partitions_of_a_reader = if publisher.is_cluster() {
            1
        } else {
            partitions.len()
        };
        let readers = partitions.chunks(partitions_of_a_reader).map(|partitions| {
            let openers = partitions.iter().map(|of| Ok((*of, new_opener()?)));
            Ok((new_link()?, openers.collect::<Result<_, String>>()?))
        });
        // The keeper has its own sender, so that one counter serves one thread. It opens what it
        // has written as it opens the sets of others: it may not have heard that Redis took it.
        let keeper = config.ticket_keys.as_ref().map(|times| {
            let (link, opener) = (new_link()?, new_opener()?);
            Ok::<_, String>(Keeper::new(link, new_sealer()?, opener, times.clone()))
        });
        Ok(Self {
            readers: readers.collect::<Result<_, String>>()?,
            keeper: keeper.transpose()?,
            upkeep: new_link()?,
            publisher,
            sealer,
        })
    }

    fn start(self, member: &'static Member) -> Result<(), String> {
        if let Some(mut keeper) = self.keeper {
            let (said, looked) = mpsc::sync_channel(1);
            spawn(member, "farm-keys", move || {
                keeper.step(member);
                // If it took too long, nothing waits any more.
                let _ = said.send(());
                keeper.run(member);
            })?;
            // Before there are handshakes: a key of this member alone would be of no use to others.
            let _ = looked.recv_timeout(member.config.redis.timeout * 2);
        }
        let (publisher, sealer, upkeep) = (self.publisher, self.sealer, self.upkeep);
        spawn(member, "farm-publish", move || {
            publish::run(member, publisher, sealer)
        })?;
        spawn(member, "farm-upkeep", move || {
            publish::keep_up(member, upkeep)
        })?;
        for (link, openers) in self.readers {
            spawn(member, "farm-read", move || {
                receive::run(member, link, openers)
            })?;
        }
        Ok(())
    }
}

fn spawn(
    member: &Member,
    name: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), String> {
    if member.host.spawn(name, Box::new(body)) {
        Ok(())
    } else {
        Err(format!("the thread {name} cannot be started"))
    }
}
