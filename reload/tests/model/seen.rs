//! What the checker sees and the program does not: who has done what so far, and what should not have been.

use reload::graph::{Index, Set};
use reload::machine::End;
use reload::{StepKind, Transaction};

use super::world::{Model, World};

/// What the checker remembers beside the program: of the transaction that runs, and what went wrong for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Who may be told something.
    pub affected: Set,
    pub prepared: Set,
    pub committed: Set,
    /// Whose section may be another one than the current generation's.
    pub touched: Set,
    pub told: Set,
    /// Rolled back, or given up.
    pub back: Set,
    /// There was a reason for it to fail.
    pub cause: bool,
    /// It began in emergency.
    pub emergency: bool,
    /// Somebody asked after the file was last looked at.
    pub unheard: bool,
    /// Those who could not be brought back: irreplaceable, or with a successor that was not well or did not answer.
    pub gone: Set,
    /// How the last one ended, and whether it led out of emergency.
    pub ended: Option<(End, bool)>,
    /// What was last told to be durable: a generation and what it says.
    pub durable: Option<(u8, usize)>,
    pub wrong: Vec<Wrong>,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    ToldUnconcerned,
    CommitBeforePrepared,
    CommitBeforeDependency,
    BackBeforeDependent,
    NotAnswered,
    FailedWithoutCause,
    SuccessThatIsNotWhole,
}

// === impl World ===

impl World {
    pub fn note(&mut self, wrong: bool, what: Wrong) {
        if wrong && !self.seen.wrong.contains(&what) {
            self.seen.wrong.push(what);
        }
    }

    /// Looks at every message before it is sent.
    pub fn watch(&mut self, model: &Model, component: Index, step: StepKind) {
        let affected = self.seen.affected;
        let one = Set::of(component);
        self.note(!affected.contains(component), Wrong::ToldUnconcerned);
        self.seen.told = self.seen.told.with(one);
        match step {
            StepKind::Commit => {
                let unprepared = !affected.without(self.seen.prepared).is_empty();
                self.note(unprepared, Wrong::CommitBeforePrepared);
                let needs = model.needs[component].both(affected);
                let uncommitted = !needs.without(self.seen.committed).is_empty();
                self.note(uncommitted, Wrong::CommitBeforeDependency);
                self.seen.touched = self.seen.touched.with(one);
            }
            StepKind::Rollback => {
                let dependents: Set =
                    (0..self.parts.len()).filter(|other| model.needs[*other].contains(component)).collect();
                let still = dependents.both(self.seen.told).without(self.seen.back);
                self.note(!still.is_empty(), Wrong::BackBeforeDependent);
            }
            StepKind::Prepare | StepKind::Probe | StepKind::Finish => {}
        }
    }

    /// A component has done a step, whether or not its answer is heard.
    pub fn has_done(&mut self, component: Index, transaction: Transaction, step: StepKind) {
        if !self.desk.runs(transaction) {
            return;
        }
        let done = match step {
            StepKind::Prepare => &mut self.seen.prepared,
            StepKind::Commit => &mut self.seen.committed,
            StepKind::Rollback => &mut self.seen.back,
            StepKind::Probe | StepKind::Finish => return,
        };
        *done = done.with(Set::of(component));
    }

    /// Nothing is known of a transaction that has not begun.
    pub fn forget(&mut self, cause: bool, emergency: bool) {
        let Seen { durable, unheard, gone, .. } = self.seen;
        let wrong = std::mem::take(&mut self.seen.wrong);
        self.seen = Seen { cause, emergency, durable, unheard, gone, wrong, ..Seen::default() };
    }
}
