//! Who asks for a reload, and of what.

use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::Generation;
use crate::outcome::Outcome;
use crate::source::Which;

/// The kind of whoever asks (R1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// The program's start.
    Startup,
    /// SIGHUP.
    Signal,
    /// The admin API.
    Api,
    /// The command line.
    Cli,
    /// A file changed.
    Watch,
    /// A person who wants an older generation back.
    Rollback,
}

impl Trigger {
    /// The name in outcomes and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Signal => "signal",
            Self::Api => "api",
            Self::Cli => "cli",
            Self::Watch => "watch",
            Self::Rollback => "rollback",
        }
    }
}

/// Who asks, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// By kind.
    pub trigger: Trigger,
    /// By name, as `uid:1000 pid:77`.
    pub actor: Option<String>,
    /// Why.
    pub note: Option<String>,
}

/// What is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Aim {
    /// What the files say when the turn comes.
    #[default]
    Files,
    /// What this generation said (R16). It becomes current as a new generation, and the files are made to say it.
    Generation(Generation),
}

/// Asks the coordinator for a reload, and gets its outcome. Whoever asks while one runs joins the next one with the same aim.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Arc<Outcome>, Refusal>")]
pub struct Reload {
    /// Who asks.
    pub origin: Origin,
    /// Only if this generation is current, both now and when the turn comes (`If-Match`).
    pub expect: Option<Generation>,
    /// What is to run.
    pub aim: Aim,
    /// Go back by itself to the generation before, unless somebody [confirms](Confirm) within this time after the commit.
    /// Of several who share a transaction, the shortest counts. While one is pending already, that one stays as it is.
    pub confirm: Option<Duration>,
}

// === impl Reload ===

impl Reload {
    /// A reload of what the files say, whatever is current.
    #[must_use]
    pub const fn new(origin: Origin) -> Self {
        Self { origin, expect: None, aim: Aim::Files, confirm: None }
    }
}

/// Keeps what a reload with [`Reload::confirm`] made current.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Arc<Outcome>, Refusal>")]
pub struct Confirm {
    /// Who confirms.
    pub origin: Origin,
    /// Only if this generation is current (`If-Match`).
    pub expect: Option<Generation>,
}

/// Asks the coordinator what a reload would do.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Arc<Outcome>, Refusal>")]
pub struct DryRun {
    /// Who asks.
    pub origin: Origin,
    /// Of which configuration.
    pub which: Which,
}

/// Asks the coordinator to come to rest. Answered when the transaction that runs has ended.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Answered when the coordinator comes to it, whatever it is doing otherwise: it lives.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Pulse;

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The program stops.
    #[error("the node is stopping; no further reload is begun")]
    Stopping,
    /// Another generation than the one expected is current.
    #[error("generation {current} is current, not {expected}; nothing was done")]
    Mismatch {
        /// What was expected.
        expected: Generation,
        /// What is current.
        current: Generation,
    },
    /// Too many wait already.
    #[error("{0} requests wait for the next reload already; ask again when it is done")]
    Busy(usize),
    /// No generation waits to be confirmed, or the way back has begun.
    #[error("no generation waits to be confirmed; nothing was done")]
    NothingToConfirm,
}
