//! A limit that the machine sets on files (`ulimit -f`, `LimitFSIZE`): a reload under it ends as one that has no disk.

use fednode_tests::{Node, Spec, eventually};
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::{Value, json};

fn limit(node: &Node, what: Resource, current: Option<u64>) {
    let limit = Rlimit { current, maximum: None };
    prlimit(Some(node.pid()), what, limit).expect("a child's limits can be set");
}

#[tokio::test]
async fn a_limit_of_file_sizes_is_a_disk_that_is_full() {
    let mut node = Spec::new().start().await;
    let outcome = node.reload_with(|conf| conf["logging"]["level"] = json!("debug")).await;
    assert_eq!((&outcome["outcome"], &outcome["durable"]), (&json!("committed"), &json!(true)));
    // The audit log is longer already.
    limit(&node, Resource::Fsize, Some(100));
    let answer = node.client();
    node.edit(|conf| conf["logging"]["level"] = json!("info"));
    let answer = answer.post("/admin/reload", &[], vec![]).await.expect("it answers");
    let outcome: Value = answer.json().expect("JSON");
    assert_eq!(
        (&outcome["outcome"], &outcome["durable"]),
        (&json!("committed"), &json!(false)),
        "{outcome:#}"
    );
    limit(&node, Resource::Fsize, None);
    let generation = outcome["config_generation"].clone();
    eventually("what had no room is written", async || {
        node.audit().iter().any(|line| line["config_generation"] == generation).then_some(())
    })
    .await;
    assert_eq!(node.status().await["generation"], generation);
}
