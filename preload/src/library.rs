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
    /// From stdlib.h; the libc crate does not have it.
    fn secure_getenv(name: *const c_char) -> *mut c_char;
}

/// In bytes.
const STACK: usize = 2 << 20;

/// The setting that says whose tickets are.
const TICKET_MODE: &CStr = c"tssession.session_ticket.mode";

/// libtssession, ready to attach contexts.
pub struct Library {
    attach: Attach,
    config_set: ConfigSet,
    /// Nobody has set [`TICKET_MODE`]: a host with ticket keys of its own keeps them.
    may_leave_tickets: bool,
    /// Whether tickets are the library's, where that does not depend on the context.
    has_tickets: bool,
    farm: Option<Farm>,
}

struct Farm {
    start: WithPath,
    settings: CString,
    /// The process in which the start was last tried.
    tried_in: AtomicU64,
}

impl Library {
    /// Opens what there is to open, and reads all files: the process may give up its rights later.
    /// The error says why contexts are left alone.
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
            // What is wrong with it is in the library's own line, and the defaults are active.
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

    /// Attaches a context of this library's own, so that processes that are forked later have the
    /// same ticket key, and none of the host's is touched if attaching does not work.
    fn try_out(&self, openssl: &Openssl) -> Result<(), String> {
        let (Some(new), Some(free), Some(method)) = (
            openssl.SSL_CTX_new,
            openssl.SSL_CTX_free,
            openssl.TLS_server_method,
        ) else {
            return Err(format!("{} lacks functions", openssl.name));
        };
        // SAFETY: a context that nobody else has.
        unsafe {
            let ctx = new(method());
            let done = !ctx.is_null() && (self.attach)(ctx) == TS_SUCCESS;
            free(ctx);
            done.then_some(())
                .ok_or_else(|| "no context can be attached".to_owned())
        }
    }

    /// Attaches a context; `has_own_keys`: the host has ticket keys of its own for it. Whether its
    /// tickets are the library's now; `None`: it is not attached, and a line says why.
    ///
    /// # Safety
    /// `ctx` is a live context that no other thread changes meanwhile.
    pub unsafe fn attach(&self, ctx: *mut Context, has_own_keys: bool) -> Option<bool> {
        let leaves_tickets = has_own_keys && self.may_leave_tickets;
        // SAFETY: C strings; the caller vouches for the context.
        unsafe {
            if leaves_tickets
                && (self.config_set)(TICKET_MODE.as_ptr(), c"0".as_ptr()) != TS_SUCCESS
            {
                return None;
            }
            let done = (self.attach)(ctx) == TS_SUCCESS;
            if leaves_tickets {
                (self.config_set)(TICKET_MODE.as_ptr(), c"1".as_ptr());
            }
            done.then_some(self.has_tickets && !leaves_tickets)
        }
    }

    /// Makes this process a member of the farm, if there is one, at the first call in it.
    pub fn join_farm(&self) {
        let Some(farm) = &self.farm else {
            return;
        };
        if farm.tried_in.swap(this_process(), Ordering::Relaxed) != this_process() {
            // If it fails the farm writes a line, and the process goes on alone.
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
            // The farm has said why.
            return Ok(None);
        }
        Ok(Some(Self {
            start,
            settings,
            tried_in: AtomicU64::new(0),
        }))
    }
}

/// Calls a function in a thread with a stack that is large enough for it, and waits for its result:
/// the host's thread may have a very small one. The thread gets none of the host's signals.
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
        // A relative name would be one in whatever directory this is by now.
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

/// The value of a setting of the library's, and who has set it: `VALUE (SOURCE)`.
fn setting(config_text: ConfigText, name: &CStr) -> String {
    let mut text = vec![0_u8; 65536];
    let mut len = text.len() as c_int;
    // SAFETY: the buffer has as many bytes as are said.
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
