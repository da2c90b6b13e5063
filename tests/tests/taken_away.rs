//! Somebody takes the data folder away from a node that runs: what was to be written waits for a folder, and goes on in it.

use std::fs;
use std::path::Path;

use fednode_tests::ground::Ground;
use fednode_tests::{Spec, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The ids that the audit log tells, of which the last line may be torn as it is written.
fn told(data_dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(data_dir.join("audit.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.map(|line| line["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn what_has_to_be_written_waits_for_a_folder_and_everything_is_made_anew_in_it() {
    let mut node = Spec::new().start().await;
    let data_dir = node.data_dir();
    fs::remove_dir_all(&data_dir).expect("it can be removed");
    // The socket has gone too, and comes back with the folder.
    node.edit(|conf| conf["logging"]["level"] = json!("debug"));
    fs::create_dir(&data_dir).expect("it can be made");
    node.signal(Signal::HUP);
    eventually("the generation and its line are written", async || {
        let ground = Ground::read(&data_dir, "made anew");
        (ground.newest() == Some(2) && told(&data_dir).len() == 1).then_some(())
    })
    .await;
    let pid = fs::read_to_string(data_dir.join("fednode.pid")).expect("a pid file");
    assert_eq!(pid.trim(), node.status().await["pid"].to_string());
    // And it is held.
    let second = node.spec().cli(&["run"]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("another instance"), "{second:?}");

    // While there is none, a reload is committed and says that it is not written.
    let aside = data_dir.with_file_name("aside");
    fs::rename(&data_dir, &aside).expect("it can be moved away");
    node.edit(|conf| conf["logging"]["level"] = json!("info"));
    node.signal(Signal::HUP);
    node.wait_for_log("\"generation\":3").await;
    assert!(!data_dir.exists(), "nobody has asked for one");
    // The same one comes back, and nothing is missing in it.
    fs::rename(&aside, &data_dir).expect("it can be moved back");
    eventually("what waited is written", async || {
        let ground = Ground::read(&data_dir, "moved back");
        (ground.newest() == Some(3) && told(&data_dir).len() == 2).then_some(())
    })
    .await;
    // A log that was put aside is begun anew.
    fs::rename(data_dir.join("audit.jsonl"), data_dir.join("audit.old")).expect("it can be moved");
    let outcome = node.reload_with(|conf| conf["logging"]["level"] = json!("debug")).await;
    assert_eq!(
        (&outcome["outcome"], &outcome["durable"]),
        (&json!("committed"), &json!(true)),
        "{outcome:#}"
    );
    eventually("the line is in a new log", async || (told(&data_dir).len() == 1).then_some(())).await;
    assert_eq!(told(&data_dir), [outcome["id"].as_str().expect("an id")]);
}

#[tokio::test]
async fn another_nodes_folder_in_its_place_is_left_alone() {
    let (_, stopped) = Spec::new().start().await.stop().await;
    let mut node = Spec::new().start().await;
    let data_dir = node.data_dir();
    fs::rename(&data_dir, data_dir.with_file_name("aside")).expect("it can be moved away");
    fs::rename(stopped.folder().join("data"), &data_dir).expect("it can be moved there");
    let before = told(&data_dir);
    node.edit(|conf| conf["logging"]["level"] = json!("debug"));
    node.signal(Signal::HUP);
    node.wait_for_log("another data folder").await;
    assert_eq!(told(&data_dir), before);
    assert_eq!(Ground::read(&data_dir, "another's").newest(), Some(1));
    assert!(!data_dir.join("fednode.pid").exists());
}
