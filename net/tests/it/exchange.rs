//! Peer exchange between whole nodes: who learns of whom, and who is reached by what was learned.

use std::sync::Arc;
use std::time::Duration;

use libp2p::Multiaddr;
use net::{MemberState, Membership, NetworkSection};
use storage::{Members, PeerKey};

use crate::harness::*;

/// Longer than any test: what happens meanwhile did not wait for an interval.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn nowhere(keys: &[PeerKey]) -> Members {
    keys.iter().map(|key| (*key, member(*key, Vec::new()))).collect()
}

fn knows(node: &Node, key: &PeerKey, at: &[Multiaddr]) -> bool {
    node.view.known().addresses(key) == at
}

async fn learns(node: &Node, key: &PeerKey, at: &[Multiaddr]) {
    let mut changes = node.view.known().changes();
    let learned = async {
        while !knows(node, key, at) {
            changes.changed().await.unwrap();
        }
    };
    soon("a peer is learned", learned).await;
}

async fn every(node: &Node, interval: Duration) {
    node.reload_protocol(1, |section| section.exchange_interval = interval).await;
}

/// Nodes of which each dials the one before it.
async fn chain(count: usize, membership: Membership) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..count {
        let members = nodes.last().map_or_else(Arc::default, |last| members([last]));
        let node = Node::start(NetworkSection { members, membership, ..network_section() });
        every(&node, Duration::from_millis(500)).await;
        nodes.push(node);
    }
    nodes
}

#[actix::test]
async fn in_an_open_federation_strangers_are_known_along_a_chain_and_not_dialled() {
    let nodes = chain(4, Membership::Open).await;
    for one in &nodes {
        for other in nodes.iter().filter(|other| other.key != one.key) {
            learns(one, &other.key, &other.view.listeners()).await;
        }
    }
    assert_eq!(nodes[0].view.known().count(), 3);
    assert_eq!(nodes[0].view.connection_count(), 1);
    let far = nodes[0].view.known().list().into_iter().find(|peer| peer.public_key == nodes[3].key).unwrap();
    assert_eq!(far.source, net::exchange::Source::Exchange);
    assert!(!far.stale && far.failures == 0 && far.last_seen > 1_700_000_000);
}

#[actix::test]
async fn a_member_whose_configured_address_is_wrong_is_reached_by_what_was_learned() {
    let wrong = vec![address(&format!("/ip4/127.0.0.1/tcp/{}", free_port()))];
    let hub = Node::start(network_section());
    every(&hub, Duration::from_millis(500)).await;
    let one = Node::start(NetworkSection { members: members([&hub]), ..network_section() });
    let mut with_wrong = (*members([&hub])).clone();
    with_wrong.insert(one.key, member(one.key, wrong));
    // Only a dial at once makes it in time.
    let other = NetworkSection {
        members: Arc::new(with_wrong),
        reconnect_min: DAY,
        reconnect_max: DAY,
        ..network_section()
    };
    let other = Node::start(other);
    for node in [&one, &other] {
        every(node, Duration::from_millis(500)).await;
    }
    let state = |view: &net::View| {
        view.members().into_iter().find(|member| member.public_key == one.key).map(|member| member.state)
    };
    soon("the other member", other.view.when(|view| state(view) == Some(MemberState::Connected))).await;
}

#[actix::test]
async fn members_without_addresses_find_each_other_through_one_that_all_know_and_again_after_a_move() {
    for membership in [Membership::Open, Membership::Members] {
        let mut nodes: Vec<_> = (0..3).map(|_| Node::start(network_section())).collect();
        let keys: Vec<_> = nodes.iter().map(|node| node.key).collect();
        let hub = members([&nodes[0]]);
        for at in 0..3 {
            every(&nodes[at], Duration::from_millis(500)).await;
            let mut all = nowhere(&keys);
            if at > 0 {
                all.extend((*hub).clone());
            }
            all.remove(&keys[at]);
            nodes[at]
                .reload_with(|section| {
                    (section.members, section.membership) = (Arc::new(all), membership);
                })
                .await;
        }
        settled(&nodes).await;

        // It comes back on another port, of which only the first node can hear from it.
        let moved = nodes.pop().unwrap();
        moved.shut_down().await;
        let section = NetworkSection { listen: vec![any_port()], ..moved.section.clone() };
        let moved = Node::start_as(moved.identity.clone(), section).unwrap();
        every(&moved, Duration::from_millis(500)).await;
        assert_ne!(moved.port(), 0);
        nodes.push(moved);
        settled(&nodes).await;
        for node in &nodes[..2] {
            learns(node, &keys[2], &nodes[2].view.listeners()).await;
        }
    }
}

#[actix::test]
async fn whoever_moves_while_it_is_connected_is_not_dialled_for_it() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    let kept = [nodes[0].ids(), nodes[1].ids()];
    let dials = |node: &Node| node.view.counted().outbound;
    let before = dials(&nodes[1]);
    for _ in 0..3 {
        nodes[0].reload_with(|section| section.listen = vec![any_port()]).await;
        learns(&nodes[1], &nodes[0].key, &nodes[0].view.listeners()).await;
        // A turn of the swarm later it has heard of it, too.
        let same = nodes[1].section.clone();
        nodes[1].reload(same).await;
        settled(&nodes).await;
    }
    assert_eq!(([nodes[0].ids(), nodes[1].ids()], dials(&nodes[1])), (kept, before));
}

#[actix::test]
async fn a_new_member_known_to_one_of_sixteen_is_known_to_all_and_so_is_its_move() {
    let mut nodes: Vec<_> = (0..16).map(|_| Node::start(network_section())).collect();
    for node in &nodes {
        every(node, Duration::from_millis(200)).await;
    }
    mesh(&mut nodes).await;
    let everywhere: Vec<_> = nodes.iter().map(|node| (node.key, node.view.listeners())).collect();
    for node in &nodes {
        for (key, at) in everywhere.iter().filter(|(key, _)| *key != node.key) {
            learns(node, key, at).await;
        }
    }
    // From here on nobody waits for an interval: what is learned in time is learned by announcement, update and question.
    for node in &nodes {
        node.reload_protocol(2, |section| section.exchange_interval = DAY).await;
    }
    let section = NetworkSection { members: members([&nodes[0]]), ..network_section() };
    let mut newcomer = Node::start(section);
    for node in &nodes {
        learns(node, &newcomer.key, &newcomer.view.listeners()).await;
    }
    newcomer.reload_with(|section| section.listen = vec![any_port()]).await;
    let at = newcomer.view.listeners();
    for node in &nodes {
        learns(node, &newcomer.key, &at).await;
    }
    assert!(nodes[1..].iter().all(|node| !node.is_connected_to(&newcomer)), "a stranger is not dialled");
}

#[actix::test]
async fn under_members_nobody_else_is_learned_and_whoever_becomes_one_is() {
    let mut nodes = chain(2, Membership::Open).await;
    let stranger = Node::start(NetworkSection { members: members([&nodes[1]]), ..network_section() });
    every(&stranger, Duration::from_millis(500)).await;
    learns(&nodes[0], &stranger.key, &stranger.view.listeners()).await;

    let mut only = nowhere(&[nodes[1].key]);
    let section = NetworkSection {
        members: Arc::new(only.clone()),
        membership: Membership::Members,
        ..nodes[0].section.clone()
    };
    // A rollback forgets nobody.
    nodes[0].prepare(&section).await.unwrap();
    nodes[0].commit().await.unwrap();
    assert_eq!(nodes[0].view.known().count(), 1);
    nodes[0].rollback().await.unwrap();
    assert_eq!(nodes[0].view.known().count(), 2);
    nodes[0].reload(section).await;
    let known: Vec<_> = nodes[0].view.known().list().iter().map(|peer| peer.public_key).collect();
    assert_eq!(known, [nodes[1].key]);

    // A newcomer is one whom it has never heard of; it becomes a member, and is dialled where others say that it is.
    let newcomer = Node::start(NetworkSection { members: members([&nodes[1]]), ..network_section() });
    every(&newcomer, Duration::from_millis(500)).await;
    learns(&nodes[1], &newcomer.key, &newcomer.view.listeners()).await;
    assert_eq!(nodes[0].view.known().count(), 1);
    only.extend(nowhere(&[newcomer.key]));
    nodes[0].reload_with(|section| section.members = Arc::new(only)).await;
    soon("the new member", nodes[0].view.when(|_| nodes[0].is_connected_to(&newcomer))).await;
}

#[actix::test]
async fn strangers_are_kept_up_to_the_bound_of_the_moment() {
    let hub = Node::start(network_section());
    every(&hub, Duration::from_millis(200)).await;
    hub.view.known().bound().set(2);
    let mut others = Vec::new();
    for _ in 0..5 {
        let node = Node::start(NetworkSection { members: members([&hub]), ..network_section() });
        every(&node, Duration::from_millis(200)).await;
        others.push(node);
    }
    // Each has told of itself twice by then.
    let asked = async {
        while hub.view.known().figures().asked() < 10 {
            assert!(hub.view.known().count() <= 2);
            tokio::task::yield_now().await;
        }
    };
    soon("ten exchanges", asked).await;
    assert_eq!(hub.view.known().count(), 2);
    hub.view.known().bound().set(5);
    let more = Node::start(NetworkSection { members: members([&hub]), ..network_section() });
    every(&more, Duration::from_millis(200)).await;
    learns(&hub, &more.key, &more.view.listeners()).await;
    assert!(hub.view.known().count() >= 3);
}

#[actix::test]
async fn whoever_found_no_room_or_was_pushed_out_is_learned_when_there_is_room() {
    let hub = Node::start(network_section());
    every(&hub, Duration::from_millis(200)).await;
    let narrow = Node::start(NetworkSection { members: members([&hub]), ..network_section() });
    let known = narrow.view.known();
    known.bound().set(0);
    every(&narrow, Duration::from_millis(200)).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let node = Node::start(NetworkSection { members: members([&hub]), ..network_section() });
        learns(&hub, &node.key, &node.view.listeners()).await;
        others.push(node);
    }
    for bound in 0..2 {
        known.bound().set(bound);
        // The hub is a member, and needs no room.
        let mut changes = known.changes();
        let full = async {
            while known.count() < 1 + bound {
                changes.changed().await.unwrap();
            }
        };
        soon("as many are known as may be", full).await;
        // All of what the hub has to tell was heard, and is not asked for as long as there is no room.
        let asked = known.figures().asked();
        let more = async {
            while known.figures().asked() < asked + 4 {
                tokio::task::yield_now().await;
            }
        };
        soon("four exchanges", more).await;
        assert_eq!(known.count(), 1 + bound);
    }
    known.bound().set(100);
    for node in &others {
        learns(&narrow, &node.key, &node.view.listeners()).await;
    }
}

#[actix::test]
async fn whoever_is_connected_is_seen_now() {
    let nodes = chain(2, Membership::Open).await;
    learns(&nodes[0], &nodes[1].key, &nodes[1].view.listeners()).await;
    let seen = || nodes[0].view.known().list()[0].last_seen;
    let before = seen();
    // It says nothing more, but it is there.
    let later = async {
        while seen() < before + 2 {
            tokio::task::yield_now().await;
        }
    };
    soon("it is seen later", later).await;
}
