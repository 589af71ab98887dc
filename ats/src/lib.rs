//! The functions of Traffic Server that plugins call, found at run time. So one plugin file loads
//! into ATS 9, whose functions have C names, and into ATS 10 and 11, whose functions have C++ names,
//! and can do without functions that a version does not have.
//!
//! Names and types are those of `<ts/ts.h>` and `<ts/apidefs.h>`; enums are as wide as an int.

mod debug;

use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::slice;

pub use debug::{DEBUG_NAMES, DebugTag};

/// `TSCont`, and `TSVConn`, which is one too.
pub type Cont = *mut c_void;
/// `TSMutex`.
pub type Mutex = *mut c_void;
/// `TSThread`.
pub type Thread = *mut c_void;

/// `TSEventFunc`.
pub type EventFunc = unsafe extern "C" fn(cont: Cont, event: c_int, data: *mut c_void) -> c_int;
/// `TSThreadFunc`.
pub type ThreadFunc = unsafe extern "C" fn(data: *mut c_void) -> *mut c_void;
/// A function for log lines. It takes a format as printf does, and the arguments for it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Report(unsafe extern "C" fn(format: *const c_char, ...));

impl Report {
    /// Writes a line, after the name of the plugin.
    pub fn write(self, plugin: &CStr, line: &CStr) {
        // SAFETY: these are two C strings, as the format says. The function keeps nothing.
        unsafe { (self.0)(c"%s: %s".as_ptr(), plugin.as_ptr(), line.as_ptr()) };
    }
}

/// The same with a tag.
pub type Debug = unsafe extern "C" fn(tag: *const c_char, format: *const c_char, ...);

/// `TSPluginRegistrationInfo`.
#[repr(C)]
pub struct PluginInfo {
    /// The name of the plugin in ATS.
    pub plugin_name: *const c_char,
    /// The plugin's vendor.
    pub vendor_name: *const c_char,
    /// The address for questions.
    pub support_email: *const c_char,
}

/// `TSSslSessionID`.
#[repr(C)]
pub struct SessionId {
    /// The number of bytes in the ID.
    pub len: usize,
    /// The ID; bytes after it are not read.
    pub bytes: [u8; Self::MAX],
}

impl SessionId {
    /// The length of the longest ID.
    pub const MAX: usize = 32;

    /// `None`: an ID cannot be of this length.
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        let len = id.len();
        (len > 0).then_some(Self { len, bytes })
    }
}

/// `TSPluginMsg`.
#[repr(C)]
pub struct PluginMessage {
    tag: *const c_char,
    data: *const c_void,
    len: usize,
}

impl PluginMessage {
    /// The text of a message with this tag, without spaces around it and without the NUL that
    /// `traffic_ctl` of ATS 9 sends too.
    ///
    /// # Safety
    /// `message` is null, or one that the server passes to a hook, and lives as long as the result.
    pub unsafe fn with_tag<'a>(message: *const c_void, tag: &CStr) -> Option<&'a [u8]> {
        // SAFETY: the caller vouches for the message: its tag is a C string, its data has `len`
        // bytes.
        unsafe {
            let message = message.cast::<Self>().as_ref()?;
            if message.tag.is_null() || CStr::from_ptr(message.tag) != tag {
                return None;
            }
            let text: &[u8] = if message.data.is_null() {
                &[]
            } else {
                slice::from_raw_parts(message.data.cast(), message.len)
            };
            let end = text.iter().position(|byte| *byte == 0);
            Some(text[..end.unwrap_or(text.len())].trim_ascii())
        }
    }
}

/// `TS_SUCCESS`. Not an enum, because a function of ATS can return any number.
pub const SUCCESS: c_int = 0;

/// `TS_LIFECYCLE_PORTS_INITIALIZED_HOOK`: the ports are known, and not open yet.
pub const LIFECYCLE_PORTS_INITIALIZED: c_int = 0;
/// `TS_LIFECYCLE_SERVER_SSL_CTX_INITIALIZED_HOOK`: a server's `SSL_CTX` is complete, and not
/// in use yet.
pub const LIFECYCLE_SERVER_CONTEXT: c_int = 3;
/// `TS_LIFECYCLE_MSG_HOOK`: the operator has sent a message, a [`PluginMessage`].
pub const LIFECYCLE_MESSAGE: c_int = 5;
/// `TS_LIFECYCLE_TASK_THREADS_READY_HOOK`: plugins can schedule on the threads for tasks.
pub const LIFECYCLE_TASK_THREADS_READY: c_int = 6;

/// `TS_EVENT_SSL_SESSION_NEW`.
pub const EVENT_SESSION_NEW: c_int = 2001;
/// `TS_EVENT_SSL_SESSION_REMOVE`.
pub const EVENT_SESSION_REMOVE: c_int = 2002;

/// `TS_THREAD_POOL_TASK`.
pub const POOL_TASK: c_int = 1;

const RECORD_INT: c_int = 1;
const STAT_NON_PERSISTENT: c_int = 2;
const STAT_SYNC_SUM: c_int = 0;

/// A function of ATS: `F` is the type of a pointer to it.
pub struct Function<F> {
    /// The name up to version 9.
    c: &'static CStr,
    /// The name from version 10 on, whose `ts.h` has no `extern "C"` (Itanium C++ ABI).
    cxx: &'static CStr,
    pointer: PhantomData<F>,
}

/// # Safety
/// `F` is the type of a pointer to the function that has these names.
const unsafe fn function<F>(c: &'static CStr, cxx: &'static CStr) -> Function<F> {
    Function {
        c,
        cxx,
        pointer: PhantomData,
    }
}

/// Declares functions as Traffic Server does.
macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $c:literal, $cxx:literal;)*) => {
        $(
            $(#[$doc])*
            // SAFETY: this is how `<ts/ts.h>` declares it.
            pub const $name: Function<$type> = unsafe { function($c, $cxx) };
        )*

        /// The C name and the C++ name of each function.
        pub const NAMES: &[(&str, &str)] = &[$((text($c), text($cxx))),*];
    };
}

const fn text(name: &CStr) -> &str {
    match name.to_str() {
        Ok(text) => text,
        Err(_) => panic!("names are ASCII"),
    }
}

functions! {
    /// `TSPluginRegister`, which every plugin must call.
    PLUGIN_REGISTER: unsafe extern "C" fn(*const PluginInfo) -> c_int =
        c"TSPluginRegister", c"_Z16TSPluginRegisterPK24TSPluginRegistrationInfo";
    /// `TSContCreate`.
    CONT_CREATE: unsafe extern "C" fn(EventFunc, Mutex) -> Cont =
        c"TSContCreate", c"_Z12TSContCreatePFiP10tsapi_cont7TSEventPvEP11tsapi_mutex";
    /// `TSMutexCreate`.
    MUTEX_CREATE: unsafe extern "C" fn() -> Mutex = c"TSMutexCreate", c"_Z13TSMutexCreatev";
    /// `TSContScheduleEveryOnPool`: the time is in milliseconds.
    CONT_SCHEDULE_EVERY_ON_POOL: unsafe extern "C" fn(Cont, i64, c_int) -> *mut c_void =
        c"TSContScheduleEveryOnPool", c"_Z25TSContScheduleEveryOnPoolP10tsapi_contl12TSThreadPool";
    /// `TSHttpHookAdd`.
    HTTP_HOOK_ADD: unsafe extern "C" fn(c_int, Cont) =
        c"TSHttpHookAdd", c"_Z13TSHttpHookAdd12TSHttpHookIDP10tsapi_cont";
    /// `TSHttpHookNameLookup`.
    HTTP_HOOK_NAME_LOOKUP: unsafe extern "C" fn(c_int) -> *const c_char =
        c"TSHttpHookNameLookup", c"_Z20TSHttpHookNameLookup12TSHttpHookID";
    /// `TSLifecycleHookAdd`.
    LIFECYCLE_HOOK_ADD: unsafe extern "C" fn(c_int, Cont) =
        c"TSLifecycleHookAdd", c"_Z18TSLifecycleHookAdd17TSLifecycleHookIDP10tsapi_cont";
    /// `TSMgmtUpdateRegister`. The third argument, the plugin's file, exists from version 10 on.
    MGMT_UPDATE_REGISTER: unsafe extern "C" fn(Cont, *const c_char, *const c_char) =
        c"TSMgmtUpdateRegister", c"_Z20TSMgmtUpdateRegisterP10tsapi_contPKcS2_";
    /// `TSMgmtIntGet`.
    MGMT_INT_GET: unsafe extern "C" fn(*const c_char, *mut i64) -> c_int =
        c"TSMgmtIntGet", c"_Z12TSMgmtIntGetPKcPl";
    /// `TSMgmtSourceGet`: where a record has its value from. A later value of `TSMgmtSource` means a
    /// more deliberate choice.
    MGMT_SOURCE_GET: unsafe extern "C" fn(*const c_char, *mut c_int) -> c_int =
        c"TSMgmtSourceGet", c"_Z15TSMgmtSourceGetPKcP12TSMgmtSource";
    /// `TSVConnSslConnectionGet`: the `SSL` of a connection, null for one without TLS.
    VCONN_SSL_CONNECTION_GET: unsafe extern "C" fn(Cont) -> *mut c_void =
        c"TSVConnSslConnectionGet", c"_Z23TSVConnSslConnectionGetP10tsapi_cont";
    /// `TSVConnReenable`.
    VCONN_REENABLE: unsafe extern "C" fn(Cont) =
        c"TSVConnReenable", c"_Z15TSVConnReenableP10tsapi_cont";
    /// `TSSslSessionGetBuffer`.
    SESSION_GET_BUFFER: unsafe extern "C" fn(*const SessionId, *mut c_char, *mut c_int) -> c_int =
        c"TSSslSessionGetBuffer", c"_Z21TSSslSessionGetBufferPK14TSSslSessionIDPcPi";
    /// `TSSslSessionInsert`. The session stays the caller's; the connection is not used.
    SESSION_INSERT: unsafe extern "C" fn(*const SessionId, *mut c_void, *mut c_void) -> c_int =
        c"TSSslSessionInsert",
        c"_Z18TSSslSessionInsertPK14TSSslSessionIDP17tsapi_ssl_sessionP13tsapi_ssl_obj";
    /// `TSSslSessionRemove`.
    SESSION_REMOVE: unsafe extern "C" fn(*const SessionId) -> c_int =
        c"TSSslSessionRemove", c"_Z18TSSslSessionRemovePK14TSSslSessionID";
    /// `TSSslTicketKeyUpdate`.
    TICKET_KEY_UPDATE: unsafe extern "C" fn(*mut c_char, c_int) -> c_int =
        c"TSSslTicketKeyUpdate", c"_Z20TSSslTicketKeyUpdatePci";
    /// `TSThreadCreate`.
    THREAD_CREATE: unsafe extern "C" fn(ThreadFunc, *mut c_void) -> Thread =
        c"TSThreadCreate", c"_Z14TSThreadCreatePFPvS_ES_";
    /// `TSTrafficServerVersionGetMajor`.
    VERSION_MAJOR: unsafe extern "C" fn() -> c_int =
        c"TSTrafficServerVersionGetMajor", c"_Z30TSTrafficServerVersionGetMajorv";
    /// `TSConfigDirGet`.
    CONFIG_DIR_GET: unsafe extern "C" fn() -> *const c_char =
        c"TSConfigDirGet", c"_Z14TSConfigDirGetv";
    /// `TSInstallDirGet`.
    INSTALL_DIR_GET: unsafe extern "C" fn() -> *const c_char =
        c"TSInstallDirGet", c"_Z15TSInstallDirGetv";
    /// `TSStatCreate`.
    STAT_CREATE: unsafe extern "C" fn(*const c_char, c_int, c_int, c_int) -> c_int =
        c"TSStatCreate",
        c"_Z12TSStatCreatePKc16TSRecordDataType17TSStatPersistence10TSStatSync";
    /// `TSStatIntSet`.
    STAT_INT_SET: unsafe extern "C" fn(c_int, i64) = c"TSStatIntSet", c"_Z12TSStatIntSetil";
    /// `TSNote`, a line for `diags.log`.
    NOTE: Report = c"TSNote", c"_Z6TSNotePKcz";
    /// `TSWarning`.
    WARNING: Report = c"TSWarning", c"_Z9TSWarningPKcz";
    /// `TSError`.
    ERROR: Report = c"TSError", c"_Z7TSErrorPKcz";
}

// The C++ names contain `long` for int64_t. That is correct where a long is 64 bits wide.
const _: () = assert!(size_of::<c_long>() == size_of::<i64>());

impl<F: Copy> Function<F> {
    /// Looks for it under its C name and then under its C++ name: a host that is not a Traffic Server
    /// can have either.
    pub fn find(&self) -> Option<F> {
        self.find_in(Dialect::C)
            .or_else(|| self.find_in(Dialect::Cxx))
    }

    fn find_in(&self, dialect: Dialect) -> Option<F> {
        let name = match dialect {
            Dialect::C => self.c,
            Dialect::Cxx => self.cxx,
        };
        // SAFETY: `function`, which made the constant, demands this type.
        unsafe { find_in_process(name) }
    }
}

/// The kind of names that the functions of a Traffic Server have. Only functions of one kind are used
/// in a process: a plugin can bring functions with the names of the other kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    C,
    Cxx,
}

/// The Traffic Server that this process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    dialect: Dialect,
}

impl Server {
    /// `None`: not running inside Traffic Server.
    pub fn of_process() -> Option<Self> {
        [Dialect::C, Dialect::Cxx]
            .into_iter()
            .find(|dialect| PLUGIN_REGISTER.find_in(*dialect).is_some())
            .map(|dialect| Self { dialect })
    }

    /// Registers the plugin, and returns the Traffic Server. A plugin must call this first, whatever
    /// else is wrong: the server ends itself if a plugin has not registered. `None`: not running
    /// inside Traffic Server.
    pub fn register(name: &CStr) -> Result<Option<Self>, Missing> {
        let Some(server) = Self::of_process() else {
            return Ok(None);
        };
        let register = server.need(&PLUGIN_REGISTER)?;
        // SAFETY: ATS copies the strings.
        let done = unsafe {
            register(&PluginInfo {
                plugin_name: name.as_ptr(),
                vendor_name: c"tssession".as_ptr(),
                support_email: c"-".as_ptr(),
            })
        };
        match done {
            SUCCESS => Ok(Some(server)),
            _ => Err(Missing::named(c"place for this plugin (TSPluginRegister)")),
        }
    }

    /// A function that not every version has.
    pub fn find<F: Copy>(self, function: &Function<F>) -> Option<F> {
        function.find_in(self.dialect)
    }

    /// A function that is required.
    pub fn need<F: Copy>(self, function: &Function<F>) -> Result<F, Missing> {
        self.find(function).ok_or(Missing(function.c))
    }

    /// A continuation without a mutex, for hooks. `body` is called as long as the process runs, by
    /// several threads at a time.
    pub fn continuation(self, body: EventFunc) -> Result<Cont, Missing> {
        let create = self.need(&CONT_CREATE)?;
        // SAFETY: the function is of the type that ATS calls.
        Ok(unsafe { create(body, std::ptr::null_mut()) })
    }

    /// A continuation with a mutex, which ATS requires for scheduling: one thread at a time calls
    /// `body`.
    pub fn scheduled_continuation(self, body: EventFunc) -> Result<Cont, Missing> {
        let create = self.need(&CONT_CREATE)?;
        let mutex = self.need(&MUTEX_CREATE)?;
        // SAFETY: as above; the mutex is the server's.
        Ok(unsafe { create(body, mutex()) })
    }

    /// Lets ATS call `body` at each lifecycle event of a kind.
    pub fn on_lifecycle(self, hook: c_int, body: EventFunc) -> Result<(), Missing> {
        let add = self.need(&LIFECYCLE_HOOK_ADD)?;
        let cont = self.continuation(body)?;
        // SAFETY: the continuation lives forever.
        unsafe { add(hook, cont) };
        Ok(())
    }

    /// The number of the hook of this name. It differs between versions.
    pub fn hook_number(self, name: &CStr) -> Option<c_int> {
        /// More than there are: about thirty.
        const MOST: c_int = 128;
        let look_up = self.find(&HTTP_HOOK_NAME_LOOKUP)?;
        (0..MOST).find(|number| {
            // SAFETY: takes any number; the result is null or a string that lives forever.
            unsafe {
                let found = look_up(*number);
                !found.is_null() && CStr::from_ptr(found) == name
            }
        })
    }

    /// The record that sets the server's own session cache, under its name in this version, and its
    /// value: 0 is off, 1 OpenSSL's cache, 2 the cache with functions for plugins. `None`: there is
    /// no such record.
    ///
    /// ATS 10 has three names for it. The one that the operator has set counts; of several, the first
    /// in this list.
    pub fn own_session_cache(self) -> Option<(&'static CStr, i64)> {
        const NAMES: [&CStr; 4] = [
            c"proxy.config.ssl.session_cache",
            c"proxy.config.ssl.session_cache.mode",
            c"proxy.config.ssl.session_cache.value",
            c"proxy.config.ssl.session_cache.enabled",
        ];
        let known = NAMES
            .into_iter()
            .filter_map(|name| Some((name, self.record(name)?)));
        known.reduce(|first, other| {
            if self.source(other.0) > self.source(first.0) {
                other
            } else {
                first
            }
        })
    }

    /// Where a record has its value from: see [`MGMT_SOURCE_GET`].
    fn source(self, name: &CStr) -> Option<c_int> {
        let get = self.find(&MGMT_SOURCE_GET)?;
        let mut source = 0;
        // SAFETY: the name is a C string, and the source is writable.
        (unsafe { get(name.as_ptr(), &mut source) } == SUCCESS).then_some(source)
    }

    /// A number of the server's own configuration; `None`: there is no such record.
    pub fn record(self, name: &CStr) -> Option<i64> {
        let get = self.find(&MGMT_INT_GET)?;
        let mut value = 0;
        // SAFETY: the name is a C string, and the value is writable.
        let found = unsafe { get(name.as_ptr(), &mut value) };
        (found == SUCCESS).then_some(value)
    }

    /// A directory of the server's.
    pub fn folder(
        self,
        function: &Function<unsafe extern "C" fn() -> *const c_char>,
    ) -> Option<&'static CStr> {
        let get = self.find(function)?;
        // SAFETY: the string lives forever.
        unsafe {
            let folder = get();
            (!folder.is_null()).then(|| CStr::from_ptr(folder))
        }
    }

    /// The server's statistics; `None`: this version has none for plugins.
    pub fn statistics(self) -> Option<Statistics> {
        Some(Statistics {
            create: self.find(&STAT_CREATE)?,
            set: self.find(&STAT_INT_SET)?,
        })
    }
}

/// The statistics that a server shows its operator.
#[derive(Clone, Copy)]
pub struct Statistics {
    create: unsafe extern "C" fn(*const c_char, c_int, c_int, c_int) -> c_int,
    set: unsafe extern "C" fn(c_int, i64),
}

/// A statistic.
#[derive(Clone, Copy, Debug)]
pub struct Statistic(c_int);

impl Statistics {
    /// Adds a statistic; `None`: the server has no room for it.
    pub fn create(&self, name: &CStr) -> Option<Statistic> {
        // SAFETY: the server copies the name.
        let number = unsafe {
            (self.create)(
                name.as_ptr(),
                RECORD_INT,
                STAT_NON_PERSISTENT,
                STAT_SYNC_SUM,
            )
        };
        (number >= 0).then_some(Statistic(number))
    }

    /// Sets a statistic.
    pub fn set(&self, statistic: Statistic, value: i64) {
        // SAFETY: the server has returned this number.
        unsafe { (self.set)(statistic.0, value) };
    }
}

/// What a Traffic Server does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing(&'static CStr);

impl Missing {
    /// Something that is not a function.
    pub fn named(what: &'static CStr) -> Self {
        Self(what)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host has no {}", self.0.to_string_lossy())
    }
}

impl std::error::Error for Missing {}

/// Whether the process's OpenSSL, whose objects a plugin receives, is the one that the plugin is
/// linked with. A host can be linked with an older one, whose symbols have other versions. Or it can
/// contain another TLS library, whose symbols then come before those of OpenSSL 3.
pub fn is_openssl_of_process() -> bool {
    const MAJOR: c_ulong = 28;
    // SAFETY: takes nothing, and can be called at any time.
    if unsafe { openssl_sys::OpenSSL_version_num() } >> MAJOR < 3 {
        return false;
    }
    // SAFETY: looks only; the name is a C string.
    let of_process = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"SSL_get_SSL_CTX".as_ptr()) };
    of_process.cast_const() == openssl_sys::SSL_get_SSL_CTX as *const c_void
}

/// The symbol that the process exports under this name.
///
/// # Safety
/// `F` is the type of a pointer to what has this name.
unsafe fn find_in_process<F: Copy>(name: &CStr) -> Option<F> {
    // SAFETY: passed on to the caller.
    unsafe { find_symbol(libc::RTLD_DEFAULT, name) }
}

/// A symbol of a library, or of the process (`RTLD_DEFAULT`).
///
/// # Safety
/// `F` is the type of a pointer to what has this name; the library is open.
pub unsafe fn find_symbol<F: Copy>(library: *mut c_void, name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: looks only; the name is a C string.
    let at = unsafe { libc::dlsym(library, name.as_ptr()) };
    if at.is_null() {
        // A missing symbol is not an error: the thread's next call of dlerror must not report it.
        // SAFETY: takes this thread's last message.
        unsafe { libc::dlerror() };
        return None;
    }
    // SAFETY: the sizes are the same, and the caller vouches for the type.
    Some(unsafe { mem::transmute_copy(&at) })
}
