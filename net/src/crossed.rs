//! One connection of two that crossed (N4). Members dial each other at the same time, and both dials arrive.
//!
//! Both ends must choose the same one without a word: the one that the lower peer id dialled. The loser is denied only while
//! the winner is there, and closed once the winner comes; "deny if any exists" would lose both. The choice holds only
//! between connections that came within seconds of each other: later, a new connection means that the peer lost the old one
//! (it restarted, its network changed), and the newer wins.
//!
//! Two that the same end dialled within seconds may be one dial at two addresses (TCP and QUIC), of which that end keeps the one
//! that it sees first and drops the other. And a dial whose first packets were lost may arrive when another connection has long been
//! there: nobody dials a peer that is connected, so the end that dialled knows that it is late, and drops it. In both cases only
//! that end knows: the other one waits a moment for that before it closes the older.

use std::collections::HashMap;
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
use crate::parting::{Parting, Why};

/// Connections that came within this time of each other have crossed: longer than a dial with a lost packet takes.
const CROSSING: Duration = Duration::from_secs(5);

/// So long the end that was dialled waits for the end that dialled to drop one: a slow round trip.
const GRACE: Duration = Duration::from_secs(2);

/// A dial that arrives when another connection has been there for so long was begun before that came, and is late. More than
/// [`CROSSING`], so that the other end, for which the connections are not quite as old, takes neither for crossed.
const LATE: Duration = CROSSING.saturating_add(GRACE);

/// The connection lost against one that it crossed with, or that came while it was on its way: no fault of anyone.
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
    /// The one of which it was just said why it closes.
    said: Option<(PeerId, ConnectionId)>,
    /// Older ones of two that the same end dialled, to be closed then if the newer is still there. Likewise.
    doubtful: Vec<(Instant, PeerId, ConnectionId)>,
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

/// Whether, of two connections that crossed, this one is kept: the end with the lower peer id dialled it.
pub(crate) fn is_preferred(local: &PeerId, peer: &PeerId, dialled: bool) -> bool {
    dialled == (local < peer)
}

fn judge(others: &[Held], preferred: bool, now: Instant) -> Verdict {
    if !preferred && others.iter().any(|held| held.preferred && held.is_young(now)) {
        Verdict::Deny
    } else {
        Verdict::Replace
    }
}

// === impl Held ===

impl Held {
    fn is_young(&self, now: Instant) -> bool {
        self.age(now) < CROSSING
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

// === impl Crossed ===

impl Crossed {
    pub(crate) fn new(local: PeerId, rules: LiveRules) -> Self {
        Self { local, rules, held: HashMap::new(), closing: Vec::new(), said: None, doubtful: Vec::new() }
    }

    /// When this is to be polled again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.doubtful.iter().map(|(at, ..)| *at).min()
    }

    fn established(&mut self, peer: PeerId, id: ConnectionId, dialled: bool, now: Instant) {
        let preferred = self.preferred(&peer, dialled);
        let is_member = self.is_member(&peer);
        let held = self.held.entry(peer).or_default();
        for old in held.iter().filter(|_| is_member) {
            let is_late = !dialled && !old.is_young(now);
            let is_double = old.preferred == preferred && old.is_young(now);
            if is_late || is_double {
                self.doubtful.push((now + GRACE, peer, old.id));
            } else {
                self.closing.push((peer, old.id));
            }
        }
        held.push(Held { id, preferred, since: now });
    }

    fn closed(&mut self, peer: PeerId, id: ConnectionId) {
        self.doubtful.retain(|(.., doubtful)| *doubtful != id);
        let Some(held) = self.held.get_mut(&peer) else { return };
        held.retain(|other| other.id != id);
        match held.as_slice() {
            [] => drop(self.held.remove(&peer)),
            // The end that dialled twice has chosen.
            [only] => self.doubtful.retain(|(.., doubtful)| *doubtful != only.id),
            _ => {}
        }
    }

    /// The next connection that is to be closed.
    fn loser(&mut self, now: Instant) -> Option<(PeerId, ConnectionId)> {
        if let Some(index) = self.doubtful.iter().position(|(at, ..)| *at <= now) {
            let (_, peer, id) = self.doubtful.swap_remove(index);
            self.closing.push((peer, id));
        }
        self.closing.pop()
    }

    fn is_member(&self, peer: &PeerId) -> bool {
        self.rules.load().is_member(PeerKey::from_peer_id(peer).ok().as_ref())
    }

    fn preferred(&self, peer: &PeerId, dialled: bool) -> bool {
        is_preferred(&self.local, peer, dialled)
    }

    fn admit(
        &self,
        peer: PeerId,
        dialled: bool,
        now: Instant,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        if self.is_member(&peer)
            && let Some(others) = self.held.get(&peer)
        {
            let is_late = dialled && others.iter().any(|held| held.age(now) >= LATE);
            if is_late || judge(others, self.preferred(&peer, dialled), now) == Verdict::Deny {
                return Err(ConnectionDenied::new(Lost));
            }
        }
        Ok(dummy::ConnectionHandler)
    }
}

impl NetworkBehaviour for Crossed {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Parting;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(peer, false, Instant::now())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(peer, true, Instant::now())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let dialled = matches!(event.endpoint, ConnectedPoint::Dialer { .. });
                self.established(event.peer_id, event.connection_id, dialled, Instant::now());
            }
            FromSwarm::ConnectionClosed(event) => self.closed(event.peer_id, event.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.said.take() {
            let connection = CloseConnection::One(connection);
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
        }
        let Some(loser) = self.loser(Instant::now()) else { return Poll::Pending };
        self.said = Some(loser);
        Poll::Ready(ToSwarm::GenerateEvent(Parting { connection: loser.1, why: Why::Crossed }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::fixtures::{member, section};
    use crate::membership::Rules;
    use crate::{Identity, NetworkSection};

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
    fn why_it_closes_is_said_before_it_does() {
        let (local, peer) = (Identity::generate().peer_id(), Identity::generate().peer_id());
        let rules = Arc::new(ArcSwap::from_pointee(Rules::of(&section())));
        let mut crossed = Crossed::new(local, rules);
        let connection = ConnectionId::new_unchecked(1);
        crossed.closing.push((peer, connection));
        let mut poll = || crossed.poll(&mut Context::from_waker(std::task::Waker::noop()));
        let why = Parting { connection, why: Why::Crossed };
        assert!(matches!(poll(), Poll::Ready(ToSwarm::GenerateEvent(said)) if said == why));
        assert!(matches!(poll(), Poll::Ready(ToSwarm::CloseConnection { peer_id, .. }) if peer_id == peer));
        assert!(poll().is_pending());
    }

    /// Begins anew each time, with this member.
    fn scene() -> (impl Fn() -> Crossed, PeerId) {
        let (local, peer) = (Identity::generate().peer_id(), Identity::generate());
        let members = [(peer.public_key(), member(peer.public_key(), &[]))];
        let section = NetworkSection { members: Arc::new(members.into()), ..section() };
        let rules: LiveRules = Arc::new(ArcSwap::from_pointee(Rules::of(&section)));
        (move || Crossed::new(local, Arc::clone(&rules)), peer.peer_id())
    }

    #[test]
    fn of_two_that_one_side_dialled_it_may_choose_for_a_moment_then_the_newer_wins() {
        let (begin, peer) = scene();
        let ([one, two], start) = ([1, 2].map(ConnectionId::new_unchecked), Instant::now());
        for dialled in [true, false] {
            for chosen in [Some(one), Some(two), None] {
                let mut crossed = begin();
                crossed.established(peer, one, dialled, start);
                crossed.established(peer, two, dialled, start);
                assert_eq!(crossed.loser(start), None);
                let due = crossed.next().expect("a time to choose");
                match chosen {
                    Some(chosen) => {
                        crossed.closed(peer, if chosen == one { two } else { one });
                        assert_eq!((crossed.next(), crossed.loser(due)), (None, None), "the other stays");
                    }
                    None => assert_eq!((crossed.loser(due), crossed.next()), (Some((peer, one)), None)),
                }
            }
        }
    }

    /// Both ends of two connections: what came first, whoever dialled it, and a dial that came later.
    #[test]
    fn a_dial_that_comes_late_is_dropped_by_its_own_end_and_one_after_a_loss_takes_the_old_ones_place() {
        let (begin, peer) = scene();
        let ([one, two], start) = ([1, 2].map(ConnectionId::new_unchecked), Instant::now());
        for first in [true, false] {
            let since = |dialled, late| {
                let mut crossed = begin();
                crossed.established(peer, one, first, start);
                let admitted = crossed.admit(peer, dialled, start + late).is_ok();
                (crossed, admitted)
            };
            // The end that dialled knows that it was on its way when the first came.
            let (crossed, admitted) = since(true, LATE);
            assert!(!admitted && crossed.closing.is_empty() && crossed.doubtful.is_empty());
            for late in [CROSSING, LATE, 10 * LATE] {
                // The other end cannot know, and waits for it.
                let (mut crossed, admitted) = since(false, late);
                assert!(admitted);
                crossed.established(peer, two, false, start + late);
                assert_eq!(crossed.loser(start + late), None);
                crossed.closed(peer, two);
                assert_eq!(
                    (crossed.next(), crossed.loser(start + 20 * LATE)),
                    (None, None),
                    "the first stays"
                );
                // Nobody drops it: the peer has lost the first.
                let (mut crossed, _) = since(false, late);
                crossed.established(peer, two, false, start + late);
                assert_eq!(crossed.next(), Some(start + late + GRACE));
                assert_eq!(crossed.loser(start + late + GRACE), Some((peer, one)));
            }
        }
    }
}
