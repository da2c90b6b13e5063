//! Peer exchange: `/vtcp/btc-foundation/v1.0.0` (N5). Who is where, told from peer to peer.
//!
//! A node *announces* its own addresses to those that it is connected to, when they change. What it knows of others it tells only when
//! it is *asked*, and it asks on connecting, in intervals, and when a peer says by an *update* that it knows something else. So nothing
//! about anybody else comes unasked, and everything that comes was signed by whom it is about.
//!
//! Own behaviour: an address book that peers fill is what liars aim at, and the bounds on it (who, how many, how often,
//! from whom) are most of the work.

mod book;
mod correspondents;
#[cfg(test)]
mod examples;
mod figures;
mod handler;
mod known;
mod own;
mod reach;
mod record;
mod schedule;
mod talk;
mod wire;

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, StreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use storage::PeerKey;

use crate::address::ip_of;
use crate::hush::Hush;
use crate::post::Post;
use crate::{Identity, View};
#[cfg(test)]
pub(crate) use examples::examples;
pub use figures::{Figures, Traffic};
use handler::{Complaints, Handler};
pub use known::{Known, KnownPeer, Source};
use own::Own;
use reach::Reach;
pub use record::{MAX_ADDRESSES, MAX_RECORD, RecordError};
use talk::Link;
pub use wire::{DEPTHS, ExchangeError, MAX_MESSAGE, MAX_OWN, MAX_RECORDS, decode_all};

/// The protocol's name, as the federation's product document has it.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/vtcp/btc-foundation/v1.0.0");

/// The bytes of a record for a node that says that it is at these addresses; `None` if they cannot be signed, which does not
/// happen. What a node does by itself; for tests, and for peers that are no nodes.
#[must_use]
pub fn sign(identity: &Identity, seq: u64, addresses: &[Multiaddr]) -> Option<Vec<u8>> {
    let record = record::Record::sign(identity, seq, addresses.to_vec()).ok()?;
    Some(record.bytes.to_vec())
}

/// Answers what a peer asks on a stream, and takes in what it announces, until the stream ends; gives the reason why it did. Over any
/// stream: what a connection does, and what a fuzzer does. The peer counts as one on this machine.
pub async fn receive<S>(stream: S, own: PeerKey, peer: PeerKey, post: Post, view: View) -> ExchangeError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    talk::serve(stream, Link::new(own, peer, Reach::Host, view.known().clone(), post)).await
}

/// Asks a peer, announces this node and tells of updates on a stream, until it ends; gives the reason why it did. The other end of
/// [`receive`].
pub async fn converse<S>(stream: S, own: PeerKey, peer: PeerKey, post: Post, view: View) -> ExchangeError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    talk::speak(stream, Link::new(own, peer, Reach::Host, view.known().clone(), post), &mut false).await
}

/// A member says that it is somewhere else than before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved(pub(crate) PeerKey);

/// The behaviour: gives each connection its handler, and signs where this node is.
#[derive(Debug)]
pub(crate) struct Exchange {
    own: Own,
    post: Post,
    view: View,
    hush: Hush,
}

// === impl Exchange ===

impl Exchange {
    pub(crate) fn new(identity: &Identity, post: Post, view: View, hush: Hush) -> Self {
        Self { own: Own::new(identity.clone()), post, view, hush }
    }

    fn handler(&self, peer: &PeerId, address: &Multiaddr) -> Handler {
        let link = PeerKey::from_peer_id(peer).ok().map(|peer| {
            let (own, known) = (self.own.identity().public_key(), self.view.known().clone());
            Link::new(own, peer, Reach::of(address), known, self.post.clone())
        });
        let (view, hush) = (self.view.clone(), self.hush.clone());
        Handler::new(link, Complaints { ip: ip_of(address), view, hush })
    }

    fn sign_if_due(&mut self) {
        let (known, unix_ms, now) = (self.view.known(), known::unix_ms(), Instant::now());
        let floor = known.floor();
        if self.own.is_due(floor, unix_ms, now) {
            let records = self.own.sign(floor, unix_ms, now);
            known.set_own(self.own.identity().public_key(), self.own.seq(), records);
        }
    }
}

impl NetworkBehaviour for Exchange {
    type ConnectionHandler = Handler;
    type ToSwarm = Moved;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(&peer, remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(&peer, address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let known = self.view.known();
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                if let Ok(key) = PeerKey::from_peer_id(&event.peer_id) {
                    known.connected(&key, true);
                }
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Ok(key) = PeerKey::from_peer_id(&event.peer_id) {
                    known.connected(&key, false);
                }
            }
            FromSwarm::NewListenAddr(event) => self.own.listens(event.addr, true),
            FromSwarm::ExpiredListenAddr(event) => self.own.listens(event.addr, false),
            FromSwarm::ExternalAddrConfirmed(event) => self.own.is_at(event.addr, true),
            FromSwarm::ExternalAddrExpired(event) => self.own.is_at(event.addr, false),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        let never: Infallible = event;
        match never {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // First: what is told meanwhile wakes this up again.
        self.view.known().watched_by(cx.waker());
        self.sign_if_due();
        match self.view.known().next_news() {
            Some(key) => Poll::Ready(ToSwarm::GenerateEvent(Moved(key))),
            None => Poll::Pending,
        }
    }
}
