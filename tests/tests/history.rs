//! Going back: `rollback`, `reload --confirm`, files that are held, `run --last-known-good`; also over a kill.

use std::fs;
use std::process::Output;

use fednode_tests::{Node, Port, Spec, eventually, process};
use rustix::process::Signal;
use serde_json::{Value, json};

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout_json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn limits(bytes: &str) -> Value {
    json!({"max_message_size": bytes})
}

async fn size(node: &Node) -> Value {
    let config: Value = node.client().get("/admin/config").await.unwrap().json().unwrap();
    config["config"]["protocol"]["max_message_size"].clone()
}

/// Names in the node's folder that begin so.
fn beside(spec: &Spec, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(spec.folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

#[tokio::test]
async fn rollback_makes_an_older_generation_current_and_the_files_say_so() {
    let mut node = Spec::new().start().await;
    let first = process::read(&node.spec().conf_path());
    node.reload_with(|conf| conf["protocol"] = limits("2KiB")).await;
    let second = process::read(&node.spec().conf_path());
    // A look first: nothing happens.
    let look = node.spec().cli(&["rollback", "--dry-run", "--json"]);
    let look = (code(&look), stdout_json(&look));
    assert_eq!((look.0, &look.1["outcome"]), (Some(0), &json!("planned")));
    assert_eq!(look.1["changes"][0]["path"], "protocol.max_message_size");
    assert_eq!(node.status().await["generation"], 2);
    // Without a number: the newest with other contents.
    let back = node.spec().cli(&["rollback", "--json", "-m", "too small"]);
    assert_eq!(code(&back), Some(0), "{back:?}");
    let back = stdout_json(&back);
    assert_eq!(
        (&back["outcome"], &back["config_generation"], &back["from_generation"]),
        (&json!("committed"), &json!(3), &json!(2))
    );
    assert_eq!(back["restored_generation"], 1);
    let kept = back["warnings"][0]["message"].as_str().unwrap();
    assert!(kept.contains("conf.yaml.replaced-2 has what it said before"), "{back:#}");
    assert_eq!((&back["trigger"], &back["note"]), (&json!("rollback"), &json!("too small")));
    assert_eq!(process::read(&node.spec().conf_path()), first);
    assert_eq!(beside(node.spec(), "conf.yaml.replaced"), ["conf.yaml.replaced-2"]);
    assert_eq!(process::read(&node.spec().folder().join("conf.yaml.replaced-2")), second);
    assert!(beside(node.spec(), "peers.yaml.replaced").is_empty(), "it said the same");
    assert_eq!(node.hangup().await["outcome"], "unchanged");
    // With one; the newest with other contents is then the one that was left, past its own copy.
    let forth = node.spec().cli(&["rollback", "2"]);
    assert_eq!(code(&forth), Some(0), "{forth:?}");
    assert_eq!(size(&node).await, "2KiB");
    for unknown in ["99", "5"] {
        let output = node.spec().cli(&["rollback", unknown]);
        assert_eq!(code(&output), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(unknown));
    }
    assert_eq!(code(&node.spec().cli(&["rollback", "0"])), Some(2), "no generation has this number");
    // What runs already is no new generation; a file that was broken meanwhile is mended all the same.
    fs::write(node.spec().conf_path(), "broken: [").unwrap();
    let mended = node.spec().cli(&["rollback", "4", "--json"]);
    assert_eq!((code(&mended), &stdout_json(&mended)["outcome"]), (Some(0), &json!("unchanged")));
    assert_eq!(process::read(&node.spec().conf_path()), second);
    assert_eq!(node.hangup().await["outcome"], "unchanged");
    // All of it is there after a start, and the number goes on.
    let node = node.kill().await.spawn_as_it_is();
    let mut node = node;
    node.wait_until_it_serves().await;
    assert_eq!((&node.status().await["generation"], size(&node).await), (&json!(4), json!("2KiB")));
}

#[tokio::test]
async fn the_routes_of_going_back_have_the_contracts_codes() {
    let mut node = Spec::new().start().await;
    let client = node.client();
    let post = async |path: &str, tag: &str, body: &str| {
        let headers = [("if-match", tag)];
        let headers = if tag.is_empty() { &headers[..0] } else { &headers[..] };
        let answer = client.post(path, headers, body.as_bytes().to_vec()).await.unwrap();
        (answer.status.as_u16(), answer.json::<Value>().unwrap())
    };
    assert_eq!(post("/admin/rollback", "", "").await.0, 404, "there is no other");
    assert_eq!(post("/admin/confirm", "", "").await.0, 409);
    node.reload_with(|conf| conf["protocol"] = limits("2KiB")).await;
    for (body, status) in [
        (r#"{"generation": 7}"#, 404),
        (r#"{"generation": 0}"#, 404),
        (r#"{"generation": "x"}"#, 400),
        (r#"{"x": 1}"#, 400),
    ] {
        let (found, answer) = post("/admin/rollback", "", body).await;
        assert_eq!((found, &answer["status"]), (status, &json!("error")), "{body}: {answer}");
    }
    assert_eq!(post("/admin/rollback", "\"1\"", r#"{"generation": 1}"#).await.0, 412);
    let (status, outcome) = post("/admin/rollback", "\"2\"", r#"{"generation": 1, "note": "why"}"#).await;
    assert_eq!((status, &outcome["config_generation"], &outcome["note"]), (200, &json!(3), &json!("why")));
    assert_eq!(post("/admin/reload?dryrun=true", "", "").await.0, 400, "a misspelt dry run is no reload");
    for confirm in ["0s", "1", "1w", "25h"] {
        let (status, answer) = post(&format!("/admin/reload?confirm={confirm}"), "", "").await;
        assert_eq!(status, 400, "{confirm}: {answer}");
    }
    node.edit(|conf| conf["protocol"] = limits("4KiB"));
    let (status, outcome) = post("/admin/reload?confirm=5m", "", "").await;
    assert_eq!((status, &outcome["outcome"]), (200, &json!("committed")));
    assert_eq!(post("/admin/confirm", "\"1\"", "").await.0, 412);
    let (status, outcome) = post("/admin/confirm", "\"4\"", r#"{"note": "good"}"#).await;
    assert_eq!((status, &outcome["config_generation"]), (200, &json!(4)));
    assert_eq!(outcome["status"], "success");
    assert_eq!(post("/admin/confirm", "", "").await.0, 409);
}

#[tokio::test]
async fn what_is_not_confirmed_goes_back_by_itself_and_what_is_confirmed_stays() {
    let mut node = Spec::new().start().await;
    let first = process::read(&node.spec().conf_path());
    node.edit(|conf| conf["protocol"] = limits("2KiB"));
    assert_eq!(code(&node.spec().cli(&["reload", "--confirm", "1s"])), Some(0));
    let status = node.status().await;
    assert!(status["confirm_deadline"].is_u64(), "{status:#}");
    eventually("it goes back", async || {
        let status = node.status().await;
        (status["generation"] == 3 && status["confirm_deadline"].is_null()).then_some(())
    })
    .await;
    assert_eq!(process::read(&node.spec().conf_path()), first);
    let audit = eventually("its line", async || node.audit().get(2).cloned()).await;
    assert_eq!((&audit["trigger"], &audit["outcome"]), (&json!("rollback"), &json!("committed")));
    assert!(!node.spec().folder().join("data").join("standing.json").exists());

    node.edit(|conf| conf["protocol"] = limits("4KiB"));
    assert_eq!(code(&node.spec().cli(&["reload", "--confirm", "5m"])), Some(0));
    // A reload meanwhile keeps deadline and target.
    let deadline = node.status().await["confirm_deadline"].clone();
    node.reload_with(|conf| conf["logging"]["level"] = json!("warn")).await;
    let status = node.status().await;
    assert_eq!((&status["confirm_deadline"], &status["confirm_target"]), (&deadline, &json!(3)));
    assert_eq!(code(&node.spec().cli(&["confirm", "-m", "seen"])), Some(0));
    assert_eq!(code(&node.spec().cli(&["confirm"])), Some(1));
    assert_eq!(node.status().await["confirm_deadline"], Value::Null);
    let node = node.kill().await.start().await;
    assert_eq!((size(&node).await, &node.status().await["generation"]), (json!("4KiB"), &json!(5)));
}

#[tokio::test]
async fn an_unconfirmed_generation_goes_back_although_the_node_was_killed() {
    let mut node = Spec::new().start().await;
    let first = process::read(&node.spec().conf_path());
    node.edit(|conf| conf["protocol"] = limits("2KiB"));
    assert_eq!(code(&node.spec().cli(&["reload", "--confirm", "10s"])), Some(0));
    let deadline = node.status().await["confirm_deadline"].clone();
    // Started again in time: it waits on, until the same moment.
    let spec = node.kill().await;
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    let status = node.status().await;
    assert_eq!((&status["generation"], &status["confirm_deadline"]), (&json!(2), &deadline));
    assert_eq!(size(&node).await, "2KiB");
    // Started again too late: it does not run on what nobody confirmed, not for a moment.
    let spec = node.kill().await;
    let standing = spec.folder().join("data").join("standing.json");
    let mut awaited: Value = serde_json::from_slice(&fs::read(&standing).unwrap()).unwrap();
    awaited["unconfirmed"]["by_unix_ms"] = json!(1);
    fs::write(&standing, awaited.to_string()).unwrap();
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    let status = node.status().await;
    assert_eq!((&status["generation"], size(&node).await), (&json!(3), json!("1MiB")));
    assert_eq!(status["last_reload"]["trigger"], "rollback");
    assert_eq!(process::read(&node.spec().conf_path()), first);
    assert!(!standing.exists());
    assert_eq!(node.hangup().await["outcome"], "unchanged");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_held_until_it_changes() {
    let mut spec = Spec::new();
    // A name that is as long as names may be: it can be written, and nothing beside it that is named after it.
    let name = "p".repeat(250);
    spec.conf["peers"]["file"] = json!(name);
    let path = spec.folder().join(&name);
    let other = fednode_tests::Keys::generate().public_key;
    let with_other = format!("peers:\n- public_key: {other}\n  addresses: []\n");
    fs::write(&path, "peers: []\n").unwrap();
    let mut node = spec.start().await;
    fs::write(&path, &with_other).unwrap();
    assert_eq!(node.hangup().await["outcome"], "committed");
    let back = node.spec().cli(&["rollback", "--json"]);
    assert_eq!(code(&back), Some(0), "{back:?}");
    let back = stdout_json(&back);
    assert!(back["warnings"][0]["message"].as_str().unwrap().contains("passed over"), "{back:#}");
    assert!(back["warnings"][0]["file"].as_str().unwrap().contains(&name));
    let members = async |node: &Node| node.status().await["members"].as_array().unwrap().len();
    let held = async |node: &Node| node.status().await["held"].as_array().unwrap().len();
    assert_eq!((process::read(&path), members(&node).await, held(&node).await), (with_other.clone(), 0, 1));
    let unchanged = node.hangup().await;
    assert_eq!(unchanged["outcome"], "unchanged", "its bytes are passed over");
    assert!(unchanged["warnings"][0]["message"].as_str().unwrap().starts_with("is held"), "{unchanged:#}");
    // Another key changes meanwhile: still.
    node.reload_with(|conf| conf["protocol"] = limits("2KiB")).await;
    assert_eq!((members(&node).await, held(&node).await), (0, 1));
    // Also by a start.
    let node = node.kill().await.start().await;
    assert_eq!((members(&node).await, held(&node).await), (0, 1));
    assert_eq!(node.hangup().await["outcome"], "unchanged");
    // Until they change; and then what they said before counts like anything else.
    fs::write(&path, "peers: [] # edited\n").unwrap();
    assert_eq!(node.hangup().await["outcome"], "unchanged");
    assert_eq!(held(&node).await, 0);
    fs::write(&path, &with_other).unwrap();
    assert_eq!(node.hangup().await["outcome"], "committed");
    assert_eq!(members(&node).await, 1);
    let node = node.kill().await.start().await;
    assert_eq!(members(&node).await, 1);
}

#[tokio::test]
async fn a_file_that_is_gone_comes_back_with_its_generation() {
    let mut spec = Spec::new();
    spec.peers =
        json!({"peers": [{"public_key": fednode_tests::Keys::generate().public_key, "addresses": []}]});
    let node = spec.start().await;
    let peers = process::read(&node.spec().peers_path());
    fs::remove_file(node.spec().peers_path()).unwrap();
    assert_eq!(node.hangup().await["outcome"], "committed");
    let back = node.spec().cli(&["rollback", "--json"]);
    assert_eq!(code(&back), Some(0), "{back:?}");
    assert_eq!(process::read(&node.spec().peers_path()), peers);
    assert_eq!(node.status().await["members"].as_array().unwrap().len(), 1);
    assert_eq!(node.hangup().await["outcome"], "unchanged");
}

/// Generations 1 and 2 on two ports; whoever holds a port keeps its generation from running.
async fn two_ports() -> (Spec, Port) {
    let mut node = Spec::new().start().await;
    let second = Port::free();
    node.edit(|conf| conf["network"] = json!({"addresses": [second.loopback()]}));
    assert_eq!(code(&node.spec().cli(&["reload", "--confirm", "10s"])), Some(0));
    (node.kill().await, second)
}

#[tokio::test]
async fn what_was_to_come_back_and_cannot_at_a_start_does_not_keep_the_node_down() {
    let (spec, _second) = two_ports().await;
    let standing = spec.folder().join("data").join("standing.json");
    let mut awaited: Value = serde_json::from_slice(&fs::read(&standing).unwrap()).unwrap();
    awaited["unconfirmed"]["by_unix_ms"] = json!(1);
    fs::write(&standing, awaited.to_string()).unwrap();
    let taken = std::net::TcpListener::bind(spec.port.address()).unwrap();
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    assert!(node.stderr().contains("generation 1 was to come back"), "{}", node.stderr());
    assert_eq!(node.status().await["confirm_target"], 1);
    // And as soon as it can, it does.
    drop(taken);
    eventually("it goes back", async || (node.status().await["generation"] == 3).then_some(())).await;
    assert!(node.spec().port.accepts());
}

#[tokio::test]
async fn the_last_known_good_is_one_that_can_run() {
    let (spec, second) = two_ports().await;
    let _taken = std::net::TcpListener::bind(second.address()).unwrap();
    fs::write(spec.conf_path(), "broken: [").unwrap();
    let child =
        spec.command(&["run", "--last-known-good"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let client = fednode::client::Client::new(spec.folder().join("data").join("admin.sock"));
    let status: Value =
        eventually("it serves", async || client.get("/admin/status").await.ok()?.json().ok()).await;
    assert!(status["degraded_reason"].as_str().unwrap().contains("generation 1"), "{status:#}");
    assert!(spec.port.accepts());
    let mut child = child;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_read_for_want_of_descriptors_is_read_again() {
    use rustix::process::{Resource, Rlimit};
    let mut node = Spec::new().start().await;
    node.edit(|conf| conf["protocol"] = limits("2KiB"));
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let none = Rlimit { current: Some(3), maximum: limit.maximum };
    rustix::process::prlimit(Some(node.pid()), Resource::Nofile, none).unwrap();
    node.signal(Signal::HUP);
    let plenty = Rlimit { current: Some(1024), maximum: limit.maximum };
    rustix::process::prlimit(Some(node.pid()), Resource::Nofile, plenty).unwrap();
    eventually("it is committed", async || {
        node.audit()
            .iter()
            .any(|line| line["outcome"] == "committed" && line["trigger"] == "signal")
            .then_some(())
    })
    .await;
    assert!(node.audit().iter().all(|line| line["outcome"] == "committed"), "{:#?}", node.audit());
}

#[tokio::test]
async fn a_node_starts_from_the_last_known_good_when_it_is_told_to() {
    let mut node = Spec::new().start().await;
    node.reload_with(|conf| conf["protocol"] = limits("2KiB")).await;
    let spec = node.kill().await;
    for broken in ["network: [", "version: 1\nnode: {}\n", "", "logging: {level: lowd}\n"] {
        fs::write(spec.conf_path(), broken).unwrap();
        let refused = spec.cli(&["run"]);
        assert_eq!(code(&refused), Some(1), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("configuration validation failed"));
    }
    // Missing altogether is no better.
    fs::remove_file(spec.conf_path()).unwrap();
    let child =
        spec.command(&["run", "--last-known-good"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let client = fednode::client::Client::new(spec.folder().join("data").join("admin.sock"));
    let status: Value =
        eventually("it serves", async || client.get("/admin/status").await.ok()?.json().ok()).await;
    assert_eq!(
        (&status["generation"], &status["degraded"], &status["state"]),
        (&json!(2), &json!(true), &json!("idle"))
    );
    assert!(
        status["degraded_reason"].as_str().unwrap().contains("last known good generation 2"),
        "{status:#}"
    );
    assert_eq!(client.get("/readyz").await.unwrap().status.as_u16(), 503);
    let metrics = String::from_utf8(client.get("/metrics").await.unwrap().body.to_vec()).unwrap();
    assert!(
        metrics.contains("fednode_config_last_reload_successful 0") && metrics.contains("fednode_degraded 1")
    );
    // A bad one does not, and a good one leads out of it.
    fs::write(spec.conf_path(), "network: [").unwrap();
    assert_eq!(code(&spec.cli(&["reload"])), Some(1));
    let status: Value = client.get("/admin/status").await.unwrap().json().unwrap();
    assert_eq!(status["degraded"], true);
    spec.write();
    let output = spec.cli(&["reload", "--json"]);
    assert_eq!(code(&output), Some(0), "{output:?}");
    let status: Value = client.get("/admin/status").await.unwrap().json().unwrap();
    assert_eq!((&status["degraded"], &status["in_sync"]), (&json!(false), &json!(true)), "{status:#}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    let mut child = child;
    child.wait().unwrap();
    // With good files the word changes nothing; without any history there is nothing to go back to.
    let fresh = Spec::new();
    fresh.write();
    fs::write(fresh.conf_path(), "x: [").unwrap();
    assert_eq!(code(&fresh.cli(&["run", "--last-known-good"])), Some(1));
    assert!(!fresh.folder().join("data").exists());
}

#[tokio::test]
async fn what_runs_is_not_said_to_be_on_disk_while_there_is_no_room() {
    // For the first generation there is, and for no other.
    let spec = Spec::new().env("FAILPOINTS", "generation::append=1*off->return(full)");
    let mut node = spec.start().await;
    assert_eq!(node.status().await["last_reload"]["durable"], true);
    node.edit(|conf| conf["protocol"] = limits("2KiB"));
    for (path, outcome) in [
        ("/admin/reload?confirm=60s", "committed"),
        ("/admin/reload", "unchanged"),
        ("/admin/confirm", "unchanged"),
    ] {
        let answer: Value = node.client().post(path, &[], vec![]).await.unwrap().json().unwrap();
        let said = (&answer["outcome"], &answer["durable"]);
        assert_eq!(said, (&json!(outcome), &json!(false)), "{path}: {answer:#}");
    }
    let output = node.spec().cli(&["reload"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("unchanged") && said.contains("NOT on disk"), "{said}");
}

#[tokio::test]
async fn a_clock_that_was_set_back_over_a_crash_does_not_put_the_way_back_off() {
    let mut node = Spec::new().start().await;
    node.edit(|conf| conf["protocol"] = limits("2KiB"));
    assert_eq!(code(&node.spec().cli(&["reload", "--confirm", "3s"])), Some(0));
    let spec = node.kill().await;
    let standing = spec.folder().join("data").join("standing.json");
    let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
    let mut awaited = read(fs::read(&standing).unwrap());
    assert_eq!(awaited["unconfirmed"]["within_ms"], 3000);
    // Seen from a clock that is 30 days behind.
    let by = awaited["unconfirmed"]["by_unix_ms"].as_u64().unwrap();
    let ahead = by + 30 * 24 * 3_600_000;
    awaited["unconfirmed"]["by_unix_ms"] = json!(ahead);
    fs::write(&standing, awaited.to_string()).unwrap();
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    // Also on the disk, for a start after the next kill.
    let told = fs::read(&standing).ok().map(|bytes| read(bytes)["unconfirmed"]["by_unix_ms"].as_u64());
    assert!(told.is_none_or(|told| told < Some(ahead)), "{told:?}");
    eventually("it goes back", async || (node.status().await["generation"] == 3).then_some(())).await;
    assert_eq!(size(&node).await, "1MiB");
}
