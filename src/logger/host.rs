//! The log functions of a host that is Traffic Server, or that has functions of their
//! names.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem;

use log::Level;

type Report = unsafe extern "C" fn(format: *const c_char, ...);
type Debug = unsafe extern "C" fn(tag: *const c_char, format: *const c_char, ...);
type IsDebugTagSet = unsafe extern "C" fn(tag: *const c_char) -> c_int;

/// What a process exports.
pub(super) struct Host {
    error: Report,
    /// Errors and warnings are one where there is none.
    warning: Option<Report>,
    debug: Option<Debug>,
    /// Where there is none, `debug` knows itself what is wanted.
    is_debug_tag_set: Option<IsDebugTagSet>,
}

impl Host {
    /// Looks for the functions under their C names (ATS up to 9) and C++ names (from 10 on,
    /// which has removed TSDebug).
    pub(super) fn find() -> Option<Self> {
        let found = Self::look_up();
        // What was not found is no error that the thread should hear of later.
        // SAFETY: takes this thread's last message.
        unsafe { libc::dlerror() };
        found
    }

    fn look_up() -> Option<Self> {
        // SAFETY: these are the types that Traffic Server declares the functions with.
        unsafe {
            Some(Self {
                error: find(&[c"TSError", c"_Z7TSErrorPKcz"])
                    .map(|at| mem::transmute::<*mut c_void, Report>(at))?,
                warning: find(&[c"TSWarning", c"_Z9TSWarningPKcz"])
                    .map(|at| mem::transmute::<*mut c_void, Report>(at)),
                debug: find(&[c"TSDebug"]).map(|at| mem::transmute::<*mut c_void, Debug>(at)),
                is_debug_tag_set: find(&[c"TSIsDebugTagSet"])
                    .map(|at| mem::transmute::<*mut c_void, IsDebugTagSet>(at)),
            })
        }
    }

    pub(super) fn wants_debug(&self, tag: &CStr) -> bool {
        match (self.debug, self.is_debug_tag_set) {
            (None, _) => false,
            (Some(_), None) => true,
            // SAFETY: the host's function takes a C string, and keeps nothing.
            (Some(_), Some(is_set)) => unsafe { is_set(tag.as_ptr()) != 0 },
        }
    }

    pub(super) fn log(&self, level: Level, tag: &CStr, line: &CStr) {
        let report = match level {
            Level::Error => self.error,
            Level::Warn => self.warning.unwrap_or(self.error),
            _ => {
                if let Some(debug) = self.debug {
                    // SAFETY: as below.
                    unsafe { debug(tag.as_ptr(), c"%s".as_ptr(), line.as_ptr()) };
                }
                return;
            }
        };
        // SAFETY: the host's function takes a printf format and what that names: one C
        // string, of which it keeps nothing.
        unsafe { report(c"tssession: %s".as_ptr(), line.as_ptr()) };
    }
}

/// The first of these names that the process exports.
fn find(names: &[&CStr]) -> Option<*mut c_void> {
    names.iter().find_map(|name| {
        // SAFETY: looks only; the name is a C string.
        let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!at.is_null()).then_some(at)
    })
}
