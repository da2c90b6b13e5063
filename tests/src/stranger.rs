//! A peer that is libp2p as it is and nothing of ours: what it is allowed, refused and told, it says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::core::upgrade::Version;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{Config, ConnectionId, SwarmEvent};
use libp2p::{PeerId, Swarm, Transport as _, identify, noise, tcp, yamux};
use net::Identity;
use tokio::sync::{mpsc, watch};

use crate::wait::eventually;

/// Longer than any test.
const IDLE: Duration = Duration::from_secs(100_000);

/// The peer. Gone with all its connections when dropped.
#[derive(Debug)]
pub struct Stranger {
    /// Its id.
    pub peer_id: PeerId,
    dials: mpsc::Sender<DialOpts>,
    seen: watch::Receiver<Seen>,
}

/// A connection of a [`Stranger`].
pub type Call = ConnectionId;

#[derive(Debug, Default)]
struct Seen {
    /// Connections on which the other end said by identify who it is, with the addresses that it announced last.
    open: BTreeMap<Call, Vec<String>>,
    /// Connections that were closed, and dials that came to nothing.
    over: BTreeSet<Call>,
}

// === impl Stranger ===

impl Stranger {
    /// A new peer, which listens nowhere.
    ///
    /// # Panics
    /// If libp2p does not start.
    #[must_use]
    pub fn new() -> Self {
        let identity = Identity::generate();
        let keypair = identity.keypair();
        let transport = tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&keypair).expect("a key pair of our own"))
            .multiplex(yamux::Config::default())
            .boxed();
        let identify = identify::Config::new("/stranger/1.0.0".to_owned(), keypair.public());
        let config = Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
        let swarm = Swarm::new(transport, identify::Behaviour::new(identify), identity.peer_id(), config);
        let (dials, to_dial) = mpsc::channel(16);
        let (tell, seen) = watch::channel(Seen::default());
        tokio::spawn(live(swarm, to_dial, tell));
        Self { peer_id: identity.peer_id(), dials, seen }
    }

    /// One more connection to whoever is at this multiaddr. `None` if it is refused: before the handshake or after it.
    ///
    /// # Panics
    /// If the address is none.
    pub async fn call(&self, address: &str) -> Option<Call> {
        let address = address.parse().expect("a multiaddr");
        let dial = DialOpts::unknown_peer_id().address(address).allocate_new_port().build();
        let id = dial.connection_id();
        self.dials.send(dial).await.expect("the stranger lives");
        eventually("a call is taken or refused", async || {
            let seen = self.seen.borrow();
            // One that was taken and closed since has been refused, too.
            if seen.over.contains(&id) { Some(None) } else { seen.open.contains_key(&id).then_some(Some(id)) }
        })
        .await
    }

    /// Whether a connection is still there.
    #[must_use]
    pub fn holds(&self, call: Call) -> bool {
        self.seen.borrow().open.contains_key(&call)
    }

    /// How many connections it has.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.seen.borrow().open.len()
    }

    /// What the node at the other end announces now: its listeners and external addresses.
    #[must_use]
    pub fn announced(&self, call: Call) -> Vec<String> {
        self.seen.borrow().open.get(&call).cloned().unwrap_or_default()
    }
}

impl Default for Stranger {
    fn default() -> Self {
        Self::new()
    }
}

async fn live(
    mut swarm: Swarm<identify::Behaviour>,
    mut dials: mpsc::Receiver<DialOpts>,
    tell: watch::Sender<Seen>,
) {
    loop {
        let event = tokio::select! {
            dial = dials.recv() => match dial {
                Some(dial) => {
                    let id = dial.connection_id();
                    if swarm.dial(dial).is_err() {
                        tell.send_modify(|seen| seen.over.extend([id]));
                    }
                    continue;
                }
                None => return,
            },
            event = swarm.select_next_some() => event,
        };
        tell.send_modify(|seen| match event {
            SwarmEvent::Behaviour(identify::Event::Received { connection_id, info, .. }) => {
                let addresses = info.listen_addrs.iter().map(ToString::to_string).collect();
                seen.open.insert(connection_id, addresses);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. }
            | SwarmEvent::OutgoingConnectionError { connection_id, .. } => {
                seen.open.remove(&connection_id);
                seen.over.insert(connection_id);
            }
            _ => {}
        });
    }
}
