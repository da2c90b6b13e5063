//! The post office between the protocol actor and the connections: outboxes, inbox, and the settings that both read.
//!
//! A message goes from its sender into the peer's outbox and from there to the connection's own task, and back the same
//! way: no actor's mailbox lies between, so that a reload of the network holds up no message (R11).

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::watch;

use crate::inbox::{Inbox, Origin, Subscription};
use crate::outbox::{Answer, Outbox, SendError, Ticket};
use crate::wire::{self, Message, Status};
use crate::{ProtocolSection, RateLimit};

/// What connections read of the protocol's section, at every message or whenever it changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Between pings.
    pub ping_interval: Duration,
    /// The largest message, in bytes; never above [`wire::MAX_DATA`].
    pub max_message_size: usize,
    /// How much one peer may send.
    pub rate_limit: RateLimit,
    /// Between peer exchanges.
    pub exchange_interval: Duration,
}

/// The post office. Cheap to clone; outlives both actors.
#[derive(Clone, Debug)]
pub struct Post(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Names this process to its peers: sequence numbers count within it.
    session: u64,
    /// The next sequence number, of whatever outbox.
    numbers: Arc<AtomicU64>,
    settings: watch::Sender<Settings>,
    outboxes: Mutex<HashMap<PeerId, Arc<Outbox>>>,
    inbox: Inbox,
}

/// A message that was put in line: its place there, and the answer to come.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) ticket: Ticket,
    pub(crate) answer: Answer,
}

// === impl Posted ===

impl Posted {
    /// Waits so long for the peer's answer, then takes the message back.
    pub(crate) async fn answered(self, within: Duration) -> Result<(), SendError> {
        let Self { ticket, mut answer } = self;
        if let Ok(answered) = tokio::time::timeout(within, &mut answer).await {
            return answered.unwrap_or(Err(SendError::Lost));
        }
        match ticket.withdraw() {
            Some(error) => Err(error),
            // It came in this very moment.
            None => answer.await.unwrap_or(Err(SendError::Lost)),
        }
    }
}

// === impl Settings ===

impl From<&ProtocolSection> for Settings {
    fn from(section: &ProtocolSection) -> Self {
        Self {
            ping_interval: section.ping_interval,
            max_message_size: section.max_message_size.min(wire::MAX_DATA),
            rate_limit: section.rate_limit,
            exchange_interval: section.exchange_interval,
        }
    }
}

// === impl Post ===

impl Post {
    /// A post office with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner {
            // 0 is what an empty memory holds.
            session: rand::random::<u64>().max(1),
            numbers: Arc::new(AtomicU64::new(1)),
            settings: watch::Sender::new(settings),
            outboxes: Mutex::default(),
            inbox: Inbox::new(),
        }))
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Settings {
        *self.0.settings.borrow()
    }

    /// Puts settings into force; every connection knows at once.
    pub fn set(&self, settings: Settings) {
        self.0.settings.send_replace(settings);
    }

    /// A reader of everything that arrives from now on, and before that of what nobody has read; see
    /// [`Messages::subscribe`](crate::Messages::subscribe) for `after`.
    #[must_use]
    pub fn subscribe(&self, after: Option<u64>) -> Subscription {
        self.0.inbox.subscribe(after)
    }

    /// Whether a connection to this peer is established.
    #[must_use]
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.outboxes().get(peer).is_some_and(|outbox| outbox.is_connected())
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Settings> {
        self.0.settings.subscribe()
    }

    pub(crate) fn session(&self) -> u64 {
        self.0.session
    }

    /// Puts a message in line for a peer.
    pub(crate) fn send(
        &self,
        to: &PeerId,
        content_type: Option<&str>,
        data: Vec<u8>,
    ) -> Result<Posted, SendError> {
        let max = self.settings().max_message_size;
        if data.len() > max {
            return Err(SendError::TooLarge { max });
        }
        if content_type.is_some_and(|text| !wire::is_content_type(text)) {
            return Err(SendError::ContentType);
        }
        let outbox = self.outboxes().get(to).cloned().ok_or(SendError::NotConnected)?;
        let (ticket, answer) = outbox.push(content_type, data)?;
        Ok(Posted { ticket, answer })
    }

    pub(crate) async fn accept(&self, from: Origin, session: u64, message: Message) -> Status {
        self.0.inbox.accept(from, session, message, self.settings().rate_limit).await
    }

    pub(crate) async fn refuse(&self, from: Origin, session: u64, sequence: u64) -> Status {
        self.0.inbox.refuse(from, session, sequence, self.settings().rate_limit).await
    }

    /// A connection to this peer is about to be; gives the outbox that it may serve.
    pub(crate) fn outbox(&self, peer: PeerId) -> Arc<Outbox> {
        let mut outboxes = self.outboxes();
        // What senders gave up on after their peer had gone is swept here: bounded by the peers that ever connect.
        outboxes.retain(|other, outbox| *other == peer || !outbox.is_idle() || Arc::strong_count(outbox) > 1);
        Arc::clone(outboxes.entry(peer).or_insert_with(|| Outbox::new(Arc::clone(&self.0.numbers))))
    }

    pub(crate) fn disconnected(&self, peer: &PeerId) {
        let mut outboxes = self.outboxes();
        if outboxes.get(peer).is_some_and(|outbox| outbox.disconnected()) {
            outboxes.remove(peer);
        }
    }

    /// The peer will not come back: ends what is on its way to it.
    pub(crate) fn forget(&self, peer: &PeerId) {
        if let Some(outbox) = self.outboxes().get(peer) {
            outbox.fail_all(SendError::Lost, SendError::NotConnected);
        }
    }

    fn outboxes(&self) -> MutexGuard<'_, HashMap<PeerId, Arc<Outbox>>> {
        self.0.outboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the sender of a message hears, whose time is over when it has gone so far.
    async fn told(written: bool, connected: bool) -> SendError {
        let rate_limit = RateLimit { messages_per_second: 1.0, burst: 1 };
        let (ping_interval, exchange_interval) = (Duration::from_secs(15), Duration::from_secs(30));
        let settings = Settings { ping_interval, max_message_size: 9, rate_limit, exchange_interval };
        let (post, peer) = (Post::new(settings), PeerId::random());
        let outbox = post.outbox(peer);
        outbox.connected();
        let posted = post.send(&peer, None, vec![0]).unwrap();
        let lease = Arc::clone(&outbox).lease().await;
        if written {
            lease.next().unwrap();
        }
        if !connected {
            drop(lease);
            post.disconnected(&peer);
        }
        let error = posted.answered(Duration::ZERO).await.unwrap_err();
        assert_eq!(outbox.is_idle(), !connected, "it is not sent any more");
        error
    }

    #[tokio::test]
    async fn a_message_that_was_never_written_is_not_said_to_be_lost() {
        assert_eq!(told(false, false).await, SendError::NotConnected);
        assert_eq!(told(false, true).await, SendError::NotSent);
        assert_eq!(told(true, false).await, SendError::Lost);
        assert_eq!(told(true, true).await, SendError::Timeout);
    }
}
