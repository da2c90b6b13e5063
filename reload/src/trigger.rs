//! Who asks for a reload.

use std::sync::Arc;

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

/// Asks the coordinator for a reload, and gets its outcome. Whoever asks while one runs joins the next one.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Arc<Outcome>, Refusal>")]
pub struct Reload {
    /// Who asks.
    pub origin: Origin,
    /// Only if this generation is current, both now and when the turn comes (`If-Match`).
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
}
