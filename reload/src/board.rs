//! What the engine shows of itself, readable at any time from any thread: nothing of `status` may depend on a reload's
//! progress.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::Generation;
use crate::machine::State;
use crate::outcome::{Kind, Outcome};

/// A consistent view of the engine.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The state machine's state.
    pub state: State,
    /// The generation that runs.
    pub generation: Generation,
    /// The transaction that runs: when it started, and its budget.
    pub running: Option<(Instant, Duration)>,
    /// Why the program is not whole: emergency, or a component that is being started again.
    pub degraded: Option<String>,
    /// The last reload that ended, start included.
    pub last: Arc<Outcome>,
    /// Whether what runs is what the file said when it was last read.
    pub successful: bool,
    /// When that was last so, in seconds since 1970.
    pub last_success: u64,
}

/// Where the snapshot hangs.
#[derive(Debug)]
pub struct Board(ArcSwap<Snapshot>);

// === impl Board ===

impl Board {
    /// A board that shows a program which has just started with `outcome`.
    #[must_use]
    pub fn new(outcome: Arc<Outcome>, degraded: Option<String>) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(Snapshot {
            state: State::Idle,
            generation: outcome.config_generation,
            running: None,
            degraded,
            successful: outcome.outcome.is_success(),
            last_success: outcome.timestamp,
            last: outcome,
        })))
    }

    /// What is shown now.
    #[must_use]
    pub fn read(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut next = Snapshot::clone(&self.0.load());
        change(&mut next);
        self.0.store(Arc::new(next));
    }

    pub(crate) fn finished(&self, outcome: &Arc<Outcome>) {
        self.update(|board| {
            board.generation = outcome.config_generation;
            board.running = None;
            board.successful = outcome.outcome.is_success();
            if board.successful {
                board.last_success = outcome.timestamp;
            }
            match outcome.outcome {
                Kind::Failed => board.degraded = outcome.error.clone(),
                Kind::Committed => board.degraded = None,
                _ => {}
            }
            board.last = Arc::clone(outcome);
        });
    }
}
