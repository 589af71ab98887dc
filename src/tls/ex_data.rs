//! The library's data that OpenSSL's objects carry.

use std::ffi::{c_int, c_long, c_void};
use std::ptr;

use openssl_sys as ffi;

use super::visit::Visit;
use crate::instance::boundary::guard;

/// A new index under which the objects of a class carry data of the library's.
///
/// # Safety
/// The functions stay valid as long as there are objects of the class.
pub unsafe fn new_index(
    class: c_int,
    dup: Option<ffi::CRYPTO_EX_dup>,
    free: Option<ffi::CRYPTO_EX_free>,
) -> Option<c_int> {
    let _visit = Visit::begin()?;
    // SAFETY: passed on to the caller.
    let index = unsafe { ffi::CRYPTO_get_ex_new_index(class, 0, ptr::null_mut(), None, dup, free) };
    (index >= 0).then_some(index)
}

/// Called by OpenSSL when an object is duplicated: the duplicate gets none of the original's data.
pub unsafe extern "C" fn forget_in_copy(
    _to: *mut ffi::CRYPTO_EX_DATA,
    _from: *const ffi::CRYPTO_EX_DATA,
    data: *mut *mut c_void,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) -> c_int {
    // 0, after a panic, makes SSL_dup fail.
    guard(|| {
        // SAFETY: OpenSSL passes the place of the data that it is about to copy.
        unsafe { *data = ptr::null_mut() };
        1
    })
}
