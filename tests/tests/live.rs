//! Every change of the first issue on live nodes: connections that the change does not name keep their ids, and a stream of
//! messages that runs across it loses, repeats and reorders nothing.

use fednode_tests::{Node, Port, Spec, Traffic, eventually};
use serde_json::{Value, json};

fn committed(outcome: &Value) {
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
}

fn told(outcome: &Value) -> Vec<&str> {
    let components = outcome["components"].as_array().expect("a list");
    components.iter().map(|component| component["name"].as_str().expect("a name")).collect()
}

/// Three nodes, a stream from the first to the second.
async fn three() -> (Vec<Node>, Traffic) {
    let nodes = Node::federation(3).await;
    let traffic = Traffic::start(&nodes[0], &nodes[1]).await;
    (nodes, traffic)
}

async fn all_connections(nodes: &[Node]) -> Vec<Vec<(String, String)>> {
    let mut all = Vec::new();
    for node in nodes {
        all.push(node.connections().await);
    }
    all
}

#[tokio::test]
async fn three_nodes_hold_one_connection_each() {
    // Everybody dials everybody: dials cross, and one connection of two is kept.
    let mut nodes: Vec<Node> = Spec::mesh(3).into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
    }
    for node in &nodes {
        let connections = node.wait_for_connections(2).await;
        let mut others: Vec<_> = nodes.iter().map(Node::key).filter(|key| *key != node.key()).collect();
        others.sort_unstable();
        let mut seen: Vec<_> = connections.iter().map(|(_, key)| key.as_str()).collect();
        seen.sort_unstable();
        assert_eq!(seen, others);
        let status = node.status().await;
        for member in status["members"].as_array().unwrap() {
            assert_eq!(member["state"], "connected", "{member}");
        }
    }
}

#[tokio::test]
async fn log_level() {
    let (mut nodes, traffic) = three().await;
    let before = all_connections(&nodes).await;
    let outcome = nodes[0].reload_with(|conf| conf["logging"]["level"] = json!("debug")).await;
    committed(&outcome);
    assert_eq!(told(&outcome), ["logging"]);
    assert_eq!(outcome["changes"][0]["path"], "logging.level");
    assert_eq!(
        (&outcome["changes"][0]["from"], &outcome["changes"][0]["to"]),
        (&json!("info"), &json!("debug"))
    );
    nodes[0].hangup().await;
    nodes[0].wait_for_log("\"DEBUG\"").await;
    traffic.go_on().await;
    committed(&nodes[0].reload_with(|conf| conf["logging"]["level"] = json!("error")).await);
    let quiet = nodes[0].log().len();
    nodes[0].hangup().await;
    assert_eq!(nodes[0].log().len(), quiet, "at error, nothing of a reload is logged");
    traffic.finish().await;
    assert_eq!(all_connections(&nodes).await, before);
}

#[tokio::test]
async fn a_listen_address_is_added_moved_and_removed() {
    let (mut nodes, traffic) = three().await;
    let before = all_connections(&nodes).await;
    let (second, third) = (Port::free(), Port::free());
    let first = nodes[1].spec().port.loopback();

    let outcome =
        nodes[1].reload_with(|conf| conf["network"]["addresses"] = json!([first, second.loopback()])).await;
    committed(&outcome);
    assert_eq!(told(&outcome), ["network"]);
    assert!(second.accepts() && nodes[1].spec().port.accepts());
    assert_eq!(nodes[1].status().await["listeners"], json!([first, second.loopback()]));
    traffic.go_on().await;

    // Both move: the node is then on no port that it was on when its connections were made.
    committed(&nodes[1].reload_with(|conf| conf["network"]["addresses"] = json!([third.loopback()])).await);
    assert!(third.accepts());
    assert!(
        !second.accepts() && !nodes[1].spec().port.accepts(),
        "when the reload is over, the old ports refuse"
    );
    assert_eq!(nodes[1].status().await["listeners"], json!([third.loopback()]));
    traffic.go_on().await;

    committed(&nodes[1].reload_with(|conf| conf["network"]["addresses"] = json!([first])).await);
    assert!(nodes[1].spec().port.accepts() && !third.accepts());
    traffic.finish().await;
    assert_eq!(all_connections(&nodes).await, before);
}

#[tokio::test]
async fn a_listener_changes_between_wildcard_and_specific_on_the_same_port() {
    let (mut nodes, traffic) = three().await;
    let before = all_connections(&nodes).await;
    let (wildcard, specific) = (nodes[1].spec().port.wildcard(), nodes[1].spec().port.loopback());
    for _ in 0..3 {
        committed(&nodes[1].reload_with(|conf| conf["network"]["addresses"] = json!([wildcard])).await);
        assert!(nodes[1].spec().port.accepts());
        traffic.go_on().await;
        committed(&nodes[1].reload_with(|conf| conf["network"]["addresses"] = json!([specific])).await);
        assert!(nodes[1].spec().port.accepts());
        traffic.go_on().await;
    }
    traffic.finish().await;
    assert_eq!(all_connections(&nodes).await, before);
}

#[tokio::test]
async fn limits_are_lowered_and_shed_nothing() {
    let (mut nodes, traffic) = three().await;
    let before = all_connections(&nodes).await;
    let outcome = nodes[1]
        .reload_with(|conf| conf["network"]["limits"] = json!({"connections": 1, "connections_per_peer": 1}))
        .await;
    committed(&outcome);
    assert_eq!(told(&outcome), ["network"]);
    assert_eq!(outcome["connections"]["closed_by_reload"], 0);
    // The limit is real: a stranger who would have been let in before is refused now.
    let mut stranger = Spec::new();
    stranger.peers = json!({"peers": [nodes[1].spec().entry()]});
    let stranger = stranger.start().await;
    nodes[1].wait_for_log("peer_denied").await;
    // It may have thought for a moment that it is in: from a member's address, one is refused after the handshake.
    stranger.wait_for_connections(0).await;
    traffic.finish().await;
    assert_eq!(all_connections(&nodes).await, before);
}

#[tokio::test]
async fn a_member_is_added_and_removed() {
    for membership in ["open", "members"] {
        let mut specs = Spec::federation(3);
        for spec in &mut specs {
            spec.conf["network"]["membership"] = json!(membership);
        }
        let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
        for node in &mut nodes {
            node.wait_until_it_serves().await;
        }
        for node in &nodes {
            node.wait_for_connections(2).await;
        }
        let traffic = Traffic::start(&nodes[0], &nodes[1]).await;
        let before = all_connections(&nodes).await;

        let mut newcomer = Spec::new();
        newcomer.conf["network"]["membership"] = json!(membership);
        newcomer.peers = nodes[0].spec().peers.clone();
        let entry = newcomer.entry();
        let mut newcomer = newcomer.spawn();
        newcomer.wait_until_it_serves().await;
        for node in &mut nodes {
            node.edit_peers(|peers| peers.push(entry.clone()));
            let outcome = node.hangup().await;
            committed(&outcome);
            assert_eq!(told(&outcome), ["peer_store", "network"]);
        }
        for node in &nodes {
            node.wait_for_connections(3).await;
        }
        newcomer.wait_for_connections(3).await;
        traffic.go_on().await;

        // Dry run first: it names the connection that would close, and closes nothing.
        let gone = newcomer.key().to_owned();
        nodes[0].edit_peers(|peers| peers.retain(|peer| peer["public_key"] != gone.as_str()));
        let planned = nodes[0].spec().cli(&["reload", "--dry-run", "--json"]);
        let planned: Value = serde_json::from_slice(&planned.stdout).expect("JSON");
        assert_eq!(planned["outcome"], "planned", "{planned:#}");
        assert_eq!(planned["connections"]["would_close"][0]["public_key"], gone.as_str());
        assert_eq!(nodes[0].connections().await.len(), 3);

        for node in &mut nodes {
            let mut theirs = node.connections().await;
            theirs.retain(|(_, key)| *key == gone);
            node.edit_peers(|peers| peers.retain(|peer| peer["public_key"] != gone.as_str()));
            let outcome = node.hangup().await;
            committed(&outcome);
            // Closed before the reload reports success. (Where everybody may connect, it may have dialled again since.)
            let connections = node.connections().await;
            assert!(
                theirs.iter().all(|closed| !connections.contains(closed)),
                "{membership}: {connections:?}"
            );
        }
        traffic.finish().await;
        if membership == "members" {
            // In vain it dials again: it is no member.
            nodes[0].wait_for_log("peer_denied").await;
            assert_eq!(all_connections(&nodes).await, before);
        }
    }
}

#[tokio::test]
async fn timeouts_and_rates_and_sizes_are_live() {
    let (mut nodes, traffic) = three().await;
    let before = all_connections(&nodes).await;
    let outcome = nodes[0].reload_with(|conf| conf["protocol"] = json!({"max_message_size": "1KiB"})).await;
    committed(&outcome);
    assert_eq!(told(&outcome), ["protocol"]);
    let long = "x".repeat(2000);
    let answer = nodes[0].send(nodes[1].key(), &long).await.unwrap();
    assert_eq!(answer.status.as_u16(), 413, "{answer:?}");
    committed(&nodes[0].reload_with(|conf| conf["protocol"] = json!({"max_message_size": "4KiB"})).await);
    let answer = nodes[0].send(nodes[2].key(), &long).await.unwrap();
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    let outcome = nodes[0].reload_with(|conf| conf["peers"]["connection_timeout"] = json!("3s")).await;
    committed(&outcome);
    assert_eq!(told(&outcome), ["network"]);
    traffic.finish().await;
    assert_eq!(all_connections(&nodes).await, before);
}

#[tokio::test]
async fn threads_are_live_and_old_connections_stay() {
    let (mut nodes, traffic) = three().await;
    let before = all_connections(&nodes).await;
    committed(&nodes[0].reload_with(|conf| conf["node"]["worker_threads"] = json!(3)).await);
    assert_eq!(nodes[0].status().await["worker_threads"], 3);
    traffic.finish().await;
    assert_eq!(all_connections(&nodes).await, before);
}

#[tokio::test]
async fn the_admin_socket_moves() {
    let (mut nodes, traffic) = three().await;
    let old = nodes[2].spec().folder().join("data").join("admin.sock");
    let new = nodes[2].spec().folder().join("data").join("moved.sock");
    let outcome = nodes[2].reload_with(|conf| conf["admin"] = json!({"socket": "moved.sock"})).await;
    committed(&outcome);
    assert_eq!(told(&outcome), ["admin"]);
    let client = fednode::client::Client::new(&new);
    assert!(client.get("/healthz").await.unwrap().status.is_success());
    eventually("the old socket is gone", async || (!old.exists()).then_some(())).await;
    traffic.finish().await;
}

#[tokio::test]
async fn all_nodes_reload_at_once_again_and_again() {
    let (mut nodes, traffic) = three().await;
    let before = all_connections(&nodes).await;
    for round in 0..20 {
        let level = if round % 2 == 0 { "debug" } else { "info" };
        let audits: Vec<usize> = nodes.iter().map(|node| node.audit().len()).collect();
        for node in &mut nodes {
            node.edit(|conf| conf["logging"]["level"] = json!(level));
            node.signal(rustix::process::Signal::HUP);
        }
        for (node, before) in nodes.iter().zip(audits) {
            let line = eventually("an audit line", async || node.audit().into_iter().nth(before)).await;
            committed(&line);
        }
    }
    traffic.finish().await;
    assert_eq!(all_connections(&nodes).await, before);
}
