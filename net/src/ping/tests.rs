use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::MemoryTransport;
use libp2p::core::upgrade::Version;
use libp2p::swarm::SwarmEvent;
use libp2p::{Swarm, Transport, identity, noise, yamux};

use super::*;
use crate::RateLimit;

const INTERVAL: Duration = Duration::from_secs(15);

fn swarm<B: NetworkBehaviour>(behaviour: B) -> Swarm<B> {
    let key = identity::Keypair::generate_ed25519();
    let transport = MemoryTransport::default()
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key).unwrap())
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(INTERVAL * 1000);
    Swarm::new(transport.boxed(), behaviour, key.public().to_peer_id(), config)
}

/// A peer that answers so many pings on a stream, then closes it. Counts the pings.
#[derive(Clone)]
struct Brisk {
    answers: usize,
    answered: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
}

struct BriskHandler {
    peer: Brisk,
    inbound: VecDeque<BoxFuture<'static, ()>>,
}

impl Brisk {
    fn handler(&self) -> BriskHandler {
        BriskHandler { peer: self.clone(), inbound: VecDeque::new() }
    }

    async fn serve(self, mut stream: Stream) {
        self.streams.fetch_add(1, Ordering::SeqCst);
        for _ in 0..self.answers {
            let mut ping = [0; SIZE];
            stream.read_exact(&mut ping).await.unwrap();
            stream.write_all(&ping).await.unwrap();
            stream.flush().await.unwrap();
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
        stream.close().await.unwrap();
    }
}

impl NetworkBehaviour for Brisk {
    type ConnectionHandler = BriskHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<BriskHandler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<BriskHandler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        Poll::Pending
    }
}

impl ConnectionHandler for BriskHandler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        if let ConnectionEvent::FullyNegotiatedInbound(inbound) = event {
            self.inbound.push_back(self.peer.clone().serve(inbound.protocol).boxed());
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Infallible>> {
        self.inbound.retain_mut(|inbound| inbound.poll_unpin(cx).is_pending());
        Poll::Pending
    }
}

/// What a peer saw that answers so many pings on each stream, in so many intervals: pings and streams; and whether it was
/// taken for dead.
async fn watched(answers: usize, intervals: u32) -> (usize, usize, bool) {
    let rate_limit = RateLimit { messages_per_second: 1.0, burst: 1 };
    let settings =
        Settings { ping_interval: INTERVAL, max_message_size: 1024, rate_limit, exchange_interval: INTERVAL };
    let mut ours = swarm(Ping::new(Post::new(settings)));
    let peer = Brisk { answers, answered: Arc::default(), streams: Arc::default() };
    let mut theirs = swarm(peer.clone());
    theirs.listen_on("/memory/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = theirs.next().await.unwrap() {
            break address;
        }
    };
    ours.dial(address).unwrap();
    let theirs = tokio::spawn(async move { while theirs.next().await.is_some() {} });
    while !matches!(ours.next().await.unwrap(), SwarmEvent::ConnectionEstablished { .. }) {}
    let closed =
        async { while !matches!(ours.next().await.unwrap(), SwarmEvent::ConnectionClosed { .. }) {} };
    // The clock is a paused one: it moves on when nothing else is left to do.
    let closed = tokio::time::timeout(INTERVAL * intervals + INTERVAL / 2, closed).await;
    theirs.abort();
    (peer.answered.load(Ordering::SeqCst), peer.streams.load(Ordering::SeqCst), closed.is_ok())
}

#[tokio::test(start_paused = true)]
async fn one_stream_does_for_a_peer_that_keeps_it() {
    assert_eq!(watched(usize::MAX, 10).await, (10, 1, false));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_the_stream_between_pings_misses_none() {
    assert_eq!(watched(1, 10).await, (10, 10, false));
    assert_eq!(watched(3, 9).await, (9, 3, false));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_streams_without_an_answer_is_dead() {
    assert_eq!(watched(0, 10).await, (0, 2, true));
}
