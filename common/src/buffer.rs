//! Results that are written to a buffer of the caller's. On entry `*len_ptr` is the space in the
//! buffer, on return the number of bytes stored. The result is the number of bytes needed.

use std::ffi::{c_char, c_int};
use std::fmt;
use std::mem::MaybeUninit;
use std::slice;

/// The space that a caller has for a result.
///
/// # Safety
/// `len_ptr` points to a number, which need not be aligned; `buffer` is null or has as many bytes,
/// which may be uninitialized, and which nothing else uses while the result lives.
pub unsafe fn space<'a>(buffer: *mut c_char, len_ptr: *const c_int) -> &'a mut [MaybeUninit<u8>] {
    if buffer.is_null() {
        return &mut [];
    }
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        let len = usize::try_from(len_ptr.read_unaligned()).unwrap_or(0);
        slice::from_raw_parts_mut(buffer.cast(), len)
    }
}

/// Stores how many of the needed bytes fit into the space; returns how many are needed.
///
/// # Safety
/// `len_ptr` is writable; it need not be aligned.
pub unsafe fn answer(len_ptr: *mut c_int, space: usize, needed: Option<usize>) -> c_int {
    // No result is too large for a c_int: a session is 16 MiB at most.
    let needed = needed.unwrap_or(0);
    // SAFETY: the caller vouches for the pointer.
    unsafe { len_ptr.write_unaligned(needed.min(space) as c_int) };
    needed as c_int
}

/// Sets `*len_ptr` to 0 if the result is 0: after a panic, nothing else has done it.
///
/// # Safety
/// `len_ptr` is null or writable; it need not be aligned.
pub unsafe fn none_stored(len_ptr: *mut c_int, needed: c_int) -> c_int {
    if needed == 0 && !len_ptr.is_null() {
        // SAFETY: the caller vouches for the pointer.
        unsafe { len_ptr.write_unaligned(0) };
    }
    needed
}

/// Lets `write` write a text to a caller's buffer, as much of it as fits.
///
/// # Safety
/// As for [`space`]; `*len_ptr` is writable.
pub unsafe fn write_text(
    buffer: *mut c_char,
    len_ptr: *mut c_int,
    write: impl FnOnce(&mut Text<'_>) -> fmt::Result,
) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe {
        let mut text = Text {
            space: space(buffer, len_ptr),
            len: 0,
        };
        // Cannot fail: text that does not fit is only counted.
        let _ = write(&mut text);
        answer(len_ptr, text.space.len(), Some(text.len))
    }
}

/// A text that is stored as far as it fits, and counted.
pub struct Text<'a> {
    space: &'a mut [MaybeUninit<u8>],
    len: usize,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let space = self.space.get_mut(self.len..).unwrap_or_default();
        for (to, from) in space.iter_mut().zip(text.bytes()) {
            to.write(from);
        }
        self.len += text.len();
        Ok(())
    }
}
