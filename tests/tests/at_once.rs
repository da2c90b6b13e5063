//! Everything at once: three nodes with direct messages, messages on a topic and a stream through a tunnel, while every section
//! of each changes at random, ten times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fednode_tests::process::yaml;
use fednode_tests::{Author, Hum, Lines, Node, Spec, Traffic, eventually};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{MissedTickBehavior, interval};

const NODES: usize = 3;
const BETWEEN: Duration = Duration::from_millis(100);
/// Reloads of each node, at least, before it is over.
const RELOADS: usize = 25;
/// `FEDNODE_TEST_RELOADS` instead, and the seed.
const VARIABLE: &str = "FEDNODE_TEST_RELOADS";
const SEED: &str = "FEDNODE_TEST_SEED";

/// Rewrites the files of one node.
struct Writer {
    author: Author,
    paths: [std::path::PathBuf; 2],
    pid: Pid,
    random: StdRng,
}

// === impl Writer ===

impl Writer {
    fn of(node: &Node, seed: u64) -> Self {
        let spec = node.spec();
        let paths = [spec.conf_path(), spec.peers_path()];
        Self { author: Author::of(spec), paths, pid: node.pid(), random: StdRng::seed_from_u64(seed) }
    }

    /// Both files, then SIGHUP.
    fn write(&mut self) {
        let texts = [self.author.conf(&mut self.random), self.author.peers(&mut self.random)];
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
    let writers = nodes.iter().zip(seeds).map(|(node, seed)| Writer::of(node, seed));
    let writers: Vec<_> = writers.map(|writer| tokio::spawn(writer.write_on(Arc::clone(&go_on)))).collect();
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
    for writer in writers {
        held.push(writer.await.expect("the node runs"));
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
