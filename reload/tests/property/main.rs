//! The real coordinator, with real actors, against random services, configurations, requests and faults, under a paused clock.
//!
//! [`case`] makes a service of one to six components with random dependencies, and a series of edits, faults and requests.
//! [`drive`] runs it; [`world`] is the service, whose components fail on command, and its disk. Everything that passes is
//! written down ([`log`]), and [`oracle`] judges it afterwards, with a book of its own: DESIGN.md's invariants 1 to 3, the
//! order of the steps, deadlines to the tick, generations, answers, audit lines and confirmations.
//!
//! `PROPTEST_CASES` says how many cases are tried, `PROPTEST_RNG_SEED` from which seed on. The seeds of failures are kept in
//! `proptest-regressions/` and tried first; [`found`] holds those that were worth a name.

#![allow(unreachable_pub, reason = "a module of a test is not seen from outside")]

mod case;
mod drive;
mod found;
mod log;
mod oracle;
mod world;

use case::Case;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

/// How many cases are tried where nobody says.
const CASES: u32 = 10_000;

/// How long a smaller case that fails is looked for.
const SHRINK_FOR_MS: u32 = 20_000;

/// One in so many cases has a disk that hangs, because there somebody must turn the clock.
const ONE_IN: u32 = 20;

#[test]
fn whatever_is_asked_and_whatever_fails_the_service_runs_one_whole_generation() {
    try_all(case::any_case(), cases(), "any.txt");
}

#[test]
fn a_disk_that_hangs_holds_up_nothing_but_itself() {
    try_all(case::any_case_with_a_disk_that_hangs(), cases().div_ceil(ONE_IN), "disk_that_hangs.txt");
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(CASES, |cases| cases.parse().expect("PROPTEST_CASES is a number"))
}

fn try_all(strategy: impl Strategy<Value = Case>, cases: u32, seeds: &str) {
    silence_panics_on_command();
    let seeds = format!("{}/proptest-regressions/{seeds}", env!("CARGO_MANIFEST_DIR"));
    let seeds = FileFailurePersistence::Direct(Box::leak(seeds.into_boxed_str()));
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(seeds)),
        max_shrink_time: SHRINK_FOR_MS,
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&strategy, |case| {
        let (log, rest) = drive::run(&case);
        oracle::judge(&case, &log, &rest).map_err(TestCaseError::fail)
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
}

/// Components panic on command, thousands of times; what else panics is told as always.
fn silence_panics_on_command() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic.payload().downcast_ref::<&str>();
            if !text.is_some_and(|text| text.starts_with("on command")) {
                tell(panic);
            }
        }));
    });
}
