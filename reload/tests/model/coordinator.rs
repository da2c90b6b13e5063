//! The coordinator's side: performs the machine's actions as `reload::Coordinator` does.
//!
//! The loop, what is done for each action and in which order are those of `reload/src/coordinator.rs`, with the clock, the
//! disk and the mailboxes given to the environment. Aims (`rollback N`, `--confirm`) and dry runs are left out: they add no
//! event and no action.

use std::collections::VecDeque;

use reload::budget::Stage;
use reload::graph::{Index, Set};
use reload::machine::{Action, Answer, End, Event, Machine, Verdict};
use reload::plan::{Change, Plan, Strategy};
use reload::{StepKind, Transaction};
use serde_json::Value;

use super::component::{Answered, Message, Step};
use super::mutation::Mutation;
use super::seen::Wrong;
use super::world::{Model, World};

/// What the coordinator keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Desk {
    pub machine: Machine,
    /// What runs, and its number.
    pub current: usize,
    pub generation: u8,
    pub armed: Option<(Transaction, Stage)>,
    pub running: Option<Running>,
    /// How many wait for the next transaction.
    pub waiting: u8,
    /// Files that are being read, with what they said when that began.
    pub readings: Vec<(Transaction, usize)>,
    /// What is to be tried again after a while.
    pub again: Vec<Again>,
    /// Answers that are on their way longer than anybody waits, or come once more.
    pub late: Vec<(Index, Answered)>,
    pub halted: bool,
}

/// A transaction that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Running {
    pub transaction: Transaction,
    pub candidate: Option<usize>,
    pub durable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Again {
    Judge(Transaction),
    Send(Transaction, Index, StepKind),
}

// === impl Desk ===

impl Desk {
    pub fn new(current: usize, generation: u8) -> Self {
        Self {
            machine: Machine::default(),
            current,
            generation,
            armed: None,
            running: None,
            waiting: 0,
            readings: Vec::new(),
            again: Vec::new(),
            late: Vec::new(),
            halted: false,
        }
    }

    pub fn runs(&self, transaction: Transaction) -> bool {
        self.running.is_some_and(|running| running.transaction == transaction)
    }
}

// === impl World ===

impl World {
    /// Somebody asks for a reload.
    pub fn request(&mut self, model: &Model) {
        if self.desk.machine.stopping() {
            return;
        }
        self.seen.unheard = true;
        if model.mutation == Some(Mutation::JoinsTheRunning) && self.desk.running.is_some() {
            return;
        }
        self.desk.waiting += 1;
        self.on(model, Event::Trigger, true);
    }

    /// Feeds the machine and performs what it asks for. `again` says whether there is time for another try of what the
    /// machine failed.
    pub fn on(&mut self, model: &Model, event: Event, again: bool) {
        let mut actions = VecDeque::from(self.desk.machine.on(event));
        while let Some(action) = actions.pop_front() {
            if let Some(event) = self.perform(model, action, again) {
                actions.extend(self.desk.machine.on(event));
            }
        }
    }

    fn perform(&mut self, model: &Model, action: Action, again: bool) -> Option<Event> {
        match action {
            Action::Enter(_) => {}
            Action::Judge(transaction) => self.judge(transaction),
            Action::JudgeAgain(transaction) if again => self.desk.again.push(Again::Judge(transaction)),
            Action::JudgeAgain(transaction) => {
                return Some(Event::Judged(transaction, Verdict::Rejected));
            }
            Action::Arm(_, Stage::Rollback { .. }) if model.mutation == Some(Mutation::NoDeadline) => {}
            Action::Arm(transaction, stage) => self.desk.armed = Some((transaction, stage)),
            Action::Send(transaction, component, step) => {
                return self.send(model, transaction, component, step);
            }
            Action::SendAgain(..) if again && model.mutation == Some(Mutation::NotTriedAgain) => {}
            Action::SendAgain(transaction, component, step) if again => {
                self.desk.again.push(Again::Send(transaction, component, step));
            }
            Action::SendAgain(transaction, component, step) => {
                if step == StepKind::Rollback {
                    self.seen.back = self.seen.back.with(Set::of(component));
                }
                return Some(Event::Acked { transaction, component, step, answer: Answer::Failed });
            }
            Action::Replace(transaction, component) => return self.replace(model, transaction, component),
            Action::Record(transaction) => self.record(model, transaction),
            Action::Conclude(transaction, end) => self.conclude(model, transaction, end),
            Action::DismissWaiting => self.desk.waiting = 0,
            Action::Halt => self.desk.halted = model.mutation != Some(Mutation::HaltForgotten),
        }
        None
    }

    fn judge(&mut self, transaction: Transaction) {
        // Whoever waited for one that runs is never answered; and one that nobody asked for is too many.
        self.note(self.desk.running.is_some(), Wrong::NotAnswered);
        let waiters = std::mem::take(&mut self.desk.waiting);
        self.note(waiters == 0, Wrong::NotAnswered);
        self.desk.running = Some(Running { transaction, candidate: None, durable: false });
        let quiet = self.parts.iter().all(|part| part.is_quiet() && part.left_behind.is_empty());
        let emergency = !self.desk.machine.broken().is_empty();
        self.forget(!quiet || !self.desk.late.is_empty() || emergency, emergency);
        self.load(transaction);
    }

    pub fn load(&mut self, transaction: Transaction) {
        self.seen.unheard = false;
        self.desk.readings.push((transaction, self.file));
    }

    /// What was read has been judged. Valid or not is the file's; `None` if it could not be read.
    pub fn judged(&mut self, model: &Model, transaction: Transaction, read: Option<usize>, again: bool) {
        let verdict = match read {
            None => Verdict::Unavailable,
            Some(content) if !model.contents[content].valid => Verdict::Rejected,
            Some(content) => {
                let plan = self.plan(model, content);
                if self.desk.runs(transaction) {
                    self.seen.affected = plan.affected;
                    self.desk.running =
                        Some(Running { transaction, candidate: Some(content), durable: false });
                }
                if plan.is_empty() { Verdict::Unchanged } else { Verdict::Accepted(plan.levels) }
            }
        };
        self.on(model, Event::Judged(transaction, verdict), again);
    }

    fn plan(&self, model: &Model, next: usize) -> Plan {
        let (current, next) = (&model.contents[self.desk.current], &model.contents[next]);
        let affected: Set =
            (0..self.parts.len()).filter(|index| current.sections[*index] != next.sections[*index]).collect();
        let broken = if model.mutation == Some(Mutation::BrokenForgotten) {
            Set::EMPTY
        } else {
            self.desk.machine.broken()
        };
        let changes = if current == next { Vec::new() } else { vec![some_change()] };
        Plan::new(&model.graph, changes, affected, broken, Vec::new())
    }

    pub fn send(
        &mut self,
        model: &Model,
        transaction: Transaction,
        component: Index,
        step: StepKind,
    ) -> Option<Event> {
        if step == StepKind::Probe && !model.health_gate {
            return Some(Event::Acked { transaction, component, step, answer: Answer::Done });
        }
        let next = self.desk.running?.candidate?;
        if model.mutation == Some(Mutation::EverybodyTold) && step == StepKind::Prepare {
            let others = (0..self.parts.len()).filter(|other| !self.seen.affected.contains(*other));
            for other in others.collect::<Vec<_>>() {
                self.tell(model, transaction, other, step, next);
            }
        }
        let to = model.really_to(component, step);
        self.tell(model, transaction, to, step, next);
        None
    }

    fn tell(
        &mut self,
        model: &Model,
        transaction: Transaction,
        component: Index,
        step: StepKind,
        next: usize,
    ) {
        self.watch(model, component, step);
        let key = self.key(model, transaction);
        let next = model.contents[next].sections[component];
        self.parts[component].actor.mailbox.push_back(Message::Step(Step {
            transaction,
            key,
            kind: step,
            next,
        }));
    }

    /// What the fences know a transaction by.
    pub fn key(&self, model: &Model, transaction: Transaction) -> Transaction {
        if model.mutation == Some(Mutation::FencedByGeneration) {
            (0..=self.desk.generation).fold(Transaction::NONE, |number, _| number.next())
        } else {
            transaction
        }
    }

    /// An answer arrives.
    pub fn answered(&mut self, model: &Model, component: Index, answered: Answered, again: bool) {
        let (mut transaction, step, answer) = answered;
        if self.desk.runs(transaction) && step == StepKind::Rollback && answer == Answer::Failed {
            self.seen.back = self.seen.back.with(Set::of(component));
        }
        if model.mutation == Some(Mutation::LateAnswersCount)
            && let Some(running) = self.desk.running
        {
            transaction = running.transaction;
        }
        let component = model.really_to(component, step);
        self.on(model, Event::Acked { transaction, component, step, answer }, again);
    }

    /// What was to be tried again is, if it makes sense still.
    pub fn again(&mut self, model: &Model, at: usize) {
        match self.desk.again.remove(at) {
            Again::Judge(transaction) if self.desk.machine.awaits_judgement(transaction) => {
                self.load(transaction)
            }
            Again::Send(transaction, component, step)
                if self.desk.machine.awaits(transaction, component, step) =>
            {
                if let Some(event) = self.send(model, transaction, component, step) {
                    self.on(model, event, true);
                }
            }
            Again::Judge(_) | Again::Send(..) => {}
        }
    }

    /// The deadline that is armed passes.
    pub fn expire(&mut self, model: &Model) {
        let Some((transaction, stage)) = self.desk.armed.take() else { return };
        self.seen.cause = true;
        let silent = self.desk.machine.pending();
        self.seen.back = self.seen.back.with(silent);
        if stage == Stage::Replace {
            self.seen.gone = self.seen.gone.with(silent);
        }
        self.on(model, Event::Expired(transaction, stage), true);
    }

    fn replace(&mut self, model: &Model, transaction: Transaction, component: Index) -> Option<Event> {
        self.seen.touched = self.seen.touched.with(Set::of(component));
        self.note(!self.seen.affected.contains(component), Wrong::ToldUnconcerned);
        if !model.replaceable.contains(component) {
            self.seen.gone = self.seen.gone.with(Set::of(component));
            return Some(Event::Replaced { transaction, component, done: false });
        }
        let section = model.contents[self.desk.current].sections[component];
        self.parts[component].replace(transaction, model.books(section), section);
        None
    }

    fn record(&mut self, model: &Model, transaction: Transaction) {
        let Some(running) = &mut self.desk.running else { return };
        let Some(content) = running.candidate else { return };
        if model.mutation != Some(Mutation::NumberUsedTwice) {
            self.desk.generation += 1;
        }
        self.desk.current = content;
        // From here on everybody runs the new one.
        self.seen.touched = Set::EMPTY;
        self.disk.unwritten.push((transaction, content, false));
        if model.mutation == Some(Mutation::DurableTooSoon) {
            running.durable = true;
        }
    }

    /// The disk has answered for a generation.
    pub fn recorded(&mut self, model: &Model, transaction: Transaction, durable: bool) {
        if let Some(running) = self.desk.running.as_mut().filter(|r| r.transaction == transaction) {
            running.durable |= durable;
        }
        self.on(model, Event::Recorded(transaction), true);
    }

    fn conclude(&mut self, model: &Model, transaction: Transaction, end: End) {
        self.desk.armed = None;
        let running = self.desk.running;
        if model.mutation != Some(Mutation::AnswerForgotten) || end != End::RolledBack {
            self.desk.running = None;
        }
        self.note(running.is_none_or(|running| running.transaction != transaction), Wrong::NotAnswered);
        let failed = matches!(end, End::RolledBack | End::Failed);
        self.note(failed && !self.seen.cause, Wrong::FailedWithoutCause);
        let success = matches!(end, End::Committed | End::Unchanged);
        self.note(success && !self.desk.machine.broken().is_empty(), Wrong::SuccessThatIsNotWhole);
        if end == End::Committed {
            self.seen.gone = Set::EMPTY;
        }
        if end == End::Committed && running.is_some_and(|running| running.durable) {
            self.seen.durable = Some((self.desk.generation, self.desk.current));
        }
        let healed = self.seen.emergency && self.desk.machine.broken().is_empty();
        self.forget(false, false);
        self.seen.ended = Some((end, healed));
    }
}

fn some_change() -> Change {
    Change {
        path: "key".to_owned(),
        from: Value::Null,
        to: Value::Null,
        component: String::new(),
        components: Vec::new(),
        strategy: Strategy::InPlace,
    }
}
