//! All figures as a table, for a terminal and for a page.

use std::fmt::Write as _;

use super::Scene;
use crate::figure::Figure;

/// For a terminal.
pub(super) fn table(figures: &[Figure], scene: &Scene) -> String {
    let mut table = format!(
        "{:52} {:>10}       {:32} {:>10} {:>8}  {}",
        "", "measured", "beside", "measured", "ratio", "goal"
    );
    for (before, figure) in with_before(figures) {
        if before.is_none_or(|before| before.group() != figure.group()) {
            table.push('\n');
        }
        let Figure { what, unit, value, beside, floor, .. } = figure;
        let (value, floor) = (short(*value), short(*floor));
        let line = format!(
            "\n{what:52} {value:>10} {unit:5} {beside:32} {floor:>10} {:>8}  {}",
            figure.ratio(),
            goal(figure)
        );
        table += line.trim_end();
    }
    let _ = write!(table, "\n\n{scene}");
    if cfg!(debug_assertions) {
        table += "\nBuilt without --release: none of these figures means anything.";
    }
    table
}

/// For a page: the block that `docs/bench.md` has.
pub(super) fn markdown(figures: &[Figure], scene: &Scene) -> String {
    let mut table = format!(
        "{scene}.\n\n| figure | measured | beside | measured | ratio | goal |\n|---|--:|---|--:|--:|---|"
    );
    for figure in figures {
        let Figure { what, unit, value, beside, floor, .. } = figure;
        let (value, floor) = (short(*value), short(*floor));
        let _ = write!(
            table,
            "\n| {what} | {value} {unit} | {beside} | {floor} | {} | {} |",
            figure.ratio(),
            goal(figure)
        );
    }
    table
}

fn goal(figure: &Figure) -> String {
    let missed = if figure.misses_its_goal() { " MISSED" } else { "" };
    figure.goal.map_or_else(String::new, |goal| format!("{goal}{missed}"))
}

/// Three figures are as many as a machine repeats.
fn short(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        1.0..10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn with_before(figures: &[Figure]) -> impl Iterator<Item = (Option<&Figure>, &Figure)> {
    std::iter::once(None).chain(figures.iter().map(Some)).zip(figures)
}
