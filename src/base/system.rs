//! The library's requests to the operating system.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tssession_common::boundary::catch;

use super::alloc::NoMemory;

/// Overwrites bytes that are no longer needed. The compiler does not remove this.
///
/// For session data: the `zeroize` crate, which wipes keys, goes byte by byte.
pub fn wipe(bytes: &mut [u8]) {
    // SAFETY: the pointer and the length are those of `bytes`.
    unsafe { libc::explicit_bzero(bytes.as_mut_ptr().cast(), bytes.len()) };
}

unsafe extern "C" {
    /// From stdlib.h, of glibc and musl.
    fn secure_getenv(name: *const c_char) -> *mut c_char;
}

/// Calls `read` with the value of an environment variable, if it is set. In a program with more
/// rights than its caller, none is set: the environment is the caller's.
pub fn with_variable<R>(name: &CStr, read: impl FnOnce(&OsStr) -> R) -> Option<R> {
    // SAFETY: the name is a C string, and so is the value. As everywhere in C, no other thread may
    // change the environment at the same time.
    unsafe {
        let value = secure_getenv(name.as_ptr());
        (!value.is_null()).then(|| read(OsStr::from_bytes(CStr::from_ptr(value).to_bytes())))
    }
}

/// Opens a file for reading. Does not wait if it is not a regular file.
pub fn open_to_read(path: &Path) -> Result<io::Result<File>, NoMemory> {
    let mut name = Vec::new();
    let path = path.as_os_str().as_bytes();
    name.try_reserve_exact(path.len() + 1)?;
    name.extend_from_slice(path);
    name.push(0);
    let Ok(name) = CString::from_vec_with_nul(name) else {
        return Ok(Err(io::ErrorKind::InvalidInput.into()));
    };
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    loop {
        // SAFETY: the name is a C string.
        let file = unsafe { libc::open(name.as_ptr(), flags) };
        if file >= 0 {
            // SAFETY: it was opened just now, and nobody else knows of it.
            return Ok(Ok(unsafe { File::from_raw_fd(file) }));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Ok(Err(error));
        }
    }
}

/// Writes an error as its `Display` does, without allocating.
pub fn fmt_error(error: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(code) = error.raw_os_error() else {
        return write!(f, "{}", error.kind());
    };
    let mut text = [0u8; 128];
    // SAFETY: the pointer and the length are those of `text`. This is the function of POSIX,
    // whichever one the C library calls by this name.
    let done = unsafe { libc::strerror_r(code, text.as_mut_ptr().cast(), text.len()) } == 0;
    let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
    let text = text.to_str().ok().filter(|_| done);
    write!(f, "{} (os error {code})", text.unwrap_or("Unknown error"))
}

/// Whether this is `libtssession.so` and not a part of a Rust program. The Rust runtime in it then
/// belongs to this library.
pub fn is_loaded_by_itself() -> bool {
    loaded_object(own_address()).is_some_and(|object| {
        // SAFETY: the name lives as long as the code does, which is never unloaded.
        let file = unsafe { CStr::from_ptr(object.dli_fname) };
        file.to_bytes()
            .rsplit(|byte| *byte == b'/')
            .next()
            .is_some_and(|file| file.starts_with(b"libtssession.so"))
    })
}

/// Whether this address is in the same loaded file as the library's own code.
pub fn is_in_this_file(address: *const c_void) -> bool {
    let start = |address| loaded_object(address).map(|object| object.dli_fbase);
    start(address) == start(own_address())
}

/// The address range of the loaded file that contains this address; empty if there is none.
pub fn addresses_of_file(address: *const c_void) -> Range<usize> {
    struct Search {
        address: usize,
        found: Range<usize>,
    }
    unsafe extern "C" fn look(
        file: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        search: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a loaded file, and the argument of dl_iterate_phdr.
        let (file, search) = unsafe { (&*file, &mut *search.cast::<Search>()) };
        // SAFETY: the file has so many headers.
        let headers =
            unsafe { std::slice::from_raw_parts(file.dlpi_phdr, usize::from(file.dlpi_phnum)) };
        let found = catch(|| {
            let segments = headers
                .iter()
                .filter(|header| header.p_type == libc::PT_LOAD);
            let ranges = segments.map(|segment| {
                let start = file.dlpi_addr as usize + segment.p_vaddr as usize;
                start..start + segment.p_memsz as usize
            });
            let is_it = ranges.clone().any(|range| range.contains(&search.address));
            let start = ranges.clone().map(|range| range.start).min()?;
            let end = ranges.map(|range| range.end).max()?;
            is_it.then_some(start..end)
        });
        match found {
            Ok(Some(found)) => {
                search.found = found;
                1
            }
            _ => 0,
        }
    }
    let mut search = Search {
        address: address.addr(),
        found: 0..0,
    };
    // SAFETY: the function is of the type asked for. `search` lives until the call returns.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}

/// An address in the library's own code.
fn own_address() -> *const c_void {
    own_address as *const c_void
}

fn loaded_object(address: *const c_void) -> Option<libc::Dl_info> {
    // SAFETY: the structure consists of pointers and is only written to; any address may be asked
    // for.
    unsafe {
        let mut found = mem::zeroed();
        (libc::dladdr(address, &mut found) != 0).then_some(found)
    }
}
