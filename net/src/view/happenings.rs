//! What happens in the network, as it happens (contract: `/v1/events`): for whoever listens, within bounds.

use std::net::IpAddr;

use libp2p::PeerId;
use serde::Serialize;
use storage::PeerKey;
use tokio::sync::broadcast;

use super::{ConnectionView, MemberView, as_text};

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
    /// A member is new, or anything that `status` shows of it is another.
    MemberChanged {
        /// As `status` shows it.
        #[serde(flatten)]
        member: MemberView,
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
    use super::super::{MemberState, View};
    use super::*;
    use crate::Identity;

    fn topic(n: usize) -> Happening {
        Happening::TopicAdded { topic: n.to_string() }
    }

    #[tokio::test]
    async fn members_that_are_as_they_were_are_not_told() {
        let view = View::new();
        let mut events = view.happenings();
        let (one, other) = (Identity::generate().public_key(), Identity::generate().public_key());
        let member = |public_key, state| {
            let addresses = vec!["/ip4/127.0.0.1/tcp/1".to_owned()];
            (public_key, Some(MemberView { public_key, name: None, state, addresses, last_error: None }))
        };
        view.set_members(vec![member(one, MemberState::Connected)]);
        // As a reload does it: all members are looked at, and one of them is new.
        view.set_members(vec![member(one, MemberState::Connected), member(other, MemberState::Idle)]);
        view.set_members(vec![(other, None), member(one, MemberState::Connected)]);
        view.set_members(vec![(other, None), member(one, MemberState::Failed)]);
        drop(view);
        let mut told = Vec::new();
        while let Some(Heard::Happening(happening)) = events.next().await {
            told.push(match happening {
                Happening::MemberChanged { member } => (member.public_key, Some(member.state)),
                Happening::MemberRemoved { public_key } => (public_key, None),
                other => panic!("{other:?}"),
            });
        }
        let (connected, idle, failed) = (MemberState::Connected, MemberState::Idle, MemberState::Failed);
        assert_eq!(told, [(one, Some(connected)), (other, Some(idle)), (other, None), (one, Some(failed))]);
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
