//! A component: its mailbox, what is under way in it, what it runs, and those that were left behind in its place.
//!
//! What it does with a message is what `reload::component::reconfigure` does, which needs an actor's context and cannot be
//! called here: admit by the fence, cancel on rollback, keep the books when the work is over. One work is in the slot that a
//! rollback cancels.
//!
//! A handler that blocks its thread needs no state of its own: it is a work that is not over yet and behind which nothing
//! is delivered, and the environment may deliver nothing for as long as it likes.

use std::collections::VecDeque;

use reload::machine::Answer;
use reload::{StepKind, Transaction};

use super::books::{Books, Call, Reply, Section};
use super::mutation::Mutation;

/// What runs is nothing whole.
pub const TORN: Section = Section::MAX;
/// What is left of a section when it must run whatever happens.
pub const MINIMAL: Section = Section::MAX - 1;

/// Everything about one component.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    pub actor: Actor,
    /// What is still under way in actors that have a successor. What is in their mailboxes is refused for their tenure is over,
    /// and does nothing.
    pub left_behind: Vec<Work>,
    /// What others see it run: a `reload::Live`, which only the writer of the newest term may change.
    pub live: Section,
    pub term: u8,
}

/// The actor in office.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    pub books: Books,
    pub mailbox: VecDeque<Message>,
    pub works: Vec<Work>,
    pub term: u8,
}

/// What lies in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// A successor is to start, on this section, and to say whether it is well.
    Start(Transaction, Section),
    Step(Step),
}

/// A step on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    pub transaction: Transaction,
    /// What the fence knows it by: the transaction.
    pub key: Transaction,
    pub kind: StepKind,
    /// For `Prepare`.
    pub next: Section,
}

/// A step that was begun and is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Work {
    pub step: Step,
    /// What runs when it is over.
    target: Option<Section>,
    term: u8,
    /// A rollback would cancel it.
    cancellable: bool,
}

/// An answer, with the step that it is for.
pub type Answered = (Transaction, StepKind, Answer);

// === impl Part ===

impl Part {
    pub fn new(books: Books, section: Section) -> Self {
        let actor = Actor { books, mailbox: VecDeque::new(), works: Vec::new(), term: 0 };
        Self { actor, left_behind: Vec::new(), live: section, term: 0 }
    }

    /// Nothing is on its way to it or under way in it.
    pub fn is_quiet(&self) -> bool {
        self.actor.mailbox.is_empty() && self.actor.works.is_empty()
    }

    /// The message that is next comes twice.
    pub fn repeat(&mut self) {
        if let Some(message) = self.actor.mailbox.front().cloned() {
            self.actor.mailbox.push_front(message);
        }
    }

    /// Handles the message that is next.
    pub fn deliver(&mut self, mutation: Option<Mutation>) -> Vec<Answered> {
        let Some(Message::Step(step)) = self.actor.mailbox.pop_front() else { return Vec::new() };
        let Step { transaction, key, kind, next } = step;
        let mut answers = Vec::new();
        let books = &mut self.actor.books;
        let admitted = match kind {
            StepKind::Prepare => books.call(Call::Prepare(key, next)),
            StepKind::Commit => books.call(Call::Commit(key)),
            StepKind::Probe | StepKind::Finish => books.call(Call::AfterCommit(key)),
            StepKind::Rollback if books.call(Call::IsPast(key)) == Reply::Done => Reply::Done,
            StepKind::Rollback => {
                let admitted = books.call(Call::Rollback(key));
                answers.extend(self.cancel());
                admitted
            }
        };
        match admitted {
            Reply::Refused => answers.push((transaction, kind, Answer::Failed)),
            Reply::Done => answers.push((transaction, kind, Answer::Done)),
            Reply::Run(target) => answers.extend(self.begin(step, target, mutation)),
        }
        answers
    }

    /// Returns the answer to a step whose place it takes: one that is repeated while it is under way.
    fn begin(&mut self, step: Step, target: Option<Section>, mutation: Option<Mutation>) -> Option<Answered> {
        let term = self.actor.term;
        // A finish stands whatever becomes of the next transaction.
        let mut cancellable = step.kind != StepKind::Finish;
        let mut cancelled = None;
        match mutation {
            Some(Mutation::Unfenced | Mutation::NothingCancelled) => cancellable = false,
            Some(Mutation::OneSlotForAll) => {
                cancellable = true;
                self.actor.works.iter_mut().for_each(|work| work.cancellable = false);
            }
            _ if cancellable => cancelled = self.cancel(),
            _ => {}
        }
        let work = Work { step, target, term, cancellable };
        self.take_effect(&work, TORN, mutation);
        self.actor.works.push(work);
        cancelled
    }

    fn cancel(&mut self) -> Option<Answered> {
        let at = self.actor.works.iter().position(|work| work.cancellable)?;
        let work = self.actor.works.remove(at);
        Some((work.step.transaction, work.step.kind, Answer::Failed))
    }

    /// A work is over, well or not. Returns whether the component says that it is done.
    pub fn complete(&mut self, at: usize, well: bool, mutation: Option<Mutation>) -> (Step, bool) {
        let work = self.actor.works.remove(at);
        if mutation == Some(Mutation::OneSlotForAll) {
            self.actor.works.iter_mut().for_each(|other| other.cancellable = false);
        }
        self.take_effect(&work, work.target.filter(|_| well).unwrap_or(TORN), mutation);
        let books = &mut self.actor.books;
        let key = work.step.key;
        let reply = match work.step.kind {
            StepKind::Prepare => books.call(Call::Prepared(key, work.target.filter(|_| well))),
            StepKind::Commit => books.call(Call::Committed(key, well)),
            StepKind::Rollback => books.call(Call::Restored(key, well)),
            StepKind::Probe | StepKind::Finish => {
                if well {
                    Reply::Done
                } else {
                    Reply::Refused
                }
            }
        };
        (work.step, reply == Reply::Done)
    }

    /// A work of an actor that was left behind is over.
    pub fn complete_left_behind(&mut self, at: usize, mutation: Option<Mutation>) -> Step {
        let work = self.left_behind.remove(at);
        self.take_effect(&work, work.target.unwrap_or(TORN), mutation);
        work.step
    }

    /// A commit and a restoration change what runs; an actor that has a successor changes nothing.
    fn take_effect(&mut self, work: &Work, section: Section, mutation: Option<Mutation>) {
        let changes = match work.step.kind {
            StepKind::Commit => true,
            StepKind::Rollback => mutation != Some(Mutation::NotReapplied),
            StepKind::Prepare | StepKind::Probe | StepKind::Finish => false,
        };
        if changes && (work.term == self.term || mutation == Some(Mutation::NoTerms)) {
            self.live = section;
        }
    }

    /// Leaves the actor in office behind; its successor is to start on `section`.
    pub fn replace(&mut self, transaction: Transaction, books: Books, section: Section) {
        let mailbox = VecDeque::from([Message::Start(transaction, section)]);
        let old = std::mem::replace(&mut self.actor, Actor { books, mailbox, works: Vec::new(), term: 0 });
        // Only what changes what runs is worth following.
        let works = old.works.into_iter();
        self.left_behind
            .extend(works.filter(|w| matches!(w.step.kind, StepKind::Commit | StepKind::Rollback)));
    }

    /// The successor starts: it takes office, and what it starts on is what runs. Asked at once to close the transaction in its
    /// books, unless nobody waits for it any more. (The components of the node take office a little earlier, when their successor
    /// is made: here a predecessor may change what runs for longer.)
    pub fn start(&mut self, runs: Section, key: Option<Transaction>) {
        self.actor.mailbox.pop_front();
        self.term += 1;
        self.actor.term = self.term;
        self.live = runs;
        if let Some(key) = key {
            self.actor.books.call(Call::Rollback(key));
        }
    }
}
