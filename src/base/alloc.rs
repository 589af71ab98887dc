//! Memory that may be refused. Rust's own `Box` and `Arc` end the process if there is no memory,
//! which a library must not do.

use std::alloc::{Layout, alloc};
use std::collections::TryReserveError;
use std::ffi::{OsStr, OsString, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ops::Deref;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwapAny, RefCnt};

/// The allocator had no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory")
    }
}

impl std::error::Error for NoMemory {}

impl From<TryReserveError> for NoMemory {
    fn from(_: TryReserveError) -> Self {
        Self
    }
}

/// A value in a box.
pub fn boxed<T>(value: T) -> Result<Box<T>, NoMemory> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        // Allocates nothing.
        return Ok(Box::new(value));
    }
    // SAFETY: the layout has a size.
    let place = NonNull::new(unsafe { alloc(layout) }.cast::<T>()).ok_or(NoMemory)?;
    // SAFETY: the place has the size and alignment of a box of this type, comes from the allocator
    // of boxes, and belongs to nobody else.
    unsafe {
        place.write(value);
        Ok(Box::from_raw(place.as_ptr()))
    }
}

/// A copy of a vector's content.
pub fn vec(from: &[u8]) -> Result<Vec<u8>, NoMemory> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(from.len())?;
    copy.extend_from_slice(from);
    Ok(copy)
}

/// So many zeros.
pub fn zeros(len: usize) -> Result<Vec<u8>, NoMemory> {
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(len)?;
    zeros.resize(len, 0);
    Ok(zeros)
}

/// A copy of a string of the system's.
pub fn os_string(from: &OsStr) -> Result<OsString, NoMemory> {
    vec(from.as_bytes()).map(OsString::from_vec)
}

/// A copy of a text.
pub fn string(from: &str) -> Result<String, NoMemory> {
    let mut copy = String::new();
    copy.try_reserve_exact(from.len())?;
    copy.push_str(from);
    Ok(copy)
}

/// A value with several owners, which the last one drops: an `Arc`.
pub struct Shared<T> {
    counted: NonNull<Counted<T>>,
    _owns: PhantomData<Counted<T>>,
}

/// The target of a [`Shared`].
pub struct Counted<T> {
    owners: AtomicUsize,
    value: T,
}

// SAFETY: as with an `Arc`: every owner can reach the value, and any of them may drop it.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Takes a value; drops it if there is no memory.
    pub fn new(value: T) -> Result<Self, NoMemory> {
        let counted = boxed(Counted {
            owners: AtomicUsize::new(1),
            value,
        })?;
        Ok(Self {
            counted: NonNull::from(Box::leak(counted)),
            _owns: PhantomData,
        })
    }
}

impl<T> Shared<T> {
    /// Gives this reference away. [`Shared::from_raw`] takes it back.
    pub fn into_raw(self) -> *mut c_void {
        Self::into_ptr(self).cast()
    }

    /// # Safety
    /// `raw` comes from [`Shared::into_raw`], of the same type, and is used once.
    pub unsafe fn from_raw(raw: *mut c_void) -> Self {
        // SAFETY: passed on to the caller.
        unsafe { Self::from_ptr(raw.cast()) }
    }

    /// Another reference, beside the one that was given away.
    ///
    /// # Safety
    /// `raw` comes from [`Shared::into_raw`], of the same type, and has not been taken back.
    pub unsafe fn from_borrowed(raw: *mut c_void) -> Self {
        // SAFETY: passed on to the caller; the reference that was given away is not dropped.
        let shared = ManuallyDrop::new(unsafe { Self::from_raw(raw) });
        Self::clone(&shared)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it lives as long as it has an owner, and does not change.
        unsafe { &self.counted.as_ref().value }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // The count cannot overflow: so many owners do not fit into memory.
        // SAFETY: as above.
        unsafe { self.counted.as_ref() }
            .owners
            .fetch_add(1, Ordering::Relaxed);
        Self {
            counted: self.counted,
            _owns: PhantomData,
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: as above.
        let owners = unsafe { &self.counted.as_ref().owners };
        if owners.fetch_sub(1, Ordering::Release) == 1 {
            // The other owners have finished with it. A load and not a fence: the thread sanitizer
            // does not know fences.
            owners.load(Ordering::Acquire);
            // SAFETY: it came from a box, and this was its last owner.
            drop(unsafe { Box::from_raw(self.counted.as_ptr()) });
        }
    }
}

// SAFETY: the pointer is to the count, and each value has its own; `Clone` and `Drop` count owners
// and do not panic; the value does not move.
unsafe impl<T> RefCnt for Shared<T> {
    type Base = Counted<T>;

    fn into_ptr(me: Self) -> *mut Counted<T> {
        let counted = me.counted.as_ptr();
        mem::forget(me);
        counted
    }

    fn as_ptr(me: &Self) -> *mut Counted<T> {
        me.counted.as_ptr()
    }

    unsafe fn from_ptr(counted: *const Counted<T>) -> Self {
        Self {
            // SAFETY: the caller has it from `into_ptr`.
            counted: unsafe { NonNull::new_unchecked(counted.cast_mut()) },
            _owns: PhantomData,
        }
    }
}

/// A place for a shared value or none. Readers need no lock.
pub type Swap<T> = ArcSwapAny<Option<Shared<T>>>;

/// Replaces the value that was read there by `new`; `false` if another thread was faster.
pub fn exchange<T>(place: &Swap<T>, read: &Option<Shared<T>>, new: Option<Shared<T>>) -> bool {
    let before = place.compare_and_swap(read, new);
    RefCnt::as_ptr(&*before) == RefCnt::as_ptr(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_last_owner_drops_the_value() {
        let value = Arc::new(());
        let shared = Shared::new(Arc::clone(&value)).unwrap();
        let other = shared.clone();
        drop(shared);
        assert_eq!(Arc::strong_count(&value), 2);
        assert_eq!(Arc::strong_count(&other), 2);
        drop(other);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_swap_gives_back_what_it_holds() {
        let values: Vec<Arc<usize>> = (0..100).map(Arc::new).collect();
        let place = Swap::default();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for value in &values {
                        let new = Shared::new(Arc::clone(value)).unwrap();
                        let read = place.load_full();
                        exchange(&place, &read, Some(new));
                        assert!(place.load().as_ref().is_some_and(|value| ***value < 100));
                    }
                });
            }
        });
        place.store(None);
        assert!(values.iter().all(|value| Arc::strong_count(value) == 1));
    }

    #[test]
    fn an_exchange_is_done_once() {
        let place = Swap::default();
        let one = || Some(Shared::new(1).unwrap());
        assert!(exchange(&place, &None, one()));
        assert!(!exchange(&place, &None, one()));
        let read = place.load_full();
        assert!(exchange(&place, &read, None));
        assert!(place.load().is_none());
    }

    #[test]
    fn boxes_hold_what_was_put_into_them() {
        assert_eq!(*boxed([7u64; 100]).unwrap(), [7; 100]);
        let call: Box<dyn Fn() -> u8> = boxed(|| 5).unwrap();
        assert_eq!(call(), 5);
    }
}
