//! Reloads of every component in which one fails: how long it takes until all are back, beside the same reload when nobody fails.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fednode_tests::{Arms, Node, Port, Spec};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::hang::{COMPONENTS, edit, quiet};
use crate::observe::{Audit, Files, settle};
use crate::options::Options;
use crate::samples::{Samples, round};

/// What goes wrong, and how often of the rounds it is looked at: one that never answers takes a budget each time.
const FAULTS: [(&str, &str, usize); 4] = [
    ("prepare", "return(error)", 1),
    ("commit", "return(error)", 1),
    ("probe", "return(error)", 1),
    ("commit", "return(hang)", 4),
];

/// What the machine may add to the budget.
const SLACK: f64 = 1.1;

pub(crate) async fn run(options: &Options, rounds: usize) -> (Value, String, bool) {
    let members = options.members.first().copied().unwrap_or(64);
    let spec = Spec::new().binary(&options.node);
    let arms = Arms::beside(spec.folder());
    let spec = spec.env(Arms::VARIABLE, &arms.folder().display().to_string());
    let spec = quiet(spec, options, members);
    let mut files = Files::of(&spec, options.shape);
    let node = spec.start().await;
    settle(&node).await;
    let mut bench = Bench { audit: Audit::of(&node), node, arms, port: Port::free() };

    let mut committed = Samples::default();
    for number in 0..2 * rounds {
        edit(&mut files, &bench.node, &bench.port, number % 2 == 0);
        committed.add_ms(bench.reload("committed"));
    }
    edit(&mut files, &bench.node, &bench.port, true);
    let mut rows = Vec::new();
    for (step, action, part) in FAULTS {
        for component in COMPONENTS {
            let mut samples = Samples::default();
            for _ in 0..rounds.div_ceil(part) {
                bench.arms.clear();
                bench.arms.arm(&format!("{component}::{step}"), action);
                samples.add_ms(bench.reload("rolled_back"));
            }
            rows.push(row(options, component, step, action, &samples, &committed));
        }
    }
    let is_good = rows.iter().all(|row| row["over_budget"] != true);
    let table = table(&rows, &committed);
    (json!({"members": members, "committed_ms": committed.summary(), "faults": rows}), table, is_good)
}

struct Bench {
    node: Node,
    audit: Audit,
    arms: Arms,
    port: Port,
}

// === impl Bench ===

impl Bench {
    fn reload(&mut self, outcome: &str) -> Duration {
        let began = Instant::now();
        self.node.signal(Signal::HUP);
        let line = self.audit.next_line(&self.node);
        let took = began.elapsed();
        assert_eq!(line["outcome"], outcome, "{line:#}");
        took
    }
}

fn row(
    options: &Options,
    component: &str,
    step: &str,
    action: &str,
    samples: &Samples,
    committed: &Samples,
) -> Value {
    let hangs = action == "return(hang)";
    let limit = options.budget_ms as f64 * SLACK;
    // One that never answers is given up when the time for its step is over, and that is a part of the budget.
    let floor = if hangs { options.budget_ms as f64 } else { committed.median() };
    json!({
        "component": component, "step": step, "hangs": hangs, "rolled_back_ms": samples.summary(), "floor_ms": floor,
        "ratio": round(samples.median() / floor), "over_budget": samples.over(limit) > 0,
    })
}

fn table(rows: &[Value], committed: &Samples) -> String {
    let mut table = format!(
        "the same reload, committed: {} ms\ncomponent    fails in                      rolled back p50 / max    floor (ms)   ratio",
        committed.median()
    );
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let how = if row["hangs"] == true { ", never answers" } else { "" };
        let _ = write!(
            table,
            "\n{:12} {:24} {:>15} / {:>8} ms {:>10}   {:>5}",
            text("component"),
            format!("{}{how}", text("step")),
            row["rolled_back_ms"]["p50"],
            row["rolled_back_ms"]["max"],
            row["floor_ms"],
            row["ratio"]
        );
    }
    table
}
