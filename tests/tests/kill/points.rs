//! Killed at each fault point.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Mutex, PoisonError};

use fednode::faults;
use fednode_tests::ground::{Ground, Kept};
use fednode_tests::scene::{Scene, act, scene};
use fednode_tests::{Side, Stage, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{STAND_STILL, Texts, patient};

/// Nodes side by side.
const LANES: usize = 4;

#[tokio::test]
async fn a_node_that_is_killed_at_any_point_finds_one_whole_generation() {
    let only = std::env::var("POINT").ok();
    let chosen = faults::all().into_iter().map(|(point, _)| point);
    let queue: VecDeque<_> =
        chosen.filter(|point| only.as_ref().is_none_or(|only| point.starts_with(only.as_str()))).collect();
    let queue = Mutex::new(queue);
    let lane = || async {
        // One folder for many kills, so that what one leaves meets the next.
        let mut stage = patient().await;
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(point) = next else { return };
            let scene = scene(&point);
            stage.doing = format!("killed at {point} ({scene:?})");
            if matches!(scene, Scene::NewKey | Scene::NewKeyFile) {
                killed_with_a_new_key(&point, scene).await;
            } else {
                killed_at(&mut stage, &point, scene).await;
            }
        }
    };
    futures::future::join_all((0..LANES).map(|_| lane())).await;
}

async fn killed_at(stage: &mut Stage, point: &str, scene: Scene) {
    stage.arms.clear();
    // A change opens what the way back closes.
    let from = if matches!(scene, Scene::Back | Scene::Rollback) { Side::New } else { Side::Old };
    if stage.side != from {
        stage.change_well(from).await;
    }
    let before = Texts::of(stage);
    stand_still_at(stage, point, scene).await;
    let meanwhile = Texts::of(stage);
    stage.kill().await;
    let what = stage.doing.clone();
    let after_kill = Ground::read(&stage.data_dir(), &what);
    stage.arms.clear();
    let is_move = matches!(scene, Scene::Move | Scene::MoveFails);
    // The file names the other folder, and so does the start, whether or not the node had come there.
    stage.moved ^= is_move;
    stage.start().await;
    let status = stage.settled().await;
    stage.side = if status["worker_threads"] == 2 { Side::New } else { Side::Old };
    let ground = stage.assert_ground().await;
    let number = ground.newest().expect("there is one");
    let kept = &ground.generations[&number];
    let text_of = |kept: &Kept| {
        Texts { conf: kept.conf.clone(), peers: kept.peers.clone().unwrap_or_default() }.without_padding()
    };
    let runs = text_of(kept);
    // A rollback goes back to one of these.
    let whole = [&before, &meanwhile].iter().any(|texts| **texts == runs)
        || after_kill.generations.values().any(|old| text_of(old) == runs);
    assert!(whole, "{what}: generation {number} is none that there was");
    assert_eq!(Texts::of(stage), runs, "{what}: the files say what runs");
    let last = after_kill.newest().unwrap_or(0);
    assert!(number <= last + 1, "{what}: a gap before {number}");
    assert!(number >= last, "{what}: {number} was given twice");
    assert!(
        !stage.data_dir().join("moved.json").exists(),
        "{what}: the folder that counts is noted to be a copy"
    );
    if matches!(scene, Scene::Order | Scene::OrderFails) {
        let _ = stage.take_back().await;
    }
    stage.assert_in_force().await;
}

/// The node comes to the point, and waits there.
async fn stand_still_at(stage: &mut Stage, point: &str, scene: Scene) {
    let hit = stage.arms.folder().join(format!("{point}.hit"));
    let what = stage.doing.clone();
    let is_hit = eventually(&what, async || hit.exists().then_some(()));
    match scene {
        Scene::Start | Scene::AuditFull => {
            assert_eq!(stage.stop().await, 0, "{what}");
            let other = stage.side.other();
            stage.write(other);
            if scene == Scene::AuditFull {
                stage.fill_audit();
                stage.start().await;
                stage.side = other;
                stage.arms.arm(point, STAND_STILL);
                stage.write(other.other());
                stage.node().signal(Signal::HUP);
            } else {
                stage.arms.arm(point, STAND_STILL);
                stage.spawn();
            }
            is_hit.await;
        }
        Scene::Stop => {
            // What is known is written where it says something new.
            let _ = fs::remove_file(stage.data_dir().join("known.yaml"));
            stage.arms.arm(point, STAND_STILL);
            stage.node().signal(Signal::TERM);
            is_hit.await;
        }
        _ => {
            tokio::select! {
                // A point after the answer may be reached a little later.
                () = async { let _ = act(stage, point, scene, STAND_STILL).await; std::future::pending().await } => {}
                () = is_hit => {}
            }
        }
    }
}

/// Killed while it makes its key, the node has the key that its file holds, or makes another; it never loses one that was told.
async fn killed_with_a_new_key(point: &str, scene: Scene) {
    let mut stage = Stage::new();
    stage.doing = format!("killed at {point} ({scene:?})");
    let what = stage.doing.clone();
    let key = stage.data_dir().with_file_name("node.key");
    fs::remove_file(&key).expect("it was there");
    let in_file = scene == Scene::NewKeyFile;
    stage.edit(|conf| {
        conf["node"] = if in_file { json!({"key_file": "node.key"}) } else { json!({"private_key": ""}) };
    });
    stage.arms.arm(point, STAND_STILL);
    stage.spawn();
    eventually(&what, async || stage.arms.was_hit(point).then_some(())).await;
    stage.kill().await;
    let (conf, _) = stage.files();
    let written = fs::read(&key).ok();
    stage.start().await;
    stage.assert_clean();
    let said: Value = serde_json::from_slice(&conf).expect("it is JSON");
    if written.is_some() || said["node"]["private_key"].as_str().is_some_and(|key| !key.is_empty()) {
        assert_eq!(stage.files().0, conf, "{what}: a key that was kept is the key");
    }
    if written.is_some() {
        assert_eq!(fs::read(&key).ok(), written, "{what}: a key that was kept is the key");
    }
    assert_eq!(stage.status().await["generation"], 1, "{what}");
}
