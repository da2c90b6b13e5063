//! Reloads of a node that is connected to a foreign peer and exchanges messages with it.

use fednode_tests::{Node, Port, Spec, eventually};
use serde_json::{Value, json};

use crate::exchange::Exchange;

/// A reload was committed, and closed no connection.
pub(crate) fn committed(outcome: &Value) {
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    assert_eq!(outcome["connections"]["closed_by_reload"], 0, "{outcome:#}");
}

/// One after the other, messages between any two; returns the listener that one of them added. The connections that were there
/// before are there afterwards.
pub(crate) async fn play(node: &mut Node, exchange: &Exchange) -> Port {
    let before = node.connections().await;

    committed(&node.reload_with(|conf| conf["logging"]["level"] = json!("debug")).await);
    exchange.go_on().await;

    let (first, second) = (node.spec().port.loopback(), Port::free());
    let both = json!([first, second.loopback()]);
    committed(&node.reload_with(|conf| conf["network"]["addresses"] = both).await);
    assert!(second.accepts());
    exchange.go_on().await;

    let limits =
        json!({"connections": 16, "connections_per_peer": 1, "connections_per_ip": 1, "pending_incoming": 8});
    committed(&node.reload_with(|conf| conf["network"]["limits"] = limits).await);
    exchange.go_on().await;

    committed(&node.reload_with(|conf| conf["node"]["worker_threads"] = json!(2)).await);
    exchange.go_on().await;

    committed(&node.reload_with(|conf| conf["protocol"]["ping_interval"] = json!("150ms")).await);
    exchange.go_on().await;

    another_member_comes_and_goes(node, exchange, &before).await;

    committed(&node.reload_with(|conf| conf["logging"]["level"] = json!("info")).await);
    exchange.go_on().await;
    assert_eq!(node.connections().await, before);
    second
}

async fn another_member_comes_and_goes(node: &mut Node, exchange: &Exchange, before: &[(String, String)]) {
    let mut other = Spec::new();
    let entry = json!({"public_key": node.key(), "addresses": []});
    other.peers = json!({"peers": [entry]});
    let other = other.start().await;

    node.edit_peers(|peers| peers.push(other.spec().entry()));
    committed(&node.hangup().await);
    let with_it = eventually("the other member is connected", async || {
        let connections = node.connections().await;
        connections.iter().any(|(_, key)| key == other.key()).then_some(connections)
    })
    .await;
    assert!(before.iter().all(|connection| with_it.contains(connection)), "{with_it:?}");
    exchange.go_on().await;

    node.edit_peers(|peers| peers.retain(|peer| peer["public_key"] != other.key()));
    let outcome = node.hangup().await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    assert_eq!(outcome["connections"]["closed_by_reload"], 1, "{outcome:#}");
    assert_eq!(node.connections().await, before);
    exchange.go_on().await;
}
