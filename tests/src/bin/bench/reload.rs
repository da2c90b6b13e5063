//! From SIGHUP to the effect and to the durable outcome.

use std::fmt::Write as _;
use std::time::Duration;

use fednode_tests::{Node, Port, Spec};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::floor::Floor;
use crate::observe::{Audit, Files, effect_and_outcome, nobody, peers_text, settle};
use crate::options::{Changed, Options};
use crate::samples::{Samples, round};

/// Rounds before those that count.
const WARM_UP: usize = 10;

const PHASES: [&str; 9] =
    ["read", "validate", "plan", "prepare", "commit", "probe", "finish", "record", "rollback"];

#[derive(Default)]
struct Measured {
    effect: Samples,
    outcome: Samples,
    inside: Samples,
    phases: [Samples; PHASES.len()],
}

pub(crate) async fn run(options: &Options) -> (Value, String, bool) {
    let mut rows = Vec::new();
    for members in &options.members {
        for changed in &options.changed {
            rows.push(row(options, *members, *changed).await);
        }
    }
    let table = table(&rows);
    (Value::Array(rows), table, true)
}

async fn row(options: &Options, members: usize, changed: Changed) -> Value {
    let mut node = Spec::new().binary(&options.node);
    node.peers = json!({"peers": nobody(members)});
    // None is dialled again while it is measured.
    node.conf["peers"] = json!({"connection_timeout": "1s", "reconnect_min": "1h", "reconnect_max": "1h"});
    node.conf["logging"]["level"] = json!("warn");
    node.conf["reload"] = json!({"budget": "10s"});
    let mut files = Files::of(&node, options.shape);
    let mut floor = Floor::new(peers_text(&files.peers, options.shape));
    let node = node.start().await;
    settle(&node).await;
    let measured = measure(options, &node, &mut files, &mut floor, changed).await;
    report(options, members, changed, &floor, &measured)
}

async fn measure(
    options: &Options,
    node: &Node,
    files: &mut Files,
    floor: &mut Floor,
    changed: Changed,
) -> Measured {
    let port = Port::free();
    let first = node.spec().port.loopback();
    let mut audit = Audit::of(node);
    let mut measured = Measured::default();
    // In the shape that was asked for, which the node did not begin with.
    files.write_peers();
    for round in 0..WARM_UP + options.rounds {
        files.conf["network"]["addresses"] = json!([first, port.loopback()]);
        files.write_conf();
        if changed == Changed::Both {
            let middle = files.peers.len() / 2;
            files.peers[middle]["addresses"][0] = json!(format!("/ip4/127.0.9.9/tcp/{}", 1 + round % 9));
            files.write_peers();
        }
        // As long as it takes to write, save and send a signal by hand; the files have come to rest.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let (effect, outcome) = effect_and_outcome(node, &port, &audit);
        let line = audit.next_line(node);
        assert_eq!(line["outcome"], "committed", "{line:#}");
        if round >= WARM_UP {
            measured.effect.add_ms(effect);
            measured.outcome.add_ms(outcome);
            measured.inside.add_value(line["duration_ms"].as_f64().unwrap_or_default());
            for (name, samples) in PHASES.iter().zip(&mut measured.phases) {
                samples.add_value(line["phases"][format!("{name}_ms")].as_f64().unwrap_or_default());
            }
        }
        // Back again, not measured: removing a listener is another path.
        files.conf["network"]["addresses"] = json!([first]);
        files.write_conf();
        node.signal(Signal::HUP);
        let line = audit.next_line(node);
        assert_eq!(line["outcome"], "committed", "{line:#}");
        floor.sample();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    measured
}

fn report(options: &Options, members: usize, changed: Changed, floor: &Floor, measured: &Measured) -> Value {
    let parse = if changed == Changed::Conf { 0.0 } else { floor.parse.median() };
    let write = floor.write.median();
    let phases = PHASES.iter().zip(&measured.phases);
    let phases: serde_json::Map<String, Value> =
        phases.map(|(name, samples)| ((*name).to_owned(), json!(samples.median()))).collect();
    json!({
        "members": members,
        "peers_changed": changed == Changed::Both,
        "rounds": options.rounds,
        "effect_ms": measured.effect.summary(),
        "outcome_ms": measured.outcome.summary(),
        "inside_ms": measured.inside.summary(),
        "phases_ms": phases,
        "floor": {"parse_ms": parse, "durable_write_ms": write, "sum_ms": round(parse + write)},
        "floor_is_optimised": !cfg!(debug_assertions),
        "outcome_over_floor": round(measured.outcome.median() / (parse + write)),
    })
}

fn table(rows: &[Value]) -> String {
    let mut table =
        "members  changed        effect p50 / p99     outcome p50 / p99    floor   ratio  phases (p50, ms)"
            .to_owned();
    for row in rows {
        let pair = |key: &str| format!("{:>6} / {:>6} ms", row[key]["p50"], row[key]["p99"]);
        let phases = row["phases_ms"].as_object().into_iter().flatten();
        let phases: Vec<_> =
            phases.filter(|(_, ms)| ms.as_f64() > Some(0.0)).map(|(n, ms)| format!("{n} {ms}")).collect();
        let _ = write!(
            table,
            "\n{:>7}  {:13}  {:20} {:20} {:>5}   {:>5}  {}",
            row["members"],
            if row["peers_changed"] == true { "conf + peers" } else { "conf" },
            pair("effect_ms"),
            pair("outcome_ms"),
            row["floor"]["sum_ms"].as_f64().map_or_else(String::new, |ms| format!("{ms:.2}")),
            row["outcome_over_floor"],
            phases.join(", ")
        );
    }
    if cfg!(debug_assertions) {
        table +=
            "\nThis bench was built without --release: the parser of its floor is slower than it could be.";
    }
    table
}
