//! One deadline for the whole transaction, and what each phase gets of it (R14).

use std::time::Duration;

use tokio::time::Instant;

/// The budget of a transaction: it starts to run when the transaction does. Half is for reading, judging and preparing, a
/// quarter for commit, probe and finish, and the last quarter is kept for rollback and never lent.
///
/// Time in which the whole process stood still (SIGSTOP, a machine that sleeps, no processor) is nobody's: components that could not run
/// have not missed it, and whoever has to go back gets the time that was kept for that. The budget is longer by as much.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    start: Instant,
    total: Duration,
    stood_still: Duration,
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
        Self { start: Instant::now(), total, stood_still: Duration::ZERO }
    }

    /// When the transaction started.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.start
    }

    /// When it has to be at rest.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.start + self.stood_still + self.total
    }

    /// A stage is over that should have been by `deadline`: a timer that fires so late, or an answer that comes in before it, tells
    /// that nobody could run.
    pub fn stage_ended(&mut self, deadline: Instant, now: Instant) {
        if self.is_late(deadline, now) {
            self.stood_still += now.saturating_duration_since(deadline);
        }
    }

    /// Whether this is later than a timer is on a busy machine. What is less comes out of the quarter that is kept, and leaves half of it.
    #[must_use]
    pub fn is_late(&self, deadline: Instant, now: Instant) -> bool {
        now.saturating_duration_since(deadline) > self.total / 8
    }

    /// The deadline of a stage that begins at `now`.
    #[must_use]
    pub fn deadline(&self, stage: Stage, now: Instant) -> Instant {
        let (start, quarter) = (self.start + self.stood_still, self.total / 4);
        match stage {
            Stage::Judge | Stage::Prepare => start + 2 * quarter,
            Stage::Commit => start + 3 * quarter,
            Stage::Rollback { after } => {
                let left = self.end().saturating_duration_since(now);
                now + left / (u32::from(after) + 1)
            }
            Stage::Finish => start + 3 * quarter + quarter / 2,
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

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_ran_is_not_counted() {
        let mut budget = Budget::start(Duration::from_secs(2));
        let begin = budget.started();
        let (deadline, second) = (budget.deadline(Stage::Prepare, begin), Duration::from_secs(1));
        budget.stage_ended(deadline, deadline + Duration::from_millis(250));
        assert_eq!(budget.end() - begin, 2 * second, "a timer is never exact");
        budget.stage_ended(deadline, deadline + 3 * second);
        assert_eq!(budget.end() - begin, 5 * second);
        let now = deadline + 3 * second;
        assert_eq!(
            budget.deadline(Stage::Rollback { after: 1 }, now) - now,
            second / 2,
            "half of what is left"
        );
        assert_eq!(
            budget.deadline(Stage::Commit, now) - now,
            second / 2,
            "what came in before the timer goes on"
        );
        budget.stage_ended(now, now - second);
        assert_eq!(budget.end() - begin, 5 * second, "a stage that ends in time costs nothing");
    }
}
