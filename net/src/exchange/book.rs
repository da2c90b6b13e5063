//! What is known of which peer: the records, in which order they changed, and how many there may be. Knows no clock and no socket.
//!
//! Of each peer only its newest statement counts: the records that it signed with its highest `seq`, at most one for each
//! [`Reach`]. A change gets the next *version*; "what is new since version 7" is a look into one map. What may be shown of it
//! is hashed by the first byte of the keys, so that two nodes find out in a few bytes where they differ.

mod digests;
mod peer;
mod present;
mod room;
mod shares;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use storage::{Members, PeerKey};

use super::reach::Reach;
use super::record::Record;
use super::wire::{Digest, HEADER, MAX_MESSAGE, MAX_RECORDS, RECORD_HEAD, RESPONSE_HEAD, Request, Response};
use digests::{Digests, LEAVES};
pub(crate) use peer::Peer;
use present::Present;
use room::Room;
pub(crate) use shares::Bringer;
use shares::Shares;

/// A record may be so far ahead of this node's clock: clocks differ, and what is believed from the future cannot be replaced
/// until then.
pub(crate) const AHEAD: Duration = Duration::from_secs(10 * 60);
/// A node signs its records anew after so long, changed or not: a sign of life.
pub(crate) const REFRESH: Duration = Duration::from_secs(6 * 60 * 60);
/// Two signs of life were missed: marked in `status`.
pub(crate) const STALE: Duration = Duration::from_secs(12 * 60 * 60);
/// Four were: a stranger's record is neither taken nor kept any more. A member's is: its last address is better than none.
pub(crate) const EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);

/// What of it is for whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    /// The members, who are never forgotten.
    pub(crate) members: Arc<Members>,
    /// `network.membership` is `members`: nobody else is taken, told or shown.
    pub(crate) only_members: bool,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is the peer's newest now.
    Taken,
    /// It is known.
    Same,
    /// A newer one is known: a replay gains nothing.
    Old,
    /// From further ahead than [`AHEAD`].
    Future,
    /// Of a stranger, from longer ago than [`EXPIRY`].
    Expired,
    /// Only members are taken.
    Stranger,
    /// There is no room for strangers.
    NoRoom,
    /// This node's own, newer than what it knows: it was signed in an earlier life with another clock.
    Outrun,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Book {
    own: Option<PeerKey>,
    policy: Policy,
    /// By the first byte of the keys: keys are points of a curve, as good as random.
    shelves: Vec<BTreeMap<PeerKey, Peer>>,
    /// Who changed at which version.
    changes: BTreeMap<u64, PeerKey>,
    version: u64,
    digests: Digests,
    /// The strangers by who brought them.
    shares: Shares,
    room: Room,
    present: Present,
    /// Hashes of all records: what is here already needs no second look at its signature.
    marks: HashSet<Digest>,
}

/// The hash that a record is recognised by.
pub(crate) fn mark(bytes: &[u8]) -> Digest {
    digests::shorten(Sha256::digest(bytes).into())
}

fn leaf(key: &PeerKey) -> usize {
    usize::from(key.as_bytes()[0])
}

// === impl Policy ===

impl Policy {
    fn is_member(&self, key: &PeerKey) -> bool {
        self.members.contains_key(key)
    }

    fn admits(&self, key: &PeerKey) -> bool {
        !self.only_members || self.is_member(key)
    }
}

// === impl Book ===

impl Book {
    pub(crate) fn new() -> Self {
        Self {
            own: None,
            policy: Policy::default(),
            shelves: vec![BTreeMap::new(); LEAVES],
            changes: BTreeMap::new(),
            version: 0,
            digests: Digests::new(),
            shares: Shares::default(),
            room: Room::default(),
            present: Present::default(),
            marks: HashSet::new(),
        }
    }

    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// Those that may be shown, by key, without this node.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (&PeerKey, &Peer)> {
        let all = self.shelves.iter().flatten();
        all.filter(|(key, _)| self.own.as_ref() != Some(key) && self.policy.admits(key))
    }

    pub(crate) fn get(&self, key: &PeerKey) -> Option<&Peer> {
        self.shelves[leaf(key)].get(key)
    }

    pub(crate) fn is_member(&self, key: &PeerKey) -> bool {
        self.policy.is_member(key)
    }

    /// Whether these bytes are a record that is here.
    pub(crate) fn has(&self, mark: &Digest) -> bool {
        self.marks.contains(mark)
    }

    /// Other members, or another membership. Nobody is forgotten for it: a rollback finds everybody again (R13).
    pub(crate) fn set_policy(&mut self, policy: Policy) {
        let before = std::mem::replace(&mut self.policy, policy);
        self.digests.forget_all();
        self.shares = Shares::default();
        let mut shown = Vec::new();
        for (key, peer) in self.shelves.iter().flatten().filter(|(key, _)| self.own.as_ref() != Some(key)) {
            if !self.policy.is_member(key) {
                self.shares.add(*key, peer.from, peer.last_seen);
            }
            if self.policy.admits(key) && !before.admits(key) {
                shown.push(*key);
            }
        }
        for key in shown {
            self.touch(&key);
        }
    }

    /// This node's own records, of one `seq`.
    pub(crate) fn set_own(&mut self, own: PeerKey, records: Vec<Record>, now: u64) {
        self.own = Some(own);
        self.shares.remove_key(&own);
        for record in records {
            self.put(record, Bringer::Itself, now);
        }
    }

    /// Takes a record that `from` has brought. `limit` bounds the strangers, and one more takes the place
    /// of one, so that a lower limit sheds nobody by itself (contract: "Limits").
    pub(crate) fn learn(&mut self, record: Record, from: Bringer, now: u64, limit: usize) -> Fate {
        let (key, known) = (record.key, self.get(&record.key));
        let seq = known.map_or(0, |peer| peer.seq);
        if record.seq > now.saturating_add(millis(AHEAD)) {
            return Fate::Future;
        }
        if self.own == Some(key) {
            return if record.seq > seq { Fate::Outrun } else { Fate::Same };
        }
        let is_member = self.policy.is_member(&key);
        if !self.policy.admits(&key) {
            return Fate::Stranger;
        }
        if !is_member && record.seq.saturating_add(millis(EXPIRY)) < now {
            return Fate::Expired;
        }
        if let Some(peer) = known {
            if record.seq < seq {
                return Fate::Old;
            }
            if record.seq == seq && peer.records[usize::from(record.reach.to_byte())].is_some() {
                return Fate::Same;
            }
        } else if !is_member && self.shares.len() >= limit {
            self.room.lacks(limit);
            let Some(least) = self.shares.least(from, limit) else { return Fate::NoRoom };
            self.remove(&least);
        }
        self.put(record, from, now);
        Fate::Taken
    }

    fn put(&mut self, record: Record, from: Bringer, now: u64) {
        let key = record.key;
        let peer = self.shelves[leaf(&key)].entry(key).or_insert_with(|| Peer::new(from, now / 1000));
        let before = (peer.from, peer.last_seen);
        if record.seq > peer.seq {
            peer.seq = record.seq;
            for old in peer.records.iter_mut().filter_map(Option::take) {
                self.marks.remove(&mark(&old.bytes));
            }
        }
        // A signature is a sign of life, at the time that it says.
        let spoke = (record.seq / 1000).min(now / 1000);
        peer.last_seen = peer.last_seen.max(spoke);
        if from == Bringer::Itself {
            peer.from = from;
        }
        self.marks.insert(mark(&record.bytes));
        let after = (peer.from, peer.last_seen);
        let slot = usize::from(record.reach.to_byte());
        if let Some(old) = peer.records[slot].replace(Box::new(record)) {
            self.marks.remove(&mark(&old.bytes));
        }
        self.moved(&key, before, after);
        self.touch(&key);
    }

    /// It has changed: the next version is its.
    fn touch(&mut self, key: &PeerKey) {
        let Some(peer) = self.shelves[leaf(key)].get_mut(key) else { return };
        self.version = self.version.saturating_add(1);
        self.changes.remove(&peer.changed);
        peer.changed = self.version;
        self.changes.insert(self.version, *key);
        self.digests.forget(leaf(key));
    }

    fn moved(&mut self, key: &PeerKey, before: (Bringer, u64), after: (Bringer, u64)) {
        if self.own.as_ref() != Some(key) && !self.policy.is_member(key) {
            self.shares.remove(key, before.0, before.1);
            self.shares.add(*key, after.0, after.1);
        }
    }

    /// Forgets a peer; not this node.
    pub(crate) fn forget(&mut self, key: &PeerKey) {
        if self.own.as_ref() != Some(key) {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &PeerKey) {
        let Some(peer) = self.shelves[leaf(key)].remove(key) else { return };
        self.changes.remove(&peer.changed);
        self.digests.forget(leaf(key));
        self.shares.remove(key, peer.from, peer.last_seen);
        for record in peer.records.iter().flatten() {
            self.marks.remove(&mark(&record.bytes));
        }
    }

    /// A connection to it came (`true`) or went.
    pub(crate) fn connected(&mut self, key: &PeerKey, is_there: bool, now: u64) {
        self.present.count(key, is_there);
        self.change(key, |peer| {
            peer.last_seen = now / 1000;
            peer.failures = 0;
        });
    }

    /// When this peer last spoke, in Unix seconds: now, while it is connected (one that does not answer pings is not for long).
    pub(crate) fn last_seen(&self, key: &PeerKey, peer: &Peer, now: u64) -> u64 {
        if self.present.has(key) { now / 1000 } else { peer.last_seen }
    }

    /// Whether nothing was heard of this peer for so long.
    pub(crate) fn is_silent(&self, key: &PeerKey, peer: &Peer, for_so_long: Duration, now: u64) -> bool {
        let last = self.last_seen(key, peer, now).max(peer.seq / 1000);
        last.saturating_add(for_so_long.as_secs()) < now / 1000
    }

    /// Whether those for whom there was no room are to be asked for anew, because there is; says so once.
    pub(crate) fn has_room_again(&mut self, limit: usize, now: Instant) -> bool {
        self.room.is_there_again(self.shares.len(), limit, now)
    }

    /// A dial of it came to nothing.
    pub(crate) fn failed(&mut self, key: &PeerKey) {
        self.change(key, |peer| peer.failures = peer.failures.saturating_add(1));
    }

    /// What was kept about it over a restart.
    pub(crate) fn recall(&mut self, key: &PeerKey, first_seen: u64, last_seen: u64, failures: u32) {
        self.change(key, |peer| {
            peer.first_seen = peer.first_seen.min(first_seen);
            peer.last_seen = peer.last_seen.max(last_seen);
            peer.failures = failures;
        });
    }

    fn change(&mut self, key: &PeerKey, change: impl FnOnce(&mut Peer)) {
        let Some(peer) = self.shelves[leaf(key)].get_mut(key) else { return };
        let before = (peer.from, peer.last_seen);
        change(peer);
        let after = (peer.from, peer.last_seen);
        self.moved(key, before, after);
    }

    /// Forgets the strangers that nothing was heard of for [`EXPIRY`]. Who was seen in the future was seen by a clock that was ahead:
    /// that is not to keep a place for ever.
    pub(crate) fn tidy(&mut self, now: u64) {
        let (now_s, latest) = (now / 1000, now.saturating_add(millis(AHEAD)) / 1000);
        let peers = self.shelves.iter().flatten();
        let ahead: Vec<_> = peers.filter(|(_, peer)| peer.last_seen > latest).map(|(key, _)| *key).collect();
        for key in ahead {
            self.change(&key, |peer| peer.last_seen = now_s);
        }
        let is_over = |key: &PeerKey, peer: &Peer| {
            self.own.as_ref() != Some(key)
                && !self.policy.is_member(key)
                && self.is_silent(key, peer, EXPIRY, now)
        };
        let over: Vec<_> = self
            .shelves
            .iter()
            .flatten()
            .filter(|(key, peer)| is_over(key, peer))
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            self.remove(&key);
        }
    }

    fn is_shown(&self, key: &PeerKey) -> bool {
        self.own.as_ref() == Some(key) || self.policy.admits(key)
    }

    /// The hash over everything that a connection of this reach carries, in `2^depth` parts.
    pub(crate) fn digests(&mut self, reach: Reach, depth: u8) -> Vec<Digest> {
        let Self { digests, shelves, policy, own, .. } = self;
        let is_shown = |key: &PeerKey| own.as_ref() == Some(key) || policy.admits(key);
        digests.parts(reach, depth, |at| {
            let shown = shelves[at].iter().filter(|(key, _)| is_shown(key));
            digests::leaf(shown, reach)
        })
    }

    /// What is new since a version (`after`, of this very process), in the parts where the asker knows something else. The
    /// second value is how many peers were looked at.
    pub(crate) fn answer(
        &mut self,
        request: &Request,
        to: &PeerKey,
        reach: Reach,
        after: u64,
    ) -> (Response, usize) {
        let depth = u8::try_from(request.digests.len().trailing_zeros()).unwrap_or_default();
        let mine = self.digests(reach, depth);
        let differs = |at: usize| {
            let part = at >> (8 - u32::from(depth.min(8)));
            mine.get(part) != request.digests.get(part)
        };
        let mut room = MAX_MESSAGE - HEADER - RESPONSE_HEAD;
        let mut response = Response {
            number: request.number,
            session: 0,
            version: self.version,
            more: false,
            records: Vec::new(),
        };
        let mut looked = 0_usize;
        if mine == request.digests {
            return (response, looked);
        }
        let mut last = after;
        for (version, key) in self.changes.range(after.saturating_add(1)..) {
            looked = looked.saturating_add(1);
            // In a first exchange it hears of itself, too: of a life before this one, with a clock that was ahead.
            if !differs(leaf(key)) || (after > 0 && key == to) || !self.is_shown(key) {
                continue;
            }
            let Some(peer) = self.get(key) else { continue };
            let size: usize = peer.records(reach).map(|record| record.bytes.len() + RECORD_HEAD).sum();
            if size > room || response.records.len() + peer.records(reach).count() > MAX_RECORDS {
                response.more = true;
                response.version = last;
                break;
            }
            room -= size;
            response.records.extend(peer.records(reach).map(|record| Arc::clone(&record.bytes)));
            last = *version;
        }
        (response, looked)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
