//! One connection of two that crossed (N4). Members dial each other at the same time, and both dials arrive.
//!
//! Both ends must choose the same one without a word: the one that the lower peer id dialled. The loser is denied only while
//! the winner is there, and closed once the winner comes; "deny if any exists" would lose both. The choice holds only
//! between connections that came within seconds of each other: later, a new connection means that the peer lost the old one
//! (it restarted, its network changed), and the newer wins.

use std::collections::HashMap;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use storage::PeerKey;

use crate::membership::LiveRules;

/// Connections that came within this time of each other have crossed: longer than a dial with a lost packet takes.
const CROSSING: Duration = Duration::from_secs(5);

/// The connection lost against one that it crossed with: no fault of anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another connection to this member is there")]
pub(crate) struct Lost;

/// Keeps one connection to each member. Other peers are left to `connections_per_peer`.
#[derive(Debug)]
pub(crate) struct Crossed {
    local: PeerId,
    rules: LiveRules,
    /// By peer, whoever it is: a peer may become a member while it is connected. Bounded by the limits.
    held: HashMap<PeerId, Vec<Held>>,
    /// At most one entry for each connection.
    closing: Vec<(PeerId, ConnectionId)>,
}

/// An established connection.
#[derive(Clone, Copy, Debug)]
struct Held {
    id: ConnectionId,
    /// The lower peer id dialled it.
    preferred: bool,
    since: Instant,
}

/// What becomes of a connection that has just come.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It loses.
    Deny,
    /// It stays, and takes the place of all others.
    Replace,
}

fn judge(others: &[Held], preferred: bool, now: Instant) -> Verdict {
    let young = |held: &Held| now.saturating_duration_since(held.since) < CROSSING;
    if !preferred && others.iter().any(|held| held.preferred && young(held)) {
        Verdict::Deny
    } else {
        Verdict::Replace
    }
}

// === impl Crossed ===

impl Crossed {
    pub(crate) fn new(local: PeerId, rules: LiveRules) -> Self {
        Self { local, rules, held: HashMap::new(), closing: Vec::new() }
    }

    fn is_member(&self, peer: &PeerId) -> bool {
        self.rules.load().is_member(PeerKey::from_peer_id(peer).ok().as_ref())
    }

    fn preferred(&self, peer: &PeerId, dialled: bool) -> bool {
        dialled == (self.local < *peer)
    }

    fn admit(&self, peer: PeerId, dialled: bool) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        if self.is_member(&peer)
            && let Some(others) = self.held.get(&peer)
            && judge(others, self.preferred(&peer, dialled), Instant::now()) == Verdict::Deny
        {
            return Err(ConnectionDenied::new(Lost));
        }
        Ok(dummy::ConnectionHandler)
    }
}

impl NetworkBehaviour for Crossed {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(peer, false)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(peer, true)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let dialled = matches!(event.endpoint, ConnectedPoint::Dialer { .. });
                let preferred = self.preferred(&event.peer_id, dialled);
                let is_member = self.is_member(&event.peer_id);
                let held = self.held.entry(event.peer_id).or_default();
                if is_member {
                    self.closing.extend(held.iter().map(|old| (event.peer_id, old.id)));
                }
                held.push(Held { id: event.connection_id, preferred, since: Instant::now() });
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Some(held) = self.held.get_mut(&event.peer_id) {
                    held.retain(|other| other.id != event.connection_id);
                    if held.is_empty() {
                        self.held.remove(&event.peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.closing.pop() {
            Some((peer_id, connection)) => Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::One(connection),
            }),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one end keeps, if it sees connections come in this order, each so many seconds after the first.
    fn kept(arrivals: &[(usize, bool, u64)]) -> Vec<usize> {
        let start = Instant::now();
        let mut held: Vec<(usize, Held)> = Vec::new();
        for (name, preferred, seconds) in arrivals {
            let now = start + Duration::from_secs(*seconds);
            let others: Vec<_> = held.iter().map(|(_, held)| *held).collect();
            if judge(&others, *preferred, now) == Verdict::Replace {
                let id = ConnectionId::new_unchecked(*name);
                held = vec![(*name, Held { id, preferred: *preferred, since: now })];
            }
        }
        held.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn both_ends_keep_the_same_one_in_whatever_order_they_see_them() {
        let (winner, loser) = ((1, true, 0), (2, false, 0));
        assert_eq!(kept(&[winner, loser]), [1]);
        assert_eq!(kept(&[loser, winner]), [1]);
        assert_eq!(kept(&[loser]), [2], "alone it stays");
    }

    #[test]
    fn a_newer_connection_against_an_old_one_wins() {
        assert_eq!(kept(&[(1, true, 0), (2, false, 6)]), [2]);
        assert_eq!(kept(&[(1, false, 0), (2, true, 6)]), [2]);
    }

    #[test]
    fn of_two_that_one_side_dialled_the_newer_wins() {
        assert_eq!(kept(&[(1, true, 0), (2, true, 1)]), [2]);
        assert_eq!(kept(&[(1, false, 0), (2, false, 1)]), [2]);
    }
}
