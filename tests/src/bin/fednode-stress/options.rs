//! What is asked for on the command line.

use std::path::PathBuf;

use clap::Parser;

/// Starts a federation of real processes, does to it what a scenario says, and gives a verdict.
#[derive(Debug, Parser)]
#[command(name = "fednode-stress", version)]
pub(crate) struct Options {
    /// What to do: a file in tests/scenarios/
    #[arg(long, default_value = "tests/scenarios/smoke.yaml", conflicts_with = "replay")]
    pub(crate) scenario: PathBuf,
    /// From which everything random follows; without it, the scenario's own
    #[arg(long, conflicts_with = "replay")]
    pub(crate) seed: Option<u64>,
    /// Many runs, with these seeds, one after the other, both ends included: 1..100 has 100 of them
    #[arg(long, value_name = "A..B", value_parser = range, conflicts_with_all = ["seed", "replay"])]
    pub(crate) seeds: Option<Range>,
    /// The very schedule of a report.json
    #[arg(long, value_name = "REPORT")]
    pub(crate) replay: Option<PathBuf>,
    /// The node, built with its fault points; without it, fednode-under-test beside this program
    #[arg(long)]
    pub(crate) node: Option<PathBuf>,
    /// Where the reports go
    #[arg(long, default_value = "target/stress")]
    pub(crate) out: PathBuf,
    /// Another duration than the scenario's
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "replay")]
    pub(crate) duration: Option<std::time::Duration>,
    /// Prints the schedule as JSON and does nothing
    #[arg(long, conflicts_with = "seeds")]
    pub(crate) print_schedule: bool,
}

/// Weeks of runs.
const MOST: u64 = 10_000;

/// Seeds from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

fn range(text: &str) -> Result<Range, String> {
    let wrong = || format!("'{text}' is no range of seeds; write it like 1..100");
    let (first, last) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.parse().map_err(|_| wrong());
    let range = Range { first: number(first)?, last: number(last)? };
    match range.last.checked_sub(range.first) {
        None => Err(wrong()),
        Some(more) if more >= MOST => Err(format!("'{text}' are more than {MOST} seeds")),
        Some(_) => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_both_their_ends() {
        assert_eq!(range("1..100"), Ok(Range { first: 1, last: 100 }));
        assert!(
            range("100..1").is_err()
                && range("1..=3").is_err()
                && range("1-100").is_err()
                && range("a..b").is_err()
                && range("1..10001").is_err()
                && range("0..18446744073709551615").is_err()
        );
    }

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory as _;
        Options::command().debug_assert();
    }
}
