//! Thousands of reloads, good and bad mixed: is what the process holds flat?

use std::fmt::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use fednode_tests::{Node, Port, Spec};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::look::Look;
use crate::observe::{Audit, Files, nobody, settle};
use crate::options::Options;
use crate::samples::round;

/// How often it is looked at.
const LOOKS: usize = 20;

/// By how much memory may differ between the second quarter and the last: what an allocator keeps varies.
const TOLERANCE: f64 = 0.02;

/// Where the node was built with fault points, some reloads are rolled back as well.
const FAULTS: &str =
    "network::commit=3%return(error);protocol::prepare=3%return(error);admin::probe=3%return(error)";

/// What the process holds after so many reloads.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    reloads: usize,
    look: Look,
}

/// One of its figures.
type Figure = fn(&Look) -> u64;

/// What became of the reloads.
#[derive(Debug, Default)]
struct Counts(std::collections::BTreeMap<String, usize>);

pub(crate) async fn run(options: &Options, count: usize) -> (Value, String, bool) {
    let mut spec = Spec::new().binary(&options.node).env("FAILPOINTS", FAULTS);
    spec.peers = json!({"peers": nobody(options.members.first().copied().unwrap_or(64))});
    spec.conf["peers"] = json!({"connection_timeout": "1s", "reconnect_min": "1h", "reconnect_max": "1h"});
    spec.conf["logging"]["level"] = json!("error");
    let mut files = Files::of(&spec, options.shape);
    let node = spec.start().await;
    files.write_peers();
    settle(&node).await;

    let taken = Port::free();
    let _occupant = TcpListener::bind(taken.address()).expect("a free port");
    let (free, mut audit, mut counts) = (Port::free(), Audit::of(&node), Counts::default());
    let (mut looks, began) = (Vec::new(), Instant::now());
    let between = (count / LOOKS).max(1);
    for number in 1..=count {
        edit(&mut files, &node, &free, &taken, number);
        let outcome = if number % 7 == 0 {
            node.signal(Signal::HUP);
            audit.next_line(&node)["outcome"].clone()
        } else {
            let answer = node.client().post("/admin/reload", &[], Vec::new()).await.expect("an answer");
            let outcome: Value = answer.json().expect("an outcome");
            audit = Audit::of(&node);
            outcome["outcome"].clone()
        };
        *counts.0.entry(outcome.as_str().unwrap_or("none").to_owned()).or_default() += 1;
        if number % between == 0 {
            // What ends by itself (a listener's last moments, a thread that goes) has ended.
            tokio::time::sleep(Duration::from_millis(500)).await;
            looks.push(Seen::at(&node, number));
        }
    }
    report(&looks, &counts, began.elapsed())
}

/// Six good ones, which change a key of each component and the members, and four bad ones.
fn edit(files: &mut Files, node: &Node, free: &Port, taken: &Port, number: usize) {
    let first = node.spec().port.loopback();
    let even = (number / 10).is_multiple_of(2);
    files.conf["network"]["addresses"] = if even { json!([first, free.loopback()]) } else { json!([first]) };
    match number % 10 {
        1 => files.conf["logging"]["targets"] = if even { json!({}) } else { json!({"net": "error"}) },
        3 => files.conf["protocol"] = json!({"max_message_size": if even { "1KiB" } else { "1MiB" }}),
        4 => files.conf["node"]["worker_threads"] = json!(if even { 1 } else { 2 }),
        6 => files.conf["peers"]["max_known"] = json!(if even { 100 } else { 10_000 }),
        8 => {
            files.peers[0]["addresses"][0] =
                json!(format!("/ip4/127.0.9.9/tcp/{}", if even { 1 } else { 2 }));
            files.write_peers();
        }
        _ => {}
    }
    match number % 10 {
        2 => return files.write_as_it_is("conf.yaml", "node: {private_key: [\n"),
        5 => {
            let mut wrong = files.conf.clone();
            wrong["network"]["adresses"] = json!([]);
            return files.write_as_it_is("conf.yaml", &wrong.to_string());
        }
        7 => {
            let mut wrong = files.conf.clone();
            wrong["network"]["addresses"] = json!([first, taken.loopback()]);
            return files.write_as_it_is("conf.yaml", &wrong.to_string());
        }
        9 => files.write_as_it_is("peers.yaml", "peers:\n  - public_key: \"nobody\"\n"),
        0 => files.write_peers(),
        _ => {}
    }
    files.write_conf();
}

// === impl Seen ===

impl Seen {
    fn at(node: &Node, reloads: usize) -> Self {
        Self { reloads, look: Look::at(node.pid().as_raw_nonzero().get().unsigned_abs()) }
    }

    fn json(&self) -> Value {
        let mut json = self.look.json();
        json["reloads"] = json!(self.reloads);
        json
    }
}

fn median(looks: &[Seen], value: impl Fn(&Look) -> u64) -> u64 {
    let mut values: Vec<u64> = looks.iter().map(|seen| value(&seen.look)).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn report(looks: &[Seen], counts: &Counts, elapsed: Duration) -> (Value, String, bool) {
    let quarter = looks.len() / 4;
    let second = looks.get(quarter..quarter * 2).unwrap_or_default();
    let last = looks.get(looks.len() - quarter..).unwrap_or_default();
    let mut verdicts = serde_json::Map::new();
    let mut table = "reloads   RSS KiB   PSS KiB  descriptors  threads".to_owned();
    for Seen { reloads, look } in looks {
        let Look { rss_kib, pss_kib, descriptors, threads } = look;
        let _ = write!(table, "\n{reloads:>7}  {rss_kib:>8}  {pss_kib:>8}  {descriptors:>11}  {threads:>7}");
    }
    let values: [(&str, Figure, f64); 4] = [
        ("rss_kib", |look| look.rss_kib, TOLERANCE),
        ("pss_kib", |look| look.pss_kib, TOLERANCE),
        ("descriptors", |look| look.descriptors, 0.0),
        ("threads", |look| look.threads, 0.0),
    ];
    let mut is_flat = true;
    for (name, value, tolerance) in values {
        let (before, after) = (median(second, value), median(last, value));
        // Less than before is no leak.
        let flat = after as f64 <= before as f64 * (1.0 + tolerance);
        is_flat &= flat;
        verdicts
            .insert(name.to_owned(), json!({"second_quarter": before, "last_quarter": after, "flat": flat}));
        let word = if flat { "flat" } else { "NOT FLAT" };
        let _ = write!(table, "\n{name:12} second quarter {before}, last quarter {after}: {word}");
    }
    let seconds = round(elapsed.as_secs_f64());
    let _ = write!(table, "\noutcomes: {}, in {seconds} s", json!(counts.0));
    let report = json!({
        "reloads": looks.last().map_or(0, |seen| seen.reloads),
        "seconds": seconds,
        "outcomes": counts.0,
        "looks": looks.iter().map(Seen::json).collect::<Vec<_>>(),
        "quarters": verdicts,
        "flat": is_flat,
    });
    (report, table, is_flat)
}
