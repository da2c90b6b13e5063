//! What reaches whom, and what becomes of many triggers.

use fednode_tests::{Port, Spec, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Every step that any component was told, from the log at debug.
fn steps(log: &str) -> usize {
    log.lines().filter(|line| line.contains("\"reload step\"")).count()
}

#[tokio::test]
async fn an_unchanged_file_reaches_no_actor() {
    let mut spec = Spec::new();
    spec.conf["logging"]["level"] = json!("debug");
    let mut node = spec.start().await;
    let outcome = node.hangup().await;
    assert_eq!(outcome["outcome"], "unchanged", "{outcome:#}");
    assert_eq!(outcome["config_generation"], 1);
    // Other words for the same thing: a spelled-out default, another order, a comment.
    let text = format!("# the same\n{}", fednode_tests::process::yaml(&node.spec().conf));
    std::fs::write(node.spec().conf_path(), text).unwrap();
    assert_eq!(node.hangup().await["outcome"], "unchanged");
    let outcome = node.reload_with(|conf| conf["reload"]["history"] = json!(50)).await;
    assert_eq!(outcome["outcome"], "unchanged", "{outcome:#}");
    assert_eq!(steps(&node.log()), 0);

    // A key of the coordinator itself is a change that no actor hears of.
    let outcome = node.reload_with(|conf| conf["reload"]["history"] = json!(7)).await;
    assert_eq!((&outcome["outcome"], &outcome["components"]), (&json!("committed"), &json!([])));
    assert_eq!(steps(&node.log()), 0);
    // And one of a single component is heard by it alone.
    node.reload_with(|conf| conf["protocol"] = json!({"max_message_size": "2KiB"})).await;
    let log = node.log();
    assert!(steps(&log) > 0);
    assert!(
        log.lines()
            .filter(|l| l.contains("\"reload step\""))
            .all(|l| l.contains("\"component\":\"protocol\""))
    );
}

#[tokio::test]
async fn a_burst_of_200_signals_ends_in_the_last_files_state() {
    let mut node = Spec::new().start().await;
    for size in 1..=200 {
        node.edit(|conf| conf["protocol"] = json!({"max_message_size": 1000 + size}));
        node.signal(Signal::HUP);
    }
    eventually("the last file runs", async || {
        let answer = node.client().get("/admin/config").await.ok()?.json::<Value>().ok()?;
        let size = &answer["config"]["protocol"]["max_message_size"];
        (*size == json!("1200B") || *size == json!(1200) || *size == json!("1200")).then_some(())
    })
    .await;
    // At rest, and every signal is dealt with.
    eventually("it comes to rest", async || (node.status().await["state"] == "idle").then_some(())).await;
    // The audit line is written after `status` shows that it is over.
    let generations = eventually("the last line is written", async || {
        let lines = node.audit();
        let committed = lines.iter().filter(|line| line["outcome"] == "committed");
        let generations: Vec<u64> = committed.filter_map(|line| line["config_generation"].as_u64()).collect();
        let last = json!(generations.last());
        (node.status().await["generation"] == last).then_some(generations)
    })
    .await;
    assert!(
        generations.len() > 1 && generations.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{generations:?}"
    );
}

#[tokio::test]
async fn callers_who_ask_at_once_are_all_answered() {
    let mut node = Spec::new().start().await;
    node.edit(|conf| conf["protocol"] = json!({"max_message_size": "3KiB"}));
    let client = node.client();
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.post("/admin/reload", &[], vec![]).await })
        })
        .collect();
    let mut committed = std::collections::BTreeSet::new();
    for answer in asked {
        let outcome: Value = answer.await.unwrap().unwrap().json().unwrap();
        match outcome["outcome"].as_str() {
            Some("committed") => {
                committed.insert(outcome["id"].as_str().unwrap().to_owned());
            }
            other => assert_eq!(other, Some("unchanged"), "{outcome:#}"),
        }
    }
    assert_eq!(committed.len(), 1, "one change is one transaction");
    assert_eq!(node.status().await["generation"], 2);
}

#[tokio::test]
async fn sighup_during_start_up_is_applied() {
    // The start is held up between the reading of the configuration and the first actor.
    let mut node = Spec::new().env("FAILPOINTS", "start::configured=sleep(1500)").spawn();
    eventually("the handler is registered and the configuration is read", async || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid().as_raw_nonzero())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim();
        let caught = u64::from_str_radix(caught, 16).ok()? & 1 != 0;
        (caught && node.spec().folder().join("data").join("fednode.lock").exists()).then_some(())
    })
    .await;
    let port = Port::free();
    let first = node.spec().port.loopback();
    node.edit(|conf| conf["network"]["addresses"] = json!([first, port.loopback()]));
    node.signal(Signal::HUP);
    node.wait_until_it_serves().await;
    eventually("the edit is live", async || port.accepts().then_some(())).await;
    let line = eventually("it is in the audit log", async || node.audit().into_iter().nth(1)).await;
    assert_eq!((&line["outcome"], &line["trigger"]), (&json!("committed"), &json!("signal")));
}

#[tokio::test]
async fn a_signal_during_a_reload_causes_one_more() {
    let mut spec = Spec::new().env("FAILPOINTS", "protocol::prepare=1*return(late:300)->off");
    spec.conf["reload"]["budget"] = json!("10s");
    let mut node = spec.start().await;
    node.edit(|conf| conf["protocol"] = json!({"max_message_size": 1001}));
    node.signal(Signal::HUP);
    eventually("it runs", async || (node.status().await["state"] == "updating").then_some(())).await;
    node.edit(|conf| conf["protocol"] = json!({"max_message_size": 1002}));
    node.signal(Signal::HUP);
    eventually("both are done", async || (node.audit().len() == 3).then_some(())).await;
    let outcomes: Vec<_> = node.audit().iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, ["committed", "committed", "committed"]);
    assert_eq!(node.status().await["generation"], 3);
}

#[tokio::test]
async fn a_start_with_the_same_configuration_keeps_its_generation() {
    let mut node = Spec::new().start().await;
    node.reload_with(|conf| conf["protocol"] = json!({"max_message_size": "2KiB"})).await;
    let (status, spec) = node.stop().await;
    assert!(status.success());
    assert!(!spec.folder().join("data").join("fednode.pid").exists());
    let node = spec.start().await;
    assert_eq!(node.status().await["generation"], 2);
    let mut spec = node.kill().await;
    spec.conf["protocol"] = json!({"max_message_size": "5KiB"});
    let node = spec.start().await;
    let status = node.status().await;
    assert_eq!(status["generation"], 3);
    assert_eq!(status["last_reload"]["trigger"], "startup");
    assert_eq!(node.audit().last().unwrap()["trigger"], "startup");
}
