//! What can go wrong, in the words that an operator reads: a [`Problem`] of a file, and the [`StepError`] of a component.

use std::fmt;
use std::io::{self, ErrorKind};

use serde::{Deserialize, Serialize};

/// How a failure is met (R15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The new configuration is wrong: nothing is started.
    Validation,
    /// A component refused or failed: everything is rolled back.
    Component,
    /// The machine failed (disk, descriptors, deadline): tried again where that can help, then rolled back.
    System,
    /// A component can be neither changed nor restored: emergency.
    Critical,
}

impl Class {
    /// Each of them, the mildest first.
    pub const ALL: [Self; 4] = [Self::Validation, Self::Component, Self::System, Self::Critical];

    /// The name in outcomes and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Component => "component",
            Self::System => "system",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the cause of an error is of the kind that passes by itself (R15): no memory, descriptor or room left, something in
/// use, a disk or a file server that did not answer.
#[must_use]
pub fn may_pass(error: &io::Error) -> bool {
    /// `EIO`, `ENFILE` and `EMFILE` have no [`ErrorKind`]; their numbers are the same on every Unix.
    const UNIX: [i32; 3] = [5, 23, 24];
    match error.kind() {
        ErrorKind::AddrInUse
        | ErrorKind::Interrupted
        | ErrorKind::OutOfMemory
        | ErrorKind::QuotaExceeded
        | ErrorKind::ResourceBusy
        | ErrorKind::StaleNetworkFileHandle
        | ErrorKind::StorageFull
        | ErrorKind::TimedOut
        | ErrorKind::WouldBlock => true,
        _ => cfg!(unix) && error.raw_os_error().is_some_and(|number| UNIX.contains(&number)),
    }
}

/// One thing that is wrong, with its place and its remedy. The whole list is reported at once (R5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file that it stands in, as the operator named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The key, as `network.addresses[1]`.
    pub path: Option<String>,
    /// Line, from 1.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
    /// The component that refused.
    pub component: Option<String>,
    /// How it is met.
    pub class: Class,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// How many others it stands for; 0 where it tells one of its own ([`Problem::rest`]).
    #[serde(skip)]
    pub more: usize,
}

impl Problem {
    /// A problem of the given class, without a place.
    #[must_use]
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            file: None,
            path: None,
            line: None,
            column: None,
            component: None,
            class,
            message: message.into(),
            hint: None,
            more: 0,
        }
    }

    /// The last of a list that is bounded: how many there are besides.
    #[must_use]
    pub fn rest(more: usize) -> Self {
        let problems = if more == 1 { "problem" } else { "problems" };
        let rest = Self::new(Class::Validation, format!("and {more} more {problems}"));
        Self { more, ..rest.hint("mend the ones above first") }
    }

    /// A validation problem at a key.
    #[must_use]
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: Some(path.into()), ..Self::new(Class::Validation, message) }
    }

    /// Adds the remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the file.
    #[must_use]
    pub fn file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }
}

impl fmt::Display for Problem {
    /// `file:line:col: path: message (hint)`, each part only where it is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}")?;
            if let Some(line) = self.line {
                write!(f, ":{line}:{}", self.column.unwrap_or(1))?;
            }
            f.write_str(": ")?;
        }
        if let Some(component) = &self.component {
            write!(f, "{component}: ")?;
        }
        if let Some(path) = &self.path {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// How many problems a list tells at most, and one besides that says how many more there are: an outcome is kept, sent around and
/// written into the audit log.
pub const MAX_PROBLEMS: usize = 100;

/// The first [`MAX_PROBLEMS`] of a list, and how many there are besides.
#[must_use]
pub fn bounded(mut problems: Vec<Problem>) -> Vec<Problem> {
    let told = problems.iter().filter(|problem| problem.more == 0).count();
    if told <= MAX_PROBLEMS {
        return problems;
    }
    let all = count(&problems);
    problems.retain(|problem| problem.more == 0);
    problems.truncate(MAX_PROBLEMS);
    problems.push(Problem::rest(all.saturating_sub(MAX_PROBLEMS)));
    problems
}

/// How many problems a list tells of, with those that it only counts.
#[must_use]
pub fn count(problems: &[Problem]) -> usize {
    problems.iter().map(|problem| problem.more.max(1)).fold(0, usize::saturating_add)
}

/// Why a component did not do a step: the answer to a [`Reconfigure`](crate::Reconfigure) message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// How it is met.
    pub class: Class,
    /// The key whose value is the cause, where one is.
    pub key: Option<String>,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl StepError {
    /// The component cannot run this section.
    #[must_use]
    pub fn component(message: impl Into<String>) -> Self {
        Self { class: Class::Component, key: None, message: message.into(), hint: None }
    }

    /// The machine failed the component: a later try may succeed.
    #[must_use]
    pub fn system(message: impl Into<String>) -> Self {
        Self { class: Class::System, ..Self::component(message) }
    }

    /// What the system refused: of class `system` if [another try may help](may_pass), of class `component` otherwise.
    #[must_use]
    pub fn of_io(message: impl Into<String>, error: &io::Error) -> Self {
        if may_pass(error) { Self::system(message) } else { Self::component(message) }
    }

    /// Names the key that is the cause.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds the remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same as a [`Problem`] of the component named.
    #[must_use]
    pub fn into_problem(self, component: &str) -> Problem {
        Problem {
            path: self.key,
            component: Some(component.to_owned()),
            hint: self.hint,
            ..Problem::new(self.class, self.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_bounded_and_says_how_many_there_are_besides() {
        let one = |number: usize| Problem::at(format!("k{number}"), "is wrong");
        let few: Vec<_> = (0..MAX_PROBLEMS).map(one).chain([Problem::rest(7)]).collect();
        assert_eq!((count(&few), bounded(few.clone())), (107, few), "nothing is to be left out");

        // Two files, each with more than are told of it.
        let file = || (0..60).map(one).chain([Problem::rest(1_000)]);
        let both: Vec<_> = file().chain(file()).collect();
        let told = bounded(both.clone());
        assert_eq!((told.len(), count(&told)), (101, count(&both)));
        assert_eq!(told[..60], both[..60]);
        assert_eq!(told[100].message, "and 2020 more problems");
        assert_eq!(bounded((0..101).map(one).collect())[100].message, "and 1 more problem");
    }
}
