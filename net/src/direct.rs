//! Direct messages on the connections: the behaviour that gives each connection its handler.
//!
//! Own behaviour and handler: request-response opens a stream per message, which loses the order, and libp2p-stream drops
//! inbound streams when its channel is full.

mod handler;

use std::collections::HashSet;
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, StreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::View;
use crate::address::ip_of;
use crate::hush::Hush;
use crate::post::Post;
use handler::Complaints;
pub(crate) use handler::Handler;
pub use handler::receive;

/// The protocol's name; what may change in its frames is settled by a new version of it.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/fednode/direct/1.0.0");

/// The behaviour. Keeps nothing but which connections the post office knows of.
#[derive(Debug)]
pub(crate) struct Direct {
    post: Post,
    view: View,
    hush: Hush,
    established: HashSet<ConnectionId>,
}

// === impl Direct ===

impl Direct {
    pub(crate) fn new(post: Post, view: View, hush: Hush) -> Self {
        Self { post, view, hush, established: HashSet::new() }
    }

    fn handler(&self, peer: PeerId, address: &Multiaddr) -> Handler {
        let complaints =
            Complaints { peer, ip: ip_of(address), view: self.view.clone(), hush: self.hush.clone() };
        Handler::new(self.post.outbox(peer), self.post.clone(), complaints)
    }
}

impl NetworkBehaviour for Direct {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.established.insert(event.connection_id);
                self.post.outbox(event.peer_id).connected();
            }
            FromSwarm::ConnectionClosed(event) if self.established.remove(&event.connection_id) => {
                self.post.disconnected(&event.peer_id);
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
