//! The entry point for Traffic Server, which loads the library as a plugin. `<ts/ts.h>` declares
//! the function for authors of plugins; `docs/guide/traffic-server.md` describes it for operators.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use crate::instance::boundary::enter;
use crate::plugin::{self, NotStarted};

/// Caches the sessions of this Traffic Server. If it cannot, the reason is logged, and the server
/// runs as if the plugin were not there.
///
/// # Safety
/// `argv` is null or has `argc` C strings, as Traffic Server passes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSPluginInit(argc: c_int, argv: *const *const c_char) {
    // Before anything that can panic: a server ends itself if a plugin has not registered.
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
