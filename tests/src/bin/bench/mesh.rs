//! Many nodes on one machine: how soon all are connected, and what a connection costs that says nothing.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fednode_tests::{Node, Spec};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::look::Look;
use crate::options::Options;
use crate::peer::{Peer, Stack, Target};
use crate::samples::round;

/// How many connections that say nothing.
const IDLE: usize = 256;

/// Between two looks at who is connected: looking costs the nodes what they need themselves.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn run(options: &Options, sizes: &[usize]) -> (Value, String, bool) {
    let mut table =
        "nodes  all connected   after one restarted   RSS of one   of it per connection".to_owned();
    let mut rows = Vec::new();
    for size in sizes {
        let row = mesh(options, *size).await;
        let _ = write!(
            table,
            "\n{size:>5}  {:>10} s   {:>17} s   {:>6} KiB   {:>8} KiB",
            row["cold_start_s"], row["restart_s"], row["rss_kib"], row["kib_per_connection"]
        );
        rows.push(row);
    }
    let (ours, bare) = (idle_ours(options).await, idle_bare().await);
    let ratio = round(ours / bare);
    let _ = write!(
        table,
        "\none connection that says nothing, of {IDLE}: ours {ours} KiB, bare libp2p {bare} KiB, ratio {ratio}  (goal <= 1.2, <= 64 KiB)"
    );
    let is_good = ratio <= 1.2 && ours <= 64.0;
    let report = json!({
        "meshes": rows, "idle": {"connections": IDLE, "ours_kib": ours, "bare_kib": bare, "ratio": ratio},
    });
    (report, table, is_good)
}

async fn mesh(options: &Options, size: usize) -> Value {
    let quiet = |mut spec: Spec| {
        spec.conf["logging"]["level"] = json!("warn");
        // What the contract has as the default.
        spec.conf["peers"] = json!({"connection_timeout": "10s"});
        spec.binary(&options.node)
    };
    let specs: Vec<Spec> = Spec::mesh(size).into_iter().map(quiet).collect();
    let began = Instant::now();
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    // The first look is at the youngest: when it is connected to all, so are most.
    for node in nodes.iter_mut().rev() {
        is_connected(node, size - 1).await;
    }
    let cold = began.elapsed();
    let look = Look::at(nodes[0].pid().as_raw_nonzero().get().unsigned_abs());
    let last = nodes.pop().expect("a mesh has nodes");
    let (_, spec) = last.stop().await;
    let began = Instant::now();
    let mut last = spec.spawn();
    is_connected(&mut last, size - 1).await;
    for node in &mut nodes {
        is_connected(node, size - 1).await;
    }
    let restart = began.elapsed();
    let alone = alone(options).await;
    json!({
        "nodes": size,
        "cold_start_s": round(cold.as_secs_f64()),
        "restart_s": round(restart.as_secs_f64()),
        "rss_kib": look.rss_kib,
        "kib_per_connection": round((look.rss_kib.saturating_sub(alone.rss_kib)) as f64 / (size - 1) as f64),
        "descriptors": look.descriptors,
        "threads": look.threads,
    })
}

/// Exactly so many members, each on one connection.
pub(crate) async fn is_connected(node: &mut Node, count: usize) {
    loop {
        if let Some(status) = node.try_wait() {
            panic!("the node ended with {status}:\n{}", node.stderr());
        }
        if let Ok(answer) = node.client().get("/admin/status").await
            && let Ok(status) = answer.json::<Value>()
        {
            let members = status["members"].as_array().cloned().unwrap_or_default();
            let connected = members.iter().filter(|member| member["state"] == "connected").count();
            if connected == count && status["connections"].as_array().map(Vec::len) == Some(count) {
                return;
            }
        }
        sleep(PAUSE).await;
    }
}

async fn alone(options: &Options) -> Look {
    let node = Spec::new().binary(&options.node).start().await;
    Look::at(node.pid().as_raw_nonzero().get().unsigned_abs())
}

/// KiB of one connection of a whole node.
async fn idle_ours(options: &Options) -> f64 {
    let mut spec = Spec::new().binary(&options.node);
    spec.conf["logging"]["level"] = json!("warn");
    let node = spec.start().await;
    let target = Target {
        key: node.key().parse().expect("a key"),
        address: node.spec().port.loopback().parse().expect("an address"),
    };
    cost(node.pid().as_raw_nonzero().get().unsigned_abs(), &target).await
}

async fn idle_bare() -> f64 {
    let (server, target) = Peer::serve(Stack::Bare, &[]);
    cost(server.pid(), &target).await
}

async fn cost(pid: u32, target: &Target) -> f64 {
    // What the first connection costs once and for all is not counted.
    let first = Peer::idle(target, 8);
    settled(pid).await;
    let before = Look::at(pid);
    let _others = Peer::idle(target, IDLE);
    settled(pid).await;
    let after = Look::at(pid);
    drop(first);
    round(after.rss_kib.saturating_sub(before.rss_kib) as f64 / IDLE as f64)
}

/// Until the process has stood still for a while: identify and the first ping are done.
async fn settled(pid: u32) {
    let mut last = Look::at(pid).rss_kib;
    loop {
        sleep(Duration::from_secs(2)).await;
        let now = Look::at(pid).rss_kib;
        if now == last {
            return;
        }
        last = now;
    }
}
