//! Where generations and the audit log are kept: a trait, because this crate does not know the disk.

use std::sync::Arc;

use crate::Generation;
use crate::outcome::Outcome;
use crate::plan::Change;
use crate::trigger::Origin;

/// A generation to be written down.
#[derive(Debug)]
pub struct Record<C> {
    /// Its number.
    pub generation: Generation,
    /// The one before.
    pub from: Generation,
    /// The id of the reload that made it.
    pub id: String,
    /// Who asked for it.
    pub origin: Origin,
    /// What changed, redacted.
    pub changes: Vec<Change>,
    /// The configuration.
    pub config: Arc<C>,
}

/// Keeps generations and the audit log. Called on a thread that may block.
pub trait Recorder<C>: Send + Sync + 'static {
    /// Writes a generation down; when it returns `true`, this one and all before are on disk. What cannot be written now is
    /// kept for [`Recorder::retry`].
    fn record(&self, record: Record<C>) -> bool;

    /// Appends the outcome to the audit log; kept for later if the disk is full.
    fn audit(&self, outcome: &Outcome);

    /// Everybody has been answered: what can wait, as letting old generations go, is done here.
    fn tidy(&self) {}

    /// Tries again to write what could not be written. `true` when nothing is left.
    fn retry(&self) -> bool;
}
