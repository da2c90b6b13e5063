//! Every key, changed: it shows, it reaches the right components, and exactly their sections differ.

use std::collections::BTreeSet;

use reload::{Change, Strategy};
use serde_json::json;

use super::super::changes::KEYS;
use super::super::tree::{self, Tree};
use super::canonical::everything;
use super::*;

/// One edit for each key of the schema, on top of [`everything`]. `node.key_file`, `node.private_key` and `node.data_dir` have
/// their own test below.
const EDITS: &[(&str, &str, &str)] = &[
    ("node.worker_threads", "worker_threads: 0", "worker_threads: 77"),
    ("node.shutdown_timeout", "shutdown_timeout: 30s", "shutdown_timeout: 31s"),
    ("network.addresses", "\"/ip6/::/tcp/9000\"]", "\"/ip6/::/tcp/9001\"]"),
    ("network.external_addresses", "[/dns4/me.example/tcp/9000]", "[]"),
    ("network.membership", "membership: open", "membership: members"),
    ("network.limits.connections", "{connections: 1024", "{connections: 1025"),
    ("network.limits.connections_per_peer", "connections_per_peer: 2", "connections_per_peer: 3"),
    ("network.limits.connections_per_ip", "connections_per_ip: 64", "connections_per_ip: 65"),
    ("network.limits.pending_incoming", "pending_incoming: 64", "pending_incoming: 65"),
    ("peers.file", "file: peers.yaml", "file: ./other.yaml"),
    ("peers.exchange_interval", "exchange_interval: 30s", "exchange_interval: 31s"),
    ("peers.connection_timeout", "connection_timeout: 10s", "connection_timeout: 11s"),
    ("peers.reconnect_min", "reconnect_min: 1s", "reconnect_min: 2s"),
    ("peers.reconnect_max", "reconnect_max: 5m", "reconnect_max: 6m"),
    ("peers.max_known", "max_known: 10000", "max_known: 10001"),
    ("protocol.ping_interval", "ping_interval: 15s", "ping_interval: 16s"),
    ("protocol.max_message_size", "max_message_size: 1MiB", "max_message_size: 2MiB"),
    ("protocol.rate_limit.messages_per_second", "messages_per_second: 1000", "messages_per_second: 0.5"),
    ("protocol.rate_limit.burst", "burst: 2000", "burst: 2001"),
    ("protocol.topics", "{name: votes}", "{name: noise}"),
    ("protocol.services.expose", "target: \"h:22\"", "target: \"h:23\""),
    ("protocol.services.connect", "127.0.0.1:7001\"}]", "127.0.0.1:7002\"}]"),
    ("logging.level", "level: info", "level: warn"),
    ("logging.targets", "libp2p_swarm: debug,", "libp2p_swarm: error,"),
    ("logging.format", "format: json", "format: text"),
    ("logging.console_output", "console_output: true", "console_output: false"),
    ("logging.console_color", "console_color: true", "console_color: false"),
    ("logging.file_output", "file_output: true", "file_output: false"),
    ("logging.file_name", "logs/node.log", "logs/other.log"),
    ("logging.file_max_size", "file_max_size: 10MB", "file_max_size: 11MB"),
    ("logging.file_max_backups", "file_max_backups: 5", "file_max_backups: 6"),
    ("admin.socket", "socket: admin.sock", "socket: other.sock"),
    ("admin.listen", "listen: \"127.0.0.1:9100\"", "listen: \"127.0.0.1:9101\""),
    ("admin.tls", "client_ca: ca.pem}", "client_ca: cert.pem}"),
    ("admin.jwt", "{algorithm: HS256", "{algorithm: HS384"),
    ("reload.budget", "budget: 2s", "budget: 3s"),
    ("reload.watch", "watch: false", "watch: true"),
    ("reload.settle", "settle: 1s", "settle: 2s"),
    ("reload.history", "history: 50", "history: 51"),
    ("reload.health_gate", "health_gate: true", "health_gate: false"),
];

/// The components whose sections differ: whom a reload has to reach.
fn differing(a: &Config, b: &Config) -> BTreeSet<&'static str> {
    let sections = [
        ("network", a.network != b.network),
        ("protocol", a.protocol != b.protocol),
        ("peer_store", a.peers != b.peers),
        ("logging", a.logging != b.logging),
        ("admin", a.admin != b.admin),
        ("history", a.history != b.history),
        ("reload", a.reload != b.reload || (a.node != b.node && a.node.identity == b.node.identity)),
    ];
    sections.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn reached(changes: &[Change]) -> BTreeSet<&str> {
    changes.iter().flat_map(|change| change.components.iter().map(String::as_str)).collect()
}

#[test]
fn every_key_shows_and_reaches_its_components() {
    let folder = Folder::new();
    let base = everything(&folder);
    fs::copy(folder.path("peers.yaml"), folder.path("other.yaml")).unwrap();
    folder.conf(&base);
    let running = folder.load().config;
    for (path, from, to) in EDITS {
        // A comment may repeat a text; the first one is the key's.
        assert!(base.contains(from), "{from:?}");
        folder.conf(&base.replacen(from, to, 1));
        let next =
            folder.load_against(Some(&running)).unwrap_or_else(|error| panic!("{path}: {error}")).config;
        let changes = running.changes(&next);
        let first =
            changes.iter().find(|change| change.path.starts_with(path)).unwrap_or_else(|| panic!("{path}"));
        assert_ne!(first.from, first.to, "{path}");
        assert_eq!(changes.len(), 1, "{path}: {changes:?}");
        assert_eq!(reached(&changes), differing(&running, &next), "{path}");
        assert!(
            next.changes(&running).iter().any(|change| change.path == first.path && change.from == first.to)
        );
    }
}

#[test]
fn the_keys_of_a_log_file_that_is_switched_off_count() {
    let folder = Folder::new();
    let name = ("file_name: null", "file_name: logs/node.log");
    folder.edit(&[name]);
    let running = folder.load().config;
    assert_eq!(running.logging.file.in_use(), None);
    assert!(running.canonical().contains("  file_output: false\n  file_name: logs/node.log\n"));
    for (path, edit, to) in [
        ("logging.file_name", ("file_name: null", "file_name: logs/other.log"), json!("logs/other.log")),
        ("logging.file_max_size", ("file_max_size: 10MB", "file_max_size: 11MB"), json!("11MB")),
        ("logging.file_max_backups", ("file_max_backups: 5", "file_max_backups: 6"), json!(6)),
    ] {
        folder.edit(&if edit.0 == name.0 { vec![edit] } else { vec![name, edit] });
        let next = folder.load_against(Some(&running)).unwrap().config;
        let changes = running.changes(&next);
        assert_eq!(changes.len(), 1, "{changes:?}");
        let change = &changes[0];
        assert_eq!((change.path.as_str(), &change.to, change.strategy), (path, &to, Strategy::InPlace));
        assert_eq!(reached(&changes), BTreeSet::from(["logging"]));
        assert_eq!(differing(&running, &next), BTreeSet::from(["logging"]));
    }
    // Nor does a reload open it: its folder does not even exist.
    assert_eq!(resources(&running, Some(&running), &[]), []);
}

#[test]
fn the_table_and_the_edits_have_every_key_of_the_schema() {
    let folder = Folder::new();
    folder.conf(&everything(&folder));
    let config = folder.load().config;
    let mut leaves = Vec::new();
    collect(String::new(), &tree::of_config(&config), &mut leaves);
    let covers = |key: &str, leaf: &str| {
        leaf.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    for leaf in leaves.iter().filter(|leaf| *leaf != "version") {
        assert_eq!(KEYS.iter().filter(|(key, ..)| covers(key, leaf)).count(), 1, "{leaf} has no row, or two");
    }
    let own_test = ["node.private_key", "node.key_file", "node.data_dir"];
    let edited: BTreeSet<&str> = EDITS.iter().map(|(path, ..)| *path).chain(own_test).collect();
    assert_eq!(edited, KEYS.iter().map(|(path, ..)| *path).collect(), "each key has an edit");
}

fn collect(path: String, tree: &Tree, leaves: &mut Vec<String>) {
    match tree {
        Tree::Map(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(below, value, leaves);
            }
        }
        _ => leaves.push(path),
    }
}

#[test]
fn the_identity_is_shown_as_what_needs_a_restart_and_the_data_folder_as_what_moves() {
    let folder = Folder::new();
    let before = folder.load().config;
    let other = Identity::generate();
    folder.conf(
        &folder
            .edited(&[("data_dir: data ", "data_dir: more ")])
            .replace(&folder.identity.to_text(), &other.to_text()),
    );
    let after = folder.load().config;
    let changes = before.changes(&after);
    let key = Change {
        path: "node.private_key".into(),
        from: json!("[redacted]"),
        to: json!("[redacted]"),
        component: "network".into(),
        components: vec!["network".into()],
        strategy: Strategy::Restart,
    };
    assert_eq!(changes[0], key);
    assert_eq!(serde_json::to_value(&changes[0]).unwrap()["strategy"], "restart");
    // The socket lies in the data folder, unless its path says otherwise.
    assert_eq!((changes[1].path.as_str(), changes[1].strategy), ("node.data_dir", Strategy::ReplacePart));
    assert_eq!(changes[1].components, ["history", "admin"]);
    let apart = ("socket: admin.sock", "socket: /run/fednode.sock");
    folder.edit(&[apart]);
    let before = folder.load().config;
    folder.edit(&[apart, ("data_dir: data ", "data_dir: more ")]);
    let after = folder.load_against(Some(&before)).unwrap().config;
    let changes = before.changes(&after);
    assert_eq!((changes.len(), changes[0].path.as_str()), (1, "node.data_dir"));
    assert_eq!(changes[0].components, ["history"]);
    assert_eq!(reached(&changes), differing(&before, &after));
}

#[test]
fn a_key_that_moves_into_a_file_is_no_new_identity() {
    let folder = Folder::new();
    let running = folder.load().config;
    folder.write("node.key", folder.identity.to_text());
    let line = format!("private_key: \"{}\"", folder.identity.to_text());
    folder.conf(&folder.default().replace(&line, "key_file: node.key"));
    let next = folder.load_against(Some(&running)).unwrap().config;
    let changes = running.changes(&next);
    let paths: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["node.key_file"], "{changes:?}");
    assert!(!serde_json::to_string(&changes).unwrap().contains(&folder.identity.to_text()));
    assert_eq!(reached(&changes), differing(&running, &next), "{changes:?}");
    assert!(changes.iter().all(|change| change.strategy == Strategy::InPlace), "{changes:?}");
}

#[test]
fn a_named_file_with_another_content_is_a_change() {
    let folder = Folder::new();
    folder.conf(&everything(&folder));
    let running = folder.load().config;
    let key = rcgen::KeyPair::from_pem(&fs::read_to_string(folder.path("key.pem")).unwrap()).unwrap();
    for (name, text, path) in [
        ("cert.pem", certificate(&key), "admin.tls.certificate"),
        ("key.pem", key.serialize_pem() + "\n", "admin.tls.private_key"),
    ] {
        let before = fs::read(folder.path(name)).unwrap();
        folder.write(name, text);
        let next = folder.load_against(Some(&running)).unwrap().config;
        let changes = running.changes(&next);
        assert_eq!(changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), [path]);
        assert_eq!(changes[0].components, ["admin"]);
        let shown = serde_json::to_string(&changes).unwrap();
        assert_eq!(shown.contains("[redacted]"), name == "key.pem", "{shown}");
        folder.write(name, before);
    }
}

#[test]
fn members_are_compared_by_key() {
    let folder = Folder::new();
    let (a, b, c) = (key(), key(), key());
    folder.write(
        "peers.yaml",
        format!("peers:\n- {{public_key: {a}, addresses: [/ip4/1.2.3.4/tcp/1]}}\n- {{public_key: {b}}}\n"),
    );
    let running = folder.load().config;
    folder.write(
        "peers.yaml",
        format!(
            "peers:\n- {{public_key: {c}}}\n- {{public_key: {a}, addresses: [/ip4/1.2.3.4/tcp/2], name: x}}\n"
        ),
    );
    let next = folder.load_against(Some(&running)).unwrap().config;
    let changes = running.changes(&next);
    let by_path = |path: String| {
        changes.iter().find(|change| change.path == path).unwrap_or_else(|| panic!("{path}: {changes:?}"))
    };
    let moved = by_path(format!("peers[{a}].addresses"));
    assert_eq!((&moved.from, &moved.to), (&json!(["/ip4/1.2.3.4/tcp/1"]), &json!(["/ip4/1.2.3.4/tcp/2"])));
    assert_eq!(by_path(format!("peers[{a}].name")).to, json!("x"));
    assert_eq!(by_path(format!("peers[{b}]")).to, json!(null));
    assert_eq!(by_path(format!("peers[{c}]")).from, json!(null));
    assert_eq!(changes.len(), 4);
    assert_eq!(reached(&changes), differing(&running, &next));

    // Order and comments of the file do not count.
    folder.write("peers.yaml", format!("# sorted\npeers:\n- {{public_key: {b}}}\n- {{public_key: {a}, addresses: [/ip4/1.2.3.4/tcp/1]}}\n"));
    let same = folder.load_against(Some(&running)).unwrap().config;
    assert_eq!(running.changes(&same), []);
    assert!(Arc::ptr_eq(&running.peers, &same.peers));
}
