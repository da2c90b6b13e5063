//! Everything that is wrong, or odd, about a document.

use std::cell::RefCell;

use reload::Problem;

use super::path::Path;
use super::place::{self, Spot};

/// The most problems that are kept of one document; the rest is counted.
const MAX_FINDINGS: usize = 1_000;

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

    /// Whether nothing makes the document unusable so far.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.errors.borrow().found.is_empty()
    }

    /// Errors and warnings with their places in `text`.
    pub(super) fn located(self, file: &str, text: &str) -> (Vec<Problem>, Vec<Problem>) {
        let (errors, warnings) = (self.errors.into_inner(), self.warnings.into_inner());
        if errors.found.is_empty() && warnings.found.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let mut places = place::Places::new(text);
        (errors.located(file, &mut places), warnings.located(file, &mut places))
    }
}

// === impl Kept ===

impl Kept {
    fn keep(&mut self, found: Found) {
        if self.found.len() < MAX_FINDINGS {
            self.found.push(found);
        } else {
            self.more += 1;
        }
    }

    fn located(self, file: &str, places: &mut place::Places<'_>) -> Vec<Problem> {
        let Self { found, more } = self;
        let mut problems: Vec<Problem> = found
            .into_iter()
            .map(|Found { mut problem, spot, path }| {
                let shown = path.and_then(|path| problem.path.replace(path));
                places.locate(&mut problem, spot);
                problem.path = shown.or(problem.path);
                problem.file.get_or_insert_with(|| file.to_owned());
                problem
            })
            .collect();
        if more > 0 {
            let rest = Problem::new(reload::Class::Validation, format!("and {more} more of this kind"));
            problems.push(rest.file(file).hint("mend the ones above first"));
        }
        problems
    }
}
