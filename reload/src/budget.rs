//! One deadline for the whole transaction, and what each phase gets of it (R14).

use std::time::Duration;

use tokio::time::Instant;

/// The budget of a transaction: it starts to run when the transaction does. Half is for reading, judging and preparing, a
/// quarter for commit, probe and finish, and the last quarter is kept for rollback and never lent.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    start: Instant,
    total: Duration,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Reading and judging the new configuration.
    Judge,
    /// All levels of `Prepare`.
    Prepare,
    /// All levels of `Commit`, then the probe.
    Commit,
    /// The finish: the transaction stands, so it may use half of what was kept for a rollback.
    Finish,
    /// Writing the generation down: it has the other half, or a finish that hangs would leave no time for it.
    Record,
    /// One level of `Rollback`, with so many still to come after it, the replacement of the stuck ones included.
    Rollback {
        /// Levels and the replacement that must still fit in.
        after: u8,
    },
    /// Successors for components that could not be rolled back.
    Replace,
}

// === impl Budget ===

impl Budget {
    /// A budget that starts now.
    #[must_use]
    pub fn start(total: Duration) -> Self {
        Self { start: Instant::now(), total }
    }

    /// When the transaction started.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.start
    }

    /// When it has to be at rest.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.start + self.total
    }

    /// The deadline of a stage that begins at `now`.
    #[must_use]
    pub fn deadline(&self, stage: Stage, now: Instant) -> Instant {
        let quarter = self.total / 4;
        match stage {
            Stage::Judge | Stage::Prepare => self.start + 2 * quarter,
            Stage::Commit => self.start + 3 * quarter,
            Stage::Rollback { after } => {
                let left = self.end().saturating_duration_since(now);
                now + left / (u32::from(after) + 1)
            }
            Stage::Finish => self.start + 3 * quarter + quarter / 2,
            Stage::Record | Stage::Replace => self.end() - self.total / 50,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_quarter_is_kept_for_rollback() {
        let budget = Budget::start(Duration::from_secs(2));
        let at = |stage| budget.deadline(stage, Instant::now()) - budget.started();
        assert_eq!(at(Stage::Judge), Duration::from_secs(1));
        assert_eq!(at(Stage::Prepare), Duration::from_secs(1));
        assert_eq!(at(Stage::Commit), Duration::from_millis(1500));
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(at(Stage::Rollback { after: 1 }), Duration::from_millis(1750), "half of what is left");
        assert_eq!(at(Stage::Finish), Duration::from_millis(1750), "a record has a time of its own");
        assert!(at(Stage::Record) > at(Stage::Finish));
        assert!(at(Stage::Replace) < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rollback_that_begins_late_still_ends_at_the_end() {
        let budget = Budget::start(Duration::from_secs(2));
        tokio::time::advance(Duration::from_secs(3)).await;
        let now = Instant::now();
        assert_eq!(budget.deadline(Stage::Rollback { after: 3 }, now), now);
    }
}
