//! The component's side of a transaction: what was prepared, committed and undone, and for which transaction.
//!
//! The fence is pure bookkeeping. It decides whether a step may be done, is done already, or came too late; the glue in
//! [`crate::component`] performs what it decides. A step of a transaction that is over is refused whatever its kind,
//! because a request that timed out at the coordinator still runs on in the actor.

use std::sync::Arc;

use crate::{StepError, Transaction};

/// What the component has to do about a step.
#[derive(Debug, PartialEq, Eq)]
pub enum Admit<T> {
    /// Do it, with what the fence held for it.
    Run(T),
    /// It was done before: acknowledge again, do nothing.
    Done,
}

/// What was prepared, committed and undone. One per component; `S` is its section, `P` what its `prepare` acquires.
#[derive(Debug)]
pub struct Fence<S, P> {
    /// The section that the component runs, or is being moved away from.
    section: Arc<S>,
    /// Steps of this transaction and of all before it are refused.
    closed: Transaction,
    stage: Stage<S, P>,
    /// What runs may be neither `section` nor anything else whole: a commit began, and neither it nor a restoration has
    /// come to a good end since.
    torn: bool,
}

#[derive(Debug)]
enum Stage<S, P> {
    Rest,
    Preparing {
        transaction: Transaction,
        next: Arc<S>,
    },
    Prepared {
        transaction: Transaction,
        next: Arc<S>,
        prepared: P,
    },
    /// Between the start of a commit and its acknowledgement: the component may run either section, or a part of each.
    Committing {
        transaction: Transaction,
        next: Arc<S>,
    },
    Committed {
        transaction: Transaction,
        before: Arc<S>,
    },
    Restoring {
        transaction: Transaction,
    },
}

// === impl Stage ===

impl<S, P> Stage<S, P> {
    const fn transaction(&self) -> Option<Transaction> {
        match self {
            Self::Rest => None,
            Self::Preparing { transaction, .. }
            | Self::Prepared { transaction, .. }
            | Self::Committing { transaction, .. }
            | Self::Committed { transaction, .. }
            | Self::Restoring { transaction } => Some(*transaction),
        }
    }
}

// === impl Fence ===

impl<S, P> Fence<S, P> {
    /// A fence around a component that runs `section`.
    pub fn new(section: Arc<S>) -> Self {
        Self { section, closed: Transaction::NONE, stage: Stage::Rest, torn: false }
    }

    /// The section that stands if nothing more happens.
    pub fn section(&self) -> &Arc<S> {
        &self.section
    }

    /// A `Prepare` came. A newer one ends a committed transaction: the coordinator runs one at a time. It also ends a restoration
    /// that nobody waits for any more, because it hangs: a commit heals as well as a restoration does.
    ///
    /// # Errors
    /// If the transaction is over, out of order, or another one is still open.
    pub fn prepare(&mut self, transaction: Transaction, next: Arc<S>) -> Result<Admit<()>, StepError> {
        self.open(transaction)?;
        match &self.stage {
            Stage::Prepared { transaction: held, .. } if *held == transaction => return Ok(Admit::Done),
            Stage::Committed { transaction: held, .. } if *held < transaction => self.closed = *held,
            Stage::Restoring { transaction: held } if *held < transaction => self.closed = *held,
            Stage::Rest => {}
            _ => return Err(unfinished("prepare", transaction)),
        }
        self.stage = Stage::Preparing { transaction, next };
        Ok(Admit::Run(()))
    }

    /// What `prepare` acquired has arrived.
    ///
    /// # Errors
    /// If the transaction was rolled back meanwhile; the caller drops what it acquired.
    pub fn prepared(
        &mut self,
        transaction: Transaction,
        result: Result<P, StepError>,
    ) -> Result<(), StepError> {
        match std::mem::replace(&mut self.stage, Stage::Rest) {
            Stage::Preparing { transaction: held, next } if held == transaction => {
                let prepared = result?;
                self.stage = Stage::Prepared { transaction, next, prepared };
                Ok(())
            }
            other => {
                self.stage = other;
                Err(over(transaction))
            }
        }
    }

    /// A `Commit` came.
    ///
    /// # Errors
    /// If the transaction is over or nothing was prepared for it.
    pub fn commit(&mut self, transaction: Transaction) -> Result<Admit<(P, Arc<S>)>, StepError> {
        self.open(transaction)?;
        match std::mem::replace(&mut self.stage, Stage::Rest) {
            Stage::Prepared { transaction: held, next, prepared } if held == transaction => {
                self.stage = Stage::Committing { transaction, next: Arc::clone(&next) };
                self.torn = true;
                Ok(Admit::Run((prepared, next)))
            }
            Stage::Committed { transaction: held, before } if held == transaction => {
                self.stage = Stage::Committed { transaction, before };
                Ok(Admit::Done)
            }
            other => {
                self.stage = other;
                Err(unfinished("commit", transaction))
            }
        }
    }

    /// The commit is through.
    ///
    /// # Errors
    /// The commit's own error (a rollback has to follow), or that the transaction was rolled back meanwhile.
    pub fn committed(
        &mut self,
        transaction: Transaction,
        result: Result<(), StepError>,
    ) -> Result<(), StepError> {
        match std::mem::replace(&mut self.stage, Stage::Rest) {
            Stage::Committing { transaction: held, next } if held == transaction => match result {
                Ok(()) => {
                    let before = std::mem::replace(&mut self.section, next);
                    self.stage = Stage::Committed { transaction, before };
                    self.torn = false;
                    Ok(())
                }
                Err(error) => {
                    self.stage = Stage::Committing { transaction, next };
                    Err(error)
                }
            },
            other => {
                self.stage = other;
                Err(over(transaction))
            }
        }
    }

    /// A `Probe` or a `Finish` came.
    ///
    /// # Errors
    /// If this transaction is not committed here.
    pub fn after_commit(&self, transaction: Transaction) -> Result<(), StepError> {
        self.open(transaction)?;
        match &self.stage {
            Stage::Committed { transaction: held, .. } if *held == transaction => Ok(()),
            _ => Err(unfinished("probe", transaction)),
        }
    }

    /// A `Rollback` came: whatever is open up to this transaction is undone. `Run` carries the section to restore; what was
    /// only prepared is dropped here. A transaction that was never seen is closed, so that a `Prepare` which comes after
    /// its `Rollback` is refused. A restoration that failed or hangs is begun anew.
    pub fn rollback(&mut self, transaction: Transaction) -> Admit<Arc<S>> {
        if self.is_past(transaction) {
            return Admit::Done;
        }
        match std::mem::replace(&mut self.stage, Stage::Rest) {
            Stage::Committed { transaction: held, before } if held == transaction => self.section = before,
            Stage::Committing { .. } | Stage::Restoring { .. } => {}
            Stage::Rest | Stage::Preparing { .. } | Stage::Prepared { .. } | Stage::Committed { .. }
                if self.torn => {}
            Stage::Rest | Stage::Preparing { .. } | Stage::Prepared { .. } | Stage::Committed { .. } => {
                self.closed = self.closed.max(transaction);
                return Admit::Done;
            }
        }
        self.torn = true;
        self.stage = Stage::Restoring { transaction };
        Admit::Run(Arc::clone(&self.section))
    }

    /// Whether a later transaction is open, or over.
    pub fn is_past(&self, transaction: Transaction) -> bool {
        transaction < self.closed || self.stage.transaction().is_some_and(|held| held > transaction)
    }

    /// The section before is in force again, or could not be brought back: then the next `Rollback` tries once more, and a
    /// commit of a later transaction heals as well.
    ///
    /// # Errors
    /// The restoration's own error.
    pub fn restored(
        &mut self,
        transaction: Transaction,
        result: Result<(), StepError>,
    ) -> Result<(), StepError> {
        match &self.stage {
            Stage::Restoring { transaction: held } if *held == transaction => {
                self.stage = Stage::Rest;
                self.closed = self.closed.max(transaction);
                self.torn = result.is_err();
                result
            }
            _ => result.and_then(|()| Err(over(transaction))),
        }
    }

    fn open(&self, transaction: Transaction) -> Result<(), StepError> {
        if transaction <= self.closed { Err(over(transaction)) } else { Ok(()) }
    }
}

fn over(transaction: Transaction) -> StepError {
    StepError::component(format!("transaction {transaction} is over; its step is refused"))
}

fn unfinished(step: &str, transaction: Transaction) -> StepError {
    StepError::component(format!("{step} of transaction {transaction} came out of order"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(n: u64) -> Transaction {
        (0..n).fold(Transaction::NONE, |t, _| t.next())
    }

    fn fence() -> Fence<&'static str, &'static str> {
        Fence::new(Arc::new("old"))
    }

    fn committed() -> Fence<&'static str, &'static str> {
        let mut fence = fence();
        fence.prepare(transaction(1), Arc::new("new")).unwrap();
        fence.prepared(transaction(1), Ok("socket")).unwrap();
        assert_eq!(fence.commit(transaction(1)).unwrap(), Admit::Run(("socket", Arc::new("new"))));
        fence.committed(transaction(1), Ok(())).unwrap();
        fence
    }

    #[test]
    fn a_whole_transaction_moves_the_section() {
        let mut fence = committed();
        assert_eq!(**fence.section(), "new");
        fence.after_commit(transaction(1)).unwrap();
        assert_eq!(fence.prepare(transaction(2), Arc::new("newer")).unwrap(), Admit::Run(()));
        fence.after_commit(transaction(1)).expect_err("transaction 1 ended when 2 began");
    }

    #[test]
    fn repeated_steps_are_done_once() {
        let mut fence = fence();
        fence.prepare(transaction(1), Arc::new("new")).unwrap();
        fence.prepared(transaction(1), Ok("socket")).unwrap();
        assert_eq!(fence.prepare(transaction(1), Arc::new("new")).unwrap(), Admit::Done);
        fence.commit(transaction(1)).unwrap();
        fence.committed(transaction(1), Ok(())).unwrap();
        assert_eq!(fence.commit(transaction(1)).unwrap(), Admit::Done);
        assert_eq!(fence.rollback(transaction(1)), Admit::Run(Arc::new("old")));
        fence.restored(transaction(1), Ok(())).unwrap();
        assert_eq!(fence.rollback(transaction(1)), Admit::Done);
    }

    #[test]
    fn a_preparation_that_arrives_after_its_rollback_is_refused() {
        let mut fence = fence();
        fence.prepare(transaction(1), Arc::new("new")).unwrap();
        assert_eq!(fence.rollback(transaction(1)), Admit::Done);
        fence.prepared(transaction(1), Ok("socket")).expect_err("over");
        fence.commit(transaction(1)).expect_err("over");
        assert_eq!(**fence.section(), "old");
    }

    #[test]
    fn a_step_that_comes_after_a_rollback_it_never_saw_is_refused() {
        let mut fence = fence();
        assert_eq!(fence.rollback(transaction(3)), Admit::Done);
        fence.prepare(transaction(3), Arc::new("new")).expect_err("over");
        fence.prepare(transaction(2), Arc::new("new")).expect_err("over");
        assert_eq!(fence.prepare(transaction(4), Arc::new("new")).unwrap(), Admit::Run(()));
    }

    #[test]
    fn a_half_done_commit_is_restored_to_the_section_before() {
        let mut fence = fence();
        fence.prepare(transaction(1), Arc::new("new")).unwrap();
        fence.prepared(transaction(1), Ok("socket")).unwrap();
        fence.commit(transaction(1)).unwrap();
        assert_eq!(fence.rollback(transaction(1)), Admit::Run(Arc::new("old")));
        fence.committed(transaction(1), Ok(())).expect_err("it lost the race against the rollback");
        fence.restored(transaction(1), Ok(())).unwrap();
        assert_eq!(**fence.section(), "old");
    }

    #[test]
    fn a_restoration_that_hangs_does_not_keep_the_next_transaction_from_healing() {
        let mut fence = committed();
        assert_eq!(fence.rollback(transaction(1)), Admit::Run(Arc::new("old")));
        // It never ends. The next transaction comes.
        fence.prepare(transaction(2), Arc::new("newer")).unwrap();
        fence.prepared(transaction(2), Ok("socket")).unwrap();
        // It turns round: what runs is still neither.
        assert_eq!(fence.rollback(transaction(2)), Admit::Run(Arc::new("old")));
        fence.prepare(transaction(3), Arc::new("newer")).unwrap();
        fence.prepared(transaction(3), Ok("socket")).unwrap();
        fence.commit(transaction(3)).unwrap();
        fence.committed(transaction(3), Ok(())).unwrap();
        // The first one ends after all, for nobody.
        fence.restored(transaction(1), Ok(())).unwrap_err();
        assert_eq!(fence.section(), &Arc::new("newer"));
    }

    #[test]
    fn a_failed_restoration_can_be_tried_again() {
        let mut fence = committed();
        fence.rollback(transaction(1));
        fence.restored(transaction(1), Err(StepError::component("no"))).expect_err("no");
        assert_eq!(fence.rollback(transaction(1)), Admit::Run(Arc::new("old")));
        // So does the rollback of a later one, prepared or not.
        fence.restored(transaction(1), Err(StepError::component("no"))).expect_err("no");
        fence.prepare(transaction(2), Arc::new("newer")).unwrap();
        assert_eq!(fence.rollback(transaction(2)), Admit::Run(Arc::new("old")));
        fence.restored(transaction(2), Ok(())).unwrap();
        assert_eq!(fence.rollback(transaction(2)), Admit::Done);
    }

    #[test]
    fn a_rollback_that_comes_late_opens_no_transaction_that_is_over() {
        let mut fence = fence();
        fence.prepare(transaction(3), Arc::new("new")).unwrap();
        fence.prepared(transaction(3), Ok("socket")).unwrap();
        fence.commit(transaction(3)).unwrap();
        assert_eq!(fence.rollback(transaction(3)), Admit::Run(Arc::new("old")));
        fence.restored(transaction(3), Err(StepError::component("no"))).expect_err("no");
        assert_eq!(fence.rollback(transaction(2)), Admit::Done, "not its business");
        fence.prepare(transaction(3), Arc::new("newer")).expect_err("over");
        assert_eq!(fence.rollback(transaction(3)), Admit::Run(Arc::new("old")), "once more");
    }

    #[test]
    fn a_rollback_that_comes_late_does_not_touch_a_later_transaction() {
        let mut fence = committed();
        fence.prepare(transaction(2), Arc::new("newer")).unwrap();
        assert_eq!(fence.rollback(transaction(1)), Admit::Done);
        fence.prepared(transaction(2), Ok("socket")).unwrap();
    }

    #[test]
    fn a_failed_preparation_leaves_the_fence_at_rest() {
        let mut fence = fence();
        fence.prepare(transaction(1), Arc::new("new")).unwrap();
        fence.prepared(transaction(1), Err(StepError::component("no"))).expect_err("no");
        fence.commit(transaction(1)).expect_err("nothing was prepared");
        assert_eq!(fence.rollback(transaction(1)), Admit::Done);
    }
}
