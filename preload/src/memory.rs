//! Memory that may be refused. The host then continues without it.

/// A value in memory that [`unboxed`] frees; `None`: there is no memory.
pub fn boxed<T>(value: T) -> Option<*mut T> {
    let mut one = Vec::new();
    one.try_reserve_exact(1).ok()?;
    one.push(value);
    Some(Box::into_raw(one.into_boxed_slice()).cast())
}

/// Drops a value.
///
/// # Safety
/// `value` comes from [`boxed`], and is not used any more.
pub unsafe fn unboxed<T>(value: *mut T) {
    // SAFETY: the caller guarantees that it is a box of one value.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(value, 1)) });
}
