//! The door for Traffic Server, which loads the library as a plugin. `<ts/ts.h>` declares the
//! function for whoever writes plugins; `docs/guide/traffic-server.md` tells operators of it.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use crate::instance::boundary::enter;
use crate::plugin::{self, NotStarted};

/// Has the sessions of this Traffic Server cached. What keeps the library from it is logged, and
/// the server goes on as if it were not there.
///
/// # Safety
/// `argv` is null or has `argc` C strings, as Traffic Server passes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSPluginInit(argc: c_int, argv: *const *const c_char) {
    // Before what can panic: without it the server ends.
    let registered = plugin::register();
    enter(|instance, function| {
        let count = if argv.is_null() {
            0
        } else {
            usize::try_from(argc).unwrap_or(0)
        };
        // The first one is the plugin's own name.
        let arguments = (1..count).map(|at| {
            // SAFETY: passed on to the caller.
            let argument = unsafe { CStr::from_ptr(*argv.add(at)) };
            OsStr::from_bytes(argument.to_bytes())
        });
        match registered.and_then(|server| plugin::start(instance, server, arguments)) {
            Ok(()) => {}
            Err(error @ NotStarted::Twice) => {
                log::error!(target: "ssl.session_cache", "{function}: {error}");
            }
            Err(error) => {
                log::error!(target: "ssl.session_cache", "{function}: {error}; sessions are left to the server");
            }
        }
    });
}
