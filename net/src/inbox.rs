//! Messages that have arrived: who gets them, what waits for a reader or for one that comes back, and what each sender has
//! sent so far.
//!
//! Lives longer than the protocol actor, so that neither a reload nor the actor's replacement loses a message (R13).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use storage::PeerKey;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::RateLimit;
use crate::outbox;
use crate::wire::{Message, Status};

/// How many messages wait while nobody reads.
pub const INBOX_MESSAGES: usize = 1024;
/// How many bytes wait while nobody reads.
pub const INBOX_BYTES: usize = 16 * 1024 * 1024;
/// How many messages one subscriber may be behind, besides what the inbox held for it.
const BEHIND: usize = 256;
/// How many bytes one subscriber may be behind, besides what the inbox held for it; one larger message may wait alone.
const BEHIND_BYTES: usize = 32 * 1024 * 1024;
/// How long a subscriber may stop the stream of a sender before it is cut off.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many sessions of a sender are remembered: one that ends and one that begins.
const SESSIONS: usize = 2;
/// Of how many senders the state is kept; beyond, the one that was quiet longest is forgotten.
const MAX_SENDERS: usize = 4096;

/// A message that has arrived.
#[derive(Debug)]
pub struct Received {
    /// Counts up from 1 in the life of the process, in the order in which subscribers get the messages.
    pub id: u64,
    /// Who sent it, as the connection's handshake proved.
    pub from: PeerKey,
    /// What the sender said it is.
    pub content_type: Option<String>,
    /// The payload.
    pub data: Vec<u8>,
}

/// The messages that one subscriber gets. Ends when it is cut off.
#[derive(Debug)]
pub struct Subscription(mpsc::Receiver<Delivery>);

/// A message on its way to one subscriber, with its share of what that one may be behind.
type Delivery = (Arc<Received>, OwnedSemaphorePermit);

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    readers: Mutex<Readers>,
    senders: Mutex<HashMap<PeerKey, Known>>,
    patience: Duration,
}

#[derive(Debug, Default)]
struct Readers {
    /// The id of the newest message.
    newest: u64,
    subscribers: Vec<Subscriber>,
    waiting: VecDeque<Arc<Received>>,
    waiting_bytes: usize,
}

/// Where a subscriber's messages go in.
#[derive(Clone, Debug)]
struct Subscriber {
    line: mpsc::Sender<Delivery>,
    /// The bytes that it may still be behind. Its own, so that one who does not read takes nothing from the others.
    room: Arc<Semaphore>,
}

/// A sender, and when it last sent.
type Known = (Instant, Arc<AsyncMutex<Sender>>);

/// What is remembered of one sender.
#[derive(Debug)]
struct Sender {
    /// The newest last. A connection of the process before may still have something to say when its successor has begun.
    sessions: VecDeque<Session>,
    bucket: Bucket,
}

/// What a sender's process has sent.
#[derive(Debug)]
struct Session {
    id: u64,
    last: u64,
    /// The fate of the newest messages: as many as a sender may have unanswered.
    recent: VecDeque<(u64, Status)>,
}

/// A token bucket (`protocol.rate_limit`).
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// What became of a try to hand a message out.
enum Placed {
    Done(Status),
    /// The readers changed meanwhile.
    Again(Message),
}

// === impl Subscription ===

impl Subscription {
    /// The next message; `None` for a subscriber that was cut off, when it has read what it had.
    pub async fn recv(&mut self) -> Option<Arc<Received>> {
        self.0.recv().await.map(|(message, _room)| message)
    }

    /// The next message, if it is there.
    ///
    /// # Errors
    /// If there is none now, or none to come.
    pub fn try_recv(&mut self) -> Result<Arc<Received>, TryRecvError> {
        self.0.try_recv().map(|(message, _room)| message)
    }
}

// === impl Subscriber ===

impl Subscriber {
    fn new() -> (Self, Subscription) {
        // Longer than the inbox, in both measures.
        let (line, messages) = mpsc::channel(INBOX_MESSAGES + BEHIND);
        let room = Arc::new(Semaphore::new(INBOX_BYTES + BEHIND_BYTES));
        (Self { line, room }, Subscription(messages))
    }

    fn weight(bytes: usize) -> u32 {
        u32::try_from(bytes.min(BEHIND_BYTES)).unwrap_or(u32::MAX)
    }

    /// Waits for room for a message of so many bytes. `None` if nobody reads any more.
    async fn reserve(&self, bytes: usize) -> Option<(mpsc::Permit<'_, Delivery>, OwnedSemaphorePermit)> {
        let place = self.line.reserve().await.ok()?;
        let room = Arc::clone(&self.room).acquire_many_owned(Self::weight(bytes)).await.ok()?;
        Some((place, room))
    }

    /// Gives it a message that has waited for a reader.
    fn catch_up(&self, message: Arc<Received>) {
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(Self::weight(message.data.len())) {
            let _ = self.line.try_send((message, room));
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.line.same_channel(&other.line)
    }
}

// === impl Inbox ===

impl Inbox {
    pub(crate) fn new() -> Self {
        Self::with_patience(PATIENCE)
    }

    fn with_patience(patience: Duration) -> Self {
        Self { patience, readers: Mutex::default(), senders: Mutex::default() }
    }

    /// A new reader, which first gets what waited for one. It gets every message from now on; one that stops reading is
    /// cut off.
    pub(crate) fn subscribe(&self) -> Subscription {
        let (subscriber, subscription) = Subscriber::new();
        let mut readers = self.readers();
        readers.waiting_bytes = 0;
        for message in std::mem::take(&mut readers.waiting) {
            subscriber.catch_up(message);
        }
        readers.subscribers.retain(|other| !other.line.is_closed());
        readers.subscribers.push(subscriber);
        subscription
    }

    /// Takes in a message of a sender's session. Answers a repeated one as it was answered first.
    pub(crate) async fn accept(
        &self,
        from: PeerKey,
        session: u64,
        message: Message,
        limit: RateLimit,
    ) -> Status {
        let sequence = message.sequence;
        let sender = self.sender(from, limit);
        // Held to the end: of two streams of one sender, the second waits for what the first is about to say.
        let mut sender = sender.lock().await;
        if let Some(status) = sender.session(session).seen(sequence) {
            return status;
        }
        let status = if sender.bucket.take(limit, Instant::now()) {
            self.place(from, message).await
        } else {
            Status::RateLimited
        };
        sender.session(session).record(sequence, status);
        status
    }

    /// Takes note of a message that was too large to be kept.
    pub(crate) async fn refuse(
        &self,
        from: PeerKey,
        session: u64,
        sequence: u64,
        limit: RateLimit,
    ) -> Status {
        let sender = self.sender(from, limit);
        let mut sender = sender.lock().await;
        let session = sender.session(session);
        session.seen(sequence).unwrap_or_else(|| {
            session.record(sequence, Status::TooLarge);
            Status::TooLarge
        })
    }

    async fn place(&self, from: PeerKey, mut message: Message) -> Status {
        loop {
            match self.hand_out(from, message).await {
                Placed::Done(status) => return status,
                Placed::Again(back) => message = back,
            }
        }
    }

    /// Waits for room at every subscriber, then gives the message to all at once: a caller that is dropped while it waits
    /// has delivered nothing.
    async fn hand_out(&self, from: PeerKey, message: Message) -> Placed {
        let subscribers = self.readers().subscribers.clone();
        let mut permits = Vec::with_capacity(subscribers.len());
        let by = tokio::time::Instant::now() + self.patience;
        for subscriber in &subscribers {
            match tokio::time::timeout_at(by, subscriber.reserve(message.data.len())).await {
                Ok(Some(permit)) => permits.push(permit),
                Ok(None) => {}
                Err(_slow) => {
                    tracing::warn!("a subscriber of direct messages does not read and was cut off");
                    self.readers().subscribers.retain(|other| !other.is(subscriber));
                }
            }
        }
        let mut readers = self.readers();
        readers.subscribers.retain(|other| !other.line.is_closed());
        if permits.is_empty() && readers.subscribers.is_empty() {
            return Placed::Done(readers.keep(from, message));
        }
        let complete = readers.subscribers.len() == permits.len()
            && readers.subscribers.iter().all(|s| subscribers.iter().any(|known| known.is(s)));
        if !complete {
            return Placed::Again(message);
        }
        let received = readers.number(from, message);
        for (place, room) in permits {
            place.send((Arc::clone(&received), room));
        }
        Placed::Done(Status::Accepted)
    }

    fn sender(&self, from: PeerKey, limit: RateLimit) -> Arc<AsyncMutex<Sender>> {
        let now = Instant::now();
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((used, sender)) = senders.get_mut(&from) {
            *used = now;
            return Arc::clone(sender);
        }
        if senders.len() >= MAX_SENDERS
            && let Some(quietest) = senders.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key)
        {
            senders.remove(&quietest);
        }
        let sender = Arc::new(AsyncMutex::new(Sender::new(limit, now)));
        senders.insert(from, (now, Arc::clone(&sender)));
        sender
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Readers ===

impl Readers {
    fn keep(&mut self, from: PeerKey, message: Message) -> Status {
        let bytes = self.waiting_bytes.saturating_add(message.data.len());
        if self.waiting.len() >= INBOX_MESSAGES || bytes > INBOX_BYTES {
            return Status::InboxFull;
        }
        self.waiting_bytes = bytes;
        let received = self.number(from, message);
        self.waiting.push_back(received);
        Status::Accepted
    }

    fn number(&mut self, from: PeerKey, message: Message) -> Arc<Received> {
        self.newest = self.newest.saturating_add(1);
        let Message { content_type, data, .. } = message;
        Arc::new(Received { id: self.newest, from, content_type, data })
    }
}

// === impl Sender ===

impl Sender {
    fn new(limit: RateLimit, now: Instant) -> Self {
        let bucket = Bucket { tokens: f64::from(limit.burst), at: now };
        Self { sessions: VecDeque::new(), bucket }
    }

    /// One that is not known takes the place of the oldest.
    fn session(&mut self, id: u64) -> &mut Session {
        let known = self.sessions.iter().position(|session| session.id == id);
        let index = known.unwrap_or_else(|| {
            if self.sessions.len() >= SESSIONS {
                self.sessions.pop_front();
            }
            self.sessions.push_back(Session { id, last: 0, recent: VecDeque::new() });
            self.sessions.len().saturating_sub(1)
        });
        &mut self.sessions[index]
    }
}

// === impl Session ===

impl Session {
    /// The answer to a message that came before; `None` for a new one.
    fn seen(&self, sequence: u64) -> Option<Status> {
        if sequence > self.last {
            return None;
        }
        let known = self.recent.iter().find(|(number, _)| *number == sequence);
        Some(known.map_or(Status::Refused, |(_, status)| *status))
    }

    fn record(&mut self, sequence: u64, status: Status) {
        self.last = sequence;
        if self.recent.len() >= outbox::MAX_MESSAGES {
            self.recent.pop_front();
        }
        self.recent.push_back((sequence, status));
    }
}

// === impl Bucket ===

impl Bucket {
    fn take(&mut self, limit: RateLimit, now: Instant) -> bool {
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * limit.messages_per_second;
        // A lower burst counts at once, for what is in the bucket too.
        self.tokens = (self.tokens + filled).min(f64::from(limit.burst));
        self.at = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests;
