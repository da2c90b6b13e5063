//! `protocol.rate_limit`: what the live node takes of one peer, direct and on a topic, and what it publishes itself. Its own
//! direct messages flow meanwhile: they are limited where they arrive.

use fednode_tests::hum::HUM;
use fednode_tests::{Node, Spec, eventually};
use serde_json::json;

use crate::Key;
use crate::scene::{FROM_LIVE, LIVE, Scene};
use crate::topics::{Reader, publish, reaches};

const TOPIC: &str = "rates";
/// One message in a quarter of an hour: none while a test runs.
const NEXT_TO_NOTHING: f64 = 0.001;

/// The live node takes next to nothing beyond the burst. The hum of the others passes it by.
async fn scene(messages_per_second: f64, burst: u32) -> Scene {
    Scene::busy(FROM_LIVE, |specs: &mut [Spec]| {
        for (index, spec) in specs.iter_mut().enumerate() {
            let topics = if index == LIVE { &[TOPIC][..] } else { &[TOPIC, HUM] };
            spec.conf["protocol"]["topics"] = topics.iter().map(|name| json!({"name": name})).collect();
        }
        let conf = &mut specs[LIVE].conf;
        conf["protocol"]["rate_limit"] = json!({"messages_per_second": messages_per_second, "burst": burst});
        // The refusal of a topic's message is no error: it is told only to whoever asks.
        conf["logging"]["targets"] = json!({"net": "debug"});
    })
    .await
}

/// How many messages on topics were refused for their author's rate.
fn refused(node: &Node) -> usize {
    node.log().matches("more messages than protocol.rate_limit allows").count()
}

async fn send(from: &Node, to: &Node) -> u16 {
    from.send(to.key(), "one more").await.expect("it answers").status.as_u16()
}

pub async fn messages_per_second(key: Key) {
    let mut scene = scene(1000.0, 1).await;
    let reader = Reader::at(scene.live(), TOPIC).await;
    for round in 0..3 {
        let (live, other) = (scene.live(), &scene.nodes[2]);
        // At a thousand in a second, and one at once: sooner or later each is taken.
        for _ in 0..4 {
            eventually("a direct one", async || (send(other, live).await == 200).then_some(())).await;
            eventually("its own", async || (publish(live, TOPIC, "own").await == 200).then_some(())).await;
        }
        reaches(other, TOPIC, &format!("round {round}"), &reader).await;

        scene.change(key, json!(NEXT_TO_NOTHING)).await;
        let (live, other) = (scene.live(), &scene.nodes[2]);
        // One may have been saved up.
        let _ = send(other, live).await;
        assert_eq!(send(other, live).await, 429);
        let _ = publish(live, TOPIC, "own").await;
        assert_eq!(publish(live, TOPIC, "own").await, 429);
        let before = refused(live);
        eventually("one on the topic is refused", async || {
            assert_eq!(publish(other, TOPIC, "too many").await, 200, "its own node allows more");
            (refused(live) > before).then_some(())
        })
        .await;
        // Those who allow more hear all of it; here, one and what an uneven way may close up are heard at most.
        assert!(reader.heard(other, "too many") <= 2 * (round + 1));
        scene.change(key, json!(1000)).await;
    }
    scene.finish().await;
}

/// Nothing is earned while the test runs: what is taken of somebody new is the burst, and of others no more than it.
pub async fn burst(key: Key) {
    let mut scene = scene(NEXT_TO_NOTHING, 6).await;
    let (live, other) = (scene.live(), &scene.nodes[2]);
    let reader = Reader::at(live, TOPIC).await;
    assert_eq!(send(other, live).await, 200);
    assert_eq!(publish(live, TOPIC, "own").await, 200);
    // Of five that are left, two.
    scene.change(key, json!(2)).await;
    let (live, other) = (scene.live(), &scene.nodes[2]);
    for code in [200, 200, 429, 429] {
        assert_eq!(send(other, live).await, code);
        assert_eq!(publish(live, TOPIC, "own").await, code);
    }
    // One that an uneven way may close up besides.
    assert_eq!(heard_of_a_new_one(other, live, &reader).await, 2 + 1);

    scene.change(key, json!(4)).await;
    let (live, other) = (scene.live(), &scene.nodes[0]);
    for code in [200, 200, 200, 200, 429] {
        assert_eq!(send(other, live).await, code, "of somebody new");
    }
    assert_eq!(heard_of_a_new_one(other, live, &reader).await, 4 + 1);
    assert_eq!(send(&scene.nodes[2], live).await, 429, "room for more is not more that was saved up");
    scene.finish().await;
}

/// Publishes until some are refused; gives how many were not.
async fn heard_of_a_new_one(from: &Node, live: &Node, reader: &Reader) -> usize {
    let before = refused(live);
    eventually("two are refused", async || {
        assert_eq!(publish(from, TOPIC, "new").await, 200, "its own node allows more");
        (refused(live) > before + 1).then_some(())
    })
    .await;
    let mut heard = reader.heard(from, "new");
    // What was taken is on its way to the reader.
    eventually("the reader has them", async || {
        let now = reader.heard(from, "new");
        (std::mem::replace(&mut heard, now) == now && now > 1).then_some(now)
    })
    .await
}
