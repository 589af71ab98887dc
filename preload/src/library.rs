//! libtssession and the farm, opened once and set up as the environment says.

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::line;
use crate::loader::{File, Handle};
use crate::lock::this_process;
use crate::openssl::{Context, Openssl};

const TS_SUCCESS: c_int = 0;

type WithPath = unsafe extern "C" fn(*const c_char) -> c_int;
type ConfigText = unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int;
type ConfigSet = unsafe extern "C" fn(*const c_char, *const c_char) -> c_int;
type Attach = unsafe extern "C" fn(*mut Context) -> c_int;

unsafe extern "C" {
    /// From stdlib.h. The libc crate does not have it.
    fn secure_getenv(name: *const c_char) -> *mut c_char;
}

/// In bytes.
const STACK: usize = 2 << 20;

/// The setting that decides who makes the tickets.
const TICKET_MODE: &CStr = c"tssession.session_ticket.mode";

/// libtssession, ready to attach contexts.
pub struct Library {
    attach: Attach,
    config_set: ConfigSet,
    /// [`TICKET_MODE`] has its default: a host with its own ticket keys keeps them.
    may_leave_tickets: bool,
    /// Whether the library makes the tickets, for contexts whose host has no ticket keys.
    has_tickets: bool,
    farm: Option<Farm>,
}

struct Farm {
    start: WithPath,
    settings: CString,
    /// The process that last tried to start it.
    tried_in: AtomicU64,
}

impl Library {
    /// Opens the libraries and reads all files now, because the process may give up its rights
    /// later. The error says why contexts are left alone.
    pub fn open(openssl: &Openssl) -> Result<Self, String> {
        let handle = open(openssl, env!("TSSESSION_SONAME"))?;
        let missing = |name: &str| format!("{} has no {name}", env!("TSSESSION_SONAME"));
        // SAFETY: these are the types that the library declares the functions with.
        let (attach, config_set, config_load, config_text) = unsafe {
            (
                handle.find::<Attach>(c"TSSslSessionCacheAttach"),
                handle.find::<ConfigSet>(c"TSSslSessionCacheConfigSet"),
                handle.find::<WithPath>(c"TSSslSessionCacheConfigLoad"),
                handle.find::<ConfigText>(c"TSSslSessionCacheConfigText"),
            )
        };
        let attach = attach.ok_or_else(|| missing("TSSslSessionCacheAttach"))?;
        let config_set = config_set.ok_or_else(|| missing("TSSslSessionCacheConfigSet"))?;
        let config_load = config_load.ok_or_else(|| missing("TSSslSessionCacheConfigLoad"))?;
        let config_text = config_text.ok_or_else(|| missing("TSSslSessionCacheConfigText"))?;
        if let Some(file) = variable(c"TSSESSION_CONFIG") {
            // The library logs what is wrong with the file, and keeps its defaults.
            // SAFETY: a C string.
            unsafe { config_load(file.as_ptr()) };
        }
        let mode = setting(config_text, TICKET_MODE);
        let library = Self {
            attach,
            config_set,
            may_leave_tickets: mode.ends_with("(default)"),
            has_tickets: !mode.starts_with('0'),
            farm: None,
        };
        library.try_out(openssl)?;
        let farm = variable(c"TSSESSION_FARM").and_then(|settings| {
            Farm::open(openssl, settings).unwrap_or_else(|error| {
                line(&format!("without the farm: {error}"));
                None
            })
        });
        Ok(Self { farm, ..library })
    }

    /// Attaches a context of this library's own. So processes that are forked later have the same
    /// ticket key, and no context of the host is touched if attaching does not work.
    fn try_out(&self, openssl: &Openssl) -> Result<(), String> {
        let (Some(new), Some(free), Some(method)) = (
            openssl.SSL_CTX_new,
            openssl.SSL_CTX_free,
            openssl.TLS_server_method,
        ) else {
            return Err(format!("{} lacks functions", openssl.name));
        };
        // SAFETY: nobody else has this context.
        unsafe {
            let ctx = new(method());
            let done = !ctx.is_null() && (self.attach)(ctx) == TS_SUCCESS;
            free(ctx);
            done.then_some(())
                .ok_or_else(|| "no context can be attached".to_owned())
        }
    }

    /// Attaches a context. `has_own_keys`: the host has its own ticket keys for it. Returns whether
    /// the library now makes its tickets. `None`: it is not attached, and a line says why.
    ///
    /// # Safety
    /// `ctx` is a live context that no other thread changes meanwhile.
    pub unsafe fn attach(&self, ctx: *mut Context, has_own_keys: bool) -> Option<bool> {
        let leaves_tickets = self.leaves_tickets(has_own_keys);
        let set_mode = |mode: &CStr| {
            // SAFETY: C strings.
            unsafe { (self.config_set)(TICKET_MODE.as_ptr(), mode.as_ptr()) == TS_SUCCESS }
        };
        // Also the default: a fork may have happened before a parent's thread had set it again.
        let mode = if leaves_tickets { c"0" } else { c"1" };
        if self.may_leave_tickets && !set_mode(mode) {
            return None;
        }
        // SAFETY: the caller vouches for the context.
        let done = unsafe { (self.attach)(ctx) } == TS_SUCCESS;
        if leaves_tickets {
            set_mode(c"1");
        }
        done.then_some(self.has_tickets && !leaves_tickets)
    }

    /// Whether the tickets of a context are left to the host: if it has its own keys for them, unless
    /// the setting says otherwise.
    pub fn leaves_tickets(&self, has_own_keys: bool) -> bool {
        has_own_keys && self.may_leave_tickets
    }

    /// Makes this process a member of the farm, if there is one. Only the first call in a process
    /// counts.
    pub fn join_farm(&self) {
        let Some(farm) = &self.farm else {
            return;
        };
        let this = this_process();
        // Reads first: each connection comes here.
        if farm.tried_in.load(Ordering::Relaxed) != this
            && farm.tried_in.swap(this, Ordering::Relaxed) != this
        {
            // If it fails, the farm writes a line and the process continues alone.
            // SAFETY: a C string.
            on_large_stack(|| unsafe { (farm.start)(farm.settings.as_ptr()) });
        }
    }
}

impl Farm {
    fn open(openssl: &Openssl, settings: CString) -> Result<Option<Self>, String> {
        const FILE: &str = env!("TSSESSION_FARM_SONAME");
        let handle = open(openssl, FILE)?;
        // SAFETY: these are the types that the farm declares the functions with.
        let (prepare, start) = unsafe {
            (
                handle.find::<WithPath>(c"TSSslSessionFarmPrepare"),
                handle.find::<WithPath>(c"TSSslSessionFarmStart"),
            )
        };
        let (Some(prepare), Some(start)) = (prepare, start) else {
            return Err(format!("{FILE} lacks functions"));
        };
        // SAFETY: a C string.
        if on_large_stack(|| unsafe { prepare(settings.as_ptr()) }) != Some(TS_SUCCESS) {
            // The farm has written why.
            return Ok(None);
        }
        Ok(Some(Self {
            start,
            settings,
            tried_in: AtomicU64::new(0),
        }))
    }
}

/// Calls a function in a thread with a large enough stack, and waits for its result. The stack of
/// the host's thread may be very small. The new thread gets none of the host's signals.
fn on_large_stack<R: Send>(body: impl FnOnce() -> R + Send) -> Option<R> {
    thread::scope(|scope| {
        // SAFETY: the sets are written to before they are read.
        let started = unsafe {
            let mut all = mem::zeroed();
            let mut before = mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before);
            let started = thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, body);
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
            started
        };
        match started {
            Ok(thread) => thread.join().ok(),
            Err(error) => {
                line(&format!(
                    "without the farm: no thread can be started: {error}"
                ));
                None
            }
        }
    })
}

/// Opens a library for this OpenSSL: the one beside this library, else the one that the loader
/// finds.
fn open(openssl: &Openssl, soname: &str) -> Result<Handle, String> {
    let soname = match openssl.major() {
        3 => soname.to_owned(),
        major => format!("{soname}-openssl{major}"),
    };
    let directory = File::own().and_then(|own| {
        let path = Path::new(OsStr::from_bytes(own.name.to_bytes()));
        path.parent().map(Path::to_owned)
    });
    let beside = directory.map(|directory| directory.join(&soname));
    let path = match beside {
        // A relative name would depend on the current directory, which may have changed.
        Some(beside) if beside.is_absolute() && beside.exists() => beside.into_os_string(),
        _ => soname.into(),
    };
    let path = CString::new(path.as_bytes()).map_err(|error| error.to_string())?;
    Handle::open(&path, libc::RTLD_NOW | libc::RTLD_LOCAL)
}

/// An environment variable; `None` if it is not set, or empty, or the process has more rights than
/// its caller.
fn variable(name: &CStr) -> Option<CString> {
    // SAFETY: the name is a C string, and the value is one until the environment changes.
    let value = unsafe {
        let value = secure_getenv(name.as_ptr());
        if value.is_null() {
            return None;
        }
        CStr::from_ptr(value).to_owned()
    };
    (!value.is_empty()).then_some(value)
}

/// The value of a setting of the library, and its source: `VALUE (SOURCE)`.
fn setting(config_text: ConfigText, name: &CStr) -> String {
    let mut text = vec![0_u8; 65536];
    let mut len = text.len() as c_int;
    // SAFETY: the buffer has `len` bytes.
    unsafe { config_text(text.as_mut_ptr().cast(), &mut len) };
    text.truncate(usize::try_from(len).unwrap_or(0));
    let name = name.to_string_lossy();
    let text = String::from_utf8_lossy(&text);
    let value = text.lines().find_map(|line| {
        let rest = line.strip_prefix(&*name)?;
        rest.strip_prefix(' ')
    });
    value.unwrap_or_default().to_owned()
}
