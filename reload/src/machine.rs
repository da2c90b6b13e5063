//! The heart: a pure function from a state and an event to the next state and a list of actions.
//!
//! No clock, no actor and no I/O is in it. The [coordinator](crate::coordinator) performs its actions and feeds it events; a model
//! checker or a simulation calls the very same function. What arrives for a transaction, a step or a component that
//! nobody waits for any more changes nothing, so answers may be late or come twice.

mod terms;

use crate::budget::Stage;
use crate::graph::{Index, Set};
use crate::{StepKind, Transaction};
pub use terms::{Action, Answer, End, Event, State, Verdict};

/// The state machine of the reload (R2, R4, R10, R13, R14).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// The transaction that ran last.
    last: Transaction,
    run: Run,
    /// One more reload is wanted after the one that runs.
    waiting: bool,
    stopping: bool,
    /// Components that run neither generation for sure. Not empty is emergency.
    broken: Set,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Run {
    Rest,
    Judging,
    /// A step forward: `pending` of `levels[level]` have not answered.
    Forward {
        step: StepKind,
        levels: Vec<Set>,
        level: usize,
        pending: Set,
        told: Set,
    },
    Recording,
    /// `levels` are those told, in reverse order.
    Back {
        levels: Vec<Set>,
        level: usize,
        pending: Set,
        lost: Set,
    },
    Replacing {
        pending: Set,
        lost: Set,
    },
    Halted,
}

// === impl Machine ===

impl Default for Machine {
    fn default() -> Self {
        Self { last: Transaction::NONE, run: Run::Rest, waiting: false, stopping: false, broken: Set::EMPTY }
    }
}

impl Machine {
    /// The state as it is shown.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.run {
            Run::Rest | Run::Halted if self.broken.is_empty() => State::Idle,
            Run::Rest | Run::Halted => State::Failed,
            Run::Judging => State::Validating,
            Run::Forward { .. } | Run::Recording => State::Updating,
            Run::Back { .. } | Run::Replacing { .. } => State::RollingBack,
        }
    }

    /// The components that run neither generation for sure; the next plan must name them all.
    #[must_use]
    pub const fn broken(&self) -> Set {
        self.broken
    }

    /// The components whose answer the machine waits for.
    #[must_use]
    pub const fn pending(&self) -> Set {
        match &self.run {
            Run::Forward { pending, .. } | Run::Back { pending, .. } | Run::Replacing { pending, .. } => {
                *pending
            }
            Run::Rest | Run::Judging | Run::Recording | Run::Halted => Set::EMPTY,
        }
    }

    /// Whether the machine waits for this component's answer to this step: whether it makes sense to send it once more.
    #[must_use]
    pub fn awaits(&self, transaction: Transaction, component: Index, step: StepKind) -> bool {
        let awaited = match &self.run {
            Run::Forward { step, .. } => Some(*step),
            Run::Back { .. } => Some(StepKind::Rollback),
            Run::Rest | Run::Judging | Run::Recording | Run::Replacing { .. } | Run::Halted => None,
        };
        transaction == self.last && awaited == Some(step) && self.pending().contains(component)
    }

    /// Whether the machine waits for the judgement of this transaction.
    #[must_use]
    pub fn awaits_judgement(&self, transaction: Transaction) -> bool {
        transaction == self.last && self.run == Run::Judging
    }

    /// Whether a trigger would be dismissed.
    #[must_use]
    pub const fn stopping(&self) -> bool {
        self.stopping
    }

    /// Whether no transaction runs.
    #[must_use]
    pub const fn at_rest(&self) -> bool {
        matches!(self.run, Run::Rest | Run::Halted)
    }

    /// The next state, and what is to be done.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Trigger => self.trigger(&mut actions),
            Event::Stop => self.stop(&mut actions),
            Event::Judged(transaction, verdict) if transaction == self.last => {
                self.judged(verdict, &mut actions)
            }
            Event::Acked { transaction, component, step, answer } if transaction == self.last => {
                self.acked(component, step, answer, &mut actions);
            }
            Event::Expired(transaction, stage) if transaction == self.last => {
                self.expired(stage, &mut actions)
            }
            Event::Replaced { transaction, component, done } if transaction == self.last => {
                self.replaced(component, done, &mut actions);
            }
            Event::Recorded(transaction) if transaction == self.last => {
                if self.run == Run::Recording {
                    self.conclude(End::Committed, &mut actions);
                }
            }
            // Of a transaction that is over.
            Event::Judged(..)
            | Event::Acked { .. }
            | Event::Expired(..)
            | Event::Replaced { .. }
            | Event::Recorded(_) => {}
        }
        actions
    }

    fn trigger(&mut self, actions: &mut Vec<Action>) {
        if self.stopping {
            actions.push(Action::DismissWaiting);
        } else if self.at_rest() {
            self.begin(actions);
        } else {
            self.waiting = true;
        }
    }

    fn stop(&mut self, actions: &mut Vec<Action>) {
        self.stopping = true;
        if std::mem::take(&mut self.waiting) {
            actions.push(Action::DismissWaiting);
        }
        if self.at_rest() && self.run != Run::Halted {
            self.run = Run::Halted;
            actions.push(Action::Halt);
        }
    }

    fn begin(&mut self, actions: &mut Vec<Action>) {
        self.last = self.last.next();
        self.run = Run::Judging;
        actions.push(Action::Enter(self.state()));
        actions.push(Action::Judge(self.last));
        actions.push(Action::Arm(self.last, Stage::Judge));
    }

    fn judged(&mut self, verdict: Verdict, actions: &mut Vec<Action>) {
        if self.run != Run::Judging {
            return;
        }
        match verdict {
            Verdict::Rejected => self.conclude(End::Rejected, actions),
            Verdict::Unavailable => actions.push(Action::JudgeAgain(self.last)),
            Verdict::Unchanged => self.conclude(End::Unchanged, actions),
            Verdict::Accepted(levels) if levels.is_empty() => self.record(actions),
            Verdict::Accepted(levels) => self.forward(StepKind::Prepare, levels, 0, Set::EMPTY, actions),
        }
    }

    /// Sends `step` to a level. Probe and finish have one level: nobody depends on the order there.
    fn forward(
        &mut self,
        step: StepKind,
        levels: Vec<Set>,
        level: usize,
        told: Set,
        actions: &mut Vec<Action>,
    ) {
        let all = levels.iter().fold(Set::EMPTY, |all, level| all.with(*level));
        let pending = match step {
            StepKind::Probe | StepKind::Finish => all,
            _ => levels[level],
        };
        let told = told.with(pending);
        self.run = Run::Forward { step, levels, level, pending, told };
        match (step, level) {
            (StepKind::Prepare, 0) => {
                actions.push(Action::Enter(State::Updating));
                actions.push(Action::Arm(self.last, Stage::Prepare));
            }
            (StepKind::Commit, 0) => actions.push(Action::Arm(self.last, Stage::Commit)),
            (StepKind::Finish, _) => actions.push(Action::Arm(self.last, Stage::Finish)),
            _ => {}
        }
        actions.extend(pending.iter().map(|component| Action::Send(self.last, component, step)));
    }

    fn acked(&mut self, component: Index, answered: StepKind, answer: Answer, actions: &mut Vec<Action>) {
        let again = Action::SendAgain(self.last, component, answered);
        match &mut self.run {
            Run::Forward { step, pending, .. } if *step == answered && pending.contains(component) => {
                match (answered, answer) {
                    // Nothing runs on what was prepared: it can be tried as often as there is time for.
                    (StepKind::Prepare, Answer::Unavailable) => return actions.push(again),
                    // After the probe there is no way back, and a finish that fails is reported, not undone.
                    (StepKind::Finish, _) | (_, Answer::Done) => {}
                    _ => return self.back(actions),
                }
                *pending = pending.without(Set::of(component));
                if pending.is_empty() {
                    self.advance(actions);
                }
            }
            Run::Back { pending, lost, .. }
                if answered == StepKind::Rollback && pending.contains(component) =>
            {
                match answer {
                    Answer::Unavailable => return actions.push(again),
                    // One that was broken before stays so: a successor that is not well has nothing to undo, and says
                    // that it is done.
                    Answer::Done => {}
                    Answer::Failed => *lost = lost.with(Set::of(component)),
                }
                *pending = pending.without(Set::of(component));
                if pending.is_empty() {
                    self.next_level_back(actions);
                }
            }
            _ => {}
        }
    }

    /// Every component of the level has done its step.
    fn advance(&mut self, actions: &mut Vec<Action>) {
        let Run::Forward { step, levels, level, told, .. } = std::mem::replace(&mut self.run, Run::Rest)
        else {
            return;
        };
        let more = level + 1 < levels.len();
        match step {
            StepKind::Prepare | StepKind::Commit if more => {
                self.forward(step, levels, level + 1, told, actions)
            }
            StepKind::Prepare => self.forward(StepKind::Commit, levels, 0, told, actions),
            StepKind::Commit => self.forward(StepKind::Probe, levels, 0, told, actions),
            StepKind::Probe => self.forward(StepKind::Finish, levels, 0, told, actions),
            StepKind::Finish | StepKind::Rollback => {
                self.broken = self.broken.without(told);
                self.record(actions);
            }
        }
    }

    fn record(&mut self, actions: &mut Vec<Action>) {
        // A disk that hangs must not hold the transaction past its budget: it stands, written down or not.
        self.run = Run::Recording;
        actions.push(Action::Arm(self.last, Stage::Record));
        actions.push(Action::Record(self.last));
    }

    /// Turns round: everybody who was told anything goes back, the last level first.
    fn back(&mut self, actions: &mut Vec<Action>) {
        let Run::Forward { levels, told, .. } = std::mem::replace(&mut self.run, Run::Rest) else { return };
        let levels: Vec<Set> =
            levels.iter().rev().map(|level| level.both(told)).filter(|level| !level.is_empty()).collect();
        let pending = levels[0];
        self.run = Run::Back { levels, level: 0, pending, lost: Set::EMPTY };
        actions.push(Action::Enter(State::RollingBack));
        self.send_back(actions);
    }

    fn send_back(&self, actions: &mut Vec<Action>) {
        let Run::Back { levels, level, pending, .. } = &self.run else { return };
        let after = u8::try_from(levels.len() - level).unwrap_or(u8::MAX);
        actions.push(Action::Arm(self.last, Stage::Rollback { after }));
        actions
            .extend(pending.iter().map(|component| Action::Send(self.last, component, StepKind::Rollback)));
    }

    fn next_level_back(&mut self, actions: &mut Vec<Action>) {
        let Run::Back { levels, level, pending, lost } = &mut self.run else { return };
        if *level + 1 < levels.len() {
            *level += 1;
            *pending = levels[*level];
            return self.send_back(actions);
        }
        let lost = *lost;
        if lost.is_empty() {
            return self
                .conclude(if self.broken.is_empty() { End::RolledBack } else { End::Failed }, actions);
        }
        self.run = Run::Replacing { pending: lost, lost: Set::EMPTY };
        actions.push(Action::Arm(self.last, Stage::Replace));
        actions.extend(lost.iter().map(|component| Action::Replace(self.last, component)));
    }

    fn replaced(&mut self, component: Index, done: bool, actions: &mut Vec<Action>) {
        let Run::Replacing { pending, lost } = &mut self.run else { return };
        if !pending.contains(component) {
            return;
        }
        *pending = pending.without(Set::of(component));
        if done {
            self.broken = self.broken.without(Set::of(component));
        } else {
            *lost = lost.with(Set::of(component));
        }
        if pending.is_empty() {
            let lost = *lost;
            self.give_up(lost, actions);
        }
    }

    fn give_up(&mut self, lost: Set, actions: &mut Vec<Action>) {
        self.broken = self.broken.with(lost);
        self.conclude(if self.broken.is_empty() { End::RolledBack } else { End::Failed }, actions);
    }

    fn expired(&mut self, stage: Stage, actions: &mut Vec<Action>) {
        match (&mut self.run, stage) {
            (Run::Judging, Stage::Judge) => self.conclude(End::Rejected, actions),
            (Run::Forward { step: StepKind::Prepare, .. }, Stage::Prepare)
            | (Run::Forward { step: StepKind::Commit | StepKind::Probe, .. }, Stage::Commit) => {
                self.back(actions)
            }
            (Run::Forward { step: StepKind::Finish, .. }, Stage::Finish) => self.advance(actions),
            (Run::Recording, Stage::Record) => self.conclude(End::Committed, actions),
            (Run::Back { levels, level, pending, lost }, Stage::Rollback { after })
                if usize::from(after) == levels.len() - *level =>
            {
                *lost = lost.with(*pending);
                self.next_level_back(actions);
            }
            (Run::Replacing { pending, lost }, Stage::Replace) => {
                let lost = lost.with(*pending);
                self.give_up(lost, actions);
            }
            // A deadline of a stage that is over.
            _ => {}
        }
    }

    fn conclude(&mut self, end: End, actions: &mut Vec<Action>) {
        self.run = Run::Rest;
        actions.push(Action::Enter(self.state()));
        actions.push(Action::Conclude(self.last, end));
        if self.stopping {
            self.run = Run::Halted;
            actions.push(Action::Halt);
        } else if std::mem::take(&mut self.waiting) {
            self.begin(actions);
        }
    }
}

#[cfg(test)]
mod tests;
