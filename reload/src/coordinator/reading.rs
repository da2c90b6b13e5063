//! The reading and judging of what is to run, which may be given up: its thread cannot be stopped, only asked to end.
//!
//! A thread that stands in a disk which does not answer stays until the disk does. So that not every reload leaves one more behind, with
//! the memory that it holds, there are a few places for all of them: a configuration that no longer names the dead disk can be read
//! beside those who stand in it, and when they are taken, the next one waits, within its own budget, for one to go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::abandon::Abandon;
use crate::{Class, Problem};

/// How many readings of reloads there are at most: the one that runs, and those that were given up and have not ended. As many again of dry
/// runs.
pub const READERS: usize = 4;

/// The reading of one transaction or dry run, as whoever waits for it sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    abandon: Abandon,
    /// Whether it has its place.
    has_begun: Arc<AtomicBool>,
}

/// The place of a reading. Whoever reads keeps it to the end of its thread.
pub(super) struct Place {
    abandon: Abandon,
    _permit: OwnedSemaphorePermit,
}

// === impl Reading ===

impl Reading {
    /// Waits for one of the [`READERS`] places. `None` if the reading was given up meanwhile.
    pub(super) async fn place(self, places: Arc<Semaphore>) -> Option<Place> {
        self.has_begun.store(false, Ordering::Relaxed);
        // The semaphore is never closed.
        let permit = places.acquire_owned().await.ok()?;
        if self.abandon.is_asked() {
            return None;
        }
        self.has_begun.store(true, Ordering::Relaxed);
        Some(Place { abandon: self.abandon, _permit: permit })
    }

    /// Asks it to end; what there is to say about it after so many milliseconds.
    pub(super) fn give_up(&self, after: f64) -> Problem {
        self.abandon.ask();
        if self.has_begun.load(Ordering::Relaxed) {
            let message = format!("the configuration was not read and judged within {after:.0} ms");
            let hint = "is the disk or a network mount stuck? if the files are large, raise reload.budget";
            return Problem::new(Class::System, message).hint(hint);
        }
        let message = format!(
            "the configuration was not read within {after:.0} ms: {READERS} readings that were begun before have not ended yet"
        );
        let hint = "is the disk or a network mount stuck? reload again when it answers";
        Problem::new(Class::System, message).hint(hint)
    }
}

// === impl Place ===

impl Place {
    /// Reads, on the thread that calls; the place is free when it has ended.
    pub(super) fn read<T>(self, read: impl FnOnce() -> T) -> T {
        self.abandon.cover(read)
    }
}
