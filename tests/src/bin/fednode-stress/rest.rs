//! The end of a run: nothing is done to the nodes any more, and all must be well.

use std::time::Duration;

use fednode_tests::Ground;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::files::look_closely;
use crate::book::Allowed;
use crate::finding::Rule;
use crate::flow::direct::Direct;
use crate::flow::topic::Topic;
use crate::flow::tunnel::Tunnels;
use crate::hand::Hand;
use crate::world::World;

/// Until everybody is connected again and everything flows: a deadline, no measurement.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is on its way arrives within this.
const UNDER_WAY: Duration = Duration::from_secs(30);

/// Everything that flows.
#[derive(Debug)]
pub(crate) struct Flows {
    pub(crate) direct: std::sync::Arc<Direct>,
    pub(crate) topic: std::sync::Arc<Topic>,
    pub(crate) tunnels: std::sync::Arc<Tunnels>,
    /// Those who send messages, until the last one is answered.
    pub(crate) senders: Vec<JoinHandle<()>>,
}

// === impl Flows ===

impl Flows {
    fn since(&self, since: u64) -> Result<(), String> {
        self.direct.flows_since(since)?;
        self.topic.flows_since(since)?;
        self.tunnels.flows_since(since)
    }
}

/// Everybody is connected to everybody, and everything flows. `false` if it did not come to that.
pub(crate) async fn all_is_well(world: &World, flows: &Flows) -> bool {
    let since = world.now();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let missing = world.connections.are_joined(world).and_then(|()| flows.since(since));
        let Err(missing) = missing else { return true };
        if tokio::time::Instant::now() > deadline {
            let text = format!("within {PATIENCE:?} of rest: {missing}");
            world.found(Rule::Outcomes, None, text);
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until everything that was acknowledged has arrived, for as long as that may take.
pub(crate) async fn all_arrives(world: &World, flows: &mut Flows) {
    for sender in std::mem::take(&mut flows.senders) {
        // Every request has an end.
        if let Err(error) = sender.await {
            world.found(Rule::Messages, None, format!("a sender of the harness ended: {error}"));
        }
    }
    let deadline = tokio::time::Instant::now() + UNDER_WAY;
    while tokio::time::Instant::now() < deadline {
        if flows.direct.judge(world, false).lost + flows.topic.judge(world, false).lost == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

// === impl Hand ===

impl Hand {
    /// Undoes what was done to the node, and looks whether it runs what its files say.
    pub(crate) async fn conclude(&mut self) {
        self.restore().await;
        let (world, index) = (self.world(), self.index());
        let place = &world.places[index];
        place.book.allow(Allowed::default());
        let Some(status) = self.status_now().await else {
            world.found(Rule::Alive, Some(index), "no answer at the end");
            return;
        };
        let wrong = |what: &str, is: &Value| {
            world.found(Rule::Outcomes, Some(index), format!("at the end {what} is {is}"));
        };
        for (key, right) in
            [("state", Value::from("idle")), ("degraded", false.into()), ("in_sync", true.into())]
        {
            if status[key] != right {
                wrong(key, &status[key]);
            }
        }
        self.runs_what_it_says(&status);
        let generation = status["generation"].as_u64();
        let told = [("the audit log", Some(place.book.generation())), ("the metric", self.metric().await)];
        // What cannot be read is told as another finding, by whoever looks at files.
        let history = Ground::examine(&place.data()).ok().map(|ground| ("the history", ground.newest()));
        for (who, says) in told.into_iter().chain(history) {
            if says != generation {
                let text = format!("status says {generation:?}, and {who} says {says:?}");
                world.found(Rule::Generations, Some(index), text);
            }
        }
        look_closely(world, index).await;
    }

    /// Invariant 1, as far as it shows: sections of several components.
    fn runs_what_it_says(&self, status: &Value) {
        let Some(conf) = self.conf() else { return };
        let world = self.world();
        let wrong = |what: &str, says: &Value, runs: &Value| {
            let text = format!("{what}: the file says {says}, and the node runs {runs}");
            world.found(Rule::Generations, Some(self.index()), text);
        };
        let threads = &conf["node"]["worker_threads"];
        if *threads != 0 && *threads != status["worker_threads"] {
            wrong("node.worker_threads", threads, &status["worker_threads"]);
        }
        let names = |list: &Value| -> Vec<String> {
            let name = |entry: &Value| {
                let name = entry["name"].as_str().or_else(|| entry.as_str());
                name.unwrap_or_default().to_owned()
            };
            let mut names: Vec<String> = list.as_array().into_iter().flatten().map(name).collect();
            names.sort();
            names
        };
        for (path, runs) in [
            ("/protocol/topics", &status["topics"]),
            ("/protocol/services/expose", &status["services"]["expose"]),
            ("/protocol/services/connect", &status["services"]["connect"]),
        ] {
            let says = conf.pointer(path).unwrap_or(&Value::Null);
            if names(says) != names(runs) {
                wrong(path, says, runs);
            }
        }
        for address in conf["network"]["addresses"].as_array().into_iter().flatten() {
            let listeners = status["listeners"].as_array().into_iter().flatten();
            if !listeners.clone().any(|listener| listener == address) {
                wrong("network.addresses", address, &status["listeners"]);
            }
        }
    }

    async fn metric(&self) -> Option<u64> {
        let answer = self.world().places[self.index()].client().get("/metrics").await.ok()?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("config_generation "))?;
        line.trim().parse::<f64>().ok().map(|number| number as u64)
    }
}
