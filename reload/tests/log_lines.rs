//! What an operator finds in the log: the contract's line for each reload, and what a component did not do.

mod rig;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reload::outcome::Kind;
use rig::{Fault, Rig, on};
use serde_json::Value;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a test and returns the events with this message.
fn logged(message: &str, test: impl Future<Output = ()>) -> Vec<Value> {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || on(test));
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["message"] == message).collect()
}

#[test]
fn each_reload_ends_in_one_line() {
    let lines = logged("configuration reload finished", async {
        let rig = Rig::start();
        rig.edit(|c| (c.log, c.store) = (2, 2));
        rig.reload().await;
        rig.reload().await;
        rig.edit(|c| (c.wrong, c.server) = (true, 2));
        rig.reload().await;
        rig.edit(|c| c.wrong = false);
        rig.inject("server", "commit", Fault::FailAfter);
        rig.inject("server", "rollback", Fault::Refuse);
        assert_eq!(rig.reload().await.outcome, Kind::Failed);
    });
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            (text("level"), text("outcome"), line["generation"].as_u64().unwrap(), text("changed"))
        })
        .collect();
    let line = |level: &str, outcome: &str, generation, changed: &str| {
        (level.to_owned(), outcome.to_owned(), generation, changed.to_owned())
    };
    assert_eq!(
        told,
        [
            line("INFO", "committed", 2, "log,store"),
            line("INFO", "unchanged", 2, ""),
            line("WARN", "rejected", 2, ""),
            line("ERROR", "failed", 2, "server"),
        ]
    );
    assert!(lines.iter().all(|line| line["trigger"] == "signal" && line["duration_ms"].is_number()));
    assert!(lines[2]["error"].as_str().unwrap().contains("is wrong (make it right)"));
}

#[test]
fn a_component_that_does_not_do_its_step_is_named() {
    let lines = logged("component did not do its reload step", async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        rig.inject("store", "prepare", Fault::Refuse);
        rig.reload().await;
    });
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["component"], &lines[0]["step"]), (&"store".into(), &"prepare".into()));
    assert_eq!((&lines[0]["error"], &lines[0]["level"]), (&"refused".into(), &"WARN".into()));
}

#[test]
fn what_goes_back_by_itself_is_announced_and_its_failure_is_loud() {
    let announced = logged("the configuration goes back by itself unless it is confirmed", async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        rig.reload_to_confirm(Duration::from_secs(60)).await;
    });
    assert_eq!((&announced[0]["generation"], &announced[0]["target_generation"]), (&2.into(), &1.into()));
    let failed = logged("an unconfirmed generation could not be left", async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        rig.reload_to_confirm(Duration::from_secs(60)).await;
        rig.inject("store", "commit", Fault::Refuse);
        tokio::time::sleep(Duration::from_secs(70)).await;
        assert_eq!(rig.running(), [1, 1, 1]);
    });
    assert_eq!((failed.len(), &failed[0]["level"]), (1, &"ERROR".into()));
}
