//! A value that everybody reads without asking its actor, and that only the component in office may change.
//!
//! A component that is stuck is left behind and a successor takes its place. When the predecessor wakes up in the middle
//! of a commit, its fence knows nothing of the successor: what it is about to swap in must be refused where it is shared.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

/// The reader's side. Clones share the value.
pub struct Live<T>(Arc<Shared<T>>);

/// The writer's side, held by the component in office. Taking a new one retires all before it.
pub struct LiveWriter<T> {
    shared: Arc<Shared<T>>,
    term: u64,
}

/// The writer has a successor: nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a successor is in office")]
pub struct Retired;

struct Shared<T> {
    value: ArcSwap<T>,
    /// The term of the newest writer. Locked only for the length of a pointer swap.
    term: Mutex<u64>,
}

// === impl Live ===

impl<T> Live<T> {
    /// A value that nobody may change yet.
    #[must_use]
    pub fn new(value: Arc<T>) -> Self {
        Self(Arc::new(Shared { value: ArcSwap::new(value), term: Mutex::new(0) }))
    }

    /// The value now, for a short look. No lock, no reference count in the usual case.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<T>> {
        self.0.value.load()
    }

    /// The value now, to keep.
    #[must_use]
    pub fn load_full(&self) -> Arc<T> {
        self.0.value.load_full()
    }

    /// Takes office: every earlier writer is refused from here on.
    #[must_use]
    pub fn writer(&self) -> LiveWriter<T> {
        let mut term = self.0.term.lock().unwrap_or_else(PoisonError::into_inner);
        *term = term.saturating_add(1);
        LiveWriter { shared: Arc::clone(&self.0), term: *term }
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

// === impl LiveWriter ===

impl<T> LiveWriter<T> {
    /// Swaps the value and returns the one before.
    ///
    /// # Errors
    /// If a successor has taken office: the value stays as it is.
    pub fn swap(&self, value: Arc<T>) -> Result<Arc<T>, Retired> {
        let term = self.shared.term.lock().unwrap_or_else(PoisonError::into_inner);
        if *term == self.term { Ok(self.shared.value.swap(value)) } else { Err(Retired) }
    }

    /// The value now.
    #[must_use]
    pub fn load_full(&self) -> Arc<T> {
        self.shared.value.load_full()
    }
}

impl<T> fmt::Debug for LiveWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveWriter").field("term", &self.term).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_writer_in_office_changes_the_value() {
        let live = Live::new(Arc::new(1));
        let first = live.writer();
        assert_eq!(first.swap(Arc::new(2)), Ok(Arc::new(1)));
        let second = live.writer();
        assert_eq!(first.swap(Arc::new(3)), Err(Retired));
        assert_eq!(*live.load_full(), 2);
        assert_eq!(second.swap(Arc::new(4)), Ok(Arc::new(2)));
        assert_eq!(**live.load(), 4);
    }
}
