//! What is kept of each peer that exchanges: how far its answers have been read, and how much it may still ask.

use std::collections::HashMap;
use std::time::Instant;

use storage::PeerKey;

/// Peers of whom that is kept; whoever was quiet longest goes first.
const MAX_PEERS: usize = 4096;
/// What a peer may ask and announce at once, in bytes of work: a full exchange of 10,000 peers is about 2 MB.
pub(super) const WORK: u32 = 8 * 1024 * 1024;
/// What it may in every second besides.
pub(super) const WORK_PER_SECOND: u32 = 64 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Correspondents {
    peers: HashMap<PeerKey, Correspondent>,
}

/// One peer.
#[derive(Debug)]
struct Correspondent {
    /// Of its process, and the version that its last answer had.
    read: Option<(u64, u64)>,
    /// Everything is to be asked for anew since the last question was made: its answer does not count as read.
    is_void: bool,
    /// A question to it is open.
    asking: bool,
    /// Bytes of work that it may still cause; below zero after a large answer.
    left: f64,
    since: Instant,
}

// === impl Correspondents ===

impl Correspondents {
    fn peer(&mut self, key: &PeerKey, now: Instant) -> &mut Correspondent {
        if !self.peers.contains_key(key) && self.peers.len() >= MAX_PEERS {
            let quiet = self.peers.iter().filter(|(_, peer)| !peer.asking);
            let oldest = quiet.min_by_key(|(_, peer)| peer.since).map(|(key, _)| *key);
            // While there are more connections than that, all asking, the newcomer takes anybody's place.
            let oldest = oldest.or_else(|| self.peers.keys().next().copied());
            oldest.and_then(|oldest| self.peers.remove(&oldest));
        }
        self.peers.entry(*key).or_insert_with(|| Correspondent {
            read: None,
            is_void: false,
            asking: false,
            left: f64::from(WORK),
            since: now,
        })
    }

    /// Whether the peer may be asked now; one question at a time, over however many connections.
    pub(crate) fn begin(&mut self, key: &PeerKey, now: Instant) -> bool {
        !std::mem::replace(&mut self.peer(key, now).asking, true)
    }

    /// The question was answered or given up.
    pub(crate) fn end(&mut self, key: &PeerKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.asking = false;
        }
    }

    /// Session and version to ask after, for a question that is made now.
    pub(crate) fn ask(&mut self, key: &PeerKey) -> Option<(u64, u64)> {
        let peer = self.peers.get_mut(key)?;
        peer.is_void = false;
        peer.read
    }

    /// Its answers were read so far.
    pub(crate) fn heard(&mut self, key: &PeerKey, session: u64, version: u64) {
        if let Some(peer) = self.peers.get_mut(key).filter(|peer| !peer.is_void) {
            peer.read = Some((session, version));
        }
    }

    /// Everything is to be asked for anew: other records are taken from now on.
    pub(crate) fn reread(&mut self) {
        for peer in self.peers.values_mut() {
            (peer.read, peer.is_void) = (None, true);
        }
    }

    /// Whether the peer may cause work now.
    pub(crate) fn may(&mut self, key: &PeerKey, now: Instant) -> bool {
        let peer = self.peer(key, now);
        let earned = now.saturating_duration_since(peer.since).as_secs_f64() * f64::from(WORK_PER_SECOND);
        peer.left = (peer.left + earned).min(f64::from(WORK));
        peer.since = now;
        peer.left > 0.0
    }

    /// It has caused so much.
    pub(crate) fn charge(&mut self, key: &PeerKey, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.left -= f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Identity;

    #[test]
    fn whoever_asks_too_often_has_to_wait_and_nobody_else() {
        let (mut all, now) = (Correspondents::default(), Instant::now());
        let [greedy, modest] = [0, 1].map(|_| Identity::generate().public_key());
        let mut asked = 0;
        while all.may(&greedy, now) {
            all.charge(&greedy, 64 * 1024);
            asked += 1;
        }
        assert_eq!(asked, WORK / (64 * 1024));
        assert!(all.may(&modest, now));
        assert!(!all.may(&greedy, now));
        assert!(all.may(&greedy, now + Duration::from_secs(2)));
        // Its time does not add up for ever.
        let later = now + Duration::from_secs(1_000_000);
        assert!(all.may(&greedy, later));
        all.charge(&greedy, WORK as usize);
        assert!(!all.may(&greedy, later));
    }

    #[test]
    fn one_question_at_a_time_and_a_bound_on_whom_is_remembered() {
        let (mut all, now) = (Correspondents::default(), Instant::now());
        let peer = Identity::generate().public_key();
        assert!(all.begin(&peer, now));
        assert!(!all.begin(&peer, now));
        all.heard(&peer, 7, 9);
        all.end(&peer);
        assert!(all.begin(&peer, now));
        assert_eq!(all.ask(&peer), Some((7, 9)));
        // Of an answer that was on its way when all was to be asked for anew, a part was judged by what held before.
        all.reread();
        all.heard(&peer, 7, 10);
        assert_eq!(all.ask(&peer), None);
        all.heard(&peer, 7, 9);
        for _ in 0..MAX_PEERS + 8 {
            all.may(&Identity::generate().public_key(), now + Duration::from_secs(1));
        }
        assert_eq!(all.peers.len(), MAX_PEERS);
        assert_eq!(all.ask(&peer), Some((7, 9)), "while it is asked it is not forgotten");
    }
}
