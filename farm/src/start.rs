//! Makes this process a member of a farm. Only this module knows all of its threads.

#![forbid(unsafe_code)]

use std::sync::mpsc;

use crate::config::Config;
use crate::counters::Counter;
use crate::host::Host;
use crate::host::events::Event;
use crate::host::gate;
use crate::host::per_process::{PerProcess, watch_forks};
use crate::keys::keeper::Keeper;
use crate::member::Member;
use crate::redis::link::Link;
use crate::seal::{Opener, Sealer};
use crate::sessions::publish;
use crate::sessions::queue::Item;
use crate::sessions::receive;

static MEMBER: PerProcess<Member> = PerProcess::new();

/// The member that this process is; the error says why it is not one.
pub fn member() -> Result<&'static Member, &'static str> {
    MEMBER.get().ok_or(if MEMBER.is_of_parent() {
        "the farm runs in the parent process"
    } else {
        "the farm has not been started"
    })
}

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

/// Joins the farm, once in a process. One thread at a time calls this. Waits for the farm's ticket
/// keys, at most for the time that Redis has to accept a connection and to answer once. After an error
/// no thread is left, and the call can be repeated.
pub fn start(config: Config, host: Host) -> Result<&'static Member, String> {
    if MEMBER.get().is_some() {
        return Err("this process is a member of a farm already".to_owned());
    }
    let threads = Threads::new(&config)?;
    let sender = threads.sealer.sender();
    let patience = config.redis.timeout * 2;
    let (said, looked) = mpsc::sync_channel(1);
    let doors = threads.start(&host, said)?;
    if !watch_forks() {
        return Err("no memory to register the fork handlers".to_owned());
    }
    if !gate::watch_end() {
        return Err("no memory to register the exit function".to_owned());
    }
    if !host.add_hook(on_session_event) {
        return Err("the host refuses the hook for TLS sessions".to_owned());
    }
    let member = MEMBER.set(Member::new(config, host, sender));
    // A thread waits at each door. The first is the keeper's, if there is one.
    let mut doors = doors.into_iter();
    if let Some(door) = doors.next() {
        let _ = door.send(member);
    }
    // Wait before there are handshakes: other members could not use a key of this member alone. This
    // is an error at once if there is no keeper.
    let _ = looked.recv_timeout(patience);
    doors.for_each(|door| _ = door.send(member));
    Ok(member)
}

/// What a thread waits for. If it is dropped, the start has failed and the thread ends.
type Door = mpsc::Sender<&'static Member>;

/// What the threads need, with one connection each. All of it is made before the first thread starts:
/// if something cannot be made, nothing has changed.
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
        // In a Cluster each partition has its own reader, so that no node waits for another.
        let partitions_of_a_reader = if publisher.is_cluster() {
            1
        } else {
            partitions.len()
        };
        let readers = partitions.chunks(partitions_of_a_reader).map(|partitions| {
            let openers = partitions.iter().map(|of| Ok((*of, new_opener()?)));
            Ok((new_link()?, openers.collect::<Result<_, String>>()?))
        });
        // The keeper has its own sender, so that each counter serves one thread. It opens its own sets
        // as it opens those of others: it may have missed the answer that Redis accepted one.
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

    /// Starts the threads; each waits at its door. The keeper uses `said` after its first look at the
    /// ticket keys.
    fn start(self, host: &Host, said: mpsc::SyncSender<()>) -> Result<Vec<Door>, String> {
        let mut doors = Vec::new();
        let mut spawn = |name, body| {
            doors.push(spawn(host, name, body)?);
            Ok::<_, String>(())
        };
        if let Some(mut keeper) = self.keeper {
            let body = move |member| {
                keeper.step(member);
                // If that took too long, `start` no longer waits.
                let _ = said.send(());
                keeper.run(member);
            };
            spawn("farm-keys", Box::new(body))?;
        }
        let (publisher, sealer, upkeep) = (self.publisher, self.sealer, self.upkeep);
        let publish = move |member| publish::run(member, publisher, sealer);
        spawn("farm-publish", Box::new(publish))?;
        spawn(
            "farm-upkeep",
            Box::new(move |member| publish::keep_up(member, upkeep)),
        )?;
        for (link, openers) in self.readers {
            let read = move |member| receive::run(member, link, openers);
            spawn("farm-read", Box::new(read))?;
        }
        Ok(doors)
    }
}

type Body = Box<dyn FnOnce(&'static Member) + Send>;

fn spawn(host: &Host, name: &'static str, body: Body) -> Result<Door, String> {
    let (door, opens) = mpsc::channel();
    let body = move || {
        if let Ok(member) = opens.recv() {
            body(member);
        }
    };
    if host.spawn(name, Box::new(body)) {
        Ok(door)
    } else {
        Err(format!("the thread {name} cannot be started"))
    }
}
