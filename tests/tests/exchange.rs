//! Peer exchange between processes: who is known where, and who is found again by it.

use fednode_tests::{Node, Port, Spec, eventually};
use serde_json::{Value, json};

fn committed(outcome: &Value) {
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
}

fn told(outcome: &Value) -> Vec<&str> {
    let components = outcome["components"].as_array().expect("a list");
    components.iter().map(|component| component["name"].as_str().expect("a name")).collect()
}

/// Where this node thinks that a peer is.
async fn known(node: &Node, key: &str) -> Value {
    let status = node.status().await;
    let known = status["known"].as_array().expect("a list");
    known.iter().find(|peer| peer["public_key"] == key).map_or(Value::Null, |peer| peer["addresses"].clone())
}

async fn knows(node: &Node, key: &str, at: &str) {
    eventually(&format!("{key} is known at {at}"), async || {
        (known(node, key).await == json!([at])).then_some(())
    })
    .await;
}

async fn metric(node: &Node, name: &str) -> f64 {
    let answer = node.client().get("/metrics").await.expect("it answers");
    let text = String::from_utf8(answer.body.to_vec()).expect("metrics are text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
    line.trim().parse().expect("a number")
}

async fn start(specs: Vec<Spec>) -> Vec<Node> {
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
    }
    nodes
}

#[tokio::test]
async fn a_node_that_moved_is_found_by_those_who_are_configured_with_its_old_address() {
    for membership in ["open", "members"] {
        let mut specs = Spec::mesh(3);
        for spec in &mut specs {
            spec.conf["network"]["membership"] = json!(membership);
            spec.conf["peers"]["exchange_interval"] = json!("500ms");
        }
        let mut nodes = start(specs).await;
        for node in &nodes {
            node.wait_for_connections(2).await;
        }
        let key = nodes[2].key().to_owned();
        let port = Port::free();
        let at = port.loopback();
        committed(&nodes[2].reload_with(|conf| conf["network"]["addresses"] = json!([at])).await);
        for node in &nodes[..2] {
            knows(node, &key, &at).await;
        }
        // It comes back and dials nobody: it is for the others to find it, where their files do not say that it is.
        let mut spec = nodes.pop().expect("three").kill().await;
        for entry in spec.peers["peers"].as_array_mut().expect("a list") {
            entry["addresses"] = json!([]);
        }
        for node in &nodes {
            node.wait_for_connections(1).await;
        }
        let moved = spec.start().await;
        moved.wait_for_connections(2).await;
        for node in &nodes {
            node.wait_for_connections(2).await;
            assert_ne!(node.spec().peers["peers"][2]["addresses"], json!([at]));
        }
    }
}

#[tokio::test]
async fn the_keys_of_exchange_are_live() {
    let mut specs: Vec<Spec> = (0..4).map(|_| Spec::new()).collect();
    let hub = specs[0].entry();
    for spec in &mut specs[1..] {
        spec.conf["peers"]["exchange_interval"] = json!("200ms");
        spec.peers = json!({"peers": [hub]});
    }
    specs[0].conf["peers"]["exchange_interval"] = json!("24h");
    specs[0].conf["peers"]["max_known"] = json!(1);
    let mut nodes = start(specs).await;
    nodes[0].wait_for_connections(3).await;
    let before = nodes[0].connections().await;
    // With an interval of a day each peer is asked once, and again when it says that something has changed.
    eventually("the peers were asked", async || {
        (metric(&nodes[0], "fednode_exchanges_total{role=\"asked\"} ").await >= 3.0).then_some(())
    })
    .await;
    assert!(metric(&nodes[0], "fednode_known_peers ").await <= 1.0);

    let outcome = nodes[0].reload_with(|conf| conf["peers"]["max_known"] = json!(100)).await;
    committed(&outcome);
    assert_eq!(told(&outcome), ["peer_store"]);
    let outcome = nodes[0].reload_with(|conf| conf["peers"]["exchange_interval"] = json!("200ms")).await;
    committed(&outcome);
    assert_eq!(told(&outcome), ["protocol"]);
    let asked = metric(&nodes[0], "fednode_exchanges_total{role=\"asked\"} ").await;
    eventually("they are asked again and again", async || {
        let now = metric(&nodes[0], "fednode_exchanges_total{role=\"asked\"} ").await;
        (now >= asked + 9.0).then_some(())
    })
    .await;

    // There is room for all now: for those who found none before, too.
    for node in &nodes[1..] {
        knows(&nodes[0], node.key(), &node.spec().port.loopback()).await;
    }
    // Whoever comes is known, and told of to all.
    let mut newcomer = Spec::new();
    newcomer.peers = json!({"peers": [hub]});
    newcomer.conf["peers"]["exchange_interval"] = json!("200ms");
    let newcomer = newcomer.start().await;
    let at = newcomer.spec().port.loopback();
    for node in &nodes {
        knows(node, newcomer.key(), &at).await;
    }
    assert!(
        metric(&nodes[0], "fednode_exchange_bytes_total{kind=\"response\",direction=\"sent\"} ").await > 0.0
    );
    let mut after = nodes[0].connections().await;
    after.retain(|(_, key)| key != newcomer.key());
    assert_eq!(after, before);
}

#[tokio::test]
async fn whoever_becomes_a_member_by_reload_is_found_without_an_address() {
    let mut specs: Vec<Spec> = (0..3).map(|_| Spec::new()).collect();
    let (hub, newcomer) = (specs[0].entry(), specs[2].keys.public_key.clone());
    for spec in &mut specs {
        spec.conf["peers"]["exchange_interval"] = json!("500ms");
    }
    for spec in &mut specs[1..] {
        spec.peers = json!({"peers": [hub]});
    }
    let mut nodes = start(specs).await;
    nodes[0].wait_for_connections(2).await;
    let at = nodes[2].spec().port.loopback();
    knows(&nodes[1], &newcomer, &at).await;
    assert_eq!(nodes[1].connections().await.len(), 1, "a stranger is known, and not dialled");
    nodes[1].edit_peers(|peers| peers.push(json!({"public_key": newcomer, "addresses": []})));
    committed(&nodes[1].hangup().await);
    nodes[1].wait_for_connections(2).await;
    nodes[2].wait_for_connections(2).await;
}
