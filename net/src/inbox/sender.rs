//! What is remembered of one sender: the fate of its last messages, and how many more it may send.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::wire::Status;
use crate::{RateLimit, outbox};

/// How many sessions of a sender are remembered: one that ends and one that begins.
const SESSIONS: usize = 2;

/// What is remembered of one sender.
#[derive(Debug)]
pub(super) struct Sender {
    /// The newest last. A connection of the process before may still have something to say when its successor has begun.
    sessions: VecDeque<Session>,
    pub(super) bucket: Bucket,
}

/// What a sender's process has sent.
#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    last: u64,
    /// The fate of the newest messages: as many as a sender may have unanswered.
    recent: VecDeque<(u64, Status)>,
}

/// A token bucket (`protocol.rate_limit`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    at: Instant,
}

// === impl Sender ===

impl Sender {
    pub(super) fn new(limit: RateLimit, now: Instant) -> Self {
        Self { sessions: VecDeque::new(), bucket: Bucket::full(limit, now) }
    }

    /// One that is not known takes the place of the oldest.
    pub(super) fn session(&mut self, id: u64) -> &mut Session {
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
    pub(super) fn seen(&self, sequence: u64) -> Option<Status> {
        if sequence > self.last {
            return None;
        }
        let known = self.recent.iter().find(|(number, _)| *number == sequence);
        Some(known.map_or(Status::Refused, |(_, status)| *status))
    }

    pub(super) fn record(&mut self, sequence: u64, status: Status) {
        self.last = sequence;
        if self.recent.len() >= outbox::MAX_MESSAGES {
            self.recent.pop_front();
        }
        self.recent.push_back((sequence, status));
    }
}

// === impl Bucket ===

impl Bucket {
    pub(crate) fn full(limit: RateLimit, now: Instant) -> Self {
        Self { tokens: f64::from(limit.burst), at: now }
    }

    /// When there will be a token again, if there is none now: after [`Bucket::take`] has said no.
    pub(crate) fn wait(&self, limit: RateLimit) -> Duration {
        Duration::try_from_secs_f64((1.0 - self.tokens) / limit.messages_per_second).unwrap_or(Duration::MAX)
    }

    pub(crate) fn take(&mut self, limit: RateLimit, now: Instant) -> bool {
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
mod tests {
    use super::*;

    #[test]
    fn the_bucket_lets_a_burst_through_and_refills() {
        let start = Instant::now();
        let limit = RateLimit { messages_per_second: 10.0, burst: 3 };
        let mut bucket = Bucket { tokens: 3.0, at: start };
        assert_eq!((0..5).filter(|_| bucket.take(limit, start)).count(), 3);
        let later = start + Duration::from_millis(201);
        assert_eq!((0..5).filter(|_| bucket.take(limit, later)).count(), 2);
        let much_later = start + Duration::from_secs(60);
        assert_eq!((0..5).filter(|_| bucket.take(limit, much_later)).count(), 3);
    }
}
