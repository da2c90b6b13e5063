//! Where a component can be neither changed nor restored: the node says so, goes on with what works, and a good reload leads out
//! of it (R15).

use std::fs;

use fednode_tests::Spec;
use serde_json::{Value, json};

#[tokio::test]
async fn logging_that_cannot_come_back_goes_on_with_the_console() {
    let mut spec = Spec::new()
        .env("FAILPOINTS", "protocol::commit=1*return(error)->off;logging::rollback=1*return(error)->off");
    let logs = spec.folder().join("logs");
    fs::create_dir(&logs).unwrap();
    spec.conf["logging"]["console_output"] = json!(false);
    spec.conf["logging"]["file_output"] = json!(true);
    spec.conf["logging"]["file_name"] = json!("logs/node.log");
    let mut node = spec.start().await;
    // The folder goes away, and what stands in its place is no folder: the last good section cannot be run any more.
    fs::remove_dir_all(&logs).unwrap();
    fs::write(&logs, "").unwrap();
    node.edit(|conf| {
        conf["logging"]["level"] = json!("debug");
        conf["logging"]["file_output"] = json!(false);
        conf["protocol"] = json!({"max_message_size": "2KiB"});
    });
    let output = node.spec().cli(&["reload", "--json"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&outcome["outcome"], &outcome["config_generation"]), (&json!("failed"), &json!(1)));
    let errors = outcome["errors"].as_array().unwrap();
    let critical =
        errors.iter().find(|error| error["class"] == "critical").unwrap_or_else(|| panic!("{outcome:#}"));
    assert_eq!(critical["component"], "logging");
    assert!(critical["message"].as_str().unwrap().contains("minimal section"), "{critical}");
    let status = node.status().await;
    assert_eq!((&status["state"], &status["degraded"]), (&json!("failed"), &json!(true)));
    let metrics = String::from_utf8(node.client().get("/metrics").await.unwrap().body.to_vec()).unwrap();
    for line in [
        "fednode_degraded 1",
        "fednode_reload_failures_total{class=\"critical\"} 1",
        "fednode_reload_state{state=\"failed\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    // It is said where somebody may still see it.
    node.wait_for_log("configuration reload finished").await;
    // The same file once more: nothing stands in its way now.
    let output = node.spec().cli(&["reload", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let status = node.status().await;
    assert_eq!(
        (&status["state"], &status["degraded"], &status["generation"]),
        (&json!("idle"), &json!(false), &json!(2))
    );
}
