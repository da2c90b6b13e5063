//! Listeners that come, go and move while connections stay.

use std::net::{SocketAddr, TcpStream};

use net::{NetworkSection, StartError};

use crate::harness::*;

fn at(ip: &str, port: u16) -> libp2p::Multiaddr {
    address(&format!("/ip4/{ip}/tcp/{port}"))
}

#[actix::test]
async fn a_listener_is_added_moved_widened_and_narrowed_and_connections_stay() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    // A node whose own dial was taken and one whose dial was not: both directions.
    for node in &mut nodes {
        let kept = node.ids();
        let old = node.port();
        let (port, other) = (free_port(), free_port());
        node.reload_with(|section| section.listen = vec![at("127.0.0.1", port)]).await;
        assert_eq!(node.view.listeners(), [at("127.0.0.1", port)]);
        assert!(answers(port) && refuses(old), "moved");

        for (ip, listens_elsewhere) in [("0.0.0.0", true), ("127.0.0.1", false)] {
            node.reload_with(|section| section.listen = vec![at(ip, port)]).await;
            assert_eq!(node.view.listeners(), [at(ip, port)]);
            assert!(answers(port));
            let elsewhere = TcpStream::connect(SocketAddr::from(([127, 0, 0, 2], port)));
            assert_eq!(elsewhere.is_ok(), listens_elsewhere, "{ip}");
        }

        node.reload_with(|section| section.listen.insert(0, at("127.0.0.1", other))).await;
        assert_eq!(node.view.listeners(), [at("127.0.0.1", other), at("127.0.0.1", port)], "in file order");
        assert!(answers(port) && answers(other));
        node.reload_with(|section| drop(section.listen.remove(1))).await;
        assert!(refuses(port) && answers(other));
        assert_eq!(node.ids(), kept);
    }
    nodes[0].send(&nodes[1], b"still here").await.unwrap();
    nodes[1].send(&nodes[0], b"still here").await.unwrap();
}

#[actix::test]
async fn every_open_port_keeps_its_number_while_its_entry_stays() {
    let mut node = Node::start(NetworkSection { listen: vec![any_port(), any_port()], ..network_section() });
    let ports = node.view.listeners();
    assert_ne!(ports[0], ports[1]);
    node.reload_with(|section| section.listen.push(any_port())).await;
    assert_eq!(node.view.listeners()[..2], ports);
    node.reload_with(|section| drop(section.listen.drain(..2))).await;
    assert_eq!(node.view.listeners(), ports[..1]);
    // The open port as a fixed number: the same socket address twice for a moment.
    let fixed = ports[0].clone();
    node.reload_with(|section| section.listen = vec![fixed.clone()]).await;
    assert_eq!(node.view.listeners(), std::slice::from_ref(&fixed));
    assert!(answers(port(&fixed)));
}

#[actix::test]
async fn an_occupied_port_is_refused_in_prepare_and_nothing_is_touched() {
    let mut node = Node::start(network_section());
    let before = node.view.listeners();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = at("127.0.0.1", holder.local_addr().unwrap().port());
    let free = free_port();
    let next = NetworkSection {
        listen: vec![at("127.0.0.1", free), taken.clone()],
        worker_threads: 1,
        ..node.section.clone()
    };
    let error = node.prepare(&next).await.unwrap_err();
    assert_eq!(error.key.as_deref(), Some("network.addresses"));
    assert!(error.message.contains(&taken.to_string()), "{error}");
    assert!(error.hint.is_some());
    node.rollback().await.unwrap();
    assert_eq!(node.view.listeners(), before);
    assert_eq!(node.view.worker_threads(), 2);
    assert!(answers(node.port()));
    net::Reservation::new(&at("127.0.0.1", free), &[]).expect("the other reservation was given back");
    // A second node holds its port as well, though libp2p sets SO_REUSEPORT.
    let second = Node::start(network_section());
    let theirs = NetworkSection { listen: second.view.listeners(), ..node.section.clone() };
    node.prepare(&theirs).await.unwrap_err();
    // And the next good reload works.
    drop(holder);
    node.reload(next).await;
    assert_eq!(node.view.listeners(), [at("127.0.0.1", free), taken]);
}

#[actix::test]
async fn what_is_prepared_takes_no_traffic_and_a_rollback_gives_it_back() {
    let mut node = Node::start(network_section());
    let port = free_port();
    let next = NetworkSection { listen: vec![at("127.0.0.1", port)], ..node.section.clone() };
    node.prepare(&next).await.unwrap();
    assert!(refuses(port) && answers(node.port()));
    // A plain bind, as other programs do it; std's sets SO_REUSEADDR, which may sit beside a reservation.
    let bind = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())
    };
    bind().expect_err("it is reserved");
    node.rollback().await.unwrap();
    bind().expect("it is free again");
}

#[actix::test]
async fn a_rollback_after_the_commit_brings_the_old_listeners_back() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    let node = &mut nodes[0];
    let (before, kept, old) = (node.view.listeners(), node.ids(), node.port());
    let port = free_port();
    for listen in
        [vec![at("127.0.0.1", port)], vec![at("0.0.0.0", old)], vec![any_port(), at("127.0.0.1", port)]]
    {
        let next = NetworkSection { listen: listen.clone(), worker_threads: 3, ..node.section.clone() };
        node.prepare(&next).await.unwrap();
        node.commit().await.unwrap();
        node.probe().await.unwrap();
        assert_eq!(node.view.worker_threads(), 3);
        assert!(answers(old), "{listen:?}: the old one takes connections until the end");
        node.rollback().await.unwrap();
        assert_eq!((node.view.listeners(), node.view.worker_threads()), (before.clone(), 2));
        assert!(answers(old) && refuses(port), "{listen:?}");
        TcpStream::connect(SocketAddr::from(([127, 0, 0, 2], old))).expect_err("no wildcard is left");
        assert_eq!(node.ids(), kept);
    }
}

#[actix::test]
async fn a_commit_that_fails_half_way_is_undone_whole() {
    let mut node = Node::start(network_section());
    let (first, second) = (free_port(), free_port());
    // Reserved, then taken by force: someone who also sets SO_REUSEADDR may listen beside a bound socket.
    let next = NetworkSection {
        listen: vec![at("127.0.0.1", first), at("127.0.0.1", second)],
        worker_threads: 4,
        ..node.section.clone()
    };
    node.prepare(&next).await.unwrap();
    let thief = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    thief.set_reuse_address(true).unwrap();
    thief.bind(&SocketAddr::from(([127, 0, 0, 1], second)).into()).unwrap();
    thief.listen(1).unwrap();
    let error = node.commit().await.unwrap_err();
    assert_eq!(error.key.as_deref(), Some("network.addresses"));
    node.rollback().await.unwrap();
    assert!(refuses(first) && answers(node.port()));
    assert_eq!(node.view.worker_threads(), 2);
    drop(thief);
    node.reload(next).await;
    assert!(answers(first) && answers(second));
}

#[actix::test]
async fn connections_that_wait_in_the_accept_queue_outlive_their_listener() {
    let limits = net::Limits { pending_incoming: 1000, ..network_section().limits };
    let mut node = Node::start(NetworkSection { limits, ..network_section() });
    for _ in 0..5 {
        let old = node.port();
        let next = NetworkSection { listen: vec![at("127.0.0.1", free_port())], ..node.section.clone() };
        node.prepare(&next).await.unwrap();
        node.commit().await.unwrap();
        let queued: Vec<_> =
            (0..40).map(|_| TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], old))).unwrap()).collect();
        node.finish().await.unwrap();
        assert!(refuses(old));
        assert_eq!(queued.into_iter().map(is_served).filter(|served| *served).count(), 40);
        node.section = next;
    }
}

#[actix::test]
async fn a_start_on_an_occupied_port_names_the_address_and_leaves_nothing_open() {
    let running = Node::start(network_section());
    let free = free_port();
    let listen = vec![at("127.0.0.1", free), running.view.listeners()[0].clone()];
    let started = Node::start_as(net::Identity::generate(), NetworkSection { listen, ..network_section() });
    let Err(error @ StartError::Reserve(_)) = started else { panic!("it started") };
    assert!(error.to_string().contains(&running.view.listeners()[0].to_string()), "{error}");
    std::net::TcpListener::bind(("127.0.0.1", free)).expect("given back");
}

#[actix::test]
async fn an_ipv6_listener_and_an_ipv4_one_share_a_port() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return; // A machine without IPv6 has nothing to share.
    }
    let port = free_port();
    let listen = vec![at("0.0.0.0", port), address(&format!("/ip6/::/tcp/{port}"))];
    let node = Node::start(NetworkSection { listen: listen.clone(), ..network_section() });
    assert_eq!(node.view.listeners(), listen);
    assert!(answers(port));
    assert!(is_served(TcpStream::connect(("::1", port)).unwrap()));
}

#[actix::test]
async fn two_listeners_swap_their_ports_and_connections_stay() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    let kept = nodes[0].ids();
    let (one, other) = (free_port(), free_port());
    let node = &mut nodes[0];
    node.reload_with(|section| section.listen = vec![at("127.0.0.1", one), at("0.0.0.0", other)]).await;
    node.reload_with(|section| section.listen = vec![at("127.0.0.1", other), at("0.0.0.0", one)]).await;
    assert_eq!(node.view.listeners(), [at("127.0.0.1", other), at("0.0.0.0", one)]);
    assert!(answers(one) && answers(other));
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 2], one))).expect("the wildcard is on this port now");
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 2], other))).expect_err("and not on that one");
    assert_eq!(node.ids(), kept);
    nodes[0].send(&nodes[1], b"still here").await.unwrap();
}

/// A handshake is driven by the threads in office when it began; its connection must not end with them.
#[actix::test]
async fn a_connection_outlives_the_threads_that_its_handshake_began_on() {
    let mut node = Node::start(network_section());
    let mut peer = Node::start(network_section());
    // A way to the node that holds back what it is told until it is let go.
    let way = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = at("127.0.0.1", way.local_addr().unwrap().port());
    let known = storage::Members::from([(node.key, member(node.key, vec![through]))]);
    peer.reload_with(|section| section.members = std::sync::Arc::new(known)).await;
    let (mut near, _) = soon("the dial", way.accept()).await.unwrap();
    let mut far = tokio::net::TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    soon("the handshake", node.view.when(|view| view.handshakes() == 1)).await;
    for node in [&mut node, &mut peer] {
        node.reload_with(|section| section.worker_threads = 1).await;
    }
    actix::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
    soon("the connection", peer.view.when(|view| view.connection_count() == 1)).await;
    soon("the connection", node.view.when(|view| view.connection_count() == 1)).await;
    let ids = (node.ids(), peer.ids());
    for _ in 0..3 {
        peer.send(&node, b"on").await.unwrap();
        node.send(&peer, b"and on").await.unwrap();
    }
    assert_eq!((node.ids(), peer.ids()), ids);
}
