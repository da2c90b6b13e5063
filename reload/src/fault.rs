//! Fault points: the steps that touch the world, by name, where a test makes a program fail on command.
//!
//! They exist only in builds with the feature `failpoints`; without it they are compiled to nothing. A point acts as the crate
//! `fail` is told, in its syntax, from the environment (`FAILPOINTS=atomic::write=return(full)`, for a point's every hit
//! from the start on), or from a folder (`FAILPOINTS_FOLDER`), where a running program can be told at any time: a file by
//! the name of a point holds one action, and is renamed to `POINT.hit` when the point is reached and acts, once. A number before
//! the action is how many hits pass first (`2 return(error)`).
//!
//! - [`io()`]: `return(error)` fails, `return(full)` fails for want of room, `panic` panics, `sleep(MS)` blocks the thread.
//! - [`pass()`]: `panic` and `sleep(MS)`; there is nobody to take an error.
//! - Every step of every component, by the name `component::step`: `return(error)` refuses before the step is begun,
//!   `return(error_after)` after it, `return(hang)` does the step and never answers, `return(late:MS)` does it and answers
//!   late, and `panic` and `sleep(MS)`.
//!
//! And a test need not sit out what a person would: `FAILPOINTS_PATIENCE` (in milliseconds) is how long [`patience()`] is at most.
//!
//! Each crate lists its points, and a test holds the lists against the sources.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::{StepError, StepKind};

/// Names the folder in which points are armed while the program runs.
const FOLDER: &str = "FAILPOINTS_FOLDER";

/// Names, in milliseconds, the most that [`patience()`] gives.
const PATIENCE: &str = "FAILPOINTS_PATIENCE";

/// A fault point, as a crate lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Where it is: `what::step`.
    pub name: &'static str,
    /// What it can be told.
    pub takes: Takes,
}

/// What a point can be told, besides to panic and to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Takes {
    /// To fail as the system would: [`io()`].
    Error,
    /// Nothing: [`pass()`].
    Nothing,
    /// What a component's step takes.
    Step,
}

/// The points of this crate, besides those of the components' steps. All but `coordinator::judge`, `coordinator::write`,
/// `coordinator::audit` and `coordinator::tidy` are passed on the coordinator's own thread, whose panic would be the end of all reloads: there
/// only sleeping and being killed mean anything.
pub const POINTS: &[Point] = &[
    Point::pass("coordinator::judge"),
    Point::pass("coordinator::judged"),
    Point::pass("coordinator::prepare"),
    Point::pass("coordinator::commit"),
    Point::pass("coordinator::probe"),
    Point::pass("coordinator::finish"),
    Point::pass("coordinator::rollback"),
    Point::pass("coordinator::record"),
    Point::pass("coordinator::write"),
    Point::pass("coordinator::recorded"),
    Point::pass("coordinator::conclude"),
    Point::pass("coordinator::audit"),
    Point::pass("coordinator::answer"),
    Point::pass("coordinator::tidy"),
    Point::pass("coordinator::confirm"),
];

/// A point at a step that the system can fail.
///
/// # Errors
/// If a test has said so; never in a build without fault points.
#[inline]
pub fn io(name: &'static str) -> io::Result<()> {
    if !cfg!(feature = "failpoints") {
        return Ok(());
    }
    match command(name).as_deref() {
        None => Ok(()),
        Some("full") => {
            Err(io::Error::new(io::ErrorKind::StorageFull, format!("no room on command at {name}")))
        }
        Some(_) => Err(io::Error::other(format!("failed on command at {name}"))),
    }
}

/// A point at a step that has no error to give.
#[inline]
pub fn pass(name: &'static str) {
    if cfg!(feature = "failpoints") {
        let _ = command(name);
    }
}

/// How long something is waited for: as `usual`, or less where a test says so.
#[must_use]
pub fn patience(usual: Duration) -> Duration {
    if !cfg!(feature = "failpoints") {
        return usual;
    }
    let most = std::env::var(PATIENCE).ok().and_then(|most| most.parse().ok());
    most.map_or(usual, |most| usual.min(Duration::from_millis(most)))
}

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

// === impl Point ===

impl Point {
    /// A point that [`io()`] passes.
    #[must_use]
    pub const fn io(name: &'static str) -> Self {
        Self { name, takes: Takes::Error }
    }

    /// A point that [`pass()`] passes.
    #[must_use]
    pub const fn pass(name: &'static str) -> Self {
        Self { name, takes: Takes::Nothing }
    }
}

// === impl Fault ===

impl Fault {
    /// Lets the answer pass, now or when the fault says so.
    pub(crate) async fn pass(self) -> Result<(), StepError> {
        match self.answer {
            Answer::AtOnce => Ok(()),
            Answer::Error => Err(StepError::component("failed on command, after its work")),
            Answer::Never => std::future::pending().await,
            // The fault itself: as late as was commanded.
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

/// The coordinator's point before it sends a step.
pub(crate) fn send(kind: StepKind) {
    match kind {
        StepKind::Prepare => pass("coordinator::prepare"),
        StepKind::Commit => pass("coordinator::commit"),
        StepKind::Probe => pass("coordinator::probe"),
        StepKind::Finish => pass("coordinator::finish"),
        StepKind::Rollback => pass("coordinator::rollback"),
    }
}

/// What the fault point of this name is told to do now; `panic`, `sleep` and the like happen inside.
#[allow(unused_variables, reason = "without the feature the macro expands to nothing")]
fn command(point: &str) -> Option<String> {
    arm(point);
    fail::fail_point!(point, |command| Some(command.unwrap_or_default()));
    None
}

/// Takes what stands in the folder for this point, once.
fn arm(point: &str) {
    static ARMED: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os(FOLDER).map(PathBuf::from));
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let Some(armed) = ARMED.as_ref().map(|folder| folder.join(point)) else { return };
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(order) = fs::read_to_string(&armed) else { return };
    let (skip, action) = match order.split_once(' ') {
        Some((number, action)) => (number.parse().unwrap_or(0), action),
        None => (0_u32, order.as_str()),
    };
    if skip > 0 {
        // Whoever arms it looks only for the rename; if this fails, the point acts later than it should.
        let _ = fs::write(&armed, format!("{} {action}", skip - 1));
        return;
    }
    if fail::cfg(point, &format!("1*{action}")).is_ok() {
        let _ = fs::rename(&armed, armed.with_file_name(format!("{point}.hit")));
    }
}
