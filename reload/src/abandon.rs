//! Work that nobody waits for any more, and that should end soon.
//!
//! A thread cannot be interrupted, only asked. What judges a configuration is one tree of calls on one thread, whose loops stand far
//! below, in visitors that a parser calls and to which nothing can be handed: so the thread itself knows the flag, and the
//! loops ask with [`is_asked`]. Where nobody has set one (a command line, a test), the answer is no.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    static CURRENT: RefCell<Option<Abandon>> = const { RefCell::new(None) };
}

/// The wish that a piece of work ends, shared by whoever waits for it and by the thread that does it.
#[derive(Clone, Debug, Default)]
pub struct Abandon(Arc<AtomicBool>);

/// Restores what the thread knew before, also after a panic.
struct Restore(Option<Abandon>);

// === impl Abandon ===

impl Abandon {
    /// Asks the work to end.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the work was asked to end.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Does the work on this thread; [`is_asked`] tells of this wish meanwhile.
    pub fn cover<T>(&self, work: impl FnOnce() -> T) -> T {
        let _restore = Restore(CURRENT.replace(Some(self.clone())));
        work()
    }
}

// === impl Restore ===

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Whether the work on this thread should end: what it brings is for nobody. Cheap enough for every turn of a loop.
#[must_use]
pub fn is_asked() -> bool {
    CURRENT.with_borrow(|current| current.as_ref().is_some_and(Abandon::is_asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_work_that_is_covered_is_asked_to_end() {
        let (outer, inner) = (Abandon::default(), Abandon::default());
        assert!(!is_asked());
        inner.ask();
        outer.cover(|| {
            assert!(!is_asked());
            inner.cover(|| assert!(is_asked()));
            assert!(!is_asked(), "the outer one again");
            outer.ask();
            assert!(is_asked());
            std::thread::scope(|scope| {
                scope.spawn(|| assert!(!is_asked(), "another thread")).join().unwrap()
            });
        });
        assert!(!is_asked());
    }
}
