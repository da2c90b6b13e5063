//! The order of components, worked out once more.

use std::collections::BTreeSet;

use crate::case::{Case, NAMES};

/// What the dependencies mean, worked out once more: a component's level is the length of the longest way down from it.
pub(super) fn levels(case: &Case) -> Vec<Vec<usize>> {
    fn depth(case: &Case, part: usize) -> usize {
        case.needs(part).map(|need| depth(case, need) + 1).max().unwrap_or(0)
    }
    let parts = case.parts.len();
    let mut levels = vec![vec![]; parts];
    (0..parts).for_each(|part| levels[depth(case, part)].push(part));
    for level in &mut levels {
        level.sort_by_key(|part| NAMES[*part]);
    }
    levels
}

pub(super) fn restricted(levels: &[Vec<usize>], to: &BTreeSet<usize>) -> Vec<Vec<usize>> {
    let within = levels.iter().map(|level| level.iter().copied().filter(|part| to.contains(part)).collect());
    within.filter(|level: &Vec<usize>| !level.is_empty()).collect()
}

pub(super) fn in_order(levels: &[Vec<usize>]) -> Vec<usize> {
    levels.iter().flatten().copied().collect()
}
