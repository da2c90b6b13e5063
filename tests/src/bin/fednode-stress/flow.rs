//! What flows between the nodes all the time, and what must be true of it in the end.

pub(crate) mod direct;
pub(crate) mod topic;
pub(crate) mod tunnel;

use std::time::Duration;

use fednode::client::Client;
use futures::{Stream, StreamExt as _};
use serde_json::Value;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::finding::Rule;
use crate::trouble::Kind;
use crate::world::{Phase, World};

/// Until somebody who is not there is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// What was acknowledged so shortly before its receiver was killed may have been in its inbox still. The same before a break
/// of the connection for what a topic carries.
pub(crate) const UNDER_WAY: u64 = 5_000;

/// A message, in the order in which they were sent: its number is its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: u64,
    /// When it was acknowledged, if it was.
    pub(crate) acked: Option<u64>,
}

/// What came of a stream, in numbers.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Tally {
    /// Requests.
    pub(crate) sent: u64,
    /// Of those, acknowledged.
    pub(crate) acknowledged: u64,
    /// What came, without repetitions.
    pub(crate) arrived: u64,
    /// Acknowledged, did not come, and nothing excuses it.
    pub(crate) lost: u64,
    /// The same, and something does.
    pub(crate) excused: u64,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
}

// === impl Tally ===

impl Tally {
    pub(crate) const fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.arrived += other.arrived;
        self.lost += other.lost;
        self.excused += other.excused;
        self.repeated += other.repeated;
        self.reordered += other.reordered;
    }
}

fn pace(per_second: f64) -> Interval {
    let mut every = interval(Duration::from_secs_f64(1.0 / per_second.max(0.001)));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

/// Sends, and says when it was acknowledged. What the node refuses, or whose fate nobody knows, was not.
async fn post(world: &World, client: &Client, path: &str, text: String) -> Option<u64> {
    let answer = client.post(path, &[], text.into_bytes()).await.ok()?;
    answer.status.is_success().then(|| world.now())
}

/// Reads a stream of events of a node, again and again when the node comes back, and hands each event on.
async fn read(world: &World, index: usize, path: &str, mut take: impl FnMut(&Value)) {
    let place = &world.places[index];
    while world.phase() < Phase::Over {
        let life = place.life();
        if !place.serves() {
            world.wait(AGAIN, Phase::Over).await;
            continue;
        }
        let Ok(mut events) = place.client().events(path).await else {
            world.wait(AGAIN, Phase::Over).await;
            continue;
        };
        while let Some(event) = next(world, &mut events).await {
            match serde_json::from_str::<Value>(&event) {
                Ok(event) if event["event"] == "end" => {
                    world.found(Rule::Messages, Some(index), format!("the stream {path} was ended: {event}"));
                }
                Ok(event) => take(&event),
                Err(error) => {
                    let text = format!("an event of {path} is no JSON: {error}: {event}");
                    world.found(Rule::Messages, Some(index), text);
                }
            }
        }
        let now = world.now();
        let is_excused = world.troubles.is(Kind::Down, index, now.saturating_sub(2_000), now);
        if world.phase() < Phase::Over && !is_excused && place.life() == life {
            if !world.has_ended(index) {
                world.found(
                    Rule::Messages,
                    Some(index),
                    format!("the stream {path} ended, and the node runs"),
                );
            }
            world.wait(AGAIN, Phase::Over).await;
        }
    }
}

async fn next(world: &World, events: &mut (impl Stream<Item = String> + Unpin)) -> Option<String> {
    tokio::select! {
        event = events.next() => event,
        () = world.reaches(Phase::Over) => None,
    }
}

/// `kind` and number of a message: `d3:17`.
fn parse(text: &str) -> Option<(char, usize, usize)> {
    let mut letters = text.chars();
    let kind = letters.next()?;
    let (stream, number) = letters.as_str().split_once(':')?;
    Some((kind, stream.parse().ok()?, number.parse().ok()?))
}
