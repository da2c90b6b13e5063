//! Signals while the node starts (R2, R3): what must not be cut in two is finished first, and what hangs does not keep the node
//! from stopping.

use fednode_tests::{Node, Spec, eventually};
use rustix::process::Signal;
use serde_json::json;

/// A node whose start never ends, at the point where it holds its data folder.
async fn stuck(budget: &str) -> Node {
    let mut spec = Spec::new().env("FAILPOINTS", "start::stall=return");
    spec.conf["reload"] = json!({"budget": budget});
    let node = spec.spawn();
    let pid_file = node.spec().folder().join("data").join("fednode.pid");
    eventually("the data folder is taken", async || pid_file.exists().then_some(())).await;
    node
}

#[tokio::test]
async fn a_stop_waits_for_a_start_no_longer_than_the_budget() {
    let mut node = stuck("200ms").await;
    node.signal(Signal::HUP);
    node.signal(Signal::TERM);
    assert_eq!(node.wait_for_end().await.code(), Some(0), "{}", node.stderr());
    assert!(!node.spec().folder().join("data").join("fednode.pid").exists());
}

#[tokio::test]
async fn a_second_stop_does_not_wait_for_a_start() {
    let mut node = stuck("30s").await;
    // Two of a burst may arrive as one, so they are repeated.
    let pid = node.pid();
    let stop = tokio::spawn(async move {
        loop {
            if rustix::process::kill_process(pid, Signal::TERM).is_err() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let status = node.wait_for_end().await;
    stop.abort();
    assert_eq!(status.code(), Some(0), "{}", node.stderr());
}

#[tokio::test]
async fn a_stop_during_a_start_that_goes_well_is_a_graceful_one() {
    let mut node = Spec::new().env("FAILPOINTS", "start::configured=sleep(300)").spawn();
    let pid_file = node.spec().folder().join("data").join("fednode.pid");
    eventually("the data folder is taken", async || pid_file.exists().then_some(())).await;
    node.signal(Signal::TERM);
    assert_eq!(node.wait_for_end().await.code(), Some(0), "{}", node.stderr());
    assert!(node.log().contains("Shutdown complete"), "{}", node.log());
    assert_eq!(node.audit().len(), 1);
}
