//! The node and its neighbours, and what a reload may do to their connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;
use net::{
    ConnectionView, Counted, Direction, Endpoint, MemberState, Membership, NetworkSection, Transport,
    would_close,
};
use reload::{Ack, Class};
use socket2::{Domain, Socket, Type};
use storage::{Members, PeerKey};

use super::case::{Case, End, PEERS, PORTS, Place, Reach, Section};
use super::neighbour::Neighbour;
use super::ports::Port;
use crate::harness::*;

/// No limit of a random section keeps anybody out from here on.
const WIDE: u32 = 64;

/// See the module.
pub(super) struct Scene {
    node: Node,
    neighbours: Vec<Neighbour>,
    ports: Vec<Port>,
    /// Somebody else's.
    taken: (TcpListener, Multiaddr),
}

/// How many connections a reload found, and left open or had to close.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    pub(super) kept: usize,
    /// Of those, over QUIC that came in, and that went out.
    pub(super) over_quic: [usize; 2],
    pub(super) closed: usize,
}

/// Every connection, as each end names it.
struct Standing {
    /// Taken before the others: what comes meanwhile counts as come.
    counted: Counted,
    here: Vec<ConnectionView>,
    there: Vec<BTreeSet<ConnectionId>>,
}

// === impl Scene ===

impl Scene {
    pub(super) async fn start() -> Self {
        let node = Node::start(network_section());
        let mut neighbours = Vec::new();
        for _ in 0..PEERS {
            neighbours.push(Neighbour::start().await);
        }
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = address(&format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port()));
        Self { node, neighbours, ports: (0..PORTS).map(|_| Port::free()).collect(), taken: (taken, at) }
    }

    fn section(&self, random: &Section) -> NetworkSection {
        let members: Members = self
            .neighbours
            .iter()
            .zip(&random.members)
            .filter_map(|(neighbour, reach)| {
                let addresses = match (*reach)? {
                    Reach::There(transport) => vec![neighbour.address(transport).clone()],
                    Reach::Wrong => vec![address("/ip4/127.0.0.1/tcp/1")],
                    Reach::Unknown => Vec::new(),
                };
                Some((neighbour.key, member(neighbour.key, addresses)))
            })
            .collect();
        let running = &self.node.section.members;
        NetworkSection {
            listen: random.listen.iter().map(|place| self.place(*place)).collect(),
            external: random.external.clone(),
            membership: random.membership,
            limits: random.limits,
            worker_threads: random.worker_threads,
            connection_timeout: random.connection_timeout,
            reconnect_min: random.reconnect_min,
            reconnect_max: random.reconnect_max,
            // As an unchanged file's are.
            members: if **running == members { Arc::clone(running) } else { Arc::new(members) },
        }
    }

    fn place(&self, Place { transport, host, port }: Place) -> Multiaddr {
        let port = port.map_or(0, |index| self.ports[index].number);
        match transport {
            Transport::Tcp => address(&format!("{host}/tcp/{port}")),
            Transport::Udp => address(&format!("{host}/udp/{port}/quic-v1")),
        }
    }

    fn of_peer(&self, key: PeerKey) -> usize {
        let connections = self.node.view.connections().into_iter();
        connections.filter(|connection| connection.public_key == Some(key)).count()
    }

    /// Waits until both ends of everything mean the same, and each connection carries.
    async fn standing(&self) -> Standing {
        soon("both ends to agree", async {
            loop {
                let counted = self.node.view.counted();
                let there: Vec<_> = self.neighbours.iter().map(Neighbour::open).collect();
                let here = self.node.view.connections();
                let agreed = self.neighbours.iter().zip(&there).all(|(neighbour, open)| {
                    let of = |connection: &&ConnectionView| connection.public_key == Some(neighbour.key);
                    here.iter().filter(of).count() == open.len()
                });
                if agreed && self.all_carry(&there).await {
                    return Standing { counted, here, there };
                }
                // Nobody tells when two views of two ends are the same.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
    }

    async fn all_carry(&self, open: &[BTreeSet<ConnectionId>]) -> bool {
        let pairs = self.neighbours.iter().zip(open);
        let pings = pairs.flat_map(|(neighbour, open)| open.iter().map(|id| neighbour.carries(*id)));
        futures::future::join_all(pings).await.into_iter().all(|carried| carried)
    }

    /// Everybody who may calls as often as the case says; members who can be dialled are waited for.
    pub(super) async fn fill(&self, case: &Case) {
        let (view, limits) = (&self.node.view, case.from.limits);
        for (index, (neighbour, wanted)) in self.neighbours.iter().zip(&case.callers).enumerate() {
            let reach = case.from.members[index];
            let most = match (case.from.membership, reach) {
                // Their dials would cross with the node's.
                (_, Some(Reach::There(_))) | (Membership::Members, None) => 0,
                // A second one would take the place of the first.
                (_, Some(Reach::Wrong | Reach::Unknown)) => 1,
                (Membership::Open, None) => limits.connections_per_peer as usize,
            };
            while self.of_peer(neighbour.key) < most.min(*wanted) {
                if !self.call(neighbour, index).await {
                    assert!(limits.connections < WIDE, "nothing keeps this one out");
                    break;
                }
            }
        }
        if limits.connections >= WIDE {
            let is_there = |reach| matches!(reach, Some(Reach::There(_)));
            let reachable = case.from.members.iter().filter(|reach| is_there(**reach)).count();
            let mut members = BTreeMap::new();
            for (neighbour, reach) in self.neighbours.iter().zip(&case.from.members) {
                members.insert(neighbour.key, *reach);
            }
            let there = |view: &net::View| {
                let connected = view.members().into_iter().filter(|member| {
                    is_there(members[&member.public_key]) && member.state == MemberState::Connected
                });
                connected.count() == reachable
            };
            soon("the members", view.when(there)).await;
        }
    }

    /// One more connection from this neighbour. Whether it was let in.
    async fn call(&self, neighbour: &Neighbour, listener: usize) -> bool {
        let before = self.of_peer(neighbour.key);
        let id = self.begin_call(neighbour, listener).await;
        let admitted = self.node.view.when(|_| self.of_peer(neighbour.key) > before);
        let refused = neighbour.when(|state| state.over.contains(&id));
        let (admitted, refused) = (std::pin::pin!(admitted), std::pin::pin!(refused));
        matches!(soon("a call", select(admitted, refused)).await, Either::Left(_))
    }

    async fn begin_call(&self, neighbour: &Neighbour, listener: usize) -> ConnectionId {
        let listeners = self.node.view.listeners();
        let at = listeners[listener % listeners.len()].to_string();
        let at = at.replace("/0.0.0.0/", "/127.0.0.1/").replace("/::/", "/::1/");
        neighbour.dial(self.node.identity.peer_id(), address(&at)).await
    }

    /// Reloads the node, and asserts what may and what must become of every connection.
    pub(super) async fn change(&mut self, random: &Section, visitor: Option<usize>, end: End) -> Sum {
        let (next, before) = (self.section(random), self.standing().await);
        // Judged here with two questions of its own, not with the node's code.
        let (now, then) = (&self.node.section.members, &next.members);
        let is_expelled = |key: &PeerKey| {
            let is_barred = next.membership == Membership::Members || now.contains_key(key);
            is_barred && !then.contains_key(key)
        };
        let of_expelled = |connection: &&ConnectionView| is_expelled(&connection.public_key.unwrap());
        let expelled: BTreeSet<_> = before.here.iter().filter(of_expelled).map(|c| c.id.clone()).collect();
        let foretold = would_close(&self.node.section, &next, &before.here);
        let foretold: BTreeSet<_> =
            foretold.into_iter().map(|(connection, _)| connection.id.clone()).collect();
        assert_eq!(foretold, expelled, "the plan names those that the section forbids");
        let is_gone: Vec<bool> =
            self.neighbours.iter().map(|n| end == End::Finished && is_expelled(&n.key)).collect();

        self.run(next, visitor, end).await;
        let ids = self.node.ids();
        let (counted, after) = (before.counted, self.node.view.counted());
        let (kept, closed): (Vec<_>, Vec<_>) =
            before.here.iter().partition(|c| end != End::Finished || !expelled.contains(&c.id));
        for connection in &kept {
            assert!(ids.contains(&connection.id), "{end:?}: lost {connection:?}");
        }
        for connection in &closed {
            assert!(!ids.contains(&connection.id), "{end:?}: still there when it is over: {connection:?}");
        }
        let by_reload = after.closed_by_reload - counted.closed_by_reload;
        let came = (after.inbound + after.outbound) - (counted.inbound + counted.outbound);
        let closed_here = closed.len() as u64;
        assert!((closed_here..=closed_here + came).contains(&by_reload), "{by_reload} {closed_here} {came}");
        assert_eq!(self.node.view.worker_threads(), self.node.section.worker_threads);
        self.assert_listeners();
        self.assert_other_ends(&before, &is_gone).await;
        let over_quic = [Direction::Inbound, Direction::Outbound].map(|direction| {
            let is_quic = |c: &&&ConnectionView| c.address.to_string().contains("/quic-v1");
            kept.iter().filter(is_quic).filter(|c| c.direction == direction).count()
        });
        Sum { kept: kept.len(), over_quic, closed: closed.len() }
    }

    /// The steps, as the coordinator sends them.
    async fn run(&mut self, next: NetworkSection, visitor: Option<usize>, end: End) {
        let node = &mut self.node;
        if end == End::Refused {
            let mut listen = next.listen.clone();
            listen.push(self.taken.1.clone());
            let error = prepare(node, &NetworkSection { listen, ..next }).await.unwrap_err();
            assert_eq!(error.key.as_deref(), Some("network.addresses"), "{error}");
            return node.rollback().await.unwrap();
        }
        prepare(node, &next).await.unwrap();
        if end == End::Prepared {
            return node.rollback().await.unwrap();
        }
        if end == End::Broken
            && let Some(_thief) = thief(&node.section, &next)
        {
            let error = node.commit().await.unwrap_err();
            assert_eq!(error.key.as_deref(), Some("network.addresses"), "{error}");
            return node.rollback().await.unwrap();
        }
        node.commit().await.unwrap();
        // A member's second connection would take the place of the first.
        let is_member = |key| next.members.contains_key(key) || self.node.section.members.contains_key(key);
        if let Some(visitor) = visitor
            && let neighbour = &self.neighbours[visitor]
            && !is_member(&neighbour.key)
        {
            // Wherever it has come to when the reload is over.
            self.begin_call(neighbour, visitor).await;
        }
        let node = &mut self.node;
        if matches!(end, End::Committed | End::Broken) {
            return node.rollback().await.unwrap();
        }
        node.probe().await.unwrap();
        if end == End::Probed {
            return node.rollback().await.unwrap();
        }
        node.finish().await.unwrap();
        node.section = next;
    }

    /// What the section that runs says is listened on, and nothing else.
    fn assert_listeners(&self) {
        let shown = self.node.view.listeners();
        let wanted = &self.node.section.listen;
        let is_as_wanted = |(shown, wanted): (&Multiaddr, &Multiaddr)| shown == wanted || port(wanted) == 0;
        assert!(
            shown.len() == wanted.len() && shown.iter().zip(wanted).all(is_as_wanted),
            "{shown:?} {wanted:?}"
        );
    }

    /// The other ends saw the same, and what is kept carries.
    async fn assert_other_ends(&self, before: &Standing, is_gone: &[bool]) {
        let mut kept = Vec::new();
        for ((neighbour, open), is_gone) in self.neighbours.iter().zip(&before.there).zip(is_gone) {
            if *is_gone {
                neighbour.when(|state| state.open.is_disjoint(open)).await;
                kept.push(BTreeSet::new());
            } else {
                kept.push(open.clone());
            }
        }
        assert!(self.all_carry(&kept).await, "a connection that is kept does not carry");
    }
}

/// Prepares, and tries again while a QUIC endpoint that nobody needs any more is on its way out, as the coordinator does.
async fn prepare(node: &mut Node, next: &NetworkSection) -> Ack {
    loop {
        let prepared = node.prepare(next).await;
        match &prepared {
            Err(error) if error.message.contains("still being closed") => {
                assert_eq!(error.class, Class::System, "{error}");
                let ports: Vec<_> = next.listen.iter().filter_map(Endpoint::of).collect();
                let is_free = |view: &net::View| {
                    let closing = view.retired().into_iter().filter(|held| held.connections == 0);
                    !closing.into_iter().any(|held| ports.iter().any(|port| held.endpoint.overlaps(port)))
                };
                soon("a port", node.view.when(is_free)).await;
            }
            _ => return prepared,
        }
    }
}

/// Takes a TCP port by force that the next section is about to listen on, and this one does not: someone who also sets SO_REUSEADDR
/// may listen beside a bound socket.
fn thief(now: &NetworkSection, next: &NetworkSection) -> Option<Socket> {
    let tcp = |section: &NetworkSection| -> Vec<SocketAddr> {
        let endpoints = section.listen.iter().filter_map(Endpoint::of);
        let endpoints = endpoints.filter(|endpoint| endpoint.transport == Transport::Tcp);
        endpoints.map(|endpoint| endpoint.address).collect()
    };
    let now = tcp(now);
    let is_new = |at: &SocketAddr| at.port() != 0 && now.iter().all(|own| own.port() != at.port());
    let at = tcp(next).into_iter().find(is_new)?;
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    if at.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.set_reuse_address(true).unwrap();
    socket.bind(&at.into()).unwrap();
    socket.listen(1).unwrap();
    Some(socket)
}
