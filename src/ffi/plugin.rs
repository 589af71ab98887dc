//! The door for Traffic Server, which loads the library as a plugin. `<ts/ts.h>` declares the
//! function for whoever writes plugins; `docs/ats.md` tells operators of it.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use crate::guard::enter;
use crate::plugin;

/// Has the sessions of this Traffic Server cached. What keeps the library from it is logged, and
/// the server goes on as if it were not there.
///
/// # Safety
/// `argv` is null or has `argc` C strings, as Traffic Server passes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn TSPluginInit(argc: c_int, argv: *const *const c_char) {
    enter("TSPluginInit", |library| {
        let count = match argv.is_null() {
            true => 0,
            false => usize::try_from(argc).unwrap_or(0),
        };
        // The first one is the plugin's own name.
        let arguments = (1..count).map(|at| {
            // SAFETY: passed on to the caller.
            let argument = unsafe { CStr::from_ptr(*argv.add(at)) };
            OsStr::from_bytes(argument.to_bytes())
        });
        if let Err(error) = plugin::start(library, arguments) {
            log::error!(target: "ssl.session_cache", "TSPluginInit: {error}; sessions are left to the server");
        }
    });
}
