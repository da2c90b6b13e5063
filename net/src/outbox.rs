//! Messages on their way to one peer: in order, each at most once, over as many connections as it takes.
//!
//! An outbox belongs to the peer, not to a connection. One connection at a time holds its [`Lease`] and sends; what was
//! not answered when that connection ended is sent again by the next, and the receiver's node, which remembers the fate of
//! the last [`MAX_MESSAGES`], answers a repeated one without delivering it twice. So a connection that lost against a
//! crossing one loses no message.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::wire::{self, Status};

/// How many messages may wait for their answer, per peer.
pub(crate) const MAX_MESSAGES: usize = 64;
/// How many bytes may wait for their answer, per peer; one larger message may wait alone.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Why a message was not delivered, or may not have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Neither a member nor connected.
    #[error("the peer is neither a member nor connected")]
    UnknownPeer,
    /// No connection to this member now.
    #[error("the peer is not connected")]
    NotConnected,
    /// The message is larger than this node allows.
    #[error("the message is too large; protocol.max_message_size allows {max} bytes here")]
    TooLarge {
        /// This node's limit, in bytes.
        max: usize,
    },
    /// The message is larger than the peer's node allows. It does not say what it allows.
    #[error("the message is too large for the peer's node; its protocol.max_message_size allows less")]
    TooLargeThere,
    /// The content type cannot be sent.
    #[error("the content type is not 1 to 255 bytes of visible ascii")]
    ContentType,
    /// The peer's node takes no more messages from this one for now.
    #[error("the peer's node limits the rate of messages")]
    RateLimited,
    /// Too many messages to this peer are on their way.
    #[error("too many messages to this peer wait for their answer")]
    Busy,
    /// Nobody reads at the peer, and its inbox is full.
    #[error("the peer's inbox is full")]
    InboxFull,
    /// The connection broke, or the peer restarted, before the answer came.
    #[error("the connection broke before the peer answered; whether the message arrived is unknown")]
    Lost,
    /// The peer takes messages too slowly: this one was not sent in time, and did not arrive.
    #[error("the peer did not take the messages before this one in time; this one was not sent")]
    NotSent,
    /// No answer in time; the message may have arrived.
    #[error("the peer did not answer in time; whether the message arrived is unknown")]
    Timeout,
    /// The peer's node does not speak the protocol of direct messages.
    #[error("the peer does not accept direct messages")]
    Unsupported,
}

/// What the sender of a message waits for.
pub(crate) type Answer = oneshot::Receiver<Result<(), SendError>>;

/// The messages on their way to one peer.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Rung when there is something to send, and when the lease is free.
    changed: Notify,
    /// Counts for all outboxes of the process: the peer remembers numbers longer than an outbox lives.
    numbers: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State {
    /// The sequence number of the newest message.
    newest: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// So many of the entries have been written to the stream of the lease that is out.
    written: usize,
    leased: bool,
    /// Established connections to the peer.
    connections: usize,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    parcel: Arc<Parcel>,
    /// The session of the peer's process that may have it already.
    reached: Option<u64>,
    answer: oneshot::Sender<Result<(), SendError>>,
}

/// What is written for one message: its frame's head, then its data.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// Everything before the data.
    pub(crate) head: Vec<u8>,
    /// The payload.
    pub(crate) data: Vec<u8>,
}

/// A message's place in the outbox; dropping it takes the message back, if it is still there.
#[derive(Debug)]
pub(crate) struct Ticket {
    outbox: Arc<Outbox>,
    sequence: u64,
}

/// The right to send an outbox's messages, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Lease {
    outbox: Arc<Outbox>,
    session: u64,
}

/// An ack for a message that was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an ack for message {0}, which was not sent")]
pub(crate) struct StrayAck(u64);

// === impl Outbox ===

impl Outbox {
    pub(crate) fn new(numbers: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            numbers,
            state: Mutex::new(State {
                newest: 0,
                entries: VecDeque::new(),
                bytes: 0,
                written: 0,
                leased: false,
                connections: 0,
            }),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection came.
    pub(crate) fn connected(&self) {
        let mut state = self.state();
        state.connections = state.connections.saturating_add(1);
    }

    /// A connection went. True if nothing is left that would need this outbox.
    pub(crate) fn disconnected(&self) -> bool {
        let mut state = self.state();
        state.connections = state.connections.saturating_sub(1);
        state.connections == 0 && state.entries.is_empty()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.state().connections > 0
    }

    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        state.connections == 0 && state.entries.is_empty()
    }

    /// Puts a message in line.
    ///
    /// # Errors
    /// If the peer is not connected, or the line is too long.
    pub(crate) fn push(
        self: &Arc<Self>,
        content_type: Option<&str>,
        data: Vec<u8>,
    ) -> Result<(Ticket, Answer), SendError> {
        let mut state = self.state();
        if state.connections == 0 {
            return Err(SendError::NotConnected);
        }
        let size = data.len();
        let alone = state.entries.is_empty();
        if state.entries.len() >= MAX_MESSAGES || (!alone && state.bytes.saturating_add(size) > MAX_BYTES) {
            return Err(SendError::Busy);
        }
        // Drawn under the lock: the line is in the order of its numbers.
        let sequence = self.numbers.fetch_add(1, Ordering::Relaxed);
        state.newest = sequence;
        state.bytes = state.bytes.saturating_add(size);
        let head = wire::message_head(sequence, content_type, size);
        let (answer, answered) = oneshot::channel();
        state.entries.push_back(Entry {
            sequence,
            parcel: Arc::new(Parcel { head, data }),
            reached: None,
            answer,
        });
        drop(state);
        self.changed.notify_waiters();
        Ok((Ticket { outbox: Arc::clone(self), sequence }, answered))
    }

    /// Ends every message in line: `sent` for those that may have arrived, `unsent` for the others.
    pub(crate) fn fail_all(&self, sent: SendError, unsent: SendError) {
        let mut state = self.state();
        state.written = 0;
        state.bytes = 0;
        for entry in std::mem::take(&mut state.entries) {
            let error = if entry.reached.is_some() { sent } else { unsent };
            // The sender may have stopped waiting; then nobody needs to know.
            let _ = entry.answer.send(Err(error));
        }
    }

    /// Waits until there is something to send and nobody else sends it.
    pub(crate) async fn lease(self: Arc<Self>) -> Lease {
        self.until(|state| {
            let free = !state.leased && !state.entries.is_empty();
            state.leased |= free;
            free
        })
        .await;
        Lease { outbox: self, session: 0 }
    }

    async fn until(&self, mut ready: impl FnMut(&mut State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change falls between the two.
            changed.as_mut().enable();
            if ready(&mut self.state()) {
                return;
            }
            changed.await;
        }
    }
}

// === impl State ===

impl State {
    fn take(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries.remove(index)?;
        self.bytes = self.bytes.saturating_sub(entry.parcel.data.len());
        if index < self.written {
            self.written = self.written.saturating_sub(1);
        }
        Some(entry)
    }
}

// === impl Ticket ===

impl Ticket {
    /// Takes the message back, and says what is known of it; `None` if its answer has come. What was never given to a
    /// connection cannot have arrived, and never will.
    pub(crate) fn withdraw(self) -> Option<SendError> {
        let mut state = self.outbox.state();
        let index = state.entries.iter().position(|e| e.sequence == self.sequence)?;
        let entry = state.take(index)?;
        Some(match (entry.reached.is_some(), state.connections > 0) {
            (true, true) => SendError::Timeout,
            (true, false) => SendError::Lost,
            (false, true) => SendError::NotSent,
            (false, false) => SendError::NotConnected,
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.outbox.state();
        if let Some(index) = state.entries.iter().position(|e| e.sequence == self.sequence) {
            drop(state.take(index));
        }
    }
}

// === impl Lease ===

impl Lease {
    /// The peer's process of this session will get the messages. Those that an earlier process of the peer may have had
    /// are lost: its successor does not remember them.
    pub(crate) fn resume(&mut self, session: u64) {
        self.session = session;
        let mut state = self.outbox.state();
        state.written = 0;
        while let Some(index) =
            state.entries.iter().position(|e| e.reached.is_some_and(|reached| reached != session))
        {
            if let Some(entry) = state.take(index) {
                let _ = entry.answer.send(Err(SendError::Lost));
            }
        }
    }

    /// The next message to write, if there is one.
    pub(crate) fn next(&self) -> Option<Arc<Parcel>> {
        let mut state = self.outbox.state();
        let written = state.written;
        let entry = state.entries.get_mut(written)?;
        entry.reached = Some(self.session);
        let parcel = Arc::clone(&entry.parcel);
        state.written = written.saturating_add(1);
        Some(parcel)
    }

    /// Waits until there is a next message.
    pub(crate) async fn more(&self) {
        self.outbox.until(|state| state.written < state.entries.len()).await;
    }

    /// An answer came.
    ///
    /// # Errors
    /// If no such message was sent.
    pub(crate) fn answered(&self, sequence: u64, status: Status) -> Result<(), StrayAck> {
        let mut state = self.outbox.state();
        if sequence == 0 || sequence > state.newest {
            return Err(StrayAck(sequence));
        }
        let written = state.written;
        let Some(index) = state.entries.iter().position(|e| e.sequence == sequence) else {
            return Ok(()); // Its sender has stopped waiting.
        };
        if index >= written {
            return Err(StrayAck(sequence));
        }
        if let Some(entry) = state.take(index) {
            let _ = entry.answer.send(match status {
                Status::Accepted => Ok(()),
                Status::InboxFull => Err(SendError::InboxFull),
                Status::TooLarge => Err(SendError::TooLargeThere),
                Status::RateLimited => Err(SendError::RateLimited),
                Status::Refused => Err(SendError::Lost),
            });
        }
        Ok(())
    }

    /// The peer cannot take messages at all: ends every one.
    pub(crate) fn refuse_all(&self, unsent: SendError) {
        self.outbox.fail_all(SendError::Lost, unsent);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.outbox.state();
        state.leased = false;
        state.written = 0;
        drop(state);
        self.outbox.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
