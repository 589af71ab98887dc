//! The functions for sessions and ticket keys in this process.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;

use tssession_ats::{
    SESSION_GET_BUFFER, SESSION_INSERT, SESSION_REMOVE, Server, SessionId, VERSION_MAJOR,
    is_openssl_of_process,
};

use super::events::Hooks;

type GetBuffer = unsafe extern "C" fn(*const SessionId, *mut c_char, *mut c_int) -> c_int;
/// ATS 7 to 8.1 and the C function of libtssession have no third argument: they do not read it.
type Insert = unsafe extern "C" fn(*const SessionId, *mut c_void, *mut c_void) -> c_int;
type Remove = unsafe extern "C" fn(*const SessionId) -> c_int;
pub(super) type TicketKeyUpdate = unsafe extern "C" fn(*mut c_char, c_int) -> c_int;

/// Why a process cannot be a member of a farm.
#[derive(Debug)]
pub enum Missing {
    /// The Traffic Server does not have this.
    InServer(tssession_ats::Missing),
    /// libtssession does not have this function.
    Function(&'static CStr),
    /// The Traffic Server is too old.
    Version(c_int),
    /// The Traffic Server has another OpenSSL, whose sessions the farm cannot use.
    OtherOpenSsl,
    /// The process has no functions for sessions, and libtssession cannot be loaded.
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
            Self::OtherOpenSsl => write!(
                f,
                "the server has another OpenSSL than the one that this library is linked with"
            ),
            Self::Library(error) => write!(f, "libtssession cannot be loaded: {error}"),
        }
    }
}

/// The functions for sessions.
pub(super) struct Sessions {
    pub(super) get_buffer: GetBuffer,
    pub(super) insert: Insert,
    pub(super) remove: Remove,
}

/// The Traffic Server of this process, if it is new enough; `None`: there is none.
pub(super) fn server() -> Result<Option<Server>, Missing> {
    let Some(server) = Server::of_process() else {
        return Ok(None);
    };
    let version = server.need(&VERSION_MAJOR)?;
    // SAFETY: takes nothing.
    match unsafe { version() } {
        major @ ..9 => Err(Missing::Version(major)),
        _ if !is_openssl_of_process() => Err(Missing::OtherOpenSsl),
        _ => Ok(Some(server)),
    }
}

/// A server's own functions for sessions, and its hook. `None` if it lacks one: ATS 11 has the hook
/// in its enum and declares the functions, but does not define them.
pub(super) fn of_server(server: Server) -> Option<(Sessions, Hooks)> {
    let session_hook = server.hook_number(c"TS_SSL_SESSION_HOOK")?;
    let sessions = Sessions {
        get_buffer: server.find(&SESSION_GET_BUFFER)?,
        insert: server.find(&SESSION_INSERT)?,
        remove: server.find(&SESSION_REMOVE)?,
    };
    let hooks = Hooks::Server {
        server,
        session_hook,
    };
    Some((sessions, hooks))
}
