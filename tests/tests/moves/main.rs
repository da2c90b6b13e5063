//! `node.data_dir` changes while the node runs: what is refused, what is undone, and what a kill in between leaves. That it works
//! under traffic is in `keys`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fednode_tests::arms::Arms;
use fednode_tests::ground::{Ground, leftovers};
use fednode_tests::{Node, Spec, eventually};
use serde_json::{Value, json};

mod killed;
mod wander;

/// A node with fault points, which has made three generations.
async fn started() -> (Node, Arms) {
    let spec = Spec::new();
    let arms = Arms::beside(spec.folder());
    let spec = spec.env(Arms::VARIABLE, &arms.folder().display().to_string());
    let mut node = spec.start().await;
    for level in ["debug", "info"] {
        let outcome = node.reload_with(|conf| conf["logging"]["level"] = json!(level)).await;
        assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    }
    (node, arms)
}

fn name(conf: &mut Value, folder: &str) {
    conf["node"]["data_dir"] = json!(folder);
}

/// Asserts that the node runs generation `number` on this folder, with everything in it.
async fn assert_lives_in(node: &Node, folder: &Path, number: u64, what: &str) {
    let status = node.status().await;
    assert_eq!(node.data_dir(), folder, "{what}");
    assert_eq!((&status["generation"], &status["state"]), (&json!(number), &json!("idle")), "{what}");
    let ground = eventually(&format!("{what}: the history is there"), async || {
        let ground = Ground::read(folder, what);
        (ground.newest() == Some(number)).then_some(ground)
    })
    .await;
    ground.assert_unbroken(what);
    assert_eq!(ground.generations.keys().copied().collect::<Vec<_>>(), (1..=number).collect::<Vec<_>>());
    assert_eq!(leftovers(node.spec().folder()), Vec::<PathBuf>::new(), "{what}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_had_is_refused_with_key_value_and_remedy() {
    let (mut node, _) = started().await;
    let folder = node.spec().folder().to_owned();
    let other = Spec::new().start().await;
    let held = other.data_dir();
    let (_, stopped) = Spec::new().start().await.stop().await;
    let foreign = stopped.folder().join("data");
    // It was carried here by somebody who knew what to leave out.
    fs::remove_file(foreign.join("fednode.lock")).expect("it has one");
    // Not beside the node: the test reads every log that it finds there.
    let strange = tempfile::tempdir().expect("a folder can be made");
    let strange = strange.path();
    let pipe = strange.join("audit.jsonl");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).expect("a pipe can be made");
    fs::write(folder.join("file"), "").expect("it can be written");
    std::os::unix::fs::symlink(folder.join("data"), folder.join("alias")).expect("a link can be made");
    for (named, outcome, piece) in [
        (held.display().to_string(), "rolled_back", "another instance"),
        (foreign.display().to_string(), "rolled_back", "the history of another node"),
        (folder.join("alias").display().to_string(), "rolled_back", "under another name"),
        (folder.join("data/sub").display().to_string(), "rejected", "the folder in use"),
        (folder.join("data/generations").display().to_string(), "rejected", "the folder in use"),
        (folder.display().to_string(), "rejected", "the folder in use"),
        (folder.join("file").display().to_string(), "rejected", "is not a folder"),
        (strange.display().to_string(), "rolled_back", "is no regular file"),
        ("/proc/fednode".to_owned(), "rolled_back", "cannot create the data folder"),
    ] {
        let before = (contents(&held), contents(&foreign));
        let refused = node.reload_with(|conf| name(conf, &named)).await;
        assert_eq!(refused["outcome"], outcome, "{refused:#}");
        let error = &refused["errors"][0];
        assert_eq!(error["path"], "node.data_dir", "{refused:#}");
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(piece) && message.contains(&named), "{error}");
        assert!(error["hint"].is_string(), "{error}");
        assert_eq!((contents(&held), contents(&foreign)), before, "nothing is touched");
        let found = fs::read_dir(strange).expect("it is there").map(|entry| entry.expect("a name").path());
        assert_eq!(found.collect::<Vec<_>>(), std::slice::from_ref(&pipe), "nothing is made");
        assert_lives_in(&node, &folder.join("data"), 3, &named).await;
    }
    // And the next good one works.
    let outcome = node.reload_with(|conf| name(conf, "elsewhere")).await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    assert_lives_in(&node, &folder.join("elsewhere"), 4, "after the refusals").await;
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.push((path.clone(), fs::read(&path).unwrap_or_default()));
        }
    }
    files.sort();
    files
}

#[tokio::test]
async fn a_move_that_fails_is_undone_as_a_whole() {
    let (mut node, arms) = started().await;
    let folder = node.spec().folder().to_owned();
    for (point, fault) in [
        ("move::note", "return(error)"),
        ("move::noted", "return(full)"),
        ("move::copy", "return(full)"),
        ("move::copy", "2 panic"),
        ("move::copied", "return(error)"),
        ("history::prepare", "return(error_after)"),
        ("history::commit", "return(error)"),
        ("history::commit", "return(error_after)"),
        ("history::probe", "return(error)"),
        ("admin::prepare", "return(error)"),
        ("admin::commit", "return(error)"),
        ("admin::probe", "return(error)"),
    ] {
        let what = format!("{point} {fault}");
        // What the system failed is tried again as long as there is time; then once more is enough.
        let before = (contents(&folder.join("data/generations")), node.connections().await);
        arms.clear();
        arms.arm(point, fault);
        let outcome = node.reload_with(|conf| name(conf, "elsewhere")).await;
        assert!(arms.was_hit(point), "{what}");
        if outcome["outcome"] == "committed" {
            assert!(fault.contains("full"), "{what}: {outcome:#}");
            let number = outcome["config_generation"].as_u64().expect("a number");
            assert_lives_in(&node, &folder.join("elsewhere"), number, &what).await;
            let outcome = node.reload_with(|conf| name(conf, "data")).await;
            assert_eq!(outcome["outcome"], "committed", "{what}: {outcome:#}");
            fs::remove_dir_all(folder.join("elsewhere")).expect("it is nobody's");
            continue;
        }
        assert_eq!(outcome["outcome"], "rolled_back", "{what}: {outcome:#}");
        assert_eq!(contents(&folder.join("elsewhere")), [], "{what}");
        // Refused before it begins, a commit drops its copy before the socket in it is gone: the folder itself stays.
        let stays = what == "history::commit return(error)";
        assert_eq!(fs::remove_dir(folder.join("elsewhere")).is_ok(), stays, "{what}");
        let number = outcome["config_generation"].as_u64().expect("a number");
        assert_lives_in(&node, &folder.join("data"), number, &what).await;
        assert_eq!((contents(&folder.join("data/generations")), node.connections().await), before, "{what}");
    }
}

#[tokio::test]
async fn after_a_stop_another_folder_is_another_life_and_after_a_kill_it_is_not() {
    let (node, _) = started().await;
    let folder = node.spec().folder().to_owned();
    let signpost = folder.join("conf.yaml.running");
    assert!(signpost.exists());
    let (_, mut spec) = node.stop().await;
    assert!(!signpost.exists());
    // Somebody means it: a new life, or what was kept of an old one.
    name(&mut spec.conf, "elsewhere");
    let node = spec.start().await;
    assert_lives_in(&node, &folder.join("elsewhere"), 1, "a new life").await;
    // The other one is no copy of this: neither is lost for an edit and a kill.
    let mut spec = node.kill().await;
    name(&mut spec.conf, "data");
    spec.write();
    let output = spec.cli(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another life") && said.contains("data"), "{said}");
    // While one runs, nobody begins another beside it on the strength of an edit.
    name(&mut spec.conf, "elsewhere");
    let mut node = spec.start().await;
    node.edit(|conf| name(conf, "third"));
    let output = node.spec().cli(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("another instance"), "{output:?}");
    assert!(!folder.join("third").exists());
    assert_lives_in(&node, &folder.join("elsewhere"), 1, "beside it").await;
}

#[tokio::test]
async fn what_had_no_room_in_the_old_folder_is_written_to_the_new_one() {
    let (mut node, arms) = started().await;
    let folder = node.spec().folder().to_owned();
    arms.arm("generation::append", "return(full)");
    let outcome = node.reload_with(|conf| conf["logging"]["level"] = json!("debug")).await;
    assert_eq!((&outcome["outcome"], &outcome["durable"]), (&json!("committed"), &json!(false)));
    let outcome = node.reload_with(|conf| name(conf, "elsewhere")).await;
    assert_eq!((&outcome["outcome"], &outcome["durable"]), (&json!("committed"), &json!(true)));
    assert_lives_in(&node, &folder.join("elsewhere"), 5, "moved away from a full disk").await;
}

#[tokio::test]
async fn a_rollback_across_a_move_moves_back() {
    let (mut node, arms) = started().await;
    let folder = node.spec().folder().to_owned();
    let outcome = node.reload_with(|conf| name(conf, "elsewhere")).await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    let warned = outcome["warnings"].to_string();
    assert!(warned.contains(&folder.join("data").display().to_string()), "{outcome:#}");
    // It fails first: the earlier copy in the old folder stays one.
    arms.arm("admin::probe", "return(error)");
    let answer = node.client().post("/admin/rollback", &[], vec![]).await.expect("it answers");
    assert_eq!(answer.status.as_u16(), 409, "{answer:?}");
    assert_lives_in(&node, &folder.join("elsewhere"), 4, "a rollback that fails").await;
    let output = node.spec().cli(&["rollback", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_lives_in(&node, &folder.join("data"), 5, "a rollback").await;
    let conf: Value =
        serde_json::from_slice(&fs::read(node.spec().conf_path()).expect("a file")).expect("JSON");
    assert!(conf["node"]["data_dir"].is_null(), "the file says so");
    // Whoever starts the node on the folder that was left goes on as well.
    let (_, mut spec) = node.stop().await;
    name(&mut spec.conf, "elsewhere");
    let node = spec.start().await;
    assert_lives_in(&node, &folder.join("elsewhere"), 6, "a start elsewhere").await;
}

#[tokio::test]
async fn a_move_that_nobody_confirms_is_undone_also_over_a_kill() {
    for killed_at in [None, Some("generation::append"), Some("restore::write"), Some("restore::written")] {
        let what = format!("{killed_at:?}");
        let (mut node, arms) = started().await;
        let folder = node.spec().folder().to_owned();
        node.edit(|conf| name(conf, "elsewhere"));
        // The edit leads the client to where nobody is yet.
        let answer = node.client().post("/admin/reload?confirm=1s", &[], vec![]).await.expect("it answers");
        assert_eq!(answer.status.as_u16(), 200, "{what}: {answer:?}");
        let mut spec = node.kill().await;
        let standing = folder.join("elsewhere/standing.json");
        eventually("the deadline passes", async || {
            let standing: Value =
                serde_json::from_slice(&fs::read(&standing).expect("it is awaited")).expect("JSON");
            let by = standing["unconfirmed"]["by_unix_ms"].as_u64().expect("a deadline");
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            (now.as_millis() > by.into()).then_some(())
        })
        .await;
        if let Some(point) = killed_at {
            arms.arm(point, killed::STAND_STILL);
            let node = spec.spawn_as_it_is();
            eventually(&what, async || arms.was_hit(point).then_some(())).await;
            spec = node.kill().await;
            arms.clear();
        }
        let mut node = spec.spawn_as_it_is();
        node.wait_until_it_serves().await;
        assert_lives_in(&node, &folder.join("data"), 5, &what).await;
        assert!(node.status().await["confirm_target"].is_null(), "{what}");
        let conf: Value =
            serde_json::from_slice(&fs::read(node.spec().conf_path()).expect("a file")).expect("JSON");
        assert!(conf["node"]["data_dir"].is_null(), "{what}: the file says so");
    }
}
