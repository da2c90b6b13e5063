//! Everything that is wrong, or odd, about a document.

use std::cell::RefCell;

use reload::Problem;

use super::path::Path;
use super::place::{self, Spot};

/// The most problems, and the most warnings, that are kept of one document; the rest is counted. A file can have a million.
pub(super) const MAX_FINDINGS: usize = reload::error::MAX_PROBLEMS;

/// Collects problems while a document is decoded; none of them ends the decoding (R5).
#[derive(Debug, Default)]
pub struct Findings {
    errors: RefCell<Kept>,
    warnings: RefCell<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    found: Vec<Found>,
    more: usize,
}

#[derive(Debug)]
struct Found {
    problem: Problem,
    spot: Spot,
    /// The path to look up, where the problem shows another one: an unknown key is not shown whole.
    path: Option<String>,
}

// === impl Findings ===

impl Findings {
    /// Nothing found yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a problem that makes the document unusable.
    pub fn error(&self, problem: Problem, spot: Spot) {
        self.errors.borrow_mut().keep(Found { problem, spot, path: None });
    }

    /// Keeps something that the operator should know, and that stops nothing.
    pub fn warning(&self, problem: Problem, spot: Spot) {
        self.warnings.borrow_mut().keep(Found { problem, spot, path: None });
    }

    /// [`Findings::error`], looked up at `path`.
    pub(super) fn error_at(&self, path: &Path<'_>, problem: Problem, spot: Spot) {
        self.errors.borrow_mut().keep(Found { problem, spot, path: Some(path.to_string()) });
    }

    /// [`Findings::warning`], looked up at `path`.
    pub(super) fn warning_at(&self, path: &Path<'_>, problem: Problem, spot: Spot) {
        self.warnings.borrow_mut().keep(Found { problem, spot, path: Some(path.to_string()) });
    }

    /// Whether another error would only be counted. Then [`Findings::count_error`] is enough, and nothing need be put into words.
    pub(super) fn has_enough_errors(&self) -> bool {
        self.errors.borrow().is_full()
    }

    /// Counts an error beyond those that are kept.
    pub(crate) fn count_error(&self) {
        self.errors.borrow_mut().more += 1;
    }

    /// Whether another warning would only be counted.
    pub(super) fn has_enough_warnings(&self) -> bool {
        self.warnings.borrow().is_full()
    }

    /// Counts a warning beyond those that are kept.
    pub(super) fn count_warning(&self) {
        self.warnings.borrow_mut().more += 1;
    }

    /// Whether nothing makes the document unusable so far.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.errors.borrow().found.is_empty()
    }

    /// Errors and warnings with their places in `text`.
    pub(super) fn located(self, file: &str, text: &str) -> (Vec<Problem>, Vec<Problem>) {
        let (mut errors, mut warnings) = (self.errors.into_inner(), self.warnings.into_inner());
        // As they are shown; the paths that are looked up stand in their place meanwhile.
        let mut shown = Vec::new();
        for found in errors.found.iter_mut().chain(&mut warnings.found) {
            let path = found.path.take();
            shown.push(path.map(|path| found.problem.path.replace(path)));
        }
        let found = errors.found.iter_mut().chain(&mut warnings.found);
        place::locate_at(text, found.map(|found| (&mut found.problem, found.spot)));
        for (found, shown) in errors.found.iter_mut().chain(&mut warnings.found).zip(shown) {
            if let Some(shown) = shown {
                found.problem.path = shown;
            }
            found.problem.file.get_or_insert_with(|| file.to_owned());
        }
        (errors.told(file), warnings.told(file))
    }
}

// === impl Kept ===

impl Kept {
    const fn is_full(&self) -> bool {
        self.found.len() >= MAX_FINDINGS
    }

    fn keep(&mut self, found: Found) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.found.push(found);
        }
    }

    fn told(self, file: &str) -> Vec<Problem> {
        let Self { found, more } = self;
        let mut problems: Vec<Problem> = found.into_iter().map(|found| found.problem).collect();
        if more > 0 {
            problems.push(Problem::rest(more).file(file));
        }
        problems
    }
}
