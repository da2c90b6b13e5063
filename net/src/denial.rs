//! A peer that is turned away: one event and one count for each, and a bound on how much one address can make us write.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::ConnectionDenied;

use crate::View;
use crate::address::Block;

/// Events of one address, or IPv6 /64, in one window; the rest is only counted.
const EVENTS: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);
/// Addresses that are told apart; beyond, all new ones share one entry until the window ends.
const ADDRESSES: usize = 1024;

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// `network.membership` is `members`, and this is none.
    #[error("not a member")]
    NotAMember,
    /// `network.limits.connections`.
    #[error("too many connections")]
    Connections,
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
    recent: Arc<Mutex<Recent>>,
}

#[derive(Debug, Default)]
struct Recent {
    since: Option<Instant>,
    events: HashMap<Option<Block>, u32>,
}

// === impl Denials ===

impl Denials {
    pub(crate) fn new(view: View) -> Self {
        Self { view, recent: Arc::default() }
    }

    /// Turns a connection away, and says so.
    pub(crate) fn deny(&self, ip: Option<IpAddr>, peer: Option<PeerId>, reason: Reason) -> ConnectionDenied {
        self.view.counters().denied();
        let silent = self
            .recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_silent(ip.map(Block::of), Instant::now());
        if !silent {
            let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
            let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
            tracing::warn!(%ip, %peer, %reason, "peer_denied");
        }
        ConnectionDenied::new(reason)
    }
}

// === impl Recent ===

impl Recent {
    fn is_silent(&mut self, block: Option<Block>, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            self.since = Some(now);
            self.events.clear();
        }
        let key =
            if self.events.len() < ADDRESSES || self.events.contains_key(&block) { block } else { None };
        let events = self.events.entry(key).or_default();
        *events = events.saturating_add(1);
        *events > EVENTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_fill_the_log_and_others_are_still_heard() {
        let mut recent = Recent::default();
        let now = Instant::now();
        let ip = |n: u32| Some(Block::of(IpAddr::from(n.to_be_bytes())));
        let heard = (0..100).filter(|_| !recent.is_silent(ip(1), now)).count();
        assert_eq!(heard, EVENTS as usize);
        assert!(!recent.is_silent(ip(2), now));
        for n in 0..10 * ADDRESSES as u32 {
            recent.is_silent(ip(n), now);
        }
        assert!(recent.events.len() <= ADDRESSES + 1);
        assert!(!recent.is_silent(ip(1), now + WINDOW), "a new window");
    }

    #[test]
    fn an_ipv6_network_cannot_fill_the_log_from_many_addresses() {
        let view = View::new();
        let denials = Denials::new(view.clone());
        for n in 0..100u128 {
            let ip = std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + n);
            denials.deny(Some(ip.into()), None, Reason::Pending);
        }
        let recent = denials.recent.lock().unwrap();
        assert_eq!(recent.events.values().copied().collect::<Vec<_>>(), [100]);
        assert_eq!(view.counted().denied, 100);
    }
}
