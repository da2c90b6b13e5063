//! What the engine tells about itself: one event type, from which the log line and the metric both follow, so that they
//! cannot disagree (R20, R21).

use std::time::Duration;

use crate::machine::State;
use crate::outcome::{Kind, Outcome};
use crate::{Generation, StepKind};

/// Something happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The state machine entered a state.
    Entered(State),
    /// A component answered a step, or was given up on.
    Stepped {
        /// The component.
        component: &'static str,
        /// The step.
        step: StepKind,
        /// From the message to the answer.
        elapsed: Duration,
        /// What was wrong.
        error: Option<&'a str>,
    },
    /// A reload came to its end.
    Finished(&'a Outcome),
    /// A generation runs that goes back to another one by itself, unless somebody confirms it.
    AwaitsConfirmation {
        /// The one that runs.
        generation: Generation,
        /// The one that it goes back to.
        target: Generation,
        /// How much time is left.
        left: Duration,
    },
    /// Somebody confirmed it.
    Confirmed {
        /// The one that stays.
        generation: Generation,
    },
    /// A reload had begun to be judged, and nobody wanted it any more: nothing was done, and nothing is told.
    Withdrawn,
}

/// Where events go besides the log.
pub trait Sink: Send + Sync + 'static {
    /// Takes an event. Must not block.
    fn emit(&self, event: &Event<'_>);
}

/// Writes the event's log line and hands it to the sink.
pub(crate) fn emit(sink: &dyn Sink, event: &Event<'_>) {
    match event {
        Event::Entered(state) => tracing::debug!(state = state.as_str(), "reload state"),
        Event::Stepped { component, step, elapsed, error: None } => {
            tracing::debug!(component, step = step.as_str(), elapsed_us = micros(*elapsed), "reload step");
        }
        Event::Stepped { component, step, elapsed, error: Some(error) } => {
            tracing::warn!(
                component,
                step = step.as_str(),
                elapsed_us = micros(*elapsed),
                error,
                "component did not do its reload step"
            );
        }
        Event::Finished(outcome) => finished(outcome),
        Event::AwaitsConfirmation { generation, target, left } => tracing::warn!(
            generation = generation.get(),
            target_generation = target.get(),
            left_s = left.as_secs(),
            "the configuration goes back by itself unless it is confirmed"
        ),
        Event::Confirmed { generation } => {
            tracing::info!(generation = generation.get(), "the configuration is confirmed");
        }
        Event::Withdrawn => tracing::debug!("reload withdrawn"),
    }
    sink.emit(event);
}

fn finished(outcome: &Outcome) {
    // One call per level: tracing wants the level to be known when the code is built.
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                $level,
                outcome = outcome.outcome.as_str(),
                generation = outcome.config_generation.get(),
                trigger = outcome.trigger.as_str(),
                duration_ms = outcome.duration_ms,
                changed = outcome.changes.iter().map(|c| c.path.as_str()).collect::<Vec<_>>().join(","),
                actor = outcome.actor.as_deref(),
                error = outcome.error.as_deref(),
                "configuration reload finished"
            )
        };
    }
    match outcome.outcome {
        Kind::Committed | Kind::Unchanged | Kind::Planned => line!(tracing::Level::INFO),
        Kind::Rejected | Kind::RolledBack => line!(tracing::Level::WARN),
        Kind::Failed => line!(tracing::Level::ERROR),
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
