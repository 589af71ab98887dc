//! What the loader, `fork` and the end of the process call. Nobody imports it.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::time::Duration;

use tssession_common::boundary;

use crate::base::once::{self, Making};
use crate::base::spin::Patience;
use crate::base::system;
use crate::instance::boundary::guard;
use crate::instance::sessions::FrozenSessions;
use crate::instance::{self, FrozenFiles, Instance};
use crate::report::log;
use crate::tls::gate::{self, Closed};
use crate::tls::versions;

/// The library of which no lock is held by another thread.
struct Frozen {
    sessions: Option<FrozenSessions<'static>>,
    _files: Option<FrozenFiles<'static>>,
    gate: Closed,
    // Last to go: it keeps a second thread that forks out of all the others.
    _making: Making,
}

/// Takes every lock of the library, so that a `fork` finds none held by another thread.
///
/// `None` if that takes too long: when this thread was inside the library itself, and
/// forks in a signal handler that has interrupted it. Its child may call `exec`, but
/// not the library.
fn freeze(is_inside: bool) -> Option<Frozen> {
    // 30 s: for another thread that forks, or reads a file of keys.
    let patience = Patience::of(Duration::from_secs(if is_inside { 1 } else { 30 }));
    let freeze_files = |instance: &'static Instance| instance.freeze_files(patience);
    // The one that may be held for long comes first: nobody else waits for what follows.
    let mut files = match Instance::if_made() {
        Some(instance) => Some(freeze_files(instance)?),
        None => None,
    };
    let making = patience.wait_for(once::try_begin)?;
    let gate = gate::close(patience)?;
    let mut sessions = None;
    if let Some(instance) = Instance::if_made() {
        if files.is_none() {
            // It was made in between.
            files = Some(freeze_files(instance)?);
        }
        sessions = Some(instance.freeze(patience)?);
    }
    fault!("all locks held for a fork");
    Some(Frozen {
        sessions,
        _files: files,
        gate,
        _making: making,
    })
}

/// [`Frozen`] in a forked child, where the threads that waited for its locks do not exist.
struct FrozenInChild(Option<Frozen>);

impl Drop for FrozenInChild {
    fn drop(&mut self) {
        if let Some(frozen) = self.0.take() {
            if let Some(sessions) = frozen.sessions {
                sessions.release_in_child();
            }
            frozen.gate.open_in_child();
        }
    }
}

thread_local! {
    /// Held from before a fork to after it. ManuallyDrop: there is nothing to do at the
    /// end of the thread.
    static FROZEN: Cell<Option<ManuallyDrop<Frozen>>> = const { Cell::new(None) };
}

extern "C" fn before_fork() {
    let was_inside = boundary::is_inside();
    // The first use in a thread may wait for the loader: not with every lock held.
    FROZEN.set(None);
    guard(|| FROZEN.set(freeze(was_inside).map(ManuallyDrop::new)));
}

// Locks are let go of whatever happens.

extern "C" fn after_fork_in_parent() {
    let frozen = FROZEN.take().map(ManuallyDrop::into_inner);
    guard(|| drop(frozen));
}

extern "C" fn after_fork_in_child() {
    let frozen = FrozenInChild(FROZEN.take().map(ManuallyDrop::into_inner));
    guard(|| drop(frozen));
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
    guard(|| {
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
