//! A peer that is the network and protocol actors of a node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use futures::StreamExt as _;
use libp2p::Multiaddr;
use net::{
    Identity, Limits, Membership, Messages, Network, NetworkSection, Post, Protocol, ProtocolSection,
    RateLimit, Services, Settings, StartNetwork, Topics, View,
};
use reload::Link;
use storage::{Member, Members, PeerKey};

use super::{Load, Role, Sent, Target, WINDOW, say_crowd, say_sent, say_where, until_dismissed};
use crate::samples::Samples;

/// Between two exchanges of a peer that says nothing by the clock.
const QUIET: Duration = Duration::from_secs(24 * 60 * 60);

struct Ours {
    key: PeerKey,
    view: View,
    messages: Messages,
    _protocol: Addr<Protocol>,
    _network: Link<Network>,
}

pub(super) async fn run(role: Role) {
    match role {
        Role::Serve(members) => {
            let peer = Ours::start(Identity::generate(), nowhere(&members), Part::Server);
            let mut inbox = peer.messages.subscribe(None);
            let reader = actix::spawn(async move { while inbox.recv().await.is_some() {} });
            say_where(peer.key, &peer.view.listeners()[0]);
            until_dismissed().await;
            reader.abort();
        }
        Role::Load(to, who, load) => {
            let target = || Arc::new(Members::from([(to.key, member(to.key, vec![to.address.clone()]))]));
            let peers: Vec<_> = who.into_iter().map(|who| Ours::start(who, target(), Part::Client)).collect();
            for peer in &peers {
                peer.view.when(|view| view.connection_count() > 0).await;
            }
            let sent = futures::future::join_all(peers.iter().map(|peer| peer.send(&to, load))).await;
            say_sent(&sent);
        }
        Role::Crowd(count, others) => {
            // Each has sockets and the pipes of its runtimes.
            fednode::limits::raise_descriptor_limit();
            let who: Vec<_> = (0..count).map(|_| Identity::generate()).collect();
            // Not each other: they would hear of each other's addresses, and become the mesh that the machine cannot hold.
            let members = nowhere(&others);
            let peers: Vec<_> =
                who.into_iter().map(|who| Ours::start(who, Arc::clone(&members), Part::OneOfMany)).collect();
            say_crowd(peers.iter().map(|peer| (peer.key, peer.view.listeners()[0].clone())));
            until_dismissed().await;
        }
        Role::Idle(..) => unreachable!("peers that say nothing are bare"),
    }
}

/// What a peer is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It listens, and has the machine's cores.
    Server,
    /// It dials, and has the machine's cores.
    Client,
    /// It listens, and has a core like hundreds of others. What it says it says because something has changed.
    OneOfMany,
}

/// Members that are not dialled.
fn nowhere(keys: &[PeerKey]) -> Arc<Members> {
    Arc::new(keys.iter().map(|key| (*key, member(*key, Vec::new()))).collect())
}

fn member(key: PeerKey, addresses: Vec<Multiaddr>) -> Member {
    Member { key, addresses, name: None, connection_timeout: None, max_retries: None }
}

// === impl Ours ===

impl Ours {
    fn start(identity: Identity, members: Arc<Members>, part: Part) -> Self {
        let listen = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let section = NetworkSection {
            listen: if part == Part::Client { Vec::new() } else { vec![listen] },
            external: Vec::new(),
            membership: Membership::Open,
            limits: Limits {
                connections: 1024,
                connections_per_peer: 2,
                connections_per_ip: 64,
                pending_incoming: 64,
            },
            worker_threads: if part == Part::OneOfMany { 1 } else { cores },
            connection_timeout: Duration::from_secs(10),
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(10),
            members,
        };
        let exchange_interval = if part == Part::OneOfMany { QUIET } else { Duration::from_secs(30) };
        let protocol = ProtocolSection {
            ping_interval: Duration::from_secs(15),
            max_message_size: 1 << 20,
            // It is not what is measured.
            rate_limit: RateLimit { messages_per_second: 1e9, burst: u32::MAX },
            exchange_interval,
            topics: Vec::new(),
            expose: Vec::new(),
            connect: Vec::new(),
        };
        let (view, post) = (View::new(), Post::new(Settings::from(&protocol)));
        let (services, key) = (Services::new(), identity.public_key());
        let topics = Topics::new(key, post.clone(), view.clone());
        let start = StartNetwork {
            identity,
            section: Arc::new(section),
            post: post.clone(),
            services: services.clone(),
            topics: topics.clone(),
            view: view.clone(),
        };
        let network = Network::start(start).expect("the network starts");
        let messages = Messages::new(post.clone(), view.clone());
        let protocol = Protocol::start(Arc::new(protocol), post, &services, topics);
        Self { key, view, messages, _protocol: protocol, _network: network }
    }

    async fn one(&self, to: &Target, data: Vec<u8>) {
        self.messages.send(&to.key, None, data).await.expect("it arrives");
    }

    async fn send(&self, to: &Target, load: Load) -> Sent {
        match load {
            Load::Flood { size, lasting } => {
                let data = vec![b'x'; size];
                let began = Instant::now();
                let bytes = futures::stream::repeat_with(|| self.one(to, data.clone()))
                    .take_while(|_| std::future::ready(began.elapsed() < lasting))
                    .buffer_unordered(WINDOW)
                    .fold(0, |bytes, ()| std::future::ready(bytes + size as u64))
                    .await;
                Sent::since(began, bytes, Samples::default())
            }
            Load::PingPong { size, rounds } => {
                let (began, mut round_trips) = (Instant::now(), Samples::default());
                for _ in 0..rounds {
                    let data = vec![b'x'; size];
                    let sent = Instant::now();
                    self.one(to, data).await;
                    round_trips.add_us(sent.elapsed());
                }
                Sent::since(began, (size * rounds) as u64, round_trips)
            }
        }
    }
}
