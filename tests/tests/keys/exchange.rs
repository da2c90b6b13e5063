//! The keys of `peers` that peer exchange goes by: how often others are asked, and how many strangers are known.

use fednode_tests::{Node, Spec, eventually};
use serde_json::json;

use crate::Key;
use crate::scene::{LIVE, Scene};

/// How many questions a node has answered.
async fn answered(node: &Node) -> u64 {
    let metrics = node.client().get("/metrics").await.expect("it answers");
    let text = String::from_utf8(metrics.body.to_vec()).expect("text");
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix("fednode_exchanges_total{role=\"answered\"} "));
    count.expect("it is counted").parse().expect("a number")
}

async fn answers(node: &Node, more: u64) {
    let enough = answered(node).await + more;
    eventually(&format!("{more} more questions"), async || (answered(node).await >= enough).then_some(()))
        .await;
}

pub async fn exchange_interval(key: Key) {
    let mut scene = Scene::with(|specs| {
        for (spec, interval) in specs.iter_mut().zip(["200ms", "24h", "24h"]) {
            spec.conf["peers"]["exchange_interval"] = json!(interval);
        }
    })
    .await;
    for _ in 0..2 {
        // Of the two others only the live one asks the first node.
        scene.change(key, json!("200ms")).await;
        answers(&scene.nodes[0], 8).await;
        scene.change(key, json!("24h")).await;
        let before = answered(&scene.nodes[0]).await;
        // The third is asked by the first, again and again.
        answers(&scene.nodes[2], 8).await;
        let more = answered(&scene.nodes[0]).await - before;
        assert!(more <= 2, "{more} questions, where the interval is a day");
    }
    scene.finish().await;
}

pub async fn max_known(key: Key) {
    let mut scene = Scene::with(|specs| {
        specs[LIVE].conf["peers"]["max_known"] = json!(0);
        specs[LIVE].conf["peers"]["exchange_interval"] = json!("300ms");
    })
    .await;
    let early = stranger(&scene).await;
    assert!(!knows(scene.live(), &early).await, "there is room for nobody");
    // Who was refused for want of room needs not come again.
    scene.change(key, json!(100)).await;
    eventually("the stranger is known", async || knows(scene.live(), &early).await.then_some(())).await;
    scene.change(key, json!(0)).await;
    let late = stranger(&scene).await;
    assert!(!knows(scene.live(), &late).await, "there is room for nobody more");
    assert!(knows(scene.live(), &early).await, "lowering sheds nobody");
    scene.change(key, json!(2)).await;
    for node in [&early, &late] {
        eventually("both are known", async || knows(scene.live(), node).await.then_some(())).await;
    }
    scene.finish().await;
}

/// A node that is no member, and has told the live one all that it knows.
async fn stranger(scene: &Scene) -> Node {
    let mut spec = Spec::new();
    spec.peers = json!({"peers": [scene.live().spec().entry()]});
    let node = spec.start().await;
    node.wait_for_connections(1).await;
    // There is one question at a time: at the second, the first answer has been read.
    answers(&node, 2).await;
    node
}

async fn knows(node: &Node, other: &Node) -> bool {
    let status = node.status().await;
    let known = status["known"].as_array().expect("a list");
    known.iter().any(|peer| peer["public_key"] == other.key())
}
