//! Answers without an end, and how many of them there may be.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most streams of events at a time over TCP: three of four connections. The rest is for whoever asks and goes: a probe that finds no
/// place would take the node for dead.
pub(super) const MAX_STREAMS: usize = super::connections::MAX_CONNECTIONS / 4 * 3;

/// The places for streams, of all listeners.
#[derive(Debug)]
pub struct Streams(Arc<Semaphore>);

/// A stream's place. Dropped, it is free.
pub(super) type Place = OwnedSemaphorePermit;

// === impl Streams ===

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STREAMS)))
    }
}

impl Streams {
    /// A place, or `None` if all are taken.
    pub(super) fn admit(&self) -> Option<Place> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}
