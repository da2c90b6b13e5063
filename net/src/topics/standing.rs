//! What this node holds against a neighbour besides what gossipsub does: that it takes nothing, or brings more than it may.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// Whoever takes nothing is not published to and leaves the mesh, so that its queue grows no more; what it writes still counts.
/// (Between gossipsub's thresholds for the two, see [`super::terms`].)
const STANDS_STILL: f64 = -250.0;
/// What is held against a stranger for each message that it brought and was not to: after 8000 of them nothing of it is read any
/// more, which costs less than to find that out for each. Members are forgiven: their limits may differ from ours for a moment.
const TOO_MUCH: f64 = -0.05;
/// Messages after which the score is set anew.
const STEP: u32 = 100;
/// After so long, half of them are forgotten.
const HALF: Duration = Duration::from_secs(10);

/// See the module. An entry for each neighbour that something is held against.
#[derive(Debug)]
pub(super) struct Standing {
    peers: HashMap<PeerId, Marks>,
    halved: Instant,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    excess: u32,
    still: bool,
}

/// Scores that are other ones now.
pub(super) type Scores = Vec<(PeerId, f64)>;

// === impl Marks ===

impl Marks {
    fn score(self) -> f64 {
        f64::from(self.excess) * TOO_MUCH + if self.still { STANDS_STILL } else { 0.0 }
    }
}

// === impl Standing ===

impl Standing {
    pub(super) fn new(now: Instant) -> Self {
        Self { peers: HashMap::new(), halved: now }
    }

    /// A stranger brought a message that it was not to bring. Gives its score if that is due.
    pub(super) fn exceeded(&mut self, peer: PeerId) -> Option<f64> {
        let marks = self.peers.entry(peer).or_default();
        marks.excess = marks.excess.saturating_add(1);
        marks.excess.is_multiple_of(STEP).then(|| marks.score())
    }

    /// From time to time: these take nothing, and others have done better.
    pub(super) fn review(&mut self, still: &[PeerId], now: Instant) -> Scores {
        let before = self.peers.clone();
        for marks in self.peers.values_mut() {
            marks.still = false;
        }
        for peer in still {
            self.peers.entry(*peer).or_default().still = true;
        }
        if now.saturating_duration_since(self.halved) >= HALF {
            self.halved = now;
            for marks in self.peers.values_mut() {
                marks.excess /= 2;
            }
        }
        let differ = self.peers.iter().filter(|(peer, marks)| before.get(*peer) != Some(*marks));
        let scores = differ.map(|(peer, marks)| (*peer, marks.score())).collect();
        self.peers.retain(|_, marks| *marks != Marks::default());
        scores
    }

    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_that_floods_is_ignored_until_it_stops() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut standing = Standing::new(now);
        let scores: Vec<_> = (0..8000).filter_map(|_| standing.exceeded(peer)).collect();
        assert_eq!((scores.len(), scores.last()), (80, Some(&-400.0)));
        assert!(standing.review(&[], now).is_empty());
        for (round, expected) in [(1, -200.0), (2, -100.0), (3, -50.0)] {
            assert_eq!(standing.review(&[], now + round * HALF), [(peer, expected)]);
        }
        for round in 4..20 {
            standing.review(&[], now + round * HALF);
        }
        assert!(standing.peers.is_empty(), "forgotten");
    }

    #[test]
    fn a_peer_that_takes_nothing_is_told_once_and_when_it_takes_again() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut standing = Standing::new(now);
        assert_eq!(standing.review(&[peer], now), [(peer, STANDS_STILL)]);
        assert!(standing.review(&[peer], now).is_empty());
        assert_eq!(standing.review(&[], now), [(peer, 0.0)]);
        assert!(standing.peers.is_empty());
    }
}
