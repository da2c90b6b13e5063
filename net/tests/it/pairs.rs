//! For random pairs of sections: what was connected before and is still allowed is connected afterwards (DESIGN, invariant 4).
//!
//! A real node with its neighbours on loopback runs through all pairs one after the other, so that each begins with what is left
//! of those before: connections in both directions, over TCP and QUIC, several of one peer, made under sections that are long gone. For each pair
//! it is reloaded to the first section, whoever may calls, and it is reloaded to the second, with a stranger at the door. The
//! reload ends well, or after any of its steps in a rollback, or its `prepare` or `commit` fails.
//!
//! `PROPTEST_CASES` says how many pairs are tried, `PROPTEST_RNG_SEED` from which seed on. A pair that fails is made smaller,
//! each smaller one on a scene of its own; its seed is kept in `proptest-regressions/`, and tried first from then on.

#[path = "pairs/case.rs"]
mod case;
#[path = "pairs/neighbour.rs"]
mod neighbour;
#[path = "pairs/ports.rs"]
mod ports;
#[path = "pairs/scene.rs"]
mod scene;

use std::cell::RefCell;

use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

use case::End;
use scene::Scene;

/// How many pairs are tried where nobody says.
const CASES: u32 = 750;
/// Where the seeds of failures are kept.
const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proptest-regressions/pairs.txt");
/// How long a smaller pair that fails is looked for.
const SHRINK_FOR_MS: u32 = 60_000;

#[test]
fn connections_that_the_second_of_two_sections_allows_live_through_the_change_from_the_first() {
    let cases =
        std::env::var("PROPTEST_CASES").map_or(CASES, |n| n.parse().expect("PROPTEST_CASES is a number"));
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEDS))),
        max_shrink_time: SHRINK_FOR_MS,
        ..Config::default()
    };
    let system = actix::System::new();
    // One that a pair failed on is not used again.
    let standing: RefCell<Option<Scene>> = RefCell::default();
    let sums: RefCell<Sums> = RefCell::default();
    let tried = TestRunner::new(config).run(&case::any_case(), |case| {
        let scene = standing.take();
        let (scene, sum) = system.block_on(async move {
            let mut scene = match scene {
                Some(scene) => scene,
                None => Scene::start().await,
            };
            let first = scene.change(&case.from, None, End::Finished).await;
            scene.fill(&case).await;
            let second = scene.change(&case.to, Some(case.visitor), case.end).await;
            (scene, [first, second])
        });
        standing.replace(Some(scene));
        sums.borrow_mut().0.extend(sum);
        Ok(())
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
    sums.borrow().assert_enough(cases);
}

/// What the pairs were like.
#[derive(Default)]
struct Sums(Vec<scene::Sum>);

// === impl Sums ===

impl Sums {
    /// Asserts that the pairs were worth it: most had something to keep, and many something to close.
    fn assert_enough(&self, cases: u32) {
        let kept: usize = self.0.iter().map(|sum| sum.kept).sum();
        let closed: usize = self.0.iter().map(|sum| sum.closed).sum();
        let [inbound, outbound] =
            [0, 1].map(|way| self.0.iter().map(|sum| sum.over_quic[way]).sum::<usize>());
        println!(
            "{} reloads kept {kept} connections ({inbound} over QUIC in, {outbound} out) and closed {closed}",
            self.0.len()
        );
        let cases = cases as usize;
        assert!(self.0.len() >= 2 * cases && kept >= 2 * cases && closed >= cases / 4, "{kept} {closed}");
        assert!(inbound >= cases / 4 && outbound >= cases / 4, "over QUIC: {inbound} {outbound}");
    }
}
