//! Who is to be looked at when, so that nobody has to look at everybody: the swarm is polled thousands of times a second, and
//! a federation may have ten thousand members.

use std::collections::BTreeSet;
use std::time::Instant;

use storage::PeerKey;

/// How a member stands, as far as time and sums are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// To be dialled then.
    Waiting(Instant),
    /// Being dialled until then.
    Dialing(Instant),
    Connected,
    /// Nothing is to be done about it.
    Resting,
    /// No member any more.
    Removed,
}

/// The members by what is due. Kept up to date by [`Agenda::moved`], whatever changes a member.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Agenda {
    waiting: BTreeSet<(Instant, PeerKey)>,
    dialing: BTreeSet<(Instant, PeerKey)>,
    removed: BTreeSet<PeerKey>,
    connected: usize,
}

// === impl Agenda ===

impl Agenda {
    /// A member came (`from` is none), or stands otherwise than before.
    pub(super) fn moved(&mut self, key: PeerKey, from: Option<Standing>, to: Standing) {
        if from == Some(to) {
            return;
        }
        match from {
            Some(Standing::Waiting(at)) => drop(self.waiting.remove(&(at, key))),
            Some(Standing::Dialing(until)) => drop(self.dialing.remove(&(until, key))),
            Some(Standing::Connected) => self.connected = self.connected.saturating_sub(1),
            Some(Standing::Removed) => drop(self.removed.remove(&key)),
            Some(Standing::Resting) | None => {}
        }
        match to {
            Standing::Waiting(at) => drop(self.waiting.insert((at, key))),
            Standing::Dialing(until) => drop(self.dialing.insert((until, key))),
            Standing::Connected => self.connected = self.connected.saturating_add(1),
            Standing::Removed => drop(self.removed.insert(key)),
            Standing::Resting => {}
        }
    }

    /// Those who are to be dialled now, the longest overdue first.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = PeerKey> {
        self.waiting.iter().take_while(move |(at, _)| *at <= now).map(|(_, key)| *key)
    }

    /// Those who are to be dialled later.
    pub(super) fn waiting_after(&self, now: Instant) -> impl Iterator<Item = PeerKey> {
        self.waiting.iter().rev().take_while(move |(at, _)| *at > now).map(|(_, key)| *key)
    }

    /// Those whose dial has taken too long.
    pub(super) fn overdue(&self, now: Instant) -> impl Iterator<Item = PeerKey> {
        self.dialing.iter().take_while(move |(until, _)| *until <= now).map(|(_, key)| *key)
    }

    pub(super) fn dialing(&self) -> impl Iterator<Item = PeerKey> {
        self.dialing.iter().map(|(_, key)| *key)
    }

    pub(super) fn dialing_now(&self) -> usize {
        self.dialing.len()
    }

    pub(super) const fn connected(&self) -> usize {
        self.connected
    }

    pub(super) fn removed(&self) -> usize {
        self.removed.len()
    }

    pub(super) fn take_removed(&mut self) -> BTreeSet<PeerKey> {
        std::mem::take(&mut self.removed)
    }

    /// When the first of the waiting is due.
    pub(super) fn next_wait(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// When the first dial has taken too long.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.dialing.first().map(|(until, _)| *until)
    }
}
