//! Who is dialled when: one state machine for each member (N4). Knows no clock and no socket; the actor tells it what
//! happened and performs what it asks for.

mod agenda;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use storage::peers_file::MAX_ADDRESSES;
use storage::{Member, Members, PeerKey, side_by_side};

use agenda::{Agenda, Standing};

use crate::NetworkSection;
use crate::view::{MemberState, MemberView};

/// Dials at one time; a federation of hundreds does not open hundreds of sockets at once.
const DIALS: usize = 64;
/// A connection that lived this long was a good one: what follows is a new outage, not the old one.
const STABLE: Duration = Duration::from_secs(10);

/// How dials are paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The entries by what is due, told of every change of one.
    agenda: Agenda,
    pace: Pace,
    aborts: Vec<PeerId>,
    changed: BTreeSet<PeerKey>,
    stopped: bool,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    /// Where the member says that it is; dialled besides what is configured.
    learned: Vec<Multiaddr>,
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
            agenda: Agenda::default(),
            pace,
            aborts: Vec::new(),
            changed: BTreeSet::new(),
            stopped: false,
        }
    }

    /// Takes over members. New members, and those with new addresses, are dialled at once, and one that may be tried more often
    /// does not rest any more; what was learned of the others is kept. Removed ones are not dialled any more, but remembered until [`Dialer::forget`].
    pub(crate) fn set(&mut self, members: &Members, now: Instant, connected: impl Fn(&PeerId) -> bool) {
        // Most are as they were, and cost no more than this look.
        let differs = |entry: Option<&Entry>, member: Option<&Member>| match (entry, member) {
            (Some(entry), Some(member)) => !entry.wanted || entry.member != *member,
            (Some(entry), None) => entry.wanted,
            (None, _) => true,
        };
        let pace = self.pace;
        let others: Vec<_> = side_by_side(&self.entries, members)
            .filter(|(_, entry, member)| differs(*entry, *member))
            .map(|(key, entry, member)| (key, entry.is_some(), member))
            .collect();
        for (key, is_known, member) in others {
            let dropped = match member {
                Some(member) if is_known => self.change(&key, |entry| entry.take(member, &pace, now)),
                Some(member) => {
                    self.insert(member, now, &connected);
                    None
                }
                None => self.change(&key, |entry| {
                    entry.wanted = false;
                    entry.interrupt(now)
                }),
            };
            self.aborts.extend(dropped.flatten());
        }
    }

    /// Takes over the pace. Dials that are under way keep the time that they were given; nobody waits longer from now on than
    /// the new pace would make it: a pause of minutes that was shortened to seconds is over in seconds. `unit` as in
    /// [`Pace::pause`].
    pub(crate) fn set_pace(&mut self, pace: Pace, now: Instant, mut unit: impl FnMut() -> f64) {
        if std::mem::replace(&mut self.pace, pace) == pace {
            return;
        }
        let waiting: Vec<_> = self.agenda.waiting_after(now).collect();
        for key in waiting {
            self.change(&key, |entry| entry.hasten(&pace, now, unit()));
        }
    }

    fn insert(&mut self, member: &Member, now: Instant, connected: impl Fn(&PeerId) -> bool) {
        let peer = member.key.peer_id();
        let phase =
            if connected(&peer) { Phase::Connected { since: now } } else { Phase::Waiting { at: now } };
        let entry = Entry {
            member: member.clone(),
            learned: Vec::new(),
            peer,
            phase,
            failures: 0,
            last_error: None,
            wanted: true,
        };
        self.keys.insert(peer, member.key);
        self.changed.insert(member.key);
        self.agenda.moved(member.key, None, entry.standing());
        self.entries.insert(member.key, entry);
    }

    /// Changes an entry; everything that does goes through here.
    fn change<T>(&mut self, key: &PeerKey, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.entries.get_mut(key)?;
        let before = entry.standing();
        let result = change(entry);
        self.agenda.moved(*key, Some(before), entry.standing());
        self.changed.insert(*key);
        Some(result)
    }

    fn change_peer<T>(&mut self, peer: &PeerId, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let key = *self.keys.get(peer)?;
        self.change(&key, change)
    }

    /// A member says where it is. True if it said something else before.
    pub(crate) fn learn(&mut self, key: &PeerKey, addresses: Vec<Multiaddr>, now: Instant) -> bool {
        self.change(key, |entry| entry.learn(addresses, now)).unwrap_or_default()
    }

    /// Forgets the members that were removed.
    pub(crate) fn forget(&mut self) {
        for key in self.agenda.take_removed() {
            if let Some(entry) = self.entries.remove(&key) {
                self.keys.remove(&entry.peer);
            }
        }
    }

    /// Dials nobody any more.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        let dialing = self.agenda.dialing().filter_map(|key| self.entries.get(&key));
        self.aborts.extend(dialing.map(|entry| entry.peer));
    }

    /// What is due. Every `Dial` counts as begun.
    pub(crate) fn due(&mut self, now: Instant, mut unit: impl FnMut() -> f64) -> Vec<Action> {
        let mut actions: Vec<_> = self.aborts.drain(..).map(|peer| Action::Abort { peer }).collect();
        if self.stopped {
            return actions;
        }
        let pace = self.pace;
        let overdue: Vec<_> = self.agenda.overdue(now).collect();
        for key in overdue {
            let given_up = self.change(&key, |entry| {
                let within = entry.member.connection_timeout.unwrap_or(pace.timeout);
                entry.fail(format!("no answer within {within:?}"), &pace, now, unit());
                Action::Abort { peer: entry.peer }
            });
            actions.extend(given_up);
        }
        let room = DIALS.saturating_sub(self.agenda.dialing_now());
        let due: Vec<_> = self.agenda.due(now).take(room).collect();
        for key in due {
            let dial = self.change(&key, |entry| {
                let within = entry.member.connection_timeout.unwrap_or(pace.timeout);
                entry.phase = Phase::Dialing { connection: None, until: now + within };
                Action::Dial { peer: entry.peer, addresses: entry.addresses() }
            });
            actions.extend(dial);
        }
        actions
    }

    /// When [`Dialer::due`] next has something to say.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let full = self.agenda.dialing_now() >= DIALS;
        let wait = if full { None } else { self.agenda.next_wait() };
        [wait, self.agenda.next_timeout()].into_iter().flatten().min()
    }

    /// A dial has begun as this connection.
    pub(crate) fn dialing(&mut self, peer: &PeerId, id: ConnectionId) {
        self.change_peer(peer, |entry| {
            if let Phase::Dialing { connection, .. } = &mut entry.phase {
                *connection = Some(id);
            }
        });
    }

    /// A dial could not begin.
    pub(crate) fn refused(&mut self, peer: &PeerId, why: String, now: Instant, unit: f64) {
        let pace = self.pace;
        self.change_peer(peer, |entry| {
            if let Phase::Dialing { .. } = entry.phase {
                entry.fail(why, &pace, now, unit);
            }
        });
    }

    /// A dial came to nothing. One that was given up already changes nothing.
    pub(crate) fn failed(&mut self, peer: &PeerId, id: ConnectionId, why: String, now: Instant, unit: f64) {
        let pace = self.pace;
        self.change_peer(peer, |entry| {
            if let Phase::Dialing { connection: Some(own), .. } = entry.phase
                && own == id
            {
                entry.fail(why, &pace, now, unit);
            }
        });
    }

    /// A connection is there, whoever dialled.
    pub(crate) fn connected(&mut self, peer: &PeerId, now: Instant) {
        self.change_peer(peer, |entry| {
            if !matches!(entry.phase, Phase::Connected { .. }) {
                entry.phase = Phase::Connected { since: now };
                entry.last_error = None;
            }
        });
    }

    /// This node is about to close the member's connections.
    pub(crate) fn disconnecting(&mut self, peer: &PeerId) {
        self.change_peer(peer, |entry| {
            if let Phase::Connected { .. } = entry.phase {
                entry.phase = Phase::Disconnecting;
            }
        });
    }

    /// The last connection is gone.
    pub(crate) fn disconnected(&mut self, peer: &PeerId, why: Option<String>, now: Instant, unit: f64) {
        let pace = self.pace;
        self.change_peer(peer, |entry| match entry.phase {
            Phase::Connected { since } if now.saturating_duration_since(since) < STABLE => {
                entry.fail(why.unwrap_or_else(|| "closed by the peer".to_owned()), &pace, now, unit);
            }
            Phase::Connected { .. } | Phase::Disconnecting => {
                entry.failures = 0;
                entry.last_error = why;
                entry.phase = Phase::Waiting { at: now + pace.pause(1, false, unit) };
            }
            Phase::Waiting { .. } | Phase::Dialing { .. } => {}
        });
    }

    /// What has changed since the last call; `None` for a member that is none any more.
    pub(crate) fn changes(&mut self) -> Vec<(PeerKey, Option<MemberView>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|key| (key, self.entries.get(&key).and_then(Entry::view))).collect()
    }

    /// Members that are connected, and all.
    pub(crate) fn census(&self) -> (usize, usize) {
        (self.agenda.connected(), self.entries.len().saturating_sub(self.agenda.removed()))
    }
}

// === impl Entry ===

impl Entry {
    fn standing(&self) -> Standing {
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
    fn take(&mut self, member: &Member, pace: &Pace, now: Instant) -> Option<PeerId> {
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
    fn interrupt(&mut self, now: Instant) -> Option<PeerId> {
        let Phase::Dialing { .. } = self.phase else { return None };
        self.phase = Phase::Waiting { at: now };
        Some(self.peer)
    }

    /// The configured ones first; no more than a member may be configured with besides.
    fn addresses(&self) -> Vec<Multiaddr> {
        let configured = &self.member.addresses;
        let learned = self.learned.iter().filter(|address| !configured.contains(address));
        configured.iter().chain(learned.take(MAX_ADDRESSES)).cloned().collect()
    }

    /// Is where it says. An address that is new is worth a try at once.
    fn learn(&mut self, addresses: Vec<Multiaddr>, now: Instant) -> bool {
        let is_new = |address| !self.learned.contains(address) && !self.member.addresses.contains(address);
        let any_new = addresses.iter().any(is_new);
        let changed = self.learned != addresses;
        self.learned = addresses;
        if any_new && let Phase::Waiting { at } = &mut self.phase {
            *at = now.min(*at);
        }
        changed
    }

    fn is_tired(&self) -> bool {
        self.member.max_retries.is_some_and(|most| self.failures > most)
    }

    fn fail(&mut self, why: String, pace: &Pace, now: Instant, unit: f64) {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(why);
        self.phase = Phase::Waiting { at: now + pace.pause(self.failures, self.is_tired(), unit) };
    }

    /// Waits no longer than this pace says for so many failures.
    fn hasten(&mut self, pace: &Pace, now: Instant, unit: f64) {
        let latest = now + pace.pause(self.failures.max(1), self.is_tired(), unit);
        if let Phase::Waiting { at } = &mut self.phase {
            *at = latest.min(*at);
        }
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
