//! What keeps an endpoint open: the connections that came in over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::task::AtomicWaker;

/// The connections of one endpoint. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    count: AtomicUsize,
    /// Whoever closes endpoints that nobody needs.
    waker: Arc<AtomicWaker>,
}

/// One of them, or whoever else needs the endpoint to stay; over when it is dropped.
#[derive(Debug)]
pub(crate) struct Keep(Connections);

// === impl Connections ===

impl Connections {
    /// None yet. The waker is woken whenever one ends.
    pub(crate) fn new(waker: Arc<AtomicWaker>) -> Self {
        Self(Arc::new(Inner { count: AtomicUsize::new(0), waker }))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Another one.
    pub(crate) fn keep(&self) -> Keep {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        Keep(self.clone())
    }
}

// === impl Keep ===

impl Drop for Keep {
    fn drop(&mut self) {
        let Inner { count, waker } = &*self.0.0;
        count.fetch_sub(1, Ordering::AcqRel);
        waker.wake();
    }
}
