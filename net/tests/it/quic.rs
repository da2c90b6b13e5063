//! QUIC: listeners that come, go and move under the connections that came in over them.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, identify};
use net::{Membership, NetworkSection, View};

use crate::harness::*;

fn quic(ip: &str, port: u16) -> Multiaddr {
    address(&format!("/ip4/{ip}/udp/{port}/quic-v1"))
}

fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn takes(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn section() -> NetworkSection {
    NetworkSection { listen: vec![quic("127.0.0.1", 0)], ..network_section() }
}

/// Nodes that are connected over QUIC.
async fn quic_mesh(size: usize) -> Vec<Node> {
    let mut nodes: Vec<_> = (0..size).map(|_| Node::start(section())).collect();
    mesh(&mut nodes).await;
    for connection in nodes.iter().flat_map(|node| node.view.connections()) {
        assert!(connection.address.to_string().contains("/quic-v1"), "{}", connection.address);
    }
    nodes
}

/// Of two connected nodes the one that was dialled first, then the one that dialled: the connection lives on the former's
/// listener.
async fn pair() -> (Node, Node) {
    let (mut dialled, mut dialler) = (Node::start(section()), Node::start(section()));
    let known = std::sync::Arc::new(storage::Members::from([(dialler.key, member(dialler.key, Vec::new()))]));
    dialled.reload_with(|section| section.members = known).await;
    let known = members([&dialled]);
    dialler.reload_with(|section| section.members = known).await;
    soon("the connection", dialled.view.when(|view| view.connection_count() == 1)).await;
    soon("the connection", dialler.view.when(|view| view.connection_count() == 1)).await;
    (dialled, dialler)
}

async fn gone(view: &View) {
    soon("the retired endpoint closes", view.when(|view| view.retired().is_empty())).await;
}

/// Waits until the system gives the port to others.
async fn free(port: u16) {
    let wait = async {
        while !takes(port) {
            tokio::task::yield_now().await;
        }
    };
    soon("the port is free", wait).await;
}

/// A stranger of another make: libp2p as it comes, with nothing but identify.
struct Stranger {
    swarm: Swarm<identify::Behaviour>,
    /// Where the node says that it is.
    heard: Vec<Multiaddr>,
}

// === impl Stranger ===

impl Stranger {
    fn new() -> Self {
        let swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_quic()
            .with_behaviour(|key| {
                identify::Behaviour::new(identify::Config::new("/x/1".into(), key.public()))
            })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(NEVER))
            .build();
        Self { swarm, heard: Vec::new() }
    }

    /// Whether a node answers there, and lets it stay: a refusal of the node comes when a QUIC connection already looks open
    /// from here, because the end that dials is through with the handshake first.
    async fn reaches(&mut self, address: Multiaddr) -> bool {
        self.swarm.dial(address).unwrap();
        loop {
            match soon("the dial's end", self.swarm.select_next_some()).await {
                SwarmEvent::Behaviour(identify::Event::Received { info, .. }) => {
                    self.heard = info.listen_addrs;
                    return true;
                }
                SwarmEvent::OutgoingConnectionError { .. } | SwarmEvent::ConnectionClosed { .. } => {
                    return false;
                }
                _ => {}
            }
        }
    }

    /// Waits until what the node says of its addresses is so.
    async fn hears(&mut self, mut so: impl FnMut(&[Multiaddr]) -> bool) {
        while !so(&self.heard) {
            let event = soon("identify", self.swarm.select_next_some()).await;
            if let SwarmEvent::Behaviour(identify::Event::Received { info, .. }) = event {
                self.heard = info.listen_addrs;
            }
        }
    }
}

#[actix::test]
async fn members_find_each_other_over_quic_and_messages_arrive() {
    let nodes = quic_mesh(3).await;
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.key != from.key) {
            from.send(to, b"hello").await.unwrap();
        }
    }
}

#[actix::test]
async fn a_moved_listener_retires_takes_nobody_and_closes_with_its_last_connection() {
    let (mut node, mut peer) = pair().await;
    let (kept, old, new) = (node.ids(), node.port(), free_udp_port());
    assert_eq!(node.view.would_retire(&[quic("127.0.0.1", new)])[0].connections, 1);
    assert!(node.view.would_retire(&node.section.listen).is_empty(), "port 0 stays port 0");
    node.reload_with(|section| section.listen = vec![quic("127.0.0.1", new)]).await;
    assert_eq!(node.view.listeners(), [quic("127.0.0.1", new)]);
    let retired = node.view.retired();
    assert_eq!((retired.len(), retired[0].connections), (1, 1));
    assert_eq!(retired[0].endpoint.address.port(), old);
    peer.send(&node, b"over the old port").await.unwrap();

    assert!(Stranger::new().reaches(quic("127.0.0.1", new)).await);
    assert!(!Stranger::new().reaches(quic("127.0.0.1", old)).await, "it takes nobody any more");
    assert_eq!(node.view.counted().denied, 0, "that is no peer's fault");
    assert_eq!(node.ids_to(&peer), kept);
    assert!(!takes(old));

    // The peer goes, and with it the reason to stay open.
    peer.reload_with(|section| section.members = members([])).await;
    gone(&node.view).await;
    assert!(takes(old), "it is shown until the system gives its port to others");
}

#[actix::test]
async fn a_retired_listener_takes_newcomers_again_when_its_address_comes_back() {
    let (mut node, peer) = pair().await;
    let (kept, old) = (node.ids(), node.view.listeners()[0].clone());
    for _ in 0..3 {
        node.reload_with(|section| section.listen = vec![any_port()]).await;
        assert_eq!(node.view.retired().len(), 1);
        assert!(!Stranger::new().reaches(old.clone()).await);
        node.reload_with(|section| section.listen = vec![old.clone()]).await;
        assert!(node.view.retired().is_empty());
        assert_eq!(node.view.listeners(), std::slice::from_ref(&old));
        assert!(Stranger::new().reaches(old.clone()).await);
    }
    assert_eq!(node.ids_to(&peer), kept);
    peer.send(&node, b"all along").await.unwrap();
    node.send(&peer, b"both ways").await.unwrap();
}

#[actix::test]
async fn retired_endpoints_are_no_more_than_their_connections() {
    let mut node = Node::start(section());
    let mut peers = Vec::new();
    for count in 1..=3 {
        let known = members([&node]);
        let peer = Node::start(NetworkSection { members: known, ..section() });
        soon("the connection", node.view.when(|view| view.connection_count() == count)).await;
        peers.push(peer);
        // The first move leaves an endpoint with a connection behind, the second one without.
        for _ in 0..2 {
            node.reload_with(|section| section.listen = vec![quic("127.0.0.1", free_udp_port())]).await;
            soon("the one without closes", node.view.when(|view| view.retired().len() == count)).await;
            assert!(node.view.retired().iter().all(|held| held.connections == 1));
        }
    }
    for (left, peer) in (0..3).rev().zip(&peers) {
        node.send(peer, b"still here").await.unwrap();
        peer.shut_down().await;
        soon("its endpoint closes", node.view.when(|view| view.retired().len() == left)).await;
    }
}

#[actix::test]
async fn a_rollback_leaves_the_endpoint_as_it_was() {
    let (mut node, peer) = pair().await;
    let (kept, before, new) = (node.ids(), node.view.listeners(), free_udp_port());
    let next = NetworkSection { listen: vec![quic("127.0.0.1", new)], ..node.section.clone() };
    for undo_after_commit in [false, true] {
        node.prepare(&next).await.unwrap();
        assert!(!takes(new), "it is reserved");
        if undo_after_commit {
            node.commit().await.unwrap();
            assert!(Stranger::new().reaches(quic("127.0.0.1", new)).await);
        }
        node.rollback().await.unwrap();
        assert_eq!(node.view.listeners(), before);
        gone(&node.view).await;
        assert!(takes(new), "it is shown until the system gives its port to others");
        assert!(Stranger::new().reaches(before[0].clone()).await);
    }
    assert_eq!(node.ids_to(&peer), kept);
    // A port that was given up a moment ago is no obstacle.
    node.reload(next).await;
    peer.send(&node, b"still here").await.unwrap();
}

#[actix::test]
async fn a_commit_that_fails_after_the_endpoint_was_opened_is_undone_whole() {
    let (mut node, peer) = pair().await;
    let (kept, before) = (node.ids(), node.view.listeners());
    let (new, taken) = (free_udp_port(), free_port());
    let tcp = address(&format!("/ip4/127.0.0.1/tcp/{taken}"));
    let next = NetworkSection { listen: vec![quic("127.0.0.1", new), tcp], ..node.section.clone() };
    node.prepare(&next).await.unwrap();
    // Someone who sets SO_REUSEADDR as well may listen beside a bound socket.
    let thief = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    thief.set_reuse_address(true).unwrap();
    thief.bind(&SocketAddr::from(([127, 0, 0, 1], taken)).into()).unwrap();
    thief.listen(1).unwrap();
    node.commit().await.unwrap_err();
    node.rollback().await.unwrap();
    assert_eq!((node.view.listeners(), node.ids()), (before, kept));
    free(new).await;
    drop(thief);
    node.reload(next).await;
    peer.send(&node, b"still here").await.unwrap();
}

#[actix::test]
async fn an_occupied_udp_port_is_refused_in_prepare() {
    let mut node = Node::start(section());
    let before = node.view.listeners();
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = quic("127.0.0.1", holder.local_addr().unwrap().port());
    let next = NetworkSection { listen: vec![taken.clone()], ..node.section.clone() };
    let error = node.prepare(&next).await.unwrap_err();
    assert!(error.message.contains(&taken.to_string()), "{error}");
    assert_eq!((error.class, error.key.as_deref()), (reload::Class::System, Some("network.addresses")));
    node.rollback().await.unwrap();
    assert_eq!(node.view.listeners(), before);
    drop(holder);
    node.reload(next).await;
    assert_eq!(node.view.listeners(), [taken]);
}

#[actix::test]
async fn an_endpoint_cannot_be_widened_or_narrowed_while_it_is_open_and_is_told_so() {
    let (mut node, peer) = pair().await;
    let (kept, port) = (node.ids(), node.port());
    let wide = NetworkSection { listen: vec![quic("0.0.0.0", port)], ..node.section.clone() };
    for was_removed in [false, true] {
        let error = node.prepare(&wide).await.unwrap_err();
        assert_eq!(error.class, reload::Class::Component);
        let own = quic("127.0.0.1", port).to_string();
        assert!(error.message.contains(&own) && error.message.contains("connection"), "{error}");
        assert!(error.hint.is_some());
        node.rollback().await.unwrap();
        assert_eq!(node.view.retired().len(), usize::from(was_removed));
        // Removed alone, it stays for its connection, and is in the way all the same.
        node.reload_with(|section| section.listen = vec![any_port()]).await;
    }
    assert_eq!(node.ids(), kept);
    peer.shut_down().await;
    gone(&node.view).await;
    assert!(takes(port), "it is shown until the system gives its port to others");
    node.reload(wide.clone()).await;
    assert_eq!(node.view.listeners(), wide.listen);
}

#[actix::test]
async fn an_open_port_becomes_a_fixed_one_on_the_same_socket() {
    let (mut node, peer) = pair().await;
    let (kept, fixed) = (node.ids(), node.view.listeners()[0].clone());
    assert!(node.view.would_retire(std::slice::from_ref(&fixed)).is_empty());
    node.reload_with(|section| section.listen = vec![fixed.clone()]).await;
    assert_eq!(node.view.listeners(), std::slice::from_ref(&fixed));
    assert!(node.view.retired().is_empty());
    assert!(Stranger::new().reaches(fixed).await);
    peer.send(&node, b"still here").await.unwrap();
    assert_eq!(node.ids_to(&peer), kept);
}

#[actix::test]
async fn peers_hear_where_the_node_is_and_not_where_it_was() {
    let (mut node, _peer) = pair().await;
    let external = address("/dns4/node.example/udp/9/quic-v1");
    node.reload_with(|section| section.external = vec![external.clone()]).await;
    let old = node.view.listeners()[0].clone();
    let mut stranger = Stranger::new();
    assert!(stranger.reaches(old.clone()).await);
    stranger.hears(|said| said.contains(&old) && said.contains(&external)).await;
    let new = quic("127.0.0.1", free_udp_port());
    let other = address("/dns4/other.example/udp/9/quic-v1");
    node.reload_with(|section| {
        section.listen = vec![new.clone()];
        section.external = vec![other.clone()];
    })
    .await;
    let so = |said: &[Multiaddr]| {
        said.contains(&new) && said.contains(&other) && !said.contains(&old) && !said.contains(&external)
    };
    stranger.hears(so).await;
}

#[actix::test]
async fn over_tcp_and_quic_at_once_one_connection_is_kept_of_each_pair() {
    let both = || NetworkSection { listen: vec![any_port(), quic("127.0.0.1", 0)], ..network_section() };
    for _ in 0..5 {
        let mut nodes: Vec<_> = (0..4).map(|_| Node::start(both())).collect();
        mesh(&mut nodes).await;
        let pairs = || nodes.iter().flat_map(|from| nodes.iter().map(move |to| (from, to)));
        let ids = || pairs().map(|(from, to)| from.ids_to(to)).collect::<Vec<_>>();
        let before = ids();
        for (from, to) in pairs().filter(|(from, to)| from.key != to.key) {
            from.send(to, b"hello").await.unwrap();
        }
        // A dial at the other address, which its own end has dropped, may show for a moment at the end that was slow to take it.
        settled(&nodes).await;
        assert_eq!(ids(), before, "none replaced another");
        for node in &nodes {
            node.shut_down().await;
        }
    }
}

#[actix::test]
async fn threads_change_under_quic_connections_that_stay_and_that_are_being_made() {
    let mut nodes = quic_mesh(2).await;
    let before: Vec<_> = nodes.iter().map(Node::ids).collect();
    for threads in [1, 3, 2] {
        for node in &mut nodes {
            node.reload_with(|section| section.worker_threads = threads).await;
        }
        nodes[0].send(&nodes[1], b"on").await.unwrap();
        nodes[1].send(&nodes[0], b"and on").await.unwrap();
        let mut stranger = Stranger::new();
        assert!(stranger.reaches(nodes[0].view.listeners()[0].clone()).await);
    }
    assert_eq!(nodes[0].ids_to(&nodes[1]), before[0]);
    assert_eq!(nodes[1].ids(), before[1]);
}

#[actix::test]
async fn strangers_are_refused_where_only_members_may_connect() {
    let mut node = Node::start(NetworkSection { membership: Membership::Members, ..section() });
    assert!(!Stranger::new().reaches(node.view.listeners()[0].clone()).await);
    assert_eq!(node.view.counted().denied, 1);
    assert_eq!(node.view.connection_count(), 0);
    let limits = net::Limits { pending_incoming: 0, ..node.section.limits };
    node.reload_with(|section| section.limits = limits).await;
    assert!(!Stranger::new().reaches(node.view.listeners()[0].clone()).await, "not even a handshake");
    assert_eq!(node.view.counted().denied, 2);
}

#[actix::test]
async fn a_handshake_that_stops_half_way_ends_by_the_limit_of_the_moment() {
    let mut node = Node::start(NetworkSection { connection_timeout: NEVER * 20, ..section() });
    node.reload_with(|section| section.connection_timeout = Duration::from_secs(1)).await;
    let server = SocketAddr::from(([127, 0, 0, 1], node.port()));
    // The first packet gets through, and nothing after it.
    let between = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let near = quic("127.0.0.1", between.local_addr().unwrap().port());
    let mut stranger = Stranger::new();
    stranger.swarm.dial(near).unwrap();
    let through = async {
        let mut packet = [0; 2048];
        let (length, _) = between.recv_from(&mut packet).await.unwrap();
        between.send_to(&packet[..length], server).await.unwrap();
    };
    let driven = async {
        loop {
            stranger.swarm.select_next_some().await;
        }
    };
    let through = std::pin::pin!(through);
    let driven = std::pin::pin!(driven);
    soon("the first packet", futures::future::select(through, driven)).await;
    soon("the handshake begins", node.view.when(|view| view.handshakes() == 1)).await;
    soon("and is given up", node.view.when(|view| view.handshakes() == 0)).await;
    assert_eq!(node.view.counted().inbound, 0);
}

#[actix::test]
async fn a_goodbye_is_heard_before_the_connection_closes() {
    let (mut node, mut peer) = pair().await;
    let never = Duration::from_secs(3600);
    peer.reload_with(|section| (section.reconnect_min, section.reconnect_max) = (never, never)).await;
    node.reload_with(|section| section.members = members([])).await;
    soon("the end", peer.view.when(|view| view.members()[0].last_error.is_some())).await;
    let why = peer.view.members()[0].last_error.clone();
    assert_eq!(why.as_deref(), Some("the peer has removed this node from its members"));
}

#[actix::test]
async fn a_stop_closes_retired_endpoints_too_and_the_peer_notices() {
    let (mut node, peer) = pair().await;
    let old = node.port();
    node.reload_with(|section| section.listen = vec![any_port()]).await;
    assert!(!takes(old));
    node.shut_down().await;
    soon("the peer notices", peer.view.when(|view| view.connection_count() == 0)).await;
    free(old).await;
}
