//! Nodes that are connected over QUIC: their listeners move, close and come back, and no connection notices.

use std::net::Ipv4Addr;

use fednode_tests::{Gauge, Node, Port, Spec, Traffic, eventually};
use futures::StreamExt;
use libp2p::swarm::dummy;
use libp2p::{Multiaddr, SwarmBuilder};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

fn committed(outcome: &Value) {
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
}

/// Makes these listen at `listen` and be dialled there.
fn at(specs: &mut [Spec], listen: impl Fn(&Port) -> Value) {
    let addresses: Vec<Value> = specs.iter().map(|spec| listen(&spec.port)).collect();
    for spec in specs.iter_mut() {
        spec.conf["network"]["addresses"] = listen(&spec.port);
        for (entry, addresses) in spec.peers["peers"].as_array_mut().unwrap().iter_mut().zip(&addresses) {
            // Some have none, so that dials do not cross.
            if entry["addresses"] != json!([]) {
                entry["addresses"] = addresses.clone();
            }
        }
    }
}

async fn started(specs: Vec<Spec>) -> Vec<Node> {
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
    }
    nodes
}

/// Three nodes that are connected over QUIC, each of which dialled those after it.
async fn three() -> Vec<Node> {
    let mut specs = Spec::federation(3);
    at(&mut specs, |port| json!([port.quic()]));
    let nodes = started(specs).await;
    for node in &nodes {
        node.wait_for_connections(2).await;
        let status = node.status().await;
        for connection in status["connections"].as_array().unwrap() {
            assert!(connection["address"].as_str().unwrap().contains("/quic-v1"), "{connection}");
        }
    }
    nodes
}

async fn all_connections(nodes: &[Node]) -> Vec<Vec<(String, String)>> {
    let mut all = Vec::new();
    for node in nodes {
        all.push(node.connections().await);
    }
    all
}

async fn listen(node: &mut Node, addresses: Value) -> Value {
    node.reload_with(|conf| conf["network"]["addresses"] = addresses).await
}

fn planned(node: &Node) -> Value {
    let answer = node.spec().cli(&["reload", "--dry-run", "--json"]);
    serde_json::from_slice(&answer.stdout).expect("JSON")
}

#[tokio::test]
async fn listeners_move_and_come_back_while_messages_flow() {
    let mut nodes = three().await;
    let (traffic, back) =
        (Traffic::start(&nodes[0], &nodes[2]).await, Traffic::start(&nodes[2], &nodes[0]).await);
    let before = all_connections(&nodes).await;
    // The last one was dialled by both others: both connections live on its listener.
    let (first, second) = (nodes[2].spec().port.quic(), Port::free());

    nodes[2].edit(|conf| conf["network"]["addresses"] = json!([second.quic()]));
    let plan = planned(&nodes[2]);
    assert_eq!(
        (&plan["outcome"], &plan["changes"][0]["strategy"]),
        (&json!("planned"), &json!("replace_part"))
    );
    let warning = plan["warnings"][0]["message"].as_str().unwrap_or_default();
    assert!(
        warning.contains(&first) && warning.contains("2 connections keep its UDP port open until they end"),
        "{plan:#}"
    );
    let hint = plan["warnings"][0]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("overlaps"), "{plan:#}");
    assert_eq!(plan["connections"]["would_close"], json!([]));
    assert_eq!(nodes[2].status().await["listeners"], json!([first]), "it was only a plan");

    let outcome = nodes[2].hangup().await;
    committed(&outcome);
    assert_eq!(outcome["connections"]["closed_by_reload"], 0);
    let status = nodes[2].status().await;
    assert_eq!(status["listeners"], json!([second.quic()]));
    assert_eq!(status["retired_listeners"], json!([{"address": first, "connections": 2}]));
    traffic.go_on().await;

    // There and back, with new threads, and with TCP beside it.
    for threads in [1, 3] {
        nodes[2].edit(|conf| conf["node"]["worker_threads"] = json!(threads));
        committed(&listen(&mut nodes[2], json!([first, second.loopback()])).await);
        let status = nodes[2].status().await;
        assert_eq!(status["listeners"], json!([first, second.loopback()]));
        eventually("the other one is closed, by which nobody came in", async || {
            (nodes[2].status().await["retired_listeners"] == json!([])).then_some(())
        })
        .await;
        traffic.go_on().await;
        committed(&listen(&mut nodes[2], json!([second.quic_wildcard()])).await);
        back.go_on().await;
    }
    // Those who dial move, too: nothing of theirs hangs on where they listen.
    for node in &mut nodes[..2] {
        committed(&listen(node, json!(["/ip4/127.0.0.1/udp/0/quic-v1"])).await);
    }
    traffic.finish().await;
    back.finish().await;
    assert_eq!(all_connections(&nodes).await, before);
    for node in &nodes {
        assert!(!node.log().contains("peer_denied"));
    }
}

#[tokio::test]
async fn a_port_that_an_endpoint_keeps_is_refused_to_another_with_the_reason() {
    let mut nodes = three().await;
    let before = all_connections(&nodes).await;
    let (own, wide) = (nodes[2].spec().port.quic(), nodes[2].spec().port.quic_wildcard());
    let other = Port::free();
    for retired in [false, true] {
        nodes[2].edit(|conf| conf["network"]["addresses"] = json!([wide]));
        let outcome = nodes[2].hangup().await;
        assert_eq!(outcome["outcome"], "rejected", "{outcome:#}");
        let error = &outcome["errors"][0];
        assert_eq!(error["path"], "network.addresses[0]");
        assert!(
            error["line"].is_u64()
                && error["hint"].as_str().is_some_and(|hint| hint.contains("another port"))
        );
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(&own) && message.contains("2 ") && message.contains("connections"),
            "{message}"
        );
        assert_eq!(planned(&nodes[2])["outcome"], "rejected");
        // So does `check` against the node; alone, it is about a start, when all that the node holds is free (contract).
        let check = nodes[2].spec().cli(&["check", "--against", "running"]);
        assert_eq!(check.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&check.stderr).contains(&own), "{check:?}");
        assert!(nodes[2].spec().cli(&["check"]).status.success());

        // Moved away first: what has its connections stays, and is in the way all the same.
        let outcome = listen(&mut nodes[2], json!([other.quic()])).await;
        assert_eq!(outcome["outcome"], if retired { "unchanged" } else { "committed" }, "{outcome:#}");
        let kept = nodes[2].status().await["retired_listeners"].clone();
        assert_eq!(kept, json!([{"address": own, "connections": 2}]));
    }
    assert_eq!(all_connections(&nodes).await, before);
    // When its connections have ended, the port can be had.
    let old = nodes.drain(..2).collect::<Vec<_>>();
    for node in old {
        let (status, spec) = node.stop().await;
        assert!(status.success());
        drop(spec);
    }
    nodes[0].wait_for_connections(0).await;
    // Not only when its socket is closed: a reload that comes before that waits for it, as long as its budget lets it.
    eventually("nobody needs the endpoint", async || {
        let status = nodes[0].status().await;
        let mut retired = status["retired_listeners"].as_array()?.iter();
        retired.all(|retired| retired["connections"] == 0).then_some(())
    })
    .await;
    committed(&listen(&mut nodes[0], json!([wide])).await);
    assert_eq!(nodes[0].status().await["listeners"], json!([wide]));
}

/// What somebody says who wants to connect, and who is not heard of again.
async fn first_packet(to: &Port) {
    let between = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let own = between.local_addr().unwrap().port();
    let mut peer = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_behaviour(|_| dummy::Behaviour)
        .unwrap()
        .build();
    peer.dial(format!("/ip4/127.0.0.1/udp/{own}/quic-v1").parse::<Multiaddr>().unwrap()).unwrap();
    let mut packet = vec![0; 1 << 16];
    let length = tokio::select! {
        length = between.recv(&mut packet) => length.unwrap(),
        event = peer.select_next_some() => panic!("nobody answers, and yet {event:?}"),
    };
    between.send_to(&packet[..length], (Ipv4Addr::LOCALHOST, to.number())).await.unwrap();
}

/// quinn keeps a socket for three times the probe timeout of a closed connection: 3 s where no round trip was ever measured, a minute
/// where the peer had stood still for half of one.
#[tokio::test]
async fn a_port_is_to_be_had_again_however_long_its_connections_would_drain() {
    let mut spec = Spec::new();
    let (own, other) = (spec.port.quic(), Port::free());
    spec.conf["network"]["addresses"] = json!([own]);
    spec.conf["peers"]["connection_timeout"] = json!("1s");
    let mut node = spec.start().await;
    eventually("the newcomer is there", async || {
        first_packet(&node.spec().port).await;
        node.edit(|conf| conf["network"]["addresses"] = json!([other.quic()]));
        committed(&node.hangup().await);
        let retired = node.status().await["retired_listeners"].clone();
        if retired == json!([{"address": own, "connections": 1}]) {
            return Some(());
        }
        assert_eq!(retired, json!([]));
        committed(&listen(&mut node, json!([own])).await);
        None
    })
    .await;
    eventually("it is given up, and the endpoint with it", async || {
        let retired = node.status().await["retired_listeners"].clone();
        retired.as_array().unwrap().iter().all(|one| one["connections"] == 0).then_some(())
    })
    .await;
    committed(&listen(&mut node, json!([own])).await);
    assert_eq!(node.status().await["listeners"], json!([own]));
}

#[tokio::test]
async fn a_udp_port_of_another_process_is_refused_before_anything_is_touched() {
    let mut node = Spec::new().start().await;
    let holder = Port::free();
    let socket = UdpSocket::bind(holder.address()).await.unwrap();
    let outcome = listen(&mut node, json!([holder.quic()])).await;
    assert_eq!(
        (&outcome["outcome"], &outcome["components"]),
        (&json!("rejected"), &json!([])),
        "{outcome:#}"
    );
    assert!(outcome["error"].as_str().unwrap().contains("in use by another process"), "{outcome:#}");
    let check = node.spec().cli(&["check"]);
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    drop(socket);
    committed(&node.hangup().await);
    assert!(!holder.is_free_for_udp());
    let check = node.spec().cli(&["check"]);
    assert_eq!(check.status.code(), Some(0), "the node's own port counts as free: {check:?}");
}

#[tokio::test]
async fn nodes_that_speak_both_keep_one_connection_each_also_after_a_restart() {
    let mut specs = Spec::mesh(4);
    at(&mut specs, |port| json!([port.loopback(), port.quic()]));
    let mut nodes = started(specs).await;
    for round in 0..2 {
        for node in &nodes {
            let mut others: Vec<_> = nodes.iter().map(Node::key).filter(|key| *key != node.key()).collect();
            others.sort_unstable();
            // A connection may look open to the end that dialled it, or that has not heard of the other's death: only an answer
            // shows that it is.
            eventually(&format!("round {round}: everybody answers"), async || {
                for other in &others {
                    let answer = node.send(other, "are you there?").await.ok()?;
                    answer.status.is_success().then_some(())?;
                }
                Some(())
            })
            .await;
            eventually(&format!("round {round}: one connection to each"), async || {
                let mut seen: Vec<_> = node.connections().await.into_iter().map(|(_, key)| key).collect();
                seen.sort_unstable();
                (seen == others).then_some(())
            })
            .await;
        }
        let spec = nodes.remove(0).kill().await;
        nodes.push(spec.start().await);
    }
}

#[tokio::test]
async fn a_node_that_stops_says_so_over_quic() {
    let mut specs = Spec::federation(2);
    at(&mut specs, |port| json!([port.quic()]));
    for spec in &mut specs {
        // Nobody would notice by himself.
        spec.conf["protocol"]["ping_interval"] = json!("1h");
    }
    let mut nodes = started(specs).await;
    for stopping in [1, 0] {
        for node in &nodes {
            node.wait_for_connections(1).await;
        }
        let (status, spec) = nodes.remove(stopping).stop().await;
        assert!(status.success());
        nodes[0].wait_for_connections(0).await;
        nodes.insert(stopping, spec.start().await);
    }
}

/// Each UDP socket of QUIC has 2.9 MiB to receive into, of which it writes to a part. The C library would keep them, one beside the
/// other, after their listener has closed.
#[tokio::test]
async fn a_listener_that_has_moved_leaves_no_buffer_behind() {
    let (mut specs, ports) = (Spec::federation(1), [Port::free(), Port::free()]);
    at(&mut specs, |_| json!([ports[0].quic()]));
    let mut nodes = started(specs).await;
    let node = &mut nodes[0];
    let mut first = None;
    for turn in 1..=20 {
        committed(&listen(node, json!([ports[turn % 2].quic()])).await);
        eventually("the one before is closed", async || {
            (node.status().await["retired_listeners"] == json!([])).then_some(())
        })
        .await;
        first.get_or_insert(Gauge::of(node).anonymous);
    }
    let (first, last) = (first.unwrap(), Gauge::of(node).anonymous);
    assert!(last < first + 2944, "{last} KiB after twenty moves, {first} after one");
}
