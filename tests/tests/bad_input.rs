//! Every file that must be refused: at start with a clear error and exit code 1, on reload with the same error as an outcome
//! and the running node untouched.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use fednode_tests::{Gauge, Keys, Node, Port, Spec};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A file that is bad, and what the error must say.
struct Bad {
    name: &'static str,
    spoil: fn(&Spec),
    says: Vec<String>,
}

fn bad(name: &'static str, spoil: fn(&Spec), says: &[&str]) -> Bad {
    Bad { name, spoil, says: says.iter().map(|text| (*text).to_owned()).collect() }
}

fn conf_text(spec: &Spec) -> String {
    fs::read_to_string(spec.conf_path()).expect("the file is there")
}

fn with(spec: &Spec, edit: impl FnOnce(&mut Value)) {
    let mut conf = spec.conf.clone();
    edit(&mut conf);
    fs::write(spec.conf_path(), fednode_tests::process::yaml(&conf)).expect("writable");
}

fn cases() -> Vec<Bad> {
    vec![
        bad("missing", |s| fs::remove_file(s.conf_path()).unwrap(), &["conf.yaml", "does not exist"]),
        bad("empty", |s| fs::write(s.conf_path(), "").unwrap(), &["conf.yaml", "empty"]),
        bad("only a comment", |s| fs::write(s.conf_path(), "# nothing\n").unwrap(), &["conf.yaml"]),
        bad(
            "cut off in the middle of a line",
            |s| {
                let text = conf_text(s);
                fs::write(s.conf_path(), &text[..text.len() / 2]).unwrap();
            },
            &["conf.yaml:"],
        ),
        bad(
            "cut off between sections",
            |s| {
                fs::write(s.conf_path(), "node: {}\nnetwork:\n  addresses: [/ip4/127.0.0.1/tcp/9000]\n")
                    .unwrap()
            },
            &["peers", "logging"],
        ),
        bad("100 MB", |s| fs::write(s.conf_path(), vec![b'#'; 100 << 20]).unwrap(), &["conf.yaml", "16 MiB"]),
        bad(
            "not UTF-8",
            |s| fs::write(s.conf_path(), b"node: {}\nx: \xff\xfe\n").unwrap(),
            &["conf.yaml", "UTF-8"],
        ),
        bad(
            "a folder",
            |s| {
                fs::remove_file(s.conf_path()).unwrap();
                fs::create_dir(s.conf_path()).unwrap();
            },
            &["conf.yaml"],
        ),
        bad("a list", |s| fs::write(s.conf_path(), "- a\n- b\n").unwrap(), &["conf.yaml", "mapping"]),
        bad(
            "a YAML bomb",
            |s| {
                let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
                for level in 1..=12 {
                    let items = vec![format!("*a{}", level - 1); 9].join(", ");
                    text += &format!("a{level}: &a{level} [{items}]\n");
                }
                fs::write(s.conf_path(), text).unwrap();
            },
            &["conf.yaml", "alias"],
        ),
        bad(
            "nested too deeply",
            |s| {
                fs::write(s.conf_path(), format!("node: {}{}", "[".repeat(100_000), "]".repeat(100_000)))
                    .unwrap();
            },
            &["conf.yaml"],
        ),
        bad(
            "wrong types",
            |s| {
                with(s, |c| {
                    c["network"]["addresses"] = json!("none");
                    c["network"]["limits"] = json!({"connections": "many"});
                })
            },
            &["network.addresses", "network.limits.connections", "many"],
        ),
        bad(
            "an unknown key",
            |s| with(s, |c| c["network"]["adresses"] = json!([])),
            &["network.adresses", "addresses"],
        ),
        bad(
            "two errors at once",
            |s| {
                with(s, |c| {
                    c["logging"]["level"] = json!("loud");
                    c["peers"]["connection_timeout"] = json!("soon");
                })
            },
            &["logging.level", "loud", "peers.connection_timeout", "soon"],
        ),
        bad(
            "no multiaddr",
            |s| with(s, |c| c["network"]["addresses"] = json!(["127.0.0.1:9000"])),
            &["network.addresses[0]", "127.0.0.1:9000"],
        ),
        bad(
            "a duplicate peer",
            |s| {
                let key = Keys::generate().public_key;
                let peers = json!({"peers": [{"public_key": key, "addresses": []}, {"public_key": key, "addresses": []}]});
                fs::write(s.peers_path(), fednode_tests::process::yaml(&peers)).unwrap();
            },
            &["peers.yaml:", "peers[1].public_key"],
        ),
        bad("peers.yaml empty", |s| fs::write(s.peers_path(), "").unwrap(), &["peers.yaml", "empty"]),
        bad(
            "both files wrong",
            |s| {
                with(s, |c| c["logging"]["format"] = json!("xml"));
                fs::write(s.peers_path(), "peers: [{public_key: nonsense, addresses: []}]\n").unwrap();
            },
            &["logging.format", "xml", "peers[0].public_key"],
        ),
        bad(
            "a secret is wrong and not told",
            |s| {
                with(s, |c| c["admin"] = json!({"jwt": {"algorithm": "HS256", "secret": "tooshort-hunter2"}}))
            },
            &["admin.jwt.secret"],
        ),
    ]
}

#[tokio::test]
async fn a_start_is_refused() {
    for case in cases() {
        let spec = Spec::new();
        spec.write();
        (case.spoil)(&spec);
        let mut node = spec.spawn_as_it_is();
        let status = node.wait_for_end().await;
        let errors = node.stderr();
        assert_eq!(status.code(), Some(1), "{}: {errors}", case.name);
        assert!(errors.starts_with("Error: configuration validation failed: "), "{}: {errors}", case.name);
        for text in &case.says {
            assert!(errors.contains(text), "{}: '{text}' is not in: {errors}", case.name);
        }
        assert!(!errors.contains("hunter2"), "{}: {errors}", case.name);
        assert!(!errors.contains(&node.spec().keys.private_key), "{}: {errors}", case.name);
    }
}

#[tokio::test]
async fn a_reload_is_rejected_and_the_node_untouched() {
    let mut node = Spec::new().start().await;
    for case in cases() {
        (case.spoil)(node.spec());
        let outcome = node.hangup().await;
        assert_eq!(outcome["outcome"], "rejected", "{}: {outcome:#}", case.name);
        assert_eq!(outcome["components"], json!([]), "{}", case.name);
        assert_eq!(outcome["config_generation"], 1, "{}", case.name);
        let error = outcome["error"].as_str().unwrap();
        for text in &case.says {
            assert!(error.contains(text), "{}: '{text}' is not in: {error}", case.name);
        }
        assert!(!outcome.to_string().contains("hunter2"), "{}", case.name);
        let status = node.status().await;
        assert_eq!((&status["state"], &status["generation"]), (&json!("idle"), &json!(1)), "{}", case.name);
        assert!(node.spec().port.accepts(), "{}", case.name);
        assert_eq!(status["last_reload"]["outcome"], "rejected");
        // The same file by the command line: the same errors, and its exit code.
        let cli = node.spec().cli(&["check"]);
        assert_eq!(cli.status.code(), Some(1), "{}: {cli:?}", case.name);
        for text in &case.says {
            assert!(String::from_utf8_lossy(&cli.stderr).contains(text), "{}: {cli:?}", case.name);
        }
        if node.spec().conf_path().is_dir() {
            fs::remove_dir(node.spec().conf_path()).unwrap();
        }
        node.spec().write();
        let outcome = node.hangup().await;
        assert_eq!(outcome["outcome"], "unchanged", "{}: {outcome:#}", case.name);
    }
    let _ = node.status().await;
    node.signal(Signal::TERM);
    assert!(node.wait_for_end().await.success());
}

/// A file with tens of thousands of errors is answered as one with a few, however often it is tried: the first hundred and how
/// many there are besides, and nothing of it stays behind.
#[tokio::test]
async fn a_file_full_of_errors_costs_nothing() {
    const TIMES: u64 = 10;
    let mut spec = Spec::new();
    // This is about what stays, not about how fast the machine is.
    spec.conf["reload"] = json!({"budget": "30s"});
    spec.write();
    let mut node = spec.start().await;
    let peers = "  - {public_key: x, addresses: [y]}\n".repeat(20_000);
    let keys: Vec<_> = (0..200_000).map(|number| format!("k{number}: 1")).collect();
    // What is rejected first fills what is filled once: the allocator's arenas, the pools of threads.
    let mut before = None;
    for time in 0..TIMES {
        fs::write(node.spec().peers_path(), format!("peers:\n{peers}")).unwrap();
        let outcome = node.hangup().await;
        assert_eq!(outcome["outcome"], "rejected", "{outcome:#}");
        let errors = outcome["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 101);
        for (index, error) in errors[..100].iter().enumerate() {
            // Two for each entry: its key and its address.
            assert_eq!(error["line"], json!(2 + index / 2), "{error}");
            assert_eq!(error["class"], "validation");
        }
        assert_eq!(errors[100]["message"], "and 39900 more problems");

        fs::write(node.spec().peers_path(), "peers: []\n").unwrap();
        let conf = conf_text(node.spec());
        let (head, tail) = conf.trim_end().rsplit_once('}').unwrap();
        fs::write(node.spec().conf_path(), format!("{head},\n{}\n}}{tail}", keys.join(",\n"))).unwrap();
        let outcome = node.hangup().await;
        let errors = outcome["errors"].as_array().unwrap();
        assert_eq!((&outcome["outcome"], errors.len()), (&json!("rejected"), 101));
        assert_eq!((&errors[0]["path"], &errors[99]["path"]), (&json!("k0"), &json!("k99")), "{outcome:#}");
        assert_eq!(errors[99]["line"].as_u64().unwrap(), errors[0]["line"].as_u64().unwrap() + 99);
        assert_eq!(errors[100]["message"], "and 199900 more problems");
        fs::write(node.spec().conf_path(), conf).unwrap();
        if time == 1 {
            before = Some((threads(&node), Gauge::of(&node).resident));
        }
    }
    let (threads_before, resident_before) = before.unwrap();
    assert!(threads(&node) <= threads_before + 4, "{} of {threads_before} threads", threads(&node));
    let resident = Gauge::of(&node).resident;
    assert!(resident < resident_before + 100 * 1024, "{resident} of {resident_before} KiB");
    assert_eq!(node.hangup().await["outcome"], "unchanged");
    node.signal(Signal::TERM);
    assert!(node.wait_for_end().await.success());
}

fn threads(node: &Node) -> usize {
    let folder = format!("/proc/{}/task", node.pid().as_raw_nonzero());
    fs::read_dir(folder).expect("the node runs").count()
}

/// Positions are those of the file: line and column of the value that is wrong.
#[tokio::test]
async fn errors_name_line_and_column() {
    let spec = Spec::new();
    let text = format!(
        "node:\n  private_key: {}\nnetwork:\n  addresses:\n    - /ip4/127.0.0.1/tcp/{}\n    - nonsense\npeers:\n  \
         connection_timeout: 10s\nlogging:\n  level: loud\n  format: json\n",
        spec.keys.private_key,
        spec.port.number()
    );
    fs::write(spec.conf_path(), text).unwrap();
    let check = spec.cli(&["check", "--json"]);
    assert_eq!(check.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&check.stdout).unwrap();
    let places: Vec<_> = found["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["path"].clone(), e["line"].clone(), e["column"].clone()))
        .collect();
    assert_eq!(
        places,
        [(json!("network.addresses[1]"), json!(6), json!(7)), (json!("logging.level"), json!(10), json!(10))]
    );
    for error in found["errors"].as_array().unwrap() {
        assert!(error["hint"].is_string(), "every error says what to do: {error}");
    }
}

#[tokio::test]
async fn an_unreadable_file() {
    // Permissions mean nothing to root: a file that cannot be opened at all stands in for one there.
    let spec = Spec::new();
    spec.write();
    if rustix::process::getuid().is_root() {
        fs::remove_file(spec.conf_path()).unwrap();
        std::os::unix::fs::symlink("conf.yaml", spec.conf_path()).unwrap();
    } else {
        fs::set_permissions(spec.conf_path(), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let mut node = spec.spawn_as_it_is();
    assert_eq!(node.wait_for_end().await.code(), Some(1));
    assert!(node.stderr().contains("conf.yaml"), "{}", node.stderr());
}

#[tokio::test]
async fn a_fifo_does_not_hang_the_node() {
    let mut node = Spec::new().start().await;
    fs::remove_file(node.spec().conf_path()).unwrap();
    let made = std::process::Command::new("mkfifo").arg(node.spec().conf_path()).status().unwrap();
    assert!(made.success());
    let outcome = node.hangup().await;
    assert_eq!(outcome["outcome"], "rejected", "{outcome:#}");
    node.signal(Signal::TERM);
    assert!(node.wait_for_end().await.success());
}

#[tokio::test]
async fn an_occupied_port() {
    let taken = Port::free();
    let _other = std::net::TcpListener::bind(taken.address()).unwrap();
    let mut spec = Spec::new();
    let first = spec.port.loopback();
    spec.conf["network"]["addresses"] = json!([first, taken.loopback()]);
    let mut node = spec.spawn();
    assert_eq!(node.wait_for_end().await.code(), Some(1));
    let errors = node.stderr();
    assert!(
        errors.contains("network.addresses[1]") && errors.contains(&taken.number().to_string()),
        "{errors}"
    );

    let mut node = Spec::new().start().await;
    let first = node.spec().port.loopback();
    let outcome =
        node.reload_with(|conf| conf["network"]["addresses"] = json!([first, taken.loopback()])).await;
    assert_eq!(outcome["outcome"], "rejected", "{outcome:#}");
    assert_eq!(outcome["errors"][0]["path"], "network.addresses[1]");
    assert!(node.spec().port.accepts());
    // The node's own port is not an occupied one.
    node.edit(|conf| conf["network"]["addresses"] = json!([first]));
    let check = node.spec().cli(&["check"]);
    assert_eq!(check.status.code(), Some(0), "{check:?}");
}

#[tokio::test]
async fn a_data_folder_that_another_instance_holds() {
    let node = Spec::new().start().await;
    let second = node.spec().cli(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(errors.contains("data") && errors.contains(&node.pid().as_raw_nonzero().to_string()), "{errors}");
    assert!(node.spec().port.accepts(), "the first is untouched");
    assert_eq!(node.status().await["generation"], 1);
}

#[tokio::test]
async fn a_data_folder_that_is_not_writable() {
    let spec = Spec::new();
    // Not even root can make a folder in place of a file.
    fs::write(spec.folder().join("data"), "a file").unwrap();
    let mut node = spec.spawn();
    assert_eq!(node.wait_for_end().await.code(), Some(1));
    assert!(node.stderr().contains("data"), "{}", node.stderr());
}

#[tokio::test]
async fn the_identity_is_refused_rather_than_half_done() {
    let mut node = Spec::new().start().await;
    let before = node.spec().conf.clone();
    let other = Keys::generate();
    let outcome = node.reload_with(|conf| conf["node"]["private_key"] = json!(other.private_key)).await;
    assert_eq!(outcome["outcome"], "rejected", "{outcome:#}");
    assert_eq!(outcome["errors"][0]["path"], "node.private_key");
    assert!(!outcome.to_string().contains(&other.private_key));
    assert_eq!(node.reload_with(|conf| *conf = before).await["outcome"], "unchanged");
}

#[tokio::test]
async fn no_secret_is_in_any_output() {
    let mut spec = Spec::new();
    let secret = "correct-horse-battery-staple-and-more";
    spec.conf["admin"] = json!({"jwt": {"algorithm": "HS256", "secret": secret}});
    spec.conf["logging"]["level"] = json!("debug");
    let mut node = spec.start().await;
    let next = "another-horse-battery-staple-and-more";
    node.edit(|conf| conf["admin"]["jwt"]["secret"] = json!(next));
    let diff = node.spec().cli(&["diff"]);
    assert_eq!(diff.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&diff.stdout).contains("admin.jwt.secret"), "{diff:?}");
    let outcome = node.hangup().await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    let mut texts =
        vec![node.log(), node.stderr(), outcome.to_string(), String::from_utf8_lossy(&diff.stdout).into()];
    for path in ["/admin/config", "/admin/status", "/admin/history", "/admin/diff", "/metrics", "/readyz"] {
        let answer = node.client().get(path).await.unwrap();
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        texts.push(String::from_utf8_lossy(&answer.body).into_owned());
    }
    texts.push(fs::read_to_string(node.spec().folder().join("data").join("audit.jsonl")).unwrap());
    for text in texts {
        for secret in [secret, next, node.spec().keys.private_key.as_str()] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let _: &Node = &node;
}
