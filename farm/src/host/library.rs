//! libtssession: found in the process, or loaded.

use std::ffi::{CStr, c_void};

use tssession_ats::find_symbol;

use super::events::{Hooks, SessionHookAdd};
use super::functions::{Missing, Sessions, TicketKeyUpdate};

/// libtssession: the copy that the process has, or one that is loaded now. It is never unloaded.
pub(super) struct Library {
    handle: *mut c_void,
}

impl Library {
    const HOOK: &CStr = c"TSSslSessionHookAdd";

    pub(super) fn open() -> Result<Self, Missing> {
        // SAFETY: this is the type that the library declares the function with.
        if unsafe { find_symbol::<SessionHookAdd>(libc::RTLD_DEFAULT, Self::HOOK) }.is_some() {
            let handle = libc::RTLD_DEFAULT;
            return Ok(Self { handle });
        }
        const FILE: &str = concat!(env!("TSSESSION_SONAME"), "\0");
        // It may be loaded already, with its names hidden. The loader then knows it by its SONAME and
        // does not load a second copy, which would be a second cache.
        // SAFETY: the name is a C string; what the library does when it is loaded is sound.
        let handle =
            unsafe { libc::dlopen(FILE.as_ptr().cast(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: this thread's last message is a C string until the next call.
            let error = unsafe { CStr::from_ptr(libc::dlerror()) };
            return Err(Missing::Library(error.to_string_lossy().into_owned()));
        }
        Ok(Self { handle })
    }

    /// # Safety
    /// As for [`find_symbol`].
    unsafe fn need<F: Copy>(&self, name: &'static CStr) -> Result<F, Missing> {
        // SAFETY: passed on to the caller.
        unsafe { find_symbol(self.handle, name) }.ok_or(Missing::Function(name))
    }

    pub(super) fn sessions(&self) -> Result<(Sessions, Hooks), Missing> {
        // SAFETY: these are the types that the library declares the functions with, but for
        // `Insert`, whose third argument it does not read.
        unsafe {
            let sessions = Sessions {
                get_buffer: self.need(c"TSSslSessionGetBuffer")?,
                insert: self.need(c"TSSslSessionInsert")?,
                remove: self.need(c"TSSslSessionRemove")?,
            };
            let add = self.need(Self::HOOK)?;
            Ok((sessions, Hooks::Library { add }))
        }
    }

    pub(super) fn update_ticket_keys(&self) -> Result<TicketKeyUpdate, Missing> {
        // SAFETY: this is the type that the library declares the function with.
        unsafe { self.need(c"TSSslTicketKeyUpdate") }
    }
}
