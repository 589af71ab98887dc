//! Data of the library's that OpenSSL's objects carry.

use std::ffi::c_int;
use std::ptr;

use openssl_sys as ffi;

use super::visit::Visit;

/// An index under which the objects of a class carry data of the library's.
///
/// # Safety
/// The functions stay valid as long as there are objects of the class.
pub unsafe fn new_index(
    class: c_int,
    new: Option<ffi::CRYPTO_EX_new>,
    dup: Option<ffi::CRYPTO_EX_dup>,
    free: Option<ffi::CRYPTO_EX_free>,
) -> Option<c_int> {
    let _visit = Visit::begin()?;
    // SAFETY: passed on to the caller.
    let index = unsafe { ffi::CRYPTO_get_ex_new_index(class, 0, ptr::null_mut(), new, dup, free) };
    (index >= 0).then_some(index)
}
