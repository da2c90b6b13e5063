//! Who is dialled when: one state machine for each member (N4). Knows no clock and no socket; the actor tells it what
//! happened and performs what it asks for.

mod agenda;
mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use storage::{Member, Members, PeerKey, side_by_side};

use agenda::Agenda;
use entry::{Entry, Phase};

use crate::NetworkSection;
use crate::view::MemberView;

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
        let entry = Entry::new(member, peer, phase);
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
        // A reload tells it of all members again.
        let is_known = self.entries.get(key).is_none_or(|entry| entry.learned == addresses);
        !is_known && self.change(key, |entry| entry.learn(addresses, now)).unwrap_or_default()
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
                entry.begin(now + within);
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
        self.change_peer(peer, |entry| entry.failed(id, why, &pace, now, unit));
    }

    /// A connection is there, whoever dialled. A dial that it has overtaken goes on.
    pub(crate) fn connected(&mut self, peer: &PeerId, id: ConnectionId, now: Instant) {
        self.change_peer(peer, |entry| entry.connected(id, now));
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
        let goes_on = self.change_peer(peer, |entry| entry.disconnected(why, &pace, now, unit));
        if self.stopped && goes_on == Some(true) {
            self.aborts.push(*peer);
        }
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

#[cfg(test)]
mod tests;
