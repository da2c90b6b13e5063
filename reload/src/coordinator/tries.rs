//! What the machine failed and is tried again, as long as there is time (R15).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::backoff;
use crate::graph::Index;
use crate::{Problem, StepKind};

/// How long after a failure of the machine's a step is tried again; doubled each time. Long enough for a descriptor to be
/// closed somewhere, short against every budget.
const FIRST_RETRY: Duration = Duration::from_millis(10);
/// The longest that it waits.
const LAST_RETRY: Duration = Duration::from_millis(200);

/// The tries of one transaction.
#[derive(Default)]
pub(super) struct Tries {
    /// How often the configuration could not be read.
    readings: u32,
    /// Each step by itself: what a component could not prepare has nothing to do with its way back.
    steps: BTreeMap<(Index, StepKind), Try>,
}

/// A step that failed, and how often.
struct Try {
    failures: u32,
    last: Problem,
}

// === impl Tries ===

impl Tries {
    /// Takes note of a failure.
    pub(super) fn failed(&mut self, component: Index, step: StepKind, problem: Problem) {
        let failures = self.steps.get(&(component, step)).map_or(0, |tried| tried.failures) + 1;
        self.steps.insert((component, step), Try { failures, last: problem });
    }

    /// How long to wait before the step is tried again; `None` if `deadline` is over by then.
    pub(super) fn next_step(&self, component: Index, step: StepKind, deadline: Instant) -> Option<Duration> {
        delay(self.steps.get(&(component, step)).map_or(1, |tried| tried.failures), deadline)
    }

    /// The same for the configuration, which could not be read.
    pub(super) fn next_reading(&mut self, deadline: Instant) -> Option<Duration> {
        self.readings += 1;
        delay(self.readings, deadline)
    }

    /// The step was done after all: what there is to say about that, if it had failed before.
    pub(super) fn got_over(&mut self, component: Index, step: StepKind) -> Option<Problem> {
        let Try { failures, last } = self.steps.remove(&(component, step))?;
        let message = format!("was tried {} times; before the last: {}", failures + 1, last.message);
        Some(Problem { message, ..last })
    }

    /// There is no time for another try: the error, if the step had failed.
    pub(super) fn given_up(&mut self, component: Index, step: StepKind) -> Option<Problem> {
        let Try { failures, last } = self.steps.remove(&(component, step))?;
        let message = format!("{} (tried {failures} times within the budget)", last.message);
        Some(Problem { message, ..last })
    }
}

fn delay(failures: u32, deadline: Instant) -> Option<Duration> {
    let delay = backoff(FIRST_RETRY, LAST_RETRY, failures);
    (Instant::now() + delay < deadline).then_some(delay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    #[tokio::test(start_paused = true)]
    async fn a_step_is_tried_again_while_there_is_time_and_apart_from_the_others() {
        let mut tries = Tries::default();
        let deadline = Instant::now() + Duration::from_millis(25);
        let problem = |message: &str| Problem::new(Class::System, message);
        tries.failed(0, StepKind::Prepare, problem("no descriptor left"));
        assert_eq!(tries.next_step(0, StepKind::Prepare, deadline), Some(FIRST_RETRY));
        tries.failed(0, StepKind::Rollback, problem("no room left"));
        tries.failed(0, StepKind::Rollback, problem("no room left"));
        assert_eq!(tries.next_step(0, StepKind::Rollback, deadline), Some(2 * FIRST_RETRY));
        tries.failed(0, StepKind::Rollback, problem("no room left"));
        assert_eq!(tries.next_step(0, StepKind::Rollback, deadline), None, "40 ms are too long");
        let given_up = tries.given_up(0, StepKind::Rollback).unwrap();
        assert_eq!(given_up.message, "no room left (tried 3 times within the budget)");
        let got_over = tries.got_over(0, StepKind::Prepare).unwrap();
        assert_eq!(got_over.message, "was tried 2 times; before the last: no descriptor left");
        assert_eq!(tries.got_over(0, StepKind::Prepare), None, "told once");
        assert_eq!(tries.given_up(1, StepKind::Rollback), None, "another one has not failed");
    }
}
