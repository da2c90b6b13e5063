//! Broadcast topics, for the application behind the node (N7).
//!
//! As with direct messages no actor lies on the way: what is published goes into a bounded line, from which the behaviour takes it
//! when the swarm is polled, and what arrives goes from there straight to whoever reads. The protocol actor only says which
//! topics there are. So readers and messages outlive every reload that does not name their topic (R11, R13).
//!
//! A message is accepted (`Ok`) when it stands in the queue of every peer that is known to want it and no reader on this node is
//! far behind; until then its author waits. What a peer does with it is its own affair: gossip has no acknowledgement.

mod authors;
mod envelope;
mod flow;
mod gossip;
mod handler;
mod line;
pub mod receipts;
mod rooms;
mod standing;
mod terms;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use storage::PeerKey;
use tokio::sync::watch;

use crate::View;
use crate::inbox::Bucket;
use crate::post::Post;
use crate::view::Happening;
use crate::wire;
pub use envelope::{Envelope, EnvelopeError};
use flow::Flow;
pub(crate) use gossip::Gossip;
use line::{Line, Outgoing};
pub(crate) use receipts::Receipts;
use rooms::{CaughtUp, Rooms};
pub use rooms::{Ended, TopicMessage, TopicSubscription};
pub(crate) use terms::{Gossipsub, TOPICS as MAX_TOPICS};

/// How long an author waits for its message to be accepted: longer than this node is patient with a peer or reader that is slow.
const ACCEPTED: Duration = Duration::from_secs(10);

/// Publishes to topics, and hands out what arrives. Cheap to clone; outlives every actor.
#[derive(Clone, Debug)]
pub struct Topics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    me: PeerKey,
    post: Post,
    view: View,
    state: Mutex<State>,
    /// What the behaviour is really subscribed to.
    subscribed: watch::Sender<BTreeSet<String>>,
    line: Line,
    /// What is left of `protocol.rate_limit` for this node's own messages.
    own: Mutex<Bucket>,
    flow: Flow,
    /// Wakes the behaviour.
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// The configured topics.
    wanted: Arc<BTreeSet<String>>,
    rooms: Rooms,
}

/// Why a message was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No such topic is configured on this node.
    #[error("the topic is not configured (add it to protocol.topics)")]
    UnknownTopic,
    /// Larger than `protocol.max_message_size`.
    #[error("the message is larger than protocol.max_message_size, {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// A content type that cannot travel.
    #[error("the content type is not 1 to 255 bytes of visible ascii")]
    ContentType,
    /// More than `protocol.rate_limit`: the other nodes would not take it.
    #[error("more messages than protocol.rate_limit allows (the next one in {} ms)", retry_after.as_millis())]
    RateLimited {
        /// When the next one may come.
        retry_after: Duration,
    },
    /// A peer or a reader was too far behind for too long; the message was not sent.
    #[error("peers or subscribers do not keep up; the message was not sent (try again)")]
    Busy,
    /// Gossipsub refused it.
    #[error("the message was not published: {0}")]
    Refused(String),
}

// === impl Topics ===

impl Topics {
    /// The topics of the node with this key: none yet.
    #[must_use]
    pub fn new(me: PeerKey, post: Post, view: View) -> Self {
        let own = Bucket::full(post.settings().rate_limit, Instant::now());
        Self(Arc::new(Inner {
            me,
            post,
            view,
            state: Mutex::default(),
            subscribed: watch::Sender::new(BTreeSet::new()),
            line: Line::new(),
            own: Mutex::new(own),
            flow: Flow::default(),
            waker: AtomicWaker::new(),
        }))
    }

    /// Publishes a message. The future may be dropped: then it may have been published, or not.
    ///
    /// `content_type` is 1 to 255 bytes of visible ASCII. Readers on this node get the message, too.
    ///
    /// # Errors
    /// Why it was not published.
    pub async fn publish(
        &self,
        topic: &str,
        content_type: Option<&str>,
        data: Vec<u8>,
    ) -> Result<(), PublishError> {
        if !self.has(topic) {
            return Err(PublishError::UnknownTopic);
        }
        let settings = self.0.post.settings();
        let max = settings.max_message_size;
        if data.len() > max {
            return Err(PublishError::TooLarge { max });
        }
        if content_type.is_some_and(|text| !wire::is_content_type(text)) {
            return Err(PublishError::ContentType);
        }
        {
            let mut own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
            if !own.take(settings.rate_limit, Instant::now()) {
                return Err(PublishError::RateLimited { retry_after: own.wait(settings.rate_limit) });
            }
        }
        self.0.line.push(topic, content_type, data, ACCEPTED, || self.wake()).await
    }

    /// What arrives on a topic from now on, and before that what is kept of what came after the message `after` (`Last-Event-ID` of
    /// server-sent events). `None` if the topic is not configured.
    #[must_use]
    pub fn subscribe(&self, topic: &str, after: Option<u64>) -> Option<TopicSubscription> {
        let mut state = self.state();
        if !state.wanted.contains(topic) {
            return None;
        }
        state.rooms.subscribe(topic, after, Arc::clone(&self.0) as _)
    }

    /// Whether the topic is configured.
    #[must_use]
    pub fn has(&self, topic: &str) -> bool {
        self.state().wanted.contains(topic)
    }

    /// What the swarm is really subscribed to at this moment.
    #[must_use]
    pub fn subscribed(&self) -> BTreeSet<String> {
        self.0.subscribed.borrow().clone()
    }

    /// From now on, there are these topics. Readers of those that are gone are left waiting, for the case that this is undone.
    pub(crate) fn set(&self, topics: &[String]) {
        let topics: Arc<BTreeSet<_>> = Arc::new(topics.iter().cloned().collect());
        let mut state = self.state();
        state.rooms.open(&topics);
        let before = std::mem::replace(&mut state.wanted, Arc::clone(&topics));
        drop(state);
        for topic in topics.difference(&before) {
            self.0.view.happened(|| Happening::TopicAdded { topic: topic.clone() });
        }
        for topic in before.difference(&topics) {
            self.0.view.happened(|| Happening::TopicRemoved { topic: topic.clone() });
        }
        self.wake();
    }

    /// It stays at that: readers of topics that are gone come to an end.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        let wanted = Arc::clone(&state.wanted);
        state.rooms.close_others(&wanted);
    }

    /// Waits until the swarm is subscribed to what is configured.
    pub(crate) async fn settled(&self) {
        let mut subscribed = self.0.subscribed.subscribe();
        // Fails only without a sender, and this is one.
        let _ = subscribed.wait_for(|subscribed| *subscribed == *self.wanted()).await;
    }

    pub(crate) fn wanted(&self) -> Arc<BTreeSet<String>> {
        Arc::clone(&self.state().wanted)
    }

    /// Makes the behaviour look whether there is something to do.
    fn wake(&self) {
        self.0.waker.wake();
    }

    fn register(&self, waker: &Waker) {
        self.0.waker.register(waker);
    }

    fn flow(&self) -> &Flow {
        &self.0.flow
    }

    /// The behaviour is subscribed to these.
    fn show(&self, subscribed: BTreeSet<String>) {
        self.0.subscribed.send_if_modified(|shown| {
            let differs = *shown != subscribed;
            *shown = subscribed;
            differs
        });
    }

    /// The next message that waits, if `ready` says so.
    fn next_if(&self, ready: impl FnOnce(&str) -> bool) -> Option<Outgoing> {
        self.0.line.pop_if(|outgoing| ready(&outgoing.topic))
    }

    /// Hands a message to the readers on this node. False if the topic is not configured.
    fn deliver(&self, topic: &str, from: PeerKey, content_type: Option<String>, data: Vec<u8>) -> bool {
        let mut state = self.state();
        state.wanted.contains(topic) && state.rooms.deliver(topic, from, content_type, data)
    }

    /// Until when some reader on this node must be waited for, if there is one.
    fn crowded_until(&self, now: Instant) -> Option<Instant> {
        self.state().rooms.crowded_until(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CaughtUp for Inner {
    fn caught_up(&self) {
        self.waker.wake();
    }
}
