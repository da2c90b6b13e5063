//! The reading and judging of what is to run, which may be given up: its thread cannot be stopped, only asked to end.
//!
//! A thread that stands in a disk which does not answer stays until the disk does. So that not every reload leaves one more behind, with
//! the memory that it holds, there is one place for all of them: the next one waits, within its own budget, for the last to go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::abandon::Abandon;
use crate::{Class, Problem};

/// The reading of one transaction, as whoever waits for it sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    abandon: Abandon,
    /// Whether it has its turn.
    has_begun: Arc<AtomicBool>,
}

/// The turn of a reading. Whoever reads keeps it to the end of its thread.
pub(super) struct Turn {
    abandon: Abandon,
    _place: OwnedSemaphorePermit,
}

// === impl Reading ===

impl Reading {
    /// Waits for the one place. `None` if the reading was given up meanwhile.
    pub(super) async fn turn(self, place: Arc<Semaphore>) -> Option<Turn> {
        // The semaphore is never closed.
        let place = place.acquire_owned().await.ok()?;
        if self.abandon.is_asked() {
            return None;
        }
        self.has_begun.store(true, Ordering::Relaxed);
        Some(Turn { abandon: self.abandon, _place: place })
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
            "the configuration was not read within {after:.0} ms: the reading of an earlier reload, which was given up, \
             has not ended yet"
        );
        let hint = "is the disk or a network mount stuck? reload again when it answers";
        Problem::new(Class::System, message).hint(hint)
    }
}

// === impl Turn ===

impl Turn {
    /// Reads, on the thread that calls; the turn ends with it.
    pub(super) fn read<T>(self, read: impl FnOnce() -> T) -> T {
        self.abandon.cover(read)
    }
}
