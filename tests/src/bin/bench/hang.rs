//! Reloads in which a component never answers: is the budget kept?

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use fednode_tests::{Node, Port, Spec};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::observe::{Audit, Files, nobody, settle};
use crate::options::Options;
use crate::samples::Samples;

/// How often each step of each component hangs, in percent. Which of them do in one reload is left to chance: none (then it
/// commits and is not counted), one, or several at once.
const CHANCE: [(&str, u32); 4] = [("prepare", 12), ("commit", 12), ("probe", 12), ("rollback", 15)];
pub(crate) const COMPONENTS: [&str; 5] = ["logging", "peer_store", "network", "protocol", "admin"];

/// What the machine may add to the budget: a tenth of it.
const SLACK: f64 = 1.1;

pub(crate) async fn run(options: &Options, count: usize) -> (Value, String, bool) {
    let points = COMPONENTS.iter().flat_map(|component| {
        CHANCE.iter().map(move |(step, percent)| format!("{component}::{step}={percent}%return(hang)"))
    });
    // The network cannot be left behind: when its rollback hangs, the node is in emergency, which is another bench's subject.
    let points: Vec<_> = points.filter(|point| !point.starts_with("network::rollback")).collect();
    let spec = Spec::new().binary(&options.node).env("FAILPOINTS", &points.join(";"));
    let spec = quiet(spec, options, options.members.first().copied().unwrap_or(4));
    let mut files = Files::of(&spec, options.shape);
    let node = spec.start().await;
    settle(&node).await;
    measure(options, &node, &mut files, count)
}

/// A node that does nothing of its own accord: its members cannot be reached, and are seldom tried.
pub(crate) fn quiet(mut spec: Spec, options: &Options, members: usize) -> Spec {
    spec.peers = json!({"peers": nobody(members)});
    spec.conf["peers"] = json!({"connection_timeout": "1s", "reconnect_min": "1h", "reconnect_max": "1h"});
    spec.conf["logging"]["level"] = json!("warn");
    spec.conf["reload"] = json!({"budget": format!("{}ms", options.budget_ms)});
    spec
}

fn measure(options: &Options, node: &Node, files: &mut Files, count: usize) -> (Value, String, bool) {
    let port = Port::free();
    let mut audit = Audit::of(node);
    let (mut inside, mut outside) = (Samples::default(), Samples::default());
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut hung: BTreeMap<String, usize> = BTreeMap::new();
    let mut failed = Vec::new();
    let mut new = true;
    edit(files, node, &port, new);
    while inside.len() < count {
        let began = Instant::now();
        node.signal(Signal::HUP);
        let line = audit.next_line(node);
        let elapsed = began.elapsed();
        let outcome = line["outcome"].as_str().unwrap_or_default().to_owned();
        *outcomes.entry(outcome.clone()).or_default() += 1;
        if matches!(outcome.as_str(), "committed" | "unchanged") {
            new = !new;
            edit(files, node, &port, new);
        }
        // A commit whose `finish` hangs is none of ours; every other hang ends in one of these two.
        if matches!(outcome.as_str(), "rolled_back" | "failed") {
            inside.add_value(line["duration_ms"].as_f64().unwrap_or_default());
            outside.add_ms(elapsed);
            if outcome == "failed" {
                failed.push(line["error"].clone());
            }
            let errors = line["errors"].as_array().into_iter().flatten();
            for error in errors.filter(|error| is_silence(error)) {
                let message = error["message"].as_str().unwrap_or_default();
                let step = message.split(';').next().unwrap_or_default();
                let place = format!("{}: {step}", error["component"].as_str().unwrap_or("-"));
                *hung.entry(place).or_default() += 1;
            }
        }
    }
    report(options, &inside, &outside, &outcomes, &hung, &failed)
}

/// Whether an error is the hang itself, not what the coordinator made of it.
fn is_silence(error: &Value) -> bool {
    error["message"].as_str().is_some_and(|message| message.starts_with("did not answer"))
}

/// Changes something of every component, or takes it back.
pub(crate) fn edit(files: &mut Files, node: &Node, port: &Port, new: bool) {
    let first = node.spec().port.loopback();
    let listen = if new { json!([first, port.loopback()]) } else { json!([first]) };
    files.conf["network"]["addresses"] = listen;
    files.conf["logging"]["level"] = json!(if new { "error" } else { "warn" });
    files.conf["protocol"] = json!({"max_message_size": if new { "1KiB" } else { "1MiB" }});
    files.conf["admin"] = json!({"socket": if new { "new.sock" } else { "admin.sock" }});
    files.conf["peers"]["max_known"] = json!(if new { 100 } else { 10_000 });
    files.write_conf();
}

fn report(
    options: &Options,
    inside: &Samples,
    outside: &Samples,
    outcomes: &BTreeMap<String, usize>,
    hung: &BTreeMap<String, usize>,
    failed: &[Value],
) -> (Value, String, bool) {
    let budget = options.budget_ms as f64;
    let limit = budget * SLACK;
    let report = json!({
        "hanging_reloads": inside.len(),
        "budget_ms": budget,
        "inside_ms": inside.summary(),
        "outside_ms": outside.summary(),
        "limit_ms": limit,
        "inside_over_limit": inside.over(limit),
        "outside_over_limit": outside.over(limit),
        "outcomes": outcomes,
        "hung": hung,
        "failed": failed,
    });
    let mut table = format!("{} hanging reloads, budget {budget} ms\n", inside.len());
    table += "                       p50       p90       p99       max   over the limit";
    for (name, samples) in [("duration_ms", inside), ("signal to outcome", outside)] {
        let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|q| samples.quantile(q));
        let over = samples.over(limit);
        let _ = write!(
            table,
            "\n{name:18} {p50:>8.1}  {p90:>8.1}  {p99:>8.1}  {max:>8.1}   {over} (> {limit} ms)"
        );
    }
    let _ = write!(table, "\noutcomes: {}", json!(outcomes));
    for (what, count) in hung {
        let _ = write!(table, "\n{count:>6}  {what}");
    }
    for error in failed {
        let _ = write!(table, "\nfailed: {}", error.as_str().unwrap_or_default());
    }
    (report, table, outside.over(limit) == 0)
}
