//! How far this node's own messages may run ahead of those who receive them.
//!
//! Gossipsub puts a message into a queue for each peer and drops it where that is full; it tells nobody, and nothing can look
//! into the queue. So each of our nodes says how far it has come with an author's messages ([`super::receipts`]), and the author
//! waits where a peer is behind: what is put into the queues fits in.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use tokio::sync::watch;

/// How many messages may be on the way to one peer. Together with what it passes on of others, far less than a queue holds.
const WINDOW: usize = 1024;
/// How many bytes may be on the way to one peer; one larger message may be alone. A link of 1 Gbit/s and 100 ms holds 12 MiB.
const WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// For so long an author waits for a peer that takes nothing; then it is left behind: it gets nothing of this node's any more
/// until it has taken what it was sent, or it is tried again after as long, and twice as long each time. (What it was sent may have
/// been lost with a stream that broke.) Longer than a node is patient with readers of its own.
const PATIENCE: Duration = Duration::from_secs(8);
/// The longest pause until then.
const LONGEST: Duration = Duration::from_secs(600);

/// See the module. Cheap to clone; an entry for each peer that is connected.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow(Arc<Mutex<HashMap<PeerId, Peer>>>);

#[derive(Debug)]
struct Peer {
    connections: usize,
    /// It says how far it is.
    tells: bool,
    /// What is on its way to it: numbers and sizes.
    sent: VecDeque<(u64, usize)>,
    bytes: usize,
    /// When something was last taken, or began to be waited for.
    progress: Instant,
    /// It is left behind, and tried again then.
    again: Option<Instant>,
    pause: Duration,
    /// How far we are with its messages.
    taken: watch::Sender<u64>,
}

// === impl Flow ===

impl Flow {
    /// A connection to this peer is about to be: gives what is to be told on it.
    pub(super) fn watch(&self, peer: PeerId) -> watch::Receiver<u64> {
        let mut peers = self.peers();
        // Of connections that came to nothing after all, something may be left: bounded by the peers that ever connect.
        peers.retain(|other, known| {
            *other == peer || known.connections > 0 || known.taken.receiver_count() > 0
        });
        peers.entry(peer).or_insert_with(Peer::new).taken.subscribe()
    }

    pub(super) fn connected(&self, peer: PeerId) {
        let mut peers = self.peers();
        let peer = peers.entry(peer).or_insert_with(Peer::new);
        peer.connections = peer.connections.saturating_add(1);
    }

    pub(super) fn disconnected(&self, peer: &PeerId) {
        let mut peers = self.peers();
        if let Some(known) = peers.get_mut(peer) {
            known.connections = known.connections.saturating_sub(1);
            // Of what was on its way, something may be lost.
            known.begin_anew();
            if known.connections == 0 {
                peers.remove(peer);
            }
        }
    }

    /// The peer says how far it is. 0 is its first word, before it has taken anything.
    pub(super) fn told(&self, peer: &PeerId, number: u64) {
        if let Some(peer) = self.peers().get_mut(peer) {
            peer.told(number);
        }
    }

    /// Whether this peer is connected, or about to be.
    pub(super) fn knows(&self, peer: &PeerId) -> bool {
        self.peers().contains_key(peer)
    }

    /// We have taken a message of this peer.
    pub(super) fn taken(&self, author: &PeerId, number: u64) {
        if let Some(peer) = self.peers().get(author) {
            peer.taken.send_if_modified(|taken| {
                let further = number > *taken;
                *taken = number.max(*taken);
                further
            });
        }
    }

    /// Whether one of these peers has so much on its way that it must be waited for.
    pub(super) fn is_full(&self, to: &[PeerId], now: Instant) -> bool {
        let mut peers = self.peers();
        to.iter().any(|peer| peers.get_mut(peer).is_some_and(|peer| peer.is_full(now)))
    }

    /// Those who take nothing. To be asked from time to time.
    pub(super) fn left_behind(&self, now: Instant) -> Vec<PeerId> {
        let mut peers = self.peers();
        for peer in peers.values_mut().filter(|peer| peer.again.is_some_and(|again| again <= now)) {
            peer.begin_anew();
        }
        peers.iter().filter(|(_, known)| known.again.is_some()).map(|(peer, _)| *peer).collect()
    }

    /// A message was put into the queues of these peers.
    pub(super) fn sent(&self, to: &[PeerId], number: u64, bytes: usize, now: Instant) {
        let mut peers = self.peers();
        for peer in to {
            if let Some(peer) = peers.get_mut(peer) {
                peer.sent(number, bytes, now);
            }
        }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<PeerId, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Peer ===

impl Peer {
    fn new() -> Self {
        Self {
            connections: 0,
            tells: false,
            sent: VecDeque::new(),
            bytes: 0,
            progress: Instant::now(),
            again: None,
            pause: PATIENCE,
            taken: watch::Sender::new(0),
        }
    }

    fn told(&mut self, number: u64) {
        self.tells = true;
        while let Some((_, bytes)) = self.sent.pop_front_if(|(sent, _)| *sent <= number) {
            self.bytes = self.bytes.saturating_sub(bytes);
            self.progress = Instant::now();
        }
        if self.sent.is_empty() {
            (self.again, self.pause) = (None, PATIENCE);
        }
    }

    fn begin_anew(&mut self) {
        self.sent.clear();
        (self.bytes, self.again) = (0, None);
    }

    fn is_full(&mut self, now: Instant) -> bool {
        if !self.tells || self.again.is_some() || (self.sent.len() < WINDOW && self.bytes < WINDOW_BYTES) {
            return false;
        }
        if now.saturating_duration_since(self.progress) >= PATIENCE {
            self.again = Some(now + self.pause);
            self.pause = self.pause.saturating_mul(2).min(LONGEST);
        }
        self.again.is_none()
    }

    fn sent(&mut self, number: u64, bytes: usize, now: Instant) {
        if !self.tells || self.again.is_some() {
            return;
        }
        if self.sent.is_empty() {
            self.progress = now;
        }
        self.sent.push_back((number, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> (Flow, PeerId) {
        let (flow, peer) = (Flow::default(), PeerId::random());
        let _told = flow.watch(peer);
        flow.connected(peer);
        flow.told(&peer, 0);
        (flow, peer)
    }

    fn fill(flow: &Flow, peer: PeerId, now: Instant) -> u64 {
        (1..)
            .find(|number| {
                flow.sent(&[peer], *number, 1, now);
                flow.is_full(&[peer], now)
            })
            .unwrap()
    }

    #[test]
    fn an_author_waits_for_a_peer_that_is_behind() {
        let (flow, peer) = flow();
        let now = Instant::now();
        assert_eq!(fill(&flow, peer, now), WINDOW as u64);
        flow.told(&peer, 1);
        assert!(!flow.is_full(&[peer], now));
        flow.told(&peer, 1);
        flow.sent(&[peer], WINDOW as u64 + 1, 1, now);
        assert!(flow.is_full(&[peer], now), "the same word twice makes no room");
        flow.sent(&[peer], WINDOW as u64 + 2, WINDOW_BYTES, now);
        flow.told(&peer, WINDOW as u64 + 1);
        assert!(flow.is_full(&[peer], now), "bytes count too");
    }

    #[test]
    fn a_peer_that_takes_nothing_holds_nobody_up_for_long() {
        let (flow, peer) = flow();
        let now = Instant::now();
        let last = fill(&flow, peer, now);
        assert!(!flow.is_full(&[peer], now + PATIENCE), "given up");
        for number in 1..10_000 {
            flow.sent(&[peer], last + number, 1, now);
            assert!(!flow.is_full(&[peer], now));
        }
        assert_eq!(flow.peers()[&peer].sent.len(), WINDOW, "and what is remembered of it is bounded");
        let at = now + PATIENCE;
        assert_eq!(flow.left_behind(at), [peer]);
        flow.told(&peer, last);
        assert!(flow.left_behind(at).is_empty());
        assert_eq!(fill(&flow, peer, now), WINDOW as u64, "it has caught up, and is waited for again");
    }

    #[test]
    fn a_peer_that_was_left_behind_is_tried_again_less_and_less_often() {
        let (flow, peer) = flow();
        let mut now = Instant::now();
        for pause in [PATIENCE, 2 * PATIENCE, 4 * PATIENCE] {
            fill(&flow, peer, now);
            now += PATIENCE;
            // From the last progress, which is the real clock's.
            assert!(!flow.is_full(&[peer], now + PATIENCE));
            now += PATIENCE;
            assert_eq!(flow.left_behind(now + pause / 2), [peer]);
            now += pause;
            assert!(flow.left_behind(now).is_empty());
        }
    }

    #[test]
    fn what_went_with_a_connection_is_not_waited_for() {
        let (flow, peer) = flow();
        let now = Instant::now();
        flow.connected(peer);
        fill(&flow, peer, now);
        flow.disconnected(&peer);
        assert!(!flow.is_full(&[peer], now));
        assert_eq!(fill(&flow, peer, now), WINDOW as u64, "by the other one, it is");
    }

    #[test]
    fn a_peer_that_tells_nothing_is_not_waited_for() {
        let (flow, peer, now) = (Flow::default(), PeerId::random(), Instant::now());
        flow.connected(peer);
        for number in 1..10_000 {
            flow.sent(&[peer], number, 1, now);
            assert!(!flow.is_full(&[peer], now));
        }
        flow.disconnected(&peer);
        assert!(flow.peers().is_empty());
    }
}
