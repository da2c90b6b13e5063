//! Figures of peer exchange, by kind of message.

use std::sync::atomic::{AtomicU64, Ordering};

use super::wire::Message;

/// Counters since start. They only go up.
#[derive(Debug, Default)]
pub struct Figures {
    asked: AtomicU64,
    answered: AtomicU64,
    sent: [AtomicU64; 4],
    received: [AtomicU64; 4],
}

/// Bytes of one kind of message, headers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// `request`, `response`, `announcement` or `update`.
    pub kind: &'static str,
    /// Bytes that this node sent.
    pub sent: u64,
    /// Bytes that it received.
    pub received: u64,
}

// === impl Figures ===

impl Figures {
    /// Exchanges that this node began and that were answered to their end.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Requests that it answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Bytes by kind of message.
    #[must_use]
    pub fn traffic(&self) -> [Traffic; 4] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        std::array::from_fn(|kind| Traffic {
            kind: Message::KINDS[kind],
            sent: read(&self.sent[kind]),
            received: read(&self.received[kind]),
        })
    }

    pub(crate) fn has_asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn has_answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, message: &Message, bytes: usize) {
        self.sent[message.kind()].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, message: &Message, bytes: usize) {
        self.received[message.kind()].fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
