//! How often the others are asked whether they are there: counted by peers that answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fednode_tests::eventually;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{Stream, StreamProtocol, noise, tcp, yamux};
use serde_json::json;

use crate::Key;
use crate::scene::{LIVE, Scene};

/// Long enough that a machine under load answers within it: a node that is not answered hangs up.
const INTERVAL: &str = "2s";

/// Somebody who answers pings. There until the test ends.
struct Answerer(Arc<AtomicU64>);

// === impl Answerer ===

impl Answerer {
    /// Connects to the node at this address.
    fn at(address: &str) -> Self {
        let mut swarm = libp2p::SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .expect("a transport")
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .expect("a behaviour")
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(fednode_tests::wait::PATIENCE * 100)
            })
            .build();
        let protocol = StreamProtocol::new("/ipfs/ping/1.0.0");
        let mut streams = swarm.behaviour().new_control().accept(protocol).expect("nobody else does");
        let address: libp2p::Multiaddr = address.parse().expect("an address");
        swarm.dial(address).expect("it can be dialled");
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        let pings = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&pings);
        tokio::spawn(async move {
            while let Some((_, stream)) = streams.next().await {
                drop(tokio::spawn(answer(stream, Arc::clone(&count))));
            }
        });
        Self(pings)
    }

    fn pings(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    async fn is_asked(&self, more: u64) {
        let enough = self.pings() + more;
        eventually(&format!("{more} more pings"), async || (self.pings() >= enough).then_some(())).await;
    }
}

async fn answer(mut stream: Stream, count: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut ping = [0; 32];
    loop {
        stream.read_exact(&mut ping).await?;
        count.fetch_add(1, Ordering::SeqCst);
        stream.write_all(&ping).await?;
        stream.flush().await?;
    }
}

pub async fn ping_interval(key: Key) {
    let mut scene = Scene::with(|specs| {
        specs[LIVE].conf["protocol"]["ping_interval"] = json!("1h");
        specs[0].conf["protocol"]["ping_interval"] = json!(INTERVAL);
    })
    .await;
    let (one, steady) =
        (Answerer::at(&scene.address()), Answerer::at(&scene.nodes[0].spec().port.loopback()));
    scene.live().wait_for_connections(3).await;
    steady.is_asked(2).await;
    assert_eq!(one.pings(), 0, "in an hour");
    for _ in 0..2 {
        scene.change(key, json!(INTERVAL)).await;
        one.is_asked(2).await;
        scene.change(key, json!("1h")).await;
        let before = one.pings();
        steady.is_asked(3).await;
        let more = one.pings() - before;
        assert!(more <= 1, "{more} pings, where the interval is an hour");
    }
    scene.finish().await;
}
