//! Messages per second over three nodes: on a topic, published by all and read by all, and direct, one after the other; by HTTP, as
//! applications do it, without reloads and with ten of another section per second.

use fednode_tests::{Flood, Node, Restless, Spec};
use serde_json::{Value, json};

use crate::options::Options;
use crate::samples::round;

const NODES: usize = 3;

pub(crate) async fn run(options: &Options, count: usize) -> (Value, String, bool) {
    let count = count as u64;
    let mut table = "                  messages/s   s        made again".to_owned();
    let mut report = Vec::new();
    for with_reloads in [false, true] {
        let nodes = federation(options).await;
        let restless = with_reloads.then(|| Restless::start(&nodes));
        let topic = Flood::on_topic(&nodes, "blocks", count).await;
        let direct = Flood::direct(&nodes[0], &nodes[1], count).await;
        if let Some(restless) = restless {
            restless.stop().await;
        }
        for (what, flood) in [("topic", topic), ("direct", direct)] {
            let (rate, took) = (round(flood.rate(count)), round(flood.took.as_secs_f64()));
            let name = if with_reloads { format!("{what}, reloads") } else { what.to_owned() };
            table.push_str(&format!("\n{name:18} {rate:>9}   {took:<8} {}", flood.again));
            report.push(json!({
                "what": what, "reloads": with_reloads, "count": count, "per_s": rate, "took_s": took,
                "again": flood.again,
            }));
        }
    }
    // One that is lost, repeated or reordered ends the run.
    (Value::Array(report), table, true)
}

async fn federation(options: &Options) -> Vec<Node> {
    let mut nodes = Vec::new();
    for mut spec in Spec::federation(NODES) {
        spec.conf["protocol"] = json!({
            "topics": [{"name": "blocks"}],
            // It is not what is measured.
            "rate_limit": {"messages_per_second": 1e6, "burst": 1_000_000},
        });
        nodes.push(spec.binary(&options.node).start().await);
    }
    for node in &nodes {
        node.wait_for_connections(NODES - 1).await;
    }
    nodes
}
