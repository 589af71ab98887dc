//! The library as a plugin of Traffic Server. It attaches the server's contexts as the server makes
//! them, in the first of these ways that the server offers:
//!
//! 1. The server reports each context that is complete, before a connection uses it.
//! 2. The server reports each connection before its handshake. The plugin attaches the context that
//!    the connection begins with: OpenSSL uses its callbacks and sessions, whatever SNI switches to.
//!
//! The plugin keeps no list of contexts: each carries its own mark until it ends.

mod line;
mod names;
mod orders;

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use log::Level;
use openssl_sys::SSL_CTX;
use tssession_ats::{
    CONFIG_DIR_GET, CONT_SCHEDULE_EVERY_ON_POOL, Cont, HTTP_HOOK_ADD, INSTALL_DIR_GET,
    LIFECYCLE_MESSAGE, LIFECYCLE_PORTS_INITIALIZED, LIFECYCLE_SERVER_CONTEXT,
    LIFECYCLE_TASK_THREADS_READY, MGMT_UPDATE_REGISTER, Missing, NOTE, POOL_TASK, PluginMessage,
    Server, Statistic, VCONN_REENABLE, VCONN_SSL_CONNECTION_GET, find_symbol,
    is_openssl_of_process,
};
use tssession_common::metrics::Numbers;

use crate::base::spin::lock;
use crate::base::system;
use crate::instance::Instance;
use crate::instance::boundary::callback;
use crate::instance::keys::KeyFileError;
use crate::instance::settings::{RecordsFileError, log_not_in_force};
use crate::settings::table::{Record, Setting, Source};
use crate::tls;
use line::{Line, LineError};
use names::shown_name;
use orders::Farm;

/// The time between two updates of the server's own numbers, in milliseconds.
const SHOW_EVERY_MS: i64 = 1000;

/// Why the plugin did not start. Nothing in the server is changed.
#[derive(Debug)]
pub enum NotStarted {
    /// Not running inside Traffic Server.
    NoServer,
    /// The server lacks a function.
    Missing(Missing),
    /// `plugin.config` names it twice.
    Twice,
    /// The process has loaded another copy of the library, from another file.
    SecondCopy,
    /// The server's `SSL_CTX` are those of another OpenSSL.
    OtherOpenSsl,
    /// This record with this value switches the server's own cache on.
    OwnCacheIsOn(&'static CStr, i64),
    /// The line in `plugin.config` is wrong.
    Line(LineError),
    /// The file that the line names is wrong.
    File(PathBuf, RecordsFileError),
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServer => write!(f, "not running inside Traffic Server"),
            Self::Missing(missing) => missing.fmt(f),
            Self::Twice => write!(
                f,
                "plugin.config names the plugin twice; only the first line counts"
            ),
            Self::SecondCopy => write!(
                f,
                "another copy of this library is loaded already, and has a separate cache: \
                 let plugin.config name the file that plugins are linked with"
            ),
            Self::OtherOpenSsl => write!(
                f,
                "the server has another OpenSSL than the one that this library is linked with"
            ),
            Self::OwnCacheIsOn(record, value) => write!(
                f,
                "the server's own session cache is on ({} is {value}): set it to 0, or remove this \
                 plugin from plugin.config",
                record.to_string_lossy()
            ),
            Self::Line(error) => write!(f, "plugin.config: {error}"),
            Self::File(path, error) => write!(f, "{}{error}", path.display()),
        }
    }
}

impl From<Missing> for NotStarted {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

/// The state of a started plugin.
struct Plugin {
    server: Server,
    /// The file of settings, which is read again when the server reloads its configuration.
    file: Option<PathBuf>,
    /// Whether the server has reported a context.
    tells_of_contexts: AtomicBool,
    /// The server's functions for connections, if the server reports connections.
    connections: OnceLock<Connections>,
    statistics: OnceLock<Vec<Option<Statistic>>>,
}

/// The server's functions for connections.
struct Connections {
    ssl: unsafe extern "C" fn(Cont) -> *mut c_void,
    reenable: unsafe extern "C" fn(Cont),
}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

/// Held while a context is attached that connections on other threads may begin with.
static ATTACHING: Mutex<()> = Mutex::new(());

/// Registers the plugin: see [`Server::register`].
pub fn register() -> Result<Server, NotStarted> {
    Server::register(c"tssession")?.ok_or(NotStarted::NoServer)
}

/// Serves the server's sessions from now on. `arguments` are those after the plugin's name.
pub fn start<'a>(
    instance: &Instance,
    server: Server,
    arguments: impl IntoIterator<Item = &'a OsStr>,
) -> Result<(), NotStarted> {
    if PLUGIN.get().is_some() {
        return Err(NotStarted::Twice);
    }
    if is_second_copy() {
        return Err(NotStarted::SecondCopy);
    }
    if !is_openssl_of_process() {
        return Err(NotStarted::OtherOpenSsl);
    }
    let line = Line::parse(arguments).map_err(NotStarted::Line)?;
    if let Some((record, value @ 1..)) = server.own_session_cache() {
        return Err(NotStarted::OwnCacheIsOn(record, value));
    }
    let file = line
        .file
        .map(|file| folder(server, &CONFIG_DIR_GET).join(file));
    configure(instance, server, line.settings, file.as_deref())?;
    let plugin = PLUGIN.get_or_init(|| Plugin {
        server,
        file,
        tells_of_contexts: AtomicBool::new(false),
        connections: OnceLock::new(),
        statistics: OnceLock::new(),
    });
    server.on_lifecycle(LIFECYCLE_SERVER_CONTEXT, on_context)?;
    server.on_lifecycle(LIFECYCLE_PORTS_INITIALIZED, on_ports)?;
    server.on_lifecycle(LIFECYCLE_TASK_THREADS_READY, on_task_threads)?;
    server.on_lifecycle(LIFECYCLE_MESSAGE, on_message)?;
    plugin.hear_of_reloads();
    plugin.note(&format!(
        "serves TLS sessions, {} at most; tickets are {}",
        instance.config.int(Record::Size),
        if instance.serves_tickets() {
            "its own"
        } else {
            "the server's"
        }
    ));
    Ok(())
}

/// Makes the settings of the plugin's line and its file active.
fn configure(
    instance: &Instance,
    server: Server,
    settings: Vec<Setting>,
    file: Option<&Path>,
) -> Result<(), NotStarted> {
    let default = |name: &str, value: &str| {
        Setting::parse(name, OsStr::new(value)).expect("the records are this library's")
    };
    // In the server's records and environment this is a setting of the server's own cache.
    let mode = default("proxy.config.ssl.session_cache", "2");
    let notes = instance.set([mode].into_iter().chain(settings), Source::PluginLine);
    log_not_in_force("TSPluginInit", &notes, Level::Warn);
    let tickets = default("tssession.session_ticket.mode", "0");
    instance.set([tickets], Source::Default);
    instance
        .keys
        .set_base_directory(folder(server, &INSTALL_DIR_GET));
    match file {
        Some(file) => {
            let loaded = instance.load_records(file);
            let loaded = loaded.map_err(|error| NotStarted::File(file.to_owned(), error))?;
            loaded.log("TSPluginInit", file);
            Ok(())
        }
        None => Ok(()),
    }
}

/// A directory of the server's; if there is none, the working directory of the process.
fn folder(
    server: Server,
    function: &tssession_ats::Function<unsafe extern "C" fn() -> *const std::ffi::c_char>,
) -> PathBuf {
    let folder = server.folder(function).unwrap_or_default();
    PathBuf::from(OsStr::from_bytes(folder.to_bytes()))
}

/// Whether plugins that are linked with the library use another copy of it.
fn is_second_copy() -> bool {
    const SONAME: &str = concat!(env!("TSSESSION_SONAME"), "\0");
    let other = if_loaded(SONAME).and_then(|library| {
        // SAFETY: a function has this name, and only its address is used.
        unsafe { find_symbol::<*const c_void>(library, c"TSSslSessionCacheAttach") }
    });
    other.is_some_and(|other| !system::is_in_this_file(other))
}

/// The farm of this process, if its library is loaded.
fn farm() -> Option<Farm> {
    type StatusText = unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int;
    type StatGet = unsafe extern "C" fn(*const c_char, *mut i64) -> c_int;
    const SONAME: &str = concat!(env!("TSSESSION_FARM_SONAME"), "\0");
    let library = if_loaded(SONAME)?;
    let (mut len, mut keys) = (0, 0);
    // SAFETY: `<ts/ssl_session_farm.h>` declares the functions with these types. They write to what
    // the pointers name, and never through a null one.
    unsafe {
        let status: Option<StatusText> = find_symbol(library, c"TSSslSessionFarmStatusText");
        let get: Option<StatGet> = find_symbol(library, c"TSSslSessionFarmStatGet");
        // A process that is not a member has no status, and for it the other would log an error.
        if let (Some(status), Some(get)) = (status, get)
            && status(ptr::null_mut(), &mut len) > 0
        {
            get(c"plugin.tssession_farm.key_generation".as_ptr(), &mut keys);
        }
    }
    Some(Farm {
        gives_keys: keys > 0,
    })
}

/// The handle of the library of this name, if it is loaded. `soname` ends with a NUL. The handle is
/// not released: these libraries are never unloaded.
fn if_loaded(soname: &str) -> Option<*mut c_void> {
    // SAFETY: a C string; only finds what is loaded already.
    unsafe {
        let library = libc::dlopen(soname.as_ptr().cast(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
        if library.is_null() {
            libc::dlerror();
        }
        (!library.is_null()).then_some(library)
    }
}

impl Plugin {
    /// Writes a line that is not an error to the server's log.
    fn note(&self, text: &str) {
        let line = CString::new(text.replace(char::is_control, " ")).unwrap_or_default();
        if let Some(note) = self.server.find(&NOTE) {
            note.write(c"tssession", &line);
        }
    }

    /// Reads the file of settings and the ticket keys again whenever the server reloads its
    /// configuration.
    fn hear_of_reloads(&self) {
        let register = self.server.find(&MGMT_UPDATE_REGISTER);
        if let (Some(register), Ok(cont)) =
            (register, self.server.scheduled_continuation(on_reload))
        {
            // SAFETY: the continuation lives forever, and the name is copied.
            unsafe { register(cont, c"tssession".as_ptr(), ptr::null()) };
        }
    }

    /// Lets the server report each connection before its handshake.
    fn hear_of_connections(&self) -> Result<(), Missing> {
        let add = self.server.need(&HTTP_HOOK_ADD)?;
        let connections = Connections {
            ssl: self.server.need(&VCONN_SSL_CONNECTION_GET)?,
            reenable: self.server.need(&VCONN_REENABLE)?,
        };
        let hook = self.server.hook_number(c"TS_VCONN_START_HOOK");
        let hook = hook.ok_or_else(|| Missing::named(c"TS_VCONN_START_HOOK"))?;
        let cont = self.server.continuation(on_connection)?;
        self.connections.get_or_init(|| connections);
        // SAFETY: the continuation lives forever.
        unsafe { add(hook, cont) };
        Ok(())
    }

    /// Updates the server's own numbers.
    fn show(&self, instance: &Instance) {
        let Some(statistics) = self.server.statistics() else {
            return;
        };
        let shown = self.statistics.get_or_init(|| {
            let mut shown = Vec::new();
            instance.each_stat(|name, part, _| {
                let name = CString::new(shown_name(name, part)).unwrap_or_default();
                shown.push(statistics.create(&name));
            });
            shown
        });
        let mut shown = shown.iter();
        instance.each_stat(|_, _, value| {
            if let Some(Some(statistic)) = shown.next() {
                statistics.set(*statistic, i64::try_from(value).unwrap_or(i64::MAX));
            }
        });
    }
}

impl Connections {
    /// Attaches the context that a connection begins with, if it is not attached.
    ///
    /// # Safety
    /// `connection` is a connection of the server's, before its handshake.
    unsafe fn attach_context_of(&self, instance: &Instance, connection: Cont) {
        // SAFETY: the caller vouches for the connection, whose `SSL` lives as long as this call and
        // keeps its context alive. One thread at a time changes the context. Every other connection
        // that began with it passes this lock before its handshake.
        unsafe {
            let ssl = (self.ssl)(connection);
            if ssl.is_null() {
                return;
            }
            let ctx = tls::context_of_new_connection(ssl.cast());
            // The mark is there before the context is completely attached: look only under the lock.
            let _attaching = lock(&ATTACHING);
            if !ctx.is_null() && !tls::is_attached(ctx) {
                attach(instance, ctx);
            }
        }
    }
}

/// # Safety
/// As for [`tls::attach`].
unsafe fn attach(instance: &Instance, ctx: *mut SSL_CTX) {
    // SAFETY: passed on to the caller.
    match unsafe { tls::attach(instance, ctx) } {
        Ok(()) => log::debug!(target: "ssl.session_cache", "an SSL_CTX is attached"),
        Err(error) => {
            log::error!(target: "ssl.session_cache", "an SSL_CTX is not attached: {error}; its sessions are not cached");
        }
    }
}

/// The server calls this when a context is complete.
unsafe extern "C" fn on_context(_cont: Cont, _event: c_int, ctx: *mut c_void) -> c_int {
    callback(|instance| {
        if let Some(plugin) = PLUGIN.get()
            && !ctx.is_null()
        {
            plugin.tells_of_contexts.store(true, Ordering::Relaxed);
            // SAFETY: the server passes a context that it has made and does not use yet.
            unsafe { attach(instance, ctx.cast()) };
        }
    });
    0
}

/// The server calls this before it opens its ports. By now it has reported every context that
/// connections begin with, or it never reports any.
unsafe extern "C" fn on_ports(_cont: Cont, _event: c_int, _data: *mut c_void) -> c_int {
    callback(|_| {
        let Some(plugin) = PLUGIN.get() else {
            return;
        };
        if !plugin.tells_of_contexts.load(Ordering::Relaxed)
            && let Err(missing) = plugin.hear_of_connections()
        {
            log::error!(target: "ssl.session_cache", "{missing}; no session is cached");
        }
    });
    0
}

/// The server calls this for a new connection.
unsafe extern "C" fn on_connection(_cont: Cont, _event: c_int, connection: *mut c_void) -> c_int {
    let connections = PLUGIN.get().and_then(|plugin| plugin.connections.get());
    callback(|instance| {
        if let Some(connections) = connections {
            // SAFETY: the server passes a connection whose handshake has not begun.
            unsafe { connections.attach_context_of(instance, connection) };
        }
    });
    // Whatever happened: the connection waits for this.
    if let Some(connections) = connections {
        // SAFETY: as above, once.
        unsafe { (connections.reenable)(connection) };
    }
    0
}

/// The server calls this when its threads for tasks have started.
unsafe extern "C" fn on_task_threads(_cont: Cont, _event: c_int, _data: *mut c_void) -> c_int {
    callback(|instance| {
        let Some(plugin) = PLUGIN.get() else {
            return;
        };
        plugin.show(instance);
        let every = plugin.server.find(&CONT_SCHEDULE_EVERY_ON_POOL);
        if let (Some(every), Ok(cont)) = (every, plugin.server.scheduled_continuation(on_tick)) {
            // SAFETY: the continuation lives forever.
            unsafe { every(cont, SHOW_EVERY_MS, POOL_TASK) };
        }
    });
    0
}

/// The server calls this when the operator has sent a message to a plugin.
unsafe extern "C" fn on_message(_cont: Cont, _event: c_int, message: *mut c_void) -> c_int {
    callback(|instance| {
        // SAFETY: the server passes a message that lives during the call.
        let order = unsafe { PluginMessage::with_tag(message, c"tssession") };
        let answer = order.and_then(|order| orders::answer(instance, order, farm()));
        match (PLUGIN.get(), answer) {
            (Some(plugin), Some(Ok(answer))) => plugin.note(&answer),
            (_, Some(Err(answer))) => log::error!(target: "ssl.session_cache", "{answer}"),
            _ => {}
        }
    });
    0
}

/// The server calls this every second.
unsafe extern "C" fn on_tick(_cont: Cont, _event: c_int, _data: *mut c_void) -> c_int {
    callback(|instance| {
        if let Some(plugin) = PLUGIN.get() {
            plugin.show(instance);
        }
    });
    0
}

/// The server calls this when it has reloaded its configuration.
unsafe extern "C" fn on_reload(_cont: Cont, _event: c_int, _data: *mut c_void) -> c_int {
    callback(|instance| {
        let Some(plugin) = PLUGIN.get() else {
            return;
        };
        if let Some(file) = &plugin.file {
            match instance.load_records(file) {
                Ok(loaded) => loaded.log("reload", file),
                Err(error) => {
                    log::error!(target: "ssl.session_cache", "reload: {}{error}; the settings are unchanged", file.display());
                }
            }
        }
        if instance.serves_tickets()
            && let Err(error) = instance.keys.load(None)
            && !matches!(error, KeyFileError::NoneSet)
        {
            log::error!(target: "ssl_session_ticket", "reload: {error}; the active keys are unchanged");
        }
    });
    0
}
