//! What happens in the network, as it happens (contract: `/v1/events`): for whoever listens, within bounds.

use std::net::IpAddr;

use libp2p::PeerId;
use serde::Serialize;
use storage::PeerKey;
use tokio::sync::broadcast;

use super::{ConnectionView, MemberState, as_text};

/// How many happenings a listener may be behind; then it misses the oldest, and is told how many.
const BEHIND: usize = 1024;

/// Something happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// A connection was established.
    ConnectionOpened {
        /// As `status` shows it.
        connection: ConnectionView,
    },
    /// A connection ended.
    ConnectionClosed {
        /// The connection's id.
        id: String,
        /// Who was at the other end.
        #[serde(serialize_with = "as_text")]
        peer_id: PeerId,
        /// The same as members are named.
        public_key: Option<PeerKey>,
        /// Why, if anybody said so.
        reason: String,
    },
    /// A member's state is another one, or a member is new.
    MemberChanged {
        /// Who.
        public_key: PeerKey,
        /// What people call it.
        name: Option<String>,
        /// How it stands now.
        state: MemberState,
        /// Why the last dial or connection ended.
        last_error: Option<String>,
    },
    /// A member is none any more.
    MemberRemoved {
        /// Who.
        public_key: PeerKey,
    },
    /// A connection was refused. A flood of them is told within the bounds of the log.
    PeerDenied {
        /// Where it came from.
        ip: Option<IpAddr>,
        /// Who it was, if that was known.
        peer: Option<String>,
        /// Why.
        reason: String,
    },
    /// A topic is configured.
    TopicAdded {
        /// Its name.
        topic: String,
    },
    /// A topic is not configured any more.
    TopicRemoved {
        /// Its name.
        topic: String,
    },
}

/// What happens from now on.
#[derive(Debug)]
pub struct Happenings(broadcast::Receiver<Happening>);

/// What a listener hears.
#[derive(Clone, Debug)]
pub enum Heard {
    /// This happened.
    Happening(Happening),
    /// The listener was too slow: so many happenings are lost to it.
    Missed(u64),
}

/// Where happenings go in.
#[derive(Debug)]
pub(super) struct Feed(broadcast::Sender<Happening>);

// === impl Happenings ===

impl Happenings {
    /// The next happening; `None` when there is nobody any more whom anything could happen to.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.0.recv().await {
            Ok(happening) => Some(Heard::Happening(happening)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

// === impl Feed ===

impl Default for Feed {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl Feed {
    pub(super) fn listen(&self) -> Happenings {
        Happenings(self.0.subscribe())
    }

    /// Costs nothing where nobody listens.
    pub(super) fn tell(&self, happening: impl FnOnce() -> Happening) {
        if self.0.receiver_count() > 0 {
            // Fails if the last one left in this moment.
            let _ = self.0.send(happening());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(n: usize) -> Happening {
        Happening::TopicAdded { topic: n.to_string() }
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_how_much_it_missed() {
        let feed = Feed::default();
        feed.tell(|| panic!("nobody listens"));
        let mut slow = feed.listen();
        for n in 0..BEHIND + 7 {
            feed.tell(|| topic(n));
        }
        assert!(matches!(slow.next().await, Some(Heard::Missed(7))));
        for n in 7..BEHIND + 7 {
            let expected = n.to_string();
            let Some(Heard::Happening(Happening::TopicAdded { topic })) = slow.next().await else { panic!() };
            assert_eq!(topic, expected);
        }
        drop(feed);
        assert!(slow.next().await.is_none());
    }
}
