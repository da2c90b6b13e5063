//! Where a configuration comes from, and what the coordinator needs to know about one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::plan::{Change, Closing};
use crate::{Class, Generation, Problem};

/// A whole configuration, as checked values.
pub trait Configuration: Send + Sync + 'static {
    /// Key by key, what `next` changes. Empty means that both have the same effect, however they are written.
    fn changes(&self, next: &Self) -> Vec<Change>;

    /// How long a transaction may take, from its start to rest (R14).
    fn budget(&self) -> Duration;

    /// Whether the components are probed after commit (R23).
    fn health_gate(&self) -> bool;
}

/// Which configuration to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The program's own, to run it.
    Own,
    /// The program's own, only to look.
    OwnToLook,
    /// Another file, only to look.
    Other(PathBuf),
    /// What this generation said.
    Generation(Generation),
}

/// A configuration that was accepted.
#[derive(Debug)]
pub struct Candidate<C> {
    /// The configuration.
    pub config: Arc<C>,
    /// What a person should know about it.
    pub warnings: Vec<Problem>,
    /// Time that reading took.
    pub read: Duration,
    /// Time that parsing and judging took.
    pub validate: Duration,
}

/// A configuration that was refused, with everything that is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Rejection {
    /// All of it, in the order of the file.
    pub problems: Vec<Problem>,
    /// Time that reading took.
    pub read: Duration,
    /// Time that parsing and judging took.
    pub validate: Duration,
}

// === impl Rejection ===

impl Rejection {
    /// Whether all that is wrong is the machine's fault, and may pass (R15).
    #[must_use]
    pub fn may_pass(&self) -> bool {
        !self.problems.is_empty() && self.problems.iter().all(|problem| problem.class == Class::System)
    }
}

/// Reads and judges configurations, in isolation (R5). Called on a thread that may block.
pub trait Source<C>: Send + Sync + 'static {
    /// Loads one, to be compared with `current`, which runs.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    fn load(&self, current: &Arc<C>, which: &Which) -> Result<Candidate<C>, Rejection>;
}

/// What the program can tell about its connections; one that has none, nothing.
pub trait Site<C>: Send + Sync + 'static {
    /// How many are open.
    fn connections(&self) -> usize {
        0
    }

    /// How many were closed so far because a configuration forbade them.
    fn closed_by_reload(&self) -> u64 {
        0
    }

    /// Which of those open now `next` forbids.
    fn would_close(&self, current: &C, next: &C) -> Vec<Closing> {
        let _ = (current, next);
        Vec::new()
    }
}
