//! From the start of the process to the moment it says that it is ready, beside a bare libp2p peer that listens.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fednode_tests::{Node, Spec};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::floor::Floor;
use crate::observe::{nobody, peers_text};
use crate::options::{Options, Shape};
use crate::peer::{Peer, Stack};
use crate::samples::{Samples, round};

/// Between two questions whether it is ready.
const PAUSE: Duration = Duration::from_millis(1);

pub(crate) async fn run(options: &Options, rounds: usize) -> (Value, String, bool) {
    let mut table = "members   ready p50 / p99      bare libp2p   + parsing peers.yaml   ratio".to_owned();
    let mut rows = Vec::new();
    for members in &options.members {
        let row = row(options, *members, rounds).await;
        let _ = write!(
            table,
            "\n{members:>7}   {:>7} / {:>7} ms {:>8} ms   {:>16} ms   {:>5}",
            row["ready_ms"]["p50"], row["ready_ms"]["p99"], row["bare_ms"], row["parse_ms"], row["ratio"]
        );
        rows.push(row);
    }
    (Value::Array(rows), table, true)
}

async fn row(options: &Options, members: usize, rounds: usize) -> Value {
    let mut spec = Spec::new().binary(&options.node);
    spec.peers = json!({"peers": nobody(members)});
    spec.conf["peers"] = json!({"connection_timeout": "1s", "reconnect_min": "1h", "reconnect_max": "1h"});
    spec.conf["logging"]["level"] = json!("warn");
    let entries = spec.peers["peers"].as_array().cloned().unwrap_or_default();
    let mut floor = Floor::new(peers_text(&entries, Shape::Block));
    let (mut ready, mut bare) = (Samples::default(), Samples::default());
    // The first makes the data folder, and is not counted.
    for number in 0..=rounds {
        let began = Instant::now();
        let node = spec.spawn();
        is_ready(&node).await;
        let took = began.elapsed();
        spec = node.kill().await;
        floor.sample();
        let began = Instant::now();
        let (peer, _) = Peer::serve(Stack::Bare, &[]);
        let took_bare = began.elapsed();
        drop(peer);
        if number > 0 {
            ready.add_ms(took);
            bare.add_ms(took_bare);
        }
    }
    let least = bare.median() + floor.parse.median();
    json!({
        "members": members, "ready_ms": ready.summary(), "bare_ms": bare.median(), "parse_ms": floor.parse.median(),
        "ratio": round(ready.median() / least),
    })
}

async fn is_ready(node: &Node) {
    let client = node.client();
    while !client.get("/readyz").await.is_ok_and(|answer| answer.status.is_success()) {
        sleep(PAUSE).await;
    }
}
