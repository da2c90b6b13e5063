//! Receipts: on a stream of its own, each node tells each neighbour how far it has come with the messages that the neighbour
//! wrote. What the sender waits for goes by it.
//!
//! ```text
//! receipts = number:u64 …        (big endian; the first is written at once, 0 if nothing was taken yet)
//! ```
//! A later number replaces an earlier one, so whoever writes them skips what was overtaken while it waited. A peer that does
//! not speak this is not waited for.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream};
use tokio::sync::watch;

use super::Topics;

/// The protocol's name.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/fednode/receipts/1.0.0");

/// A stream that broke is opened again so many times in the life of a connection.
const STREAMS: u32 = 4;

/// The behaviour.
#[derive(Debug)]
pub(crate) struct Receipts {
    topics: Topics,
    established: HashSet<ConnectionId>,
}

/// One connection's part.
pub(crate) struct Handler {
    peer: PeerId,
    topics: Topics,
    taken: watch::Receiver<u64>,
    telling: Telling,
    streams: u32,
    /// The stream that the peer tells on; a second one takes the place of the first.
    listening: Option<BoxFuture<'static, io::Error>>,
}

enum Telling {
    Closed,
    Opening,
    Open(BoxFuture<'static, io::Error>),
    /// The peer does not want to know, or the stream broke too often.
    Never,
}

// === impl Receipts ===

impl Receipts {
    pub(crate) fn new(topics: Topics) -> Self {
        Self { topics, established: HashSet::new() }
    }

    fn handler(&self, peer: PeerId) -> Handler {
        Handler {
            peer,
            topics: self.topics.clone(),
            taken: self.topics.flow().watch(peer),
            telling: Telling::Closed,
            streams: 0,
            listening: None,
        }
    }
}

impl NetworkBehaviour for Receipts {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.established.insert(event.connection_id);
                self.topics.flow().connected(event.peer_id);
            }
            FromSwarm::ConnectionClosed(event) if self.established.remove(&event.connection_id) => {
                self.topics.flow().disconnected(&event.peer_id);
                // Whoever waited for this peer does so no more.
                self.topics.wake();
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

// === impl Handler ===

impl ConnectionHandler for Handler {
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
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.listening = Some(listen(protocol, self.peer, self.topics.clone()).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.telling = Telling::Open(tell(protocol, self.taken.clone()).boxed());
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                let unsupported = matches!(error, StreamUpgradeError::NegotiationFailed);
                self.telling = if unsupported { Telling::Never } else { Telling::Closed };
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if let Some(listening) = &mut self.listening
            && let Poll::Ready(error) = listening.poll_unpin(cx)
        {
            tracing::debug!(peer_id = %self.peer, %error, "a stream of receipts ended");
            self.listening = None;
        }
        if let Telling::Open(telling) = &mut self.telling
            && let Poll::Ready(error) = telling.poll_unpin(cx)
        {
            tracing::debug!(peer_id = %self.peer, %error, "a stream of receipts broke");
            self.telling = Telling::Closed;
        }
        if matches!(self.telling, Telling::Closed) {
            if self.streams >= STREAMS {
                self.telling = Telling::Never;
                return Poll::Pending;
            }
            self.streams = self.streams.saturating_add(1);
            self.telling = Telling::Opening;
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()),
            });
        }
        Poll::Pending
    }
}

/// Writes how far we are, whenever we have come further.
async fn tell(mut stream: Stream, mut taken: watch::Receiver<u64>) -> io::Error {
    loop {
        let number = *taken.borrow_and_update();
        let written = async {
            stream.write_all(&number.to_be_bytes()).await?;
            stream.flush().await
        };
        if let Err(error) = written.await {
            return error;
        }
        if taken.changed().await.is_err() {
            return io::ErrorKind::NotConnected.into();
        }
    }
}

/// Reads how far the peer is.
async fn listen(mut stream: Stream, peer: PeerId, topics: Topics) -> io::Error {
    let mut number = [0; 8];
    loop {
        if let Err(error) = stream.read_exact(&mut number).await {
            return error;
        }
        topics.flow().told(&peer, u64::from_be_bytes(number));
        topics.wake();
    }
}
