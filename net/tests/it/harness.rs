//! Nodes for tests: the two actors, and the steps of a reload by hand.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use actix::Addr;
use futures::FutureExt;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol as Part;
use net::{
    Direction, Identity, Limits, Membership, Messages, Network, NetworkSection, Post, Protocol,
    ProtocolSection, RateLimit, SendError, Services, Settings, Shutdown, StartError, StartNetwork, Topics,
    View,
};
use reload::{Ack, Link, Reconfigure, Step, Transaction};
use storage::{Member, Members, PeerKey};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// No wait in these tests takes this long unless it waits for something that never comes.
pub(crate) const NEVER: Duration = Duration::from_secs(120);

/// A running node.
pub(crate) struct Node {
    pub(crate) key: PeerKey,
    pub(crate) identity: Identity,
    pub(crate) section: NetworkSection,
    pub(crate) post: Post,
    pub(crate) services: Services,
    pub(crate) view: View,
    pub(crate) network: Link<Network>,
    pub(crate) protocol: Addr<Protocol>,
    pub(crate) messages: Messages,
    pub(crate) topics: Topics,
    transaction: Transaction,
}

pub(crate) fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

pub(crate) fn any_port() -> Multiaddr {
    address("/ip4/127.0.0.1/tcp/0")
}

pub(crate) fn network_section() -> NetworkSection {
    NetworkSection {
        listen: vec![any_port()],
        external: Vec::new(),
        membership: Membership::Open,
        limits: Limits {
            connections: 1024,
            connections_per_peer: 2,
            connections_per_ip: 64,
            pending_incoming: 64,
        },
        worker_threads: 2,
        connection_timeout: Duration::from_secs(10),
        reconnect_min: Duration::from_millis(200),
        reconnect_max: Duration::from_secs(2),
        members: Arc::new(Members::new()),
    }
}

pub(crate) fn protocol_section() -> ProtocolSection {
    ProtocolSection {
        ping_interval: Duration::from_secs(15),
        max_message_size: 1024 * 1024,
        rate_limit: RateLimit { messages_per_second: 1e6, burst: 1_000_000 },
        exchange_interval: Duration::from_secs(30),
        topics: Vec::new(),
        expose: Vec::new(),
        connect: Vec::new(),
    }
}

pub(crate) fn port(address: &Multiaddr) -> u16 {
    address
        .iter()
        .find_map(|part| if let Part::Tcp(port) | Part::Udp(port) = part { Some(port) } else { None })
        .unwrap()
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn members<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Arc<Members> {
    let entries = nodes.into_iter().map(|node| (node.key, member(node.key, node.view.listeners())));
    Arc::new(entries.collect())
}

pub(crate) fn member(key: PeerKey, addresses: Vec<Multiaddr>) -> Member {
    Member { key, addresses, name: None, connection_timeout: None, max_retries: None }
}

/// Whether a libp2p node answers there: its side of the multistream handshake.
pub(crate) fn answers(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok_and(is_served)
}

/// Whether this raw connection gets the first line of the multistream handshake.
pub(crate) fn is_served(mut stream: TcpStream) -> bool {
    const HELLO: &[u8] = b"\x13/multistream/1.0.0\n";
    stream.set_read_timeout(Some(NEVER)).unwrap();
    let mut reply = [0; HELLO.len()];
    stream.write_all(HELLO).is_ok() && stream.read_exact(&mut reply).is_ok() && reply == *HELLO
}

pub(crate) fn refuses(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(NEVER, future).await.unwrap_or_else(|_| panic!("waited for ever: {what}"))
}

// === impl Node ===

impl Node {
    pub(crate) fn start(section: NetworkSection) -> Self {
        Self::start_as(Identity::generate(), section).unwrap()
    }

    pub(crate) fn start_as(identity: Identity, section: NetworkSection) -> Result<Self, StartError> {
        let protocol = Arc::new(protocol_section());
        let (post, view) = (Post::new(Settings::from(&*protocol)), View::new());
        let services = Services::new();
        let topics = Topics::new(identity.public_key(), post.clone(), view.clone());
        let network = Network::start(StartNetwork {
            identity: identity.clone(),
            section: Arc::new(section.clone()),
            post: post.clone(),
            services: services.clone(),
            topics: topics.clone(),
            view: view.clone(),
        })?;
        let protocol = Protocol::start(protocol, post.clone(), &services, topics.clone());
        let messages = Messages::new(post.clone(), view.clone());
        let (key, transaction) = (identity.public_key(), Transaction::NONE);
        Ok(Self {
            key,
            identity,
            section,
            post,
            services,
            topics,
            view,
            network,
            protocol,
            messages,
            transaction,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        port(&self.view.listeners()[0])
    }

    async fn step(&self, step: Step<NetworkSection>) -> Ack {
        let message = Reconfigure::new(self.transaction, step);
        soon("a step", self.network.addr().send(message)).await.expect("the actor lives")
    }

    pub(crate) async fn prepare(&mut self, next: &NetworkSection) -> Ack {
        self.transaction = self.transaction.next();
        self.step(Step::Prepare(Arc::new(next.clone()), Instant::now() + NEVER)).await
    }

    pub(crate) async fn commit(&mut self) -> Ack {
        self.step(Step::Commit).await
    }

    pub(crate) async fn probe(&mut self) -> Ack {
        self.step(Step::Probe).await
    }

    pub(crate) async fn finish(&mut self) -> Ack {
        self.step(Step::Finish).await
    }

    pub(crate) async fn rollback(&mut self) -> Ack {
        self.step(Step::Rollback).await
    }

    /// A whole reload that goes well.
    pub(crate) async fn reload(&mut self, next: NetworkSection) {
        self.prepare(&next).await.unwrap();
        self.commit().await.unwrap();
        self.probe().await.unwrap();
        self.finish().await.unwrap();
        self.section = next;
    }

    pub(crate) async fn reload_with(&mut self, change: impl FnOnce(&mut NetworkSection)) {
        let mut next = self.section.clone();
        change(&mut next);
        self.reload(next).await;
    }

    pub(crate) async fn reload_protocol(&self, number: u64, change: impl FnOnce(&mut ProtocolSection)) {
        let mut next = protocol_section();
        change(&mut next);
        let transaction = (0..number).fold(Transaction::NONE, |t, _| t.next());
        let steps =
            [Step::Prepare(Arc::new(next), Instant::now() + NEVER), Step::Commit, Step::Probe, Step::Finish];
        for step in steps {
            self.protocol.send(Reconfigure::new(transaction, step)).await.unwrap().unwrap();
        }
    }

    /// Ids of the connections.
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.view.connections().into_iter().map(|connection| connection.id).collect()
    }

    /// Ids of the connections to this node.
    pub(crate) fn ids_to(&self, other: &Node) -> BTreeSet<String> {
        let connections = self.view.connections().into_iter();
        connections.filter(|c| c.public_key == Some(other.key)).map(|c| c.id).collect()
    }

    /// Whether both have one connection to the other, which one of them dialled, over one transport.
    fn agrees_with(&self, other: &Self) -> bool {
        let end = |of: &Self, to: &Self| {
            let connections = of.view.connections().into_iter();
            let mut ends = connections.filter(|connection| connection.public_key == Some(to.key)).map(|c| {
                let is_quic = c.address.iter().any(|part| matches!(part, Part::Udp(_)));
                (c.direction == Direction::Outbound, is_quic)
            });
            ends.next().filter(|_| ends.next().is_none())
        };
        match (end(self, other), end(other, self)) {
            (Some((dialled, over)), Some((other_dialled, other_over))) => {
                dialled != other_dialled && over == other_over
            }
            _ => false,
        }
    }

    pub(crate) fn is_connected_to(&self, other: &Node) -> bool {
        !self.ids_to(other).is_empty()
    }

    pub(crate) async fn send(&self, to: &Node, data: &[u8]) -> Result<(), SendError> {
        soon("a message's answer", self.messages.send(&to.key, None, data.to_vec())).await
    }

    pub(crate) async fn shut_down(&self) {
        soon("the shutdown", self.network.addr().send(Shutdown { within: NEVER })).await.unwrap();
    }
}

/// Makes all of these members of each other, and waits until each has one connection to each.
pub(crate) async fn mesh(nodes: &mut [Node]) {
    let all = members(nodes.iter());
    let next = |node: &Node| {
        let mut own = (*all).clone();
        own.remove(&node.key);
        NetworkSection { members: Arc::new(own), ..node.section.clone() }
    };
    // All at the same time: every pair dials each other.
    futures::future::join_all(nodes.iter_mut().map(|node| {
        let next = next(node);
        node.reload(next)
    }))
    .await;
    settled(nodes).await;
}

/// Waits until of every two nodes both ends have one connection to the other, and it is the same one. Each node is looked at on its
/// own and in the middle of what it does: that all are at rest at one moment is only known from what they say of each other.
/// Who else is connected does not count: a port that another test gave up is still dialled by those who knew it.
pub(crate) async fn settled(nodes: &[Node]) {
    let pairs = || {
        let ends = nodes.iter().enumerate();
        ends.flat_map(|(at, one)| nodes[at + 1..].iter().map(move |other| (one, other)))
    };
    let is_settled = || {
        nodes.iter().all(|node| node.view.handshakes() == 0)
            && pairs().all(|(one, other)| one.agrees_with(other))
    };
    while !is_settled() {
        let changes = nodes.iter().map(|node| {
            let mut changes = node.view.changes();
            changes.borrow_and_update();
            async move { changes.changed().await.expect("the view lives") }.boxed()
        });
        let changes = futures::future::select_all(changes);
        // What has changed before they were watched.
        if !is_settled() {
            soon("the mesh", changes).await;
        }
    }
}

/// What was logged in this process, as `message field=value …`.
pub(crate) fn logged(words: &[&str]) -> usize {
    let lines = LOG.lock().unwrap();
    lines.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// Keeps what this process logs from now on, for [`logged`].
pub(crate) fn capture_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Capture)).unwrap();
    });
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Capture;

impl<S: tracing::Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!(" {}={value:?}", field.name()));
            }
        }
        if event.metadata().target().starts_with("net") {
            let mut line = Line(String::new());
            event.record(&mut line);
            LOG.lock().unwrap().push(line.0);
        }
    }
}
