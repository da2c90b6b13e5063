//! What `peers.yaml` says of a member, and which file that is.

use std::fs;
use std::net::TcpListener;

use fednode_tests::process::yaml;
use fednode_tests::stage::NOBODY;
use fednode_tests::{Node, Spec, eventually};
use serde_json::{Value, json};

use crate::Key;
use crate::door::{Door, has_also, stands_still};
use crate::network::denied;
use crate::pace::{given_up, steady};
use crate::scene::{LIVE, Scene};

/// The live node dials in vain at this pace.
fn hurried(specs: &mut [Spec], index: usize) {
    for (name, value) in steady().as_object().expect("a map") {
        specs[index].conf["peers"][name] = value.clone();
    }
}

fn nobody(peers: &mut [Value]) -> &mut Value {
    peers.iter_mut().find(|peer| peer["public_key"] == NOBODY).expect("it is there")
}

pub async fn file(key: Key) {
    let mut scene = Scene::with(|specs| hurried(specs, LIVE)).await;
    let folder = scene.live().spec().folder().to_owned();
    let (here, there) = (Door::new(), Door::new());
    let with = |scene: &Scene, door: &Door| {
        let mut peers = scene.live().spec().peers.clone();
        let entry = json!({"public_key": NOBODY, "addresses": [door.port.loopback()]});
        peers["peers"].as_array_mut().expect("a list").push(entry);
        peers
    };
    // The same members, in another file.
    fs::write(folder.join("other.yaml"), yaml(&scene.live().spec().peers)).expect("it can be written");
    scene.change(key, json!("other.yaml")).await;
    let plain = scene.live().spec().peers.clone();
    scene.nodes[LIVE].spec_mut().peers = with(&scene, &here);
    scene.live().spec().write();
    assert_eq!(scene.live().hangup().await["outcome"], "unchanged", "it is not the file any more");
    scene.nodes[LIVE].spec_mut().peers = plain;
    fs::write(folder.join("other.yaml"), yaml(&with(&scene, &there))).expect("it can be written");
    assert_eq!(scene.live().hangup().await["outcome"], "committed");
    there.opens(2).await;
    assert_eq!(here.count(), 0);

    // And back.
    scene.nodes[LIVE].spec_mut().peers = with(&scene, &there);
    scene.change(key, json!("peers.yaml")).await;
    there.opens(there.count() + 2).await;
    fs::remove_file(folder.join("other.yaml")).expect("it is there");
    assert_eq!(scene.live().hangup().await["outcome"], "unchanged", "nobody needs it");
    let at = here.port.loopback();
    scene.nodes[LIVE].edit_peers(|peers| nobody(peers)["addresses"] = json!([at]));
    assert_eq!(scene.live().hangup().await["outcome"], "committed");
    here.opens(2).await;
    scene.finish().await;
}

/// Somebody who is let in because the file names it, and not any more when it does not.
pub async fn entry(key: Key) {
    let mut scene = Scene::with(|specs| specs[LIVE].conf["network"]["membership"] = json!("members")).await;
    let mut newcomer = Spec::new();
    hurried(std::slice::from_mut(&mut newcomer), 0);
    newcomer.peers = json!({"peers": [scene.live().spec().entry()]});
    let newcomer = newcomer.start().await;
    let entry = json!({"public_key": newcomer.key(), "addresses": []});
    denied(scene.live(), &["not a member"]).await;
    for round in 0..2 {
        let outcome = scene.change_peers(key, |peers| peers.push(entry.clone())).await;
        assert_eq!(told(&outcome), ["peer_store", "network"]);
        let connections = scene.live().wait_for_connections(3).await;
        let (id, _) = connections.iter().find(|(_, key)| key == newcomer.key()).expect("it is connected");
        eventually("a message of it is taken", async || {
            let answer = newcomer.send(scene.live().key(), "a member's").await.ok()?;
            (answer.status.as_u16() == 200).then_some(())
        })
        .await;
        let outcome = scene.change_peers(key, |peers| peers.retain(|peer| *peer != entry)).await;
        let closed = outcome["connections"]["would_close"].as_array().expect("a list");
        assert_eq!((closed.len(), &closed[0]["id"]), (1, &json!(id)), "round {round}: {outcome:#}");
        newcomer.wait_for_connections(0).await;
    }
    scene.finish().await;
}

fn told(outcome: &Value) -> Vec<&str> {
    let components = outcome["components"].as_array().expect("a list");
    components.iter().map(|component| component["name"].as_str().expect("a name")).collect()
}

pub async fn addresses_of_one(key: Key) {
    let (one, other) = (Door::new(), Door::new());
    let mut scene = Scene::with(|specs| {
        hurried(specs, LIVE);
        has_also(&mut specs[LIVE], &one.port.loopback());
    })
    .await;
    one.opens(2).await;
    for (at, before) in [(&other, &one), (&one, &other), (&other, &one)] {
        let address = at.port.loopback();
        scene.change_peers(key, |peers| nobody(peers)["addresses"] = json!([address])).await;
        at.opens(at.count() + 2).await;
        stands_still(before, at).await;
    }
    let both = json!([one.port.loopback(), other.port.loopback()]);
    scene.change_peers(key, |peers| nobody(peers)["addresses"] = both).await;
    one.opens(one.count() + 2).await;
    other.opens(other.count() + 2).await;
    scene.finish().await;
}

/// What people read.
pub async fn name(key: Key) {
    let mut scene = Scene::start().await;
    for name in [Some("ACME"), Some("ACME & Sons"), None] {
        scene
            .change_peers(key, |peers| {
                let other = peers[0].as_object_mut().expect("a map");
                match name {
                    Some(name) => other.insert("name".to_owned(), json!(name)),
                    None => other.remove("name"),
                };
            })
            .await;
        let (live, other) = (scene.live(), scene.nodes[0].key());
        assert_eq!(member(live, other).await["name"], json!(name));
        let listed = live.spec().cli(&["peers"]);
        let text = String::from_utf8(listed.stdout).expect("a text");
        assert!(text.contains(name.unwrap_or(other)) && text.contains("ACME") == name.is_some(), "{text}");
    }
    scene.finish().await;
}

async fn member(node: &Node, key: &str) -> Value {
    let status = node.status().await;
    let members = status["members"].as_array().expect("a list");
    members.iter().find(|member| member["public_key"] == key).expect("it is a member").clone()
}

/// Where everybody else has ten minutes.
pub async fn connection_timeout_of_one(key: Key) {
    // The kernel accepts; nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().expect("it is bound").port());
    let mut scene = Scene::with(|specs| {
        hurried(specs, LIVE);
        specs[LIVE].conf["peers"]["connection_timeout"] = json!("10m");
        has_also(&mut specs[LIVE], &at);
        nobody(specs[LIVE].peers["peers"].as_array_mut().expect("a list"))["connection_timeout"] =
            json!("1s");
    })
    .await;
    given_up(&scene, "no answer within 1s").await;
    for (timeout, told) in [("1500ms", "1.5s"), ("1s", "1s")] {
        scene.change_peers(key, |peers| nobody(peers)["connection_timeout"] = json!(timeout)).await;
        given_up(&scene, &format!("no answer within {told}")).await;
    }
    scene.finish().await;
}

pub async fn max_retries(key: Key) {
    let (door, steady) = (Door::new(), Door::new());
    let mut scene = Scene::with(|specs| {
        // Beside it, a node that dials a tenth of a second after each failure.
        hurried(specs, 0);
        has_also(&mut specs[0], &steady.port.loopback());
        specs[LIVE].conf["peers"]["reconnect_min"] = json!("50ms");
        specs[LIVE].conf["peers"]["reconnect_max"] = json!("1h");
        has_also(&mut specs[LIVE], &door.port.loopback());
        nobody(specs[LIVE].peers["peers"].as_array_mut().expect("a list"))["max_retries"] = json!(0);
    })
    .await;
    // One in vain, then an hour's pause.
    door.opens(1).await;
    stands_still_at(1, &door, &steady).await;
    // Each time so many may fail, and one more makes it tired again. Whoever has been tired is tried at once.
    for (retries, dials) in [(3, 4), (5, 6)] {
        scene.change_peers(key, |peers| nobody(peers)["max_retries"] = json!(retries)).await;
        door.opens(dials).await;
        stands_still_at(dials, &door, &steady).await;
    }
    scene.change_peers(key, |peers| nobody(peers)["max_retries"] = json!(1)).await;
    stands_still_at(6, &door, &steady).await;
    // Without it, nobody gets tired.
    scene
        .change_peers(key, |peers| {
            nobody(peers).as_object_mut().expect("a map").remove("max_retries");
        })
        .await;
    door.opens(8).await;
    scene.finish().await;
}

async fn stands_still_at(count: u64, door: &Door, steady: &Door) {
    steady.opens(steady.count() + 6).await;
    assert_eq!(door.count(), count, "dials, where the pauses are an hour");
}
