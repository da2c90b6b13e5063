//! How many connections there may be: before the handshake, which is what costs, and after it.
//!
//! Limits are asked when a connection comes and never again, so lowering one sheds nothing. Own behaviour because
//! libp2p's counts neither by address nor before the handshake by anything but the total.
//!
//! Handshakes are cheap to begin and say nothing: whoever has an address could hold them all, and keep the members out. So
//! no address gets more than its share, some are kept for the addresses that members are configured with, and where there is
//! no more room the oldest handshake of the address that has most makes some: one that is in earnest takes a few round trips,
//! one that only sits there is the oldest soon.
//!
//! Of the connections, as many are kept as there are members that have none: strangers may not take a member's place.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};

use futures::future::AbortHandle;
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
use crate::timed::Doorstep;

/// One address may hold one in so many of the pending handshakes, and as many are kept for members.
const SHARES: usize = 4;

/// Counts connections. Every table is bounded by the limits themselves.
#[derive(Debug)]
pub(crate) struct Limiter {
    rules: LiveRules,
    denials: Denials,
    doorstep: Doorstep,
    tally: Tally,
}

/// What is counted.
#[derive(Debug, Default)]
struct Tally {
    pending: HashMap<ConnectionId, Pending>,
    established: HashMap<ConnectionId, Established>,
    /// Counts the handshakes that began.
    begun: u64,
}

/// A handshake of a connection that came in.
#[derive(Debug)]
struct Pending {
    ip: Option<IpAddr>,
    /// Its place in the order of all.
    number: u64,
    /// Ends it.
    cut: Option<AbortHandle>,
}

/// What a new handshake needs to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Nothing.
    Free,
    /// That this one ends.
    From(ConnectionId, Reason),
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
    /// A handshake begins.
    fn begin(&mut self, id: ConnectionId, ip: Option<IpAddr>, cut: Option<AbortHandle>) {
        self.begun = self.begun.saturating_add(1);
        self.pending.insert(id, Pending { ip, number: self.begun, cut });
    }

    /// Handshakes of one block, without those of addresses that are exempt.
    fn pending_of(&self, block: Block, rules: &Rules) -> usize {
        let of_block = |ip: &IpAddr| Block::of(*ip) == block && !rules.is_exempt(ip);
        self.pending.values().filter_map(|pending| pending.ip).filter(of_block).count()
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

    /// Whether one more handshake may begin, and which one makes room for it.
    fn pending(&self, rules: &Rules, ip: Option<IpAddr>) -> Result<Room, Reason> {
        let most = rules.limits.pending_incoming as usize;
        let is_members = rules.is_members(ip);
        // A member that lost its connection comes back while the old one still counts.
        if self.established.len() >= rules.limits.connections as usize && !is_members {
            return Err(Reason::Connections);
        }
        if let Some(ip) = ip
            && !rules.is_exempt(&ip)
        {
            let block = Block::of(ip);
            if self.pending_of(block, rules) >= (most / SHARES).max(1) {
                let own = |pending: &Pending| {
                    pending.ip.is_some_and(|ip| Block::of(ip) == block && !rules.is_exempt(&ip))
                };
                return self.oldest(own).map_or(Err(Reason::PendingPerIp), |oldest| {
                    Ok(Room::From(oldest, Reason::PendingPerIp))
                });
            }
            self.per_ip(rules, ip, 0)?;
        }
        let of_others = |pending: &Pending| !rules.is_members(pending.ip);
        let others = self.pending.values().filter(|pending| of_others(pending)).count();
        let makes_room = |id| Ok(Room::From(id, Reason::Pending));
        if is_members {
            if self.pending.len() < most {
                return Ok(Room::Free);
            }
            return self.most_expendable(|_| true).map_or(Err(Reason::Pending), makes_room);
        }
        if self.pending.len() < most && others < most.saturating_sub(most / SHARES) {
            return Ok(Room::Free);
        }
        self.most_expendable(of_others).map_or(Err(Reason::Pending), makes_room)
    }

    /// The oldest handshake of the block that has most of these.
    fn most_expendable(&self, among: impl Fn(&Pending) -> bool) -> Option<ConnectionId> {
        let mut blocks: HashMap<Option<Block>, (usize, Reverse<u64>)> = HashMap::new();
        for pending in self.pending.values().filter(|pending| among(pending)) {
            let (count, oldest) =
                blocks.entry(pending.ip.map(Block::of)).or_insert((0, Reverse(pending.number)));
            *count = count.saturating_add(1);
            *oldest = (*oldest).max(Reverse(pending.number));
        }
        let (_, Reverse(number)) = blocks.into_values().max()?;
        self.oldest(|pending| pending.number == number)
    }

    fn oldest(&self, among: impl Fn(&Pending) -> bool) -> Option<ConnectionId> {
        let candidates = self.pending.iter().filter(|(_, pending)| among(pending));
        candidates.min_by_key(|(_, pending)| pending.number).map(|(id, _)| *id)
    }

    /// Whether the connection of this peer, which is counted as pending if `itself`, may stay.
    fn established(&self, rules: &Rules, new: Established, itself: bool) -> Result<(), Reason> {
        let most = rules.limits.connections as usize;
        let taken = self.established.len();
        let of_peer = self.established.values().filter(|held| held.peer == new.peer).count();
        // Of two connections to a member one goes by itself: see `crossed`.
        if rules.is_member(new.key.as_ref()) {
            return if taken < most || of_peer > 0 { Ok(()) } else { Err(Reason::Connections) };
        }
        if taken >= most {
            return Err(Reason::Connections);
        }
        // The members are not walked through where there is room for all of them.
        if taken.saturating_add(rules.members()) >= most && taken.saturating_add(self.absent(rules)) >= most {
            return Err(Reason::KeptForMembers);
        }
        if of_peer >= rules.limits.connections_per_peer as usize {
            return Err(Reason::PerPeer);
        }
        match new.ip {
            Some(ip) if !rules.is_exempt(&ip) => self.per_ip(rules, ip, usize::from(itself)),
            _ => Ok(()),
        }
    }

    /// Members that have no connection.
    fn absent(&self, rules: &Rules) -> usize {
        let members = self.established.values().filter_map(|held| held.key);
        let present: HashSet<_> = members.filter(|key| rules.is_member(Some(key))).collect();
        rules.members().saturating_sub(present.len())
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
    pub(crate) fn new(rules: LiveRules, denials: Denials, doorstep: Doorstep) -> Self {
        Self { rules, denials, doorstep, tally: Tally::default() }
    }

    fn judge(
        &self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        let ip = ip_of(address);
        let itself = self.tally.pending.contains_key(&id);
        self.tally
            .established(&self.rules.load(), Established::new(peer, ip), itself)
            .map(|()| dummy::ConnectionHandler)
            .map_err(|reason| self.denials.deny(ip, Some(peer), reason))
    }

    /// Ends a handshake. It counts no more from now on.
    fn cut(&mut self, id: ConnectionId, reason: Reason) {
        if let Some(Pending { ip, cut, .. }) = self.tally.pending.remove(&id) {
            self.denials.note(ip, None, reason);
            if let Some(cut) = cut {
                cut.abort();
            }
        }
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
        let handshake = self.doorstep.take();
        let room = self.tally.pending(&self.rules.load(), ip);
        if let Room::From(id, reason) = room.map_err(|reason| self.denials.deny(ip, None, reason))? {
            self.cut(id, reason);
        }
        // Taken out when it is established or fails, also when another behaviour denies it.
        self.tally.begin(connection, ip, handshake);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.judge(id, peer, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.judge(id, peer, address)
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
