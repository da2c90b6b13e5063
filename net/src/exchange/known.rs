//! The peers that this node knows: one book for the whole process, which everybody may read and every connection writes.
//!
//! It outlives the actors and every rollback (R13): what was learned is not configuration. What bounds and filters it is:
//! the network actor sets the members, the peer-store actor `peers.max_known`.

mod kept;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::task::AtomicWaker;
use libp2p::Multiaddr;
use storage::{KnownBound, Members, PeerKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::book::{self, Book, Bringer, Fate, Policy};
use super::correspondents::Correspondents;
use super::figures::Figures;
use super::reach::Reach;
use super::record::{Record, RecordError};
use super::wire::{Digest, Request, Response};
pub use kept::{KnownPeer, Source};

/// Questions that this node has open at one time, to members and to others: a hundred peers that come at once are asked one after
/// another, and what the first has told is not asked of the next.
const QUESTIONS: usize = 4;
/// Between two looks for strangers that are to be forgotten.
const TIDY: Duration = Duration::from_secs(60);

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    bound: KnownBound,
    /// Names this process: versions count within it.
    session: u64,
    /// The book's version.
    changed: watch::Sender<u64>,
    /// The `seq` of this node's own records.
    own: watch::Sender<u64>,
    /// The highest `seq` of this node's own records that others have.
    floor: AtomicU64,
    waker: AtomicWaker,
    /// For members, and for others.
    questions: [Arc<Semaphore>; 2],
    figures: Figures,
}

#[derive(Debug)]
struct State {
    book: Book,
    correspondents: Correspondents,
    /// Members whose addresses have changed since the network last asked: no more than there are members.
    news: BTreeSet<PeerKey>,
    tidied: Option<Instant>,
}

/// Who brings a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Teller {
    /// A peer that speaks of itself, unasked; of nobody else it may.
    Itself(PeerKey),
    /// A peer that was asked whom it knows.
    Other(PeerKey),
}

/// The right to ask a peer: one question at a time to each, and a few in all.
#[derive(Debug)]
pub(crate) struct Question {
    known: Known,
    peer: PeerKey,
    permit: Option<OwnedSemaphorePermit>,
}

// === impl Question ===

impl Drop for Question {
    fn drop(&mut self) {
        self.permit.take();
        self.known.state().correspondents.end(&self.peer);
    }
}

// === impl Inner ===

impl Default for Inner {
    fn default() -> Self {
        let state = State {
            book: Book::new(),
            correspondents: Correspondents::default(),
            news: BTreeSet::new(),
            tidied: None,
        };
        Self {
            state: Mutex::new(state),
            bound: KnownBound::default(),
            // 0 is what somebody says who knows none.
            session: rand::random::<u64>().max(1),
            changed: watch::Sender::default(),
            own: watch::Sender::default(),
            floor: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            questions: std::array::from_fn(|_| Arc::new(Semaphore::new(QUESTIONS))),
            figures: Figures::default(),
        }
    }
}

/// Milliseconds of Unix time.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

// === impl Known ===

impl Known {
    /// The bound on strangers (`peers.max_known`), for the peer-store actor to set. A lower one sheds nobody: from then on one more
    /// takes the place of one.
    #[must_use]
    pub fn bound(&self) -> &KnownBound {
        &self.0.bound
    }

    /// What this peer says of where it is.
    #[must_use]
    pub fn addresses(&self, key: &PeerKey) -> Vec<Multiaddr> {
        self.state().book.get(key).map(book::Peer::addresses).unwrap_or_default()
    }

    /// The figures of peer exchange since start.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// Changes with every change of what is known.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Who is known of whom, from a commit on.
    pub(crate) fn set_members(&self, members: &Arc<Members>, only_members: bool) {
        let mut state = self.state();
        state.book.set_policy(Policy { members: Arc::clone(members), only_members });
        // Of those who were not taken before, somebody may have told.
        state.correspondents.reread();
        drop(state);
        self.publish();
    }

    /// This node's own records now.
    pub(crate) fn set_own(&self, key: PeerKey, seq: u64, records: Vec<Record>) {
        self.state().book.set_own(key, records, unix_ms());
        self.0.own.send_replace(seq);
    }

    pub(crate) fn own(&self) -> watch::Receiver<u64> {
        self.0.own.subscribe()
    }

    /// What this node says of itself over a connection of this reach.
    pub(crate) fn own_records(&self, own: &PeerKey, reach: Reach) -> Vec<Arc<[u8]>> {
        let state = self.state();
        let peer = state.book.get(own);
        peer.into_iter()
            .flat_map(|peer| peer.records(reach))
            .map(|record| Arc::clone(&record.bytes))
            .collect()
    }

    /// The lowest `seq` that others will believe.
    pub(crate) fn floor(&self) -> u64 {
        self.0.floor.load(Ordering::Relaxed)
    }

    /// Judges and takes what came over a connection of this reach. What reaches less far than the connection is passed over: it
    /// means another place here.
    ///
    /// # Errors
    /// If it is no record, or another's where the teller's own was due.
    pub(crate) fn take(
        &self,
        bytes: &[u8],
        teller: Teller,
        reach: Reach,
    ) -> Result<Option<(PeerKey, Fate)>, RecordError> {
        if self.state().book.has(&book::mark(bytes)) {
            return Ok(None);
        }
        // Not under the lock: it takes a tenth of a millisecond.
        let record = Record::open(bytes)?;
        let key = record.key;
        let from = match teller {
            Teller::Itself(teller) if teller != key => return Err(RecordError::Foreign),
            Teller::Other(teller) if teller != key => Bringer::Other(teller),
            Teller::Itself(_) | Teller::Other(_) => Bringer::Itself,
        };
        if record.reach > reach {
            return Ok(None);
        }
        Ok(Some((key, self.learn(record, from))))
    }

    fn learn(&self, record: Record, from: Bringer) -> Fate {
        let (key, seq) = (record.key, record.seq);
        let mut state = self.state();
        let fate = state.book.learn(record, from, unix_ms(), self.0.bound.get());
        if fate == Fate::Taken && state.book.is_member(&key) {
            state.news.insert(key);
        }
        drop(state);
        if fate == Fate::Outrun {
            self.0.floor.fetch_max(seq, Ordering::Relaxed);
            self.0.waker.wake();
        }
        fate
    }

    /// Forgets these, as a person wants it. They may be learned again.
    pub fn forget(&self, keys: &[PeerKey]) {
        let mut state = self.state();
        for key in keys {
            state.book.forget(key);
        }
        drop(state);
        self.publish();
    }

    /// Tells whoever waits that something was taken.
    pub(crate) fn publish(&self) {
        let (version, has_news) = {
            let state = self.state();
            (state.book.version(), !state.news.is_empty())
        };
        self.0.changed.send_if_modified(|old| std::mem::replace(old, version) != version);
        if has_news {
            self.0.waker.wake();
        }
    }

    /// Whom to wake when there is news, or a reason to sign.
    pub(crate) fn watched_by(&self, waker: &Waker) {
        self.0.waker.register(waker);
    }

    /// A member whose addresses have changed.
    pub(crate) fn next_news(&self) -> Option<PeerKey> {
        self.state().news.pop_first()
    }

    /// The members of whom something is known.
    pub(crate) fn members(&self) -> Vec<PeerKey> {
        let state = self.state();
        state.book.peers().map(|(key, _)| *key).filter(|key| state.book.is_member(key)).collect()
    }

    pub(crate) fn is_member(&self, key: &PeerKey) -> bool {
        self.state().book.is_member(key)
    }

    pub(crate) fn connected(&self, key: &PeerKey, is_there: bool) {
        self.state().book.connected(key, is_there, unix_ms());
    }

    pub(crate) fn failed(&self, key: &PeerKey) {
        self.state().book.failed(key);
    }

    /// Forgets who is to be forgotten, from time to time.
    pub(crate) fn tidy(&self) {
        let mut state = self.state();
        let now = Instant::now();
        if state.tidied.is_none_or(|last| now.saturating_duration_since(last) >= TIDY) {
            state.tidied = Some(now);
            state.book.tidy(unix_ms());
        }
        drop(state);
        // It may be time to sign again.
        self.0.waker.wake();
    }

    /// The hash over everything that a connection of this reach carries.
    pub(crate) fn digest(&self, reach: Reach) -> Digest {
        self.state().book.digests(reach, 0).first().copied().unwrap_or_default()
    }

    /// Waits for the right to ask this peer; `None` if it is being asked already.
    pub(crate) async fn question(&self, peer: PeerKey) -> Option<Question> {
        let is_member = {
            let mut state = self.state();
            if !state.correspondents.begin(&peer, Instant::now()) {
                return None;
            }
            state.book.is_member(&peer)
        };
        // Made before it is waited for: whoever waits may be dropped.
        let mut question = Question { known: self.clone(), peer, permit: None };
        let questions = Arc::clone(&self.0.questions[usize::from(!is_member)]);
        // Fails only when it is closed, which nobody does.
        question.permit = questions.acquire_owned().await.ok();
        Some(question)
    }

    /// What to ask a peer. `is_first` on this connection: then with many digests, because much may differ in little.
    pub(crate) fn request(&self, peer: &PeerKey, reach: Reach, number: u32, is_first: bool) -> Request {
        let mut state = self.state();
        if state.book.has_room_again(self.0.bound.get(), Instant::now()) {
            state.correspondents.reread();
        }
        let (session, after) = state.correspondents.ask(peer).unwrap_or_default();
        let depth = match state.book.peers().take(256).count() {
            _ if !is_first && after > 0 => 0,
            0..8 => 0,
            8..256 => 4,
            _ => 8,
        };
        Request { number, reach, session, after, digests: state.book.digests(reach, depth) }
    }

    /// A peer's answer was read to its end.
    pub(crate) fn heard(&self, peer: &PeerKey, session: u64, version: u64) {
        self.state().correspondents.heard(peer, session, version);
    }

    /// Answers a peer. The second value is how many peers were looked at for it.
    pub(crate) fn answer(&self, request: &Request, to: &PeerKey, reach: Reach) -> (Response, usize) {
        let after = if request.session == self.0.session { request.after } else { 0 };
        let (mut response, looked) = self.state().book.answer(request, to, reach.min(request.reach), after);
        response.session = self.0.session;
        (response, looked)
    }

    /// Whether this peer may cause work now.
    pub(crate) fn may(&self, peer: &PeerKey) -> bool {
        self.state().correspondents.may(peer, Instant::now())
    }

    /// It has caused so much.
    pub(crate) fn charge(&self, peer: &PeerKey, bytes: usize) {
        self.state().correspondents.charge(peer, bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
