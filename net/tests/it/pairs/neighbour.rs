//! A peer that shares nothing with the node but libp2p: it dials as often as it is told to, takes every connection, and can
//! prove of each that it carries.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
use libp2p::core::Endpoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{ReadyUpgrade, Version};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedOutbound};
use libp2p::swarm::{
    Config, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, Stream, StreamProtocol, SubstreamProtocol, SwarmEvent, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Swarm, Transport, noise, quic, tcp, yamux};
use net::Identity;
use storage::PeerKey;
use tokio::sync::{mpsc, oneshot, watch};

use crate::harness::{address, any_port, soon};

const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");
/// Longer than any test.
const IDLE: Duration = Duration::from_secs(100_000);

/// See the module.
pub(super) struct Neighbour {
    pub(super) key: PeerKey,
    /// By transport.
    addresses: [Multiaddr; 2],
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
}

/// The connections, as this end sees them.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) open: BTreeSet<ConnectionId>,
    /// Closed, or a dial that came to nothing.
    pub(super) over: BTreeSet<ConnectionId>,
}

enum Order {
    Dial(DialOpts),
    Ping(ConnectionId, oneshot::Sender<()>),
}

// === impl Neighbour ===

impl Neighbour {
    pub(super) async fn start() -> Self {
        let identity = Identity::generate();
        let keypair = identity.keypair();
        let tcp = tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&keypair).unwrap())
            .multiplex(yamux::Config::default())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        let quic = quic::tokio::Transport::new(quic::Config::new(&keypair))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        let transport = quic.or_transport(tcp).map(|either, _| either.into_inner()).boxed();
        let config = Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
        let mut swarm = Swarm::new(transport, Pings::default(), identity.peer_id(), config);
        let mut addresses = [any_port(), address("/ip4/127.0.0.1/udp/0/quic-v1")];
        for address in &mut addresses {
            swarm.listen_on(address.clone()).unwrap();
            *address = soon("an address", async {
                loop {
                    if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                        return address;
                    }
                }
            })
            .await;
        }
        let (orders, to_do) = mpsc::channel(16);
        let (seen, state) = watch::channel(State::default());
        actix::spawn(run(swarm, to_do, seen));
        Self { key: identity.public_key(), addresses, orders, state }
    }

    pub(super) fn address(&self, transport: net::Transport) -> &Multiaddr {
        let [tcp, quic] = &self.addresses;
        match transport {
            net::Transport::Tcp => tcp,
            net::Transport::Udp => quic,
        }
    }

    pub(super) fn open(&self) -> BTreeSet<ConnectionId> {
        self.state.borrow().open.clone()
    }

    /// Begins one more connection to whoever is there.
    pub(super) async fn dial(&self, peer: PeerId, address: Multiaddr) -> ConnectionId {
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .allocate_new_port()
            .addresses(vec![address])
            .build();
        let id = options.connection_id();
        self.order(Order::Dial(options)).await;
        id
    }

    /// Whether this connection carries something there and back.
    pub(super) async fn carries(&self, id: ConnectionId) -> bool {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Ping(id, reply)).await;
        soon("an echo, or the end of the connection", answer).await.is_ok()
    }

    /// Waits until the connections are so.
    pub(super) async fn when(&self, so: impl FnMut(&State) -> bool) {
        let mut state = self.state.clone();
        let _ = soon("a neighbour's connections", state.wait_for(so)).await.expect("it runs");
    }

    async fn order(&self, order: Order) {
        let _ = soon("a neighbour", self.orders.send(order)).await;
    }
}

async fn run(mut swarm: Swarm<Pings>, mut orders: mpsc::Receiver<Order>, state: watch::Sender<State>) {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Dial(options)) => {
                    let id = options.connection_id();
                    if swarm.dial(options).is_err() {
                        state.send_modify(|state| state.over.extend([id]));
                    }
                }
                Some(Order::Ping(id, reply)) => swarm.behaviour_mut().ask(id, reply),
                None => return,
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                    state.send_modify(|state| state.open.extend([connection_id]));
                }
                SwarmEvent::ConnectionClosed { connection_id, .. } => state.send_modify(|state| {
                    state.open.remove(&connection_id);
                    state.over.insert(connection_id);
                }),
                SwarmEvent::OutgoingConnectionError { connection_id, .. } => {
                    state.send_modify(|state| state.over.extend([connection_id]));
                }
                _ => {}
            },
        }
    }
}

/// Pings a connection when asked to, on a stream of its own each time.
#[derive(Default)]
struct Pings {
    peers: std::collections::HashMap<ConnectionId, PeerId>,
    asked: VecDeque<(ConnectionId, oneshot::Sender<()>)>,
    waker: Option<Waker>,
}

// === impl Pings ===

impl Pings {
    fn ask(&mut self, id: ConnectionId, reply: oneshot::Sender<()>) {
        self.asked.push_back((id, reply));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl NetworkBehaviour for Pings {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.peers.insert(event.connection_id, event.peer_id);
            }
            FromSwarm::ConnectionClosed(event) => drop(self.peers.remove(&event.connection_id)),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        while let Some((id, event)) = self.asked.pop_front() {
            // One that is gone carries nothing: its reply is dropped.
            if let Some(peer_id) = self.peers.get(&id).copied() {
                let handler = NotifyHandler::One(id);
                return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event });
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[derive(Default)]
struct Handler {
    asked: VecDeque<oneshot::Sender<()>>,
    opening: VecDeque<oneshot::Sender<()>>,
    pinging: FuturesUnordered<BoxFuture<'static, ()>>,
}

// === impl Handler ===

impl ConnectionHandler for Handler {
    type FromBehaviour = oneshot::Sender<()>;
    type ToBehaviour = Infallible;
    type InboundProtocol = libp2p::core::upgrade::DeniedUpgrade;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(libp2p::core::upgrade::DeniedUpgrade, ())
    }

    fn on_behaviour_event(&mut self, reply: oneshot::Sender<()>) {
        self.asked.push_back(reply);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                if let Some(reply) = self.opening.pop_front() {
                    self.pinging.push(ping(protocol, reply).boxed());
                }
            }
            ConnectionEvent::DialUpgradeError(_) => drop(self.opening.pop_front()),
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Infallible>> {
        while let Poll::Ready(Some(())) = self.pinging.poll_next_unpin(cx) {}
        let Some(reply) = self.asked.pop_front() else { return Poll::Pending };
        self.opening.push_back(reply);
        let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PING), ());
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }
}

async fn ping(mut stream: Stream, reply: oneshot::Sender<()>) {
    let sent: [u8; 32] = rand::random();
    let mut back = [0; 32];
    let there_and_back = async {
        stream.write_all(&sent).await?;
        stream.flush().await?;
        stream.read_exact(&mut back).await
    };
    if there_and_back.await.is_ok() && back == sent {
        let _ = reply.send(());
    }
}
