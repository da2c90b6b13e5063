//! What the engine shows of itself, readable at any time from any thread: nothing of `status` may depend on a reload's
//! progress.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::Generation;
use crate::history::Unconfirmed;
use crate::machine::State;
use crate::outcome::{Kind, Outcome};
use crate::trigger::Trigger;

/// A consistent view of the engine.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The state machine's state.
    pub state: State,
    /// The generation that runs.
    pub generation: Generation,
    /// The transaction that runs.
    pub running: Option<InFlight>,
    /// A generation goes back by itself unless somebody confirms it.
    pub unconfirmed: Option<Unconfirmed>,
    /// Why the program is not whole: emergency, or a component that is being started again.
    pub degraded: Option<String>,
    /// The last reload that ended, start included.
    pub last: Arc<Outcome>,
    /// Whether what runs is what the file said when it was last read.
    pub successful: bool,
    /// When that was last so, in seconds since 1970.
    pub last_success: u64,
}

/// A transaction while it runs, with the deadline that it is in (R14).
#[derive(Clone, Debug)]
pub struct InFlight {
    /// As its outcome will name it.
    pub id: Arc<str>,
    /// Who asked for it.
    pub trigger: Trigger,
    /// When it started.
    pub started: Instant,
    /// How long it may take.
    pub budget: Duration,
    /// What is being done, as the outcome's phases are called.
    pub phase: &'static str,
    /// When that is given up.
    pub deadline: Instant,
    /// The components that have not answered yet.
    pub waiting_for: Vec<&'static str>,
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
            unconfirmed: None,
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

    /// Shows an outcome. `broken` are the components that run neither generation for sure: there may be some from a reload
    /// before this one, of which its errors tell nothing.
    pub(crate) fn finished(&self, outcome: &Arc<Outcome>, broken: &[&str]) {
        self.update(|board| {
            board.generation = outcome.config_generation;
            board.running = None;
            board.successful = outcome.outcome.is_success();
            if board.successful {
                board.last_success = outcome.timestamp;
            }
            match outcome.outcome {
                Kind::Failed => {
                    let why = outcome.error.as_deref().unwrap_or("no error was told");
                    let broken = broken.join(", ");
                    board.degraded = Some(format!("neither changed nor restored: {broken} (last: {why})"));
                }
                Kind::Committed | Kind::Unchanged => board.degraded = None,
                _ => {}
            }
            board.last = Arc::clone(outcome);
        });
    }
}
