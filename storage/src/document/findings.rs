//! Everything that is wrong, or odd, about a document.

use std::cell::RefCell;

use reload::Problem;

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
    found: Vec<(Problem, Spot)>,
    more: usize,
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
        self.errors.borrow_mut().keep(problem, spot);
    }

    /// Keeps something that the operator should know, and that stops nothing.
    pub fn warning(&self, problem: Problem, spot: Spot) {
        self.warnings.borrow_mut().keep(problem, spot);
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
    fn keep(&mut self, problem: Problem, spot: Spot) {
        if self.found.len() < MAX_FINDINGS {
            self.found.push((problem, spot));
        } else {
            self.more += 1;
        }
    }

    fn located(self, file: &str, places: &mut place::Places<'_>) -> Vec<Problem> {
        let Self { found, more } = self;
        let mut problems: Vec<Problem> = found
            .into_iter()
            .map(|(mut problem, spot)| {
                places.locate(&mut problem, spot);
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
