//! The building blocks of the small concurrent parts (`budget`, `gate`, [`crate::keys::ring`],
//! `policy`): the standard library's atomics and arc-swap's pointer. In the models of `make loom`,
//! stand-ins replace them.
//!
//! Loom runs a model again and again, until its threads have interleaved in every way that matters,
//! and each load has returned every value that the memory orderings allow.

#[cfg(not(loom))]
pub use crate::base::alloc::{Shared, Swap, exchange};
#[cfg(not(loom))]
pub use arc_swap::Guard;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

#[cfg(loom)]
pub use model::{AtomicU32, AtomicU64, AtomicUsize, Guard, Shared, Swap, exchange};

#[cfg(loom)]
mod model {
    use std::ops::Deref;
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, OnceLock, Weak};

    use loom::sync::atomic as loom_atomic;
    use loom::sync::{Mutex, MutexGuard};

    use crate::base::alloc::NoMemory;

    /// Loom treats a sequentially consistent access as an acquire and release, and would find
    /// errors that do not exist. It does know fences, so one lies between any two accesses.
    fn ordered<R>(order: Ordering, access: impl FnOnce() -> R) -> R {
        if order == Ordering::SeqCst {
            loom_atomic::fence(order);
        }
        access()
    }

    macro_rules! atomic {
        ($name:ident, $value:ty) => {
            /// Loom's, as far as the library needs it. Loom's own cannot be made at compile time.
            pub struct $name {
                first: $value,
                atomic: OnceLock<loom_atomic::$name>,
            }

            #[allow(dead_code)] // Each type needs a part.
            impl $name {
                pub const fn new(first: $value) -> Self {
                    Self {
                        first,
                        atomic: OnceLock::new(),
                    }
                }

                fn atomic(&self) -> &loom_atomic::$name {
                    self.atomic
                        .get_or_init(|| loom_atomic::$name::new(self.first))
                }

                pub fn load(&self, order: Ordering) -> $value {
                    ordered(order, || self.atomic().load(order))
                }

                pub fn store(&self, value: $value, order: Ordering) {
                    ordered(order, || self.atomic().store(value, order));
                }

                pub fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    ordered(success, || {
                        self.atomic()
                            .compare_exchange(current, new, success, failure)
                    })
                }
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::new(Default::default())
                }
            }
        };
    }

    macro_rules! atomic_number {
        ($name:ident, $value:ty) => {
            atomic!($name, $value);

            #[allow(dead_code)] // As above.
            impl $name {
                pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    ordered(order, || self.atomic().fetch_add(value, order))
                }

                pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    ordered(order, || self.atomic().fetch_sub(value, order))
                }

                pub fn fetch_update(
                    &self,
                    success: Ordering,
                    failure: Ordering,
                    mut update: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    let mut before = self.load(failure);
                    while let Some(after) = update(before) {
                        match self.compare_exchange(before, after, success, failure) {
                            Err(now) => before = now,
                            done => return done,
                        }
                    }
                    Err(before)
                }
            }
        };
    }

    atomic_number!(AtomicU32, u32);
    atomic_number!(AtomicU64, u64);
    atomic_number!(AtomicUsize, usize);

    /// A shared value. The models do not test how it counts its owners.
    pub struct Shared<T>(Arc<T>);

    impl<T> Shared<T> {
        pub fn new(value: T) -> Result<Self, NoMemory> {
            Ok(Self(Arc::new(value)))
        }

        /// Shows whether it still exists.
        pub fn downgrade(&self) -> Weak<T> {
            Arc::downgrade(&self.0)
        }
    }

    impl<T> Clone for Shared<T> {
        fn clone(&self) -> Self {
            Self(Arc::clone(&self.0))
        }
    }

    impl<T> Deref for Shared<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    /// A pointer that is read and swapped in one step each. This is the least that keeps arc-swap's
    /// promises; the models do not test arc-swap itself.
    pub struct Swap<T>(OnceLock<Mutex<Option<Shared<T>>>>);

    pub struct Guard<T>(T);

    impl<T> Deref for Guard<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> Default for Swap<T> {
        fn default() -> Self {
            Self(OnceLock::new())
        }
    }

    impl<T> Swap<T> {
        fn place(&self) -> MutexGuard<'_, Option<Shared<T>>> {
            self.0.get_or_init(Mutex::default).lock().unwrap()
        }

        pub fn load(&self) -> Guard<Option<Shared<T>>> {
            Guard(self.place().clone())
        }

        pub fn store(&self, new: Option<Shared<T>>) {
            *self.place() = new;
        }
    }

    pub fn exchange<T>(place: &Swap<T>, read: &Option<Shared<T>>, new: Option<Shared<T>>) -> bool {
        let pointer =
            |place: &Option<Shared<T>>| place.as_ref().map(|shared| Arc::as_ptr(&shared.0));
        let mut place = place.place();
        let is_same = pointer(&place) == pointer(read);
        if is_same {
            *place = new;
        }
        is_same
    }
}
