//! Numbered messages that flow between a node and a peer, both ways at once, while something else happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fednode_tests::{Node, eventually};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::peer::Peer;

/// The two streams of messages.
pub(crate) struct Exchange {
    peer: Arc<Peer>,
    /// What the peer had been sent before.
    before: usize,
    stop: Arc<AtomicBool>,
    /// So many of the node's messages the peer has acknowledged.
    acknowledged: Arc<AtomicU64>,
    to_peer: JoinHandle<()>,
    /// So many of the peer's messages the node's inbox has given out.
    arrived: Arc<AtomicU64>,
    from_peer: JoinHandle<Value>,
    inbox: JoinHandle<()>,
}

impl Exchange {
    /// Starts, and returns when messages have arrived at both ends.
    pub(crate) async fn start(node: &Node, node_id: &str, peer: &Arc<Peer>) -> Self {
        let (stop, acknowledged, arrived) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let mut events = node.client().events("/v1/messages").await.expect("the inbox opens");
        let (key, count) = (peer.keys.public_key.clone(), Arc::clone(&arrived));
        let inbox = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let event: Value = serde_json::from_str(&event).expect("an event is JSON");
                if event["from"] == key.as_str() {
                    // One that is lost, repeated or reordered is not the next one.
                    let next = count.load(Ordering::SeqCst).to_string();
                    assert_eq!(
                        (&event["data"], &event["content_type"]),
                        (&json!(next), &json!("text/plain"))
                    );
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let to_peer = tokio::spawn(send(
            node.client(),
            peer.keys.public_key.clone(),
            Arc::clone(&acknowledged),
            Arc::clone(&stop),
        ));
        let (before, streaming, to) = (peer.events("received").len(), Arc::clone(peer), node_id.to_owned());
        let from_peer = tokio::spawn(async move { streaming.ask(json!({"do": "stream", "peer": to})).await });
        let peer = Arc::clone(peer);
        let exchange = Self { peer, before, stop, acknowledged, to_peer, arrived, from_peer, inbox };
        exchange.go_on().await;
        exchange
    }

    /// Waits until more have arrived at both ends, so that what happened before lies between messages.
    pub(crate) async fn go_on(&self) {
        let counts = || [&self.acknowledged, &self.arrived].map(|count| count.load(Ordering::SeqCst));
        let start = counts();
        eventually("messages go on both ways", async || {
            assert!(!self.to_peer.is_finished() && !self.inbox.is_finished(), "a stream of messages ended");
            assert!(!self.from_peer.is_finished(), "the peer's stream of messages ended");
            counts().iter().zip(start).all(|(now, then)| *now > then + 3).then_some(())
        })
        .await;
    }

    /// Ends both streams; returns how many messages there were to the peer, and from it.
    pub(crate) async fn finish(self) -> (u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        self.to_peer.await.expect("every message of the node is acknowledged");
        let sent = self.acknowledged.load(Ordering::SeqCst);
        self.peer.wait_for("received", self.before + usize::try_from(sent).expect("it fits")).await;
        for (number, event) in self.peer.events("received").iter().skip(self.before).enumerate() {
            let expected = (&json!(number.to_string()), &json!("text/plain"));
            assert_eq!((&event["text"], &event["content_type"]), expected, "lost, repeated or reordered");
        }
        assert_eq!(self.peer.events("received").len() - self.before, usize::try_from(sent).expect("it fits"));

        self.peer.ask(json!({"do": "stop"})).await;
        let told = self.from_peer.await.expect("the peer's stream ends");
        let streamed = told["sent"].as_u64().expect("a number");
        assert_eq!(told["statuses"], json!({"accepted": streamed}), "every message of the peer is accepted");
        eventually("the peer's messages arrive", async || {
            assert!(!self.inbox.is_finished(), "the node's inbox ended: lost, repeated or reordered");
            (self.arrived.load(Ordering::SeqCst) == streamed).then_some(())
        })
        .await;
        self.inbox.abort();
        (sent, streamed)
    }
}

async fn send(client: fednode::client::Client, to: String, sent: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let path = format!("/v1/peers/{}/messages", to.replace('+', "-").replace('/', "_"));
    while !stop.load(Ordering::SeqCst) {
        let text = sent.load(Ordering::SeqCst).to_string().into_bytes();
        let answer =
            client.post(&path, &[("content-type", "text/plain")], text).await.expect("the node answers");
        let body = String::from_utf8_lossy(&answer.body);
        if body.contains("the peer is not connected") {
            // It says that it has not sent it.
            tokio::task::yield_now().await;
            continue;
        }
        assert!(answer.status.is_success(), "{body}");
        sent.fetch_add(1, Ordering::SeqCst);
    }
}
