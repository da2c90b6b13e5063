//! A peer that is turned away: one event and one count for each. A flood is written within the bounds of [`crate::hush`].

use std::net::IpAddr;

use libp2p::PeerId;
use libp2p::swarm::ConnectionDenied;

use crate::View;
use crate::address::Block;
use crate::hush::{Hush, Kind};
use crate::view::Happening;

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// `network.membership` is `members`, and this is none.
    #[error("not a member")]
    NotAMember,
    /// `network.limits.connections`.
    #[error("too many connections")]
    Connections,
    /// What is left of `network.limits.connections` is kept for members that are not connected.
    #[error("too many connections: those left are kept for members")]
    KeptForMembers,
    /// `network.limits.connections_per_peer`.
    #[error("too many connections of this peer")]
    PerPeer,
    /// `network.limits.connections_per_ip`.
    #[error("too many connections of this address")]
    PerIp,
    /// `network.limits.pending_incoming`.
    #[error("too many handshakes at once")]
    Pending,
    /// The share of `network.limits.pending_incoming` that one address may have.
    #[error("too many handshakes of this address at once")]
    PendingPerIp,
}

/// Writes and counts refusals. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Denials {
    view: View,
    hush: Hush,
}

// === impl Denials ===

impl Denials {
    pub(crate) fn new(view: View, hush: Hush) -> Self {
        Self { view, hush }
    }

    /// Turns a connection away, and says so.
    pub(crate) fn deny(&self, ip: Option<IpAddr>, peer: Option<PeerId>, reason: Reason) -> ConnectionDenied {
        self.note(ip, peer, reason);
        ConnectionDenied::new(reason)
    }

    /// Says that a connection is turned away.
    pub(crate) fn note(&self, ip: Option<IpAddr>, peer: Option<PeerId>, reason: Reason) {
        self.view.counters().denied();
        if self.hush.may_say(Kind::Denied, ip.map(Block::of)) {
            let (address, who) = (ip, peer.map(|peer| peer.to_string()));
            let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
            let peer = who.clone().unwrap_or_default();
            tracing::warn!(%ip, %peer, %reason, "peer_denied");
            self.view.happened(|| Happening::PeerDenied {
                ip: address,
                peer: who,
                reason: reason.to_string(),
            });
        }
    }
}
