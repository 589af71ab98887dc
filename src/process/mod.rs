//! What the loader, `fork` and the end of the process call. No other module imports it.
//!
//! # Invariants of a fork
//!
//! 1. A fork waits for the library at most twice [`PATIENCE`]: for threads inside OpenSSL, and for
//!    the locks of the instance.
//! 2. A lock of the instance is held for a moment only. A thread that holds one reads no file, calls
//!    no function of the host's and is not inside OpenSSL.
//! 3. In the child, one of two things is true. The forking thread holds all locks of the instance,
//!    and releases them. Or another instance takes its place, empty and with no lock held. That
//!    instance is made before the fork: the child can see what other threads change during the fork
//!    in any order.
//! 4. Outside the instance, no lock stays held in the child. The gate, the lock for making things and
//!    the list of contexts are reset there, and all else (hooks, keys, counters, the logger,
//!    templates) is changed in one step. There are two exceptions: the lock of a link between a
//!    session and its connection, for which only the connection's own thread waits; and the plugin's
//!    lock for attaching, in a server that does not continue to serve in a child.
//! 5. A thread that forks inside the library continues in the child where it was. The fork does not
//!    wait for it, and the child still counts it as inside.

use std::cell::Cell;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::time::Duration;

use tssession_common::{boundary, stderr};

use crate::base::once::{self, Making};
use crate::base::spin::Patience;
use crate::base::stripe;
use crate::base::system;
use crate::instance::boundary::guard;
use crate::instance::{self, Instance};
use crate::report::log;
use crate::tls::gate::{self, Closed};
use crate::tls::{attached, versions};

/// Longer than a running thread needs.
const PATIENCE: Duration = Duration::from_millis(10);

/// What the child does with the instance.
enum Fate {
    /// It keeps the instance.
    Stays(instance::Frozen<'static>),
    /// It uses this one instead: not all locks could be had.
    IsReplaced(Box<Instance>),
}

impl Fate {
    /// `None` without an instance, or without memory for another one.
    fn choose() -> Option<Self> {
        let instance = Instance::if_made()?;
        match instance.freeze(Patience::of(PATIENCE)) {
            Some(frozen) => Some(Self::Stays(frozen)),
            None => instance.successor().ok().map(Self::IsReplaced),
        }
    }
}

/// The library while a thread forks. Dropped in this order.
struct Frozen {
    fate: Option<Fate>,
    _gate: Closed,
    /// `None`: a thread is making something.
    _making: Option<Making>,
}

fn freeze() -> Frozen {
    let patience = Patience::of(PATIENCE);
    let making = patience.wait_for(once::try_begin);
    // Before the locks of the instance: a thread inside OpenSSL may need one to leave.
    let gate = gate::close(patience);
    let frozen = Frozen {
        fate: Fate::choose(),
        _gate: gate,
        _making: making,
    };
    fault!("all locks held for a fork");
    frozen
}

thread_local! {
    /// Held from before a fork to after it. ManuallyDrop: nothing is to be done when the thread
    /// ends.
    static FROZEN: Cell<Option<ManuallyDrop<Frozen>>> = const { Cell::new(None) };

    /// The number of forks of this thread in progress within the one that holds [`FROZEN`]: those of
    /// signal handlers. Each child releases it.
    static NESTED: Cell<u32> = const { Cell::new(0) };
}

fn take_frozen() -> Option<Frozen> {
    FROZEN.take().map(ManuallyDrop::into_inner)
}

extern "C" fn before_fork() {
    // The first use in a thread can wait for the loader. It must not do so with all locks held.
    if let Some(frozen) = FROZEN.take() {
        FROZEN.set(Some(frozen));
        NESTED.set(NESTED.get() + 1);
        return;
    }
    guard(|| FROZEN.set(Some(ManuallyDrop::new(freeze()))));
}

// Both functions below release the locks whatever happens.

extern "C" fn after_fork_in_parent() {
    if let Some(nested) = NESTED.get().checked_sub(1) {
        NESTED.set(nested);
        return;
    }
    let frozen = take_frozen();
    guard(|| drop(frozen));
}

extern "C" fn after_fork_in_child() {
    /// Makes the library usable in the child when dropped.
    struct Child(Option<Frozen>);

    impl Drop for Child {
        fn drop(&mut self) {
            match self.0.take().and_then(|frozen| frozen.fate) {
                Some(Fate::Stays(frozen)) => frozen.release_in_child(),
                Some(Fate::IsReplaced(successor)) => successor.succeed(),
                None => {}
            }
            once::begin_anew_in_child();
            attached::begin_anew_in_child();
            stripe::begin_anew_in_child();
            gate::open_in_child();
        }
    }

    NESTED.set(0);
    let child = Child(take_frozen());
    guard(|| drop(child));
}

/// Called at the end of a thread that has a stripe.
unsafe extern "C" fn at_end_of_thread(stripe: *mut c_void) {
    guard(|| stripe::give_back(stripe));
}

extern "C" fn at_load() {
    if cfg!(loom) {
        return; // Loom's atomics work in a model only.
    }
    if system::is_loaded_by_itself() {
        boundary::take_panics_over();
    }
    #[cfg(feature = "inject-faults")]
    tssession_common::faults::arm_from_environment();
    // First: lines that are logged below go to stderr.
    stderr::note();
    guard(|| {
        stripe::prepare(at_end_of_thread);
        instance::prepare();
        log::introduce(versions());
        // SAFETY: the three functions have the type asked for and stay valid: the library is
        // never unloaded.
        unsafe {
            libc::pthread_atfork(
                Some(before_fork),
                Some(after_fork_in_parent),
                Some(after_fork_in_child),
            );
        }
    });
}

extern "C" fn wipe_at_exit() {
    if cfg!(loom) {
        return;
    }
    guard(|| {
        log::forget_function();
        if let Some(instance) = Instance::if_made() {
            instance.wipe_at_exit();
        }
    });
}

/// Run by the loader at exit.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = wipe_at_exit;

/// Run by the loader, before any thread can be inside the library.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;
