//! The process that the farm runs in: Traffic Server, or a host of libtssession.
//!
//! Its functions are found at run time, so that one file serves every version of Traffic Server and
//! programs that only have libtssession. Only functions of one kind are used in a process:
//! libtssession, loaded into an ATS, has functions with the same names.

pub mod events;
pub mod functions;
pub mod gate;
mod library;
pub mod log;
pub mod per_process;
mod threads;

use std::ffi::{CStr, c_int, c_long, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tssession_ats::{
    CONFIG_DIR_GET, Cont, LIFECYCLE_MESSAGE, LIFECYCLE_PORTS_INITIALIZED, PluginMessage, SUCCESS,
    Server, SessionId, Statistic, TICKET_KEY_UPDATE,
};
use tssession_common::boundary::{Name, guard};
use zeroize::Zeroizing;

use events::{Event, Hooks};
use functions::{Missing, Sessions, TicketKeyUpdate, of_server, server};
use gate::Inside;
use library::Library;
use log::{Level, Log, c_line, report};

// What OpenSSL 3 has and openssl-sys does not declare.
unsafe extern "C" {
    fn ERR_set_mark() -> c_int;
    fn ERR_pop_to_mark() -> c_int;
}

/// Registers the plugin in a Traffic Server, which ends itself if a plugin has not registered. Does
/// nothing in other processes.
pub fn register() -> Result<(), Missing> {
    Ok(Server::register(c"tssession_farm").map(drop)?)
}

/// Answers an order; `None`: the answer comes later.
type Answer = fn(&[&str]) -> Option<(Level, String)>;

/// Calls `answer` for each order of an operator that begins with `farm`
/// (`traffic_ctl plugin msg tssession 'farm ORDER'`), with the words after that, and logs its answer.
/// Only the first call of this function counts. A server without such messages has no orders.
pub fn hear_of_orders(answer: Answer) {
    static ANSWER: OnceLock<Answer> = OnceLock::new();
    unsafe extern "C" fn on_message(_cont: Cont, _event: c_int, message: *mut c_void) -> c_int {
        let body = || {
            // SAFETY: the server passes a message that lives during the call.
            let order = unsafe { PluginMessage::with_tag(message, c"tssession") };
            let order = String::from_utf8_lossy(order.unwrap_or_default());
            let words: Vec<&str> = order.split_ascii_whitespace().collect();
            if let ["farm", order @ ..] = &words[..]
                && let Some(answer) = ANSWER.get()
                && let Some((level, line)) = answer(order)
            {
                Log::find().write(level, &line);
            }
            0
        };
        guard(Name::of(&body), report, body)
    }
    if let Some(server) = Server::of_process()
        && ANSWER.set(answer).is_ok()
    {
        let _ = server.on_lifecycle(LIFECYCLE_MESSAGE, on_message);
    }
}

/// The name of this machine and the ID of this process, for operators.
pub fn name_of_process() -> String {
    let mut name = [0_u8; 65];
    // SAFETY: the pointer and the length are those of `name`, but for the NUL at its end.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
    format!("{}/{}", name.to_string_lossy(), std::process::id())
}

/// The effective user of this process.
pub fn effective_user() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// The functions of the process.
pub struct Host {
    log: Log,
    server: Option<Server>,
    sessions: Sessions,
    hooks: Hooks,
    /// The functions of the server and of libtssession: either may encrypt the tickets.
    update_ticket_keys: Vec<TicketKeyUpdate>,
    /// The statistics, in the order of the numbers of [`Host::show`].
    statistics: OnceLock<Vec<Option<Statistic>>>,
}

impl Host {
    /// Finds the functions. A Traffic Server whose own session cache is on shares the sessions in it;
    /// every other process shares those of libtssession.
    pub fn find() -> Result<Self, Missing> {
        let log = Log::find();
        let server = server()?;
        let own = server.and_then(of_server);
        let is_off = server
            .and_then(Server::own_session_cache)
            .is_some_and(|(_, mode)| mode != OWN_CACHE);
        let (sessions, library) = match own {
            Some(own) if !is_off => (own, None),
            Some(own) => match Library::open() {
                Ok(library) => (library.sessions()?, Some(library)),
                Err(missing) => {
                    let text = format!(
                        "the server's own session cache is off, and {missing}: ticket keys are shared, sessions are not"
                    );
                    log.write(Level::Warning, &text);
                    (own, None)
                }
            },
            None => {
                let library = Library::open()?;
                (library.sessions()?, Some(library))
            }
        };
        let mut update_ticket_keys: Vec<TicketKeyUpdate> = server
            .and_then(|server| server.find(&TICKET_KEY_UPDATE))
            .into_iter()
            .collect();
        if let Some(library) = library {
            let update = library.update_ticket_keys()?;
            if !update_ticket_keys
                .iter()
                .any(|known| ptr::fn_addr_eq(*known, update))
            {
                update_ticket_keys.push(update);
            }
        }
        let (sessions, hooks) = sessions;
        Ok(Self {
            log,
            server,
            sessions,
            hooks,
            update_ticket_keys,
            statistics: OnceLock::new(),
        })
    }

    /// Resolves a relative path against ATS's configuration directory; in other hosts the path stays
    /// as it is.
    pub fn resolve(&self, file: &Path) -> PathBuf {
        let folder = self
            .server
            .and_then(|server| server.folder(&CONFIG_DIR_GET));
        match folder {
            Some(folder) => Path::new(&*folder.to_string_lossy()).join(file),
            None => file.to_owned(),
        }
    }

    /// Calls `body` when the host becomes ready for the farm; false: it is ready already. Only the
    /// first `body` counts. One thread at a time calls this.
    ///
    /// ATS loads plugins before it has a session cache. Later it makes ticket keys, which would
    /// replace the farm's. It opens its ports after `body` has returned.
    pub fn call_when_ready(&self, body: fn()) -> bool {
        static READY: OnceLock<fn()> = OnceLock::new();
        static IS_EXPECTED: AtomicBool = AtomicBool::new(false);
        unsafe extern "C" fn on_ready(_cont: Cont, _event: c_int, _data: *mut c_void) -> c_int {
            let call = || {
                READY.get().map_or(0, |body| {
                    body();
                    0
                })
            };
            guard(Name::of(&call), report, call)
        }
        self.server.is_some_and(|server| {
            READY.get_or_init(|| body);
            if !IS_EXPECTED.load(Ordering::Relaxed) {
                let added = server.on_lifecycle(LIFECYCLE_PORTS_INITIALIZED, on_ready);
                IS_EXPECTED.store(added.is_ok(), Ordering::Relaxed);
            }
            IS_EXPECTED.load(Ordering::Relaxed)
        })
    }

    /// The DER bytes of a session; `None`: there is none.
    pub fn get_der(&self, id: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        /// More than nearly every session needs.
        const USUAL: usize = 2048;
        /// Larger than any session. This ends the loop whatever the host returns.
        const MOST: usize = 1 << 24;
        let id = SessionId::new(id)?;
        let mut space = USUAL;
        // Tries again for a session that is larger, or was replaced by a larger one.
        while space <= MOST {
            let mut der = Zeroizing::new(vec![0; space]);
            let mut len = space as c_int;
            // SAFETY: the pointers are valid during the call, and `len` is the space there.
            let needed =
                unsafe { (self.sessions.get_buffer)(&id, der.as_mut_ptr().cast(), &mut len) };
            let needed = usize::try_from(needed).ok().filter(|needed| *needed > 0)?;
            if needed <= space {
                der.truncate(needed);
                return Some(der);
            }
            space = needed;
        }
        None
    }

    /// Inserts a session.
    pub fn insert(&self, id: &[u8], der: &[u8]) -> Result<(), NotInserted> {
        let id = SessionId::new(id).ok_or(NotInserted::NotASession)?;
        let session = Session::decode(der).ok_or(NotInserted::NotASession)?;
        if session.may_carry_early_data() {
            return Err(NotInserted::EarlyData);
        }
        // SAFETY: both live during the call, and the host does not keep the session.
        let result = unsafe { (self.sessions.insert)(&id, session.0.cast(), ptr::null_mut()) };
        if result == SUCCESS {
            Ok(())
        } else {
            Err(NotInserted::NotASession)
        }
    }

    /// Removes a session.
    pub fn remove(&self, id: &[u8]) -> bool {
        let Some(id) = SessionId::new(id) else {
            return false;
        };
        // SAFETY: the pointer is valid during the call.
        unsafe { (self.sessions.remove)(&id) == SUCCESS }
    }

    /// Makes ticket keys active: a sequence of 48-byte keys, of which the first encrypts.
    pub fn update_ticket_keys(&self, keys: &[u8]) -> bool {
        let Ok(len) = c_int::try_from(keys.len()) else {
            return false;
        };
        self.update_ticket_keys.iter().fold(true, |all, update| {
            // The host's function is allowed to change them.
            let mut keys = Zeroizing::new(keys.to_vec());
            // SAFETY: the pointer and the length are those of `keys`, during the call.
            let done = unsafe { update(keys.as_mut_ptr().cast(), len) };
            all && done == SUCCESS
        })
    }

    /// Lets the host call `hook` with the ID of each session that a handshake makes or a failed
    /// connection removes, on the thread of the connection. Only the first hook counts, and a forked
    /// child has it too; false: the host refused.
    ///
    /// ATS calls it before it stores the session, so the session can be read only later.
    pub fn add_hook(&self, hook: fn(Event, &[u8])) -> bool {
        self.hooks.add(hook)
    }

    /// Writes a line to the host's log.
    pub fn log(&self, level: Level, line: &str) {
        self.log.write(level, line);
    }

    /// Starts a thread that can call the host's functions: those of ATS require a thread that ATS made.
    /// The thread receives no signals of the process. False: it could not be started.
    pub fn spawn(&self, name: &'static str, body: Box<dyn FnOnce() + Send>) -> bool {
        threads::spawn(self.server, self.log, name, body)
    }

    /// Updates the statistics of ATS; does nothing in other hosts. One thread at a time calls this,
    /// with the same names in the same order each time.
    pub fn show(&self, numbers: impl Iterator<Item = (String, i64)>) {
        let Some(statistics) = self.server.and_then(Server::statistics) else {
            return;
        };
        let numbers: Vec<_> = numbers.collect();
        let shown = self.statistics.get_or_init(|| {
            let names = numbers.iter().map(|(name, _)| c_line(name));
            names.map(|name| statistics.create(&name)).collect()
        });
        for (statistic, (_, value)) in shown.iter().zip(numbers) {
            if let Some(statistic) = statistic {
                statistics.set(*statistic, value);
            }
        }
    }
}

/// Why a session was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInserted {
    /// The bytes are not exactly one session, or the host refused it.
    NotASession,
    /// It may carry early data, which each member that has it would accept once.
    EarlyData,
}

/// Whether these DER bytes are a session that may carry early data; also if they are not a session.
pub fn may_carry_early_data(der: &[u8]) -> bool {
    Session::decode(der).is_none_or(|session| session.may_carry_early_data())
}

/// A decoded session, which no connection uses.
struct Session(*mut openssl_sys::SSL_SESSION, Inside);

impl Session {
    /// `None`: the bytes are not exactly one session.
    fn decode(der: &[u8]) -> Option<Self> {
        let len = c_long::try_from(der.len()).ok()?;
        let inside = gate::enter();
        let mut end = der.as_ptr();
        // SAFETY: `end` and `len` are those of `der`. The result is null or one reference to
        // a new session. The error queue is this thread's.
        let session = unsafe {
            ERR_set_mark();
            let session = openssl_sys::d2i_SSL_SESSION(ptr::null_mut(), &mut end, len);
            ERR_pop_to_mark();
            session
        };
        let session = (!session.is_null()).then_some(session)?;
        let session = Self(session, inside);
        // OpenSSL reads as much as it needs, and does not report that there is more.
        (end == der.as_ptr_range().end).then_some(session)
    }

    fn may_carry_early_data(&self) -> bool {
        // SAFETY: the session is this one's.
        unsafe { openssl_sys::SSL_SESSION_get_max_early_data(self.0) > 0 }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the reference is this one's.
        unsafe { openssl_sys::SSL_SESSION_free(self.0) }
    }
}

/// The mode in which a server's own session cache has functions for plugins.
const OWN_CACHE: i64 = 2;
