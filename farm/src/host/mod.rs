//! The process that the farm is in: Traffic Server, or a host of libtssession.
//!
//! Its functions are found at run time, so that one file serves each version of Traffic Server,
//! and programs that only have libtssession. A process is of one kind: its names are not mixed
//! with another's, because libtssession, loaded into an ATS, has functions of the same names.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uchar, c_void};
use std::fmt;
use std::io::Write as _;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::ptr;
use std::slice;
use std::sync::OnceLock;
use std::thread;

use tssession_ats::{
    CONFIG_DIR_GET, Cont, DebugTag, ERROR, EVENT_SESSION_NEW, EVENT_SESSION_REMOVE, EventFunc,
    HTTP_HOOK_ADD, LIFECYCLE_PORTS_INITIALIZED, Report, SESSION_GET_BUFFER, SESSION_INSERT,
    SESSION_REMOVE, SUCCESS, Server, SessionId, Statistic, THREAD_CREATE, TICKET_KEY_UPDATE,
    VERSION_MAJOR, WARNING, find_symbol,
};
use zeroize::Zeroizing;

use crate::counters::Counters;
use crate::sessions::queue::Event;

/// Whether a function did its work, for C. As in `<ts/ts.h>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum TSReturnCode {
    /// It did not.
    TS_ERROR = -1,
    /// It did.
    TS_SUCCESS = 0,
}

type GetBuffer = unsafe extern "C" fn(*const SessionId, *mut c_char, *mut c_int) -> c_int;
/// ATS 7 to 8.1 and the C name of libtssession have no third argument: it is then not read.
type Insert = unsafe extern "C" fn(*const SessionId, *mut c_void, *mut c_void) -> c_int;
type Remove = unsafe extern "C" fn(*const SessionId) -> c_int;
type TicketKeyUpdate = unsafe extern "C" fn(*mut c_char, c_int) -> c_int;
type SessionHookAdd = unsafe extern "C" fn(EventFunc, Cont) -> c_int;

// What OpenSSL 3 has and openssl-sys does not declare.
unsafe extern "C" {
    fn ERR_set_mark() -> c_int;
    fn ERR_pop_to_mark() -> c_int;
}

/// What a process lacks to be a member of a farm.
#[derive(Debug)]
pub enum Missing {
    /// It is a Traffic Server without this.
    InServer(tssession_ats::Missing),
    /// It has libtssession without this function.
    Function(&'static CStr),
    /// It is a Traffic Server that is too old.
    Version(c_int),
    /// It has no functions for sessions, and libtssession cannot be loaded.
    Library(String),
}

impl From<tssession_ats::Missing> for Missing {
    fn from(missing: tssession_ats::Missing) -> Self {
        Self::InServer(missing)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InServer(missing) => missing.fmt(f),
            Self::Function(name) => write!(f, "the host has no {}", name.to_string_lossy()),
            Self::Version(major) => write!(
                f,
                "Traffic Server {major} is too old; it must be 9 or newer"
            ),
            Self::Library(error) => write!(f, "libtssession cannot be loaded: {error}"),
        }
    }
}

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be, and the farm goes on.
    Warning,
    /// All goes as it should. Not written where the host has no debug log.
    Debug,
}

/// Where log lines go: to ATS, else to stderr.
#[derive(Clone, Copy)]
pub struct Log {
    error: Option<Report>,
    warning: Option<Report>,
    debug: Option<DebugTag>,
}

impl Log {
    /// Looks for the functions of the process. A host that is no Traffic Server may have
    /// them too, as libtssession allows it.
    pub fn find() -> Self {
        let error = ERROR.find();
        Self {
            error,
            warning: WARNING.find().or(error),
            debug: DebugTag::find(c"tssession_farm"),
        }
    }

    /// Writes a line.
    pub fn write(&self, level: Level, line: &str) {
        let (report, word) = match level {
            Level::Error => (self.error, "ERROR"),
            Level::Warning => (self.warning, "WARNING"),
            Level::Debug => {
                if let Some(debug) = self.debug.filter(DebugTag::is_wanted) {
                    debug.write(&c_line(line));
                }
                return;
            }
        };
        match report {
            Some(report) => {
                let line = c_line(line);
                // SAFETY: the host's function takes a printf format and what that names: one
                // C string, of which it keeps nothing.
                unsafe { report(c"tssession_farm: %s".as_ptr(), line.as_ptr()) };
            }
            None => {
                // In one piece. A failure has nobody to tell.
                let line = format!("tssession_farm: {word}: {}\n", one_line(line));
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
        }
    }
}

/// Without what would end it early, or have a terminal do something: parts of it may be what
/// somebody has answered in Redis's place.
fn one_line(line: &str) -> String {
    line.replace(char::is_control, " ")
}

/// A line for C.
fn c_line(line: &str) -> CString {
    CString::new(one_line(line)).unwrap_or_default()
}

/// The functions for sessions.
struct Sessions {
    get_buffer: GetBuffer,
    insert: Insert,
    remove: Remove,
}

/// How one hears of what handshakes do.
enum Hooks {
    /// `TSHttpHookAdd` with the number of `TS_SSL_SESSION_HOOK`.
    Server { session_hook: c_int },
    /// `TSSslSessionHookAdd`.
    Library { add: SessionHookAdd },
}

/// A Traffic Server that is new enough.
fn server() -> Result<Option<Server>, Missing> {
    let Some(server) = Server::of_process() else {
        return Ok(None);
    };
    let version = server.need(&VERSION_MAJOR)?;
    // SAFETY: takes nothing.
    match unsafe { version() } {
        major @ ..9 => Err(Missing::Version(major)),
        _ => Ok(Some(server)),
    }
}

/// A server's own functions for sessions and its hook; `None` for one that has no such
/// hook, as from version 11 on, which declares functions that it does not have.
fn of_server(server: Server) -> Result<Option<(Sessions, Hooks)>, Missing> {
    let Some(session_hook) = server.hook_number(c"TS_SSL_SESSION_HOOK") else {
        return Ok(None);
    };
    let sessions = Sessions {
        get_buffer: server.need(&SESSION_GET_BUFFER)?,
        insert: server.need(&SESSION_INSERT)?,
        remove: server.need(&SESSION_REMOVE)?,
    };
    Ok(Some((sessions, Hooks::Server { session_hook })))
}

/// libtssession, as the process has got it already, or loaded now, for ever.
struct Library {
    handle: *mut c_void,
}

impl Library {
    const HOOK: &CStr = c"TSSslSessionHookAdd";

    fn open() -> Result<Self, Missing> {
        // SAFETY: this is the type that the library declares the function with.
        if unsafe { find_symbol::<SessionHookAdd>(libc::RTLD_DEFAULT, Self::HOOK) }.is_some() {
            let handle = libc::RTLD_DEFAULT;
            return Ok(Self { handle });
        }
        const FILE: &CStr = c"libtssession.so.0";
        // Whoever loaded it may have kept its names to himself. A second copy would be a
        // second cache: the loader knows the one that is there by its SONAME.
        // SAFETY: the name is a C string; what the library does when it is loaded is sound.
        let handle = unsafe { libc::dlopen(FILE.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: this thread's last message is a C string until the next call.
            let error = unsafe { CStr::from_ptr(libc::dlerror()) };
            return Err(Missing::Library(error.to_string_lossy().into_owned()));
        }
        Ok(Self { handle })
    }

    /// # Safety
    /// As for [`find_symbol`].
    unsafe fn need<F: Copy>(&self, name: &'static CStr) -> Result<F, Missing> {
        // SAFETY: passed on to the caller.
        unsafe { find_symbol(self.handle, name) }.ok_or(Missing::Function(name))
    }

    fn sessions(&self) -> Result<(Sessions, Hooks), Missing> {
        // SAFETY: these are the types that the library declares the functions with, but for
        // `Insert`, whose third argument it does not read.
        unsafe {
            let sessions = Sessions {
                get_buffer: self.need(c"TSSslSessionGetBuffer")?,
                insert: self.need(c"TSSslSessionInsert")?,
                remove: self.need(c"TSSslSessionRemove")?,
            };
            let add = self.need(Self::HOOK)?;
            Ok((sessions, Hooks::Library { add }))
        }
    }

    /// Its result is always set.
    fn update_ticket_keys(&self) -> Result<TicketKeyUpdate, Missing> {
        // SAFETY: this is the type that the library declares the function with.
        unsafe { self.need(c"TSSslTicketKeyUpdate") }
    }
}

/// The functions of the process.
pub struct Host {
    log: Log,
    server: Option<Server>,
    sessions: Sessions,
    hooks: Hooks,
    /// The server's, and those of libtssession: either may have the tickets.
    update_ticket_keys: Vec<TicketKeyUpdate>,
    /// In the order of [`Counters::each`].
    statistics: OnceLock<Vec<Option<Statistic>>>,
}

impl Host {
    /// Finds them. A Traffic Server whose own session cache is on has its own sessions shared,
    /// every other process those of libtssession.
    pub fn find() -> Result<Self, Missing> {
        let log = Log::find();
        let server = server()?;
        let own = server.map_or(Ok(None), of_server)?;
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

    /// What ATS wants of each plugin, and nobody else. `TSPluginInit` only.
    pub fn register(&self) -> bool {
        self.server
            .is_none_or(|server| server.register(c"tssession_farm").is_ok())
    }

    /// Where a plugin of ATS looks for a file that is named without a folder.
    pub fn resolve(&self, file: &Path) -> PathBuf {
        let folder = self
            .server
            .and_then(|server| server.folder(&CONFIG_DIR_GET));
        match folder {
            Some(folder) => Path::new(&*folder.to_string_lossy()).join(file),
            None => file.to_owned(),
        }
    }

    /// Has `body` called as soon as the host can do what is asked of it; false: it can already.
    ///
    /// ATS loads plugins before it has a session cache, and makes ticket keys of its own
    /// afterwards, which would replace ours. Its ports are opened after `body` has returned.
    pub fn call_when_ready(&self, body: fn()) -> bool {
        static READY: OnceLock<fn()> = OnceLock::new();
        unsafe extern "C" fn on_ready(_cont: Cont, _event: c_int, _data: *mut c_void) -> c_int {
            if let Some(body) = READY.get() {
                let _ = catch_unwind(body);
            }
            0
        }
        self.server.is_some_and(|server| {
            READY.set(body).is_err()
                || server
                    .on_lifecycle(LIFECYCLE_PORTS_INITIALIZED, on_ready)
                    .is_ok()
        })
    }

    /// The DER bytes of a session; `None`: there is none.
    pub fn get_der(&self, id: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        /// More than nearly every session needs.
        const USUAL: usize = 2048;
        /// No session is as large; it ends the loop whatever the host says.
        const MOST: usize = 1 << 24;
        let id = SessionId::new(id)?;
        let mut space = USUAL;
        // More than once for a session that is larger, or has been replaced by a larger one.
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

    /// Inserts a session; false: the bytes are not exactly one, or the host did not take it.
    pub fn insert(&self, id: &[u8], der: &[u8]) -> bool {
        let (Some(id), Ok(len)) = (SessionId::new(id), c_long::try_from(der.len())) else {
            return false;
        };
        let mut end = der.as_ptr();
        // SAFETY: `end` and `len` are those of `der`. The result is null or one reference to
        // a new session, which the host does not keep. The error queue is this thread's.
        unsafe {
            ERR_set_mark();
            let session = openssl_sys::d2i_SSL_SESSION(ptr::null_mut(), &mut end, len);
            ERR_pop_to_mark();
            if session.is_null() {
                return false;
            }
            // It reads as much as it needs, and does not say that there is more.
            let inserted = end == der.as_ptr_range().end
                && (self.sessions.insert)(&id, session.cast(), ptr::null_mut()) == SUCCESS;
            openssl_sys::SSL_SESSION_free(session);
            inserted
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

    /// Puts ticket keys in force: a run of 48-byte keys, of which the first encrypts.
    pub fn update_ticket_keys(&self, keys: &[u8]) -> bool {
        let Ok(len) = c_int::try_from(keys.len()) else {
            return false;
        };
        // The host's function takes a pointer to what it may change.
        let mut keys = Zeroizing::new(keys.to_vec());
        self.update_ticket_keys.iter().fold(true, |all, update| {
            // SAFETY: the pointer and the length are those of `keys`, during the call.
            let done = unsafe { update(keys.as_mut_ptr().cast(), len) };
            all && done == SUCCESS
        })
    }

    /// Has `hook` called with the ID of each session that a handshake makes or a failed
    /// connection removes, on the thread of the connection. Once in a process; false: that
    /// was done before, or the host refused.
    ///
    /// ATS calls it before it stores the session: whoever wants that asks later.
    pub fn add_hook(&self, hook: fn(Event, &[u8])) -> bool {
        if HOOK.set(hook).is_err() {
            return false;
        }
        // SAFETY: `on_event` is of the type that the host calls, and is never unloaded; what
        // libtssession's has for a continuation is whatever we say it is.
        unsafe {
            match (&self.hooks, self.server) {
                (Hooks::Library { add }, _) => add(on_event, ptr::null_mut()) == SUCCESS,
                (Hooks::Server { session_hook }, Some(server)) => {
                    let cont = server.continuation(on_event).ok();
                    let add = server.find(&HTTP_HOOK_ADD);
                    cont.zip(add)
                        .map(|(cont, add)| add(*session_hook, cont))
                        .is_some()
                }
                (Hooks::Server { .. }, None) => false,
            }
        }
    }

    /// Writes a line to the host's log.
    pub fn log(&self, level: Level, line: &str) {
        self.log.write(level, line);
    }

    /// Starts a thread that may call the host's functions: those of ATS want one that
    /// belongs to it. Signals of the process are not for this thread to take. False: there can
    /// be no more threads.
    pub fn spawn(&self, name: &'static str, body: Box<dyn FnOnce() + Send>) -> bool {
        let log = self.log;
        let body: Body = Box::new(move || {
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                log.write(
                    Level::Error,
                    &format!("the thread {name} has panicked and is gone"),
                );
            }
        });
        let _blocked = SignalsBlocked::begin();
        let Some(create) = self.server.and_then(|server| server.find(&THREAD_CREATE)) else {
            return thread::Builder::new().name(name.into()).spawn(body).is_ok();
        };
        let start = Box::into_raw(Box::new(Start { name, body }));
        // SAFETY: `run` takes what it is given here, once.
        unsafe {
            let thread = create(run, start.cast());
            if thread.is_null() {
                drop(Box::from_raw(start));
            }
            !thread.is_null()
        }
    }

    /// Brings the statistics of ATS up to date; nothing elsewhere. By one thread at a time.
    pub fn show(&self, counters: &Counters) {
        let Some(statistics) = self.server.and_then(Server::statistics) else {
            return;
        };
        let shown = self.statistics.get_or_init(|| {
            let names = counters.each().map(|(name, _)| c_line(&name));
            names.map(|name| statistics.create(&name)).collect()
        });
        for (statistic, (_, value)) in shown.iter().zip(counters.each()) {
            if let Some(statistic) = statistic {
                statistics.set(*statistic, value);
            }
        }
    }
}

/// The mode of a server's own session cache in which it has functions for plugins.
const OWN_CACHE: i64 = 2;

static HOOK: OnceLock<fn(Event, &[u8])> = OnceLock::new();

/// What the host calls. It may not unwind into it, and errno stays as the handshake has left it.
unsafe extern "C" fn on_event(_cont: Cont, event: c_int, id: *mut c_void) -> c_int {
    let event = match event {
        EVENT_SESSION_NEW => Event::New,
        EVENT_SESSION_REMOVE => Event::Removed,
        _ => return 0,
    };
    let Some(hook) = HOOK.get().filter(|_| !id.is_null()) else {
        return 0;
    };
    let id: *const SessionId = id.cast();
    // SAFETY: the host passes a session ID that lives during the call; no byte past its length
    // is read. The location of errno is this thread's own.
    unsafe {
        let len = (&raw const (*id).len).read();
        if (1..=SessionId::MAX).contains(&len) {
            let id = slice::from_raw_parts((&raw const (*id).bytes).cast::<c_uchar>(), len);
            let errno = *libc::__errno_location();
            let _ = catch_unwind(|| hook(event, id));
            *libc::__errno_location() = errno;
        }
    }
    0
}

type Body = Box<dyn FnOnce() + Send>;

/// What a thread of ATS begins with.
struct Start {
    name: &'static str,
    body: Body,
}

/// # Safety
/// `start` is a [`Start`] in a box, which becomes this function's.
unsafe extern "C" fn run(start: *mut c_void) -> *mut c_void {
    // SAFETY: passed on to the caller.
    let start = unsafe { Box::from_raw(start.cast::<Start>()) };
    let name = c_line(start.name);
    // SAFETY: names this thread. A name that is too long is refused, and does no harm.
    unsafe { libc::pthread_setname_np(libc::pthread_self(), name.as_ptr()) };
    (start.body)();
    ptr::null_mut()
}

/// Has no signal delivered to this thread until dropped, nor to those that it starts.
struct SignalsBlocked {
    before: libc::sigset_t,
}

impl SignalsBlocked {
    fn begin() -> Self {
        // SAFETY: the sets are initialized before they are read; touches this thread's mask.
        unsafe {
            let mut all = mem::zeroed();
            let mut before = mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before);
            Self { before }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}
