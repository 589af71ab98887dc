//! Memory that may be refused: the host goes on without it.

/// A value in memory that [`unboxed`] frees; `None`: there is none.
pub fn boxed<T>(value: T) -> Option<*mut T> {
    let mut one = Vec::new();
    one.try_reserve_exact(1).ok()?;
    one.push(value);
    Some(Box::into_raw(one.into_boxed_slice()).cast())
}

/// Drops a value.
///
/// # Safety
/// `value` comes from [`boxed`], and nobody uses it any more.
pub unsafe fn unboxed<T>(value: *mut T) {
    // SAFETY: the caller vouches for it: a box of one.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(value, 1)) });
}
