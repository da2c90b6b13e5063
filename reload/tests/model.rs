//! The protocol of a reload, walked through completely: every interleaving of coordinator, components and what may go wrong,
//! for small programs.
//!
//! The coordinator's transition function is [`reload::machine::Machine::on`] itself, the components' books are
//! [`reload::fence::Fence`] itself, plans and levels come from [`reload::plan`] and [`reload::graph`]. What is mirrored, in as
//! few lines as it takes, is what performs their decisions: `model/coordinator.rs` and `model/component.rs`.
//!
//! `cargo test -p reload --test model -- --nocapture` prints the number of states; `MODEL=full` in the environment gives every
//! configuration more of everything that may happen.

mod model {
    pub mod books;
    pub mod component;
    pub mod coordinator;
    pub mod mutation;
    pub mod properties;
    pub mod world;
}

use std::time::Instant;

use model::world::{Content, Fuel, Model};
use stateright::{Checker, Model as _};

fn content(sections: &[u8], own: u8) -> Content {
    Content { sections: sections.to_vec(), own, valid: true }
}

fn walk(model: Model) {
    let name = model.name;
    let started = Instant::now();
    let checker = model.checker().spawn_bfs().join();
    println!("{name}: {} states ({} generated), depth {}, {:?}", checker.unique_state_count(), checker.state_count(), checker.max_depth(), started.elapsed());
    checker.assert_properties();
}


type Shape = &'static [(&'static str, &'static [&'static str])];

const ONE: Shape = &[("a", &[])];
const CHAIN2: Shape = &[("a", &[]), ("b", &["a"])];
const CHAIN3: Shape = &[("a", &[]), ("b", &["a"]), ("c", &["b"])];
const DIAMOND: Shape = &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])];
const FAN: Shape = &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["a"])];
const FREE3: Shape = &[("a", &[]), ("b", &[]), ("c", &[])];
const FREE4: Shape = &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])];

#[test]
fn explore() {
    let f = |triggers, faults, expiries, stops, kills| Fuel { triggers, faults, expiries, stops, kills };
    let one = || vec![content(&[1], 0), content(&[2], 0), content(&[3], 0)];
    let two = || vec![content(&[1, 1], 0), content(&[2, 2], 0), content(&[3, 1], 0)];
    let three = || vec![content(&[1; 3], 0), content(&[2; 3], 0), content(&[3, 1, 3], 0)];
    let four = || vec![content(&[1; 4], 0), content(&[2; 4], 0), content(&[3, 1, 3, 1], 0)];
    for (name, shape, contents, fuel) in [
        ("one", ONE, one(), f(2, 3, 3, 1, 1)),
        ("one", ONE, one(), f(3, 2, 2, 1, 1)),
        ("chain2", CHAIN2, two(), f(2, 2, 2, 0, 0)),
        ("chain2", CHAIN2, two(), f(2, 2, 2, 1, 0)),
        ("chain3", CHAIN3, three(), f(2, 1, 1, 0, 0)),
        ("chain3", CHAIN3, three(), f(2, 2, 1, 0, 0)),
        ("diamond", DIAMOND, four(), f(1, 1, 1, 0, 0)),
        ("diamond", DIAMOND, four(), f(1, 2, 2, 0, 0)),
        ("diamond", DIAMOND, four(), f(2, 1, 1, 0, 0)),
        ("fan", FAN, four(), f(1, 1, 1, 0, 0)),
        ("free3", FREE3, three(), f(1, 1, 1, 0, 0)),
        ("free4", FREE4, four(), f(1, 1, 1, 0, 0)),
    ] {
        let model = Model::new(name, shape, contents, fuel);
        println!("{fuel:?}");
        walk(model);
    }
}
