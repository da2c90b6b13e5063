//! Every fault point by its name, with every fault that it can be told: whatever fails, the outcome says what runs, all components
//! run it, the history knows it, nothing is left behind, and the next good reload works.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fednode::faults;
use fednode_tests::scene::{Scene, act, scene};
use fednode_tests::{Side, Stage, eventually};
use futures::FutureExt;
use reload::fault::Takes;
use serde_json::{Value, json};

/// Points at which a panic is not tried, with the reason.
const NO_PANIC: &[(&str, &str)] = &[
    ("coordinator::judged", COORDINATOR),
    ("coordinator::prepare", COORDINATOR),
    ("coordinator::commit", COORDINATOR),
    ("coordinator::probe", COORDINATOR),
    ("coordinator::finish", COORDINATOR),
    ("coordinator::rollback", COORDINATOR),
    ("coordinator::record", COORDINATOR),
    ("coordinator::recorded", COORDINATOR),
    ("coordinator::conclude", COORDINATOR),
    ("coordinator::answer", COORDINATOR),
    ("coordinator::write", RECORDER),
    ("coordinator::audit", RECORDER),
    ("coordinator::confirm", RECORDER),
    ("supervisor::notify", COORDINATOR),
    ("audit::appended", WRITTEN),
];
const COORDINATOR: &str =
    "on the coordinator's own thread, which has no fault to expect and nobody to report it to";
const RECORDER: &str = "before the recorder was called: what it was never told it cannot keep";
const WRITTEN: &str = "between a write and its bookkeeping, where nothing stands that could panic";

/// What is told to a point.
fn told(point: &str, takes: Takes) -> Vec<&'static str> {
    let mut faults = vec!["sleep(1400)"];
    if !NO_PANIC.iter().any(|(spared, _)| *spared == point) {
        faults.push("panic");
    }
    match takes {
        Takes::Error => faults.extend(["return(error)", "return(full)"]),
        Takes::Step => {
            faults.extend(["return(error)", "return(error_after)", "return(hang)", "return(late:1400)"])
        }
        Takes::Nothing => {}
    }
    faults
}

/// Points of the scenes, each with its faults.
fn points(chosen: impl Fn(Scene) -> bool) -> VecDeque<(String, Scene, &'static str)> {
    // For a look at one point: `POINT=atomic::write cargo test --test walk`.
    let only = std::env::var("POINT").ok();
    let mut points = VecDeque::new();
    for (point, takes) in faults::all() {
        let scene = scene(&point);
        if chosen(scene) && only.as_ref().is_none_or(|only| point.starts_with(only.as_str())) {
            points.extend(told(&point, takes).into_iter().map(|fault| (point.clone(), scene, fault)));
        }
    }
    points
}

// --- a node that runs -----------------------------------------------------------------------------------------------

/// Nodes side by side: most of the time is slept.
const LANES: usize = 6;

#[tokio::test]
async fn a_node_that_runs_is_whole_after_every_fault_at_every_point() {
    let is_running = Scene::is_of_a_running_node;
    let queue = Mutex::new(points(is_running));
    let lane = || async {
        let (mut stage, mut failures) = (Stage::started().await, Vec::new());
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((point, scene, fault)) = next else { return failures };
            stage.doing = format!("{point} {fault} ({scene:?})");
            let case = through_a_fault(&mut stage, &point, scene, fault);
            if let Some(failure) = failure_of(case).await {
                failures.push(format!("{}: {failure}\n{}", stage.doing, stage.tail()));
                stage = Stage::started().await;
            }
        }
    };
    assert_none(futures::future::join_all((0..LANES).map(|_| lane())).await);
}

/// Why a case failed, if it did: the others are tried all the same, so that one run tells of all.
async fn failure_of(case: impl Future<Output = ()>) -> Option<String> {
    let panic = AssertUnwindSafe(case).catch_unwind().await.err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}

fn assert_none(failures: Vec<Vec<String>>) {
    let failures: Vec<_> = failures.into_iter().flatten().collect();
    assert!(failures.is_empty(), "{} failures\n\n{}", failures.len(), failures.join("\n\n"));
}

async fn through_a_fault(stage: &mut Stage, point: &str, scene: Scene, fault: &str) {
    if scene == Scene::Back || scene == Scene::Rollback && stage.side == Side::Old {
        good(stage, Side::New).await;
    }
    let before = stage.settled().await["generation"].as_u64();
    stage.arms.clear();
    let outcome = act(stage, point, scene, fault).await;
    let what = stage.doing.clone();
    eventually(&format!("{what}: the point is reached"), async || stage.arms.was_hit(point).then_some(()))
        .await;
    stage.arms.clear();
    let status = stage.settled().await;
    judge(&what, &outcome, &status, before);
    if status["state"] == "idle" && !leaves_something(&what) {
        stage.assert_in_force().await;
    }
    stage.assert_ground().await;
    // The next good one works, and clears everything.
    good(stage, stage.side.other()).await;
    if stage.side == Side::New {
        good(stage, Side::Old).await;
    }
}

/// A finish that fails does not undo what stands: the old socket is served on, or its file stays, until the next reload.
fn leaves_something(what: &str) -> bool {
    ["admin::finish", "admin::close", "admin::unlink"].iter().any(|point| what.starts_with(point))
        && (what.contains("panic") || what.contains("error") || what.contains("full"))
}

/// The outcome says what runs.
fn judge(what: &str, outcome: &Value, status: &Value, before: Option<u64>) {
    let generation = status["generation"].as_u64();
    if outcome["outcome"].is_null() {
        // The request was refused before there was a transaction.
        return;
    }
    assert_eq!(outcome["config_generation"].as_u64(), generation, "{what}: {outcome:#}");
    match outcome["outcome"].as_str().expect("an outcome") {
        "committed" => assert!(outcome["from_generation"].as_u64() >= before, "{what}: {outcome:#}"),
        "unchanged" => {}
        "rejected" | "rolled_back" => {
            assert_eq!(generation, before, "{what}: {outcome:#}");
            assert!(outcome["error"].as_str().is_some_and(|error| !error.is_empty()), "{what}: {outcome:#}");
        }
        // Only the network cannot be left behind; and a coordinator that is asleep gives nobody his time.
        "failed" => {
            let is_due =
                ["network", "listener", "workers", "coordinator"].iter().any(|of| what.starts_with(of));
            assert!(is_due, "{what}: {outcome:#}");
        }
        other => panic!("{what}: {other}"),
    }
    let last = &status["last_reload"];
    if outcome["id"] == last["id"] {
        assert_eq!(outcome["outcome"], last["outcome"], "{what}");
    }
}

/// A reload without a fault.
async fn good(stage: &mut Stage, side: Side) {
    let what = format!("the good one after {}", stage.doing);
    let outcome = stage.change_well(side).await;
    assert_eq!(outcome["durable"], true, "{what}: {outcome:#}");
    stage.assert_in_force().await;
    let status = stage.status().await;
    assert_eq!(
        (&status["degraded"], &status["in_sync"]),
        (&json!(false), &json!(true)),
        "{what}: {status:#}"
    );
    let ready = stage.client(side).get("/readyz").await.expect("it answers");
    assert!(is_ready(&ready.json().unwrap_or_default(), &what), "{what}: {ready:?}");
}

/// A panic in the swarm is told until the process ends: a person should look.
fn is_ready(answer: &Value, what: &str) -> bool {
    answer["status"] == "healthy" || what.contains("listener::close panic") || {
        let checks = answer["checks"].as_object().expect("checks");
        let told =
            |check: &Value| check["error"].as_str().is_some_and(|error| error.contains("listener::close"));
        checks.values().all(|check| check["status"] == "pass" || told(check))
    }
}

// --- starts and stops -----------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_start_or_stop_that_fails_leaves_a_whole_generation() {
    let queue = Mutex::new(points(|scene| !scene.is_of_a_running_node()));
    let lane = || async {
        let mut failures = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((point, scene, fault)) = next else { return failures };
            let mut stage = Stage::new();
            stage.doing = format!("{point} {fault} ({scene:?})");
            let case = async {
                match scene {
                    Scene::NewKey | Scene::NewKeyFile => {
                        with_a_new_key(&mut stage, &point, scene, fault).await
                    }
                    Scene::Stop => through_a_stop(&mut stage, &point, fault).await,
                    Scene::AuditFull => with_a_full_audit_log(&mut stage, &point, fault).await,
                    _ => through_a_start(&mut stage, &point, fault).await,
                }
            };
            if let Some(failure) = failure_of(case).await {
                failures.push(format!("{}: {failure}\n{}", stage.doing, stage.tail()));
            }
        }
    };
    assert_none(futures::future::join_all((0..LANES).map(|_| lane())).await);
}

/// The node starts or says why not; it is whole either way, and the next start finds everything as it should be.
async fn through_a_start(stage: &mut Stage, point: &str, fault: &str) {
    stage.start().await;
    assert_eq!(stage.stop().await, 0, "{}", stage.doing);
    stage.write(Side::New);
    stage.side = Side::New;
    stage.arms.arm(point, fault);
    faulty_start(stage, point, fault).await;
    let ground = stage.assert_ground().await;
    assert_eq!(ground.newest(), Some(2), "{}", stage.doing);
    stage.assert_in_force().await;
    good(stage, Side::Old).await;
}

/// Starts the node with a point armed, and once more if that was the end of it.
async fn faulty_start(stage: &mut Stage, point: &str, fault: &str) {
    let what = stage.doing.clone();
    let ended = stage.try_start().await;
    assert!(stage.arms.was_hit(point), "{what}: never reached");
    let Some(code) = ended else { return };
    // 1 with a reason, or 70 for a bug (contract).
    assert_eq!(code, if fault == "panic" { 70 } else { 1 }, "{what}");
    assert!(fault != "sleep(1400)", "{what}: slow is no reason not to start");
    stage.start().await;
}

async fn with_a_new_key(stage: &mut Stage, point: &str, scene: Scene, fault: &str) {
    let folder = stage.data_dir().with_file_name("");
    fs::remove_file(folder.join("node.key")).expect("it was there");
    let in_file = scene == Scene::NewKeyFile;
    stage.edit(|conf| {
        conf["node"] = if in_file { json!({"key_file": "node.key"}) } else { json!({"private_key": ""}) }
    });
    stage.arms.arm(point, fault);
    faulty_start(stage, point, fault).await;
    // It is the key that the file has, now and later.
    let key = stage.status().await["public_key"].clone();
    assert_eq!(stage.stop().await, 0, "{}", stage.doing);
    stage.start().await;
    assert_eq!(stage.status().await["public_key"], key, "{}", stage.doing);
    stage.assert_clean();
}

async fn through_a_stop(stage: &mut Stage, point: &str, fault: &str) {
    stage.start().await;
    good(stage, Side::New).await;
    stage.arms.arm(point, fault);
    let code = stage.stop().await;
    assert!(stage.arms.was_hit(point), "{}: never reached", stage.doing);
    // What is known is no reason to end otherwise: it is learned again.
    let is_told = fault == "panic" && !point.starts_with("known::");
    assert_eq!(code, if is_told { 70 } else { 0 }, "{}", stage.doing);
    stage.start().await;
    let ground = stage.assert_ground().await;
    assert_eq!(ground.newest(), Some(2), "{}", stage.doing);
    stage.assert_in_force().await;
}

/// The next audit line has no room in its file.
async fn with_a_full_audit_log(stage: &mut Stage, point: &str, fault: &str) {
    stage.start().await;
    assert_eq!(stage.stop().await, 0, "{}", stage.doing);
    stage.fill_audit();
    stage.start().await;
    stage.arms.arm(point, fault);
    // The start's own line and this one do not both fit.
    let outcome = stage.change(Side::New).await;
    assert_eq!(outcome["outcome"], "committed", "{}: {outcome:#}", stage.doing);
    good(stage, Side::Old).await;
    assert!(stage.arms.was_hit(point), "{}: never reached", stage.doing);
    let ground = stage.assert_ground().await;
    assert!(ground.audit.len() >= 4, "{}: {:#?}", stage.doing, ground.audit);
    assert!(stage.data_dir().join("audit.jsonl.2").exists(), "{}", stage.doing);
}

// --- the lists ------------------------------------------------------------------------------------------------------

#[test]
fn the_lists_and_the_sources_agree() {
    let listed: BTreeMap<_, _> = faults::in_sources().map(|point| (point.name, point.takes)).collect();
    assert_eq!(listed.len(), faults::in_sources().count(), "a name stands twice in the lists");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut found = BTreeMap::new();
    for member in ["reload", "storage", "net", "node"] {
        for file in sources(&root.join(member).join("src")) {
            let text = fs::read_to_string(&file).expect("a source");
            for (call, takes) in [
                ("fault::io(\"", Takes::Error),
                ("fault::pass(\"", Takes::Nothing),
                (" pass(\"", Takes::Nothing),
            ] {
                for (at, _) in text.match_indices(call) {
                    let name = text[at + call.len()..].split('"').next().expect("a name").to_owned();
                    let before = found.insert(name.clone(), takes);
                    assert!(before.is_none(), "{name} stands twice in the sources: {}", file.display());
                }
            }
        }
    }
    let listed: BTreeMap<_, _> = listed.into_iter().map(|(name, takes)| (name.to_owned(), takes)).collect();
    assert_eq!(found, listed);
}

#[test]
fn what_is_spared_is_a_point() {
    let all: BTreeSet<_> = faults::all().into_iter().map(|(name, _)| name).collect();
    for (point, reason) in NO_PANIC {
        assert!(all.contains(*point) && !reason.is_empty(), "{point}");
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    rust.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}
