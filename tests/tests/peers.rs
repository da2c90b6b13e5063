//! `peers.yaml` written on a person's order: by the API, the command line, and both at once.

use std::fs;
use std::process::Output;

use fednode_tests::{Keys, Node, Spec, process};
use serde_json::{Value, json};

const ADDRESS: &str = "/ip4/192.0.2.1/tcp/9000";

const WRITTEN: &str = "# Ours, see the wiki\npeers: []   # nobody yet\n# the end\n";

async fn post(node: &Node, body: &Value) -> (u16, Value) {
    let answer = node.client().post("/admin/peers", &[], body.to_string().into_bytes()).await.unwrap();
    (answer.status.as_u16(), answer.json().unwrap())
}

async fn delete(node: &Node, key: &str) -> (u16, Value) {
    let answer = node.client().delete(&format!("/admin/peers/{key}"), &[]).await.unwrap();
    (answer.status.as_u16(), answer.json().unwrap())
}

async fn members(node: &Node) -> Vec<String> {
    let status = node.status().await;
    let members = status["members"].as_array().unwrap();
    members.iter().map(|member| member["public_key"].as_str().unwrap().to_owned()).collect()
}

/// A node whose `peers.yaml` a person has written.
async fn node() -> Node {
    let spec = Spec::new();
    spec.write();
    fs::write(spec.peers_path(), WRITTEN).unwrap();
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    node
}

fn file(node: &Node) -> String {
    process::read(&node.spec().peers_path())
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[tokio::test]
async fn a_member_is_added_changed_and_removed_as_one_transaction() {
    let node = node().await;
    let key = Keys::generate().public_key;
    let (status, outcome) =
        post(&node, &json!({"public_key": key, "addresses": [ADDRESS], "name": "ACME"})).await;
    assert_eq!((status, &outcome["outcome"], &outcome["trigger"]), (201, &json!("committed"), &json!("api")));
    assert_eq!(members(&node).await, std::slice::from_ref(&key));
    let written = file(&node);
    assert!(
        written.starts_with("# Ours, see the wiki\npeers:   # nobody yet\n  - public_key: "),
        "{written}"
    );
    assert!(written.ends_with("\n# the end\n"), "{written}");

    let (status, outcome) = post(&node, &json!({"public_key": key, "addresses": [ADDRESS]})).await;
    assert_eq!((status, &outcome["outcome"]), (200, &json!("unchanged")), "the name stays");
    assert_eq!(file(&node), written);
    let (status, outcome) = post(&node, &json!({"public_key": key, "addresses": []})).await;
    assert_eq!((status, &outcome["outcome"]), (200, &json!("committed")));

    let (status, outcome) = delete(&node, &key).await;
    assert_eq!(
        (status, &outcome["outcome"], &outcome["config_generation"]),
        (200, &json!("committed"), &json!(4))
    );
    assert_eq!(members(&node).await, [""; 0]);
    assert_eq!(file(&node), "# Ours, see the wiki\npeers: []   # nobody yet\n# the end\n");
    let (status, _) = delete(&node, &key).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn what_is_refused_is_neither_in_the_file_nor_running() {
    let mut node = node().await;
    let key = Keys::generate().public_key;
    for body in [
        json!({"public_key": "x", "addresses": []}),
        json!({"public_key": key, "addresses": ["/ip4/1.2.3/tcp/1"]}),
        json!({"public_key": key, "adresses": []}),
        json!([{"public_key": key, "addresses": []}, {"public_key": key, "addresses": [ADDRESS]}]),
        json!([]),
        json!("x"),
    ] {
        let (status, answer) = post(&node, &body).await;
        assert_eq!((status, &answer["status"]), (400, &json!("error")), "{body}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    }
    // The other file is broken: no reload stands, and the order is taken back.
    node.edit(|conf| conf["logging"]["level"] = json!("loud"));
    fs::write(node.spec().peers_path(), WRITTEN).unwrap();
    let (status, outcome) = post(&node, &json!({"public_key": key, "addresses": [ADDRESS]})).await;
    assert_eq!((status, &outcome["outcome"]), (400, &json!("rejected")));
    assert_eq!(file(&node), WRITTEN);
    assert_eq!(node.status().await["generation"], 1);
}

#[tokio::test]
async fn the_command_line_needs_no_running_node() {
    let spec = Spec::new();
    spec.write();
    fs::write(spec.peers_path(), WRITTEN).unwrap();
    let key = Keys::generate().public_key;
    let added = spec.cli(&["peers", "add", &key, ADDRESS, "--name", "ACME", "--json"]);
    assert_eq!(code(&added), Some(0), "{added:?}");
    let shown: Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!((&shown["effect"], &shown["running"]), (&json!("added"), &json!(false)));
    let listed: Value = serde_json::from_slice(&spec.cli(&["peers", "--json"]).stdout).unwrap();
    let listed = &listed[0];
    assert_eq!((&listed["public_key"], &listed["addresses"]), (&json!(key), &json!([ADDRESS])));
    let wrong = spec.cli(&["peers", "add", &key, "/ip4/1.2.3/tcp/1"]);
    assert_eq!(code(&wrong), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("peers[0].addresses[0]"), "{wrong:?}");

    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    assert_eq!(members(&node).await, std::slice::from_ref(&key));
    let listed: Value = serde_json::from_slice(&node.spec().cli(&["peers", "--json"]).stdout).unwrap();
    assert_eq!(listed[0]["name"], "ACME", "{listed}");
    let removed = node.spec().cli(&["peers", "remove", &key, "--json"]);
    let outcome: Value = serde_json::from_slice(&removed.stdout).unwrap();
    assert_eq!(
        (code(&removed), &outcome["outcome"], &outcome["trigger"]),
        (Some(0), &json!("committed"), &json!("cli"))
    );
    assert_eq!(code(&node.spec().cli(&["peers", "remove", &key])), Some(1));
    assert_eq!(file(&node), WRITTEN);
}

#[tokio::test]
async fn ten_writers_at_once_lose_nothing_that_was_acknowledged() {
    const EACH: usize = 4;
    let node = node().await;
    let keys: Vec<Vec<String>> =
        (0..10).map(|_| (0..EACH).map(|_| Keys::generate().public_key).collect()).collect();
    let (by_api, by_cli) = keys.split_at(5);
    std::thread::scope(|scope| {
        for keys in by_cli {
            let spec = node.spec();
            scope.spawn(move || {
                for key in keys {
                    let added = spec.cli(&["peers", "add", key, ADDRESS]);
                    assert_eq!(code(&added), Some(0), "{added:?}");
                }
            });
        }
        for keys in by_api {
            let client = node.client();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for key in keys {
                        let body =
                            json!({"public_key": key, "addresses": [ADDRESS]}).to_string().into_bytes();
                        let answer = client.post("/admin/peers", &[], body).await.unwrap();
                        assert!(answer.status.is_success(), "{answer:?}");
                    }
                });
            });
        }
        // A reader never sees a torn file.
        let path = node.spec().peers_path();
        for _ in 0..200 {
            let text = process::read(&path);
            assert!(text.starts_with("# Ours") && text.ends_with("# the end\n"), "{text}");
        }
    });
    let running = members(&node).await;
    assert!(keys.iter().flatten().all(|key| running.contains(key)), "{running:?}");
    assert_eq!(running.len(), 10 * EACH);
    assert_eq!(node.status().await["in_sync"], true);
}

/// One who says "add this one" does not say "remove all the others".
#[tokio::test]
async fn nobody_is_added_to_a_file_that_is_gone_while_its_members_run() {
    let node = node().await;
    let (first, second) = (Keys::generate().public_key, Keys::generate().public_key);
    let entry = |key: &str| json!({"public_key": key, "addresses": [ADDRESS]});
    assert_eq!(post(&node, &entry(&first)).await.0, 201);
    fs::remove_file(node.spec().peers_path()).unwrap();
    let (status, refused) = post(&node, &entry(&second)).await;
    assert_eq!(status, 409, "{refused:#}");
    assert!(refused["error"].as_str().unwrap().contains("put it back"), "{refused:#}");
    assert!(!node.spec().peers_path().exists(), "nothing was written");
    assert_eq!(members(&node).await, std::slice::from_ref(&first));
    // On purpose.
    fs::write(node.spec().peers_path(), "peers: []\n").unwrap();
    assert_eq!(post(&node, &entry(&second)).await.0, 201);
    assert_eq!(members(&node).await, std::slice::from_ref(&second));
}
