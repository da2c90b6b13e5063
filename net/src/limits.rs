//! How many connections there may be: before the handshake, which is what costs, and after it.
//!
//! Limits are asked when a connection comes and never again, so lowering one sheds nothing. Own behaviour because
//! libp2p's counts neither by address nor before the handshake by anything but the total.
//!
//! Handshakes are cheap to begin and say nothing: whoever has an address could hold them all, and keep the members out. So
//! no address gets more than its share, and some are kept for the addresses that members are configured with.

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

use crate::address::{Block, ip_of};
use crate::denial::{Denials, Reason};
use crate::membership::{LiveRules, Rules};

/// One address may hold one in so many of the pending handshakes, and as many are kept for members.
const SHARES: usize = 4;

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
    /// Handshakes of one block, without those of addresses that are exempt.
    fn pending_of(&self, block: Block, rules: &Rules) -> usize {
        let of_block = |ip: &&IpAddr| Block::of(**ip) == block && !rules.is_exempt(ip);
        self.pending.values().flatten().filter(of_block).count()
    }

    /// Connections of one block that count by address, in whatever state.
    fn of_block(&self, block: Block, rules: &Rules) -> usize {
        let of_block = |ip: IpAddr| Block::of(ip) == block && !rules.is_exempt(&ip);
        let established = self.established.values();
        self.pending_of(block, rules)
            + established
                .filter(|held| held.ip.is_some_and(of_block) && !rules.is_member(held.key.as_ref()))
                .count()
    }

    /// Whether one more handshake may begin.
    fn pending(&self, rules: &Rules, ip: Option<IpAddr>) -> Result<(), Reason> {
        let most = rules.limits.pending_incoming as usize;
        if self.pending.len() >= most {
            return Err(Reason::Pending);
        }
        if self.established.len() >= rules.limits.connections as usize {
            return Err(Reason::Connections);
        }
        if rules.is_members(ip) {
            return Ok(());
        }
        let others = self.pending.values().filter(|ip| !rules.is_members(**ip)).count();
        if others >= most.saturating_sub(most / SHARES) {
            return Err(Reason::Pending);
        }
        match ip {
            Some(ip) if !rules.is_exempt(&ip) => {
                if self.pending_of(Block::of(ip), rules) >= (most / SHARES).max(1) {
                    return Err(Reason::PendingPerIp);
                }
                self.per_ip(rules, ip, 0)
            }
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
        let counted = self.of_block(Block::of(ip), rules);
        if counted.saturating_sub(itself) >= rules.limits.connections_per_ip as usize {
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
mod tests;
