//! The behaviour that gives each connection its handler of services.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use storage::PeerKey;

use super::handler::{Handler, Places};
use super::{Caller, Services};
use crate::address::ip_of;
use crate::crossed;
use crate::membership::LiveRules;

/// Where two dials have crossed, one of the connections goes, within moments, and streams with it: on one that would go, calls
/// wait so long for the other.
const SETTLING: Duration = Duration::from_millis(250);

/// See the module. Keeps nothing.
#[derive(Debug)]
pub(crate) struct Tunnels {
    services: Services,
    rules: LiveRules,
    local: PeerId,
}

// === impl Tunnels ===

impl Tunnels {
    pub(crate) fn new(services: Services, rules: LiveRules, local: PeerId) -> Self {
        Self { services, rules, local }
    }

    fn handler(&self, peer: PeerId, address: &Multiaddr, dialled: bool) -> Handler {
        let key = PeerKey::from_peer_id(&peer).ok();
        // As the muxer was told a moment ago.
        let is_member = self.rules.load().is_member(key.as_ref());
        let is_quic = address.iter().any(|part| part == Protocol::QuicV1);
        let places = match is_member {
            true if is_quic => Places::MEMBER_OVER_QUIC,
            true => Places::MEMBER,
            false => Places::STRANGER,
        };
        let caller = Caller { peer, key, ip: ip_of(address) };
        let would_go = is_member && !crossed::is_preferred(&self.local, &peer, dialled);
        let pause = if would_go { SETTLING } else { Duration::ZERO };
        Handler::new(caller, self.services.clone(), places, pause)
    }
}

impl NetworkBehaviour for Tunnels {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, remote, false))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, address, true))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
