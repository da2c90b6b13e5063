use std::sync::Arc;

use super::*;
use crate::fixtures::{member, section};
use crate::{Identity, Limits};

fn rules(limits: Limits) -> Rules {
    Rules::of(&crate::NetworkSection { limits, ..section() })
}

fn limits() -> Limits {
    Limits { connections: 4, connections_per_peer: 2, connections_per_ip: 3, pending_incoming: 2 }
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn id(n: usize) -> ConnectionId {
    ConnectionId::new_unchecked(n)
}

/// Begins a handshake of each of these addresses, one after the other; tells which addresses made room, by what reason, and
/// which were refused.
fn begun<'a>(
    tally: &mut Tally,
    rules: &Rules,
    ips: impl IntoIterator<Item = &'a str>,
) -> Vec<(String, Reason)> {
    let mut lost = Vec::new();
    for text in ips {
        match tally.pending(rules, ip(text)) {
            Err(reason) => {
                lost.push((text.to_owned(), reason));
                continue;
            }
            Ok(Room::From(other, reason)) => {
                let other = tally.pending.remove(&other).expect("it is there");
                lost.push((other.ip.expect("it has an address").to_string(), reason));
            }
            Ok(Room::Free) => {}
        }
        let next = id(100 + tally.begun as usize);
        tally.begin(next, ip(text), None);
    }
    lost
}

fn lost(text: &str, reason: Reason) -> (String, Reason) {
    (text.to_owned(), reason)
}

#[test]
fn handshakes_are_bounded_in_total_and_by_address() {
    let rules = rules(limits());
    let mut tally = Tally::default();
    for n in 0..3 {
        tally.established.insert(id(n), Established::new(PeerId::random(), ip("9.9.9.9")));
    }
    assert_eq!(tally.pending(&rules, ip("9.9.9.9")), Err(Reason::PerIp));
    assert_eq!(begun(&mut tally, &rules, ["8.8.8.8", "127.0.0.1"]), []);
    assert_eq!(begun(&mut tally, &rules, ["7.7.7.7"]), [lost("8.8.8.8", Reason::Pending)], "the oldest");
    assert_eq!(tally.pending.len(), 2);
}

#[test]
fn one_address_has_a_quarter_of_the_handshakes_and_an_ipv6_network_is_one() {
    let many = rules(Limits { pending_incoming: 8, ..limits() });
    for address in [["9.9.9.9", "9.9.9.9", "9.9.9.9"], ["2001:db8::1", "2001:db8::2", "2001:db8::3"]] {
        let mut tally = Tally::default();
        assert_eq!(begun(&mut tally, &many, address), [lost(address[0], Reason::PendingPerIp)]);
        assert_eq!(begun(&mut tally, &many, ["9.9.9.8", "2001:db8:0:1::1"]), []);
    }
    let few = rules(Limits { pending_incoming: 2, ..limits() });
    assert_eq!(begun(&mut Tally::default(), &few, ["9.9.9.9", "8.8.8.8"]), [], "at least one each");
}

#[test]
fn a_quarter_of_the_handshakes_is_for_members_addresses_which_may_have_all() {
    let key = Identity::generate().public_key();
    let mut section = section();
    section.limits = Limits { pending_incoming: 8, ..limits() };
    section.members = Arc::new([(key, member(key, &["/ip4/9.9.9.9/tcp/1"]))].into());
    let rules = Rules::of(&section);
    let mut tally = Tally::default();
    let loopback = lost("127.0.0.1", Reason::Pending);
    assert_eq!(
        begun(&mut tally, &rules, ["127.0.0.1"; 7]),
        std::slice::from_ref(&loopback),
        "loopback has no share"
    );
    assert_eq!(begun(&mut tally, &rules, ["9.9.9.9"; 3]), [loopback], "strangers make room for members");
    let all = &mut Tally::default();
    assert_eq!(begun(all, &rules, ["9.9.9.9"; 8]), []);
    assert_eq!(
        begun(all, &rules, ["8.8.8.8"]),
        [lost("8.8.8.8", Reason::Pending)],
        "members make none for them"
    );
    // What members hold of their own is not kept a second time.
    let mixed = ["9.9.9.9"; 2].into_iter().chain(["127.0.0.1"; 6]);
    assert_eq!(begun(&mut Tally::default(), &rules, mixed), []);
}

#[test]
fn whoever_has_most_handshakes_makes_room() {
    let rules = rules(Limits { pending_incoming: 8, ..limits() });
    let mut tally = Tally::default();
    assert_eq!(begun(&mut tally, &rules, ["8.8.8.8"]), []);
    let flood = begun(&mut tally, &rules, ["127.0.0.1"; 100]);
    assert!(flood.iter().all(|one| *one == lost("127.0.0.1", Reason::Pending)), "{flood:?}");
    assert_eq!(flood.len(), 95);
    assert_eq!(begun(&mut tally, &rules, ["7.7.7.7"]), [lost("127.0.0.1", Reason::Pending)]);
    assert_eq!(tally.pending_of(Block::of([8, 8, 8, 8].into()), &rules), 1);
}

#[test]
fn a_connection_is_kept_for_each_member_that_has_none() {
    let keys: Vec<_> = (0..2).map(|_| Identity::generate().public_key()).collect();
    let mut section = section();
    section.limits = limits();
    section.members = Arc::new(keys.iter().map(|key| (*key, member(*key, &[]))).collect());
    let rules = Rules::of(&section);
    let (mut tally, at) = (Tally::default(), ip("127.0.0.1"));
    let stranger = || Established::new(PeerId::random(), at);
    for n in 0..2 {
        assert_eq!(tally.established(&rules, stranger(), false), Ok(()));
        tally.established.insert(id(n), stranger());
    }
    assert_eq!(tally.established(&rules, stranger(), false), Err(Reason::KeptForMembers));
    assert_eq!(tally.pending(&rules, at), Ok(Room::Free), "a member may be at the other end");
    for (n, key) in keys.iter().enumerate() {
        let member = Established::new(key.peer_id(), at);
        assert_eq!(tally.established(&rules, member, false), Ok(()));
        tally.established.insert(id(n + 2), member);
    }
    assert_eq!(tally.established(&rules, stranger(), false), Err(Reason::Connections));
    let again = Established::new(keys[0].peer_id(), at);
    assert_eq!(tally.established(&rules, again, false), Ok(()), "it takes the place of its own");
}

#[test]
fn connections_of_an_ipv6_network_are_counted_together() {
    let key = Identity::generate().public_key();
    let mut section = section();
    section.limits = Limits { connections: 100, connections_per_ip: 2, ..limits() };
    section.members = Arc::new([(key, member(key, &["/ip6/2001:db8::1/tcp/1"]))].into());
    let rules = Rules::of(&section);
    let mut tally = Tally::default();
    let stranger = |text| Established::new(PeerId::random(), ip(text));
    for (n, text) in ["2001:db8::1", "2001:db8::1", "2001:db8::2", "2001:db8::3"].into_iter().enumerate() {
        assert_eq!(tally.established(&rules, stranger(text), false), Ok(()), "{text}");
        tally.established.insert(id(n), stranger(text));
    }
    assert_eq!(tally.established(&rules, stranger("2001:db8::4"), false), Err(Reason::PerIp));
    assert_eq!(tally.pending(&rules, ip("2001:db8::4")), Err(Reason::PerIp));
    assert_eq!(tally.established(&rules, stranger("2001:db8:0:1::4"), false), Ok(()));
}

#[test]
fn members_and_loopback_do_not_count_by_address() {
    let key = Identity::generate().public_key();
    let mut section = section();
    section.limits = Limits { connections: 100, connections_per_ip: 1, ..limits() };
    section.members = Arc::new([(key, member(key, &["/ip4/9.9.9.9/tcp/1"]))].into());
    let rules = Rules::of(&section);
    let mut tally = Tally::default();
    for n in 0..5 {
        tally.established.insert(id(n), Established::new(PeerId::random(), ip("127.0.0.1")));
        tally.established.insert(id(n + 10), Established::new(PeerId::random(), ip("9.9.9.9")));
    }
    assert_eq!(tally.pending(&rules, ip("127.0.0.1")), Ok(Room::Free));
    assert_eq!(tally.pending(&rules, ip("9.9.9.9")), Ok(Room::Free), "the address of a member");
    tally.established.insert(id(20), Established::new(key.peer_id(), ip("5.5.5.5")));
    assert_eq!(tally.pending(&rules, ip("5.5.5.5")), Ok(Room::Free), "only a member is there");
    assert_eq!(tally.established(&rules, Established::new(key.peer_id(), ip("5.5.5.5")), true), Ok(()));
}

#[test]
fn established_connections_are_bounded_in_total_and_by_peer_and_lowering_sheds_nothing() {
    let peer = PeerId::random();
    let mut tally = Tally::default();
    tally.established.insert(id(0), Established::new(peer, ip("127.0.0.1")));
    tally.established.insert(id(1), Established::new(peer, ip("127.0.0.1")));
    let rules_now = rules(limits());
    assert_eq!(
        tally.established(&rules_now, Established::new(peer, ip("127.0.0.1")), true),
        Err(Reason::PerPeer)
    );
    assert_eq!(
        tally.established(&rules_now, Established::new(PeerId::random(), ip("127.0.0.1")), true),
        Ok(())
    );
    let lowered = rules(Limits { connections: 1, ..limits() });
    assert_eq!(
        tally.established(&lowered, Established::new(PeerId::random(), None), false),
        Err(Reason::Connections)
    );
    assert_eq!(tally.established.len(), 2);
}

#[test]
fn a_connection_does_not_count_against_itself() {
    let rules = rules(Limits { connections_per_ip: 1, ..limits() });
    let mut tally = Tally::default();
    tally.begin(id(0), ip("9.9.9.9"), None);
    assert_eq!(tally.established(&rules, Established::new(PeerId::random(), ip("9.9.9.9")), true), Ok(()));
    assert_eq!(
        tally.established(&rules, Established::new(PeerId::random(), ip("9.9.9.9")), false),
        Err(Reason::PerIp)
    );
}
