//! Numbered messages on a topic that a node and a peer are subscribed to, both ways at once.

use std::sync::{Arc, Mutex, PoisonError};

use fednode::client::Client;
use fednode_tests::{Node, eventually};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::peer::Peer;

/// Messages of each side in one round: fewer than py-libp2p holds for a subscriber (32) before it drops one.
const ROUND: usize = 25;

/// Says nothing but that it comes through: the announcements of a topic, and a mesh, take a moment.
const WARM: &str = "warm";

const CONTENT_TYPE: &str = "text/plain";

/// A topic on which the two hear one another.
pub(crate) struct Topic {
    name: String,
    node: Client,
    node_id: String,
    peer: Arc<Peer>,
    /// What the node's subscriber has had.
    heard: Arc<Mutex<Vec<String>>>,
    subscriber: JoinHandle<()>,
    /// Messages of each side so far.
    said: usize,
}

// === impl Topic ===

impl Topic {
    /// Subscribes at the node, where the peer has subscribed for itself, and returns when each has heard the other.
    pub(crate) async fn open(node: &Node, node_id: &str, peer: &Arc<Peer>, name: &str) -> Self {
        let mut events = node.client().events(&path(name)).await.expect("the topic is configured");
        let (me, other) = (node.key().to_owned(), peer.keys.public_key.clone());
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let pushed = Arc::clone(&heard);
        let subscriber = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let event: Value = serde_json::from_str(&event).expect("an event is JSON");
                if event["event"] == "end" {
                    assert_eq!(event["reason"], "removed", "{event}");
                    break;
                }
                // A node hears itself.
                if event["from"] == me.as_str() {
                    continue;
                }
                assert_eq!((&event["from"], &event["content_type"]), (&json!(other), &json!(CONTENT_TYPE)));
                let text = event["data"].as_str().unwrap_or_else(|| panic!("no text: {event}")).to_owned();
                pushed.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        });
        let (name, node, node_id, peer) =
            (name.to_owned(), node.client(), node_id.to_owned(), Arc::clone(peer));
        let topic = Self { name, node, node_id, peer, heard, subscriber, said: 0 };
        eventually(&format!("the peer hears the node on {}", topic.name), async || {
            topic.node_says(WARM).await;
            (!topic.heard_by_peer().is_empty()).then_some(())
        })
        .await;
        eventually(&format!("the node hears the peer on {}", topic.name), async || {
            // js-libp2p fails if it knows of no subscriber.
            topic.peer.try_ask(topic.publication(WARM)).await;
            (!topic.heard_by_node().is_empty()).then_some(())
        })
        .await;
        topic
    }

    /// Both publish at the same time, and each has all that the other has ever published, once.
    pub(crate) async fn round(&mut self) {
        let numbers = self.said..self.said + ROUND;
        let node = async {
            for number in numbers.clone() {
                self.node_says(&number.to_string()).await;
            }
        };
        let peer = async {
            for number in numbers.clone() {
                self.peer.ask(self.publication(&number.to_string())).await;
            }
        };
        tokio::join!(node, peer);
        self.said += ROUND;
        self.all_is_heard("the peer", || self.heard_by_peer()).await;
        self.all_is_heard("the node", || self.heard_by_node()).await;
    }

    /// Returns when the node has ended its subscriber's stream, and the peer knows that the node is not subscribed any more.
    pub(crate) async fn ends(self) {
        self.subscriber.await.expect("the stream ends because the topic is removed");
        let question = json!({"do": "subscribers", "topic": self.name});
        eventually("the node is not subscribed any more", async || {
            let told = self.peer.ask(question.clone()).await;
            (told["peers"] == json!([])).then_some(())
        })
        .await;
    }

    async fn all_is_heard(&self, by: &str, heard: impl Fn() -> Vec<String>) {
        let numbers = || heard().into_iter().filter(|text| text != WARM).collect::<Vec<_>>();
        eventually(&format!("{by} has heard {} messages on {}", self.said, self.name), async || {
            assert!(!self.subscriber.is_finished(), "the node's subscriber ended");
            (numbers().len() >= self.said).then_some(())
        })
        .await;
        let mut numbers: Vec<usize> = numbers().iter().map(|text| text.parse().expect("a number")).collect();
        // Topics promise no order.
        numbers.sort_unstable();
        assert_eq!(numbers, (0..self.said).collect::<Vec<_>>(), "{by}: lost or repeated on {}", self.name);
    }

    async fn node_says(&self, text: &str) {
        let answer = self.node.post(&path(&self.name), &[("content-type", CONTENT_TYPE)], text.into()).await;
        let answer = answer.expect("the node answers");
        assert!(answer.status.is_success(), "{}", String::from_utf8_lossy(&answer.body));
    }

    fn publication(&self, text: &str) -> Value {
        json!({"do": "publish", "topic": self.name, "content_type": CONTENT_TYPE, "text": text})
    }

    fn heard_by_node(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn heard_by_peer(&self) -> Vec<String> {
        let mut events = self.peer.events("heard");
        events.retain(|event| event["topic"] == self.name.as_str());
        let text = |event: &Value| {
            assert_eq!(
                (&event["from"], &event["content_type"]),
                (&json!(self.node_id), &json!(CONTENT_TYPE))
            );
            event["text"].as_str().expect("a text").to_owned()
        };
        events.iter().map(text).collect()
    }
}

fn path(topic: &str) -> String {
    format!("/v1/topics/{topic}/messages")
}
