//! How long a reload takes, seen from outside: from SIGHUP to the moment a new listener accepts, and to the moment the outcome
//! can be read in the audit log, beside the floor of the same run (parsing `peers.yaml`, one durable write).
//!
//! `cargo build --release && cargo run --release -p fednode-tests --bin bench -- [--node PATH] [--rounds N] [--json]`

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fednode_tests::{Keys, Node, Port, Spec, process};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Rounds before those that count.
const WARM_UP: usize = 10;

struct Options {
    node: PathBuf,
    rounds: usize,
    json: bool,
}

/// What changes in each round besides the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Conf,
    ConfAndPeers,
}

/// Samples in milliseconds.
#[derive(Default)]
struct Samples(Vec<f64>);

#[derive(Default)]
struct Measured {
    effect: Samples,
    outcome: Samples,
    inside: Samples,
    phases: Vec<(&'static str, Samples)>,
}

const PHASES: [&str; 9] =
    ["read", "validate", "plan", "prepare", "commit", "probe", "finish", "record", "rollback"];

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut rows = Vec::new();
    for members in [4, 512] {
        for change in [Change::Conf, Change::ConfAndPeers] {
            rows.push(runtime.block_on(row(&options, members, change)));
        }
    }
    if options.json {
        println!("{:#}", Value::Array(rows));
    } else {
        table(&rows);
    }
    ExitCode::SUCCESS
}

fn options() -> Result<Options, String> {
    let mut options = Options { node: PathBuf::from("target/release/fednode"), rounds: 200, json: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => options.json = true,
            "--node" => options.node = arguments.next().ok_or("--node wants a path")?.into(),
            "--rounds" => {
                let rounds = arguments.next().and_then(|text| text.parse().ok());
                options.rounds = rounds.filter(|rounds| *rounds > 0).ok_or("--rounds wants a number")?;
            }
            other => return Err(format!("unknown argument {other}; known: --node PATH, --rounds N, --json")),
        }
    }
    options.node = fs::canonicalize(&options.node).map_err(|error| {
        format!("{}: {error}; build it with cargo build --release", options.node.display())
    })?;
    Ok(options)
}

async fn row(options: &Options, members: usize, change: Change) -> Value {
    let (floor_parse, floor_write) = floor(members, options.rounds);
    let measured = measure(options, members, change).await;
    let parse = if change == Change::Conf { 0.0 } else { floor_parse.median() };
    let floor = parse + floor_write.median();
    let phases: serde_json::Map<String, Value> =
        measured.phases.iter().map(|(name, samples)| ((*name).to_owned(), json!(samples.median()))).collect();
    json!({
        "members": members,
        "peers_changed": change == Change::ConfAndPeers,
        "rounds": options.rounds,
        "effect_ms": measured.effect.summary(),
        "outcome_ms": measured.outcome.summary(),
        "inside_ms": measured.inside.summary(),
        "phases_ms": phases,
        "floor": {"parse_ms": parse, "durable_write_ms": floor_write.median(), "sum_ms": floor},
        "outcome_over_floor": round(measured.outcome.median() / floor),
    })
}

/// A node with so many members, of which none can be reached and none is dialled again while it is measured.
async fn node(options: &Options, members: usize) -> Node {
    let mut spec = Spec::new().binary(&options.node);
    spec.peers = peers(members);
    spec.conf["peers"] = json!({"connection_timeout": "1s", "reconnect_min": "5m", "reconnect_max": "10m"});
    spec.conf["logging"]["level"] = json!("warn");
    spec.conf["reload"] = json!({});
    spec.start().await
}

fn peers(members: usize) -> Value {
    let entry = |n: usize| {
        // Port 1 of loopback refuses at once.
        let address = |host: usize| format!("/ip4/127.0.{}.{}/tcp/1", host, n % 250 + 1);
        json!({"public_key": Keys::generate().public_key, "addresses": [address(1), address(2)]})
    };
    json!({"peers": (0..members).map(entry).collect::<Vec<_>>()})
}

async fn measure(options: &Options, members: usize, change: Change) -> Measured {
    let mut node = node(options, members).await;
    settle(&node).await;
    let port = Port::free();
    let audit = node.spec().folder().join("data").join("audit.jsonl");
    let first = node.spec().port.loopback();
    let mut measured =
        Measured { phases: PHASES.map(|phase| (phase, Samples::default())).into(), ..Measured::default() };
    for round in 0..WARM_UP + options.rounds {
        node.edit(|conf| conf["network"]["addresses"] = json!([first, port.loopback()]));
        if change == Change::ConfAndPeers {
            node.edit_peers(|peers| {
                peers[0]["addresses"][0] = json!(format!("/ip4/127.0.0.9/tcp/{}", 1 + round % 9))
            });
        }
        let (effect, outcome) = observe(&node, &port, &audit);
        let line = node.audit().pop().expect("a line");
        assert_eq!(line["outcome"], "committed", "{line:#}");
        if round >= WARM_UP {
            measured.effect.add(effect);
            measured.outcome.add(outcome);
            measured.inside.0.push(line["duration_ms"].as_f64().unwrap_or_default());
            for (name, samples) in &mut measured.phases {
                samples.0.push(line["phases"][format!("{name}_ms")].as_f64().unwrap_or_default());
            }
        }
        // Back again, not measured: removing a listener is another path.
        let line = node.reload_with(|conf| conf["network"]["addresses"] = json!([first])).await;
        assert_eq!(line["outcome"], "committed", "{line:#}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    measured
}

/// Sends SIGHUP and looks every few ten microseconds for both: the port that accepts, the audit log that grows.
fn observe(node: &Node, port: &Port, audit: &Path) -> (Duration, Duration) {
    let size = || fs::metadata(audit).map_or(0, |metadata| metadata.size());
    let before = size();
    let began = Instant::now();
    node.signal(Signal::HUP);
    let effect = loop {
        if TcpStream::connect(port.address()).is_ok() {
            break began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "no effect:\n{}", node.log());
        // Looking must not take the processor from what is looked at: two cores are all there is.
        std::thread::sleep(Duration::from_micros(20));
    };
    while size() == before {
        std::thread::sleep(Duration::from_micros(20));
    }
    (effect, began.elapsed())
}

/// Waits until the node has given its members up and does nothing.
async fn settle(node: &Node) {
    let path = format!("/proc/{}/stat", node.pid().as_raw_nonzero());
    let ticks = || -> u64 {
        let stat = fs::read_to_string(&path).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    };
    loop {
        let before = ticks();
        tokio::time::sleep(Duration::from_millis(500)).await;
        if ticks() <= before + 1 {
            return;
        }
    }
}

/// What cannot be had cheaper: the members' text as YAML values, and a durable small file in the same file system.
fn floor(members: usize, rounds: usize) -> (Samples, Samples) {
    let text = process::yaml(&peers(members));
    let folder = tempfile::tempdir().expect("a folder");
    let (mut parse, mut write) = (Samples::default(), Samples::default());
    for round in 0..rounds {
        let began = Instant::now();
        let value: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
        parse.add(began.elapsed());
        drop(value);
        let (new, old) = (folder.path().join("new"), folder.path().join(format!("{}", round % 50)));
        let began = Instant::now();
        let written = File::create(&new)
            .and_then(|mut file| {
                std::io::Write::write_all(&mut file, &[b'x'; 2048])?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&new, &old))
            .and_then(|()| File::open(folder.path())?.sync_all());
        write.add(began.elapsed());
        written.expect("a durable write");
    }
    (parse, write)
}

fn table(rows: &[Value]) {
    println!(
        "members  changed        effect p50 / p99     outcome p50 / p99    floor   ratio  phases (p50, ms)"
    );
    for row in rows {
        let pair = |key: &str| format!("{:>6} / {:>6} ms", row[key]["p50"], row[key]["p99"]);
        let phases = row["phases_ms"].as_object().into_iter().flatten();
        let phases: Vec<_> =
            phases.filter(|(_, ms)| ms.as_f64() > Some(0.0)).map(|(n, ms)| format!("{n} {ms}")).collect();
        println!(
            "{:>7}  {:13}  {:20} {:20} {:>5}   {:>5}  {}",
            row["members"],
            if row["peers_changed"] == true { "conf + peers" } else { "conf" },
            pair("effect_ms"),
            pair("outcome_ms"),
            row["floor"]["sum_ms"].as_f64().map_or_else(String::new, |ms| format!("{ms:.2}")),
            row["outcome_over_floor"],
            phases.join(", ")
        );
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

// === impl Samples ===

impl Samples {
    fn add(&mut self, sample: Duration) {
        self.0.push(sample.as_secs_f64() * 1e3);
    }

    fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index within the samples"
        )]
        let index = ((sorted.len().saturating_sub(1)) as f64 * q).round() as usize;
        round(sorted.get(index).copied().unwrap_or_default())
    }

    fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    fn summary(&self) -> Value {
        json!({"p50": self.median(), "p99": self.quantile(0.99), "max": self.quantile(1.0)})
    }
}
