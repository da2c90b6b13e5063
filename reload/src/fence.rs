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

// === impl Fence ===

impl<S, P> Fence<S, P> {
    /// A fence around a component that runs `section`.
    pub fn new(section: Arc<S>) -> Self {
        Self { section, closed: Transaction::NONE, stage: Stage::Rest }
    }

    /// The section that stands if nothing more happens.
    pub fn section(&self) -> &Arc<S> {
        &self.section
    }

    /// A `Prepare` came. A newer one ends a committed transaction: the coordinator runs one at a time.
    ///
    /// # Errors
    /// If the transaction is over, out of order, or another one is still open.
    pub fn prepare(&mut self, transaction: Transaction, next: Arc<S>) -> Result<Admit<()>, StepError> {
        self.open(transaction)?;
        match &self.stage {
            Stage::Prepared { transaction: held, .. } if *held == transaction => return Ok(Admit::Done),
            Stage::Committed { transaction: held, .. } if *held < transaction => self.closed = *held,
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

    /// A `Rollback` came. `Run` carries the section to restore; what was only prepared is dropped here. A transaction
    /// that was never seen is closed, so that a `Prepare` which comes after its `Rollback` is refused.
    ///
    /// # Errors
    /// If the component is already restoring.
    pub fn rollback(&mut self, transaction: Transaction) -> Result<Admit<Arc<S>>, StepError> {
        if transaction <= self.closed {
            return Ok(Admit::Done);
        }
        match std::mem::replace(&mut self.stage, Stage::Rest) {
            Stage::Committing { transaction: held, .. } if held == transaction => {
                self.stage = Stage::Restoring { transaction };
                Ok(Admit::Run(Arc::clone(&self.section)))
            }
            Stage::Committed { transaction: held, before } if held == transaction => {
                self.section = before;
                self.stage = Stage::Restoring { transaction };
                Ok(Admit::Run(Arc::clone(&self.section)))
            }
            Stage::Restoring { transaction: held } if held == transaction => {
                self.stage = Stage::Restoring { transaction };
                Err(unfinished("rollback", transaction))
            }
            Stage::Rest | Stage::Preparing { .. } | Stage::Prepared { .. } | Stage::Committed { .. } => {
                self.closed = transaction;
                Ok(Admit::Done)
            }
            other @ (Stage::Committing { .. } | Stage::Restoring { .. }) => {
                self.stage = other;
                Err(unfinished("rollback", transaction))
            }
        }
    }

    /// The section before is in force again, or could not be brought back: then the next `Rollback` tries once more.
    ///
    /// # Errors
    /// The restoration's own error.
    pub fn restored(
        &mut self,
        transaction: Transaction,
        result: Result<(), StepError>,
    ) -> Result<(), StepError> {
        match (&self.stage, result) {
            (Stage::Restoring { transaction: held }, Ok(())) if *held == transaction => {
                self.stage = Stage::Rest;
                self.closed = transaction;
                Ok(())
            }
            (Stage::Restoring { transaction: held }, Err(error)) if *held == transaction => {
                let next = Arc::clone(&self.section);
                self.stage = Stage::Committing { transaction, next };
                Err(error)
            }
            (_, result) => result.and_then(|()| Err(over(transaction))),
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
        assert_eq!(fence.rollback(transaction(1)).unwrap(), Admit::Run(Arc::new("old")));
        fence.restored(transaction(1), Ok(())).unwrap();
        assert_eq!(fence.rollback(transaction(1)).unwrap(), Admit::Done);
    }

    #[test]
    fn a_preparation_that_arrives_after_its_rollback_is_refused() {
        let mut fence = fence();
        fence.prepare(transaction(1), Arc::new("new")).unwrap();
        assert_eq!(fence.rollback(transaction(1)).unwrap(), Admit::Done);
        fence.prepared(transaction(1), Ok("socket")).expect_err("over");
        fence.commit(transaction(1)).expect_err("over");
        assert_eq!(**fence.section(), "old");
    }

    #[test]
    fn a_step_that_comes_after_a_rollback_it_never_saw_is_refused() {
        let mut fence = fence();
        assert_eq!(fence.rollback(transaction(3)).unwrap(), Admit::Done);
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
        assert_eq!(fence.rollback(transaction(1)).unwrap(), Admit::Run(Arc::new("old")));
        fence.committed(transaction(1), Ok(())).expect_err("it lost the race against the rollback");
        fence.restored(transaction(1), Ok(())).unwrap();
        assert_eq!(**fence.section(), "old");
    }

    #[test]
    fn a_failed_restoration_can_be_tried_again() {
        let mut fence = committed();
        fence.rollback(transaction(1)).unwrap();
        fence.restored(transaction(1), Err(StepError::component("no"))).expect_err("no");
        assert_eq!(fence.rollback(transaction(1)).unwrap(), Admit::Run(Arc::new("old")));
    }

    #[test]
    fn a_failed_preparation_leaves_the_fence_at_rest() {
        let mut fence = fence();
        fence.prepare(transaction(1), Arc::new("new")).unwrap();
        fence.prepared(transaction(1), Err(StepError::component("no"))).expect_err("no");
        fence.commit(transaction(1)).expect_err("nothing was prepared");
        assert_eq!(fence.rollback(transaction(1)).unwrap(), Admit::Done);
    }
}
