//! Who is turned away, and who is not.

use std::io::ErrorKind;
use std::time::Duration;

use net::{Limits, MemberState, Membership, NetworkSection};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::*;

/// A node that dials this one, as if it were a member.
fn caller(of: &Node) -> Node {
    Node::start(NetworkSection { members: members([of]), ..network_section() })
}

async fn turned_away(node: &Node, caller: &Node, reason: &str) {
    let peer = caller.identity.peer_id().to_string();
    soon("the refusal", caller.view.when(|view| view.members()[0].state == MemberState::Failed)).await;
    soon("its event", async {
        while logged(&["peer_denied", &peer, reason]) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(node.view.counted().denied > 0);
    assert!(!node.is_connected_to(caller));
}

#[actix::test]
async fn only_members_may_connect_where_only_members_may() {
    capture_log();
    let mut node = Node::start(network_section());
    let stays = caller(&node);
    soon("a stranger", node.view.when(|view| view.connection_count() == 1)).await;
    let (member, stranger) = (caller(&node), Node::start(network_section()));
    soon("another", node.view.when(|view| view.connection_count() == 2)).await;
    let kept = node.ids_to(&member);

    let members_only = NetworkSection {
        membership: Membership::Members,
        members: members([&member]),
        ..node.section.clone()
    };
    node.reload(members_only).await;
    assert_eq!(node.ids(), kept, "the stranger is out, the member is not touched");
    assert_eq!(node.view.counted().closed_by_reload, 1);
    turned_away(&node, &stays, "not a member").await;

    let mut stranger = stranger;
    stranger.reload_with(|section| section.members = members([&node])).await;
    turned_away(&node, &stranger, "not a member").await;
    node.reload_with(|section| section.membership = Membership::Open).await;
    soon("all are welcome", node.view.when(|view| view.connection_count() == 3)).await;
    assert_eq!(node.ids_to(&member), kept);
}

#[actix::test]
async fn a_stranger_admitted_by_a_section_that_is_taken_back_goes_with_it() {
    let mut node = Node::start(NetworkSection { membership: Membership::Members, ..network_section() });
    let open = NetworkSection { membership: Membership::Open, ..node.section.clone() };
    node.prepare(&open).await.unwrap();
    node.commit().await.unwrap();
    let stranger = caller(&node);
    soon("a stranger", node.view.when(|view| view.connection_count() == 1)).await;
    node.rollback().await.unwrap();
    assert!(!node.is_connected_to(&stranger));
    assert_eq!(node.view.counted().closed_by_reload, 0, "no configuration in force forbids more than before");
}

#[actix::test]
async fn a_lower_limit_sheds_nothing_and_a_higher_one_lets_in() {
    capture_log();
    let mut node = Node::start(network_section());
    let callers: Vec<_> = (0..3).map(|_| caller(&node)).collect();
    soon("all", node.view.when(|view| view.connection_count() == callers.len())).await;
    let kept = node.ids();
    let limits = Limits { connections: 1, ..node.section.limits };
    node.reload_with(|section| section.limits = limits).await;
    assert_eq!(node.ids(), kept);
    callers[0].send(&node, b"still here").await.unwrap();

    let late = caller(&node);
    // The address is over before the handshake begins: the peer is not known yet.
    soon("a refusal", late.view.when(|view| view.members()[0].state == MemberState::Failed)).await;
    assert!(logged(&["peer_denied", "too many connections"]) > 0);
    assert_eq!(node.ids(), kept);
    let limits = Limits { connections: 4, ..node.section.limits };
    node.reload_with(|section| section.limits = limits).await;
    soon("the late one", node.view.when(|_| node.is_connected_to(&late))).await;
    assert!(node.ids().is_superset(&kept));
}

#[actix::test]
async fn handshakes_that_lead_nowhere_are_bounded_and_make_room_for_others() {
    capture_log();
    let limits = Limits { pending_incoming: 2, ..network_section().limits };
    let node = Node::start(NetworkSection { limits, connection_timeout: HOURS, ..network_section() });
    let (mut first, second) = (silent(&node).await, silent(&node).await);
    let third = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    hung_up(&mut first).await;
    assert!(logged(&["peer_denied", "127.0.0.1", "too many handshakes at once"]) > 0);
    assert!(is_held(&second) && is_held(&third));
    let caller = caller(&node);
    soon("room for somebody", caller.view.when(|view| view.connection_count() == 1)).await;
}

/// Longer than any test.
const HOURS: Duration = Duration::from_secs(10_000);

/// A connection that never says anything, when the node has taken it.
async fn silent(node: &Node) -> TcpStream {
    let before = node.view.handshakes();
    let stream = TcpStream::connect(("127.0.0.1", node.port())).await.unwrap();
    soon("a handshake", node.view.when(|view| view.handshakes() > before)).await;
    stream
}

async fn hung_up(stream: &mut TcpStream) {
    let end = soon("the node's patience to end", stream.read(&mut [0])).await;
    assert!(end.is_err() || end.is_ok_and(|bytes| bytes == 0), "a node that is not spoken to says nothing");
}

fn is_held(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[actix::test]
async fn a_silent_handshake_ends_within_the_timeout_that_it_began_under() {
    let mut node = Node::start(NetworkSection { connection_timeout: HOURS, ..network_section() });
    let early = silent(&node).await;
    node.reload_with(|section| section.connection_timeout = Duration::from_secs(1)).await;
    let mut late = silent(&node).await;
    hung_up(&mut late).await;
    assert!(is_held(&early));
}

#[actix::test]
async fn a_handshake_timeout_that_is_taken_back_counts_no_more() {
    let section = NetworkSection { connection_timeout: Duration::from_secs(1), ..network_section() };
    let mut node = Node::start(section);
    let tried = NetworkSection { connection_timeout: HOURS, ..node.section.clone() };
    node.prepare(&tried).await.unwrap();
    node.commit().await.unwrap();
    let meanwhile = silent(&node).await;
    node.rollback().await.unwrap();
    let mut after = silent(&node).await;
    hung_up(&mut after).await;
    assert!(is_held(&meanwhile));
}

#[actix::test]
async fn silent_strangers_do_not_keep_a_member_out() {
    capture_log();
    let caller = Node::start(network_section());
    let limits = Limits { pending_incoming: 4, ..network_section().limits };
    // It is known by its address, but not reached there: it has to come by itself.
    let known = [(caller.key, member(caller.key, vec![address("/ip4/127.0.0.1/tcp/1")]))];
    let node = Node::start(NetworkSection {
        limits,
        connection_timeout: HOURS,
        reconnect_min: HOURS,
        reconnect_max: HOURS,
        members: std::sync::Arc::new(known.into()),
        ..network_section()
    });
    soon("its dial", node.view.when(|view| view.members()[0].state == MemberState::Failed)).await;
    let stranger = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        soon("a stranger", socket.connect(([127, 0, 0, 1], node.port()).into())).await.unwrap()
    };
    let mut first = stranger().await;
    let strangers = [stranger().await, stranger().await, stranger().await];
    hung_up(&mut first).await;
    assert!(logged(&["peer_denied", "127.0.0.2", "too many handshakes at once"]) > 0);
    let mut caller = caller;
    caller.reload_with(|section| section.members = members([&node])).await;
    soon("the member", node.view.when(|_| node.is_connected_to(&caller))).await;
    assert!(strangers.iter().all(is_held));
}

#[actix::test]
async fn fewer_or_more_threads_leave_connections_alone_and_both_pools_work() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    let kept = nodes[0].ids();
    nodes[0].reload_with(|section| section.worker_threads = 1).await;
    assert_eq!(nodes[0].view.worker_threads(), 1);
    let late = caller(&nodes[0]);
    soon("a new one", nodes[0].view.when(|view| view.connection_count() == 2)).await;
    nodes[0].send(&nodes[1], b"on the old pool").await.unwrap();
    late.send(&nodes[0], b"on the new pool").await.unwrap();
    nodes[0].reload_with(|section| section.worker_threads = 4).await;
    nodes[1].send(&nodes[0], b"on the oldest pool").await.unwrap();
    late.send(&nodes[0], b"on the one between").await.unwrap();
    assert!(nodes[0].ids().is_superset(&kept));
}
