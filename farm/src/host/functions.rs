//! The functions that a process has for sessions and ticket keys.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;

use tssession_ats::{
    SESSION_GET_BUFFER, SESSION_INSERT, SESSION_REMOVE, Server, SessionId, VERSION_MAJOR,
    is_openssl_of_process,
};

use super::events::Hooks;

type GetBuffer = unsafe extern "C" fn(*const SessionId, *mut c_char, *mut c_int) -> c_int;
/// ATS 7 to 8.1 and the C name of libtssession have no third argument: it is then not read.
type Insert = unsafe extern "C" fn(*const SessionId, *mut c_void, *mut c_void) -> c_int;
type Remove = unsafe extern "C" fn(*const SessionId) -> c_int;
pub(super) type TicketKeyUpdate = unsafe extern "C" fn(*mut c_char, c_int) -> c_int;

/// What a process lacks to be a member of a farm.
#[derive(Debug)]
pub enum Missing {
    /// It is a Traffic Server without this.
    InServer(tssession_ats::Missing),
    /// It has libtssession without this function.
    Function(&'static CStr),
    /// It is a Traffic Server that is too old.
    Version(c_int),
    /// It is a Traffic Server with another OpenSSL, whose sessions are not the farm's.
    OtherOpenSsl,
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

/// A Traffic Server that is new enough.
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

/// A server's own functions for sessions, and its hook. `None` if it lacks any: ATS 11 has the hook
/// in its enum and declares the functions, but defines none of them.
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
