//! What was seen while a case ran, in its order, with the instant on the virtual clock.

use std::sync::Arc;
use std::time::Duration;

use reload::machine::State;
use reload::{Aim, Class, ConfirmChange, Generation, Outcome, Refusal, Snapshot, StepKind, Which};

use crate::world::Settings;

#[derive(Clone, Debug)]
pub struct Entry {
    /// Since the case began.
    pub at: Duration,
    pub what: What,
}

/// By whom something is asked, in the order of asking.
pub type AskId = usize;

#[derive(Clone, Debug)]
pub enum What {
    // What is asked.
    AskedReload {
        id: AskId,
        expect: Option<Generation>,
        aim: Aim,
        confirm: Option<Duration>,
    },
    AskedConfirm {
        id: AskId,
        expect: Option<Generation>,
    },
    AskedDryRun {
        id: AskId,
    },
    Answered {
        id: AskId,
        answer: Result<Arc<Outcome>, Refusal>,
    },
    StopAsked,
    StopAnswered,
    /// The file now says this.
    Edited(Settings),
    /// Nothing goes wrong from now on, and everything has had time to come to rest. What runs, and what is still held of
    /// what was prepared.
    Healed {
        running: Vec<u8>,
        held: Vec<usize>,
    },
    // What the coordinator does to components.
    Sent {
        transaction: u64,
        part: usize,
        step: StepKind,
    },
    Acked {
        transaction: u64,
        part: usize,
        step: StepKind,
        error: Option<Class>,
    },
    /// `None` if that is not possible.
    Replace {
        part: usize,
        possible: bool,
    },
    Replaced {
        transaction: u64,
        part: usize,
        done: bool,
    },
    // What it reads and writes.
    Reading {
        number: u64,
        which: Which,
        current: Settings,
    },
    Read {
        number: u64,
        result: Result<Settings, Class>,
    },
    Recording {
        generation: u64,
        from: u64,
        settings: Settings,
        confirm: ConfirmChange,
        restore: bool,
    },
    Recorded {
        generation: u64,
        durable: bool,
    },
    Restored(Settings),
    NotAwaitedOnDisk,
    Audited(String),
    // What it tells.
    Entered(State),
    Awaits {
        generation: Generation,
        target: Generation,
        left: Duration,
    },
    Confirmed {
        generation: Generation,
    },
    Withdrawn,
    Finished {
        outcome: Box<Outcome>,
        board: Arc<Snapshot>,
        running: Vec<u8>,
    },
}

/// What is left when everything has come to rest.
#[derive(Debug)]
pub struct Rest {
    pub running: Vec<u8>,
    pub incarnations: Vec<u32>,
    /// What is still held of what was prepared, by the actors in office.
    pub held: Vec<usize>,
    pub board: Arc<Snapshot>,
    pub written: Vec<u64>,
    pub awaited_on_disk: Option<reload::history::Unconfirmed>,
    pub file: Settings,
    pub unanswered: Vec<AskId>,
}

/// The end of a log as a person reads it.
pub fn tail(log: &[Entry], upto: usize, lines: usize) -> String {
    let end = (upto + 3).min(log.len());
    let mut text = String::new();
    for (number, entry) in log[..end].iter().enumerate().skip(end.saturating_sub(lines)) {
        let what = match &entry.what {
            What::Finished { outcome, running, board } => {
                let (kind, errors, degraded) = (outcome.outcome, &outcome.error, &board.degraded);
                format!(
                    "Finished {kind:?} {} {errors:?} running {running:?} degraded {degraded:?}",
                    outcome.id
                )
            }
            What::Answered { id, answer: Ok(outcome) } => {
                format!("Answered {id} {:?} {}", outcome.outcome, outcome.id)
            }
            other => format!("{other:?}"),
        };
        let mark = if number == upto { ">>" } else { "  " };
        text += &format!("{mark} {number:4} {:>12.3} ms {what}\n", entry.at.as_secs_f64() * 1e3);
    }
    text
}
