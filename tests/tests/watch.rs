//! Files that are watched (R24): an edit takes effect without a signal, once, as a whole. Where a test says that something is
//! no reason for a reload, another edit follows, and its line is the next one of the audit log.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fednode_tests::{Node, Spec, eventually, process};
use serde_json::{Value, json};

const SETTLE: Duration = Duration::from_millis(300);

/// A node that watches.
fn watching() -> Spec {
    let mut spec = Spec::new();
    spec.conf["reload"] = json!({"budget": "10s", "watch": true, "settle": "300ms"});
    spec
}

/// The audit log's line of this number, the start's being 0.
async fn line(node: &Node, number: usize) -> Value {
    eventually(&format!("audit line {number}"), async || node.audit().into_iter().nth(number)).await
}

fn size(bytes: u32) -> impl FnOnce(&mut Value) {
    move |conf| conf["protocol"] = json!({"max_message_size": bytes})
}

/// The next edit is the next line: nothing has happened in between.
async fn is_quiet(node: &mut Node, lines: usize, bytes: u32) {
    node.edit(size(bytes));
    let next = line(node, lines).await;
    assert_eq!((&next["trigger"], &next["outcome"]), (&json!("watch"), &json!("committed")), "{next:#}");
    assert_eq!(next["changes"][0]["path"], "protocol.max_message_size", "{next:#}");
    assert_eq!(node.audit().len(), lines + 1);
}

#[tokio::test]
async fn an_edit_takes_effect_without_a_signal_and_once() {
    let mut node = watching().start().await;
    node.edit(size(2000));
    let told = line(&node, 1).await;
    assert_eq!((&told["trigger"], &told["outcome"]), (&json!("watch"), &json!("committed")), "{told:#}");
    assert_eq!((&told["actor"], &told["note"]), (&Value::Null, &json!("changed: conf.yaml")));
    assert_eq!(node.status().await["generation"], 2);
    // The same bytes, the same values in other words: the first is nothing, the second is looked at.
    node.edit(|_| {});
    let text = format!("# a comment\n{}", serde_yaml::to_string(&node.spec().conf).unwrap());
    fs::write(node.spec().conf_path(), text).unwrap();
    let told = line(&node, 2).await;
    assert_eq!((&told["outcome"], &told["config_generation"]), (&json!("unchanged"), &json!(2)));
    is_quiet(&mut node, 3, 3000).await;
}

#[tokio::test]
async fn a_file_that_is_written_in_chunks_is_one_generation() {
    let node = watching().start().await;
    let path = node.spec().conf_path();
    for round in 0_u32..20 {
        let lines = node.audit().len();
        // Each line more makes another valid configuration.
        let base = serde_yaml::to_string(&node.spec().conf).unwrap();
        let size = 2000 + round;
        let rest = ["protocol:\n".to_owned(), format!("  max_message_size: {size}\n")].into_iter();
        let rest = rest.chain((0..20).map(|number| format!("# {number}\n")));
        let last = format!("  ping_interval: {}s\n", 20 + round);
        let mut file = fs::File::create(&path).unwrap();
        let (mut at, mut longest) = (Instant::now(), Duration::ZERO);
        for chunk in [base].into_iter().chain(rest).chain([last]) {
            file.write_all(chunk.as_bytes()).unwrap();
            longest = longest.max(at.elapsed());
            at = Instant::now();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let told = line(&node, lines).await;
        // Unless the machine kept the writer from writing for as long as a file settles.
        if longest < SETTLE {
            assert_eq!(told["outcome"], "committed", "{told:#}");
            let changes = told["changes"].as_array().unwrap();
            let mut changed: Vec<_> = changes.iter().map(|change| change["path"].as_str().unwrap()).collect();
            changed.sort_unstable();
            assert_eq!(changed, ["protocol.max_message_size", "protocol.ping_interval"]);
            return;
        }
        let last = json!(format!("{}s", 20 + round));
        eventually("the last state runs", async || {
            let lines = node.audit();
            let mut changes = lines.iter().filter_map(|line| line["changes"].as_array()).flatten();
            changes.any(|change| change["to"] == last).then_some(())
        })
        .await;
    }
    panic!("the machine is too busy for this test");
}

#[tokio::test]
async fn a_configmap_is_swapped_as_a_whole() {
    let spec = watching();
    let folder = spec.folder().to_owned();
    let publish = |version: u32, conf: &Value, peers: &Value| {
        let data = folder.join(format!("..2024_{version}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("conf.yaml"), serde_yaml::to_string(conf).unwrap()).unwrap();
        fs::write(data.join("peers.yaml"), serde_yaml::to_string(peers).unwrap()).unwrap();
        symlink(format!("..2024_{version}"), folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        if version > 1 {
            fs::remove_dir_all(folder.join(format!("..2024_{}", version - 1))).unwrap();
        }
    };
    let mut conf = spec.conf.clone();
    publish(1, &conf, &json!({"peers": []}));
    for name in ["conf.yaml", "peers.yaml"] {
        symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    for version in 2..5 {
        conf["protocol"] = json!({"max_message_size": 2000 + version});
        let peers: Vec<_> = (1..version).map(|_| Spec::new().entry()).collect();
        publish(version, &conf, &json!({"peers": peers}));
        let told = line(&node, version as usize - 1).await;
        assert_eq!((&told["outcome"], &told["config_generation"]), (&json!("committed"), &json!(version)));
        assert_eq!(told["note"], "changed: conf.yaml, peers.yaml", "{told:#}");
        assert_eq!(node.status().await["members"].as_array().unwrap().len(), peers.len());
    }
    assert_eq!(node.audit().len(), 4);
}

#[tokio::test]
async fn a_bad_file_is_refused_once_and_does_not_end_the_watching() {
    let mut node = watching().start().await;
    fs::write(node.spec().conf_path(), "network: {addresses: [\n").unwrap();
    let told = line(&node, 1).await;
    assert_eq!((&told["trigger"], &told["outcome"]), (&json!("watch"), &json!("rejected")), "{told:#}");
    // Another bad one is another attempt; the same one is none.
    fs::write(node.spec().conf_path(), "network: []\n").unwrap();
    assert_eq!(line(&node, 2).await["outcome"], "rejected");
    fs::write(node.spec().conf_path(), "network: []\n").unwrap();
    is_quiet(&mut node, 3, 2000).await;
    // Back to what ran before the last good one, and to nothing at all.
    fs::remove_file(node.spec().conf_path()).unwrap();
    assert_eq!(line(&node, 4).await["outcome"], "rejected");
    node.edit(|_| {});
    assert_eq!(line(&node, 5).await["outcome"], "unchanged");
    is_quiet(&mut node, 6, 3000).await;
    assert_eq!(node.status().await["generation"], 3);
}

#[tokio::test]
async fn the_other_files_are_watched_too() {
    let mut spec = watching();
    let secret = spec.folder().join("jwt.secret");
    let write_secret = |text: &str| {
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&secret);
        file.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    };
    write_secret("a secret of thirty-two bytes or more");
    spec.conf["admin"] = json!({"jwt": {"algorithm": "HS256", "secret_file": "jwt.secret"}});
    let mut node = spec.start().await;
    let member = Spec::new();
    node.edit_peers(|peers| peers.push(member.entry()));
    let told = line(&node, 1).await;
    assert_eq!((&told["outcome"], &told["note"]), (&json!("committed"), &json!("changed: peers.yaml")));
    assert_eq!(node.status().await["members"].as_array().unwrap().len(), 1);
    write_secret("another secret of thirty-two bytes or more");
    let told = line(&node, 2).await;
    assert_eq!((&told["outcome"], &told["note"]), (&json!("committed"), &json!("changed: jwt.secret")));
    assert!(!told.to_string().contains("thirty-two"), "{told:#}");
    // A file that is gone, and one that is there for the first time, are changes as well.
    fs::remove_file(node.spec().peers_path()).unwrap();
    assert_eq!(line(&node, 3).await["outcome"], "committed");
    assert_eq!(node.status().await["members"], json!([]));
    node.edit_peers(|_| {});
    assert_eq!(line(&node, 4).await["note"], "changed: peers.yaml");
    is_quiet(&mut node, 5, 2000).await;
}

#[tokio::test]
async fn watching_is_switched_on_and_off_by_reload() {
    let mut node = Spec::new().start().await;
    node.edit(size(2000));
    // Nobody watches: SIGHUP is what takes it up.
    let told = node.reload_with(|conf| conf["reload"]["settle"] = json!("100ms")).await;
    assert_eq!((&told["trigger"], &told["config_generation"]), (&json!("signal"), &json!(2)));
    let told = node.reload_with(|conf| conf["reload"]["watch"] = json!(true)).await;
    assert_eq!((&told["trigger"], &told["warnings"]), (&json!("signal"), &json!([])));
    is_quiet(&mut node, 3, 3000).await;
    node.edit(|conf| conf["reload"]["watch"] = json!(false));
    assert_eq!(line(&node, 4).await["trigger"], "watch");
    node.wait_for_log("files are not watched any more").await;
    node.edit(size(4000));
    let told = node.reload_with(|conf| conf["reload"]["watch"] = json!(true)).await;
    assert_eq!((&told["trigger"], &told["config_generation"]), (&json!("signal"), &json!(6)));
    is_quiet(&mut node, 6, 5000).await;
}

#[tokio::test]
async fn without_inotify_files_are_polled() {
    // In a user namespace of its own the node has no inotify instances left: for it the system is exhausted.
    let namespace = ["unshare", "--user", "--map-root-user"];
    let exhausted = "echo 0 > /proc/sys/user/max_inotify_instances";
    let possible = Command::new(namespace[0]).args(&namespace[1..]).args(["sh", "-c", exhausted]).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("not shown here: this machine allows no user namespaces");
        return;
    }
    let spec = watching();
    let wrapper = spec.folder().join("exhausted.sh");
    let binary = process::binary();
    let text = format!(
        "#!/bin/sh\nexec {} sh -c '{exhausted} && exec {} \"$@\"' sh \"$@\"\n",
        namespace.join(" "),
        binary.display()
    );
    // Written by another process: one that this process has open for writing may be held by a child of a test beside this one,
    // and could not be run ("text file busy").
    let source = wrapper.with_extension("txt");
    fs::write(&source, text).unwrap();
    let install = Command::new("install").args(["-m", "755"]).args([&source, &wrapper]).status();
    assert!(install.unwrap().success());
    let mut node = spec.binary(&wrapper).start().await;
    let warning = "files are only polled";
    node.wait_for_log(warning).await;
    is_quiet(&mut node, 1, 2000).await;
    is_quiet(&mut node, 2, 3000).await;
    assert_eq!(node.log().matches(warning).count(), 1);
}

#[tokio::test]
async fn what_the_node_writes_itself_is_no_reason() {
    let mut spec = watching();
    spec.conf["node"]["private_key"] = json!("");
    // The log stands beside what is watched, and is written to all the time.
    spec.conf["logging"] = json!({"level": "debug", "format": "json", "console_color": false,
        "file_output": true, "file_name": "node.log"});
    let mut node = spec.start().await;
    let written = fs::read_to_string(node.spec().conf_path()).unwrap();
    let written: Value = serde_yaml::from_str(&written).unwrap();
    assert_ne!(written["node"]["private_key"], "", "the key was written back");
    for round in 0..3 {
        node.edit(|conf| conf["node"] = written["node"].clone());
        is_quiet(&mut node, 1 + round as usize, 2000 + round).await;
    }
}

#[tokio::test]
async fn what_a_rollback_writes_back_is_no_reason() {
    let mut node = watching().start().await;
    is_quiet(&mut node, 1, 2000).await;
    let rollback = node.spec().cli(&["rollback"]);
    assert_eq!(rollback.status.code(), Some(0), "{rollback:?}");
    let told = line(&node, 2).await;
    assert_eq!((&told["trigger"], &told["config_generation"]), (&json!("rollback"), &json!(3)));
    is_quiet(&mut node, 3, 3000).await;
}

#[tokio::test]
async fn a_signal_for_the_same_edit_leaves_nothing_to_the_watching() {
    let mut spec = watching();
    spec.conf["reload"]["settle"] = json!("2s");
    let mut node = spec.start().await;
    let told = node.reload_with(size(2000)).await;
    assert_eq!((&told["trigger"], &told["outcome"]), (&json!("signal"), &json!("committed")));
    is_quiet(&mut node, 2, 3000).await;
}
