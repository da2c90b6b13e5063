//! Throughput of a service: from a local client through two nodes to a local server, beside a bare libp2p stream (which has
//! neither client nor server behind a socket) and two socats in a row (which encrypt nothing), turn by turn in one run.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fednode_tests::{Node, Port, Spec, eventually};
use net::Identity;
use serde_json::{Value, json};

use crate::options::Options;
use crate::peer::{Load, Peer, Stack};
use crate::samples::{Samples, round};

const CHUNK: usize = 64 << 10;
/// Of what a bare stream carries.
const GOAL: f64 = 0.9;

/// Two nodes, and a service between them.
struct Tunnel {
    _nodes: Vec<Node>,
    port: Port,
}

/// A program that is killed when dropped.
struct Socat(Child);

impl Drop for Socat {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// === impl Tunnel ===

impl Tunnel {
    async fn start(options: &Options, target: SocketAddr) -> Self {
        let (mut specs, port) = (Spec::federation(2), Port::free());
        let peer = specs[0].keys.public_key.clone();
        for spec in &mut specs {
            *spec = std::mem::take(spec).binary(&options.node);
            spec.conf["logging"]["level"] = json!("warn");
        }
        specs[0].conf["protocol"] =
            json!({"services": {"expose": [{"name": "sink", "target": target.to_string()}]}});
        specs[1].conf["protocol"] = json!({"services": {"connect": [
            {"name": "sink", "peer": peer, "listen": port.address().to_string()}
        ]}});
        let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
        for node in &mut nodes {
            node.wait_until_it_serves().await;
        }
        for node in &nodes {
            node.wait_for_connections(1).await;
        }
        Self { _nodes: nodes, port }
    }
}

/// Two in a row, as a tunnel has two ends; `None` where socat is not installed.
async fn socats(target: SocketAddr) -> Option<(Vec<Socat>, Port)> {
    let (first, second) = (Port::free(), Port::free());
    let mut programs = Vec::new();
    for (port, to) in [(&second, target), (&first, second.address())] {
        let listen = format!("TCP-LISTEN:{},bind=127.0.0.1,fork,reuseaddr", port.number());
        let mut command = Command::new("socat");
        command.args(["-b", "65536", &listen, &format!("TCP:{to}")]).stdin(Stdio::null());
        programs.push(Socat(command.stderr(Stdio::null()).spawn().ok()?));
    }
    eventually("socat listens", async || (first.accepts() && second.accepts()).then_some(())).await;
    Some((programs, first))
}

/// Takes what comes, and says how much it was when the client has ended.
fn sink() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut socket, mut buffer, mut count) = (socket, vec![0; CHUNK], 0u64);
                while let Ok(read @ 1..) = socket.read(&mut buffer) {
                    count += read as u64;
                }
                // One that only looked whether anybody listens has gone already.
                let _ = socket.write_all(&count.to_be_bytes());
            });
        }
    });
    address
}

/// MiB/s of one connection, until the other end has said that it has all.
async fn flood(port: &Port, lasting: Duration) -> f64 {
    let address = port.address();
    let flood = tokio::task::spawn_blocking(move || {
        let (mut socket, data) = (TcpStream::connect(address).expect("it listens"), vec![b'x'; CHUNK]);
        let (began, mut sent) = (Instant::now(), 0u64);
        while began.elapsed() < lasting {
            socket.write_all(&data).expect("the connection holds");
            sent += CHUNK as u64;
        }
        socket.shutdown(std::net::Shutdown::Write).expect("the connection holds");
        let mut arrived = [0; 8];
        socket.read_exact(&mut arrived).expect("the connection holds");
        assert_eq!(u64::from_be_bytes(arrived), sent);
        sent as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64()
    });
    flood.await.expect("it ends")
}

pub(crate) async fn run(options: &Options, rounds: usize) -> (Value, String, bool) {
    let target = sink();
    let tunnel = Tunnel::start(options, target).await;
    let socats = socats(target).await;
    let lasting = options.lasting();
    let (mut ours, mut bare, mut plain) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..rounds {
        ours.add_value(flood(&tunnel.port, lasting).await);
        let who = [Identity::generate()];
        let (_server, to) = Peer::serve(Stack::Bare, &who);
        let line = Peer::load(Stack::Bare, &to, &who, Load::Flood { size: CHUNK, lasting });
        bare.add_value(line["mib_per_s"].as_f64().expect("a figure"));
        if let Some((_, port)) = &socats {
            plain.add_value(flood(port, lasting).await);
        }
    }
    let ratio = round(ours.median() / bare.median());
    let mut table = format!(
        "a service, one stream      {:>9} MiB/s\na bare libp2p stream       {:>9} MiB/s  ratio {ratio}, goal >= {GOAL}",
        ours.median(),
        bare.median()
    );
    let _ = match &socats {
        Some(_) => write!(
            table,
            "\ntwo socats, no encryption  {:>9} MiB/s  ratio {}",
            plain.median(),
            round(ours.median() / plain.median())
        ),
        None => write!(table, "\nsocat is not installed"),
    };
    let report = json!({
        "what": "tunnel", "unit": "MiB/s", "ours": ours.summary(), "bare": bare.summary(),
        "socat": socats.is_some().then(|| plain.summary()), "ratio": ratio, "goal": format!(">= {GOAL}"),
    });
    (report, table, ratio >= GOAL)
}
