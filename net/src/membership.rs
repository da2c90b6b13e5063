//! Who may hold a connection (N6), and the rules that all gatekeepers read.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use storage::{Members, PeerKey};

use crate::address::ip_of;
use crate::denial::{Denials, Reason};
use crate::goodbye;
use crate::muxer::Allowance;
use crate::view::ConnectionView;
use crate::{Limits, Membership, NetworkSection};

/// What the gatekeepers go by: one immutable value, swapped as a whole by a commit and swapped back by a rollback.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) membership: Membership,
    pub(crate) limits: Limits,
    /// What an inbound handshake may take, and a dial whose member has no `connection_timeout` of its own.
    pub(crate) connection_timeout: Duration,
    members: Arc<Members>,
    /// Addresses that members are configured with, where they are numbers. Gathered when first asked for: a reload does not
    /// wait for it.
    member_ips: Arc<OnceLock<HashSet<IpAddr>>>,
}

/// The rules in force.
pub(crate) type LiveRules = Arc<ArcSwap<Rules>>;

/// Keeps strangers out where only members may connect.
#[derive(Debug)]
pub(crate) struct Gate {
    rules: LiveRules,
    denials: Denials,
}

// === impl Rules ===

impl Rules {
    pub(crate) fn of(section: &NetworkSection) -> Self {
        Self {
            membership: section.membership,
            limits: section.limits,
            connection_timeout: section.connection_timeout,
            members: Arc::clone(&section.members),
            member_ips: Arc::default(),
        }
    }

    /// The same, with what was gathered for the rules before if they are about the same members.
    pub(crate) fn after(before: &Self, section: &NetworkSection) -> Self {
        let mut rules = Self::of(section);
        if Arc::ptr_eq(&before.members, &rules.members) {
            rules.member_ips = Arc::clone(&before.member_ips);
        }
        rules
    }

    /// Whether this is a member's key. Peers whose key is not Ed25519 have none here.
    pub(crate) fn is_member(&self, key: Option<&PeerKey>) -> bool {
        key.is_some_and(|key| self.members.contains_key(key))
    }

    /// How many members there are, besides this node.
    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    /// What this peer's next connection may make the node hold.
    pub(crate) fn allowance(&self, peer: &PeerId) -> Allowance {
        if self.is_member(PeerKey::from_peer_id(peer).ok().as_ref()) {
            Allowance::MEMBER
        } else {
            Allowance::STRANGER
        }
    }

    /// Whether connections from this address are counted one by one, not by address.
    pub(crate) fn is_exempt(&self, ip: &IpAddr) -> bool {
        ip.is_loopback() || self.is_members(Some(*ip))
    }

    /// Whether a member is configured with this address. Nothing is proved by it: anyone there may be at the other end.
    pub(crate) fn is_members(&self, ip: Option<IpAddr>) -> bool {
        let gather = || {
            let addresses = self.members.values().flat_map(|member| &member.addresses);
            addresses.filter_map(ip_of).collect()
        };
        ip.is_some_and(|ip| self.member_ips.get_or_init(gather).contains(&ip))
    }

    /// How long a dial of this address, which ends in whom it is for, may take.
    pub(crate) fn dial_timeout(&self, address: &Multiaddr) -> Duration {
        let member = match address.iter().last() {
            Some(Protocol::P2p(peer)) => {
                PeerKey::from_peer_id(&peer).ok().and_then(|key| self.members.get(&key))
            }
            _ => None,
        };
        member.and_then(|member| member.connection_timeout).unwrap_or(self.connection_timeout)
    }

    /// Whether this peer may hold a connection.
    pub(crate) fn admits(&self, key: Option<&PeerKey>) -> bool {
        match self.membership {
            Membership::Open => true,
            Membership::Members => self.is_member(key),
        }
    }

    /// Why a connection of this peer has to go when these rules take the place of `before`, if it has to: the peer is a member
    /// no more, or may not connect any more. (In an open federation it may come back, as anyone may.)
    pub(crate) fn expels(&self, before: &Self, key: Option<&PeerKey>) -> Option<goodbye::Reason> {
        if before.is_member(key) && !self.is_member(key) {
            Some(goodbye::Reason::Removed)
        } else {
            (!self.admits(key)).then_some(goodbye::Reason::NotAMember)
        }
    }
}

/// The connections that a change of the section will close, each with the reason (the outcome's `would_close`).
#[must_use]
pub fn would_close<'a>(
    before: &NetworkSection,
    next: &NetworkSection,
    connections: &'a [ConnectionView],
) -> Vec<(&'a ConnectionView, &'static str)> {
    if before.membership == next.membership && Arc::ptr_eq(&before.members, &next.members) {
        return Vec::new();
    }
    let (before, next) = (Rules::of(before), Rules::of(next));
    let expelled = |connection: &'a ConnectionView| {
        let reason = next.expels(&before, connection.public_key.as_ref())?;
        Some((connection, reason.said()))
    };
    connections.iter().filter_map(expelled).collect()
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new(rules: LiveRules, denials: Denials) -> Self {
        Self { rules, denials }
    }

    fn judge(&self, peer: PeerId, address: &Multiaddr) -> Result<THandler<Self>, ConnectionDenied> {
        if self.rules.load().admits(PeerKey::from_peer_id(&peer).ok().as_ref()) {
            Ok(dummy::ConnectionHandler)
        } else {
            Err(self.denials.deny(ip_of(address), Some(peer), Reason::NotAMember))
        }
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.judge(peer, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.judge(peer, address)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;
    use crate::fixtures::{member, section};

    #[test]
    fn a_dial_has_the_time_that_its_member_is_given() {
        let (hurried, other) = (Identity::generate().public_key(), Identity::generate().public_key());
        let own = Duration::from_secs(77);
        let entry = storage::Member { connection_timeout: Some(own), ..member(hurried, &[]) };
        let members = [(hurried, entry), (other, member(other, &[]))];
        let rules = Rules::of(&NetworkSection { members: Arc::new(members.into()), ..section() });
        let at = |key: PeerKey| Multiaddr::empty().with(Protocol::Tcp(1)).with(Protocol::P2p(key.peer_id()));
        assert_eq!(rules.dial_timeout(&at(hurried)), own);
        assert_eq!(rules.dial_timeout(&at(other)), rules.connection_timeout);
        assert_eq!(rules.dial_timeout(&Multiaddr::empty()), rules.connection_timeout);
    }
}
