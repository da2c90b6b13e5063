//! From SIGHUP to the effect and to the durable outcome.

use std::fmt::Write as _;
use std::time::Duration;

use fednode_tests::{Node, Port, Spec};
use serde_json::{Value, json};

use crate::changed::Changed;
use crate::floor::Floor;
use crate::observe::{Audit, Files, effect_and_outcome, nobody, peers_text, settle};
use crate::options::Options;
use crate::samples::{Samples, round};

/// Rounds before those that count.
const WARM_UP: usize = 10;

const PHASES: [&str; 9] =
    ["read", "validate", "plan", "prepare", "commit", "probe", "finish", "record", "rollback"];

/// What was seen of the reloads of one kind.
#[derive(Default)]
pub(crate) struct Measured {
    effect: Samples,
    pub(crate) outcome: Samples,
    inside: Samples,
    phases: [Samples; PHASES.len()],
}

pub(crate) async fn run(options: &Options) -> (Value, String, bool) {
    let mut rows = Vec::new();
    for members in &options.members {
        rows.extend(rows_of(options, *members).await);
    }
    let table = table(&rows);
    (Value::Array(rows), table, true)
}

/// One node, and each kind of change at it.
async fn rows_of(options: &Options, members: usize) -> Vec<Value> {
    let mut node = Spec::new().binary(&options.node);
    node.peers = json!({"peers": nobody(members)});
    // None is dialled again while it is measured.
    node.conf["peers"] = json!({"connection_timeout": "1s", "reconnect_min": "1h", "reconnect_max": "1h"});
    node.conf["logging"]["level"] = json!("warn");
    node.conf["reload"] = json!({"budget": "10s"});
    let mut files = Files::of(&node, options.shape);
    let node = node.start().await;
    settle(&node).await;
    let mut rows = Vec::new();
    for changed in &options.changed {
        let mut floor = Floor::new(peers_text(&files.peers, options.shape));
        let measured = measure(options, &node, &mut files, &mut floor, *changed).await;
        rows.push(report(options, members, *changed, &floor, &measured));
    }
    rows
}

/// One kind of change, so many times there and back.
pub(crate) async fn measure(
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
    let warm_up = WARM_UP.min(options.rounds);
    for round in 0..warm_up + options.rounds {
        for there in [true, false] {
            changed.write(files, &first, &port, there, round);
            let counts = there || changed.counts_both_ways();
            if counts {
                // As long as it takes to write, save and send a signal by hand; the files have come to rest.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let opened = (there && changed.opens_a_port()).then_some(&port);
            let (effect, outcome) = effect_and_outcome(node, opened, &audit);
            let line = audit.next_line(node);
            assert_eq!(line["outcome"], changed.outcome(), "{line:#}");
            if counts && round >= warm_up {
                measured.take(effect, outcome, &line);
            }
        }
        floor.sample();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    measured
}

// === impl Measured ===

impl Measured {
    fn take(&mut self, effect: Option<Duration>, outcome: Duration, line: &Value) {
        if let Some(effect) = effect {
            self.effect.add_ms(effect);
        }
        self.outcome.add_ms(outcome);
        self.inside.add_value(line["duration_ms"].as_f64().unwrap_or_default());
        for (name, samples) in PHASES.iter().zip(&mut self.phases) {
            samples.add_value(line["phases"][format!("{name}_ms")].as_f64().unwrap_or_default());
        }
    }

    /// The medians by phase.
    pub(crate) fn phases(&self) -> serde_json::Map<String, Value> {
        let phases = PHASES.iter().zip(&self.phases);
        phases.map(|(name, samples)| ((*name).to_owned(), json!(samples.median()))).collect()
    }
}

fn report(options: &Options, members: usize, changed: Changed, floor: &Floor, measured: &Measured) -> Value {
    let parse = if changed.is_of_peers() { floor.parse.median() } else { 0.0 };
    let write = floor.write.median();
    json!({
        "members": members,
        "changed": changed.word(),
        "title": changed.title(),
        "peers_changed": changed.is_of_peers(),
        "rounds": options.rounds,
        "effect_ms": changed.opens_a_port().then(|| measured.effect.summary()),
        "outcome_ms": measured.outcome.summary(),
        "inside_ms": measured.inside.summary(),
        "phases_ms": measured.phases(),
        "floor": {"parse_ms": parse, "durable_write_ms": write, "sum_ms": round(parse + write)},
        "floor_is_optimised": !cfg!(debug_assertions),
        "outcome_over_floor": round(measured.outcome.median() / (parse + write)),
    })
}

fn table(rows: &[Value]) -> String {
    let mut table =
        "members  changed           effect p50 / p99     outcome p50 / p99    floor   ratio  phases (p50, ms)"
            .to_owned();
    for row in rows {
        let pair = |key: &str| match &row[key] {
            Value::Null => String::new(),
            pair => format!("{:>6} / {:>6} ms", pair["p50"], pair["p99"]),
        };
        let phases = row["phases_ms"].as_object().into_iter().flatten();
        let phases: Vec<_> =
            phases.filter(|(_, ms)| ms.as_f64() > Some(0.0)).map(|(n, ms)| format!("{n} {ms}")).collect();
        let _ = write!(
            table,
            "\n{:>7}  {:16}  {:20} {:20} {:>5}   {:>5}  {}",
            row["members"],
            row["title"].as_str().unwrap_or_default(),
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
