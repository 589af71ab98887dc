//! Asks the loader which file contains an address, and for the functions of a file.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem;
use std::ptr;

/// The head of glibc's `struct link_map`.
#[repr(C)]
struct LinkMap {
    address: usize,
    name: *const c_char,
}

const RTLD_DL_LINKMAP: c_int = 2;

unsafe extern "C" {
    fn dladdr1(
        address: *const c_void,
        info: *mut libc::Dl_info,
        extra: *mut *mut c_void,
        flags: c_int,
    ) -> c_int;
}

/// A loaded file.
#[derive(Clone, Copy)]
pub struct File {
    base: *mut c_void,
    /// Empty for the program itself.
    pub name: &'static CStr,
}

impl File {
    /// The program.
    pub const PROGRAM: Self = Self {
        base: ptr::null_mut(),
        name: c"",
    };

    /// The file that contains an address. Its name lives as long as the file stays loaded.
    pub fn of(address: *const c_void) -> Option<Self> {
        // SAFETY: both places may be written to; on success the map is a live one.
        unsafe {
            let mut info: libc::Dl_info = mem::zeroed();
            let mut map: *mut c_void = ptr::null_mut();
            if dladdr1(address, &mut info, &mut map, RTLD_DL_LINKMAP) == 0 || map.is_null() {
                return None;
            }
            let name = (*map.cast::<LinkMap>()).name;
            let name = if name.is_null() {
                c""
            } else {
                CStr::from_ptr(name)
            };
            let base = info.dli_fbase;
            Some(Self { base, name })
        }
    }

    /// This library's own file.
    pub fn own() -> Option<Self> {
        Self::of(Self::own as fn() -> Option<Self> as *const c_void)
    }

    /// Whether both are the same file.
    pub fn is(self, other: Self) -> bool {
        self.base == other.base
    }

    fn is_own(self) -> bool {
        Self::own().is_some_and(|own| own.is(self))
    }

    /// Whether the name without its directory begins with this.
    pub fn is_called(self, beginning: &[u8]) -> bool {
        let name = self.name.to_bytes();
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
        name.starts_with(beginning)
    }

    /// Whether it is a libssl.
    pub fn is_libssl(self) -> bool {
        self.is_called(b"libssl")
    }
}

/// A place where functions are looked up.
#[derive(Clone, Copy)]
pub struct Handle(*mut c_void);

impl Handle {
    /// The files after this library, in the order of the process.
    pub const NEXT: Self = Self(libc::RTLD_NEXT);

    /// Opens a file with the given flags. It is never closed. The error is the loader's text.
    pub fn open(name: &CStr, flags: c_int) -> Result<Self, String> {
        // SAFETY: the name is a C string; libraries that are opened here are sound to load.
        let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
        if !handle.is_null() {
            return Ok(Self(handle));
        }
        // SAFETY: null, or this thread's last message, which is a C string until the next call.
        let error = unsafe {
            let error = libc::dlerror();
            (!error.is_null()).then(|| CStr::from_ptr(error))
        };
        let error = error.map(|error| error.to_string_lossy().into_owned());
        Err(error.unwrap_or_else(|| format!("{}: not loaded", name.to_string_lossy())))
    }

    /// The function with this name, if it is not this library's own.
    ///
    /// # Safety
    /// `F` is a pointer to a function of the type that this name has.
    pub unsafe fn find<F: Copy>(self, name: &CStr) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) }
        // SAFETY: the handle is one of dlopen's, or RTLD_NEXT.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if found.is_null() || File::of(found)?.is_own() {
            return None;
        }
        // SAFETY: a pointer of that size, not null; the caller vouches for its type.
        Some(unsafe { mem::transmute_copy(&found) })
    }
}
