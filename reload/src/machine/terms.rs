//! The machine's terms: what it is told, what it asks for, and the states that are seen from outside.

use serde::Serialize;

use crate::budget::Stage;
use crate::graph::{Index, Set};
use crate::{StepKind, Transaction};

/// The state that can be read from outside (R4). At rest it is `Idle`, or `Failed` in emergency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// At rest, every component on the current generation.
    Idle,
    /// Reading and judging; no component has been told anything.
    Validating,
    /// Prepare, commit, probe, finish or record.
    Updating,
    /// Everything goes back.
    RollingBack,
    /// At rest in emergency: a component could be neither changed nor restored.
    Failed,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The configuration was refused; no component was sent anything.
    Rejected,
    /// Nothing to do.
    Unchanged,
    /// Every affected component runs the new generation.
    Committed,
    /// Every component runs the generation before.
    RolledBack,
    /// A component could not be brought back: emergency.
    Failed,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Somebody asks for a reload.
    Trigger,
    /// The new configuration has been judged.
    Judged(Transaction, Verdict),
    /// A component answered a step.
    Acked {
        /// The step's transaction.
        transaction: Transaction,
        /// Who answered.
        component: Index,
        /// Which step.
        step: StepKind,
        /// What it answered.
        answer: Answer,
    },
    /// A deadline passed.
    Expired(Transaction, Stage),
    /// A successor started, or could not.
    Replaced {
        /// The transaction that asked for it.
        transaction: Transaction,
        /// The component.
        component: Index,
        /// Whether the successor is healthy.
        done: bool,
    },
    /// The generation is written down, or cannot be: the reload stands either way.
    Recorded(Transaction),
    /// The program is to stop.
    Stop,
}

/// A component's answer to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It is done.
    Done,
    /// It is not, and would not be the next time (R15: `component`).
    Failed,
    /// It is not; the machine failed the component, and another try may do better (R15: `system`).
    Unavailable,
}

/// The judgement on a new configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is wrong.
    Rejected,
    /// It could not be read; another try may do better (R15: `system`).
    Unavailable,
    /// It says what runs already.
    Unchanged,
    /// It changes these components, level by level. No level is empty; there may be none, when only the coordinator's own
    /// section changed.
    Accepted(Vec<Set>),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Show this state.
    Enter(State),
    /// Begin this transaction: read and judge the configuration, and answer with [`Event::Judged`].
    Judge(Transaction),
    /// Judge once more after a while, or answer with [`Verdict::Rejected`] if there is no time left for that.
    JudgeAgain(Transaction),
    /// Send [`Event::Expired`] when this stage's time is over. It replaces the deadline before.
    Arm(Transaction, Stage),
    /// Send a step to a component.
    Send(Transaction, Index, StepKind),
    /// Send it once more after a while, or answer with [`Answer::Failed`] if there is no time left for that.
    SendAgain(Transaction, Index, StepKind),
    /// Fence a component off and start a successor on its last good section.
    Replace(Transaction, Index),
    /// Write the generation down, and answer with [`Event::Recorded`].
    Record(Transaction),
    /// Tell everybody who waits for this transaction.
    Conclude(Transaction, End),
    /// Nobody's turn will come any more: tell those who wait that the program stops.
    DismissWaiting,
    /// At rest, and the program may stop.
    Halt,
}

// === impl State ===

impl State {
    /// All of them, as metrics list them.
    pub const ALL: [Self; 5] =
        [Self::Idle, Self::Validating, Self::Updating, Self::RollingBack, Self::Failed];

    /// The name in `status` and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Validating => "validating",
            Self::Updating => "updating",
            Self::RollingBack => "rolling_back",
            Self::Failed => "failed",
        }
    }
}
