//! What is tried with every foreign peer.

use std::sync::Arc;

use fednode_tests::{Node, Port, Spec, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::exchange::Exchange;
use crate::peer::{Peer, Program};
use crate::reloads;
use crate::topics::Topic;

const PING: &str = "/ipfs/ping/1.0.0";
const DIRECT: &str = "/fednode/direct/1.0.0";
const GOODBYE: &str = "/fednode/goodbye/1.0.0";

/// A node that pings often: a peer whose answers it did not understand would not stay connected for long.
fn spec(membership: &str, peers: &[Value]) -> Spec {
    let mut spec = Spec::new();
    spec.conf["node"]["worker_threads"] = json!(1);
    spec.conf["network"]["membership"] = json!(membership);
    // A peer that sends as fast as it can is not what is tried here.
    let rate_limit = json!({"messages_per_second": 1_000_000, "burst": 1_000_000});
    spec.conf["protocol"] = json!({"ping_interval": "200ms", "rate_limit": rate_limit});
    spec.peers = json!({"peers": peers});
    spec
}

async fn peer_id(node: &Node) -> String {
    node.status().await["peer_id"].as_str().expect("a node has an id").to_owned()
}

async fn directions(node: &Node) -> Vec<String> {
    let status = node.status().await;
    let connections = status["connections"].as_array().cloned().unwrap_or_default();
    connections
        .iter()
        .map(|connection| connection["direction"].as_str().unwrap_or_default().to_owned())
        .collect()
}

pub(crate) async fn it_dials_in(program: &Program) {
    let mut node = spec("open", &[]).start().await;
    let (id, peer) = (peer_id(&node).await, Arc::new(Peer::start(program).await));
    let dialled = peer.dial(&node, &id).await;
    assert_eq!(dialled["event"], "done", "{dialled}");
    node.wait_for_connections(1).await;
    assert_eq!(directions(&node).await, ["inbound"]);
    talk_over_reloads(&mut node, &id, &peer).await;
}

pub(crate) async fn it_is_dialled(program: &Program) {
    let peer = Arc::new(Peer::start(program).await);
    let mut node = spec("open", &[peer.entry(true)]).start().await;
    let id = peer_id(&node).await;
    node.wait_for_connections(1).await;
    peer.wait_for("connected", 1).await;
    assert_eq!(directions(&node).await, ["outbound"]);
    talk_over_reloads(&mut node, &id, &peer).await;
}

/// Identify, ping and messages, before, during and after reloads, on one connection.
async fn talk_over_reloads(node: &mut Node, id: &str, peer: &Arc<Peer>) {
    let before = node.wait_for_connections(1).await;
    assert_eq!(before[0].1, peer.keys.public_key);
    peer.ask(json!({"do": "ping", "peer": id})).await;
    let told = peer.ask(json!({"do": "identify", "peer": id})).await;
    assert_eq!(told["protocol_version"], "/fednode/1.0.0", "{told}");
    assert_eq!(told["agent"], concat!("fednode/", env!("CARGO_PKG_VERSION")), "{told}");
    assert!(
        [PING, DIRECT, GOODBYE]
            .iter()
            .all(|name| told["protocols"].as_array().unwrap().contains(&json!(name))),
        "{told}"
    );
    assert_eq!(told["addresses"], json!([node.spec().port.loopback()]), "{told}");

    let exchange = Exchange::start(node, id, peer).await;
    let second = reloads::play(node, &exchange).await;
    let (to, from) = exchange.finish().await;
    println!("  {to} messages to the peer and {from} from it, over {} reloads", node.audit().len() - 1);

    peer.ask(json!({"do": "ping", "peer": id})).await;
    let told = peer.ask(json!({"do": "identify", "peer": id})).await;
    let announced = |port: &Port| told["addresses"].as_array().unwrap().contains(&json!(port.loopback()));
    assert!(announced(&node.spec().port) && announced(&second), "what a reload added is announced: {told}");

    // What the peer hears is what runs.
    let outcome = node.reload_with(|conf| conf["protocol"]["max_message_size"] = json!("1KiB")).await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    let long = json!({"do": "send", "peer": id, "content_type": "text/plain", "text": "x".repeat(1025)});
    assert_eq!(peer.ask(long).await["status"], "too large");
    assert_eq!(node.connections().await, before);
    assert_eq!(peer.events("connected").len(), 1);
    assert_eq!(peer.events("disconnected"), Vec::<Value>::new());
}

pub(crate) async fn a_repeated_message_is_answered_and_not_delivered_again(program: &Program) {
    use futures::StreamExt as _;

    let node = spec("open", &[]).start().await;
    let (id, peer) = (peer_id(&node).await, Peer::start(program).await);
    peer.dial(&node, &id).await;
    let mut inbox = node.client().events("/v1/messages").await.expect("the inbox opens");
    let send = |text: &str| json!({"do": "send", "peer": id, "content_type": "text/plain", "text": text});
    assert_eq!(peer.ask(send("first")).await["status"], "accepted");
    assert_eq!(peer.ask(json!({"do": "repeat", "peer": id})).await["status"], "accepted");
    assert_eq!(peer.ask(send("second")).await["status"], "accepted");
    for text in ["first", "second"] {
        let event = inbox.next().await.expect("the inbox stays open");
        let event: Value = serde_json::from_str(&event).expect("an event is JSON");
        assert_eq!((&event["data"], &event["from"]), (&json!(text), &json!(peer.keys.public_key)));
    }
}

pub(crate) async fn members_are_admitted_and_strangers_refused(program: &Program) {
    let (member, stranger) = (Arc::new(Peer::start(program).await), Peer::start(program).await);
    let mut node = spec("members", &[member.entry(false)]).start().await;
    let id = peer_id(&node).await;

    let dialled = member.dial(&node, &id).await;
    assert_eq!(dialled["event"], "done", "{dialled}");
    let before = node.wait_for_connections(1).await;
    let exchange = Exchange::start(&node, &id, &member).await;

    // Its handshake is a good one, so that its dial may seem to succeed at first.
    stranger.dial(&node, &id).await;
    let denied = node.wait_for_log("peer_denied").await;
    assert!(denied.contains(&stranger.id) && denied.contains("not a member"), "{denied}");
    eventually("the stranger has no connection", async || {
        (stranger.events("connected").len() == stranger.events("disconnected").len()).then_some(())
    })
    .await;
    assert_eq!(node.connections().await, before);
    exchange.go_on().await;

    // Until it has heard a goodbye: on a busy machine it may be too slow for one.
    eventually("the stranger, let in and put out again, hears why", async || {
        comes_and_goes(&mut node, &id, &stranger, &before).await;
        exchange.go_on().await;
        stranger.events("goodbye").pop()
    })
    .await;
    assert!(stranger.events("goodbye").iter().all(|event| event["reason"] == "removed"));
    exchange.go_on().await;
    exchange.finish().await;
    assert_eq!(node.connections().await, before);
}

/// A member is added, dials in, and is removed; the connections that there were before stay.
async fn comes_and_goes(node: &mut Node, id: &str, peer: &Peer, before: &[(String, String)]) {
    node.edit_peers(|peers| peers.push(peer.entry(false)));
    let outcome = node.hangup().await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    let dialled = peer.dial(node, id).await;
    assert_eq!(dialled["event"], "done", "{dialled}");
    let with_it = node.wait_for_connections(before.len() + 1).await;
    assert!(before.iter().all(|connection| with_it.contains(connection)), "{with_it:?}");
    peer.ask(json!({"do": "ping", "peer": id})).await;

    let gone = peer.events("disconnected").len();
    node.edit_peers(|peers| peers.retain(|entry| entry["public_key"] != peer.keys.public_key.as_str()));
    let outcome = node.hangup().await;
    assert_eq!(outcome["connections"]["would_close"][0]["public_key"], peer.keys.public_key, "{outcome:#}");
    assert_eq!(outcome["connections"]["closed_by_reload"], 1, "{outcome:#}");
    assert_eq!(node.connections().await, before);
    peer.wait_for("disconnected", gone + 1).await;
}

pub(crate) async fn a_connection_breaks_and_no_message_is_lost(program: &Program) {
    let peer = Arc::new(Peer::start(program).await);
    let node = spec("members", &[peer.entry(true)]).start().await;
    let id = peer_id(&node).await;
    let mut before = node.wait_for_connections(1).await;
    let exchange = Exchange::start(&node, &id, &peer).await;
    for _ in 0..5 {
        peer.ask(json!({"do": "hang_up", "peer": id})).await;
        before = connected_anew(&node, &before).await;
        exchange.go_on().await;
    }
    exchange.finish().await;
}

/// Waits until there is another connection than those before.
async fn connected_anew(node: &Node, before: &[(String, String)]) -> Vec<(String, String)> {
    eventually("the peer is connected again", async || {
        let connections = node.connections().await;
        (connections.len() == 1 && connections != before).then_some(connections)
    })
    .await
}

pub(crate) async fn one_that_stands_still_is_noticed_and_comes_back(program: &Program) {
    let peer = Arc::new(Peer::start(program).await);
    let node = spec("members", &[peer.entry(true)]).start().await;
    let id = peer_id(&node).await;
    let before = node.wait_for_connections(1).await;
    Exchange::start(&node, &id, &peer).await.finish().await;

    peer.signal(Signal::STOP);
    node.wait_for_log("peer does not answer pings").await;
    node.wait_for_connections(0).await;
    peer.signal(Signal::CONT);
    connected_anew(&node, &before).await;
    Exchange::start(&node, &id, &peer).await.finish().await;
}

pub(crate) async fn a_stranger_that_dials_in_is_on_topics_that_come_and_go(program: &Program) {
    let mut spec = spec("open", &[]);
    spec.conf["protocol"]["topics"] = json!([{"name": "blocks"}]);
    let mut node = spec.start().await;
    let (id, peer) = (peer_id(&node).await, Arc::new(Peer::start(program).await));
    // Before there is a connection: what it is subscribed to is the first that it says.
    subscribe(&peer).await;
    let dialled = peer.dial(&node, &id).await;
    assert_eq!(dialled["event"], "done", "{dialled}");
    topics_come_and_go(&mut node, &id, &peer).await;
}

pub(crate) async fn a_member_that_is_dialled_is_on_topics_that_come_and_go(program: &Program) {
    let peer = Arc::new(Peer::start(program).await);
    let mut spec = spec("members", &[peer.entry(true)]);
    spec.conf["protocol"]["topics"] = json!([{"name": "blocks"}]);
    let mut node = spec.start().await;
    let id = peer_id(&node).await;
    node.wait_for_connections(1).await;
    peer.wait_for("connected", 1).await;
    subscribe(&peer).await;
    topics_come_and_go(&mut node, &id, &peer).await;
}

/// To more than the node is configured with.
async fn subscribe(peer: &Peer) {
    for topic in ["blocks", "votes"] {
        peer.ask(json!({"do": "subscribe", "topic": topic})).await;
    }
}

/// Messages both ways on one topic while a reload adds another, on both, and on the first while a reload removes the second: all on
/// one connection.
async fn topics_come_and_go(node: &mut Node, id: &str, peer: &Arc<Peer>) {
    let before = node.wait_for_connections(1).await;
    let mut blocks = Topic::open(node, id, peer, "blocks").await;
    blocks.round().await;

    let both = json!([{"name": "blocks"}, {"name": "votes"}]);
    let added = node.reload_with(|conf| conf["protocol"]["topics"] = both);
    let (outcome, ()) = tokio::join!(added, blocks.round());
    reloads::committed(&outcome);
    let mut votes = Topic::open(node, id, peer, "votes").await;
    tokio::join!(blocks.round(), votes.round());

    let removed = node.reload_with(|conf| conf["protocol"]["topics"] = json!([{"name": "blocks"}]));
    let (outcome, ()) = tokio::join!(removed, blocks.round());
    reloads::committed(&outcome);
    votes.ends().await;
    blocks.round().await;

    assert_eq!(node.connections().await, before);
    assert_eq!(peer.events("connected").len(), 1);
    assert_eq!(peer.events("disconnected"), Vec::<Value>::new());
}
