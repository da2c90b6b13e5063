//! The section `node`.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use fednode_tests::ground::Ground;
use fednode_tests::{Keys, Node, Stranger, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::Key;
use crate::scene::{LIVE, Scene};

/// As the threads that drive connections are called.
const WORKER: &str = "fednode-conn";

pub async fn private_key(key: Key) {
    let mut scene = Scene::start().await;
    let other = Keys::generate();
    let error = scene.refused(key, |conf| conf["node"]["private_key"] = json!(other.private_key)).await;
    assert_another_identity(&error, &other);
    // Without one it would be somebody new, too.
    let error = scene.refused(key, |conf| conf["node"]["private_key"] = json!("")).await;
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains("the node runs with one"), "{error}");
    scene.finish().await;
}

fn assert_another_identity(error: &Value, other: &Keys) {
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains("another key") && message.contains("restart"), "{error}");
    assert!(!error.to_string().contains(&other.private_key), "a refusal does not give the key away");
}

pub async fn key_file(key: Key) {
    let mut scene = Scene::start().await;
    let (folder, own) = (scene.live().spec().folder().to_owned(), scene.live().spec().keys.clone());
    write_key(&folder.join("node.key"), &own);
    write_key(&folder.join("moved.key"), &own);
    // Out of `conf.yaml`, elsewhere, and back again.
    for node in [
        json!({"key_file": "node.key"}),
        json!({"key_file": "moved.key"}),
        json!({"private_key": own.private_key}),
        json!({"key_file": "node.key"}),
    ] {
        scene.change_at(LIVE, key, |conf| conf["node"] = node).await;
        assert_eq!(scene.live().status().await["public_key"], own.public_key);
    }
    // The content is the identity, whatever the file is called.
    let other = Keys::generate();
    write_key(&folder.join("node.key"), &other);
    assert_another_identity(&scene.refusal(key).await, &other);
    write_key(&folder.join("node.key"), &own);
    write_key(&folder.join("other.key"), &other);
    let error = scene.refused(key, |conf| conf["node"]["key_file"] = json!("other.key")).await;
    assert_another_identity(&error, &other);
    // What was put into force is what the next start finds.
    let live = scene.finish().await.remove(LIVE);
    let generation = live.status().await["generation"].clone();
    let (_, spec) = live.stop().await;
    let status = spec.start().await.status().await;
    assert_eq!((&status["public_key"], &status["generation"]), (&json!(own.public_key), &generation));
}

fn write_key(path: &Path, keys: &Keys) {
    let mut file = fs::File::options();
    let file = file.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, keys.private_key.as_bytes()));
    written.expect("the folder can be written");
}

/// There, back again, and into a folder that others use as well.
pub async fn data_dir(key: Key) {
    let mut scene = Scene::start().await;
    let folder = scene.live().spec().folder().to_owned();
    let pid = scene.live().pid().as_raw_nonzero().to_string();
    fs::create_dir(folder.join("shared")).expect("a folder can be made");
    fs::write(folder.join("shared/notes.txt"), "somebody's").expect("a file can be written");
    let mut from = folder.join("data");
    for (generation, name) in (2..).zip(["elsewhere", "third", "data", "shared", "elsewhere"]) {
        let to = folder.join(name);
        let outcome = scene.change(key, json!(name)).await;
        assert_eq!((&outcome["config_generation"], &outcome["durable"]), (&json!(generation), &json!(true)));
        let components: Vec<_> = outcome["components"].as_array().expect("a list").iter().collect();
        let told: Vec<_> = components.iter().map(|component| component["name"].as_str()).collect();
        assert_eq!(told, [Some("history"), Some("admin")], "{outcome:#}");
        // What there was is there, and what comes is written there and nowhere else.
        let ground = Ground::read(&to, name);
        ground.assert_unbroken(name);
        assert_eq!(
            ground.generations.keys().copied().collect::<Vec<_>>(),
            (1..=generation).collect::<Vec<_>>()
        );
        let left = Ground::read(&from, name);
        assert_eq!(left.newest(), Some(generation - 1), "what the old folder held stays");
        assert_eq!(ground.audit.len(), left.audit.len() + 1);
        // Nobody holds the old one any more, and nobody is served there.
        assert!(!from.join("fednode.pid").exists() && !from.join("admin.sock").exists());
        assert!(is_free(&from) && !is_free(&to), "{name}");
        let written = fs::read_to_string(to.join("fednode.pid")).expect("there is a pid");
        assert_eq!(written.trim(), pid);
        let mode = fs::metadata(&to).expect("it is there").permissions().mode();
        assert!(name == "shared" || mode & 0o777 == 0o700, "{mode:o}");
        from = to;
    }
    assert_eq!(fs::read_to_string(folder.join("shared/notes.txt")).expect("it is there"), "somebody's");
    // The next start finds it by itself.
    let live = scene.finish().await.remove(LIVE);
    let (_, spec) = live.stop().await;
    assert_eq!(spec.start().await.status().await["generation"], 6);
}

/// Whether a node could have this data folder.
fn is_free(folder: &Path) -> bool {
    let lock = fs::File::open(folder.join("fednode.lock")).expect("there is a lock");
    lock.try_lock().is_ok()
}

pub async fn worker_threads(key: Key) {
    let mut scene = Scene::with(|specs| specs[LIVE].conf["node"]["worker_threads"] = json!(2)).await;
    threads_are(scene.live(), 2).await;
    // The members' connections stay where they are: two threads besides those for new ones.
    scene.change(key, json!(5)).await;
    threads_are(scene.live(), 2 + 5).await;
    let stranger = Stranger::new();
    let call = scene.call(&stranger, &scene.address()).await.expect("somebody new is served");
    scene.change(key, json!(1)).await;
    threads_are(scene.live(), 2 + 5 + 1).await;
    assert!(stranger.holds(call));
    drop(stranger);
    scene.live().wait_for_connections(2).await;
    // The five end with their last connection.
    threads_are(scene.live(), 2 + 1).await;
    // The number that comes back finds the threads that are still there.
    scene.change(key, json!(2)).await;
    threads_are(scene.live(), 2).await;
    let at = scene.address();
    assert!(scene.lets_in(&at).await, "somebody new is served");
    scene.finish().await;
}

/// Waits until the kernel knows of exactly so many threads for connections.
async fn threads_are(node: &Node, count: usize) {
    let tasks = format!("/proc/{}/task", node.pid().as_raw_nonzero());
    eventually(&format!("{count} threads"), async || {
        let threads = fs::read_dir(&tasks).expect("the node runs").filter_map(Result::ok);
        // One that is gone since it was listed has no name.
        let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
        (names.filter(|name| name.trim() == WORKER).count() == count).then_some(())
    })
    .await;
}

/// The first and the second node change places: an hour's patience becomes a second's, and a second's an hour's. Then both stop
/// with a message on the way that is not answered.
pub async fn shutdown_timeout(key: Key) {
    let mut scene = Scene::with(|specs| {
        specs[0].conf["node"]["shutdown_timeout"] = json!("1h");
        specs[LIVE].conf["node"]["shutdown_timeout"] = json!("1s");
    })
    .await;
    for (node, timeout) in [(LIVE, "1h"), (0, "1s"), (0, "1h"), (LIVE, "1s"), (LIVE, "1h"), (0, "1s")] {
        let edit = |conf: &mut Value| conf["node"]["shutdown_timeout"] = json!(timeout);
        scene.change_at(node, key, edit).await;
    }
    let mut nodes = scene.finish().await;
    let silent = nodes.remove(2);
    let (mut patient, mut hasty) = (nodes.remove(LIVE), nodes.remove(0));
    for node in [&patient, &hasty] {
        let answer = node.send(silent.key(), "opens the stream").await.expect("it answers");
        assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    }
    silent.signal(Signal::STOP);
    let answer = on_the_way(&patient, &silent).await;
    let unanswered = on_the_way(&hasty, &silent).await;
    patient.signal(Signal::TERM);
    patient.wait_for_log("Shutting down...").await;
    hasty.signal(Signal::TERM);
    // With an hour it would wait for the answer; and with a second the other, which was told before, would be gone as well.
    hasty.wait_for_end().await;
    assert!(patient.try_wait().is_none(), "it waits");
    silent.signal(Signal::CONT);
    assert_eq!(answer.await.expect("the sender ends"), Some(200));
    assert!(patient.wait_for_end().await.success());
    patient.wait_for_log("Shutdown complete").await;
    let _ = unanswered.await;
}

/// Sends a message, and returns when the node has written it out. What becomes of it is the task's result.
async fn on_the_way(from: &Node, to: &Node) -> tokio::task::JoinHandle<Option<u16>> {
    let before = sent(from).await;
    let path = format!("/v1/peers/{}/messages", to.key().replace('+', "-").replace('/', "_"));
    let client = from.client();
    let answer = tokio::spawn(async move {
        client.post(&path, &[], b"?".to_vec()).await.ok().map(|answer| answer.status.as_u16())
    });
    eventually("the message is on its way", async || (sent(from).await != before).then_some(())).await;
    answer
}

/// The node's own count of direct messages that were written to a connection.
async fn sent(node: &Node) -> String {
    let metrics = node.client().get("/metrics").await.expect("it answers");
    let text = String::from_utf8(metrics.body.to_vec()).expect("text");
    let is_it = |line: &&str| line.starts_with("fednode_messages_total") && line.contains("\"sent\"");
    text.lines().find(is_it).expect("it is counted").to_owned()
}
