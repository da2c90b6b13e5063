//! What flows between nodes besides direct messages while something else happens: messages on a topic, and a stream through a
//! service's tunnel, in both directions; and the proof that nothing was lost, repeated or changed.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::broadcast::post;
use crate::port::Port;
use crate::process::{Node, Spec};
use crate::wait::{PATIENCE, eventually};

/// The topic and the service.
pub const HUM: &str = "hum";
/// The tunnel's unit, in bytes.
pub const BLOCK: usize = 4 << 10;
/// Between two messages, and between two blocks: a hum leaves the machine to others.
const PACE: Duration = Duration::from_millis(3);

/// Which nodes it flows between: nothing has begun yet.
#[derive(Debug)]
pub struct Lines {
    topic: (usize, usize),
    port: Port,
}

/// See the module.
#[derive(Debug)]
pub struct Hum {
    topic: Stream<Heard>,
    tunnel: Stream<u64>,
    _port: Port,
}

/// One that is numbered: how much of it has arrived, and what its receiver has to show for it.
#[derive(Debug)]
struct Stream<T> {
    what: &'static str,
    arrived: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<T>,
}

/// What came on the topic.
#[derive(Debug, Default)]
struct Heard {
    /// Before it, the author did not know yet that anybody listens.
    first: Option<u64>,
    /// From the first on.
    numbers: HashSet<u64>,
}

// === impl Lines ===

impl Lines {
    /// Configures nodes for it, with rates that nothing here reaches. Of each pair the first speaks (or calls) and the second listens
    /// (or is called).
    ///
    /// # Panics
    /// If there is no port.
    pub async fn lay(specs: &mut [Spec], topic: (usize, usize), tunnel: (usize, usize)) -> Self {
        let (port, target) = (Port::free(), echo().await);
        for spec in &mut *specs {
            spec.conf["protocol"] = json!({
                "rate_limit": {"messages_per_second": 1e6, "burst": 1_000_000},
                "topics": [{"name": HUM}],
                "services": {"expose": [], "connect": []},
            });
        }
        let (caller, called) = tunnel;
        let peer = specs[called].keys.public_key.clone();
        specs[called].conf["protocol"]["services"]["expose"] = json!([{"name": HUM, "target": target}]);
        specs[caller].conf["protocol"]["services"]["connect"] =
            json!([{"name": HUM, "peer": peer, "listen": port.address().to_string()}]);
        Self { topic, port }
    }

    /// Begins, and returns when both have arrived.
    ///
    /// # Panics
    /// If they do not.
    pub async fn start(self, nodes: &[Node]) -> Hum {
        let (from, to) = self.topic;
        let topic = murmur(&nodes[from], &nodes[to]).await;
        let hum = Hum { topic, tunnel: tunnel(&self.port).await, _port: self.port };
        hum.go_on().await;
        hum
    }
}

/// A local service that sends back what comes; it ends with the test. Gives its address.
///
/// # Panics
/// If there is no port.
pub async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = socket.split();
                tokio::io::copy(&mut reader, &mut writer).await?;
                writer.shutdown().await
            });
        }
    });
    address.to_string()
}

// === impl Hum ===

impl Hum {
    /// Waits until some more of each has arrived.
    pub async fn go_on(&self) {
        self.topic.goes_on().await;
        self.tunnel.goes_on().await;
    }

    /// Ends it.
    ///
    /// # Panics
    /// If anything was lost, repeated or changed.
    pub async fn finish(self) {
        let (sent, heard) = self.topic.finish().await;
        let first = heard.first.expect("some have arrived");
        assert_eq!(heard.numbers, (first..sent).collect(), "lost on the topic");
        let (sent, back) = self.tunnel.finish().await;
        assert_eq!(back, sent, "lost in the tunnel");
    }
}

// === impl Stream ===

impl<T> Stream<T> {
    async fn goes_on(&self) {
        let now = self.arrived.load(Ordering::SeqCst);
        eventually(&format!("more than {now} of the {}", self.what), async || {
            assert!(!self.sender.is_finished() && !self.receiver.is_finished(), "the {} ended", self.what);
            (self.arrived.load(Ordering::SeqCst) > now + 2).then_some(())
        })
        .await;
    }

    async fn finish(self) -> (u64, T) {
        self.stop.store(true, Ordering::SeqCst);
        let sent = self.sender.await.expect("the sender ends");
        (sent, self.receiver.await.expect("the receiver ends"))
    }
}

/// Numbered messages on the topic.
async fn murmur(from: &Node, to: &Node) -> Stream<Heard> {
    let path = format!("/v1/topics/{HUM}/messages");
    let mut events = to.client().events(&path).await.expect("the topic is configured");
    let (arrived, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, author) = (Arc::clone(&arrived), from.key().to_owned());
    let receiver = tokio::spawn(async move {
        let mut heard = Heard::default();
        loop {
            let event = timeout(PATIENCE, events.next()).await.expect("no message comes any more");
            let event: Value = serde_json::from_str(&event.expect("the stream goes on")).expect("JSON");
            if event["from"] != author.as_str() {
                continue;
            }
            let number: u64 = match event["data"].as_str().expect("a text") {
                // Later than all of its author's, which come by one connection.
                "end" => return heard,
                number => number.parse().expect("messages are numbered"),
            };
            // One of before may come by another node.
            if *heard.first.get_or_insert(number) <= number {
                assert!(heard.numbers.insert(number), "{number} came twice");
                count.store(heard.numbers.len() as u64, Ordering::SeqCst);
            }
        }
    });
    let (client, ended) = (from.client(), Arc::clone(&stop));
    let sender = tokio::spawn(async move {
        let (mut every, mut number) = (paced(), 0_u64);
        while !ended.load(Ordering::SeqCst) {
            every.tick().await;
            post(&client, &path, &number.to_string()).await.expect("every message is published");
            number += 1;
        }
        post(&client, &path, "end").await.expect("every message is published");
        number
    });
    Stream { what: "topic", arrived, stop, sender, receiver }
}

/// Numbered blocks to an echo behind the tunnel.
async fn tunnel(port: &Port) -> Stream<u64> {
    let (reader, writer) = TcpStream::connect(port.address()).await.expect("the node listens").into_split();
    let (arrived, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let sender = tokio::spawn(send(writer, Arc::clone(&stop)));
    let receiver = tokio::spawn(receive(reader, Arc::clone(&arrived)));
    Stream { what: "tunnel", arrived, stop, sender, receiver }
}

async fn send(mut to: OwnedWriteHalf, stop: Arc<AtomicBool>) -> u64 {
    let (mut every, mut number) = (paced(), 0);
    while !stop.load(Ordering::SeqCst) {
        every.tick().await;
        to.write_all(&block(number)).await.expect("the stream holds");
        number += 1;
    }
    to.shutdown().await.expect("the stream holds");
    number
}

async fn receive(mut from: OwnedReadHalf, arrived: Arc<AtomicU64>) -> u64 {
    let (mut data, mut number) = (vec![0; BLOCK], 0);
    loop {
        let read = timeout(PATIENCE, from.read_exact(&mut data)).await.expect("nothing comes any more");
        match read {
            Ok(_) => assert!(data == block(number), "block {number} is another one"),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return number,
            Err(error) => panic!("after {number} blocks: {error}"),
        }
        number += 1;
        arrived.store(number, Ordering::SeqCst);
    }
}

/// The block of this number: the number, scattered, again and again.
#[must_use]
pub fn block(number: u64) -> Vec<u8> {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes().repeat(BLOCK / 8)
}

fn paced() -> tokio::time::Interval {
    let mut every = interval(PACE);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}
