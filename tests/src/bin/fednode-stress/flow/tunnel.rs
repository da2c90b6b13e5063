//! Numbered blocks through a service's tunnel to an echo and back: every byte, until the harness itself breaks what carries them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fednode_tests::hum::{BLOCK, HUM, block, echo};
use fednode_tests::{Port, Spec};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{AGAIN, pace};
use crate::finding::Rule;
use crate::world::{Phase, World};

/// How long a block may be under way: pauses and partitions lie within.
const PATIENCE: Duration = Duration::from_secs(30);

/// A break is noticed so long after its cause at the latest.
const NOTICED: u64 = 20_000;

/// The first stream after a break may find the way not there yet, for so long.
const RECOVERY: u64 = 30_000;

/// One tunnel.
#[derive(Debug)]
struct Line {
    caller: usize,
    called: usize,
    port: Port,
    blocks: AtomicU64,
    streams: AtomicU64,
    broken: AtomicU64,
    last: AtomicU64,
}

/// All tunnels.
#[derive(Debug)]
pub(crate) struct Tunnels(Vec<Line>);

/// What came of them.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Tally {
    /// Blocks of 4 KiB, there and back.
    pub(crate) blocks: u64,
    pub(crate) streams: u64,
    /// Streams that ended with what carried them, as the harness wanted.
    pub(crate) excused: u64,
}

// === impl Tunnels ===

impl Tunnels {
    /// Configures the nodes.
    pub(crate) async fn lay(specs: &mut [Spec], count: usize) -> Self {
        let (target, nodes) = (echo().await, specs.len());
        let mut lines = Vec::new();
        for number in 0..count {
            let (caller, called) = (number, (number + nodes / 2) % nodes);
            let port = Port::free();
            let peer = specs[called].keys.public_key.clone();
            let name = format!("{HUM}-{number}");
            let mut add = |node: usize, list: &str, entry| {
                let list = specs[node].conf["protocol"]["services"][list].as_array_mut();
                list.expect("the base configuration has it").push(entry);
            };
            add(called, "expose", json!({"name": name, "target": target}));
            add(caller, "connect", json!({"name": name, "peer": peer, "listen": port.address().to_string()}));
            lines.push(Line {
                caller,
                called,
                port,
                blocks: AtomicU64::new(0),
                streams: AtomicU64::new(0),
                broken: AtomicU64::new(0),
                last: AtomicU64::new(0),
            });
        }
        Self(lines)
    }

    /// Starts the streams.
    pub(crate) fn start(self, world: &Arc<World>) -> Arc<Self> {
        let tunnels = Arc::new(self);
        for number in 0..tunnels.0.len() {
            let (world, tunnels) = (Arc::clone(world), Arc::clone(&tunnels));
            tokio::spawn(async move { tunnels.0[number].run(&world).await });
        }
        tunnels
    }

    pub(crate) fn flows_since(&self, since: u64) -> Result<(), String> {
        let still = self.0.iter().find(|line| line.last.load(Ordering::SeqCst) <= since);
        still.map_or(Ok(()), |line| {
            Err(format!("the tunnel from node {} to node {}", line.caller, line.called))
        })
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut all = Tally::default();
        for line in &self.0 {
            all.blocks += line.blocks.load(Ordering::SeqCst);
            all.streams += line.streams.load(Ordering::SeqCst);
            all.excused += line.broken.load(Ordering::SeqCst);
        }
        all
    }
}

// === impl Line ===

impl Line {
    async fn run(&self, world: &World) {
        while world.phase() < Phase::Ends {
            if !world.places[self.caller].serves() {
                world.wait(AGAIN, Phase::Ends).await;
                continue;
            }
            let began = world.now();
            let blocks = self.blocks.load(Ordering::SeqCst);
            if let Err(error) = self.stream(world).await {
                self.judge(world, began, self.blocks.load(Ordering::SeqCst) - blocks, &error);
            }
            world.wait(AGAIN, Phase::Ends).await;
        }
    }

    fn judge(&self, world: &World, began: u64, blocks: u64, error: &io::Error) {
        let now = world.now();
        let since = if blocks == 0 { began.saturating_sub(RECOVERY) } else { now.saturating_sub(NOTICED) };
        // A stream that waits for its member when that goes away is broken by it.
        if world.troubles.break_between(self.caller, Some(self.called), since, now) {
            self.broken.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let text = format!(
            "tunnel from node {} to node {}: after {blocks} blocks and {} ms: {error}",
            self.caller,
            self.called,
            now - began
        );
        if world.has_ended(self.caller) || world.has_ended(self.called) {
            return;
        }
        // Nobody accepts while a start is under way, or before the first was ready.
        if error.kind() != io::ErrorKind::ConnectionRefused || world.places[self.caller].serves() {
            world.found(Rule::Tunnels, Some(self.caller), text);
        }
    }

    /// One stream, until it breaks or the run ends.
    async fn stream(&self, world: &World) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.port.address()).await?;
        self.streams.fetch_add(1, Ordering::SeqCst);
        let mut every = pace(world.scenario.traffic.blocks_per_second);
        let (mut number, mut data) = (0, vec![0; BLOCK]);
        while world.phase() < Phase::Ends {
            every.tick().await;
            stream.write_all(&block(number)).await?;
            let read = timeout(PATIENCE, stream.read_exact(&mut data)).await;
            read.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "a block did not come back"))??;
            if data != block(number) {
                let text = format!("block {number} of {BLOCK} bytes came back as another one");
                world.found(Rule::Tunnels, Some(self.caller), text);
            }
            number += 1;
            self.blocks.fetch_add(1, Ordering::SeqCst);
            self.last.store(world.now(), Ordering::SeqCst);
        }
        stream.shutdown().await
    }
}
