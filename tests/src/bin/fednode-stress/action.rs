//! What is done to a node, as a value: written down in a report, and done again from there.

use serde::{Deserialize, Serialize};

/// Something, at some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Milliseconds from the beginning.
    pub(crate) at: u64,
    /// To whom.
    pub(crate) node: usize,
    #[serde(flatten)]
    pub(crate) action: Action,
}

// === impl Entry ===

impl Entry {
    /// Whether everybody in it is one of so many nodes.
    pub(crate) const fn is_of(&self, nodes: usize) -> bool {
        let other = match self.action {
            Action::Reload { edit: Edit::Churn(other), .. } => other,
            _ => self.node,
        };
        self.node < nodes && other < nodes
    }
}

/// What.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Action {
    /// The files change, and the node is asked.
    Reload { edit: Edit, trigger: Trigger, seed: u64 },
    /// SIGKILL, and after so many milliseconds a start; during a reload if there is a number of milliseconds after its beginning.
    Kill { down: u64, in_reload: Option<u64>, spoil: Option<Spoil>, seed: u64 },
    /// SIGSTOP, and after so many milliseconds SIGCONT.
    Stop { ms: u64 },
    /// A fault point is armed for one reload.
    Fault { point: String, order: String, seed: u64 },
    /// So many descriptors above those that are open, and no more, for so many milliseconds.
    Descriptors { ms: u64, spare: u64, seed: u64 },
    /// The same of address space, in MiB.
    Memory { ms: u64, spare: u64, seed: u64 },
    /// Every core is busy.
    Processor { ms: u64 },
}

/// What becomes of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "as", content = "with")]
pub(crate) enum Edit {
    Valid,
    Unchanged,
    Invalid(Wrong),
    Conflicting(Conflict),
    /// The member with this number goes, or comes back if it was gone.
    Churn(usize),
    Rotation,
    Rollback,
}

/// How a file is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wrong {
    /// A key that nobody knows.
    Key,
    /// A value out of its range.
    Value,
    /// `conf.yaml` ends somewhere in the middle: overwritten in place.
    CutOff,
    /// `peers.yaml` is garbage.
    Peers,
    /// `conf.yaml` is empty but for a comment.
    Empty,
}

/// What cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Conflict {
    /// A port that another node listens on.
    Port,
    /// `If-Match` names a generation that is not current.
    Generation,
    /// Another key of the node: not live.
    Identity,
}

/// What is asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trigger {
    Signal,
    Storm,
    Api,
    Cli,
    Watch,
}

/// What happens to the files of a node that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Spoil {
    /// The audit log ends in a torn line.
    Audit,
    /// `known.yaml` is garbage.
    Known,
}
