//! The way of the data: throughput and round trips through a node's actors and through bare libp2p, one after the other in one
//! run, and what reloads cost while data flows.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fednode_tests::{Node, Spec};
use futures::StreamExt as _;
use net::Identity;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::figure::Goal;
use crate::options::Options;
use crate::peer::{Load, Peer, Stack, Target};
use crate::samples::{Samples, round};

/// Of a message where throughput is measured.
const LARGE: usize = 64 << 10;
/// Of a message whose round trip is measured.
const SMALL: usize = 256;
const ROUNDS: usize = 5000;

/// How often data flows with reloads and without.
const WINDOWS: usize = 10;
const WINDOWS_IF_QUICK: usize = 3;
const BETWEEN_RELOADS: Duration = Duration::from_millis(100);

/// What is measured, and how ours may be to bare libp2p.
struct Row {
    what: &'static str,
    unit: &'static str,
    streams: usize,
    load: Load,
    /// At least, or at most.
    goal: Goal,
}

pub(crate) async fn run(options: &Options, rounds: usize) -> (Value, String, bool) {
    let flood = Load::Flood { size: LARGE, lasting: options.lasting() };
    let ping_pong = Load::PingPong { size: SMALL, rounds: ROUNDS };
    let rows = [
        Row { what: "one stream", unit: "MiB/s", streams: 1, load: flood, goal: Goal::AtLeast(0.95) },
        Row { what: "eight streams", unit: "MiB/s", streams: 8, load: flood, goal: Goal::AtLeast(0.95) },
        Row { what: "round trip, p50", unit: "us", streams: 1, load: ping_pong, goal: Goal::AtMost(1.2) },
    ];
    let mut table = "                     ours      bare   unit   ratio  goal".to_owned();
    let (mut report, mut all_met) = (Vec::new(), true);
    for row in rows {
        let (ours, bare) = measure(&row, rounds);
        let ratio = round(ours.median() / bare.median());
        all_met &= row.goal.is_met(ratio);
        let Row { what, unit, goal, .. } = row;
        let _ = write!(
            table,
            "\n{what:16} {:>8} {:>9}   {unit:5}  {ratio:>5}  {goal}",
            ours.median(),
            bare.median()
        );
        report.push(json!({
            "what": what, "unit": unit, "ours": ours.summary(), "bare": bare.summary(), "ratio": ratio,
            "goal": goal.to_string(),
        }));
    }
    let (without, with) = under_reloads(options).await;
    let ratio = round(with.median() / without.median());
    all_met &= ratio >= 0.98;
    let _ = write!(
        table,
        "\nwith 10 reloads/s{:>8} {:>9}   MiB/s  {ratio:>5}  >= 0.98 of the same node without",
        with.median(),
        without.median()
    );
    report.push(json!({
        "what": "10 reloads per second", "unit": "MiB/s", "with": with.summary(), "without": without.summary(),
        "ratio": ratio, "goal": ">= 0.98",
    }));
    (Value::Array(report), table, all_met)
}

/// Turn by turn, so that both see the same machine.
fn measure(row: &Row, rounds: usize) -> (Samples, Samples) {
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        for (stack, samples) in [(Stack::Ours, &mut ours), (Stack::Bare, &mut bare)] {
            // Members of one another, as in a federation.
            let who: Vec<_> = (0..row.streams).map(|_| Identity::generate()).collect();
            let (_server, target) = Peer::serve(stack, &who);
            let line = Peer::load(stack, &target, &who, row.load);
            let value = match row.load {
                Load::Flood { .. } => &line["mib_per_s"],
                Load::PingPong { .. } => &line["round_trip_us"]["p50"],
            };
            samples.add_value(value.as_f64().expect("a figure"));
        }
    }
    (ours, bare)
}

/// A whole node, which takes messages and hands them to a subscriber, in MiB/s: windows without reloads and with.
async fn under_reloads(options: &Options) -> (Samples, Samples) {
    let mut spec = Spec::new().binary(&options.node);
    spec.conf["logging"]["level"] = json!("warn");
    spec.conf["protocol"] = json!({"rate_limit": {"messages_per_second": 1_000_000, "burst": 1_000_000}});
    let who = Identity::generate();
    spec.peers = json!({"peers": [{"public_key": who.public_key().to_string(), "addresses": []}]});
    let mut node = spec.start().await;
    let mut inbox = node.client().events("/v1/messages").await.expect("the inbox opens");
    let received = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&received);
    let reader = tokio::spawn(async move {
        while inbox.next().await.is_some() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let target = Target {
        key: node.key().parse().expect("a key"),
        address: node.spec().port.loopback().parse().expect("an address"),
    };
    let windows = if options.quick { WINDOWS_IF_QUICK } else { WINDOWS };
    let length = options.lasting();
    let lasting = length * u32::try_from(2 * windows + 2).unwrap_or(u32::MAX);
    let load = Load::Flood { size: LARGE, lasting };
    let _load = Peer::begin_load(Stack::Ours, &target, &[who], load);
    sleep(length).await;
    let (mut without, mut with) = (Samples::default(), Samples::default());
    for _ in 0..windows {
        without.add_value(window(&mut node, &received, length, false).await);
        with.add_value(window(&mut node, &received, length, true).await);
    }
    reader.abort();
    (without, with)
}

async fn window(node: &mut Node, received: &AtomicU64, length: Duration, reloads: bool) -> f64 {
    let (began, before) = (Instant::now(), received.load(Ordering::Relaxed));
    if reloads {
        let mut ticks = interval(BETWEEN_RELOADS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut number: u64 = 0;
        while began.elapsed() < length {
            ticks.tick().await;
            number += 1;
            node.edit(|conf| conf["network"]["limits"] = json!({"connections": 1000 + number % 2}));
            node.signal(Signal::HUP);
        }
    } else {
        sleep(length).await;
    }
    let messages = received.load(Ordering::Relaxed) - before;
    (messages * LARGE as u64) as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64()
}
