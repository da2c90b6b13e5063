//! What is tried: two random sections, who is connected between them, and how the reload ends.

use std::time::Duration;

use libp2p::Multiaddr;
use net::{Limits, Membership, Transport};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::{bool, option};

use crate::harness::address;

/// Keys, or families of keys, that may be the same in both sections.
const KEYS: usize = 6;
/// Peers beside the node.
pub(super) const PEERS: usize = 5;
/// Ports that the node may listen on.
pub(super) const PORTS: usize = 3;

/// One pair.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) from: Section,
    /// How many connections each peer is to have, as far as `from` lets it.
    pub(super) callers: Vec<usize>,
    pub(super) to: Section,
    /// Calls once while the reload to `to` is under way.
    pub(super) visitor: usize,
    pub(super) end: End,
}

/// A section by what is random in it.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) listen: Vec<Place>,
    pub(super) external: Vec<Multiaddr>,
    pub(super) membership: Membership,
    pub(super) limits: Limits,
    pub(super) worker_threads: usize,
    pub(super) connection_timeout: Duration,
    pub(super) reconnect_min: Duration,
    pub(super) reconnect_max: Duration,
    /// For each peer, whether it is a member, and by which address.
    pub(super) members: Vec<Option<Reach>>,
}

/// A listening address: one of the prepared ports, or whatever the system gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) transport: Transport,
    /// What stands before the port.
    pub(super) host: &'static str,
    pub(super) port: Option<usize>,
}

/// Where a member is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Where it is.
    There(Transport),
    /// Where nobody answers.
    Wrong,
    /// It calls by itself.
    Unknown,
}

/// How far the reload to `to` comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    /// Rolled back after this step.
    Prepared,
    Committed,
    Probed,
    /// `prepare` fails: one more address is somebody else's.
    Refused,
    /// `commit` fails: a port that was free is taken by force, if there is one that is new.
    Broken,
}

// === impl Section ===

impl Section {
    /// The keys that are marked as the other section has them.
    fn with_some_of(mut self, other: &Self, same: &[bool]) -> Self {
        let keys: [fn(&mut Self, Self); KEYS] = [
            |section, other| section.listen = other.listen,
            |section, other| section.external = other.external,
            |section, other| section.membership = other.membership,
            |section, other| section.limits = other.limits,
            |section, other| section.worker_threads = other.worker_threads,
            |section, other| section.members = other.members,
        ];
        for (take, _) in keys.iter().zip(same).filter(|(_, same)| **same) {
            take(&mut self, other.clone());
        }
        self
    }
}

pub(super) fn any_case() -> impl Strategy<Value = Case> {
    let same = vec(bool::weighted(0.3), KEYS);
    (any_section(), vec(0..=2usize, PEERS), any_section(), same, 0..PEERS, any_end()).prop_map(
        |(from, callers, to, same, visitor, end)| {
            let to = to.with_some_of(&from, &same);
            Case { from, callers, to, visitor, end }
        },
    )
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![
        6 => Just(End::Finished),
        1 => Just(End::Prepared),
        1 => Just(End::Committed),
        1 => Just(End::Probed),
        1 => Just(End::Refused),
        1 => Just(End::Broken),
    ]
}

fn any_section() -> impl Strategy<Value = Section> {
    let names: Vec<_> = ["one", "two"].map(|name| address(&format!("/dns4/{name}.example/tcp/9000"))).into();
    let pace = (select(vec![5, 10, 3600]), select(vec![10, 20]), select(vec![20, 50]));
    (
        any_places(),
        subsequence(names, 0..=2),
        select(vec![Membership::Open, Membership::Members]),
        any_limits(),
        1..=3usize,
        pace,
        vec(option::weighted(0.6, any_reach()), PEERS),
    )
        .prop_map(|(listen, external, membership, limits, worker_threads, pace, members)| Section {
            listen,
            external,
            membership,
            limits,
            worker_threads,
            connection_timeout: Duration::from_secs(pace.0),
            reconnect_min: Duration::from_millis(pace.1),
            reconnect_max: Duration::from_millis(pace.2),
            members,
        })
}

/// The listening addresses of one section, over TCP or QUIC or both, each port at most once for each. A UDP port has one host
/// for ever: the node refuses another one while an endpoint holds it.
fn any_places() -> impl Strategy<Value = Vec<Place>> {
    let mut hosts = vec!["/ip4/127.0.0.1", "/ip4/0.0.0.0"];
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        hosts.extend(["/ip6/::1", "/ip6/::"]);
    }
    let udp_hosts = hosts.clone();
    let tcp = (subsequence((0..PORTS).collect::<Vec<_>>(), 0..=PORTS), vec(select(hosts), PORTS)).prop_map(
        |(ports, hosts)| -> Vec<Place> {
            let places = ports.into_iter().zip(hosts);
            places.map(|(port, host)| Place { transport: Transport::Tcp, host, port: Some(port) }).collect()
        },
    );
    let udp = subsequence((0..PORTS).collect::<Vec<_>>(), 0..=PORTS).prop_map(move |ports| -> Vec<Place> {
        let place = |port| {
            let host = udp_hosts[port % udp_hosts.len()];
            Place { transport: Transport::Udp, host, port: Some(port) }
        };
        ports.into_iter().map(place).collect()
    });
    let open = any_transport().prop_map(|transport| Place { transport, host: "/ip4/127.0.0.1", port: None });
    (tcp, udp, option::weighted(0.2, open.clone()), open, bool::ANY).prop_map(
        |(tcp, udp, open, at_least, is_udp_first)| {
            let (first, second) = if is_udp_first { (udp, tcp) } else { (tcp, udp) };
            let mut places: Vec<_> = first.into_iter().chain(second).chain(open).collect();
            if places.is_empty() {
                places.push(at_least);
            }
            places
        },
    )
}

fn any_transport() -> impl Strategy<Value = Transport> + Clone {
    select(vec![Transport::Tcp, Transport::Udp])
}

/// Mostly wide; else so narrow that the connections which are there are more than may come.
fn any_limits() -> impl Strategy<Value = Limits> {
    let total = prop_oneof![3 => Just(64u32), 1 => 1..=4u32];
    (total, 1..=3u32, 1..=64u32, prop_oneof![3 => Just(64u32), 1 => 1..=4u32]).prop_map(
        |(connections, connections_per_peer, connections_per_ip, pending_incoming)| Limits {
            connections,
            connections_per_peer,
            connections_per_ip,
            pending_incoming,
        },
    )
}

fn any_reach() -> impl Strategy<Value = Reach> {
    let there = any_transport().prop_map(Reach::There);
    prop_oneof![there, Just(Reach::Wrong), Just(Reach::Unknown)]
}
