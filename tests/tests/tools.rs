//! Commands around the node: what they generate, mint and try.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fednode_tests::{Keys, Port, Spec, process};
use serde_json::{Value, json};

fn ok(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_str(&ok(output)).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// In an empty folder: these need no configuration.
fn alone(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(process::binary());
    command
        .args(arguments)
        .current_dir(folder.path())
        .env_remove("FEDNODE_CONFIG")
        .env_remove("FEDNODE_SOCKET");
    command.output().unwrap()
}

#[test]
fn schemas_completions_and_the_manual_need_nothing() {
    let conf = json_of(&alone(&["schema"]));
    assert_eq!(conf["additionalProperties"], false);
    let level = &conf["properties"]["logging"]["properties"]["level"];
    assert_eq!(level["enum"], json!(["debug", "info", "warn", "error"]));
    assert!(level["description"].as_str().unwrap().contains("reaches logging: in place"), "{level}");
    assert_eq!(conf["properties"]["reload"]["properties"]["budget"]["default"], "2s");
    assert_eq!(json_of(&alone(&["schema", "conf"])), conf);
    assert_eq!(json_of(&alone(&["schema", "peers"]))["required"], json!(["peers"]));
    for shell in ["bash", "zsh", "fish"] {
        let script = ok(&alone(&["completions", shell]));
        assert!(script.contains("fednode") && script.contains("rollback"), "{shell}: {script}");
        if shell == "bash" {
            // Bash itself says whether it is one.
            let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            std::io::Write::write_all(&mut bash.stdin.take().unwrap(), script.as_bytes()).unwrap();
            assert!(bash.wait().unwrap().success());
        }
    }
    assert_eq!(alone(&["completions", "tcl"]).status.code(), Some(2));
    assert!(ok(&alone(&["man"])).contains(".SS \"fednode reload\""));
    let help = ok(&alone(&["reload", "--help"]));
    assert!(help.contains("Examples:") && help.contains("fednode confirm"), "{help}");
    assert_eq!(alone(&["status", "--watch"]).status.code(), Some(5));
}

#[test]
fn a_token_says_what_the_rules_demand_and_what_is_asked_for() {
    let mut spec = Spec::new();
    spec.write();
    let none = spec.cli(&["token"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stderr).contains("admin.jwt"), "{none:?}");
    spec.conf["admin"]["jwt"] = json!({
        "algorithm": "HS384", "secret": "s".repeat(48), "claims": [{"claim": "role", "operator": "equals", "value": "admin"}],
    });
    spec.write();
    let minted = json_of(&spec.cli(&[
        "token",
        "--claim",
        "aud=[\"a\",\"b\"]",
        "--claim",
        "name=one two",
        "--ttl",
        "90s",
        "--json",
    ]));
    let claims = &minted["claims"];
    assert_eq!(
        (&claims["role"], &claims["aud"], &claims["name"]),
        (&json!("admin"), &json!(["a", "b"]), &json!("one two"))
    );
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 90);
    assert_eq!(minted["expires"], claims["exp"]);
    let parts: Vec<&str> = minted["token"].as_str().unwrap().split('.').collect();
    let decoded =
        |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    assert_eq!((&decoded(parts[0])["alg"], &decoded(parts[1])), (&json!("HS384"), claims));
    // Nothing but the token where it goes into a header.
    let plain = ok(&spec.cli(&["token"]));
    assert_eq!((plain.lines().count(), plain.trim().split('.').count()), (1, 3), "{plain}");
    for wrong in [&["--ttl", "0s"][..], &["--claim", "role"], &["--ttl", "forever"]] {
        let output = spec.cli(&[&["token"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[test]
fn a_probe_tells_what_cannot_be_reached_with_its_place() {
    let mut spec = Spec::new();
    let nobody = Port::free();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (open, closed) = (listener.local_addr().unwrap().port(), Port::free());
    spec.conf["protocol"]["services"]["expose"] = json!([
        {"name": "good", "target": format!("127.0.0.1:{open}")},
        {"name": "bad", "target": nobody.address()},
    ]);
    let key = |last: &str| json!({"public_key": Keys::generate().public_key, "addresses": [last]});
    spec.peers = json!({"peers": [
        key(&format!("/ip4/127.0.0.1/tcp/{open}")),
        key(&closed.loopback()),
        key("/dns4/nobody.invalid/tcp/9000"),
    ]});
    spec.write();
    let said = json_of(&spec.cli(&["check", "--probe", "--json"]));
    assert_eq!((&said["valid"], &said["probed"]), (&json!(true), &json!(5)), "{said:#}");
    let warnings = said["warnings"].as_array().unwrap();
    let paths: Vec<_> = warnings.iter().filter_map(|warning| warning["path"].as_str()).collect();
    assert_eq!(
        paths,
        ["protocol.services.expose[1].target", "peers[1].addresses[0]", "peers[2].addresses[0]"],
        "{said:#}"
    );
    assert!(
        warnings.iter().all(|warning| warning["line"].is_u64() && warning["hint"].is_string()),
        "{said:#}"
    );
    assert!(warnings[1]["file"].as_str().unwrap().ends_with("peers.yaml"), "{said:#}");
    let human = spec.cli(&["check", "--probe"]);
    assert!(ok(&human).contains("is valid (5 tried)"), "{human:?}");
    assert!(
        String::from_utf8_lossy(&human.stderr).contains("nobody.invalid/tcp/9000 cannot be reached"),
        "{human:?}"
    );
    assert_eq!(json_of(&spec.cli(&["check", "--json"]))["probed"], Value::Null, "nothing is tried unasked");
}

/// A check is made before a reload, and before a start on the same files: the node that is there is in nobody's way.
#[tokio::test]
async fn what_the_node_itself_listens_on_is_free_for_a_check() {
    let mut spec = Spec::new();
    let api = Port::free();
    spec.conf["admin"] = json!({"listen": api.address().to_string()});
    let node = spec.start().await;
    assert!(api.accepts());
    ok(&node.spec().cli(&["check"]));
    // Another program is.
    let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut wanted = node.spec().conf.clone();
    wanted["admin"]["listen"] = json!(other.local_addr().unwrap().to_string());
    std::fs::write(node.spec().conf_path(), wanted.to_string()).unwrap();
    let refused = node.spec().cli(&["check"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

#[tokio::test]
async fn a_diff_is_of_the_file_that_is_named() {
    let node = Spec::new().start().await;
    assert_eq!(node.spec().cli(&["diff"]).status.code(), Some(0));
    let mut wanted = node.spec().conf.clone();
    wanted["protocol"] = json!({"topics": [{"name": "blocks"}]});
    let other = node.spec().folder().join("other.yaml");
    std::fs::write(&other, wanted.to_string()).unwrap();
    let named = Command::new(process::binary())
        .args(["diff", "-c"])
        .arg(&other)
        .env("FEDNODE_SOCKET", node.client().socket())
        .output()
        .unwrap();
    assert_eq!(named.status.code(), Some(1), "{named:?}");
    assert!(String::from_utf8_lossy(&named.stdout).contains("blocks"), "{named:?}");
    assert_eq!(node.spec().cli(&["diff"]).status.code(), Some(0), "its own is as it was");
}
