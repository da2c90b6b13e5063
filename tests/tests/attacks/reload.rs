//! Reloads again and again, at both ends at once, while messages run in both directions.

use std::time::Duration;

use fednode_tests::{Node, Spec, Traffic, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::arena::quick;

/// What is changed by the reload of this number: something of every component that connections touch.
fn change(conf: &mut Value, round: usize) {
    let is_odd = round % 2 == 1;
    conf["node"]["worker_threads"] = json!(1 + round % 3);
    conf["network"]["limits"] = json!({"connections": if is_odd { 500 } else { 1000 }});
    conf["peers"]["connection_timeout"] = json!(if is_odd { "9s" } else { "10s" });
    conf["protocol"]["ping_interval"] = json!(if is_odd { "1s" } else { "15s" });
    conf["logging"]["level"] = json!(if is_odd { "warn" } else { "info" });
}

#[tokio::test]
async fn every_100_ms_at_both_ends_under_traffic_both_ways() {
    const ROUNDS: usize = 30;
    let mut specs = Spec::federation(2);
    specs.iter_mut().for_each(|spec| quick(&mut spec.conf));
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
    }
    for node in &nodes {
        node.wait_for_connections(1).await;
    }
    let there = Traffic::start(&nodes[0], &nodes[1]).await;
    let back = Traffic::start(&nodes[1], &nodes[0]).await;
    let before = [nodes[0].connections().await, nodes[1].connections().await];
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for round in 1..=ROUNDS {
        pace.tick().await;
        for node in &mut nodes {
            node.edit(|conf| change(conf, round));
        }
        for node in &nodes {
            node.signal(Signal::HUP);
        }
    }
    there.go_on().await;
    back.go_on().await;
    for node in &nodes {
        // Signals that came while a reload waited are one with it; the last one found the last change.
        eventually("the last change is in force", async || {
            let status = node.status().await;
            (status["state"] == "idle" && status["worker_threads"] == 1 + ROUNDS % 3).then_some(())
        })
        .await;
        let outcomes: Vec<_> = node.audit().iter().map(|line| line["outcome"].clone()).collect();
        let is_well =
            |outcome: &Value| ["committed", "unchanged"].contains(&outcome.as_str().unwrap_or_default());
        assert!(outcomes.iter().all(is_well), "{outcomes:?}");
        let committed = outcomes.iter().filter(|outcome| *outcome == "committed").count();
        assert!(committed > 3, "reloads happened while messages ran: {outcomes:?}");
    }
    let sent = [there.finish().await, back.finish().await];
    println!(
        "figures | {ROUNDS} reloads at both ends | messages {sent:?}, none lost, repeated or reordered |"
    );
    assert_eq!([nodes[0].connections().await, nodes[1].connections().await], before);
}
