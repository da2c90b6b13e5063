//! `/metrics` from outside: every name of the contract with help, type and labels, and what is made of them in `deploy/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;

use fednode_tests::{Node, Spec, eventually};
use serde_json::{Value, json};

/// Name, type, and the labels of its samples.
const CONTRACT: [(&str, &str, &[&str]); 17] = [
    ("config_reload_success_total", "counter", &[]),
    ("config_reload_failure_total", "counter", &[]),
    ("config_generation", "gauge", &[]),
    ("fednode_config_last_reload_successful", "gauge", &[]),
    ("fednode_config_last_reload_success_timestamp_seconds", "gauge", &[]),
    ("fednode_reload_duration_seconds", "histogram", &["outcome"]),
    ("fednode_component_reload_seconds", "histogram", &["component", "phase"]),
    ("fednode_reload_state", "gauge", &["state"]),
    ("fednode_degraded", "gauge", &[]),
    ("fednode_reload_failures_total", "counter", &["class"]),
    ("fednode_reload_connections_closed_total", "counter", &[]),
    ("fednode_connections", "gauge", &["direction"]),
    ("fednode_peers", "gauge", &["state"]),
    ("fednode_messages_total", "counter", &["kind", "direction"]),
    ("fednode_service_streams", "gauge", &["service"]),
    ("fednode_bytes_total", "counter", &["direction"]),
    ("libp2p_swarm_connections_established_total", "counter", &["role", "protocols"]),
];

/// One scrape.
#[derive(Debug, Default)]
struct Scrape {
    help: BTreeMap<String, String>,
    types: BTreeMap<String, String>,
    /// Name and labels of each sample, and its value.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

// === impl Scrape ===

impl Scrape {
    async fn of(node: &Node) -> Self {
        let answer = node.client().get("/metrics").await.unwrap();
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let mut scrape = Self::default();
        for line in text.lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                assert!(scrape.help.insert(name.to_owned(), help.to_owned()).is_none(), "{name} twice");
            } else if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
            {
                assert!(scrape.types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            } else {
                scrape.samples.push(sample(line));
            }
        }
        scrape
    }

    /// The family that a sample belongs to.
    fn family<'a>(&self, name: &'a str) -> Option<&'a str> {
        let ends = ["", "_bucket", "_sum", "_count"];
        let mut names = ends.iter().filter_map(|end| name.strip_suffix(end));
        names.find(|name| self.types.contains_key(*name))
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| found.get(*key).is_some_and(|found| found == value))
        };
        let mut found = self.samples.iter().filter(|(n, found, _)| n == name && fits(found));
        let (_, _, value) = found.next().unwrap_or_else(|| panic!("no {name} {labels:?}"));
        *value
    }
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    // No label of these tests holds a comma or a quote.
    let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
    let labels = labels.map(|label| {
        let (key, value) = label.split_once('=').unwrap_or_else(|| panic!("no label: {line}"));
        (key.to_owned(), value.trim_matches('"').to_owned())
    });
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    (name.to_owned(), labels.collect(), value)
}

/// Two nodes after a reload that was committed, one that was refused, a message, a dial to nobody and a visitor who does not know
/// how to behave, and with a service.
async fn busy() -> Vec<Node> {
    let mut specs = Spec::federation(2);
    let nobody = Spec::new().entry();
    specs[0].peers["peers"].as_array_mut().unwrap().push(nobody);
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
        node.wait_for_connections(1).await;
    }
    let exposed = json!([{"name": "it", "target": "127.0.0.1:9"}]);
    let outcome = nodes[0].reload_with(|conf| conf["protocol"]["services"]["expose"] = exposed).await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    let outcome = nodes[0].reload_with(|conf| conf["logging"]["level"] = json!("loud")).await;
    assert_eq!(outcome["outcome"], "rejected", "{outcome:#}");
    let key = nodes[1].key().to_owned();
    assert!(nodes[0].send(&key, "12345").await.unwrap().status.is_success());
    let mut visitor = TcpStream::connect(nodes[0].spec().port.address()).unwrap();
    visitor.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    drop(visitor);
    for name in
        ["libp2p_swarm_connections_incoming_error_total", "libp2p_swarm_outgoing_connection_error_total"]
    {
        eventually(name, async || Scrape::of(&nodes[0]).await.types.contains_key(name).then_some(())).await;
    }
    nodes
}

#[tokio::test]
async fn every_name_of_the_contract_is_there_with_help_type_and_labels() {
    let nodes = busy().await;
    let scrape = Scrape::of(&nodes[0]).await;
    for (name, kind, labels) in CONTRACT {
        assert_eq!(scrape.types.get(name).map(String::as_str), Some(kind), "{name}");
        assert!(scrape.help.get(name).is_some_and(|help| help.len() > 10), "{name} has no help");
        let samples: Vec<_> =
            scrape.samples.iter().filter(|(n, ..)| scrape.family(n) == Some(name)).collect();
        assert!(!samples.is_empty(), "{name} has no sample");
        for (sample, found, _) in samples {
            let found: BTreeSet<&str> = found.keys().map(String::as_str).filter(|key| *key != "le").collect();
            assert_eq!(found, labels.iter().copied().collect(), "{sample}");
        }
    }
    for (name, ..) in &scrape.samples {
        let family = scrape.family(name).unwrap_or_else(|| panic!("{name} is not declared"));
        assert!(scrape.help.contains_key(family), "{family} has no help");
        assert!(!family.starts_with("libp2p_identify"), "{family}: peers would choose its labels");
    }
}

#[tokio::test]
async fn they_tell_what_happened() {
    let nodes = busy().await;
    let scrape = Scrape::of(&nodes[0]).await;
    for (name, labels, value) in [
        ("config_generation", &[][..], 2.0),
        ("config_reload_success_total", &[], 1.0),
        ("config_reload_failure_total", &[], 1.0),
        ("fednode_config_last_reload_successful", &[], 0.0),
        ("fednode_reload_failures_total", &[("class", "validation")], 1.0),
        ("fednode_reload_failures_total", &[("class", "critical")], 0.0),
        ("fednode_reload_duration_seconds_count", &[("outcome", "committed")], 1.0),
        ("fednode_reload_state", &[("state", "idle")], 1.0),
        ("fednode_degraded", &[], 0.0),
        ("fednode_peers", &[("state", "connected")], 1.0),
        ("fednode_messages_total", &[("kind", "direct"), ("direction", "sent")], 1.0),
        ("fednode_bytes_total", &[("direction", "sent")], 5.0),
        ("fednode_service_streams", &[("service", "it")], 0.0),
        ("fednode_log_lines_lost_total", &[], 0.0),
    ] {
        assert_eq!(scrape.value(name, labels), value, "{name} {labels:?}");
    }
    let connected: f64 =
        scrape.samples.iter().filter(|(n, ..)| n == "fednode_connections").map(|(.., value)| value).sum();
    assert_eq!(connected, 1.0);
    // What goes over the wire is more than the five bytes.
    let wire = scrape.samples.iter().filter(|(name, ..)| name == "libp2p_bandwidth_bytes_total");
    assert!(wire.map(|(.., value)| value).sum::<f64>() > 500.0);
    eventually("what was reloaded is on disk", async || {
        (Scrape::of(&nodes[0]).await.value("fednode_record_durable", &[]) == 1.0).then_some(())
    })
    .await;
}

/// Names that stand in an expression and look like metrics.
fn names_in(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_part(c));
    let prefixes = ["fednode_", "config_", "libp2p_"];
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
}

/// Every expression in a dashboard or a file of rules.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(text) if ["expr", "query", "definition"].contains(&key.as_str()) => {
                        found.push(text.to_owned());
                    }
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn dashboard_and_alerts_ask_only_for_what_is_there() {
    let nodes = busy().await;
    let scrape = Scrape::of(&nodes[0]).await;
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let dashboard = fs::read_to_string(deploy.join("grafana/fednode.json")).unwrap();
    let alerts = fs::read_to_string(deploy.join("prometheus/alerts.yaml")).unwrap();
    let files: [(&str, Value); 2] = [
        ("fednode.json", serde_json::from_str(&dashboard).unwrap()),
        ("alerts.yaml", serde_yaml::from_str(&alerts).unwrap()),
    ];
    for (file, value) in files {
        let mut asked = Vec::new();
        expressions(&value, &mut asked);
        assert!(asked.len() > 8, "{file}: {asked:?}");
        for expression in asked {
            for name in names_in(&expression) {
                assert!(scrape.family(&name).is_some(), "{file} asks for {name}, which is not there");
            }
        }
    }
    let panels = serde_json::from_str::<Value>(&dashboard).unwrap()["panels"].as_array().unwrap().clone();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has its own id");
}
