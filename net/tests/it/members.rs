//! Who is connected: the mesh, crossed dials, members that come, go, move and restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use net::{MemberState, Membership, Network, NetworkSection, would_close};
use reload::Reconfigurable;
use tokio::io::AsyncWriteExt;

use crate::harness::*;

#[actix::test]
async fn every_pair_of_members_ends_with_one_connection_and_both_mean_the_same() {
    let mut nodes: Vec<_> = (0..6).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    // A message in every direction: the connection that each end holds is the one that the other holds.
    for one in &nodes {
        for other in nodes.iter().filter(|other| other.key != one.key) {
            one.send(other, b"hello").await.unwrap();
        }
    }
    for node in &nodes {
        assert_eq!(node.view.connection_count(), nodes.len() - 1);
        assert_eq!(node.view.members_by_state(), BTreeMap::from([(MemberState::Connected, nodes.len() - 1)]));
    }
}

#[actix::test]
async fn messages_that_are_sent_while_dials_cross_arrive_once_and_in_order() {
    for _ in 0..5 {
        let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
        let mut inbox = nodes[1].post.subscribe(None);
        let (peer, messages) = (nodes[1].key, nodes[0].messages.clone());
        let (post, id) = (nodes[0].post.clone(), nodes[1].identity.peer_id());
        let view = nodes[0].view.clone();
        let talk = async {
            view.when(|_| post.is_connected(&id)).await;
            for n in 0..50u8 {
                // Between two connections there may be none: then nothing was sent.
                while let Err(error) = messages.send(&peer, None, vec![n]).await {
                    assert_eq!(error, net::SendError::NotConnected);
                    view.when(|_| post.is_connected(&id)).await;
                }
            }
        };
        soon("talk and mesh", futures::future::join(talk, mesh(&mut nodes))).await;
        for n in 0..50u8 {
            assert_eq!(inbox.recv().await.unwrap().data, [n]);
        }
        inbox.try_recv().expect_err("nothing twice");
    }
}

#[actix::test]
async fn a_member_added_is_dialled_at_once_and_one_removed_is_the_only_one_that_loses_its_connection() {
    for membership in [Membership::Open, Membership::Members] {
        let mut nodes: Vec<_> = (0..3).map(|_| Node::start(network_section())).collect();
        mesh(&mut nodes).await;
        let (first, rest) = nodes.split_first_mut().unwrap();
        first.reload_with(|section| section.membership = membership).await;
        let kept = first.ids_to(&rest[0]);
        let gone = first.ids_to(&rest[1]);

        // The one that is to be removed must not call back, as it may in an open federation.
        rest[1].reload_with(|section| section.members = Arc::default()).await;
        soon("the other side's farewell", first.view.when(|view| view.connection_count() == 1)).await;
        assert_eq!(first.ids_to(&rest[0]), kept);
        soon("dialled again", first.view.when(|view| view.connection_count() == 2)).await;
        let gone_now = first.ids_to(&rest[1]);
        assert_ne!(gone_now, gone, "ids are not used again");

        let next = NetworkSection { members: members([&rest[0]]), ..first.section.clone() };
        let connections = first.view.connections();
        let foretold = would_close(&first.section, &next, &connections);
        assert_eq!(
            foretold.into_iter().map(|(c, _)| c.id.clone()).collect::<std::collections::BTreeSet<_>>(),
            gone_now
        );
        first.prepare(&next).await.unwrap();
        first.commit().await.unwrap();
        assert_eq!(first.view.connection_count(), 2, "nobody is hung up on before the transaction stands");
        first.finish().await.unwrap();
        first.section = next;
        assert_eq!(first.ids(), kept, "when finish is answered, the connection is closed");
        assert_eq!(first.view.counted().closed_by_reload, 1);
        assert_eq!(first.view.members().len(), 1);
        assert_eq!(first.send(&rest[1], b"?").await, Err(net::SendError::UnknownPeer));
    }
}

#[actix::test]
async fn a_rollback_leaves_nothing_of_a_member_that_was_only_tried() {
    let (mut one, other) = (Node::start(network_section()), Node::start(network_section()));
    let mut dead = members([&other]);
    let nobody = net::Identity::generate().public_key();
    Arc::make_mut(&mut dead).insert(nobody, member(nobody, vec![address("/ip4/127.0.0.1/tcp/1")]));
    let next = NetworkSection { members: dead, ..one.section.clone() };
    one.prepare(&next).await.unwrap();
    assert_eq!(one.view.members().len(), 0);
    one.commit().await.unwrap();
    soon("the new member", one.view.when(|view| view.connection_count() == 1)).await;
    one.rollback().await.unwrap();
    assert_eq!((one.view.connection_count(), one.view.members().len()), (0, 0));
    soon("the other end", other.view.when(|view| view.connection_count() == 0)).await;
    one.reload(next).await;
    soon("the next reload works", one.view.when(|view| view.connection_count() == 1)).await;
}

#[actix::test]
async fn whoever_is_closed_hears_why_and_whoever_closes_says_so() {
    capture_log();
    // Nobody calls back while it is looked at.
    let never = Duration::from_secs(3600);
    let section = NetworkSection { reconnect_min: never, reconnect_max: never, ..network_section() };
    let mut nodes: Vec<_> = (0..3).map(|_| Node::start(section.clone())).collect();
    mesh(&mut nodes).await;
    let why = async |node: &Node, other: &Node| {
        let error = || {
            let members = node.view.members().into_iter();
            members.filter(|member| member.public_key == other.key).find_map(|member| member.last_error)
        };
        soon("the end", node.view.when(|_| error().is_some())).await;
        error().unwrap()
    };
    let rest = members([&nodes[2]]);
    nodes[0].reload_with(|section| section.members = rest).await;
    let removed = why(&nodes[1], &nodes[0]).await;
    assert_eq!(removed, "the peer has removed this node from its members");
    let closed = |other: &Node, why: &str| {
        logged(&["connection closed", &format!("peer_id={}", other.identity.peer_id()), why])
    };
    assert_eq!(closed(&nodes[1], "reason=the peer is removed from the members"), 1);
    nodes[0].shut_down().await;
    assert_eq!(why(&nodes[2], &nodes[0]).await, "the peer's node stops");
    assert_eq!(closed(&nodes[2], "reason=this node stops"), 1);
}

#[actix::test]
async fn a_member_that_cannot_hear_why_is_closed_all_the_same() {
    let other = Node::start(network_section());
    let (mut one, cut) = over_a_line(&other).await;
    cut.send(true).unwrap();
    one.reload_with(|section| section.members = Arc::default()).await;
    assert_eq!(one.view.connection_count(), 0);
}

#[actix::test]
async fn a_member_that_restarts_on_the_same_port_is_connected_again() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    let second = nodes.pop().unwrap();
    let listen = second.view.listeners();
    second.shut_down().await;
    let first = &nodes[0];
    soon("the loss", first.view.when(|view| view.connection_count() == 0)).await;
    let section = NetworkSection { listen, ..second.section.clone() };
    let second = Node::start_as(second.identity.clone(), section).unwrap();
    soon("the healing", first.view.when(|_| first.is_connected_to(&second))).await;
    soon("the other end", second.view.when(|_| second.is_connected_to(first))).await;
    soon("one connection", first.view.when(|view| view.connection_count() == 1)).await;
    first.send(&second, b"again").await.unwrap();
}

#[actix::test]
async fn a_member_that_is_not_there_is_failed_with_a_reason_and_found_when_its_address_is_corrected() {
    let other = Node::start(network_section());
    let wrong = address(&format!("/ip4/127.0.0.1/tcp/{}", free_port()));
    let section = NetworkSection {
        members: Arc::new([(other.key, member(other.key, vec![wrong.clone()]))].into()),
        // Only a dial at once makes it in time.
        reconnect_min: Duration::from_secs(3600),
        reconnect_max: Duration::from_secs(3600),
        ..network_section()
    };
    let mut one = Node::start(section);
    soon("a failure", one.view.when(|view| view.members()[0].state == MemberState::Failed)).await;
    let why = one.view.members()[0].last_error.clone().unwrap();
    assert!(why.contains(&wrong.to_string()), "{why}");
    one.reload_with(|section| section.members = members([&other])).await;
    soon("a connection", one.view.when(|view| view.members()[0].state == MemberState::Connected)).await;
    assert_eq!(one.view.members()[0].last_error, None);
}

#[actix::test]
async fn a_member_whose_address_is_corrected_while_it_is_dialled_is_dialled_there_at_once() {
    let other = Node::start(network_section());
    // Takes the connection, and says nothing: the dial is under way until its time is up.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let wrong = address(&format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port()));
    let section = NetworkSection {
        members: Arc::new([(other.key, member(other.key, vec![wrong]))].into()),
        // Only a dial at once makes it in time.
        connection_timeout: Duration::from_secs(3600),
        reconnect_min: Duration::from_secs(3600),
        reconnect_max: Duration::from_secs(3600),
        ..network_section()
    };
    let mut one = Node::start(section);
    soon("the dial", one.view.when(|view| view.members()[0].state == MemberState::Connecting)).await;
    let _held = silent.accept().unwrap();
    one.reload_with(|section| section.members = members([&other])).await;
    soon("a connection", one.view.when(|view| view.members()[0].state == MemberState::Connected)).await;
    assert_eq!(one.view.members()[0].last_error, None);
}

#[actix::test]
async fn someone_else_at_a_members_address_is_not_that_member() {
    let (stranger, absent) = (Node::start(network_section()), net::Identity::generate().public_key());
    let listed = member(absent, stranger.view.listeners());
    let section = NetworkSection { members: Arc::new([(absent, listed)].into()), ..network_section() };
    let one = Node::start(section);
    soon("a failure", one.view.when(|view| view.members()[0].state == MemberState::Failed)).await;
    let why = one.view.members()[0].last_error.clone().unwrap();
    assert!(why.contains("another peer"), "{why}");
    assert_eq!(one.view.connection_count(), 0);
}

/// A node that is connected to `other` over a line which can be cut without either end noticing.
async fn over_a_line(other: &Node) -> (Node, tokio::sync::watch::Sender<bool>) {
    let line = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // What goes into it after the cut soon fills it.
    line.set_recv_buffer_size(4096).unwrap();
    line.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    line.listen(1).unwrap();
    line.set_nonblocking(true).unwrap();
    let line = tokio::net::TcpListener::from_std(line.into()).unwrap();
    let at = line.local_addr().unwrap().port();
    let target = format!("127.0.0.1:{}", other.port());
    let (cut, mut is_cut) = tokio::sync::watch::channel(false);
    actix::spawn(async move {
        let (mut near, _) = line.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = is_cut.changed() => {}
        }
        // Both stay open, nothing goes through.
        let _ = is_cut.changed().await;
        let _ = (near.shutdown().await, far.shutdown().await);
    });
    let listed = member(other.key, vec![address(&format!("/ip4/127.0.0.1/tcp/{at}"))]);
    let section = NetworkSection { members: Arc::new([(other.key, listed)].into()), ..network_section() };
    let one = Node::start(section);
    soon("a connection", one.view.when(|view| view.connection_count() == 1)).await;
    (one, cut)
}

#[actix::test]
async fn a_peer_that_falls_silent_is_noticed_by_ping_and_a_new_interval_counts_at_once() {
    let other = Node::start(network_section());
    let (one, cut) = over_a_line(&other).await;
    one.send(&other, b"through the line").await.unwrap();
    cut.send(true).unwrap();
    // With the interval that it began with, 15 s, two missed pings would take longer than `soon` waits.
    one.reload_protocol(1, |section| section.ping_interval = Duration::from_millis(100)).await;
    soon("the silence", one.view.when(|view| view.connection_count() == 0)).await;
    let why = Some("the peer did not answer two pings in a row");
    soon("the reason", one.view.when(|view| view.members()[0].last_error.as_deref() == why)).await;
}

#[actix::test]
async fn a_peer_that_falls_silent_in_the_middle_of_much_is_not_waited_for() {
    let other = Node::start(network_section());
    let mut inbox = other.post.subscribe(None);
    actix::spawn(async move { while inbox.recv().await.is_some() {} });
    let (one, cut) = over_a_line(&other).await;
    let messages =
        || (0..8).map(|_| one.messages.send(&other.key, None, vec![0; 1_000_000])).collect::<Vec<_>>();
    // Until the stream's window is larger than what the line and the kernel take in.
    for _ in 0..20 {
        for answer in futures::future::join_all(messages()).await {
            answer.unwrap();
        }
    }
    cut.send(true).unwrap();
    let unanswered = actix::spawn(futures::future::join_all(messages()));
    one.reload_protocol(1, |section| section.ping_interval = Duration::from_millis(100)).await;
    soon("the silence", one.view.when(|view| view.connection_count() == 0)).await;
    drop(unanswered);
}

#[actix::test]
async fn a_shutdown_closes_listeners_and_connections_before_it_is_answered() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    let port = nodes[0].port();
    nodes[0].shut_down().await;
    assert_eq!(nodes[0].view.connection_count(), 0);
    assert!(refuses(port));
    soon("the other end", nodes[1].view.when(|view| view.connection_count() == 0)).await;
}

#[test]
fn the_component_is_named_as_the_plan_names_it() {
    assert_eq!((Network::NAME, net::Protocol::NAME), ("network", "protocol"));
}
