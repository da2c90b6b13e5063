//! What a reload is going to do, as a value: shown by a dry run, executed by the coordinator (R7, R22).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::graph::{Graph, Set};

/// How a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// A value is swapped.
    InPlace,
    /// One part (a listener, a server) is replaced, the new one first.
    ReplacePart,
    /// What is open stays as it is; new connections follow the new value.
    NewConnections,
    /// The component is started again.
    Restart,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InPlace => "in place",
            Self::ReplacePart => "replaces one part",
            Self::NewConnections => "for new connections",
            Self::Restart => "restarts the component",
        })
    }
}

/// One key that changes. Secrets are redacted before they get here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The key, as `logging.level`.
    pub path: String,
    /// The value that runs; null where there is none.
    pub from: Value,
    /// The value of the file; null where there is none.
    pub to: Value,
    /// The component that owns the key.
    pub component: String,
    /// Every component that is told, the owner first.
    pub components: Vec<String>,
    /// How it takes effect.
    pub strategy: Strategy,
}

/// A connection that the new configuration forbids (invariant 4: no other is closed).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The connection's id, as in `status`.
    pub id: String,
    /// Who is at the other end.
    pub public_key: Option<String>,
    /// Why.
    pub reason: String,
}

/// What changes, who is told, in which order, and what closes.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Key by key.
    pub changes: Arc<Vec<Change>>,
    /// The components that are sent something.
    pub affected: Set,
    /// The same, level by level.
    pub levels: Vec<Set>,
    /// Connections that close.
    pub would_close: Vec<Closing>,
}

impl Plan {
    /// The plan for these changes. `affected` are the components whose section differs; `forced` those that must be told
    /// whatever the file says, because nobody knows what they run.
    #[must_use]
    pub fn new(
        graph: &Graph,
        changes: Vec<Change>,
        affected: Set,
        forced: Set,
        would_close: Vec<Closing>,
    ) -> Self {
        let affected = affected.with(forced);
        Self { changes: Arc::new(changes), affected, levels: graph.levels(affected), would_close }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.affected.is_empty()
    }
}
