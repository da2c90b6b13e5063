//! The command line and the routes of the socket, from outside: what they print, and with which code they end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use fednode_tests::wait::PATIENCE;
use fednode_tests::{Node, Spec, eventually, process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout_json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The binary in an empty folder, as a person would call it.
fn in_folder(folder: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(process::binary());
    command.args(arguments).current_dir(folder).env_remove("FEDNODE_CONFIG").env_remove("FEDNODE_SOCKET");
    command.output().expect("the command runs")
}

#[test]
fn init_id_keygen_and_check() {
    let folder = tempfile::tempdir().unwrap();
    let init = in_folder(folder.path(), &["init", "--json"]);
    assert_eq!(code(&init), 0, "{init:?}");
    let who = stdout_json(&init);
    for file in ["conf.yaml", "peers.yaml"] {
        let mode = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(code(&in_folder(folder.path(), &["check"])), 0);
    assert_eq!(stdout_json(&in_folder(folder.path(), &["id", "--json"])), who);
    let before = fs::read(folder.path().join("conf.yaml")).unwrap();
    let again = in_folder(folder.path(), &["init"]);
    assert_eq!(code(&again), 1);
    assert!(stderr(&again).contains("conf.yaml"), "{again:?}");
    assert_eq!(fs::read(folder.path().join("conf.yaml")).unwrap(), before, "never overwrites");

    let pair = stdout_json(&in_folder(folder.path(), &["keygen", "--json"]));
    let read = net::Identity::read(pair["private_key"].as_str().unwrap()).unwrap();
    assert!(!read.mismatch);
    assert_eq!(read.identity.public_key().to_string(), pair["public_key"].as_str().unwrap());
    assert_eq!(read.identity.peer_id().to_string(), pair["peer_id"].as_str().unwrap());
}

#[test]
fn usage_errors_are_2_and_no_node_is_5() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(code(&in_folder(folder.path(), &["frobnicate"])), 2);
    assert_eq!(code(&in_folder(folder.path(), &["reload", "--nonsense"])), 2);
    for arguments in
        [&["reload"][..], &["status"], &["diff"], &["history"], &["check", "--against", "running"]]
    {
        let output = in_folder(folder.path(), arguments);
        assert_eq!(code(&output), 5, "{arguments:?}: {output:?}");
        let text = stderr(&output);
        assert!(
            text.contains("FEDNODE_SOCKET")
                && text.contains("admin.socket")
                && text.contains("data/admin.sock"),
            "{text}"
        );
    }
    let missing = in_folder(folder.path(), &["check", "-c", "nowhere.yaml"]);
    assert_eq!(code(&missing), 1);
    assert!(stderr(&missing).contains("nowhere.yaml"));
}

#[test]
fn an_identity_that_nobody_keeps_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    in_folder(folder.path(), &["init"]);
    let path = folder.path().join("conf.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let key = text.lines().find(|line| line.trim_start().starts_with("private_key:")).unwrap();
    fs::write(&path, text.replace(key, "  private_key: \"\"")).unwrap();
    let id = in_folder(folder.path(), &["id"]);
    assert_eq!((code(&id), stdout(&id).as_str()), (1, ""), "{id:?}");
    assert!(stderr(&id).contains("no key"), "{id:?}");
}

/// Without a subcommand and without a file: a default one with a new key, and the node runs.
#[tokio::test]
async fn a_node_from_nothing() {
    let spec = Spec::new();
    let mut command = Command::new(process::binary());
    command.current_dir(spec.folder()).env_remove("FEDNODE_CONFIG").env_remove("FEDNODE_SOCKET");
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    // The default ports may be taken on this machine; what is tested here is the file.
    let mut child = command.spawn().unwrap();
    let conf = spec.conf_path();
    eventually("conf.yaml is written", async || conf.exists().then_some(())).await;
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(fs::metadata(&conf).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&conf).unwrap();
    assert!(text.contains("private_key:") && text.contains('#'), "{text}");
    assert_eq!(code(&in_folder(spec.folder(), &["id"])), 0);
}

#[tokio::test]
async fn an_empty_key_is_generated_and_written_back_with_the_comments() {
    let spec = Spec::new();
    let text = format!(
        "# our node\nnode:\n  private_key: \"\"   # filled in by the node\nnetwork:\n  addresses: [{}]\npeers: {{connection_timeout: \
         10s}}\nlogging: {{level: info, format: json}}\n",
        spec.port.loopback()
    );
    fs::write(spec.conf_path(), &text).unwrap();
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    let written = fs::read_to_string(node.spec().conf_path()).unwrap();
    assert!(written.starts_with("# our node\n") && written.contains("# filled in by the node"), "{written}");
    assert_eq!(node.hangup().await["outcome"], "unchanged");
    let status = node.status().await;
    let id = stdout_json(&node.spec().cli(&["id", "--json"]));
    assert_eq!(id["public_key"], status["public_key"]);
}

#[tokio::test]
async fn reload_status_diff_and_history() {
    let mut node = Spec::new().start().await;
    assert_eq!(code(&node.spec().cli(&["diff"])), 0);
    node.edit(|conf| conf["logging"]["level"] = json!("debug"));

    let diff = node.spec().cli(&["diff"]);
    assert_eq!(code(&diff), 1);
    assert!(stdout(&diff).contains("-  level: info\n+  level: debug"), "{diff:?}");
    let check = node.spec().cli(&["check", "--against", "running", "--json"]);
    assert_eq!((code(&check), &stdout_json(&check)["outcome"]), (0, &json!("planned")));
    let planned = stdout_json(&check);
    assert_eq!(planned["changes"][0]["path"], "logging.level");
    assert_eq!(planned["changes"][0]["component"], "logging");
    assert_eq!(planned["changes"][0]["strategy"], "in_place");
    let dry = node.spec().cli(&["reload", "--dry-run"]);
    assert_eq!(code(&dry), 0);
    assert_eq!(node.audit().len(), 1, "looking is no attempt");
    assert_eq!(node.status().await["generation"], 1);

    let reload = node.spec().cli(&["reload", "-m", "to see more", "--json"]);
    assert_eq!(code(&reload), 0, "{reload:?}");
    let outcome = stdout_json(&reload);
    for (key, value) in [
        ("status", json!("success")),
        ("outcome", json!("committed")),
        ("message", json!("Configuration reloaded successfully")),
        ("config_generation", json!(2)),
        ("from_generation", json!(1)),
        ("trigger", json!("cli")),
        ("note", json!("to see more")),
        ("durable", json!(true)),
        ("warnings", json!([])),
        ("errors", json!([])),
    ] {
        if key != "warnings" {
            assert_eq!(outcome[key], value, "{key}: {outcome:#}");
        }
    }
    let actor = format!("uid:{}", rustix::process::getuid().as_raw());
    assert!(outcome["actor"].as_str().unwrap().starts_with(&actor), "{outcome:#}");
    assert_eq!(node.audit().last().unwrap(), &outcome, "the audit line is the outcome");
    assert_eq!(node.status().await["last_reload"], outcome);
    assert_eq!(code(&node.spec().cli(&["reload"])), 0);

    node.edit(|conf| conf["logging"]["level"] = json!("loud"));
    let rejected = node.spec().cli(&["reload"]);
    assert_eq!(code(&rejected), 1);
    assert!(stderr(&rejected).contains("logging.level"), "{rejected:?}");
    assert_eq!(code(&node.spec().cli(&["check", "--against", "running"])), 1);
    let metrics = metrics(&node).await;
    assert!(metrics.contains("fednode_config_last_reload_successful 0"), "{metrics}");
    assert!(metrics.contains("config_reload_success_total 1\n"), "{metrics}");
    assert!(metrics.contains("config_reload_failure_total 1\n"), "{metrics}");
    assert!(metrics.contains("config_generation 2"), "{metrics}");

    let history = node.spec().cli(&["history", "--json"]);
    let history = stdout_json(&history);
    let numbers: Vec<_> =
        history["generations"].as_array().unwrap().iter().map(|g| g["generation"].clone()).collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(history["generations"][0]["note"], "to see more");
    let human = node.spec().cli(&["status"]);
    assert_eq!(code(&human), 0);
    assert!(stdout(&human).contains("generation  2 (idle)"), "{human:?}");
    assert!(!stdout(&human).contains('\u{1b}'), "nothing is coloured in a pipe");
}

async fn metrics(node: &Node) -> String {
    let answer = node.client().get("/metrics").await.unwrap();
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[tokio::test]
async fn a_rolled_back_reload_ends_with_3_and_409() {
    let mut node = Spec::new().env("FAILPOINTS", "protocol::commit=2*return(error)->off").start().await;
    node.edit(|conf| conf["protocol"] = json!({"max_message_size": "2KiB"}));
    assert_eq!(code(&node.spec().cli(&["reload"])), 3);
    let answer = node.client().post("/admin/reload", &[], vec![]).await.unwrap();
    assert_eq!(answer.status.as_u16(), 409);
    let outcome: Value = answer.json().unwrap();
    assert_eq!((&outcome["status"], &outcome["trigger"]), (&json!("error"), &json!("api")));
    assert_eq!(outcome["errors"][0]["class"], "component");
    assert_eq!(outcome["errors"][0]["component"], "protocol");
    let metrics = metrics(&node).await;
    assert!(metrics.contains("fednode_reload_failures_total{class=\"component\"} 2"), "{metrics}");
    assert_eq!(code(&node.spec().cli(&["reload"])), 0);
}

#[tokio::test]
async fn the_routes_of_the_socket() {
    let mut node = Spec::new().start().await;
    let client = node.client();
    let mode = fs::metadata(client.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let health = client.get("/healthz").await.unwrap();
    assert_eq!(health.json::<Value>().unwrap(), json!({"status": "ok"}));
    let ready: Value = client.get("/readyz").await.unwrap().json().unwrap();
    assert_eq!(ready["status"], "healthy", "{ready:#}");
    for check in ["network", "peer_store", "protocol", "logging", "config", "certificates"] {
        assert_eq!(ready["checks"][check]["status"], "pass", "{check}");
        assert!(ready["checks"][check]["latency_ms"].is_number(), "{check}");
    }
    for (method, path, status) in [
        ("GET", "/nowhere", 404),
        ("GET", "/admin/reload", 405),
        ("POST", "/admin/status", 405),
        ("POST", "/admin/reload?config=/etc/passwd", 400),
        ("POST", "/admin/reload?dry_run=perhaps", 400),
    ] {
        let answer =
            if method == "GET" { client.get(path).await } else { client.post(path, &[], vec![]).await };
        let answer = answer.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        let body: Value = answer.json().unwrap();
        assert_eq!(body["status"], "error", "{method} {path}");
        assert!(body["message"].is_string() && body["error"].is_string(), "{method} {path}: {body}");
    }
    // Of a method that is not for it, a resource names those that are (RFC 9110, 15.5.6).
    let mut raw = UnixStream::connect(client.socket()).await.unwrap();
    let request = b"DELETE /admin/peers HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    raw.write_all(request).await.unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 405") && answer.contains("\r\nallow: GET, HEAD, POST\r\n"),
        "{answer}"
    );
    // Optimistic locking: only the generation that the caller has seen.
    node.edit(|conf| conf["logging"]["level"] = json!("warn"));
    for (tag, status) in [("\"7\"", 412), ("nonsense", 412), ("\"1\"", 200), ("\"1\"", 412), ("\"2\"", 200)] {
        let answer = client.post("/admin/reload", &[("if-match", tag)], vec![]).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{tag}: {answer:?}");
    }
    assert_eq!(node.status().await["generation"], 2);
    let config: Value = client.get("/admin/config").await.unwrap().json().unwrap();
    assert_eq!(config["config"]["logging"]["level"], "warn");
    assert_eq!(config["config"]["node"]["private_key"], "[redacted]");
}

#[tokio::test]
async fn messages_to_nobody_and_of_any_bytes() {
    let nodes = Node::federation(2).await;
    let stranger = fednode_tests::Keys::generate().public_key;
    assert_eq!(nodes[0].send(&stranger, "x").await.unwrap().status.as_u16(), 404);
    assert_eq!(nodes[0].send("nonsense", "x").await.unwrap().status.as_u16(), 404);
    let mut inbox = nodes[1].client().events("/v1/messages").await.unwrap();
    let peer_id = nodes[1].status().await["peer_id"].as_str().unwrap().to_owned();
    let bytes = vec![0xff, 0x00, 0xfe];
    let headers = [("content-type", "application/x-bytes")];
    let path = format!("/v1/peers/{peer_id}/messages");
    let sent = nodes[0].client().post(&path, &headers, bytes).await.unwrap();
    assert_eq!(sent.status.as_u16(), 200, "{sent:?}");
    let event: Value = serde_json::from_str(&futures::StreamExt::next(&mut inbox).await.unwrap()).unwrap();
    assert_eq!(event["data_base64"], "/wD+");
    assert_eq!(event["content_type"], "application/x-bytes");
    assert_eq!(event["from"], nodes[0].key());
    // The other end is gone.
    let [first, second] = nodes.try_into().unwrap_or_else(|_| panic!("two nodes"));
    let gone = second.kill().await;
    first.wait_for_connections(0).await;
    assert_eq!(first.send(&gone.keys.public_key, "x").await.unwrap().status.as_u16(), 503);
}

#[tokio::test]
async fn a_reader_that_names_its_last_event_gets_those_after_it() {
    let nodes = Node::federation(2).await;
    let mut inbox = nodes[1].client().events("/v1/messages").await.unwrap();
    for text in ["one", "two"] {
        assert_eq!(nodes[0].send(nodes[1].key(), text).await.unwrap().status.as_u16(), 200);
        let event = futures::StreamExt::next(&mut inbox).await.unwrap();
        assert!(event.contains(text), "{event}");
    }
    let first_of = async |last: &str| {
        let mut stream = UnixStream::connect(nodes[1].spec().folder().join("data/admin.sock")).await.unwrap();
        let request = format!("GET /v1/messages HTTP/1.1\r\nhost: node\r\nlast-event-id: {last}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let id = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("the stream goes on");
                if line.starts_with("id: ") {
                    return line;
                }
            }
        };
        tokio::time::timeout(PATIENCE, id).await.expect("an event")
    };
    assert_eq!(first_of("1").await, "id: 2");
    assert_eq!(first_of("0").await, "id: 1");
}

#[tokio::test]
async fn log_lines_that_others_look_for() {
    let nodes = Node::federation(2).await;
    for text in [
        "BTC Federation Node starting with config",
        "Network manager started successfully",
        "Node started successfully",
        "Peer ID",
        "Listening addresses",
        "For peers.yaml, use peer ID",
        "Connection established with peer",
        "Bootstrap successful - 1 peers connected",
    ] {
        nodes[0].wait_for_log(text).await;
    }
    let log = nodes[0].log();
    for text in ["Error:", "failed to", "FATAL", "configuration validation failed:"] {
        assert!(!log.contains(text) && !nodes[0].stderr().contains(text), "'{text}' in {log}");
    }
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(
            line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
    let [first, _second] = nodes.try_into().unwrap_or_else(|_| panic!("two nodes"));
    let (status, spec) = first.stop().await;
    assert_eq!(status.code(), Some(0));
    let log = fs::read_to_string(spec.folder().join("stdout.log")).unwrap();
    assert!(log.contains("Shutting down...") && log.contains("Shutdown complete"), "{log}");
    let alone = Spec::new().start().await;
    alone.wait_for_log("No peers configured - running in standalone mode").await;
}

/// A supervisor that opened a pipe and never reads it must not stop the node.
#[tokio::test]
async fn a_console_that_nobody_reads_stops_nothing() {
    let mut spec = Spec::new();
    spec.conf["logging"]["level"] = json!("debug");
    spec.write();
    let mut command = spec.command(&["run"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let client = fednode::client::Client::new(spec.folder().join("data").join("admin.sock"));
    eventually("it serves", async || client.get("/healthz").await.ok()).await;
    // Far more than a pipe holds, from every actor.
    for round in 0..150 {
        spec.conf["protocol"] = json!({"max_message_size": 1000 + round});
        spec.conf["network"]["limits"] = json!({"connections": 100 + round});
        spec.write();
        let outcome: Value = client.post("/admin/reload", &[], vec![]).await.unwrap().json().unwrap();
        assert_eq!(outcome["outcome"], "committed", "round {round}: {outcome:#}");
    }
    let ready = client.get("/readyz").await.unwrap();
    assert!(ready.status.is_success(), "{ready:?}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    let status = eventually("it stops", async || child.try_wait().unwrap()).await;
    assert!(status.success());
}

#[test]
fn the_demo_holds_and_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(process::binary());
    let output = command.args(["demo", "--json"]).env("TMPDIR", folder.path()).output().unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    let played = stdout_json(&output);
    assert_eq!(played["held"], true);
    assert_eq!(played["scenes"].as_array().unwrap().len(), 6);
    assert_eq!((&played["messages"]["lost"], &played["messages"]["repeated"]), (&json!(0), &json!(0)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}
