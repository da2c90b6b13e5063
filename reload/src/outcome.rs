//! The result of a reload, the same on every path: command line, API, audit log (contract: "Reload outcome").

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::plan::{Change, Closing};
use crate::trigger::{Origin, Trigger};
use crate::{Generation, Problem};

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The new configuration runs.
    Committed,
    /// The file says what runs already.
    Unchanged,
    /// A dry run.
    Planned,
    /// The file is wrong; no component was sent anything.
    Rejected,
    /// Something failed; the configuration before runs.
    RolledBack,
    /// Emergency.
    Failed,
}

impl Kind {
    /// All that a transaction can end in.
    pub const ALL: [Self; 5] =
        [Self::Committed, Self::Unchanged, Self::Rejected, Self::RolledBack, Self::Failed];

    /// The name in outcomes and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Unchanged => "unchanged",
            Self::Planned => "planned",
            Self::Rejected => "rejected",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
        }
    }

    /// Whether the program runs what the file says.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Committed | Self::Unchanged | Self::Planned)
    }
}

/// `success` or `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The program runs what the file says, or would.
    Success,
    /// It does not.
    Error,
}

/// What became of one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentResult {
    /// It runs its new section.
    Committed,
    /// It runs its old section.
    RolledBack,
    /// It could not be brought back and was started again, or is lost.
    Failed,
    /// It was sent nothing.
    NotReached,
}

/// Times of the phases in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    /// Reading the files.
    pub read_ms: f64,
    /// Parsing and judging them.
    pub validate_ms: f64,
    /// Comparing with what runs.
    pub plan_ms: f64,
    /// `Prepare`, all levels.
    pub prepare_ms: f64,
    /// `Commit`, all levels: when it ends, the change has its effect.
    pub commit_ms: f64,
    /// `Probe`.
    pub probe_ms: f64,
    /// `Finish`.
    #[serde(default)]
    pub finish_ms: f64,
    /// Writing the generation down.
    pub record_ms: f64,
    /// `Rollback`, and successors.
    pub rollback_ms: f64,
}

/// One component in an outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentReport {
    /// Its name.
    pub name: String,
    /// From the message to the answer.
    pub prepare_ms: f64,
    /// From the message to the answer.
    pub commit_ms: f64,
    /// What became of it.
    pub result: ComponentResult,
}

/// The program's connections over a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Open when it began.
    pub before: usize,
    /// Open when it ended.
    pub after: usize,
    /// Closed because the new configuration forbids them.
    pub closed_by_reload: u64,
    /// Those that the plan named.
    pub would_close: Vec<Closing>,
}

/// The result of a reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// A sortable id (ULID).
    pub id: String,
    /// `success` or `error`.
    pub status: Status,
    /// How it ended.
    pub outcome: Kind,
    /// One sentence.
    pub message: String,
    /// On error: everything that is wrong as one text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The generation that runs now.
    pub config_generation: Generation,
    /// The generation that ran before.
    pub from_generation: Generation,
    /// The generation that came back, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_generation: Option<Generation>,
    /// When it ended, in seconds since 1970.
    pub timestamp: u64,
    /// Who asked, by kind.
    pub trigger: Trigger,
    /// Who asked, by name.
    pub actor: Option<String>,
    /// Why, in the words of whoever asked.
    pub note: Option<String>,
    /// Whether the generation that runs is on disk.
    pub durable: bool,
    /// From the start of the transaction to its end.
    pub duration_ms: f64,
    /// Where the time went.
    pub phases: Phases,
    /// What changed.
    pub changes: Vec<Change>,
    /// Who was told.
    pub components: Vec<ComponentReport>,
    /// What became of the connections.
    pub connections: Connections,
    /// What a person should know.
    pub warnings: Vec<Problem>,
    /// What was wrong.
    pub errors: Vec<Problem>,
}

/// A new id for an outcome.
#[must_use]
pub fn new_id() -> String {
    ulid::Ulid::generate().to_string()
}

// === impl Outcome ===

impl Outcome {
    /// An outcome of this moment that tells nothing but how it ended: for what is no transaction, as a start.
    #[must_use]
    pub fn bare(kind: Kind, generation: Generation, from: Generation, origin: Origin) -> Self {
        Self {
            id: new_id(),
            status: if kind.is_success() { Status::Success } else { Status::Error },
            outcome: kind,
            message: Self::message_of(kind).to_owned(),
            error: None,
            config_generation: generation,
            from_generation: from,
            restored_generation: None,
            timestamp: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
            trigger: origin.trigger,
            actor: origin.actor,
            note: origin.note,
            durable: true,
            duration_ms: 0.0,
            phases: Phases::default(),
            changes: Vec::new(),
            components: Vec::new(),
            connections: Connections::default(),
            warnings: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The sentence for an outcome.
    #[must_use]
    pub const fn message_of(kind: Kind) -> &'static str {
        match kind {
            Kind::Committed => "Configuration reloaded successfully",
            Kind::Unchanged => "Configuration unchanged",
            Kind::Planned => "Configuration is valid; nothing was changed",
            Kind::Rejected | Kind::RolledBack | Kind::Failed => "Configuration reload failed",
        }
    }

    /// All problems as one text.
    #[must_use]
    pub fn error_text(errors: &[Problem]) -> Option<String> {
        if errors.is_empty() {
            return None;
        }
        Some(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}
