//! How a member's costs grow with its federation: a curve, not a point.
//!
//! A mesh of 512 members has 130,000 connections, more than a small machine can hold. But what one member does depends on its own
//! connections only, and on what its peers say to it. So a few members are whole nodes, processes of their own that are connected to
//! everybody, and the rest is a [crowd](Peer::crowd): the same network and protocol actors, many in one process, each
//! connected to the whole ones and to nobody else. Whoever changes something is a whole one: everybody hears it first hand, as in a mesh. What
//! is measured at a whole node is what it would be in a mesh of that size.

mod fit;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fednode_tests::{Node, Spec};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::changed::Changed;
use crate::exchange::{knows, silence};
use crate::floor::Floor;
use crate::look::{Look, processor_time};
use crate::mesh::is_connected;
use crate::observe::{Files, peers_text};
use crate::options::Options;
use crate::peer::Peer;
use crate::reload::{Measured, measure};
use crate::samples::round;

/// Members that are whole nodes: one that is changed, one that says something new, one that hears it.
const WHOLE: usize = 3;

/// So long a node is watched while nothing happens: some heartbeats of the topics, and a part of the pings.
const AT_REST: Duration = Duration::from_secs(10);

/// Between two looks at nodes.
const PAUSE: Duration = Duration::from_millis(50);

/// Something that grows.
struct Curve {
    what: &'static str,
    unit: &'static str,
    /// What it is bound by, as the code has it.
    bound: &'static str,
    values: Vec<f64>,
    /// The longest phase at the largest size, of a reload.
    longest: Option<String>,
}

/// Figures of one size, in the order of [`curves`].
type Point = Vec<(f64, Option<String>)>;

pub(crate) async fn run(options: &Options, sizes: &[usize]) -> (Value, String, bool) {
    let mut curves = curves(&options.changed);
    for size in sizes {
        eprintln!("{size} members ...");
        let point = scene(options, (*size).max(WHOLE + 1)).await;
        for (curve, (value, longest)) in curves.iter_mut().zip(point) {
            curve.values.push(value);
            curve.longest = longest;
        }
    }
    let report = json!({
        "sizes": sizes,
        "curves": curves.iter().map(|curve| curve.report(sizes)).collect::<Vec<_>>(),
    });
    (report, table(sizes, &curves), true)
}

fn curves(changed: &[Changed]) -> Vec<Curve> {
    let curve = |what, unit, bound| Curve { what, unit, bound, values: Vec::new(), longest: None };
    let mut curves = vec![
        curve(
            "all connected after",
            "s",
            "one handshake per member; the whole nodes of this run share the cores",
        ),
        curve("memory", "KiB", "a node alone, and the next line for each member"),
        curve(
            "memory of one connection",
            "KiB",
            "buffers of noise, yamux and the protocols' streams; the first pay for what all share",
        ),
        curve("processor at rest", "ms/s", "pings and heartbeats: one each per connection and interval"),
        curve(
            "one change: bytes of a hearer",
            "B",
            "one digest to each connection that has not told the same before",
        ),
        curve("one change: bytes of the mover", "B", "its signed record, once to each connection"),
    ];
    curves.extend(changed.iter().map(|changed| curve(title(*changed), "ms", bound(*changed))));
    curves
}

const fn title(changed: Changed) -> &'static str {
    match changed {
        Changed::Nothing => "reload: nothing",
        Changed::Logging => "reload: logging",
        Changed::Limits => "reload: network limits",
        Changed::Topics => "reload: protocol topics",
        Changed::Admin => "reload: admin socket",
        Changed::Listener => "reload: listener",
        Changed::Member => "reload: one member",
        Changed::Peers => "reload: listener, address",
    }
}

const fn bound(changed: Changed) -> &'static str {
    match changed {
        Changed::Nothing => "two files that are read and compared as bytes",
        Changed::Logging | Changed::Admin => "peers.yaml compared as bytes; no connection is visited",
        Changed::Limits => "one look at each connection: may it stay",
        Changed::Topics => "one word to each connection, queued before the answer",
        Changed::Listener => "the swarm's next poll, which opens the port",
        Changed::Member | Changed::Peers => {
            "the book, the dialler's list and the view of all members; of the file only what differs"
        }
    }
}

/// A federation of so many members.
async fn scene(options: &Options, size: usize) -> Point {
    let alone = alone(options).await;
    let mut specs = Spec::federation(WHOLE);
    let keys: Vec<_> = specs.iter().map(|spec| spec.keys.public_key.parse().expect("a key")).collect();
    let (_crowd, members) = Peer::crowd(size - WHOLE, &keys);
    for spec in &mut specs {
        *spec = std::mem::take(spec).binary(&options.node);
        spec.peers["peers"].as_array_mut().expect("a list").extend(members.iter().cloned());
        spec.conf["logging"]["level"] = json!("warn");
        // What is said is said because of the change.
        spec.conf["peers"] = json!({"connection_timeout": "10s", "exchange_interval": "24h"});
        spec.conf["admin"] = json!({"socket": "admin.sock"});
    }
    let mut files = Files::of(&specs[0], options.shape);
    let began = Instant::now();
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        is_connected(node, size - 1).await;
    }
    let connected = began.elapsed();
    let before = silence(&nodes).await;
    let pid = nodes[0].pid().as_raw_nonzero().get().unsigned_abs();
    let resident = Look::at(pid).rss_kib;
    let of_one = resident.saturating_sub(alone) as f64 / (size - 1) as f64;
    let busy = at_rest(pid).await;
    let bytes = moved(&mut nodes, &before).await;
    let plain = |value: f64| (round(value), None);
    let mut point = vec![
        plain(connected.as_secs_f64()),
        plain(resident as f64),
        plain(of_one),
        plain(busy),
        plain((bytes[0] + bytes[2]) as f64 / 2.0),
        plain(bytes[1] as f64),
    ];
    let mut floor = Floor::new(peers_text(&files.peers, options.shape));
    for changed in &options.changed {
        let measured = measure(options, &nodes[0], &mut files, &mut floor, *changed).await;
        point.push((measured.outcome.median(), Some(longest(&measured))));
    }
    point
}

/// The phase that takes most of a reload.
fn longest(measured: &Measured) -> String {
    let phases = measured.phases().into_iter().filter_map(|(name, ms)| Some((name, ms.as_f64()?)));
    let longest = phases.max_by(|(_, one), (_, other)| one.total_cmp(other));
    longest.map(|(name, ms)| format!("{name} {ms} ms")).unwrap_or_default()
}

/// KiB of a node that is connected to nobody.
async fn alone(options: &Options) -> u64 {
    let mut spec = Spec::new().binary(&options.node);
    spec.conf["logging"]["level"] = json!("warn");
    let node = spec.start().await;
    Look::at(node.pid().as_raw_nonzero().get().unsigned_abs()).rss_kib
}

/// Milliseconds of processor time per second.
async fn at_rest(pid: u32) -> f64 {
    let before = processor_time(pid);
    sleep(AT_REST).await;
    processor_time(pid).saturating_sub(before).as_secs_f64() * 1e3 / AT_REST.as_secs_f64()
}

/// The second says that it is somewhere else. Gives the bytes that each has sent because of it.
async fn moved(nodes: &mut [Node], before: &[u64]) -> Vec<u64> {
    let address = "/dns4/moved.example.com/tcp/9000";
    let key = nodes[1].key().to_owned();
    nodes[1].edit(|conf| conf["network"]["external_addresses"] = json!([address]));
    nodes[1].signal(Signal::HUP);
    for node in [&nodes[0], &nodes[2]] {
        while !knows(node, &key, address).await {
            sleep(PAUSE).await;
        }
    }
    let after = silence(nodes).await;
    after.iter().zip(before).map(|(after, before)| after - before).collect()
}

// === impl Curve ===

impl Curve {
    fn exponent(&self, sizes: &[usize]) -> Option<f64> {
        fit::exponent(sizes.iter().map(|size| *size as f64).zip(self.values.iter().copied())).map(round)
    }

    fn bound(&self) -> String {
        match &self.longest {
            Some(longest) => format!("{} (at the last size: {longest})", self.bound),
            None => self.bound.to_owned(),
        }
    }

    fn report(&self, sizes: &[usize]) -> Value {
        json!({
            "what": self.what, "unit": self.unit, "values": self.values, "exponent": self.exponent(sizes),
            "bound": self.bound(),
        })
    }
}

fn table(sizes: &[usize], curves: &[Curve]) -> String {
    let mut table = format!("{:30} {:5}", "members", "");
    for size in sizes {
        let _ = write!(table, "{size:>10}");
    }
    table += "   exponent  bound by";
    for curve in curves {
        let _ = write!(table, "\n{:30} {:5}", curve.what, curve.unit);
        for value in &curve.values {
            let _ = write!(table, "{value:>10}");
        }
        let exponent =
            curve.exponent(sizes).map_or_else(|| "-".to_owned(), |exponent| format!("{exponent:.2}"));
        let _ = write!(table, "   {exponent:>8}  {}", curve.bound());
    }
    table
}
