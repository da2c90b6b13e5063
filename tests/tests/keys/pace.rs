//! The keys of `peers` that the network goes by: how long a dial may take, and when the next one comes.

use std::net::TcpListener;

use fednode_tests::eventually;
use fednode_tests::stage::NOBODY;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::Key;
use crate::door::{Door, has_also, stands_still};
use crate::limits::is_served;
use crate::scene::{LIVE, Scene};

pub async fn connection_timeout(key: Key) {
    // The kernel accepts; nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().expect("it is bound").port());
    let mut scene = Scene::with(|specs| {
        specs[LIVE].conf["peers"]["connection_timeout"] = json!("1s");
        has_also(&mut specs[LIVE], &at);
    })
    .await;
    // Given up each time after the time of the moment: the member's own state says so.
    given_up(&scene, "no answer within 1s").await;
    scene.change(key, json!("1500ms")).await;
    given_up(&scene, "no answer within 1.5s").await;
    scene.change(key, json!("1s")).await;
    given_up(&scene, "no answer within 1s").await;

    // Whoever calls in has the same time, counted from where its handshake begins.
    hung_up(&mut scene.connect().await).await;
    scene.change(key, json!("10m")).await;
    let mut early = scene.connect().await;
    assert!(is_served(&mut early).await, "it has begun");
    scene.change(key, json!("1s")).await;
    hung_up(&mut scene.connect().await).await;
    let still = early.try_read(&mut [0]).expect_err("nothing more was said, and nobody hung up");
    assert_eq!(still.kind(), std::io::ErrorKind::WouldBlock);
    scene.finish().await;
}

pub async fn given_up(scene: &Scene, why: &str) {
    eventually(why, async || {
        let status = scene.live().status().await;
        let members = status["members"].as_array().expect("a list");
        let member = members.iter().find(|member| member["public_key"] == NOBODY).expect("it is listed");
        member["last_error"].as_str().is_some_and(|error| error.ends_with(why)).then_some(())
    })
    .await;
}

async fn hung_up(stream: &mut TcpStream) {
    let end = tokio::time::timeout(fednode_tests::wait::PATIENCE, stream.read(&mut [0])).await;
    let end = end.expect("the node's patience ends");
    assert!(end.is_err() || end.is_ok_and(|bytes| bytes == 0), "a node that is not spoken to says nothing");
}

pub async fn reconnect_min(key: Key) {
    let (mut scene, other) =
        beside_a_steady_one(json!({"reconnect_min": "50ms", "reconnect_max": "1h"})).await;
    scene.change(key, json!("1h")).await;
    // One dial, and a pause of a quarter of an hour.
    let door = Door::of(&mut scene, LIVE).await;
    door.opens(1).await;
    scene.change(key, json!("50ms")).await;
    door.opens(4).await;
    scene.change(key, json!("1h")).await;
    stands_still(&door, &other).await;
    scene.change(key, json!("50ms")).await;
    door.opens(door.count() + 1).await;
    scene.finish().await;
}

pub async fn reconnect_max(key: Key) {
    let (mut scene, other) = beside_a_steady_one(steady()).await;
    let door = Door::of(&mut scene, LIVE).await;
    // So often in vain that only the longest pause bounds the next: doubled twenty times, 50 ms are more than half a day.
    door.opens(22).await;
    for _ in 0..2 {
        scene.change(key, json!("1h")).await;
        stands_still(&door, &other).await;
        scene.change(key, json!("100ms")).await;
        door.opens(door.count() + 3).await;
    }
    scene.finish().await;
}

/// A dial each tenth of a second.
pub fn steady() -> Value {
    json!({"reconnect_min": "50ms", "reconnect_max": "100ms"})
}

/// The live node at this pace, and one that dials a door steadily.
pub async fn beside_a_steady_one(pace: Value) -> (Scene, Door) {
    let mut scene = Scene::with(|specs| {
        for (index, pace) in [(LIVE, pace), (0, steady())] {
            for (name, value) in pace.as_object().expect("a map") {
                specs[index].conf["peers"][name] = value.clone();
            }
        }
    })
    .await;
    let door = Door::of(&mut scene, 0).await;
    (scene, door)
}
