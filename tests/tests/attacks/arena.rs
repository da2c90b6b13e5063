//! A federation under attack, and what must be true of it afterwards.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fednode_tests::{Gauge, Node, Spec, Traffic, eventually};
use serde_json::{Value, json};

/// What an attack may cost in memory, in KiB: far above what it does cost (some MiB), far below what it would if something
/// were not bounded. Debug binaries and their allocator keep some of what they had.
const MEMORY: u64 = 96 * 1024;
/// Descriptors that may be open afterwards besides those before: a member may just be dialling.
const DESCRIPTORS: usize = 4;
/// Lines that an attack of up to a minute may add to the log.
const LINES: usize = 1500;

/// Three members; the last is attacked, and the first sends it messages throughout. It knows no member's address: they have to
/// come to it, through the crowd.
pub(crate) struct Arena {
    pub(crate) nodes: Vec<Node>,
    traffic: Traffic,
    before: Vec<(String, String)>,
    gauge: Gauge,
    lines: usize,
}

/// The stream of messages is as fast as the machine, and not what is limited here.
pub(crate) fn quick(conf: &mut Value) {
    conf["protocol"]["rate_limit"] = json!({"messages_per_second": 1_000_000, "burst": 1_000_000});
}

/// 127.0.0.2, 127.0.0.3, …: the machine's own, each an address to a node that counts by address.
pub(crate) fn loopback(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, n.max(1)).into()
}

// === impl Arena ===

impl Arena {
    /// A federation in which anyone may connect.
    pub(crate) async fn open() -> Self {
        Self::with(|_| {}).await
    }

    /// A federation with this in the configuration of the node that is attacked.
    pub(crate) async fn with(configure: impl FnOnce(&mut Value)) -> Self {
        let mut specs = Spec::federation(3);
        for spec in &mut specs {
            quick(&mut spec.conf);
        }
        configure(&mut specs[2].conf);
        Self::of(specs).await
    }

    /// A federation whose last node is attacked.
    pub(crate) async fn of(specs: Vec<Spec>) -> Self {
        raise_descriptors();
        let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
        for node in &mut nodes {
            node.wait_until_it_serves().await;
        }
        for node in &nodes {
            node.wait_for_connections(2).await;
        }
        let traffic = Traffic::start(&nodes[0], &nodes[2]).await;
        let before = nodes[0].connections().await;
        let target = &nodes[2];
        let (gauge, lines) = (Gauge::begin(target), target.log().lines().count());
        Self { nodes, traffic, before, gauge, lines }
    }

    /// The node that is attacked.
    pub(crate) fn target(&self) -> &Node {
        &self.nodes[2]
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.target().spec().port.address()
    }

    /// Messages from member to member go on now.
    pub(crate) async fn goes_on(&self) {
        self.traffic.go_on().await;
    }

    /// The second member is killed and starts again. Waits until it is connected to all.
    pub(crate) async fn restart_a_member(&mut self) {
        let spec = self.nodes.remove(1).kill().await;
        let node = spec.start().await;
        let (first, target) = (self.nodes[0].key().to_owned(), self.target_key());
        eventually("the member that restarted is connected to all", async || {
            let others: Vec<_> = node.connections().await.into_iter().map(|(_, key)| key).collect();
            (others.contains(&first) && others.contains(&target)).then_some(())
        })
        .await;
        self.nodes.insert(1, node);
    }

    fn target_key(&self) -> String {
        self.nodes.last().expect("three nodes").key().to_owned()
    }

    /// How many connections the target has to others than members.
    pub(crate) async fn strangers(&self) -> usize {
        let members: Vec<_> = self.nodes.iter().map(Node::key).collect();
        let connections = self.target().connections().await;
        connections.iter().filter(|(_, key)| !members.contains(&key.as_str())).count()
    }

    /// Waits until the attackers are gone, and asserts what must be true then.
    pub(crate) async fn survives(self, what: &str) {
        let target = self.target();
        self.traffic.go_on().await;
        eventually(&format!("{what}: strangers are gone"), async || {
            (self.strangers().await == 0).then_some(())
        })
        .await;
        let bound = self.gauge.descriptors + DESCRIPTORS;
        eventually(&format!("{what}: descriptors are given back, of {bound}"), async || {
            (Gauge::of(target).descriptors <= bound).then_some(())
        })
        .await;
        let after = Gauge::of(target);
        let lines = target.log().lines().count() - self.lines;
        println!(
            "figures | {what} | {} | {} | {} | {} | {} | {lines} |",
            self.gauge.resident, after.peak, after.resident, self.gauge.descriptors, after.descriptors,
        );
        assert!(after.peak <= self.gauge.resident + MEMORY, "{what}: {:?}, then {after:?}", self.gauge);
        assert!(lines <= LINES, "{what}: {lines} lines of log");
        // The connection that carried the messages is the one from before.
        let kept = self.before.iter().find(|(_, key)| key == target.key()).expect("it was there");
        let connections = self.nodes[0].connections().await;
        assert!(connections.contains(kept), "{what}: {kept:?} is not in {connections:?}");
        let status = target.status().await;
        assert_eq!((&status["state"], &status["degraded"]), (&json!("idle"), &json!(false)), "{what}");
        for node in &self.nodes {
            assert!(!node.stderr().contains("panic"), "{what}: {}", node.stderr());
        }
        assert!(!target.log().contains("panicked"), "{what}");
        self.traffic.finish().await;
    }
}

/// The attackers are all in this process.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is not allowed, the attack fails and says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
