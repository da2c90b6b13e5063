//! The network actor: it owns the swarm, polls it inside the actor, and changes it without touching the connections that a
//! change does not name.
//!
//! There is no queue between the actor and the swarm: handlers touch it directly. Nothing in here blocks, because a
//! successor could not take the connections over.

mod drive;
mod recover;
mod start;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture};
use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm};
use reload::{Ack, Books, Reconfigure, reconfigure};
use storage::PeerKey;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::address::{Block, ip_of};
use crate::dialer::Dialer;
use crate::exchange::Moved;
use crate::figures::Figures;
use crate::goodbye::{Heard, Reason};
use crate::host::{Host, HostEvent};
use crate::hush::{Hush, Kind};
use crate::listeners::{Listeners, Reservation};
use crate::membership::LiveRules;
use crate::parting::{Parting, Why};
use crate::pool::{Pool, Workers};
use crate::post::Post;
use crate::view::{ConnectionView, Direction};
use crate::{NetworkSection, View, resolver};
pub use start::{StartError, StartNetwork};

/// The actor.
pub struct Network {
    swarm: Swarm<Host>,
    pool: Pool,
    rules: LiveRules,
    hush: Hush,
    figures: Figures,
    post: Post,
    view: View,
    listeners: Listeners,
    dialer: Dialer,
    connections: HashMap<ConnectionId, Live>,
    /// The number of the next connection; numbers are never used again.
    next_connection: u64,
    /// What is in force, or half in force while a commit is under way.
    applied: Arc<NetworkSection>,
    trial: Option<Trial>,
    books: Books<NetworkSection, Prepared>,
    departures: Vec<Departure>,
    /// Listeners to be removed once what had queued up for them is known. Kept here, so that a panic on the way does not lose them.
    closing: Vec<ListenerId>,
    /// Answered when the swarm has been polled once more, and has not panicked.
    heartbeats: Vec<oneshot::Sender<()>>,
    waker: Option<Waker>,
    timer: Pin<Box<Sleep>>,
    bootstrap: Bootstrap,
    panics: u64,
}

/// What [`reload::Reconfigurable::prepare`] acquires: sockets that hold the new ports, threads that wait for work.
#[derive(Debug)]
pub struct Prepared {
    reservations: Vec<Reservation>,
    workers: Option<Arc<Workers>>,
}

/// From the start of a commit until it is finished or undone.
struct Trial {
    before: Arc<NetworkSection>,
    /// Connections from this number on were made under the new section.
    first_connection: u64,
    /// The threads before, kept alive for a rollback.
    workers: Option<Arc<Workers>>,
    panics: u64,
    began: Instant,
}

/// An established connection.
struct Live {
    number: u64,
    peer: PeerId,
    key: Option<PeerKey>,
    /// What the peer said: it is about to close the connection.
    farewell: Option<Reason>,
    /// This node is about to close it.
    parting: Option<Why>,
    /// Its coming was written into the log, and its going will be.
    told: bool,
}

/// Connections that this node closes, and why.
type Partings = Vec<(ConnectionId, Reason)>;

/// Somebody waits for these to be really closed.
struct Departure {
    listeners: HashSet<ListenerId>,
    /// Until this is over, the listeners are still open.
    queued: Option<BoxFuture<'static, ()>>,
    connections: HashSet<ConnectionId>,
    /// When the peers have had time enough; listeners need nobody's consent.
    until: Instant,
    done: oneshot::Sender<()>,
}

/// So long a peer may take to close during a reload. A peer that reads nothing could hold the close of its connection, and
/// with it the transaction, for ever.
const CLOSING: Duration = Duration::from_millis(500);

/// When to say that the node has found its federation: once, when all members are there, or a moment after the first.
enum Bootstrap {
    Waiting,
    Since(Instant),
    Said,
}

/// After the first member, the others have so long to come before the count is logged.
const BOOTSTRAP: Duration = Duration::from_secs(2);

/// Closes everything in order (O4): no listeners, no dials, then the connections. Answered when all are closed, or the time
/// is up; then the actor stops.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown {
    /// How long peers may take to close.
    pub within: Duration,
}

// === impl Network ===

impl Actor for Network {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(drive::Drive);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(arbiter) = actix::Arbiter::try_current() {
            arbiter.stop();
        }
    }
}

impl Handler<Reconfigure<NetworkSection>> for Network {
    type Result = actix::ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<NetworkSection>, ctx: &mut Self::Context) -> Self::Result {
        reconfigure(self, message, ctx)
    }
}

impl Handler<Shutdown> for Network {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Shutdown { within }: Shutdown, _: &mut Self::Context) -> Self::Result {
        self.dialer.stop();
        let listeners = self.listeners.extra(&[]);
        let connections = self.connections.keys().map(|id| (*id, Reason::Stopping)).collect();
        let departed = self.part_with(listeners, connections, within);
        let workers = self.pool.workers();
        let gone = async move {
            departed.await;
            // The process may end with the answer, and QUIC's last words are still to be sent.
            workers.turn().await;
        };
        Box::pin(gone.into_actor(self).map(|(), _, ctx| actix::ActorContext::stop(ctx)))
    }
}

impl Network {
    /// Brings this node's listeners, members and connections into the view.
    fn show_listeners(&self) {
        self.view.set_listeners(self.listeners.show(&self.applied.listen), self.listeners.failing());
    }

    /// Closes these. The future ends when they are really closed, or a peer has lost this node's patience.
    fn part_with(
        &mut self,
        listeners: Vec<ListenerId>,
        connections: Partings,
        patience: Duration,
    ) -> impl Future<Output = ()> + use<> {
        for id in &listeners {
            self.listeners.closing(*id);
        }
        let mut parting = HashSet::new();
        for (id, reason) in connections {
            let Some(live) = self.connections.get_mut(&id) else { continue };
            live.parting = Some(Why::Said(reason));
            self.dialer.disconnecting(&live.peer);
            self.swarm.behaviour_mut().goodbye.close(live.peer, id, reason);
            parting.insert(id);
        }
        // What waits in an accept queue would be reset with its listener: everything that is there now is taken first.
        let queued = (!listeners.is_empty()).then(|| self.pool.caught_up().boxed());
        let (done, departed) = oneshot::channel();
        self.departures.push(Departure {
            listeners: listeners.into_iter().collect(),
            queued,
            connections: parting,
            until: Instant::now() + patience,
            done,
        });
        self.wake();
        async move {
            // The sender goes only with the actor, and all sockets with it.
            let _ = departed.await;
        }
    }

    fn on_event(&mut self, event: SwarmEvent<HostEvent>) {
        self.figures.swarm(&event);
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                let why = cause.map(|cause| cause.to_string());
                self.on_closed(peer_id, connection_id, num_established == 0, why);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), connection_id, error } => {
                let why = explain(&error);
                tracing::debug!(peer_id = %peer, error = %why, "dial came to nothing");
                self.dialer.failed(&peer, connection_id, why, Instant::now(), rand::random());
                if let Ok(key) = PeerKey::from_peer_id(&peer) {
                    self.view.known().failed(&key);
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                for departure in &mut self.departures {
                    departure.listeners.remove(&listener_id);
                }
                if let Some(address) = self.listeners.closed(listener_id, &reason, Instant::now()) {
                    tracing::error!(%address, ?reason, "a listener closed by itself; it will be opened again");
                }
                self.show_listeners();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener could not accept"),
            SwarmEvent::Behaviour(HostEvent::Goodbye(Heard { connection, reason })) => {
                if let Some(live) = self.connections.get_mut(&connection) {
                    live.farewell = Some(reason);
                }
            }
            SwarmEvent::Behaviour(HostEvent::Exchange(Moved(key))) => self.learn(&key),
            SwarmEvent::Behaviour(
                HostEvent::Crossed(Parting { connection, why })
                | HostEvent::Ping(Parting { connection, why }),
            ) => {
                if let Some(live) = self.connections.get_mut(&connection) {
                    live.parting = Some(why);
                }
            }
            // Identify's are for its own use, the others are seen by the behaviours.
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let number = self.next_connection;
        self.next_connection = number.saturating_add(1);
        let (direction, address) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (Direction::Outbound, address),
            ConnectedPoint::Listener { send_back_addr, .. } => (Direction::Inbound, send_back_addr),
        };
        let key = PeerKey::from_peer_id(&peer).ok();
        let told = self.rules.load().is_member(key.as_ref())
            || self.hush.may_say(Kind::Stranger, ip_of(address).map(Block::of));
        if told {
            tracing::info!(
                peer_id = %peer, connection = number, ?direction, %address,
                "Connection established with peer"
            );
        }
        self.connections.insert(id, Live { number, peer, key, farewell: None, parting: None, told });
        let connection = ConnectionView {
            id: number.to_string(),
            peer,
            public_key: key,
            direction,
            address: without_peer(address),
            established_s: 0.0,
        };
        self.view.opened(number, connection);
        self.dialer.connected(&peer, id, Instant::now());
        self.on_bootstrap(Instant::now());
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId, last: bool, why: Option<String>) {
        for departure in &mut self.departures {
            departure.connections.remove(&id);
        }
        let live = self.connections.get(&id);
        let own = live.and_then(|live| live.parting).map(|why| why.to_string());
        let farewell = live.and_then(|live| live.farewell).map(|reason| reason.to_string());
        let key = live.and_then(|live| live.key);
        let why = own.or(farewell).or(why);
        if last {
            if !self.rules.load().is_member(key.as_ref()) {
                // Removed while a dial was under way that a connection had overtaken.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            self.dialer.disconnected(&peer, why.clone(), Instant::now(), rand::random());
        }
        self.forget_connection(id, &why.unwrap_or_else(|| "this node closed it".to_owned()));
    }

    fn forget_connection(&mut self, id: ConnectionId, why: &str) {
        if let Some(Live { number, peer, told, .. }) = self.connections.remove(&id) {
            if told {
                tracing::info!(peer_id = %peer, connection = number, reason = %why, "connection closed");
            }
            self.view.closed(number, why);
        }
    }

    /// A member says where it is.
    fn learn(&mut self, key: &PeerKey) {
        let addresses = self.view.known().addresses(key);
        let text = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if self.dialer.learn(key, addresses, Instant::now()) {
            tracing::info!(public_key = %key, addresses = %text, "a member has told where it is");
        }
    }

    fn on_bootstrap(&mut self, now: Instant) {
        let (connected, members) = self.dialer.census();
        let since = match self.bootstrap {
            Bootstrap::Said => return,
            // The first one has gone again: as if it had never come.
            _ if connected == 0 => return self.bootstrap = Bootstrap::Waiting,
            Bootstrap::Since(since) => since,
            Bootstrap::Waiting => {
                self.bootstrap = Bootstrap::Since(now);
                now
            }
        };
        if connected == members || now.saturating_duration_since(since) >= BOOTSTRAP {
            self.bootstrap = Bootstrap::Said;
            tracing::info!("Bootstrap successful - {connected} peers connected");
        }
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// Addresses of outbound connections end in the peer's id, which stands beside them anyway.
fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, libp2p::multiaddr::Protocol::P2p(_))).collect()
}

/// Why a dial came to nothing, in one line, by address.
fn explain(error: &DialError) -> String {
    match error {
        DialError::Transport(errors) => {
            let lines =
                errors.iter().map(|(address, error)| format!("{}: {}", without_peer(address), root(error)));
            lines.collect::<Vec<_>>().join("; ")
        }
        DialError::WrongPeerId { obtained, address } => {
            format!("{}: another peer answers there, {obtained}", without_peer(address))
        }
        DialError::LocalPeerId { address } => {
            format!("{}: this node itself answers there", without_peer(address))
        }
        DialError::NoAddresses => "no address to dial but this node's own".to_owned(),
        DialError::Denied { cause } => format!("not allowed: {}", root(cause)),
        DialError::Aborted => "given up".to_owned(),
        DialError::DialPeerConditionFalse(_) => "a connection is there already".to_owned(),
    }
}

/// The cause at the bottom of an error.
pub(crate) fn root(error: &dyn std::error::Error) -> String {
    let Some(mut error) = error.source() else { return error.to_string() };
    while let Some(source) = error.source() {
        error = source;
    }
    resolver::explain(error).map_or_else(|| error.to_string(), str::to_owned)
}
