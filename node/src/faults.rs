//! The fault points of the whole program, by name: what a test that walks through them walks through. See [`reload::fault`].

use net::{Network, Protocol};
use reload::fault::{Point, Takes};
use reload::{Reconfigurable, StepKind};
use storage::PeerStore;

use crate::admin::Admin;
use crate::history::Keeper;
use crate::logging::Logging;

/// The fault points of this crate.
pub const POINTS: &[Point] = &[
    Point::io("conf::read"),
    Point::io("peers::read"),
    Point::io("peers::same"),
    Point::io("named::read"),
    Point::io("key::create"),
    Point::io("key::write_back"),
    Point::io("key::written"),
    Point::io("log::open"),
    Point::io("log::write"),
    Point::io("log::print"),
    Point::io("log::rotate"),
    Point::io("log::rotated"),
    Point::io("log::reopen"),
    Point::io("log::sync"),
    Point::io("log::probe"),
    Point::io("admin::bind"),
    Point::io("admin::listen"),
    Point::io("admin::serve"),
    Point::pass("admin::close"),
    Point::io("admin::unlink"),
    Point::io("supervisor::notify"),
    Point::pass("start::configured"),
    Point::pass("start::history"),
    Point::pass("start::actors"),
    Point::pass("start::socket"),
    Point::pass("start::catch_up"),
    Point::pass("start::record"),
    Point::pass("start::audit"),
    Point::pass("start::serve"),
    Point::pass("start::served"),
    Point::pass("stop::begin"),
    Point::pass("stop::halted"),
    Point::pass("stop::network"),
    Point::pass("stop::synced"),
];

/// The components, which have a point at each step.
const COMPONENTS: [&str; 6] =
    [Logging::NAME, Keeper::NAME, PeerStore::NAME, Network::NAME, Protocol::NAME, Admin::NAME];

const STEPS: [StepKind; 5] =
    [StepKind::Prepare, StepKind::Commit, StepKind::Probe, StepKind::Finish, StepKind::Rollback];

/// The points that stand in the sources, of all crates.
pub fn in_sources() -> impl Iterator<Item = Point> {
    [reload::fault::POINTS, storage::POINTS, net::POINTS, POINTS].into_iter().flatten().copied()
}

/// All points: those, and each component's steps.
#[must_use]
pub fn all() -> Vec<(String, Takes)> {
    let steps = COMPONENTS.iter().flat_map(|component| {
        STEPS.iter().map(move |step| (format!("{component}::{}", step.as_str()), Takes::Step))
    });
    in_sources().map(|point| (point.name.to_owned(), point.takes)).chain(steps).collect()
}
