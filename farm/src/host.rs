//! The process that the farm is in: Traffic Server, or a host of libtssession.
//!
//! Its functions are found at run time, so that one file serves ATS 9, whose functions have
//! C names, ATS 10, whose functions have C++ names, and programs that only have
//! libtssession. A process is of one kind: its names are not mixed with another's, because
//! libtssession, loaded into an ATS, has functions of the same names.

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

use openssl_sys::SSL_SESSION;
use zeroize::Zeroizing;

use crate::counters::Counters;
use crate::queue::Event;

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

/// What `TSReturnCode` is in the results of other people's functions, which may be anything.
const SUCCESS: c_int = TSReturnCode::TS_SUCCESS as c_int;

/// From `<ts/ts.h>`; the same in every version.
const MAX_ID: usize = 32;
const SESSION_NEW: c_int = 2001;
const SESSION_REMOVE: c_int = 2002;
const LIFECYCLE_PORTS_INITIALIZED: c_int = 0;
const RECORD_INT: c_int = 1;
const STAT_NON_PERSISTENT: c_int = 2;
const STAT_SYNC_SUM: c_int = 0;

/// `TSSslSessionID`.
#[repr(C)]
struct SessionId {
    len: usize,
    bytes: [u8; MAX_ID],
}

impl SessionId {
    fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_ID];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        (!id.is_empty()).then_some(Self {
            len: id.len(),
            bytes,
        })
    }
}

/// `TSPluginRegistrationInfo`.
#[repr(C)]
struct PluginInfo {
    plugin_name: *const c_char,
    vendor_name: *const c_char,
    support_email: *const c_char,
}

// Handles whose contents are the host's business.
type Cont = *mut c_void;
type Mutex = *mut c_void;
type Thread = *mut c_void;

type EventFunc = unsafe extern "C" fn(Cont, c_int, *mut c_void) -> c_int;
type ThreadFunc = unsafe extern "C" fn(*mut c_void) -> *mut c_void;

type GetBuffer = unsafe extern "C" fn(*const SessionId, *mut c_char, *mut c_int) -> c_int;
/// ATS 7 to 8.1 and the C name of libtssession have no third argument: it is then not read.
type Insert = unsafe extern "C" fn(*const SessionId, *mut SSL_SESSION, *mut c_void) -> c_int;
type Remove = unsafe extern "C" fn(*const SessionId) -> c_int;
type TicketKeyUpdate = unsafe extern "C" fn(*mut c_char, c_int) -> c_int;
type SessionHookAdd = unsafe extern "C" fn(EventFunc, Cont) -> c_int;
type PluginRegister = unsafe extern "C" fn(*const PluginInfo) -> c_int;
type ContCreate = unsafe extern "C" fn(EventFunc, Mutex) -> Cont;
type HookAdd = unsafe extern "C" fn(c_int, Cont);
type ThreadCreate = unsafe extern "C" fn(ThreadFunc, *mut c_void) -> Thread;
type Version = unsafe extern "C" fn() -> c_int;
type ConfigDir = unsafe extern "C" fn() -> *const c_char;
type StatCreate = unsafe extern "C" fn(*const c_char, c_int, c_int, c_int) -> c_int;
type StatSet = unsafe extern "C" fn(c_int, i64);
type Report = unsafe extern "C" fn(*const c_char, ...);
type Debug = unsafe extern "C" fn(*const c_char, *const c_char, ...);

// What OpenSSL 3 has and openssl-sys does not declare.
unsafe extern "C" {
    fn ERR_set_mark() -> c_int;
    fn ERR_pop_to_mark() -> c_int;
}

/// A function of Traffic Server.
struct Name {
    /// Up to version 9.
    c: &'static CStr,
    /// From version 10 on, whose `ts.h` has no `extern "C"` (Itanium C++ ABI).
    cxx: &'static CStr,
}

const fn name(c: &'static CStr, cxx: &'static CStr) -> Name {
    Name { c, cxx }
}

const GET_BUFFER: Name = name(
    c"TSSslSessionGetBuffer",
    c"_Z21TSSslSessionGetBufferPK14TSSslSessionIDPcPi",
);
const INSERT: Name = name(
    c"TSSslSessionInsert",
    c"_Z18TSSslSessionInsertPK14TSSslSessionIDP17tsapi_ssl_sessionP13tsapi_ssl_obj",
);
const REMOVE: Name = name(
    c"TSSslSessionRemove",
    c"_Z18TSSslSessionRemovePK14TSSslSessionID",
);
const TICKET_KEY_UPDATE: Name = name(c"TSSslTicketKeyUpdate", c"_Z20TSSslTicketKeyUpdatePci");
const PLUGIN_REGISTER: Name = name(
    c"TSPluginRegister",
    c"_Z16TSPluginRegisterPK24TSPluginRegistrationInfo",
);
const CONT_CREATE: Name = name(
    c"TSContCreate",
    c"_Z12TSContCreatePFiP10tsapi_cont7TSEventPvEP11tsapi_mutex",
);
const HOOK_ADD: Name = name(
    c"TSHttpHookAdd",
    c"_Z13TSHttpHookAdd12TSHttpHookIDP10tsapi_cont",
);
const LIFECYCLE_HOOK_ADD: Name = name(
    c"TSLifecycleHookAdd",
    c"_Z18TSLifecycleHookAdd17TSLifecycleHookIDP10tsapi_cont",
);
const THREAD_CREATE: Name = name(c"TSThreadCreate", c"_Z14TSThreadCreatePFPvS_ES_");
const VERSION: Name = name(
    c"TSTrafficServerVersionGetMajor",
    c"_Z30TSTrafficServerVersionGetMajorv",
);
const CONFIG_DIR: Name = name(c"TSConfigDirGet", c"_Z14TSConfigDirGetv");
const STAT_CREATE: Name = name(
    c"TSStatCreate",
    c"_Z12TSStatCreatePKc16TSRecordDataType17TSStatPersistence10TSStatSync",
);
/// Its second argument is an int64_t, which is a long where this is 64 bits wide.
const STAT_SET: Name = name(c"TSStatIntSet", c"_Z12TSStatIntSetil");
const _: () = assert!(size_of::<c_long>() == size_of::<i64>());
const ERROR: Name = name(c"TSError", c"_Z7TSErrorPKcz");
const WARNING: Name = name(c"TSWarning", c"_Z9TSWarningPKcz");

/// Version 10 has removed it, and has nothing in its place that has a C type.
const DEBUG: &CStr = c"TSDebug";

/// Under which names a process has ATS's functions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    C,
    Cxx,
}

impl Dialect {
    /// That of the process; `None`: it is no Traffic Server.
    fn of_process() -> Option<Self> {
        [Self::C, Self::Cxx].into_iter().find(|dialect| {
            // SAFETY: the function is only looked for.
            unsafe { dialect.find::<HookAdd>(HOOK_ADD) }.is_some()
        })
    }

    /// # Safety
    /// As for [`find`].
    unsafe fn find<F: Copy>(self, name: Name) -> Option<F> {
        let name = match self {
            Self::C => name.c,
            Self::Cxx => name.cxx,
        };
        // SAFETY: passed on to the caller.
        unsafe { find(libc::RTLD_DEFAULT, name) }
    }

    /// The same for what there must be.
    ///
    /// # Safety
    /// As for [`find`].
    unsafe fn need<F: Copy>(self, name: Name) -> Result<F, Missing> {
        let c = name.c;
        // SAFETY: passed on to the caller.
        unsafe { self.find(name) }.ok_or(Missing::Function(c))
    }
}

/// A function of a library, or of the process (`RTLD_DEFAULT`).
///
/// # Safety
/// `F` is the type of pointer that the function of this name has.
unsafe fn find<F: Copy>(library: *mut c_void, name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: looks only; the name is a C string, and the handle is never closed.
    let at = unsafe { libc::dlsym(library, name.as_ptr()) };
    if at.is_null() {
        // What was not found is no error that the thread should hear of later.
        // SAFETY: takes this thread's last message.
        unsafe { libc::dlerror() };
        return None;
    }
    // SAFETY: the sizes are the same, and the caller vouches for the type.
    Some(unsafe { mem::transmute_copy(&at) })
}

/// What a process lacks to be a member of a farm.
#[derive(Debug)]
pub enum Missing {
    /// It is a Traffic Server, or has libtssession, without this function.
    Function(&'static CStr),
    /// It is a Traffic Server that is too old.
    Version(c_int),
    /// It has no functions for sessions, and libtssession cannot be loaded.
    Library(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
    debug: Option<Debug>,
}

impl Log {
    /// Looks for the functions of the process. A host that is no Traffic Server may have
    /// them too, as libtssession allows it.
    pub fn find() -> Self {
        // SAFETY: these are the types that Traffic Server declares the functions with.
        unsafe {
            let report = |name: Name| {
                find::<Report>(libc::RTLD_DEFAULT, name.c)
                    .or_else(|| find(libc::RTLD_DEFAULT, name.cxx))
            };
            let error = report(ERROR);
            Self {
                error,
                warning: report(WARNING).or(error),
                debug: find(libc::RTLD_DEFAULT, DEBUG),
            }
        }
    }

    /// Writes a line.
    pub fn write(&self, level: Level, line: &str) {
        let (report, word) = match level {
            Level::Error => (self.error, "ERROR"),
            Level::Warning => (self.warning, "WARNING"),
            Level::Debug => {
                if let Some(debug) = self.debug {
                    let line = c_line(line);
                    // SAFETY: as below.
                    unsafe { debug(c"tssession_farm".as_ptr(), c"%s".as_ptr(), line.as_ptr()) };
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

/// The functions for sessions and ticket keys.
struct Sessions {
    get_buffer: GetBuffer,
    insert: Insert,
    remove: Remove,
    update_ticket_keys: TicketKeyUpdate,
}

/// How one hears of what handshakes do.
enum Hooks {
    /// `TSHttpHookAdd` with the value that `TS_SSL_SESSION_HOOK` has in this version.
    Ats { session_hook: c_int },
    /// `TSSslSessionHookAdd`.
    Library { add: SessionHookAdd },
}

/// A Traffic Server.
struct Ats {
    dialect: Dialect,
    cont_create: ContCreate,
    hook_add: HookAdd,
    lifecycle_hook_add: HookAdd,
    thread_create: ThreadCreate,
    stats: Option<(StatCreate, StatSet)>,
    major: c_int,
}

impl Ats {
    fn find(dialect: Dialect) -> Result<Self, Missing> {
        // SAFETY: these are the types that Traffic Server declares the functions with, its
        // enums being as wide as an int.
        unsafe {
            let version: Version = dialect.need(VERSION)?;
            let stats = dialect.find(STAT_CREATE).zip(dialect.find(STAT_SET));
            Ok(Self {
                dialect,
                cont_create: dialect.need(CONT_CREATE)?,
                hook_add: dialect.need(HOOK_ADD)?,
                lifecycle_hook_add: dialect.need(LIFECYCLE_HOOK_ADD)?,
                thread_create: dialect.need(THREAD_CREATE)?,
                stats,
                major: version(),
            })
        }
    }

    /// Its own functions for sessions and its hook; `None` from version 11 on, which
    /// declares functions that it does not have.
    fn sessions(&self) -> Result<Option<(Sessions, Hooks)>, Missing> {
        // From `<ts/apidefs.h>`. Version 10 has put three hooks before it.
        let session_hook = match self.major {
            ..9 => return Err(Missing::Version(self.major)),
            9 => 24,
            10 => 27,
            11.. => return Ok(None),
        };
        // SAFETY: these are the types that Traffic Server declares the functions with.
        let sessions = unsafe {
            Sessions {
                get_buffer: self.dialect.need(GET_BUFFER)?,
                insert: self.dialect.need(INSERT)?,
                remove: self.dialect.need(REMOVE)?,
                update_ticket_keys: self.dialect.need(TICKET_KEY_UPDATE)?,
            }
        };
        Ok(Some((sessions, Hooks::Ats { session_hook })))
    }
}

/// libtssession's functions: those that the process has got already, else of the library,
/// which is loaded then, for ever.
fn library() -> Result<(Sessions, Hooks), Missing> {
    const HOOK: &CStr = c"TSSslSessionHookAdd";
    let mut library = libc::RTLD_DEFAULT;
    // SAFETY: this is the type that the library declares the function with.
    if unsafe { find::<SessionHookAdd>(library, HOOK) }.is_none() {
        const FILE: &CStr = c"libtssession.so.0";
        // Whoever loaded it may have kept its names to himself. A second copy would be a
        // second cache: the loader knows the one that is there by its SONAME.
        // SAFETY: the name is a C string; what the library does when it is loaded is sound.
        library = unsafe { libc::dlopen(FILE.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            // SAFETY: this thread's last message is a C string until the next call.
            let error = unsafe { CStr::from_ptr(libc::dlerror()) };
            return Err(Missing::Library(error.to_string_lossy().into_owned()));
        }
    }
    // SAFETY: these are the types that the library declares the functions with, but for
    // `Insert`, whose third argument it does not read, and `TicketKeyUpdate`, whose result
    // is always set.
    unsafe {
        let sessions = Sessions {
            get_buffer: need(library, GET_BUFFER.c)?,
            insert: need(library, INSERT.c)?,
            remove: need(library, REMOVE.c)?,
            update_ticket_keys: need(library, TICKET_KEY_UPDATE.c)?,
        };
        let add = need(library, HOOK)?;
        Ok((sessions, Hooks::Library { add }))
    }
}

/// # Safety
/// As for [`find`].
unsafe fn need<F: Copy>(library: *mut c_void, name: &'static CStr) -> Result<F, Missing> {
    // SAFETY: passed on to the caller.
    unsafe { find(library, name) }.ok_or(Missing::Function(name))
}

/// The functions of the process.
pub struct Host {
    log: Log,
    ats: Option<Ats>,
    sessions: Sessions,
    hooks: Hooks,
    /// What `TSStatCreate` has given, in the order of [`Counters::each`]; negative: nothing.
    stats: OnceLock<Vec<c_int>>,
}

impl Host {
    /// Finds them: ATS's, else those of libtssession.
    pub fn find() -> Result<Self, Missing> {
        let ats = Dialect::of_process().map(Ats::find).transpose()?;
        let own = ats.as_ref().map_or(Ok(None), Ats::sessions)?;
        let (sessions, hooks) = own.map_or_else(library, Ok)?;
        Ok(Self {
            log: Log::find(),
            ats,
            sessions,
            hooks,
            stats: OnceLock::new(),
        })
    }

    /// What ATS wants of each plugin, and nobody else. `TSPluginInit` only.
    pub fn register(&self) -> bool {
        let Some(ats) = &self.ats else {
            return true;
        };
        // SAFETY: this is the type that Traffic Server declares the function with; it
        // copies the strings.
        unsafe {
            let Some(register) = ats.dialect.find::<PluginRegister>(PLUGIN_REGISTER) else {
                return false;
            };
            register(&PluginInfo {
                plugin_name: c"tssession_farm".as_ptr(),
                vendor_name: c"tssession".as_ptr(),
                support_email: c"-".as_ptr(),
            }) == SUCCESS
        }
    }

    /// Where a plugin of ATS looks for a file that is named without a folder.
    pub fn resolve(&self, file: &Path) -> PathBuf {
        // SAFETY: as Traffic Server declares it; the string is there for ever.
        let folder = self.ats.as_ref().and_then(|ats| unsafe {
            let get = ats.dialect.find::<ConfigDir>(CONFIG_DIR)?;
            let folder = get();
            (!folder.is_null()).then(|| CStr::from_ptr(folder))
        });
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
        let Some(ats) = &self.ats else {
            return false;
        };
        if READY.set(body).is_ok() {
            // SAFETY: `on_ready` is of the type that continuations have, and is never unloaded;
            // a continuation need not have a mutex.
            unsafe {
                let cont = (ats.cont_create)(on_ready, ptr::null_mut());
                (ats.lifecycle_hook_add)(LIFECYCLE_PORTS_INITIALIZED, cont);
            }
        }
        true
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
                && (self.sessions.insert)(&id, session, ptr::null_mut()) == SUCCESS;
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
        // SAFETY: the pointer and the length are those of `keys`, during the call.
        unsafe { (self.sessions.update_ticket_keys)(keys.as_mut_ptr().cast(), len) == SUCCESS }
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
        // SAFETY: `on_event` is of the type that the host calls, and is never unloaded; a
        // continuation need not have a mutex, and libtssession's is whatever we say it is.
        unsafe {
            match (&self.hooks, &self.ats) {
                (Hooks::Library { add }, _) => add(on_event, ptr::null_mut()) == SUCCESS,
                (Hooks::Ats { session_hook }, Some(ats)) => {
                    let cont = (ats.cont_create)(on_event, ptr::null_mut());
                    (ats.hook_add)(*session_hook, cont);
                    true
                }
                (Hooks::Ats { .. }, None) => false,
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
        let Some(ats) = &self.ats else {
            return thread::Builder::new().name(name.into()).spawn(body).is_ok();
        };
        let start = Box::into_raw(Box::new(Start { name, body }));
        // SAFETY: `run` takes what it is given here, once.
        unsafe {
            let thread = (ats.thread_create)(run, start.cast());
            if thread.is_null() {
                drop(Box::from_raw(start));
            }
            !thread.is_null()
        }
    }

    /// Brings the statistics of ATS up to date; nothing elsewhere. By one thread at a time.
    pub fn show(&self, counters: &Counters) {
        let Some((create, set)) = self.ats.as_ref().and_then(|ats| ats.stats) else {
            return;
        };
        let ids = self.stats.get_or_init(|| {
            let create = |(name, _): (String, i64)| {
                let name = c_line(&name);
                // SAFETY: the host copies the name, which is a C string.
                unsafe {
                    create(
                        name.as_ptr(),
                        RECORD_INT,
                        STAT_NON_PERSISTENT,
                        STAT_SYNC_SUM,
                    )
                }
            };
            counters.each().map(create).collect()
        });
        for (id, (_, value)) in ids.iter().zip(counters.each()) {
            if *id >= 0 {
                // SAFETY: the host has given this number.
                unsafe { set(*id, value) };
            }
        }
    }
}

static HOOK: OnceLock<fn(Event, &[u8])> = OnceLock::new();

/// What the host calls. It may not unwind into it, and errno stays as the handshake has left it.
unsafe extern "C" fn on_event(_cont: Cont, event: c_int, id: *mut c_void) -> c_int {
    let event = match event {
        SESSION_NEW => Event::New,
        SESSION_REMOVE => Event::Removed,
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
        if (1..=MAX_ID).contains(&len) {
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
