//! What peer exchange costs: bytes between two that know much, and bytes in a federation where one node moves.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fednode_tests::{Node, Spec};
use libp2p::tcp::tokio::TcpStream;
use net::exchange::{converse, receive, sign};
use net::{Identity, Post, RateLimit, Settings, View};
use serde_json::{Value, json};
use storage::KnownEntry;
use storage::known_file::Hand;
use tokio::time::sleep;

use crate::options::Options;
use crate::samples::round;

const KNOWN: [usize; 3] = [64, 512, 10_000];

/// Between two looks at nodes: looking costs them what they need themselves.
const PAUSE: Duration = Duration::from_millis(100);

/// A federation that has said nothing for so long has no more to say.
const QUIET: Duration = Duration::from_secs(5);

pub(crate) async fn run(options: &Options, sizes: &[usize]) -> (Value, String, bool) {
    let mut table = "known   first exchange        per peer   one new record   nothing new".to_owned();
    let (mut pairs, mut moves) = (Vec::new(), Vec::new());
    for known in KNOWN {
        let row = pair(known).await;
        let _ = write!(
            table,
            "\n{known:>5}   {:>8} B in {:>6} s   {:>6} B   {:>12} B   {:>9} B",
            row["first_bytes"],
            row["first_s"],
            row["bytes_per_peer"],
            row["one_new_bytes"],
            row["nothing_new_bytes"]
        );
        pairs.push(row);
    }
    table.push_str("\n\nnodes   one change: bytes sent per node   most of one   known to 95 %   to all");
    for size in sizes {
        let row = moved(options, *size).await;
        let _ = write!(
            table,
            "\n{size:>5}   {:>31} B   {:>9} B   {:>11} s   {:>4} s",
            row["bytes_per_node"], row["most_bytes"], row["known_to_95_s"], row["known_to_all_s"]
        );
        moves.push(row);
    }
    (json!({"pairs": pairs, "moves": moves}), table, true)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(since.as_millis()).expect("it is before the year 500 million")
}

/// What an identity says of itself at one address, `later` milliseconds from now.
fn kept(identity: &Identity, later: u64) -> KnownEntry {
    let at = "/ip4/127.0.0.1/tcp/9000".parse().expect("an address");
    let record = sign(identity, unix_ms() + later, &[at]).expect("it can be signed");
    KnownEntry {
        public_key: identity.public_key(),
        addresses: Vec::new(),
        source: String::new(),
        first_seen: 0,
        last_seen: 0,
        failures: 0,
        records: vec![STANDARD.encode(record)],
    }
}

/// Bytes that the asker and the one who answers have said.
fn said(asker: &View, teller: &View) -> u64 {
    let sent = |view: &View| view.known().figures().traffic().iter().map(|kind| kind.sent).sum::<u64>();
    sent(asker) + sent(teller)
}

/// One who knows so many peers, and one who knows none and asks.
async fn pair(count: usize) -> Value {
    let interval = Duration::from_millis(500);
    let settings = Settings {
        ping_interval: Duration::from_secs(15),
        max_message_size: 1024,
        rate_limit: RateLimit { messages_per_second: 1.0, burst: 1 },
        exchange_interval: interval,
    };
    let (asker, teller) = (View::new(), View::new());
    let peers: Vec<_> = (0..count).map(|_| Identity::generate()).collect();
    let loaded = teller.known().load(peers.iter().map(|peer| kept(peer, 0)), Hand::Person);
    assert_eq!(loaded, count, "all are taken");
    let [one, other] = [0, 1].map(|_| Identity::generate().public_key());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let near = tokio::net::TcpStream::connect(listener.local_addr().expect("it has one"))
        .await
        .expect("it is there");
    let (far, _) = listener.accept().await.expect("somebody came");
    let began = Instant::now();
    let tasks = [
        tokio::spawn(converse(TcpStream(near), one, other, Post::new(settings), asker.clone())),
        tokio::spawn(receive(TcpStream(far), other, one, Post::new(settings), teller.clone())),
    ];
    while asker.known().count() < count {
        sleep(Duration::from_millis(1)).await;
    }
    let (first, elapsed) = (said(&asker, &teller), began.elapsed());
    // One more question after each: what it costs to find out that nothing is new is in both.
    asked(&asker, 1).await;
    let before = said(&asker, &teller);
    asked(&asker, 4).await;
    let nothing = (said(&asker, &teller) - before) / 4;
    let before = (said(&asker, &teller), asker.known().figures().asked());
    teller.known().load([kept(&peers[0], 1)], Hand::Person);
    asked(&asker, 2).await;
    let exchanges = asker.known().figures().asked() - before.1;
    let new = said(&asker, &teller) - before.0 - nothing * (exchanges - 1);
    for task in tasks {
        task.abort();
    }
    json!({
        "known": count,
        "first_bytes": first,
        "first_s": round(elapsed.as_secs_f64()),
        "bytes_per_peer": round(first as f64 / count as f64),
        "one_new_bytes": new,
        "nothing_new_bytes": nothing,
    })
}

/// Until it has asked so many times more.
async fn asked(view: &View, times: u64) {
    let until = view.known().figures().asked() + times;
    while view.known().figures().asked() < until {
        sleep(Duration::from_millis(1)).await;
    }
}

/// A federation in which one node says that it is somewhere else.
async fn moved(options: &Options, size: usize) -> Value {
    let quiet = |mut spec: Spec| {
        spec.conf["logging"]["level"] = json!("warn");
        // What is said is said because of the change.
        spec.conf["peers"]["exchange_interval"] = json!("24h");
        spec.binary(&options.node)
    };
    let mut nodes: Vec<Node> = Spec::mesh(size).into_iter().map(quiet).map(Spec::spawn).collect();
    let key = nodes[0].key().to_owned();
    for node in nodes.iter().skip(1) {
        while !knows(node, &key, "/tcp/").await {
            sleep(PAUSE).await;
        }
    }
    let before = silence(&nodes).await;
    let began = Instant::now();
    let address = "/dns4/moved.example.com/tcp/9000";
    nodes[0].edit(|conf| conf["network"]["external_addresses"] = json!([address]));
    nodes[0].signal(rustix::process::Signal::HUP);
    let (mut missing, mut most) = ((1..size).collect::<Vec<_>>(), None);
    while !missing.is_empty() {
        let mut left = Vec::new();
        for at in missing {
            if !knows(&nodes[at], &key, address).await {
                left.push(at);
            }
        }
        missing = left;
        if missing.len() * 20 <= size && most.is_none() {
            most = Some(began.elapsed());
        }
    }
    let all = began.elapsed();
    let after = silence(&nodes).await;
    let bytes: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    json!({
        "nodes": size,
        "bytes_per_node": round(bytes.iter().sum::<u64>() as f64 / size as f64),
        "most_bytes": bytes.iter().max(),
        "known_to_95_s": round(most.unwrap_or(all).as_secs_f64()),
        "known_to_all_s": round(all.as_secs_f64()),
    })
}

pub(crate) async fn knows(node: &Node, key: &str, at: &str) -> bool {
    let Ok(answer) = node.client().get("/admin/status").await else { return false };
    let Ok(status) = answer.json::<Value>() else { return false };
    let known = status["known"].as_array().cloned().unwrap_or_default();
    known.iter().any(|peer| peer["public_key"] == key && peer["addresses"].to_string().contains(at))
}

/// Waits until nobody says anything any more; gives the bytes that each has sent since its start.
pub(crate) async fn silence(nodes: &[Node]) -> Vec<u64> {
    let mut last = Vec::new();
    loop {
        let mut now = Vec::new();
        for node in nodes {
            now.push(sent(node).await);
        }
        if now == last {
            return now;
        }
        last = now;
        sleep(QUIET).await;
    }
}

async fn sent(node: &Node) -> u64 {
    let answer = node.client().get("/metrics").await.expect("it answers");
    let text = String::from_utf8(answer.body.to_vec()).expect("metrics are text");
    let lines = text.lines().filter(|line| {
        line.starts_with("fednode_exchange_bytes_total{") && line.contains("direction=\"sent\"")
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
