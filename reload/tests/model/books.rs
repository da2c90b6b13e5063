//! A component's fence: [`Fence`] itself, asked once for each thing that can happen to it.
//!
//! A fence holds what cannot be copied, so it is neither `Clone` nor `Hash`, and a checker needs both. What it can be in is
//! finite, and it shows all of it: the model keeps a number for each such state, and the table behind it knows where every
//! call leads, because the real fence was led there and called.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use reload::fence::{Admit, Fence};
use reload::{StepError, Transaction};

/// What a component runs, by number.
pub type Section = u8;

/// Everything that the glue asks of a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Prepare(Transaction, Section),
    Prepared(Transaction, Option<Section>),
    Commit(Transaction),
    Committed(Transaction, bool),
    AfterCommit(Transaction),
    IsPast(Transaction),
    Rollback(Transaction),
    Restored(Transaction, bool),
}

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    Refused,
    Done,
    /// To be done, with the section that it is about.
    Run(Option<Section>),
}

/// A fence, by its number in the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fenced(usize);

/// A component without a fence, as it would be written at first: it remembers what it prepared and what it ran before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unfenced {
    section: Section,
    prepared: Option<Section>,
    before: Option<Section>,
}

/// What stands between a component and its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Books {
    Fenced(Fenced),
    Unfenced(Unfenced),
}

/// A state of a fence: how it was reached, and where it leads.
struct Known {
    shown: String,
    start: Section,
    calls: Vec<Call>,
    next: HashMap<Call, (Fenced, Reply)>,
}

#[derive(Default)]
struct Table {
    known: Vec<Known>,
    numbers: HashMap<String, Fenced>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

type Real = Fence<Section, Section>;

// === impl Table ===

impl Table {
    fn number(&mut self, fence: &Real, start: Section, calls: Vec<Call>) -> Fenced {
        let shown = format!("{fence:?}");
        if let Some(number) = self.numbers.get(&shown) {
            return *number;
        }
        let number = Fenced(self.known.len());
        self.known.push(Known { shown: shown.clone(), start, calls, next: HashMap::new() });
        self.numbers.insert(shown, number);
        number
    }

    fn call(&mut self, at: Fenced, call: Call) -> (Fenced, Reply) {
        let known = &self.known[at.0];
        if let Some(next) = known.next.get(&call) {
            return *next;
        }
        let (start, mut calls) = (known.start, known.calls.clone());
        let mut fence = Real::new(Arc::new(start));
        for earlier in &calls {
            ask(&mut fence, *earlier);
        }
        let reply = ask(&mut fence, call);
        calls.push(call);
        let next = (self.number(&fence, start, calls), reply);
        self.known[at.0].next.insert(call, next);
        next
    }
}

/// Calls the real fence.
fn ask(fence: &mut Real, call: Call) -> Reply {
    let failed = || Err(StepError::component("the environment says so"));
    let plain = |result: Result<(), StepError>| if result.is_ok() { Reply::Done } else { Reply::Refused };
    match call {
        Call::Prepare(transaction, next) => match fence.prepare(transaction, Arc::new(next)) {
            Ok(Admit::Run(())) => Reply::Run(Some(next)),
            Ok(Admit::Done) => Reply::Done,
            Err(_) => Reply::Refused,
        },
        Call::Prepared(transaction, acquired) => {
            plain(fence.prepared(transaction, acquired.map_or_else(failed_to_acquire, Ok)))
        }
        Call::Commit(transaction) => match fence.commit(transaction) {
            Ok(Admit::Run((_, next))) => Reply::Run(Some(*next)),
            Ok(Admit::Done) => Reply::Done,
            Err(_) => Reply::Refused,
        },
        Call::Committed(transaction, done) => {
            plain(fence.committed(transaction, if done { Ok(()) } else { failed() }))
        }
        Call::AfterCommit(transaction) => match fence.after_commit(transaction) {
            Ok(()) => Reply::Run(None),
            Err(_) => Reply::Refused,
        },
        Call::IsPast(transaction) => {
            if fence.is_past(transaction) {
                Reply::Done
            } else {
                Reply::Refused
            }
        }
        Call::Rollback(transaction) => match fence.rollback(transaction) {
            Admit::Run(before) => Reply::Run(Some(*before)),
            Admit::Done => Reply::Done,
        },
        Call::Restored(transaction, done) => {
            plain(fence.restored(transaction, if done { Ok(()) } else { failed() }))
        }
    }
}

fn failed_to_acquire() -> Result<Section, StepError> {
    Err(StepError::component("the environment says so"))
}

// === impl Books ===

impl Books {
    /// The fence of a component that starts with `section`.
    pub fn fenced(section: Section) -> Self {
        let fence = Real::new(Arc::new(section));
        Self::Fenced(table().number(&fence, section, Vec::new()))
    }

    /// The same without a fence.
    pub const fn unfenced(section: Section) -> Self {
        Self::Unfenced(Unfenced { section, prepared: None, before: None })
    }

    pub fn call(&mut self, call: Call) -> Reply {
        match self {
            Self::Fenced(fenced) => {
                let (next, reply) = table().call(*fenced, call);
                *fenced = next;
                reply
            }
            Self::Unfenced(unfenced) => unfenced.call(call),
        }
    }

    /// Whether it holds nothing of a transaction that has not come to its end.
    pub fn is_clear(&self) -> bool {
        let open = ["Preparing", "Prepared", "Committing", "Restoring"];
        let shown = format!("{self:?}");
        !open.iter().any(|stage| shown.contains(stage))
    }
}

impl Unfenced {
    fn call(&mut self, call: Call) -> Reply {
        match call {
            Call::Prepare(_, next) => {
                self.before = None;
                Reply::Run(Some(next))
            }
            Call::Prepared(_, acquired) => {
                self.prepared = acquired;
                if acquired.is_some() { Reply::Done } else { Reply::Refused }
            }
            Call::Commit(_) => {
                let Some(next) = self.prepared.take() else { return Reply::Refused };
                self.before = Some(std::mem::replace(&mut self.section, next));
                Reply::Run(Some(next))
            }
            Call::AfterCommit(_) => Reply::Run(None),
            Call::IsPast(_) => Reply::Refused,
            Call::Rollback(_) => {
                self.prepared = None;
                let Some(before) = self.before.take() else { return Reply::Done };
                self.section = before;
                Reply::Run(Some(before))
            }
            Call::Committed(_, done) | Call::Restored(_, done) => {
                if done {
                    Reply::Done
                } else {
                    Reply::Refused
                }
            }
        }
    }
}

impl fmt::Debug for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&table().known[self.0].shown)
    }
}
