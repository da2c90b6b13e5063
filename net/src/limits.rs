//! How many connections there may be: before the handshake, which is what costs, and after it.
//!
//! Limits are asked when a connection comes and never again, so lowering one sheds nothing. Own behaviour because
//! libp2p's counts neither by address nor before the handshake by anything but the total.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use storage::PeerKey;

use crate::address::ip_of;
use crate::denial::{Denials, Reason};
use crate::membership::{LiveRules, Rules};

/// Counts connections. Every table is bounded by the limits themselves.
#[derive(Debug)]
pub(crate) struct Limiter {
    rules: LiveRules,
    denials: Denials,
    tally: Tally,
}

/// What is counted.
#[derive(Debug, Default)]
struct Tally {
    pending: HashMap<ConnectionId, Option<IpAddr>>,
    established: HashMap<ConnectionId, Established>,
}

#[derive(Clone, Copy, Debug)]
struct Established {
    peer: PeerId,
    key: Option<PeerKey>,
    ip: Option<IpAddr>,
}

// === impl Established ===

impl Established {
    fn new(peer: PeerId, ip: Option<IpAddr>) -> Self {
        Self { peer, key: PeerKey::from_peer_id(&peer).ok(), ip }
    }
}

// === impl Tally ===

impl Tally {
    /// Connections of one address that count by address, in whatever state.
    fn of_ip(&self, ip: IpAddr, rules: &Rules) -> usize {
        let pending = self.pending.values().filter(|other| **other == Some(ip)).count();
        let established = self.established.values();
        pending
            + established.filter(|held| held.ip == Some(ip) && !rules.is_member(held.key.as_ref())).count()
    }

    /// Whether one more handshake may begin.
    fn pending(&self, rules: &Rules, ip: Option<IpAddr>) -> Result<(), Reason> {
        if self.pending.len() >= rules.limits.pending_incoming as usize {
            return Err(Reason::Pending);
        }
        if self.established.len() >= rules.limits.connections as usize {
            return Err(Reason::Connections);
        }
        match ip {
            Some(ip) if !rules.is_exempt(&ip) => self.per_ip(rules, ip, 0),
            _ => Ok(()),
        }
    }

    /// Whether the connection of this peer, which is counted as pending if it came in, may stay.
    fn established(&self, rules: &Rules, new: Established, inbound: bool) -> Result<(), Reason> {
        if self.established.len() >= rules.limits.connections as usize {
            return Err(Reason::Connections);
        }
        // Of two connections to a member one goes by itself: see `crossed`.
        if rules.is_member(new.key.as_ref()) {
            return Ok(());
        }
        let of_peer = self.established.values().filter(|held| held.peer == new.peer).count();
        if of_peer >= rules.limits.connections_per_peer as usize {
            return Err(Reason::PerPeer);
        }
        match new.ip {
            Some(ip) if !rules.is_exempt(&ip) => self.per_ip(rules, ip, usize::from(inbound)),
            _ => Ok(()),
        }
    }

    fn per_ip(&self, rules: &Rules, ip: IpAddr, itself: usize) -> Result<(), Reason> {
        if self.of_ip(ip, rules).saturating_sub(itself) >= rules.limits.connections_per_ip as usize {
            return Err(Reason::PerIp);
        }
        Ok(())
    }
}

// === impl Limiter ===

impl Limiter {
    pub(crate) fn new(rules: LiveRules, denials: Denials) -> Self {
        Self { rules, denials, tally: Tally::default() }
    }

    fn judge(
        &self,
        peer: PeerId,
        address: &Multiaddr,
        inbound: bool,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        let ip = ip_of(address);
        self.tally
            .established(&self.rules.load(), Established::new(peer, ip), inbound)
            .map(|()| dummy::ConnectionHandler)
            .map_err(|reason| self.denials.deny(ip, Some(peer), reason))
    }
}

impl NetworkBehaviour for Limiter {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = ip_of(remote);
        self.tally.pending(&self.rules.load(), ip).map_err(|reason| self.denials.deny(ip, None, reason))?;
        // Taken out when it is established or fails, also when another behaviour denies it.
        self.tally.pending.insert(connection, ip);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.judge(peer, remote, true)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.judge(peer, address, false)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.tally.pending.remove(&event.connection_id);
                let address = match event.endpoint {
                    ConnectedPoint::Dialer { address, .. } => address,
                    ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
                };
                let established = Established::new(event.peer_id, ip_of(address));
                self.tally.established.insert(event.connection_id, established);
            }
            FromSwarm::ListenFailure(event) => {
                self.tally.pending.remove(&event.connection_id);
            }
            FromSwarm::ConnectionClosed(event) => {
                self.tally.established.remove(&event.connection_id);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fixtures::{member, section};
    use crate::{Identity, Limits};

    fn rules(limits: Limits) -> Rules {
        Rules::of(&crate::NetworkSection { limits, ..section() })
    }

    fn limits() -> Limits {
        Limits { connections: 4, connections_per_peer: 2, connections_per_ip: 3, pending_incoming: 2 }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    #[test]
    fn handshakes_are_bounded_in_total_and_by_address() {
        let rules = rules(limits());
        let mut tally = Tally::default();
        for n in 0..3 {
            tally.established.insert(id(n), Established::new(PeerId::random(), ip("9.9.9.9")));
        }
        assert_eq!(tally.pending(&rules, ip("9.9.9.9")), Err(Reason::PerIp));
        assert_eq!(tally.pending(&rules, ip("8.8.8.8")), Ok(()));
        tally.pending.insert(id(3), ip("8.8.8.8"));
        tally.pending.insert(id(4), ip("127.0.0.1"));
        assert_eq!(tally.pending(&rules, ip("7.7.7.7")), Err(Reason::Pending));
    }

    #[test]
    fn members_and_loopback_do_not_count_by_address() {
        let key = Identity::generate().public_key();
        let mut section = section();
        section.limits = Limits { connections: 100, connections_per_ip: 1, ..limits() };
        section.members = Arc::new([(key, member(key, &["/ip4/9.9.9.9/tcp/1"]))].into());
        let rules = Rules::of(&section);
        let mut tally = Tally::default();
        for n in 0..5 {
            tally.established.insert(id(n), Established::new(PeerId::random(), ip("127.0.0.1")));
            tally.established.insert(id(n + 10), Established::new(PeerId::random(), ip("9.9.9.9")));
        }
        assert_eq!(tally.pending(&rules, ip("127.0.0.1")), Ok(()));
        assert_eq!(tally.pending(&rules, ip("9.9.9.9")), Ok(()), "the address of a member");
        tally.established.insert(id(20), Established::new(key.peer_id(), ip("5.5.5.5")));
        assert_eq!(tally.pending(&rules, ip("5.5.5.5")), Ok(()), "only a member is there");
        assert_eq!(tally.established(&rules, Established::new(key.peer_id(), ip("5.5.5.5")), true), Ok(()));
    }

    #[test]
    fn established_connections_are_bounded_in_total_and_by_peer_and_lowering_sheds_nothing() {
        let peer = PeerId::random();
        let mut tally = Tally::default();
        tally.established.insert(id(0), Established::new(peer, ip("127.0.0.1")));
        tally.established.insert(id(1), Established::new(peer, ip("127.0.0.1")));
        let rules_now = rules(limits());
        assert_eq!(
            tally.established(&rules_now, Established::new(peer, ip("127.0.0.1")), true),
            Err(Reason::PerPeer)
        );
        assert_eq!(
            tally.established(&rules_now, Established::new(PeerId::random(), ip("127.0.0.1")), true),
            Ok(())
        );
        let lowered = rules(Limits { connections: 1, ..limits() });
        assert_eq!(
            tally.established(&lowered, Established::new(PeerId::random(), None), false),
            Err(Reason::Connections)
        );
        assert_eq!(tally.established.len(), 2);
    }

    #[test]
    fn a_connection_does_not_count_against_itself() {
        let rules = rules(Limits { connections_per_ip: 1, ..limits() });
        let mut tally = Tally::default();
        tally.pending.insert(id(0), ip("9.9.9.9"));
        assert_eq!(
            tally.established(&rules, Established::new(PeerId::random(), ip("9.9.9.9")), true),
            Ok(())
        );
        assert_eq!(
            tally.established(&rules, Established::new(PeerId::random(), ip("9.9.9.9")), false),
            Err(Reason::PerIp)
        );
    }
}
