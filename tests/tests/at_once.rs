//! Everything at once: three nodes with direct messages, messages on a topic and a stream through a tunnel, while every section
//! of each changes at random, ten times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fednode_tests::process::yaml;
use fednode_tests::stage::NOBODY;
use fednode_tests::{Hum, Lines, Node, Port, Spec, Traffic, eventually};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

const NODES: usize = 3;
const BETWEEN: Duration = Duration::from_millis(100);
/// Reloads of each node, at least, before it is over.
const RELOADS: usize = 25;
/// `FEDNODE_TEST_RELOADS` instead, and the seed.
const VARIABLE: &str = "FEDNODE_TEST_RELOADS";
const SEED: &str = "FEDNODE_TEST_SEED";

/// Writes the files of one node.
struct Author {
    conf: Value,
    peers: Value,
    paths: [std::path::PathBuf; 2],
    pid: Pid,
    /// The other members, to whose services it may connect.
    others: Vec<Value>,
    /// A listener that comes and goes, one of a service, and the API's.
    ports: [Port; 3],
    random: StdRng,
}

// === impl Author ===

impl Author {
    fn of(node: &Node, seed: u64) -> Self {
        let spec = node.spec();
        let mut others = spec.peers["peers"].as_array().expect("a list").clone();
        others.retain(|peer| peer["public_key"] != node.key());
        Self {
            others,
            conf: spec.conf.clone(),
            peers: spec.peers.clone(),
            paths: [spec.conf_path(), spec.peers_path()],
            pid: node.pid(),
            ports: std::array::from_fn(|_| Port::free()),
            random: StdRng::seed_from_u64(seed),
        }
    }

    fn one_of<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.random.random_range(0..values.len())].clone()
    }

    fn coin(&mut self) -> bool {
        self.random.random()
    }

    /// Other valid values of every section. What flows stays allowed, and the socket and the data stay where the test has them.
    fn conf(&mut self) -> Value {
        let mut conf = self.conf.clone();
        conf["node"]["worker_threads"] = json!(self.random.random_range(0..4));
        conf["node"]["shutdown_timeout"] = json!(self.one_of(&["10s", "30s"]));
        self.network(&mut conf["network"]);
        let peers = &mut conf["peers"];
        peers["exchange_interval"] = json!(self.one_of(&["300ms", "1s", "30s", "24h"]));
        peers["connection_timeout"] = json!(self.one_of(&["5s", "10s", "1m"]));
        peers["reconnect_min"] = json!(self.one_of(&["50ms", "1s"]));
        peers["reconnect_max"] = json!(self.one_of(&["2s", "1m"]));
        peers["max_known"] = json!(self.one_of(&[0, 1, 10_000]));
        self.protocol(&mut conf["protocol"]);
        conf["logging"]["level"] = json!(self.one_of(&["debug", "info", "warn", "error"]));
        conf["logging"]["format"] = json!(self.one_of(&["json", "text"]));
        conf["logging"]["file_output"] = json!(self.coin());
        conf["logging"]["file_name"] = json!(self.one_of(&["one.log", "other.log"]));
        conf["logging"]["file_max_size"] = json!(self.one_of(&["64KiB", "1MiB"]));
        let listen = self.coin().then(|| self.ports[2].address().to_string());
        conf["admin"]["listen"] = json!(listen);
        conf["reload"]["history"] = json!(self.random.random_range(5..50));
        conf["reload"]["budget"] = json!(self.one_of(&["20s", "30s"]));
        conf["reload"]["health_gate"] = json!(self.coin());
        conf
    }

    fn network(&mut self, network: &mut Value) {
        let addresses = network["addresses"].as_array_mut().expect("a list");
        if self.coin() {
            addresses.push(json!(self.ports[0].loopback()));
        }
        if self.coin() {
            addresses.push(json!(self.ports[0].quic()));
        }
        network["external_addresses"] = json!(self.one_of(&[&["/dns4/one.example/tcp/9000"][..], &[]]));
        network["membership"] = json!(self.one_of(&["open", "members"]));
        network["limits"] = json!({
            "connections": self.random.random_range(1..1024),
            "connections_per_peer": self.random.random_range(1..5),
            "connections_per_ip": self.random.random_range(1..64),
            "pending_incoming": self.random.random_range(4..64),
        });
    }

    fn protocol(&mut self, protocol: &mut Value) {
        protocol["ping_interval"] = json!(self.one_of(&["10s", "15s", "1h"]));
        protocol["max_message_size"] = json!(self.one_of(&["1KiB", "64KiB", "8MiB"]));
        protocol["rate_limit"]["messages_per_second"] = json!(self.one_of(&[100_000, 1_000_000]));
        protocol["rate_limit"]["burst"] = json!(self.one_of(&[100_000, 1_000_000]));
        for number in 0..self.random.random_range(0..4) {
            let topics = protocol["topics"].as_array_mut().expect("a list");
            topics.push(json!({"name": format!("more-{number}")}));
        }
        for number in 0..self.random.random_range(0..4) {
            let target = self.one_of(&["127.0.0.1:1", "localhost:9"]);
            let mut row = json!({"name": format!("more-{number}"), "target": target});
            if self.coin() {
                row["allow"] = json!([]);
            }
            protocol["services"]["expose"].as_array_mut().expect("a list").insert(0, row);
        }
        if self.coin() {
            let peer = self.others[self.random.random_range(0..self.others.len())]["public_key"].clone();
            let name = self.one_of(&["more-0", "more-1"]);
            let row = json!({"name": name, "peer": peer, "listen": self.ports[1].address().to_string()});
            protocol["services"]["connect"].as_array_mut().expect("a list").insert(0, row);
        }
    }

    fn peers(&mut self) -> Value {
        let mut peers = self.peers.clone();
        let list = peers["peers"].as_array_mut().expect("a list");
        for member in &mut *list {
            if self.coin() {
                member["name"] = json!(self.one_of(&["ACME", "Bank"]));
                member["connection_timeout"] = json!(self.one_of(&["2s", "20s"]));
                member["max_retries"] = json!(self.random.random_range(0..9));
            }
        }
        if self.coin() {
            list.push(json!({"public_key": NOBODY, "addresses": ["/ip4/127.0.0.1/tcp/1"]}));
        }
        peers
    }

    /// Both files, then SIGHUP.
    fn write(&mut self) {
        let texts = [self.conf(), self.peers()];
        for (path, text) in self.paths.iter().zip(&texts) {
            let beside = path.with_extension("next");
            let written = std::fs::write(&beside, yaml(text));
            written.and_then(|()| std::fs::rename(&beside, path)).expect("the folder can be written");
        }
        kill_process(self.pid, Signal::HUP).expect("the node runs");
    }

    async fn write_on(mut self, go_on: Arc<AtomicBool>) -> Self {
        let mut every = interval(BETWEEN);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while go_on.load(Ordering::SeqCst) {
            every.tick().await;
            self.write();
        }
        self
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The changes of a node that were put into force; every other outcome is a failure of the test.
fn reloads(node: &Node) -> usize {
    let lines = node.audit();
    for line in &lines {
        let outcome = line["outcome"].as_str().unwrap_or_default();
        assert!(["committed", "unchanged"].contains(&outcome), "{line:#}");
    }
    lines.iter().filter(|line| line["trigger"] == "signal").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_changes_nothing_that_flows_is_lost_repeated_or_reordered() {
    let seed = setting(SEED).unwrap_or_else(rand::random);
    println!("{SEED}={seed}");
    let enough = setting(VARIABLE).and_then(|count| usize::try_from(count).ok()).unwrap_or(RELOADS);
    let mut specs = Spec::federation(NODES);
    let lines = Lines::lay(&mut specs, (1, 2), (2, 0)).await;
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
    }
    let mut before = Vec::new();
    for node in &nodes {
        before.push(node.wait_for_connections(NODES - 1).await);
    }
    // A round of direct messages.
    let mut direct = Vec::new();
    for from in 0..NODES {
        direct.push(Traffic::start(&nodes[from], &nodes[(from + 1) % NODES]).await);
    }
    let hum: Hum = lines.start(&nodes).await;

    let go_on = Arc::new(AtomicBool::new(true));
    let seeds = (0_u64..).map(|number| seed.wrapping_add(number));
    let authors = nodes.iter().zip(seeds).map(|(node, seed)| Author::of(node, seed));
    let authors: Vec<_> = authors.map(|author| tokio::spawn(author.write_on(Arc::clone(&go_on)))).collect();
    for (index, node) in nodes.iter().enumerate() {
        let mut done = reloads(node);
        while done < enough {
            done = eventually(&format!("more than {done} reloads of node {index}"), async || {
                let now = reloads(node);
                (now > done).then_some(now)
            })
            .await;
        }
    }
    go_on.store(false, Ordering::SeqCst);
    let mut held = Vec::new();
    for author in authors {
        held.push(author.await.expect("the node runs"));
    }
    for node in &nodes {
        eventually("rest", async || {
            let status = node.status().await;
            (status["state"] == "idle" && status["in_sync"] == true).then_some(())
        })
        .await;
    }
    let mut sent = Vec::new();
    for traffic in direct {
        traffic.go_on().await;
        sent.push(traffic.finish().await);
    }
    hum.go_on().await;
    hum.finish().await;
    let counts: Vec<_> = nodes.iter().map(reloads).collect();
    println!("reloads: {counts:?}; direct messages: {sent:?}");
    for (node, before) in nodes.iter().zip(before) {
        let mut after = node.connections().await;
        after.retain(|connection| before.contains(connection));
        assert_eq!(after, before, "every connection is the one that it was");
    }
}
