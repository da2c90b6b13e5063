//! Who is dialled when: one state machine for each member (N4). Knows no clock and no socket; the actor tells it what
//! happened and performs what it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use storage::{Member, Members, PeerKey};

use crate::NetworkSection;
use crate::view::{MemberState, MemberView};

/// Dials at one time; a federation of hundreds does not open hundreds of sockets at once.
const DIALS: usize = 64;
/// A connection that lived this long was a good one: what follows is a new outage, not the old one.
const STABLE: Duration = Duration::from_secs(10);

/// How dials are paced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) timeout: Duration,
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

/// What the actor is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Dial, then say [`Dialer::dialing`] or [`Dialer::refused`].
    Dial { peer: PeerId, addresses: Vec<Multiaddr> },
    /// Give a dial up that is under way.
    Abort { peer: PeerId },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Dialer {
    entries: BTreeMap<PeerKey, Entry>,
    keys: BTreeMap<PeerId, PeerKey>,
    pace: Pace,
    aborts: Vec<PeerId>,
    changed: BTreeSet<PeerKey>,
    stopped: bool,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    peer: PeerId,
    phase: Phase,
    /// In a row. Kept over a reload.
    failures: u32,
    last_error: Option<String>,
    /// `false` between the commit that removes a member and the end of its transaction: a rollback finds the entry as it
    /// was.
    wanted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
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

// === impl Pace ===

impl Pace {
    pub(crate) fn of(section: &NetworkSection) -> Self {
        Self { timeout: section.connection_timeout, min: section.reconnect_min, max: section.reconnect_max }
    }

    /// The pause after so many failures in a row: first a quarter of `min`, so that a short outage heals quickly, then
    /// `min`, doubled each time up to `max`. `unit`, from 0 to 1, spreads it by a quarter to both sides.
    fn pause(&self, failures: u32, tired: bool, unit: f64) -> Duration {
        let base = match failures {
            _ if tired => self.max,
            0 => Duration::ZERO,
            1 => self.min / 4,
            n => self.min.saturating_mul(2u32.saturating_pow(n.saturating_sub(2))),
        };
        base.min(self.max).mul_f64(0.75 + unit.clamp(0.0, 1.0) / 2.0)
    }
}

// === impl Dialer ===

impl Dialer {
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            entries: BTreeMap::new(),
            keys: BTreeMap::new(),
            pace,
            aborts: Vec::new(),
            changed: BTreeSet::new(),
            stopped: false,
        }
    }

    /// Takes over members and pace. New members, and those with new addresses, are dialled at once; what was learned of
    /// the others is kept. Removed ones are not dialled any more, but remembered until [`Dialer::forget`].
    pub(crate) fn set(
        &mut self,
        members: &Members,
        pace: Pace,
        now: Instant,
        connected: impl Fn(&PeerId) -> bool,
    ) {
        self.set_pace(pace);
        for (key, entry) in &mut self.entries {
            if entry.wanted && !members.contains_key(key) {
                entry.wanted = false;
                self.changed.insert(*key);
                if let Phase::Dialing { .. } = entry.phase {
                    entry.phase = Phase::Waiting { at: now };
                    self.aborts.push(entry.peer);
                }
            }
        }
        for (key, member) in members {
            let Some(entry) = self.entries.get_mut(key) else {
                self.insert(member, now, &connected);
                continue;
            };
            let moved = entry.member.addresses != member.addresses;
            if entry.member != *member || !entry.wanted {
                self.changed.insert(*key);
            }
            entry.wanted = true;
            entry.member = member.clone();
            if moved && !matches!(entry.phase, Phase::Connected { .. } | Phase::Disconnecting) {
                if let Phase::Dialing { .. } = entry.phase {
                    self.aborts.push(entry.peer);
                }
                entry.failures = 0;
                entry.phase = Phase::Waiting { at: now };
            }
        }
    }

    /// Takes over the pace alone: it counts from the next dial and the next pause on.
    pub(crate) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    fn insert(&mut self, member: &Member, now: Instant, connected: impl Fn(&PeerId) -> bool) {
        let peer = member.key.peer_id();
        let phase =
            if connected(&peer) { Phase::Connected { since: now } } else { Phase::Waiting { at: now } };
        self.keys.insert(peer, member.key);
        self.changed.insert(member.key);
        self.entries.insert(
            member.key,
            Entry { member: member.clone(), peer, phase, failures: 0, last_error: None, wanted: true },
        );
    }

    /// Forgets the members that were removed.
    pub(crate) fn forget(&mut self) {
        self.entries.retain(|_, entry| entry.wanted);
        self.keys.retain(|_, key| self.entries.contains_key(key));
    }

    /// Dials nobody any more.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        for entry in self.entries.values_mut() {
            if let Phase::Dialing { .. } = entry.phase {
                self.aborts.push(entry.peer);
            }
        }
    }

    /// What is due. Every `Dial` counts as begun.
    pub(crate) fn due(&mut self, now: Instant, mut unit: impl FnMut() -> f64) -> Vec<Action> {
        let mut actions: Vec<_> = self.aborts.drain(..).map(|peer| Action::Abort { peer }).collect();
        if self.stopped {
            return actions;
        }
        for entry in self.entries.values_mut().filter(|entry| entry.wanted) {
            if let Phase::Dialing { until, .. } = entry.phase
                && until <= now
            {
                let within = entry.member.connection_timeout.unwrap_or(self.pace.timeout);
                entry.fail(format!("no answer within {within:?}"), &self.pace, now, unit());
                self.changed.insert(entry.member.key);
                actions.push(Action::Abort { peer: entry.peer });
            }
        }
        let room = DIALS.saturating_sub(self.dialing_now());
        let mut waiting: Vec<_> = self
            .entries
            .values_mut()
            .filter_map(|entry| match entry.phase {
                Phase::Waiting { at } if at <= now && entry.is_dialled() => Some((at, entry)),
                _ => None,
            })
            .collect();
        waiting.sort_by_key(|(at, _)| *at);
        for (_, entry) in waiting.into_iter().take(room) {
            let within = entry.member.connection_timeout.unwrap_or(self.pace.timeout);
            entry.phase = Phase::Dialing { connection: None, until: now + within };
            self.changed.insert(entry.member.key);
            actions.push(Action::Dial { peer: entry.peer, addresses: entry.member.addresses.clone() });
        }
        actions
    }

    /// When [`Dialer::due`] next has something to say.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let full = self.dialing_now() >= DIALS;
        let times =
            self.entries.values().filter(|entry| entry.is_dialled()).filter_map(|entry| match entry.phase {
                Phase::Waiting { at } if !full => Some(at),
                Phase::Dialing { until, .. } => Some(until),
                _ => None,
            });
        times.min()
    }

    fn dialing_now(&self) -> usize {
        self.entries.values().filter(|e| matches!(e.phase, Phase::Dialing { .. })).count()
    }

    fn entry(&mut self, peer: &PeerId) -> Option<&mut Entry> {
        let key = self.keys.get(peer)?;
        self.changed.insert(*key);
        self.entries.get_mut(key)
    }

    /// A dial has begun as this connection.
    pub(crate) fn dialing(&mut self, peer: &PeerId, id: ConnectionId) {
        if let Some(Entry { phase: Phase::Dialing { connection, .. }, .. }) = self.entry(peer) {
            *connection = Some(id);
        }
    }

    /// A dial could not begin.
    pub(crate) fn refused(&mut self, peer: &PeerId, why: String, now: Instant, unit: f64) {
        let pace = self.pace;
        if let Some(entry) = self.entry(peer)
            && let Phase::Dialing { .. } = entry.phase
        {
            entry.fail(why, &pace, now, unit);
        }
    }

    /// A dial came to nothing. One that was given up already changes nothing.
    pub(crate) fn failed(&mut self, peer: &PeerId, id: ConnectionId, why: String, now: Instant, unit: f64) {
        let pace = self.pace;
        if let Some(entry) = self.entry(peer)
            && let Phase::Dialing { connection: Some(own), .. } = entry.phase
            && own == id
        {
            entry.fail(why, &pace, now, unit);
        }
    }

    /// A connection is there, whoever dialled.
    pub(crate) fn connected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(entry) = self.entry(peer)
            && !matches!(entry.phase, Phase::Connected { .. })
        {
            entry.phase = Phase::Connected { since: now };
            entry.last_error = None;
        }
    }

    /// This node is about to close the member's connections.
    pub(crate) fn disconnecting(&mut self, peer: &PeerId) {
        if let Some(entry) = self.entry(peer)
            && let Phase::Connected { .. } = entry.phase
        {
            entry.phase = Phase::Disconnecting;
        }
    }

    /// The last connection is gone.
    pub(crate) fn disconnected(&mut self, peer: &PeerId, why: Option<String>, now: Instant, unit: f64) {
        let pace = self.pace;
        let Some(entry) = self.entry(peer) else { return };
        match entry.phase {
            Phase::Connected { since } if now.saturating_duration_since(since) < STABLE => {
                entry.fail(why.unwrap_or_else(|| "closed by the peer".to_owned()), &pace, now, unit);
            }
            Phase::Connected { .. } | Phase::Disconnecting => {
                entry.failures = 0;
                entry.last_error = why;
                entry.phase = Phase::Waiting { at: now + pace.pause(1, false, unit) };
            }
            Phase::Waiting { .. } | Phase::Dialing { .. } => {}
        }
    }

    /// What has changed since the last call; `None` for a member that is none any more.
    pub(crate) fn changes(&mut self) -> Vec<(PeerKey, Option<MemberView>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|key| (key, self.entries.get(&key).and_then(Entry::view))).collect()
    }

    /// Members that are connected, and all.
    pub(crate) fn census(&self) -> (usize, usize) {
        let wanted = self.entries.values().filter(|entry| entry.wanted);
        let connected = wanted.clone().filter(|entry| matches!(entry.phase, Phase::Connected { .. }));
        (connected.count(), wanted.count())
    }
}

// === impl Entry ===

impl Entry {
    fn is_dialled(&self) -> bool {
        self.wanted && !self.member.addresses.is_empty()
    }

    fn fail(&mut self, why: String, pace: &Pace, now: Instant, unit: f64) {
        self.failures = self.failures.saturating_add(1);
        let tired = self.member.max_retries.is_some_and(|most| self.failures > most);
        self.last_error = Some(why);
        self.phase = Phase::Waiting { at: now + pace.pause(self.failures, tired, unit) };
    }

    fn view(&self) -> Option<MemberView> {
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

#[cfg(test)]
mod tests;
