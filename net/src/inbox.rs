//! Messages that have arrived: who gets them, what waits for a reader or for one that comes back, and what each sender has
//! sent so far.
//!
//! Lives longer than the protocol actor, so that neither a reload nor the actor's replacement loses a message (R13).

mod sender;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use storage::PeerKey;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::RateLimit;
use crate::wire::{Message, Status};
pub(crate) use sender::Bucket;
use sender::Sender;

/// How many messages are kept: what waits while nobody reads, and what was handed out last.
pub const INBOX_MESSAGES: usize = 1024;
/// How many bytes are kept.
pub const INBOX_BYTES: usize = 16 * 1024 * 1024;
/// Of what waits for a reader, one sender may have so many quarters: one that floods leaves something for the others.
const OF_ONE: usize = 3;
/// And all that are no members together.
const OF_STRANGERS: usize = 1;
/// How many messages one subscriber may be behind, besides what the inbox had for it.
const BEHIND: usize = 256;
/// How many bytes one subscriber may be behind, besides what the inbox had for it; one larger message may wait alone.
const BEHIND_BYTES: usize = 32 * 1024 * 1024;
/// How long a subscriber may stop the stream of a sender before it is cut off.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of how many senders the state is kept; beyond, the one that was quiet longest is forgotten.
const MAX_SENDERS: usize = 4096;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) key: PeerKey,
    pub(crate) is_member: bool,
}

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
    /// The sender was a member then.
    of_member: bool,
    /// Some subscriber has passed it on.
    taken: AtomicBool,
}

/// The messages that one subscriber gets. Ends when it is cut off.
#[derive(Debug)]
pub struct Subscription {
    line: mpsc::Receiver<Delivery>,
    /// Given out last, and not known yet to have reached anybody.
    last: Option<Arc<Received>>,
}

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
    kept: Kept,
}

/// The newest messages, in the order of their ids: at most [`INBOX_MESSAGES`] and [`INBOX_BYTES`].
#[derive(Debug, Default)]
struct Kept {
    messages: VecDeque<Arc<Received>>,
    bytes: usize,
}

/// Where a subscriber's messages go in.
#[derive(Clone, Debug)]
struct Subscriber {
    line: mpsc::Sender<Delivery>,
    /// The bytes that it may still be behind. Its own, so that one who does not read takes nothing from the others.
    room: Arc<Semaphore>,
}

/// A sender.
#[derive(Debug)]
struct Known {
    /// Strangers are forgotten first: whoever makes up names by the thousand must not make a member's messages be forgotten.
    is_member: bool,
    /// When it last sent.
    used: Instant,
    sender: Arc<AsyncMutex<Sender>>,
}

/// What became of a try to hand a message out.
enum Placed {
    Done(Status),
    /// The readers changed meanwhile.
    Again(Message),
}

// === impl Subscription ===

impl Subscription {
    /// The next message; `None` for a subscriber that was cut off, when it has read what it had. To ask for the next one says
    /// that the one before was passed on; whoever is dropped instead leaves that one to the next subscriber.
    pub async fn recv(&mut self) -> Option<Arc<Received>> {
        if self.last.is_some() {
            // The caller writes what it has been given when it is told to wait: if nobody is at the other end any more, it is
            // dropped in this very moment.
            tokio::task::yield_now().await;
            self.passed_on();
        }
        let (message, _room) = self.line.recv().await?;
        self.last = Some(Arc::clone(&message));
        Some(message)
    }

    /// The next message, if it is there.
    ///
    /// # Errors
    /// If there is none now, or none to come.
    pub fn try_recv(&mut self) -> Result<Arc<Received>, TryRecvError> {
        self.passed_on();
        let (message, _room) = self.line.try_recv()?;
        self.last = Some(Arc::clone(&message));
        Ok(message)
    }

    fn passed_on(&mut self) {
        if let Some(message) = self.last.take() {
            message.taken.store(true, Ordering::Relaxed);
        }
    }
}

// === impl Subscriber ===

impl Subscriber {
    fn new() -> (Self, Subscription) {
        // Longer than the inbox, in both measures.
        let (line, messages) = mpsc::channel(INBOX_MESSAGES + BEHIND);
        let room = Arc::new(Semaphore::new(INBOX_BYTES + BEHIND_BYTES));
        (Self { line, room }, Subscription { line: messages, last: None })
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

    /// Gives it a message that was kept.
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

    /// A new reader. It first gets what waits for one, and what is kept of the messages after the one that it names as its
    /// last; then every message from now on. One that stops reading is cut off.
    pub(crate) fn subscribe(&self, after: Option<u64>) -> Subscription {
        let (subscriber, subscription) = Subscriber::new();
        let mut readers = self.readers();
        // First: what those who left have not read waits for a reader again when their channels are gone.
        readers.subscribers.retain(|other| !other.line.is_closed());
        let after = match after {
            // Named in an earlier life of the process: everything is new.
            Some(id) if id > readers.newest => 0,
            Some(id) => id,
            None => u64::MAX,
        };
        for message in &mut readers.kept.messages {
            if message.id == after {
                // Whoever names it has it.
                message.taken.store(true, Ordering::Relaxed);
            } else if message.id > after || waits(message) {
                subscriber.catch_up(Arc::clone(message));
            }
        }
        readers.subscribers.push(subscriber);
        subscription
    }

    /// Takes in a message of a sender's session. Answers a repeated one as it was answered first.
    pub(crate) async fn accept(
        &self,
        from: Origin,
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
    pub(crate) async fn refuse(&self, from: Origin, session: u64, sequence: u64, limit: RateLimit) -> Status {
        let sender = self.sender(from, limit);
        let mut sender = sender.lock().await;
        let session = sender.session(session);
        session.seen(sequence).unwrap_or_else(|| {
            session.record(sequence, Status::TooLarge);
            Status::TooLarge
        })
    }

    async fn place(&self, from: Origin, mut message: Message) -> Status {
        loop {
            match self.hand_out(from, message).await {
                Placed::Done(status) => return status,
                Placed::Again(back) => message = back,
            }
        }
    }

    /// Waits for room at every subscriber, then gives the message to all at once: a caller that is dropped while it waits
    /// has delivered nothing.
    async fn hand_out(&self, from: Origin, message: Message) -> Placed {
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
        if readers.kept.make_room(received.data.len()) {
            readers.kept.push(received);
        }
        Placed::Done(Status::Accepted)
    }

    fn sender(&self, from: Origin, limit: RateLimit) -> Arc<AsyncMutex<Sender>> {
        let now = Instant::now();
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = senders.get_mut(&from.key) {
            (known.used, known.is_member) = (now, from.is_member);
            return Arc::clone(&known.sender);
        }
        if senders.len() >= MAX_SENDERS {
            let least = senders.iter().min_by_key(|(_, known)| (known.is_member, known.used));
            if let Some(key) = least.map(|(key, _)| *key) {
                senders.remove(&key);
            }
        }
        let sender = Arc::new(AsyncMutex::new(Sender::new(limit, now)));
        let known = Known { is_member: from.is_member, used: now, sender: Arc::clone(&sender) };
        senders.insert(from.key, known);
        sender
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Readers ===

impl Readers {
    fn keep(&mut self, from: Origin, message: Message) -> Status {
        let bytes = message.data.len();
        if !self.kept.has_share(from, bytes) || !self.kept.make_room(bytes) {
            return Status::InboxFull;
        }
        let received = self.number(from, message);
        self.kept.push(received);
        Status::Accepted
    }

    fn number(&mut self, from: Origin, message: Message) -> Arc<Received> {
        self.newest = self.newest.saturating_add(1);
        let Message { content_type, data, .. } = message;
        Arc::new(Received {
            id: self.newest,
            from: from.key,
            content_type,
            data,
            of_member: from.is_member,
            taken: AtomicBool::new(false),
        })
    }
}

// === impl Kept ===

impl Kept {
    /// Whether this sender may have one more message of so many bytes wait for a reader.
    fn has_share(&mut self, from: Origin, bytes: usize) -> bool {
        // With this one.
        let (mut own, mut own_bytes) = (1_usize, bytes);
        let (mut strange, mut strange_bytes) = (1_usize, bytes);
        for message in self.messages.iter_mut().filter_map(|message| waits(message).then_some(&**message)) {
            if message.from == from.key {
                own = own.saturating_add(1);
                own_bytes = own_bytes.saturating_add(message.data.len());
            }
            if !message.of_member {
                strange = strange.saturating_add(1);
                strange_bytes = strange_bytes.saturating_add(message.data.len());
            }
        }
        let within = |count: usize, bytes: usize, quarters: usize| {
            count <= INBOX_MESSAGES / 4 * quarters && bytes <= INBOX_BYTES / 4 * quarters
        };
        within(own, own_bytes, OF_ONE) && (from.is_member || within(strange, strange_bytes, OF_STRANGERS))
    }

    /// Forgets the oldest messages that wait for nobody until one of so many bytes fits in. False if it cannot.
    fn make_room(&mut self, bytes: usize) -> bool {
        if bytes > INBOX_BYTES {
            return false;
        }
        while self.messages.len() >= INBOX_MESSAGES || self.bytes.saturating_add(bytes) > INBOX_BYTES {
            let dispensable = self.messages.iter_mut().position(|message| !waits(message));
            let Some(message) = dispensable.and_then(|index| self.messages.remove(index)) else {
                return false;
            };
            self.bytes = self.bytes.saturating_sub(message.data.len());
        }
        true
    }

    fn push(&mut self, message: Arc<Received>) {
        self.bytes = self.bytes.saturating_add(message.data.len());
        self.messages.push_back(message);
    }
}

/// Whether a message that is kept has not been read, and no subscriber has it in its channel: nobody has read it, or will.
fn waits(message: &mut Arc<Received>) -> bool {
    // Nobody else has a share of it. (Not the bare count: this sees what those did who let go of theirs.)
    Arc::get_mut(message).is_some_and(|message| !*message.taken.get_mut())
}

#[cfg(test)]
mod tests;
