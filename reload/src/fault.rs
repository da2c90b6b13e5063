//! Fault points: one before and after every step of every component, by the name `component::step`.
//!
//! They exist only in builds with the feature `failpoints`, and act as `FAILPOINTS` says, in the syntax of the crate
//! `fail`. `return(error)` refuses before the step is begun, `return(hang)` does the step and never answers,
//! `return(late:MS)` does it and answers late, `panic` panics, `sleep(MS)` blocks the component's thread.

use std::time::Duration;

use crate::{StepError, StepKind};

/// What becomes of a step's answer after the step itself is done.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    answer: Answer,
}

#[derive(Debug, Default)]
enum Answer {
    #[default]
    AtOnce,
    Error,
    Never,
    Late(Duration),
}

impl Fault {
    /// Lets the answer pass, now or when the fault says so.
    pub(crate) async fn pass(self) -> Result<(), StepError> {
        match self.answer {
            Answer::AtOnce => Ok(()),
            Answer::Error => Err(StepError::component("failed on command, after its work")),
            Answer::Never => std::future::pending().await,
            Answer::Late(delay) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
        }
    }
}

/// The fault point of a component's step.
pub(crate) fn component(name: &str, kind: StepKind) -> Result<Fault, StepError> {
    if !cfg!(feature = "failpoints") {
        return Ok(Fault::default());
    }
    let point = format!("{name}::{}", kind.as_str());
    let Some(command) = command(&point) else { return Ok(Fault::default()) };
    let answer = match command.as_str() {
        "error" => return Err(StepError::component("refused on command")),
        "error_after" => Answer::Error,
        "hang" => Answer::Never,
        other => match other.strip_prefix("late:").and_then(|ms| ms.parse().ok()) {
            Some(ms) => Answer::Late(Duration::from_millis(ms)),
            None => return Err(StepError::component(format!("unknown fault '{other}' at {point}"))),
        },
    };
    Ok(Fault { answer })
}

/// What the fault point of this name is told to do now; `panic`, `sleep` and the like happen inside.
#[allow(unused_variables, reason = "without the feature the macro expands to nothing")]
fn command(point: &str) -> Option<String> {
    fail::fail_point!(point, |command| Some(command.unwrap_or_default()));
    None
}
