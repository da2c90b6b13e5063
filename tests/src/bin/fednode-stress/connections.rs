//! Watches every node's connections, and judges in the end which of those that closed were named by a plan, or broken by the
//! harness itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fednode::client::ClientError;
use futures::StreamExt as _;
use serde_json::Value;

use crate::finding::Rule;
use crate::trouble::Kind;
use crate::world::{Phase, World, locked};

const AGAIN: Duration = Duration::from_millis(20);

/// What the harness does to one end is noticed at the other so long after it at the latest.
const NOTICED: u64 = 20_000;

/// Two connections between the same two that were made within this time may be one too many, and one of them goes: the 7 s after
/// which a node takes a dial for late, and what two busy ends and the harness may see later than it was.
const CROSSED: u64 = 12_000;

/// A dial that arrives when another connection has long been there is dropped within this time: it takes nobody's place.
const DROPPED: u64 = 5_000;

/// A connection of one life of a node.
#[derive(Clone, Debug)]
struct Connection {
    id: String,
    life: u32,
    /// The other end, if it is one of ours.
    peer: Option<usize>,
    opened: u64,
    /// When, and what was said why.
    closed: Option<(u64, String)>,
}

/// All of all nodes.
#[derive(Debug)]
pub(crate) struct Connections {
    of: Vec<Mutex<BTreeMap<(u32, String), Connection>>>,
    /// How many were open, over time: for the picture.
    pub(crate) open: Vec<Mutex<Vec<(u64, usize)>>>,
}

/// What came of them.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Tally {
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    /// Of those, named by a plan.
    pub(crate) named: u64,
    /// One of two that crossed.
    pub(crate) crossed: u64,
    /// Broken by what the harness did.
    pub(crate) excused: u64,
    /// None of these.
    pub(crate) wrong: u64,
}

// === impl Connections ===

impl Connections {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            of: (0..nodes).map(|_| Mutex::default()).collect(),
            open: (0..nodes).map(|_| Mutex::default()).collect(),
        }
    }

    async fn watch(&self, world: &World, index: usize) {
        let place = &world.places[index];
        while world.phase() < Phase::Over {
            let life = place.life();
            if place.pid().is_some() {
                let _ = self.listen(world, index, life).await;
            }
            // While nobody listens, what closes is not seen; a life that goes on may not end the stream.
            let now = world.now();
            let is_excused = world.troubles.is(Kind::Down, index, now.saturating_sub(2_000), now);
            let goes_on = place.serves() && place.life() == life && world.phase() < Phase::Over;
            if goes_on && !is_excused && !world.has_ended(index) {
                world.found(Rule::Connections, Some(index), "the stream of events ended, and the node runs");
            }
            world.wait(AGAIN, Phase::Over).await;
        }
    }

    /// One stream of events, from before the first look to its end.
    async fn listen(&self, world: &World, index: usize, life: u32) -> Result<(), ClientError> {
        let client = world.places[index].client();
        let mut events = client.events("/v1/events").await?;
        let status: Value = client.get("/admin/status").await?.json().unwrap_or_default();
        for connection in status["connections"].as_array().into_iter().flatten() {
            self.opened(world, index, life, connection);
        }
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = world.reaches(Phase::Over) => None,
            };
            let Some(event) = event else { return Ok(()) };
            let event: Value = serde_json::from_str(&event).unwrap_or_default();
            match event["event"].as_str().unwrap_or_default() {
                "connection_opened" => self.opened(world, index, life, &event["connection"]),
                "connection_closed" => self.closed(world, index, life, &event),
                // Then a closing may be missed. The stream is read without pause, so this has not been seen yet.
                "missed" => {
                    world.found(Rule::Connections, Some(index), format!("events were missed: {event}"));
                }
                _ => {}
            }
        }
    }

    fn opened(&self, world: &World, index: usize, life: u32, connection: &Value) {
        let id = connection["id"].as_str().unwrap_or_default().to_owned();
        let peer = connection["public_key"].as_str().and_then(|key| world.who(key));
        let opened = world.now();
        let mut all = locked(&self.of[index]);
        if let Some(before) = all.get(&(life, id.clone())) {
            // The first look shows again what was told while it was under way.
            if before.closed.is_some() {
                let text = format!("connection {id} was closed, and its id is used again");
                world.found(Rule::Connections, Some(index), text);
            }
            return;
        }
        all.insert((life, id.clone()), Connection { id, life, peer, opened, closed: None });
        self.note(world, index, life, &all);
    }

    fn closed(&self, world: &World, index: usize, life: u32, event: &Value) {
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        let reason = event["reason"].as_str().unwrap_or_default().to_owned();
        let now = world.now();
        let mut all = locked(&self.of[index]);
        let peer = event["public_key"].as_str().and_then(|key| world.who(key));
        let connection =
            all.entry((life, id.clone())).or_insert(Connection { id, life, peer, opened: now, closed: None });
        connection.closed = Some((now, reason));
        self.note(world, index, life, &all);
    }

    fn note(&self, world: &World, index: usize, life: u32, all: &BTreeMap<(u32, String), Connection>) {
        let open = all.values().filter(|one| one.life == life && one.closed.is_none()).count();
        locked(&self.open[index]).push((world.now(), open));
    }

    /// When all is over: which should not have closed?
    pub(crate) fn judge(&self, world: &World) -> Tally {
        let mut tally = Tally::default();
        for (index, connections) in self.of.iter().enumerate() {
            let all = locked(connections);
            for connection in all.values() {
                tally.opened += 1;
                let Some((at, reason)) = &connection.closed else { continue };
                tally.closed += 1;
                let since = at.saturating_sub(NOTICED);
                if world.places[index].book.has_named(connection.life, &connection.id) {
                    tally.named += 1;
                } else if world.troubles.break_between(index, connection.peer, since, *at) {
                    tally.excused += 1;
                } else if is_crossed(connection, *at, all.values()) {
                    tally.crossed += 1;
                } else {
                    tally.wrong += 1;
                    let peer = connection.peer.map_or("a stranger".to_owned(), |peer| format!("node {peer}"));
                    let age = at - connection.opened;
                    let text =
                        format!("connection {} to {peer} closed after {age} ms: {reason}", connection.id);
                    world.findings.add(*at, Rule::Connections, Some(index), text);
                }
            }
        }
        tally
    }

    /// The times in which both hold a connection to each other, until now.
    pub(crate) fn joined(&self, one: usize, other: usize, now: u64) -> Vec<(u64, u64)> {
        both(&self.held(one, other, now), &self.held(other, one, now))
    }

    /// Whether both do now.
    pub(crate) fn are_joined_now(&self, one: usize, other: usize, now: u64) -> bool {
        self.joined(one, other, now).last().is_some_and(|(_, to)| *to == now)
    }

    /// The times in which the one holds a connection to the other.
    fn held(&self, of: usize, to: usize, now: u64) -> Vec<(u64, u64)> {
        let all = locked(&self.of[of]);
        let mine = all.values().filter(|connection| connection.peer == Some(to));
        let mut spans: Vec<(u64, u64)> =
            mine.map(|one| (one.opened, one.closed.as_ref().map_or(now, |(closed, _)| *closed))).collect();
        spans.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (from, to) in spans {
            match joined.last_mut() {
                Some(last) if last.1 >= from => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        joined
    }

    /// Nodes that hold other than one connection to each of the others.
    pub(crate) fn are_joined(&self, world: &World) -> Result<(), String> {
        for place in &world.places {
            let all = locked(&self.of[place.index]);
            let open = all.values().filter(|one| one.life == place.life() && one.closed.is_none());
            let peers: Vec<usize> = open.filter_map(|connection| connection.peer).collect();
            let distinct: BTreeSet<_> = peers.iter().collect();
            if distinct.len() + 1 != world.places.len() || peers.len() != distinct.len() {
                return Err(format!("node {} is connected to {peers:?}", place.index));
            }
        }
        Ok(())
    }
}

/// The times that lie in both.
pub(crate) fn both(some: &[(u64, u64)], others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let pairs = some.iter().flat_map(|one| others.iter().map(move |other| (one, other)));
    let meet = pairs.map(|(one, other)| (one.0.max(other.0), one.1.min(other.1)));
    meet.filter(|(from, to)| from < to).collect()
}

/// Whether another connection to the same peer was there when this one closed: made at about the same time, or long before this one
/// came, and went at once.
fn is_crossed<'a>(connection: &Connection, at: u64, all: impl IntoIterator<Item = &'a Connection>) -> bool {
    let stands = |other: &Connection| {
        let is_other = other.life == connection.life && other.id != connection.id && other.peer.is_some();
        let is_open = other.opened <= at && other.closed.as_ref().is_none_or(|(closed, _)| *closed >= at);
        let has_crossed = other.opened.abs_diff(connection.opened) <= CROSSED;
        let was_late = other.opened < connection.opened && at.saturating_sub(connection.opened) <= DROPPED;
        is_other && is_open && other.peer == connection.peer && (has_crossed || was_late)
    };
    all.into_iter().any(stands)
}

/// Starts watching.
pub(crate) fn start(world: &Arc<World>) {
    for index in 0..world.places.len() {
        let world = Arc::clone(world);
        tokio::spawn(async move { world.connections.watch(&world, index).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_common_are_cut_at_both_ends() {
        assert_eq!(both(&[(0, 10), (20, 30)], &[(5, 25), (28, 99)]), [(5, 10), (20, 25), (28, 30)]);
        assert_eq!(both(&[(0, 10)], &[]), []);
    }

    #[test]
    fn two_are_joined_while_both_hold_one_of_perhaps_several() {
        let connections = Connections::new(4);
        let add = |of: usize, mut connection: Connection, peer| {
            connection.peer = Some(peer);
            locked(&connections.of[of]).insert((1, connection.id.clone()), connection);
        };
        add(0, one("1", 10, Some(50)), 3);
        add(0, one("2", 40, None), 3);
        add(3, one("1", 12, None), 0);
        assert_eq!(connections.joined(0, 3, 100), [(12, 100)]);
        assert!(connections.are_joined_now(3, 0, 100) && !connections.are_joined_now(3, 1, 100));
    }

    fn one(id: &str, opened: u64, closed: Option<u64>) -> Connection {
        let closed = closed.map(|at| (at, String::new()));
        Connection { id: id.to_owned(), life: 1, peer: Some(3), opened, closed }
    }

    #[test]
    fn one_of_two_may_go_only_while_the_other_is_there() {
        let lost = one("1", 0, Some(1_000));
        assert!(is_crossed(&lost, 1_000, &[lost.clone(), one("2", 500, None)]));
        assert!(!is_crossed(&lost, 1_000, &[lost.clone(), one("2", 1_500, None)]), "it came later");
        assert!(!is_crossed(&lost, 1_000, &[lost.clone(), one("2", 500, Some(900))]), "it went before");
        let old = one("0", 0, Some(99_000));
        assert!(!is_crossed(&old, 99_000, &[old.clone(), one("2", 98_000, None)]), "they did not cross");
        let late = one("2", 98_000, Some(99_000));
        assert!(is_crossed(&late, 99_000, &[late.clone(), one("0", 0, None)]), "it came too late, and went");
        let late = one("2", 90_000, Some(99_000));
        assert!(!is_crossed(&late, 99_000, &[late.clone(), one("0", 0, None)]), "it had stayed");
    }
}
