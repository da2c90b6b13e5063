//! The protocol of a reload, walked through completely: every interleaving of coordinator, components and what may go wrong,
//! for small programs.
//!
//! The coordinator's transition function is [`reload::machine::Machine::on`] itself, the components' books are
//! [`reload::fence::Fence`] itself, plans and levels come from [`reload::plan`] and [`reload::graph`]. What is mirrored, in as
//! few lines as it takes, is what performs their decisions: `model/coordinator.rs` and `model/component.rs`.
//!
//! Any number of messages, answers, works and deadlines may be late by any time; what need not happen at all (requests, faults,
//! deadlines that pass, a stop, kills) happens as often as a configuration's [`Fuel`](model::world::Fuel) lasts, at any moment.
//!
//! Not in it: how long anything takes (`reload::budget` has its own tests), `rollback N`, `--confirm` and dry runs, mailboxes that
//! are full, several keys within one section, a torn write of a generation (`storage` writes them whole or not at all),
//! and a start on a file that components refuse.
//!
//! `cargo test -p reload --test model -- --nocapture` prints the number of states; `MODEL=full` in the environment gives every
//! configuration more of everything that may happen.

#[allow(unreachable_pub, reason = "modules of a test are not seen from outside")]
mod model {
    pub mod books;
    pub mod component;
    pub mod coordinator;
    pub mod happening;
    pub mod mutation;
    pub mod properties;
    pub mod seen;
    pub mod world;
}

use std::time::Instant;

use model::mutation::Mutation;
use model::world::{Content, Fuel, Model};
use reload::graph::Set;
use stateright::{Checker, HasDiscoveries, Model as _};

type Shape = &'static [(&'static str, &'static [&'static str])];

const ONE: Shape = &[("a", &[])];
const CHAIN2: Shape = &[("a", &[]), ("b", &["a"])];
const CHAIN3: Shape = &[("a", &[]), ("b", &["a"]), ("c", &["b"])];
const DIAMOND: Shape = &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])];
const FAN: Shape = &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["a"])];
const FREE3: Shape = &[("a", &[]), ("b", &[]), ("c", &[])];
const FREE4: Shape = &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])];

fn says<const N: usize>(sections: [u8; N]) -> Content {
    Content { sections: sections.to_vec(), own: 0, valid: true }
}

/// How much may happen, in the order of [`Fuel`]'s fields: usually, and with `MODEL=full`.
fn fuel(usually: [u8; 5], full: [u8; 5]) -> Fuel {
    let is_full = std::env::var("MODEL").is_ok_and(|value| value == "full");
    let [triggers, faults, expiries, stops, kills] = if is_full { full } else { usually };
    Fuel { triggers, faults, expiries, stops, kills }
}

/// Walks through every state; every property must hold in each.
fn walk(model: Model) {
    let (name, fuel) = (model.name, model.fuel);
    let started = Instant::now();
    let checker = model.checker().spawn_bfs().join();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("{name}: {states} states, {steps} steps, depth {depth}, {:.1?}; {fuel:?}", started.elapsed());
    checker.assert_properties();
}

#[test]
fn one_component_and_everything_that_can_happen() {
    let contents = vec![says([1]), says([2]), says([3])];
    let fuel = fuel([2, 3, 3, 1, 1], [3, 4, 3, 1, 1]);
    let sometimes = &[
        "commits",
        "commits without being durable",
        "finds nothing to do",
        "rolls back",
        "rolls back a commit",
        "falls into emergency",
        "is led out of emergency",
        "has a successor",
        "leaves a commit behind",
        "hears of the last transaction during the next",
        "works on a finish during the next transaction",
        "stops in the middle",
        "halts",
        "is started again",
    ];
    walk(Model { sometimes, ..Model::new("one", ONE, contents, fuel) });
}

#[test]
fn one_component_three_requests_and_two_kills() {
    let mut contents = vec![says([1]), says([2]), says([3]), says([2])];
    contents[2].valid = false;
    let fuel = fuel([3, 2, 1, 0, 2], [3, 3, 3, 0, 2]);
    let sometimes = &["commits without being durable", "is refused", "is started again"];
    walk(Model { sometimes, ..Model::new("one, killed", ONE, contents, fuel) });
}

#[test]
fn a_chain_of_two() {
    let contents = vec![says([1, 1]), says([2, 2]), says([3, 2])];
    let fuel = fuel([2, 2, 2, 1, 0], [2, 3, 3, 1, 0]);
    let sometimes = &[
        "rolls back a commit",
        "is led out of emergency",
        "has a successor",
        "leaves a commit behind",
        "hears of the last transaction during the next",
        "works on a finish during the next transaction",
        "halts",
    ];
    walk(Model { sometimes, ..Model::new("chain of 2", CHAIN2, contents, fuel) });
}

/// As the network actor: the second cannot be replaced while the process lives.
#[test]
fn a_chain_of_two_of_which_one_cannot_be_replaced() {
    let contents = vec![says([1, 1]), says([2, 2]), says([2, 3])];
    let fuel = fuel([3, 1, 2, 0, 0], [3, 2, 3, 1, 0]);
    let sometimes = &["falls into emergency", "is led out of emergency"];
    let model = Model::new("chain of 2, one irreplaceable", CHAIN2, contents, fuel);
    walk(Model { sometimes, replaceable: Set::of(0), ..model });
}

#[test]
fn two_components_with_minimal_sections_and_no_health_gate() {
    let contents = vec![says([1, 1]), says([2, 2]), says([3, 3])];
    let fuel = fuel([2, 2, 2, 0, 0], [3, 2, 2, 0, 0]);
    let sometimes = &["falls into emergency", "is led out of emergency", "has a successor"];
    let model = Model::new("chain of 2, minimal sections, no probes", CHAIN2, contents, fuel);
    walk(Model { sometimes, minimal: true, health_gate: false, ..model });
}

/// Files that concern some, only the coordinator, or nobody, and one that is refused.
#[test]
fn a_chain_of_three_and_files_that_concern_some() {
    let mut contents = vec![says([1, 1, 1]), says([2, 1, 2]), says([2, 1, 2]), says([0; 3])];
    contents[2].own = 1;
    contents[3].valid = false;
    let fuel = fuel([3, 1, 1, 0, 0], [4, 2, 1, 1, 0]);
    let sometimes = &["commits", "is refused", "finds nothing to do", "rolls back"];
    walk(Model { sometimes, ..Model::new("chain of 3, some concerned", CHAIN3, contents, fuel) });
}

#[test]
fn a_chain_of_three() {
    let contents = vec![says([1; 3]), says([2; 3]), says([3, 2, 3])];
    let fuel = fuel([2, 2, 1, 0, 0], [2, 2, 2, 1, 0]);
    let sometimes = &["rolls back a commit", "hears of the last transaction during the next"];
    walk(Model { sometimes, ..Model::new("chain of 3", CHAIN3, contents, fuel) });
}

#[test]
fn a_diamond_twice() {
    let contents = vec![says([1; 4]), says([2; 4]), says([2, 3, 2, 3])];
    let fuel = fuel([2, 1, 1, 0, 0], [2, 2, 1, 0, 0]);
    let sometimes = &["rolls back a commit", "hears of the last transaction during the next"];
    walk(Model { sometimes, ..Model::new("diamond, two requests", DIAMOND, contents, fuel) });
}

#[test]
fn a_diamond_once_and_more_faults() {
    let contents = vec![says([1; 4]), says([2; 4])];
    let fuel = fuel([1, 2, 1, 0, 0], [1, 3, 2, 0, 0]);
    let sometimes = &["rolls back a commit", "falls into emergency", "has a successor"];
    walk(Model { sometimes, ..Model::new("diamond", DIAMOND, contents, fuel) });
}

#[test]
fn a_fan_of_four() {
    let contents = vec![says([1; 4]), says([2; 4]), says([3; 4])];
    let fuel = fuel([1, 1, 1, 0, 0], [1, 2, 2, 0, 0]);
    let sometimes = &["rolls back a commit"];
    walk(Model { sometimes, ..Model::new("fan of 4", FAN, contents, fuel) });
}

#[test]
fn three_that_depend_on_nobody() {
    let contents = vec![says([1; 3]), says([2; 3]), says([2, 2, 3])];
    let fuel = fuel([2, 1, 1, 0, 0], [2, 2, 1, 0, 0]);
    let sometimes = &["rolls back a commit", "hears of the last transaction during the next"];
    walk(Model { sometimes, ..Model::new("3 independent", FREE3, contents, fuel) });
}

#[test]
fn four_that_depend_on_nobody() {
    let contents = vec![says([1; 4]), says([2; 4])];
    let fuel = fuel([1, 1, 1, 0, 0], [1, 2, 1, 0, 0]);
    let sometimes = &["rolls back a commit"];
    walk(Model { sometimes, ..Model::new("4 independent", FREE4, contents, fuel) });
}

/// A checker that finds nothing may look at nothing. Every deliberate bug is found, by the property that it is against.
#[test]
fn deliberate_bugs_are_found() {
    const CURRENT: &str = "1: whoever is not being changed runs its section of the current generation";
    let found = [
        (Mutation::Unfenced, CURRENT),
        (Mutation::FencedByGeneration, "nothing goes back without a cause"),
        (Mutation::CommitsReversed, "a component commits after those it depends on"),
        (Mutation::LateAnswersCount, "all have prepared before any commits"),
        (Mutation::NotReapplied, CURRENT),
        (Mutation::NothingCancelled, CURRENT),
        (Mutation::OneSlotForAll, CURRENT),
        (Mutation::NoTerms, CURRENT),
        (
            Mutation::JoinsTheRunning,
            "at rest nobody waits, and the file was looked at after the last request",
        ),
        (Mutation::NoDeadline, "2: deadlines alone bring it to rest"),
        (Mutation::BrokenForgotten, "1: a success is whole"),
        (Mutation::EverybodyTold, "3: whose section did not change hears nothing"),
        (Mutation::DurableTooSoon, "6: what was told to be durable is found at the next start"),
        (Mutation::RollbacksReversed, "a component goes back before those it depends on"),
        (Mutation::NotTriedAgain, "2: without another fault it comes to rest by itself, and nothing is held"),
        (Mutation::AnswerForgotten, "a request is answered once"),
        (Mutation::NumberUsedTwice, "6: history is unbroken, and what runs is the newest of it"),
        (Mutation::HaltForgotten, "a stop ends in a halt"),
    ];
    for (mutation, property) in found {
        let length = shortest_counterexample(mutation, property);
        println!("{mutation:?}: found after {length} steps, by \"{property}\"");
    }
}

/// How many steps lead to a state in which the property does not hold.
fn shortest_counterexample(mutation: Mutation, property: &'static str) -> usize {
    // Where an order is turned round, everybody has to be concerned for it to be one.
    let all = matches!(mutation, Mutation::CommitsReversed | Mutation::RollbacksReversed);
    let contents = vec![says([1, 1]), says([2, 2]), says(if all { [3, 3] } else { [3, 1] })];
    let fuel = Fuel { triggers: 2, faults: 2, expiries: 2, stops: 1, kills: 1 };
    let model = Model { mutation: Some(mutation), ..Model::new("mutated", CHAIN2, contents, fuel) };
    let mut shortest = None;
    loop {
        let checker = model.clone().checker().finish_when(HasDiscoveries::AnyOf([property].into()));
        // The last that is found is not the shortest: look again for one that is shorter still.
        let checker =
            if let Some(length) = shortest { checker.target_max_depth(length + 1) } else { checker };
        let Some(path) = checker.spawn_bfs().join().discovery(property) else {
            return shortest.unwrap_or_else(|| panic!("{mutation:?} was not found by {property:?}"));
        };
        shortest = Some(path.into_actions().len());
    }
}
