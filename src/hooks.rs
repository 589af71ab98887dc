//! Who wants to hear what handshakes do to the cache.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::id::SessionId;

/// What a handshake did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It found a session and goes on with it.
    Get,
    /// It stored a new session.
    New,
    /// It, or the connection after it, failed and removed the session.
    Remove,
}

/// Tells two hooks apart.
pub type HookKey = (usize, usize);

type Call = dyn Fn(SessionEvent, &SessionId) + Send + Sync;

struct Hook {
    key: HookKey,
    call: Box<Call>,
}

/// The list of hooks. It may change while hooks run: a call under way sees
/// the list as it was when it began.
#[derive(Default)]
pub struct Hooks {
    /// `None` as long as it is empty.
    list: ArcSwapOption<Vec<Arc<Hook>>>,
}

impl Hooks {
    /// Adds a hook at the end of the list; one with the same key stays as it is.
    pub fn add(&self, key: HookKey, call: Box<Call>) {
        let hook = Arc::new(Hook { key, call });
        self.change(|list| {
            if !list.iter().any(|other| other.key == key) {
                list.push(Arc::clone(&hook));
            }
        });
    }

    /// Takes a hook off the list; `false` if it is not on it.
    pub fn remove(&self, key: HookKey) -> bool {
        let before = self.change(|list| list.retain(|hook| hook.key != key));
        before.is_some_and(|list| list.iter().any(|hook| hook.key == key))
    }

    /// Puts a changed copy in the list's place; returns the list as it was. Where two
    /// threads do that at once, `change` is called again.
    fn change(&self, change: impl Fn(&mut Vec<Arc<Hook>>)) -> Option<Arc<Vec<Arc<Hook>>>> {
        self.list.rcu(|list| {
            fault!("hooks being changed");
            let mut list = list.as_deref().cloned().unwrap_or_default();
            change(&mut list);
            (!list.is_empty()).then(|| Arc::new(list))
        })
    }

    /// Takes all hooks off the list.
    pub fn clear(&self) {
        self.list.store(None);
    }

    /// Calls every hook, in the order they were added. Hold no lock.
    pub fn fire(&self, event: SessionEvent, id: &SessionId) {
        if let Some(list) = self.list.load().as_deref() {
            for hook in list {
                (hook.call)(event, id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_hook_is_called_once_per_event_until_removed() {
        let hooks = Hooks::default();
        let calls = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let calls = Arc::clone(&calls);
            let call = move |_, _: &SessionId| {
                calls.fetch_add(1, Ordering::Relaxed);
            };
            hooks.add((1, 2), Box::new(call));
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
        hooks.add(
            (1, 1),
            Box::new(move |_, _| assert!(inner.upgrade().unwrap().remove((1, 1)))),
        );
        hooks.fire(SessionEvent::Get, &SessionId::new(&[1]).unwrap());
    }
}
