//! What goes wrong around a node: two nodes and one socket, a removed file, a start that fails, a kill between two lines, a
//! client that asks the wrong node.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use fednode::client::Client;
use fednode_tests::{Node, Spec, Stranger, eventually, process};
use rustix::process::Signal;
use serde_json::{Value, json};

#[tokio::test]
async fn a_socket_that_another_node_serves_is_never_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("shared.sock");
    let mut first = Spec::new();
    first.conf["admin"] = json!({"socket": socket});
    let first = first.spawn();
    let client = Client::new(&socket);
    eventually("the first serves", async || client.get("/healthz").await.ok()).await;
    let pid = || async { client.get("/admin/status").await.unwrap().json::<Value>().unwrap()["pid"].clone() };
    let owner = pid().await;

    // At start.
    let mut second = Spec::new();
    second.conf["admin"] = json!({"socket": socket});
    second.write();
    let check = second.cli(&["check"]);
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    let mut second = second.spawn();
    assert_eq!(second.wait_for_end().await.code(), Some(1));
    assert!(second.stderr().contains("admin.socket"), "{}", second.stderr());
    assert_eq!(pid().await, owner);
    // By reload.
    let mut third = Spec::new().start().await;
    let outcome = third.reload_with(|conf| conf["admin"] = json!({"socket": socket})).await;
    assert_eq!(outcome["outcome"], "rejected", "{outcome:#}");
    assert_eq!(outcome["errors"][0]["path"], "admin.socket");
    drop((second, third));
    assert_eq!(pid().await, owner);
    first.signal(Signal::TERM);
    eventually("it cleans up", async || (!socket.exists()).then_some(())).await;
}

#[tokio::test]
async fn a_socket_file_that_was_removed_comes_back_with_sighup() {
    let node = Spec::new().start().await;
    let socket = node.client().socket().to_owned();
    fs::remove_file(&socket).unwrap();
    node.signal(Signal::HUP);
    eventually("it is served again", async || node.client().get("/healthz").await.ok()).await;
    assert_eq!(node.status().await["generation"], 1);
    // Something else stands in its place for a while.
    fs::remove_file(&socket).unwrap();
    fs::create_dir(&socket).unwrap();
    node.signal(Signal::HUP);
    node.wait_for_log("cannot be served").await;
    fs::remove_dir(&socket).unwrap();
    node.signal(Signal::HUP);
    eventually("it is served again", async || node.client().get("/healthz").await.ok()).await;
}

#[tokio::test]
async fn a_generation_that_was_told_and_lost_keeps_its_number() {
    let mut node = Spec::new().start().await;
    node.reload_with(|conf| conf["protocol"] = json!({"max_message_size": "2KiB"})).await;
    let spec = node.kill().await;
    // As after a commit on a full disk, whose line got through and whose generation did not.
    let generations = spec.folder().join("data").join("generations");
    let newest = fs::read_dir(&generations).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    fs::remove_file(newest).unwrap();
    let node = spec.start().await;
    assert_eq!(node.status().await["generation"], 3);
}

#[tokio::test]
async fn a_command_never_talks_to_another_configurations_node() {
    let mut node = Spec::new().start().await;
    node.edit(|conf| conf["logging"]["level"] = json!("warn"));
    let mut other = node.spec().conf.clone();
    other["node"]["data_dir"] = json!("other-data");
    let path = node.spec().folder().join("other.yaml");
    fs::write(&path, process::yaml(&other)).unwrap();
    for command in ["reload", "status", "diff", "history"] {
        let output = node.spec().cli(&[command, "-c", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(5), "{command}: {output:?}");
    }
    let check = node.spec().cli(&["check", "-c", path.to_str().unwrap()]);
    assert_eq!(check.status.code(), Some(1), "the port is held by a node on another data folder: {check:?}");
    assert_eq!(node.status().await["generation"], 1);
    // A socket that moves within the data folder is the same node's.
    node.edit(|conf| conf["admin"] = json!({"socket": "moved.sock"}));
    let output = node.spec().cli(&["reload"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(node.spec().cli(&["status"]).status.code(), Some(0));
    node.edit(|conf| conf["admin"] = json!({"socket": "moved-again.sock"}));
    let output = node.spec().cli(&["reload"]);
    assert_eq!(output.status.code(), Some(0), "from one name of its own to another: {output:?}");
}

#[tokio::test]
async fn a_start_that_fails_is_no_generation() {
    let node = Spec::new().start().await;
    let (_, mut spec) = node.stop().await;
    let audit = spec.folder().join("data").join("audit.jsonl");
    let lines = || fs::read_to_string(&audit).unwrap().lines().count();
    assert_eq!(lines(), 1);
    spec.conf["protocol"] = json!({"max_message_size": "2KiB"});
    // Valid, and refused by the machine: the socket's name is taken by a folder.
    let taken = spec.folder().join("data").join("admin.sock");
    fs::create_dir(&taken).unwrap();
    spec.write();
    let run = spec.cli(&["run"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    assert_eq!(lines(), 1);
    fs::remove_dir(taken).unwrap();
    let node = spec.start().await;
    let status = node.status().await;
    assert_eq!(status["generation"], 2);
    assert_eq!(status["last_reload"]["changes"][0]["path"], "protocol.max_message_size");
}

#[tokio::test]
async fn a_line_that_a_kill_cut_short_is_written_at_the_next_start() {
    let mut node = Spec::new().start().await;
    node.reload_with(|conf| conf["protocol"] = json!({"max_message_size": "2KiB"})).await;
    let told = node.reload_with(|conf| conf["protocol"] = json!({"max_message_size": "3KiB"})).await;
    let spec = node.kill().await;
    let path = spec.folder().join("data").join("audit.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let whole: Vec<&str> = text.lines().collect();
    // The last line is torn in the middle, as by a kill during the write.
    let torn = format!("{}\n{}", whole[..2].join("\n"), &whole[2][..100]);
    fs::write(&path, torn).unwrap();
    let node = spec.start().await;
    let audit = node.audit();
    assert_eq!(audit.len(), 4, "{audit:#?}");
    assert_eq!((&audit[2]["id"], &audit[2]["config_generation"]), (&told["id"], &json!(3)));
    assert_eq!((&audit[2]["trigger"], &audit[2]["changes"]), (&told["trigger"], &told["changes"]));
    assert_eq!((&audit[3]["trigger"], &audit[3]["config_generation"]), (&json!("startup"), &json!(3)));
    // Once.
    let node = node.kill().await.start().await;
    assert_eq!(node.audit().len(), 5);
}

#[tokio::test]
async fn one_of_many_who_expect_the_same_generation_wins() {
    let mut node = Spec::new().start().await;
    for round in 0..5 {
        node.edit(|conf| conf["protocol"] = json!({"max_message_size": 2000 + round}));
        let tag = format!("\"{}\"", round + 1);
        let client = node.client();
        let asked: Vec<_> = (0..30)
            .map(|_| {
                let (client, tag) = (client.clone(), tag.clone());
                tokio::spawn(async move { client.post("/admin/reload", &[("if-match", &tag)], vec![]).await })
            })
            .collect();
        let mut codes = Vec::new();
        for answer in asked {
            codes.push(answer.await.unwrap().unwrap().status.as_u16());
        }
        codes.sort_unstable();
        assert_eq!(codes[0], 200);
        assert!(codes[1..].iter().all(|code| *code == 412), "{codes:?}");
    }
    assert_eq!(node.audit().len(), 6);
}

#[tokio::test]
async fn a_stopped_node_is_no_node() {
    let node = Spec::new().start().await;
    node.signal(Signal::STOP);
    let output = node.spec().cli(&["status"]);
    node.signal(Signal::CONT);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(node.spec().cli(&["status"]).status.code(), Some(0));
}

#[tokio::test]
async fn a_newer_file_shows_and_does_not_make_the_node_unready() {
    let mut node = Spec::new().start().await;
    let gauge = async |node: &Node| {
        let answer = node.client().get("/metrics").await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let line =
            text.lines().find(|line| line.starts_with("fednode_config_file_differs ")).unwrap().to_owned();
        line.ends_with('1') || line.ends_with("1.0")
    };
    assert_eq!(node.status().await["file_differs"], false);
    assert!(!gauge(&node).await);
    node.edit(|conf| conf["logging"]["level"] = json!("warn"));
    assert_eq!(node.status().await["file_differs"], true);
    assert!(gauge(&node).await);
    assert!(node.client().get("/readyz").await.unwrap().status.is_success());
    node.hangup().await;
    assert_eq!(node.status().await["file_differs"], false);
}

#[tokio::test]
async fn metrics_are_prometheus_text_and_gauges_go_down() {
    let nodes = Node::federation(2).await;
    let [first, second] = nodes.try_into().unwrap_or_else(|_| panic!("two nodes"));
    let open = async |node: &Node| {
        let answer = node.client().get("/metrics").await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(
            text.contains("# TYPE config_reload_success_total counter") && !text.contains("# EOF"),
            "{text}"
        );
        let samples =
            text.lines().filter_map(|line| line.strip_prefix("fednode_connections{")?.split_once("} "));
        samples.map(|(_, value)| value.parse::<f64>().unwrap()).sum::<f64>()
    };
    assert!((open(&first).await - 1.0).abs() < 0.1);
    second.kill().await;
    first.wait_for_connections(0).await;
    assert!(open(&first).await.abs() < 0.1);
}

#[tokio::test]
async fn errors_have_the_contracts_body_whatever_is_sent() {
    let node = Spec::new().start().await;
    let answer = node.client().post("/admin/reload", &[], vec![b'x'; 1 << 20]).await.unwrap();
    assert_eq!(answer.status.as_u16(), 413);
    let body: Value = answer.json().unwrap();
    assert_eq!(body["status"], "error");
    let noted = node.spec().cli(&["reload", "-m", "evil\n\u{1b}[31mred"]);
    assert_eq!(noted.status.code(), Some(0));
    let history = node.spec().cli(&["history"]);
    assert!(!String::from_utf8_lossy(&history.stdout).contains('\u{1b}'), "{history:?}");
}

#[tokio::test]
async fn a_member_for_whom_strangers_leave_no_room_is_foretold() {
    let mut specs = Spec::federation(2);
    let entry = specs[0].entry();
    specs[0].peers = json!({"peers": []});
    specs[0].conf["network"]["limits"] = json!({"connections": 2});
    let (member, node) = (specs.pop().unwrap(), specs.pop().unwrap());
    let mut node = node.start().await;
    let at = node.spec().port.loopback();
    let strangers = [Stranger::new(), Stranger::new()];
    for stranger in &strangers {
        stranger.call(&at).await.expect("everybody may connect");
    }
    node.wait_for_connections(2).await;
    let limit = |message: &Value| message["path"] == "network.limits.connections";
    let plan = |node: &Node| -> Vec<Value> {
        let answer = node.spec().cli(&["reload", "--dry-run", "--json"]);
        let plan: Value = serde_json::from_slice(&answer.stdout).expect("JSON");
        assert_eq!(plan["outcome"], "planned", "{plan:#}");
        plan["warnings"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|warning| limit(warning))
            .cloned()
            .collect()
    };
    node.edit(|conf| conf["logging"]["level"] = json!("debug"));
    assert_eq!(plan(&node), Vec::<Value>::new(), "nothing of this is about room");

    let newcomer = json!({"public_key": member.keys.public_key, "addresses": []});
    node.edit_peers(|peers| peers.push(newcomer));
    let warnings = plan(&node);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let (message, hint) = (&warnings[0]["message"], &warnings[0]["hint"]);
    assert_eq!(
        message,
        "2 leaves room for 0 of the 1 member that is not connected: 2 connections are strangers', and a reload closes none of them"
    );
    assert!(hint.as_str().is_some_and(|hint| hint.starts_with("at least 3 ")), "{hint}");
    assert!(warnings[0]["line"].is_u64(), "{warnings:?}");
    // Both remedies are.
    node.edit(|conf| conf["network"]["membership"] = json!("members"));
    assert_eq!(plan(&node), Vec::<Value>::new());
    node.edit(|conf| {
        conf["network"]["membership"] = json!("open");
        conf["network"]["limits"] = json!({"connections": 3});
    });
    assert_eq!(plan(&node), Vec::<Value>::new());
    // What was foretold is in the outcome, too, and comes true.
    node.edit(|conf| conf["network"]["limits"] = json!({"connections": 2}));
    let outcome = node.hangup().await;
    assert_eq!(outcome["warnings"], json!(warnings), "{outcome:#}");
    let mut member = member;
    member.peers = json!({"peers": [entry]});
    let member = member.start().await;
    node.wait_for_log("peer_denied").await;
    node.reload_with(|conf| conf["network"]["limits"] = json!({"connections": 3})).await;
    member.wait_for_connections(1).await;
    drop(strangers);
}

/// Whoever is told nothing has to send it again, and does not know whether it is there twice then.
#[tokio::test]
async fn a_message_that_is_being_published_when_the_node_stops_is_answered() {
    let mut spec = Spec::new();
    spec.conf["protocol"] = json!({"topics": [{"name": "blocks"}]});
    let mut node = spec.start().await;
    let mut line = UnixStream::connect(node.client().socket()).unwrap();
    let head = "POST /v1/topics/blocks/messages HTTP/1.1\r\nhost: node\r\ncontent-length: 7\r\n\r\n";
    line.write_all(format!("{head}blo").as_bytes()).unwrap();
    node.signal(Signal::TERM);
    node.wait_for_log("Shutting down...").await;
    line.write_all(b"ck 1").unwrap();
    let mut answer = [0; 12];
    line.read_exact(&mut answer).expect("an answer");
    assert!([&b"HTTP/1.1 200"[..], b"HTTP/1.1 503"].contains(&&answer[..]), "{answer:?}");
    assert_eq!(node.wait_for_end().await.code(), Some(0));
}
