//! The section `network` without its limits: where the node listens, what it announces, whom it lets in.

use fednode_tests::{Node, Port, Stranger, eventually};
use serde_json::json;

use crate::Key;
use crate::scene::{LIVE, Scene};

pub async fn addresses(key: Key) {
    let mut scene = Scene::start().await;
    let (second, third) = (Port::free(), Port::free());
    let first = scene.address();
    let stranger = Stranger::new();
    let call = scene.call(&stranger, &first).await.expect("it listens");

    scene.change(key, json!([first, second.loopback()])).await;
    assert_eq!(scene.live().status().await["listeners"], json!([first, second.loopback()]));
    assert!(scene.lets_in(&first).await, "the old one is served");
    assert!(scene.lets_in(&second.loopback()).await, "the new one is served");
    // Who is connected learns of it.
    announces(&stranger, call, &second.loopback(), true).await;

    // Then it is nowhere where any connection was made.
    scene.change(key, json!([third.loopback()])).await;
    assert!(
        !second.accepts() && !scene.live().spec().port.accepts(),
        "when it is over, the old ports refuse"
    );
    assert!(scene.lets_in(&third.loopback()).await, "the new one is served");
    announces(&stranger, call, &third.loopback(), true).await;
    announces(&stranger, call, &second.loopback(), false).await;

    scene.change(key, json!([first])).await;
    assert!(!third.accepts());
    assert!(scene.lets_in(&first).await, "it is served again");

    // Wider and narrower on one port: another loopback address is served by the wildcard alone.
    let elsewhere = first.replace("127.0.0.1", "127.0.0.2");
    for _ in 0..2 {
        scene.change(key, json!([scene.live().spec().port.wildcard()])).await;
        assert!(scene.lets_in(&elsewhere).await, "the wildcard is served");
        scene.change(key, json!([first])).await;
        assert!(!scene.lets_in(&elsewhere).await);
        assert!(scene.lets_in(&first).await, "it is served");
    }
    assert!(stranger.holds(call));
    scene.finish().await;
}

pub async fn external_addresses(key: Key) {
    let (one, two) = ("/dns4/one.example/tcp/9000", "/dns4/two.example/tcp/9000");
    let mut scene = Scene::with(|specs| {
        specs[LIVE].conf["network"]["external_addresses"] = json!([one]);
    })
    .await;
    let early = Stranger::new();
    let call = scene.call(&early, &scene.address()).await.expect("it listens");
    for (value, told) in [
        (json!([one, two]), [true, true]),
        (json!([two]), [false, true]),
        (json!([]), [false, false]),
        (json!([one]), [true, false]),
    ] {
        scene.change(key, value).await;
        let newest = Stranger::new();
        let new = scene.call(&newest, &scene.address()).await.expect("it listens");
        for (address, is_told) in [one, two].into_iter().zip(told) {
            announces(&early, call, address, is_told).await;
            announces(&newest, new, address, is_told).await;
        }
        scene.guests.push(newest);
    }
    scene.finish().await;
}

/// Waits until the node announces this address to this peer, or does so no more.
async fn announces(stranger: &Stranger, call: fednode_tests::stranger::Call, address: &str, so: bool) {
    let what = format!("{address} is announced: {so}");
    eventually(&what, async || {
        assert!(stranger.holds(call));
        (stranger.announced(call).iter().any(|told| told == address) == so).then_some(())
    })
    .await;
}

pub async fn membership(key: Key) {
    let mut scene = Scene::start().await;
    let stranger = Stranger::new();
    let mut call = scene.call(&stranger, &scene.address()).await.expect("everybody may connect");
    for _ in 0..2 {
        let id = id_of(scene.live(), &stranger).await;
        let outcome = scene.change(key, json!("members")).await;
        let closing = outcome["connections"]["would_close"].as_array().expect("a list");
        assert_eq!((closing.len(), &closing[0]["id"]), (1, &json!(id)), "{outcome:#}");
        eventually("the stranger is hung up on", async || (!stranger.holds(call)).then_some(())).await;
        assert_eq!(scene.call(&stranger, &scene.address()).await, None);
        denied(scene.live(), &["not a member", &stranger.peer_id.to_string()]).await;

        let outcome = scene.change(key, json!("open")).await;
        assert_eq!(outcome["connections"]["would_close"], json!([]));
        call = scene.call(&stranger, &scene.address()).await.expect("everybody may connect again");
    }
    scene.finish().await;
}

async fn id_of(node: &Node, stranger: &Stranger) -> String {
    let peer_id = stranger.peer_id.to_string();
    let status = node.status().await;
    let connections = status["connections"].as_array().expect("a list");
    let own = connections.iter().find(|connection| connection["peer_id"] == peer_id.as_str());
    own.and_then(|own| own["id"].as_str()).expect("it is connected").to_owned()
}

/// Waits for the event of a refusal with these words.
pub async fn denied(node: &Node, words: &[&str]) {
    eventually(&format!("a refusal with {words:?}"), async || {
        let log = node.log();
        let mut events = log.lines().filter(|line| line.contains("\"peer_denied\""));
        events.any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    })
    .await;
}
