//! Topics, and how large a message may be.

use std::sync::{Arc, Mutex};

use fednode_tests::hum::HUM;
use fednode_tests::{Node, eventually};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::Key;
use crate::scene::{LIVE, Scene, TO_LIVE};

/// What comes on a topic at one node.
pub struct Reader {
    heard: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

// === impl Reader ===

impl Reader {
    pub async fn at(node: &Node, topic: &str) -> Self {
        let events = node.client().events(&format!("/v1/topics/{topic}/messages")).await;
        let mut events = Box::pin(events.expect("the topic is configured"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let event = serde_json::from_str(&event).expect("JSON");
                list.lock().expect("nobody panics with it").push(event);
            }
        });
        Self { heard, task }
    }

    /// How many messages of this author, with this text, have come.
    pub fn heard(&self, from: &Node, text: &str) -> usize {
        let heard = self.heard.lock().expect("nobody panics with it");
        heard.iter().filter(|event| event["from"] == from.key() && event["data"] == text).count()
    }

    /// Waits until the topic is taken away.
    async fn ends(self) {
        eventually("the reader's end", async || self.task.is_finished().then_some(())).await;
        let heard = self.heard.lock().expect("nobody panics with it");
        assert_eq!(heard.last().expect("an event")["reason"], "removed");
    }
}

/// Publishes; gives the answer's code.
pub async fn publish(node: &Node, topic: &str, text: &str) -> u16 {
    let path = format!("/v1/topics/{topic}/messages");
    let answer = node.client().post(&path, &[], text.as_bytes().to_vec()).await;
    answer.expect("the node answers").status.as_u16()
}

/// Publishes until the reader has heard it: the author may not know yet that anybody listens.
pub async fn reaches(from: &Node, topic: &str, text: &str, reader: &Reader) {
    eventually(&format!("{text:.20} on {topic}"), async || {
        assert_eq!(publish(from, topic, text).await, 200);
        (reader.heard(from, text) > 0).then_some(())
    })
    .await;
}

/// The topics of a node, beside the one that hums.
fn set(conf: &mut Value, names: &[&str]) {
    let names = [&[HUM], names].concat();
    conf["protocol"]["topics"] = names.iter().map(|name| json!({"name": name})).collect();
}

pub async fn topics(key: Key) {
    let mut scene = Scene::busy(TO_LIVE, |specs| set(&mut specs[2].conf, &["more"])).await;
    for round in 0..2 {
        assert_eq!(publish(scene.live(), "more", "x").await, 404);
        scene.change_at(LIVE, key, |conf| set(conf, &["more"])).await;
        let reader = works(&scene, "more", &format!("round {round}")).await;
        scene.change_at(LIVE, key, |conf| set(conf, &[])).await;
        reader.ends().await;
    }
    assert_eq!(publish(scene.live(), "more", "x").await, 404);
    scene.finish().await;
}

pub async fn topic_name(key: Key) {
    let mut scene = Scene::busy(TO_LIVE, |specs| {
        set(&mut specs[2].conf, &["one", "other"]);
        set(&mut specs[LIVE].conf, &["one"]);
    })
    .await;
    let mut reader = works(&scene, "one", "at first").await;
    for (name, before) in [("other", "one"), ("one", "other")] {
        scene.change_at(LIVE, key, |conf| set(conf, &[name])).await;
        reader.ends().await;
        assert_eq!(publish(scene.live(), before, "x").await, 404);
        reader = works(&scene, name, &format!("as {name}")).await;
    }
    scene.finish().await;
}

/// Messages go both ways between the live node and the third. Gives the live one's reader.
async fn works(scene: &Scene, topic: &str, text: &str) -> Reader {
    let (here, there) = (Reader::at(scene.live(), topic).await, Reader::at(&scene.nodes[2], topic).await);
    reaches(&scene.nodes[2], topic, text, &here).await;
    reaches(scene.live(), topic, text, &there).await;
    here
}

pub async fn max_message_size(key: Key) {
    let mut scene = Scene::busy(TO_LIVE, |specs| {
        specs[LIVE].conf["protocol"]["max_message_size"] = json!("1KiB");
        // The refusal of a topic's message is no error: it is told only to whoever asks.
        specs[LIVE].conf["logging"]["targets"] = json!({"net": "debug"});
    })
    .await;
    let (reader, other) = (Reader::at(scene.live(), HUM).await, Reader::at(&scene.nodes[2], HUM).await);
    reaches(&scene.nodes[2], HUM, "small", &reader).await;
    for (round, size) in [None, Some("4KiB"), Some("1KiB"), Some("4KiB")].into_iter().enumerate() {
        if let Some(size) = size {
            scene.change(key, json!(size)).await;
        }
        let (live, other_node) = (scene.live(), &scene.nodes[2]);
        let large = format!("{round}").repeat(3000);
        let is_taken = size == Some("4KiB");
        let code = if is_taken { 200 } else { 413 };
        for (from, to) in [(live, other_node), (other_node, live)] {
            let answer = from.send(to.key(), &large).await.expect("it answers");
            assert_eq!(answer.status.as_u16(), code, "round {round}: {answer:?}");
        }
        assert_eq!(publish(live, HUM, &large).await, code, "round {round}");
        let before = refused(live);
        assert_eq!(publish(other_node, HUM, &large).await, 200);
        if is_taken {
            eventually("both hear it", async || {
                (reader.heard(other_node, &large) == 1 && other.heard(live, &large) == 1).then_some(())
            })
            .await;
        } else {
            eventually("it is refused", async || (refused(live) > before).then_some(())).await;
            assert_eq!(reader.heard(other_node, &large), 0);
        }
    }
    scene.finish().await;
}

fn refused(node: &Node) -> usize {
    node.log().matches("a message larger than protocol.max_message_size").count()
}
