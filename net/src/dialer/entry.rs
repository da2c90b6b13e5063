//! One member: where it is, and how it stands with it.

use std::time::Instant;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use storage::Member;
use storage::peers_file::MAX_ADDRESSES;

use super::agenda::Standing;
use super::{Pace, STABLE};
use crate::view::{MemberState, MemberView};

/// What is known of a member, and how it stands.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) member: Member,
    /// Where the member says that it is; dialled besides what is configured.
    pub(super) learned: Vec<Multiaddr>,
    pub(super) peer: PeerId,
    pub(super) phase: Phase,
    /// A dial that a connection has overtaken, and when it is over at the latest: it is still on its way, and may yet arrive.
    overtaken: Option<(ConnectionId, Instant)>,
    /// New addresses were learned while others were dialled: they are worth a try as soon as those have come to nothing.
    eager: bool,
    /// In a row. Kept over a reload.
    pub(super) failures: u32,
    pub(super) last_error: Option<String>,
    /// `false` between the commit that removes a member and the end of its transaction: a rollback finds the entry as it
    /// was.
    pub(super) wanted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be dialled then.
    Waiting {
        at: Instant,
    },
    Dialing {
        connection: Option<ConnectionId>,
        until: Instant,
    },
    Connected {
        since: Instant,
    },
    Disconnecting,
}

// === impl Entry ===

impl Entry {
    /// A member that is new here.
    pub(super) fn new(member: &Member, peer: PeerId, phase: Phase) -> Self {
        Self {
            member: member.clone(),
            learned: Vec::new(),
            peer,
            phase,
            overtaken: None,
            eager: false,
            failures: 0,
            last_error: None,
            wanted: true,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.phase {
            _ if !self.wanted => Standing::Removed,
            // One without addresses waits to be called.
            Phase::Waiting { .. } if self.member.addresses.is_empty() && self.learned.is_empty() => {
                Standing::Resting
            }
            Phase::Waiting { at } => Standing::Waiting(at),
            Phase::Dialing { until, .. } => Standing::Dialing(until),
            Phase::Connected { .. } => Standing::Connected,
            Phase::Disconnecting => Standing::Resting,
        }
    }

    /// Is as the file says now. Returns whose dial is to be given up.
    pub(super) fn take(&mut self, member: &Member, pace: &Pace, now: Instant) -> Option<PeerId> {
        let moved = self.member.addresses != member.addresses;
        let was_tired = self.is_tired();
        self.wanted = true;
        self.member = member.clone();
        if was_tired && !self.is_tired() {
            // Members are different ones: nothing is gained by spreading them.
            self.hasten(pace, now, 0.5);
        }
        if !moved || matches!(self.phase, Phase::Connected { .. } | Phase::Disconnecting) {
            return None;
        }
        self.failures = 0;
        let dropped = self.interrupt(now);
        self.phase = Phase::Waiting { at: now };
        dropped
    }

    /// Ends a dial that is under way. Returns whose it is.
    pub(super) fn interrupt(&mut self, now: Instant) -> Option<PeerId> {
        let Phase::Dialing { .. } = self.phase else { return None };
        self.phase = Phase::Waiting { at: now };
        Some(self.peer)
    }

    /// The configured ones first; no more than a member may be configured with besides.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let configured = &self.member.addresses;
        let learned = self.learned.iter().filter(|address| !configured.contains(address));
        configured.iter().chain(learned.take(MAX_ADDRESSES)).cloned().collect()
    }

    /// Is dialled from now on.
    pub(super) fn begin(&mut self, until: Instant) {
        self.phase = Phase::Dialing { connection: None, until };
        self.eager = false;
    }

    /// This connection is there, which may be the one that was dialled, or one that came before it.
    pub(super) fn connected(&mut self, id: ConnectionId, now: Instant) {
        if let Phase::Dialing { connection: Some(own), until } = self.phase {
            self.overtaken = Some((own, until));
        }
        self.overtaken.take_if(|(own, _)| *own == id);
        if !matches!(self.phase, Phase::Connected { .. }) {
            self.phase = Phase::Connected { since: now };
            self.last_error = None;
            self.eager = false;
        }
    }

    /// The last connection is gone. True if a dial is under way still.
    pub(super) fn disconnected(&mut self, why: Option<String>, pace: &Pace, now: Instant, unit: f64) -> bool {
        let overtaken = self.overtaken.take().filter(|(_, until)| *until > now);
        match (self.phase, overtaken) {
            (Phase::Waiting { .. } | Phase::Dialing { .. }, _) => {}
            // Another dial beside it could end in two connections, of which each end may close another one.
            (_, Some((own, until))) => {
                self.last_error = why;
                self.phase = Phase::Dialing { connection: Some(own), until };
                return true;
            }
            (Phase::Connected { since }, None) if now.saturating_duration_since(since) < STABLE => {
                self.fail(why.unwrap_or_else(|| "closed by the peer".to_owned()), pace, now, unit);
            }
            (Phase::Connected { .. } | Phase::Disconnecting, None) => {
                self.failures = 0;
                self.last_error = why;
                self.phase = Phase::Waiting { at: now + pace.pause(1, false, unit) };
            }
        }
        false
    }

    /// This dial came to nothing. One that was given up already changes nothing.
    pub(super) fn failed(&mut self, id: ConnectionId, why: String, pace: &Pace, now: Instant, unit: f64) {
        self.overtaken.take_if(|(own, _)| *own == id);
        if let Phase::Dialing { connection: Some(own), .. } = self.phase
            && own == id
        {
            self.fail(why, pace, now, unit);
        }
    }

    /// Is where it says. An address that is new is worth a try at once, or right after the dial that is under way.
    pub(super) fn learn(&mut self, addresses: Vec<Multiaddr>, now: Instant) -> bool {
        let is_new = |address| !self.learned.contains(address) && !self.member.addresses.contains(address);
        let any_new = addresses.iter().any(is_new);
        let changed = self.learned != addresses;
        self.learned = addresses;
        match &mut self.phase {
            Phase::Waiting { at } if any_new => *at = now.min(*at),
            Phase::Dialing { .. } => self.eager |= any_new,
            Phase::Waiting { .. } | Phase::Connected { .. } | Phase::Disconnecting => {}
        }
        changed
    }

    fn is_tired(&self) -> bool {
        self.member.max_retries.is_some_and(|most| self.failures > most)
    }

    pub(super) fn fail(&mut self, why: String, pace: &Pace, now: Instant, unit: f64) {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(why);
        let at = now + pace.pause(self.failures, self.is_tired(), unit);
        self.phase = Phase::Waiting { at: if std::mem::take(&mut self.eager) { now } else { at } };
    }

    /// Waits no longer than this pace says for so many failures.
    pub(super) fn hasten(&mut self, pace: &Pace, now: Instant, unit: f64) {
        let latest = now + pace.pause(self.failures.max(1), self.is_tired(), unit);
        if let Phase::Waiting { at } = &mut self.phase {
            *at = latest.min(*at);
        }
    }

    pub(super) fn view(&self) -> Option<MemberView> {
        let state = match self.phase {
            Phase::Waiting { .. } if self.last_error.is_some() => MemberState::Failed,
            Phase::Waiting { .. } => MemberState::Idle,
            Phase::Dialing { .. } => MemberState::Connecting,
            Phase::Connected { .. } => MemberState::Connected,
            Phase::Disconnecting => MemberState::Disconnecting,
        };
        self.wanted.then(|| MemberView {
            public_key: self.member.key,
            name: self.member.name.clone(),
            state,
            addresses: self.member.addresses.iter().map(ToString::to_string).collect(),
            last_error: self.last_error.clone(),
        })
    }
}
