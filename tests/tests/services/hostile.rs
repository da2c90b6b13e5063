//! Peers that misuse streams of services: they cost themselves a stream, and nobody else anything.

use fednode_tests::{Intruder, Spec, eventually};
use net::Identity;
use net::services::wire::{PROTOCOL, head, hello};
use serde_json::json;

use crate::scene::*;

#[tokio::test]
async fn streams_that_say_nothing_too_much_or_nonsense_cost_only_themselves() {
    let target = echo().await;
    let member = Identity::generate();
    let mut specs = Spec::federation(2);
    let entry = json!({"public_key": member.public_key().to_string(), "addresses": []});
    specs[THERE].peers["peers"].as_array_mut().unwrap().push(entry);
    let port = specs[THERE].port.address();
    let scene = Scene::of(specs, target).await;
    let mut neighbour = dial(&scene.port).await;
    is_alive(&mut neighbour).await;

    let from = std::net::Ipv4Addr::new(127, 0, 0, 2).into();
    let name = PROTOCOL;
    let good = hello("it");
    for who in [&member, &Identity::generate()] {
        let is_member = who.public_key() == member.public_key();
        let mut peer = Intruder::connect(from, port, who).await.expect("all may come");
        // What is no name is a violation, and the end of the stream.
        for bytes in [&[0][..], &[1, b' '], &[200], &[3, b'a', b'\n', b'b']] {
            peer.speak(name.as_ref(), bytes).await.expect("the connection lives");
        }
        // A name that is never finished; and good ones, with data after the end, an endless chunk, and nothing at all.
        for bytes in
            [&[100, b'x'][..], &[&good[..], &head(0), b"more"].concat(), &[&good[..], &head(9)].concat()]
        {
            for _ in 0..if is_member { 30 } else { 3 } {
                peer.speak(name.as_ref(), bytes).await.expect("the connection lives");
            }
        }
        is_alive(&mut neighbour).await;
        is_alive(&mut dial(&scene.port).await).await;
        // It still speaks with the node: nothing but streams was lost.
        assert!(peer.hears().await);
        let last = peer.speak("/ipfs/ping/1.0.0", &[7; 32]).await.expect("the connection lives");
        peer.finish(last).await.expect("the connection lives");
    }
    scene.nodes[THERE].wait_for_log("a peer broke the rules of services").await;
    eventually("only the neighbour's stream is left", async || {
        let rows = services(&scene.nodes[THERE]).await;
        (rows["expose"][0]["open_streams"] == 1).then_some(())
    })
    .await;
    is_alive(&mut neighbour).await;
}
