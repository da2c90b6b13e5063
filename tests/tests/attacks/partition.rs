//! Members that cannot hear one another for a while.

use fednode_tests::{Node, Spec, eventually};
use rustix::process::Signal;
use serde_json::json;

use crate::namespaces::Namespace;

/// Where a node stands with a member, in its own words.
async fn state(node: &Node, member: &str) -> String {
    let status = node.status().await;
    let members = status["members"].as_array().cloned().unwrap_or_default();
    let found = members.iter().find(|entry| entry["public_key"] == member);
    found.and_then(|entry| entry["state"].as_str()).unwrap_or_default().to_owned()
}

async fn is_noticed(node: &Node, member: &str) {
    eventually("the member is noticed to be gone", async || {
        let holds = node.connections().await.iter().any(|(_, key)| key == member);
        (!holds && state(node, member).await != "connected").then_some(())
    })
    .await;
}

/// The first node's connection to this member.
async fn between(node: &Node, other: &str) -> Option<(String, String)> {
    node.connections().await.into_iter().find(|(_, key)| key == other)
}

/// Both have exactly one connection to each other, and it carries messages both ways.
async fn are_joined(one: &Node, other: &Node) {
    for (from, to) in [(one, other), (other, one)] {
        eventually("exactly one connection, in both directions", async || {
            let connections = from.connections().await;
            let count = connections.iter().filter(|(_, key)| key == to.key()).count();
            (count == 1 && state(from, to.key()).await == "connected").then_some(())
        })
        .await;
        eventually("it carries messages", async || {
            from.send(to.key(), "healed").await.is_ok_and(|answer| answer.status.is_success()).then_some(())
        })
        .await;
    }
}

fn hasty(spec: &mut Spec) {
    spec.conf["protocol"] = json!({"ping_interval": "1s"});
    spec.conf["peers"] = json!({"connection_timeout": "2s", "reconnect_min": "100ms", "reconnect_max": "1s"});
}

#[tokio::test]
async fn a_process_that_is_stopped_and_goes_on() {
    let mut specs = Spec::mesh(3);
    specs.iter_mut().for_each(hasty);
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
    }
    for node in &nodes {
        node.wait_for_connections(2).await;
    }
    // The choice between connections that crossed is made.
    let kept = between(&nodes[0], nodes[1].key()).await.expect("they are connected");
    nodes[2].signal(Signal::STOP);
    for node in &nodes[..2] {
        is_noticed(node, nodes[2].key()).await;
    }
    assert_eq!(between(&nodes[0], nodes[1].key()).await, Some(kept.clone()), "the others are not touched");
    nodes[2].signal(Signal::CONT);
    for node in &nodes[..2] {
        are_joined(node, &nodes[2]).await;
    }
    assert_eq!(between(&nodes[0], nodes[1].key()).await, Some(kept));
}

#[tokio::test]
async fn a_network_that_is_cut_and_heals() {
    let Some(network) = Namespace::new() else { return };
    let mut specs = Spec::mesh(2);
    specs.iter_mut().for_each(hasty);
    for (spec, ip) in specs.iter_mut().zip([network.here(), network.there()]) {
        spec.conf["network"]["addresses"] = json!([format!("/ip4/{ip}/tcp/{}", spec.port.number())]);
    }
    let entries: Vec<_> = specs
        .iter()
        .map(|spec| json!({"public_key": spec.keys.public_key, "addresses": spec.conf["network"]["addresses"]}))
        .collect();
    for spec in &mut specs {
        spec.peers = json!({"peers": entries});
    }
    let there = specs.pop().expect("two").wrapped(&network.inside());
    let here = specs.pop().expect("two");
    let (here, there) = (here.start().await, there.start().await);
    are_joined(&here, &there).await;
    for _ in 0..2 {
        network.cut();
        is_noticed(&here, there.key()).await;
        is_noticed(&there, here.key()).await;
        network.heal();
        are_joined(&here, &there).await;
    }
}
