//! What the network looks like from outside: readable from any thread at any time, without asking the actor. Status and
//! metrics go through here, so that they never wait for a reload.

mod happenings;
pub(crate) mod listening;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use libp2p::metrics::Registry;
use libp2p::{Multiaddr, PeerId};
use serde::{Serialize, Serializer};
use storage::PeerKey;
use tokio::sync::watch;

use crate::{Held, Known};
use happenings::Feed;
pub use happenings::{Happening, Happenings, Heard};
pub use listening::FailingListener;
use listening::Listening;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The peer.
    Inbound,
    /// This node.
    Outbound,
}

/// Where this node stands with a member (N4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Not connected, and nothing has gone wrong: about to be dialled, or without addresses.
    Idle,
    /// A dial is under way.
    Connecting,
    /// A connection is there.
    Connected,
    /// This node is closing the connection.
    Disconnecting,
    /// The last try came to nothing; another follows.
    Failed,
}

// === impl MemberState ===

impl MemberState {
    /// All of them, as metrics list them.
    pub const ALL: [Self; 5] =
        [Self::Idle, Self::Connecting, Self::Connected, Self::Disconnecting, Self::Failed];

    /// The name in `status` and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnecting => "disconnecting",
            Self::Failed => "failed",
        }
    }
}

/// A connection (contract: `status`, `connections`).
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionView {
    /// Never used again in the life of the process.
    pub id: String,
    /// Who is at the other end.
    #[serde(rename = "peer_id", serialize_with = "as_text")]
    pub peer: PeerId,
    /// The same as members are named; `None` for a key that is not Ed25519.
    pub public_key: Option<PeerKey>,
    /// Who opened it.
    pub direction: Direction,
    /// Where the other end is.
    #[serde(serialize_with = "as_text")]
    pub address: Multiaddr,
    /// Age in seconds, when it was read.
    pub established_s: f64,
}

/// A member (contract: `status`, `members`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Who.
    pub public_key: PeerKey,
    /// What people call it.
    pub name: Option<String>,
    /// How it stands.
    pub state: MemberState,
    /// Where it is configured to be dialled; what was learned besides stands in `known`.
    pub addresses: Vec<String>,
    /// Why the last dial or connection ended, until the next one stands.
    pub last_error: Option<String>,
}

/// Counters since start. They only go up.
#[derive(Debug, Default)]
pub struct Counters {
    messages_sent: AtomicU64,
    messages_received: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    topics_sent: AtomicU64,
    topics_received: AtomicU64,
    denied: AtomicU64,
    violations: AtomicU64,
    closed_by_reload: AtomicU64,
    inbound: AtomicU64,
    outbound: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Direct messages written to a connection; one that is sent again counts again.
    pub messages_sent: u64,
    /// Direct messages accepted.
    pub messages_received: u64,
    /// Payload bytes sent, of both kinds.
    pub bytes_sent: u64,
    /// Payload bytes received, of both kinds.
    pub bytes_received: u64,
    /// Messages that this node published to topics.
    pub topics_sent: u64,
    /// Messages of others on topics, accepted.
    pub topics_received: u64,
    /// Connections refused.
    pub denied: u64,
    /// Streams on which a peer broke the rules.
    pub violations: u64,
    /// Connections that a reload closed because the new configuration forbids them.
    pub closed_by_reload: u64,
    /// Connections that came in.
    pub inbound: u64,
    /// Connections that this node opened.
    pub outbound: u64,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct View(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    shown: RwLock<Shown>,
    counters: Counters,
    known: Known,
    version: watch::Sender<u64>,
    feed: Feed,
    /// Of the swarm that was built last.
    figures: RwLock<Registry>,
}

#[derive(Debug, Default)]
struct Shown {
    listeners: Vec<Listening>,
    failing: Vec<FailingListener>,
    /// The QUIC endpoints, those without a listener included.
    endpoints: Vec<Held>,
    connections: BTreeMap<u64, (ConnectionView, Instant)>,
    members: BTreeMap<PeerKey, MemberView>,
    worker_threads: usize,
    handshakes: u32,
    trouble: Option<String>,
}

fn as_text<T: ToString, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

// === impl View ===

impl View {
    /// A view of a network that is still to be started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The established connections, oldest first.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionView> {
        let now = Instant::now();
        self.read(|shown| {
            let aged = shown.connections.values().map(|(connection, since)| ConnectionView {
                established_s: now.saturating_duration_since(*since).as_secs_f64(),
                ..connection.clone()
            });
            aged.collect()
        })
    }

    /// How many connections are established.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.read(|shown| shown.connections.len())
    }

    /// How many connections are in their handshake, in both directions.
    #[must_use]
    pub fn handshakes(&self) -> u32 {
        self.read(|shown| shown.handshakes)
    }

    /// The members, by key.
    #[must_use]
    pub fn members(&self) -> Vec<MemberView> {
        self.read(|shown| shown.members.values().cloned().collect())
    }

    /// Whether this key is a member's.
    #[must_use]
    pub fn is_member(&self, key: &PeerKey) -> bool {
        self.read(|shown| shown.members.contains_key(key))
    }

    /// How many members are in which state (the metric `fednode_peers`).
    #[must_use]
    pub fn members_by_state(&self) -> BTreeMap<MemberState, usize> {
        self.read(|shown| {
            let mut states = BTreeMap::new();
            for member in shown.members.values() {
                *states.entry(member.state).or_default() += 1;
            }
            states
        })
    }

    /// Threads that new connections are driven by.
    #[must_use]
    pub fn worker_threads(&self) -> usize {
        self.read(|shown| shown.worker_threads)
    }

    /// Why the network is not to be trusted any more, if a bug has shown itself (a panic while the swarm was polled).
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.read(|shown| shown.trouble.clone())
    }

    /// The peers that this node knows of, connected or not.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.0.known
    }

    /// The counters now.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.0.counters.counted()
    }

    /// Reads what libp2p itself counts; see [`figures`](crate::figures) for what of it is recorded.
    pub fn figures<T>(&self, read: impl FnOnce(&Registry) -> T) -> T {
        read(&self.0.figures.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What happens from now on.
    #[must_use]
    pub fn happenings(&self) -> Happenings {
        self.0.feed.listen()
    }

    /// Goes up with every change of listeners, connections and members.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// Waits until the view is so.
    pub async fn when(&self, mut so: impl FnMut(&Self) -> bool) {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if so(self) {
                return;
            }
            if changes.changed().await.is_err() {
                // Cannot be: the sender is in `self`. Better asleep than busy.
                std::future::pending::<()>().await;
            }
        }
    }

    pub(crate) fn set_figures(&self, registry: Registry) {
        *self.0.figures.write().unwrap_or_else(PoisonError::into_inner) = registry;
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(crate) fn opened(&self, id: u64, connection: ConnectionView) {
        match connection.direction {
            Direction::Inbound => &self.0.counters.inbound,
            Direction::Outbound => &self.0.counters.outbound,
        }
        .fetch_add(1, Ordering::Relaxed);
        self.happened(|| Happening::ConnectionOpened { connection: connection.clone() });
        self.write(|shown| shown.connections.insert(id, (connection, Instant::now())));
    }

    pub(crate) fn closed(&self, id: u64, reason: &str) {
        let mut gone = None;
        self.write(|shown| gone = shown.connections.remove(&id));
        if let Some((ConnectionView { id, peer, public_key, .. }, _)) = gone {
            let reason = reason.to_owned();
            self.happened(|| Happening::ConnectionClosed { id, peer_id: peer, public_key, reason });
        }
    }

    /// Tells those who listen.
    pub(crate) fn happened(&self, happening: impl FnOnce() -> Happening) {
        self.0.feed.tell(happening);
    }

    pub(crate) fn set_members(&self, changed: Vec<(PeerKey, Option<MemberView>)>) {
        if changed.is_empty() {
            return;
        }
        self.write(|shown| {
            for (key, member) in changed {
                match member {
                    // The dialer names all members that it has looked at; to be told is only what is another.
                    Some(member) if shown.members.get(&key) != Some(&member) => {
                        self.happened(|| Happening::MemberChanged { member: member.clone() });
                        shown.members.insert(key, member);
                    }
                    None if shown.members.remove(&key).is_some() => {
                        self.happened(|| Happening::MemberRemoved { public_key: key });
                    }
                    Some(_) | None => {}
                }
            }
        });
    }

    pub(crate) fn set_worker_threads(&self, threads: usize) {
        self.write(|shown| shown.worker_threads = threads);
    }

    pub(crate) fn set_handshakes(&self, handshakes: u32) {
        if handshakes != self.handshakes() {
            self.write(|shown| shown.handshakes = handshakes);
        }
    }

    pub(crate) fn set_trouble(&self, trouble: String) {
        self.write(|shown| shown.trouble = Some(trouble));
    }

    fn read<T>(&self, look: impl FnOnce(&Shown) -> T) -> T {
        look(&self.0.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Shown) -> T) {
        drop(change(&mut self.0.shown.write().unwrap_or_else(PoisonError::into_inner)));
        self.0.version.send_modify(|version| *version = version.wrapping_add(1));
    }
}

// === impl Counters ===

impl Counters {
    pub(crate) fn sent(&self, bytes: usize) {
        self.messages_sent.fetch_add(1, Ordering::Relaxed);
        self.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn topic_sent(&self, bytes: usize) {
        self.topics_sent.fetch_add(1, Ordering::Relaxed);
        self.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn topic_received(&self, bytes: usize) {
        self.topics_received.fetch_add(1, Ordering::Relaxed);
        self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn denied(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn violation(&self) {
        self.violations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed_by_reload(&self) {
        self.closed_by_reload.fetch_add(1, Ordering::Relaxed);
    }

    fn counted(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            messages_sent: read(&self.messages_sent),
            messages_received: read(&self.messages_received),
            bytes_sent: read(&self.bytes_sent),
            bytes_received: read(&self.bytes_received),
            topics_sent: read(&self.topics_sent),
            topics_received: read(&self.topics_received),
            denied: read(&self.denied),
            violations: read(&self.violations),
            closed_by_reload: read(&self.closed_by_reload),
            inbound: read(&self.inbound),
            outbound: read(&self.outbound),
        }
    }
}
