//! Functions that are called when handshakes use the cache.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::alloc::{self, NoMemory, Shared, Swap};
use crate::base::session_id::SessionId;

/// What a handshake did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It found a session and resumes it.
    Get,
    /// It stored a new session, which can be copied to others.
    New,
    /// It, or the connection after it, removed the session.
    Remove,
}

/// Identifies a hook.
pub type HookKey = (usize, usize);

type Call = dyn Fn(SessionEvent, &SessionId) + Send + Sync;

struct Hook {
    key: HookKey,
    call: Box<Call>,
    /// It can stay on the list for a while, if there is no memory for a new list.
    is_removed: AtomicBool,
}

impl Hook {
    fn is_there(&self) -> bool {
        !self.is_removed.load(Ordering::Acquire)
    }
}

/// The list of hooks. It can change while hooks run: a call in progress uses the list as it was
/// when the call began.
#[derive(Default)]
pub struct Hooks {
    /// `None` while it is empty.
    list: Swap<Vec<Shared<Hook>>>,
}

impl Clone for Hooks {
    fn clone(&self) -> Self {
        Self {
            list: Swap::new(self.list.load_full()),
        }
    }
}

impl Hooks {
    /// Adds a hook at the end of the list, unless there is one with the same key.
    pub fn add(&self, key: HookKey, call: Box<Call>) -> Result<(), NoMemory> {
        let hook = Shared::new(Hook {
            key,
            call,
            is_removed: AtomicBool::new(false),
        })?;
        self.change(Some(&hook))
    }

    /// Removes a hook; `false` if it is not on the list.
    pub fn remove(&self, key: HookKey) -> bool {
        fault!("hooks being changed");
        let list = self.list.load();
        let mut hooks = list.iter().flat_map(|list| list.iter());
        let Some(hook) = hooks.find(|hook| hook.key == key && hook.is_there()) else {
            return false;
        };
        // If two threads remove it, one of them returns true.
        let is_removed = !hook.is_removed.swap(true, Ordering::AcqRel);
        drop(list);
        // The removed hook stays on the list until there is memory for a list without it.
        let _ = self.change(None);
        is_removed
    }

    /// Replaces the list by one of the hooks that are not removed, and a new one if there is one.
    fn change(&self, new: Option<&Shared<Hook>>) -> Result<(), NoMemory> {
        fault!("hooks being changed");
        loop {
            let before = self.list.load_full();
            let hooks = before.iter().flat_map(|list| list.iter());
            let hooks = hooks.filter(|hook| hook.is_there()).chain(new);
            let mut list = Vec::<Shared<Hook>>::new();
            list.try_reserve_exact(hooks.clone().count())?;
            for hook in hooks {
                if list.iter().any(|other| other.key == hook.key) {
                    return Ok(());
                }
                list.push(hook.clone());
            }
            let list = if list.is_empty() {
                None
            } else {
                Some(Shared::new(list)?)
            };
            if alloc::exchange(&self.list, &before, list) {
                return Ok(());
            }
        }
    }

    /// Removes all hooks.
    pub fn clear(&self) {
        self.list.store(None);
    }

    /// Calls every hook, in the order they were added. Hold no lock.
    pub fn fire(&self, event: SessionEvent, id: &SessionId) {
        if let Some(list) = self.list.load().as_deref() {
            for hook in list.iter().filter(|hook| hook.is_there()) {
                (hook.call)(event, id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_hook_is_called_once_per_event_until_removed() {
        let hooks = Hooks::default();
        let calls = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let calls = Arc::clone(&calls);
            let call = move |_, _: &SessionId| {
                calls.fetch_add(1, Ordering::Relaxed);
            };
            hooks.add((1, 2), Box::new(call)).unwrap();
        }
        let id = SessionId::new(&[1]).unwrap();
        hooks.fire(SessionEvent::New, &id);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert!(!hooks.remove((1, 3)));
        assert!(hooks.remove((1, 2)));
        assert!(!hooks.remove((1, 2)));
        hooks.fire(SessionEvent::New, &id);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_hook_may_remove_itself() {
        let hooks = Arc::new(Hooks::default());
        let inner = Arc::downgrade(&hooks);
        let call = move |_, _: &SessionId| assert!(inner.upgrade().unwrap().remove((1, 1)));
        hooks.add((1, 1), Box::new(call)).unwrap();
        hooks.fire(SessionEvent::Get, &SessionId::new(&[1]).unwrap());
    }
}
