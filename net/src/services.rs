//! Services (N8): a local TCP service of one member is reached at a local port of another, through a stream of the connection
//! that is there anyway.
//!
//! What is configured is in [`Services`], which outlives the protocol actor as the [`Post`](crate::Post) does; connections
//! look it up whenever a stream comes. A stream belongs to the connection that it is on, not to the configuration: it goes on
//! under whatever it began with (R12). No data passes an actor.

mod connected;
mod door;
mod exposed;
mod handler;
mod line;
mod meter;
mod office;
mod pump;
mod tunnels;
pub mod wire;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use libp2p::PeerId;
use storage::PeerKey;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::address::Block;
use crate::hush::{Hush, Kind};
use crate::pool::Pool;
use crate::{ConnectedService, ExposedService, ProtocolSection, View};
use exposed::{Offer, Offers};
pub(crate) use handler::OVER_QUIC;
use line::{Call, Line, Route};
use meter::{Ledger, Meter, Role, Seat};
pub use meter::{MAX_STREAMS, MAX_STREAMS_PER_SERVICE, Metered};
pub(crate) use office::{Office, Ticket};
use pump::Cut;
pub(crate) use tunnels::Tunnels;
use wire::{ServiceError, Status};

/// A local connection waits so long for its member to be connected, and for the stream's turn; longer than a connection takes to
/// come back, shorter than people wait.
const WAIT: Duration = Duration::from_secs(5);
/// A stop waits for streams on which something moves; one that has been silent for so long is idle.
const QUIET: Duration = Duration::from_secs(1);
/// How often a stop looks whether anything moves.
const LOOK: Duration = Duration::from_millis(100);

/// The services of a node. Cheap to clone; outlives the actors.
#[derive(Clone, Debug)]
pub struct Services(Arc<Inner>);

struct Inner {
    offers: ArcSwap<Offers>,
    /// Who may change what is in force, and the listeners.
    desk: Mutex<office::Desk>,
    lines: Mutex<HashMap<PeerId, Arc<Line>>>,
    ledger: Arc<Ledger>,
    calls: AtomicU64,
    stopping: AtomicBool,
    ground: OnceLock<Ground>,
}

/// Services that are not configured any more, with streams that go on (R12). Each is here until its last stream ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// By the name under which it was exposed.
    pub expose: Vec<(String, Metered)>,
    /// As it was configured.
    pub connect: Vec<(ConnectedService, Metered)>,
}

/// What the network lends when it starts.
#[derive(Debug)]
struct Ground {
    pool: Pool,
    hush: Hush,
    view: View,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
struct Caller {
    peer: PeerId,
    /// `None` for another kind of key than Ed25519: no member.
    key: Option<PeerKey>,
    ip: Option<IpAddr>,
}

// === impl Services ===

impl Services {
    /// Services of which none is configured yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            offers: ArcSwap::default(),
            desk: Mutex::default(),
            lines: Mutex::default(),
            ledger: Arc::default(),
            calls: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            ground: OnceLock::new(),
        }))
    }

    /// The network has started.
    pub(crate) fn attach(&self, pool: Pool, hush: Hush, view: View) {
        // A second network beside the first one would be a bug of the caller's, and harmless here.
        let _ = self.0.ground.set(Ground { pool, hush, view });
    }

    /// The figures of an exposed service.
    #[must_use]
    pub fn exposed(&self, service: &ExposedService) -> Metered {
        self.0.ledger.read(&Role::Exposed(service.name.clone()))
    }

    /// The figures of a connected service.
    #[must_use]
    pub fn connected(&self, service: &ConnectedService) -> Metered {
        self.0.ledger.read(&Role::Connected(service.listen, service.name.clone(), service.peer))
    }

    /// How many streams of an exposed service are open with peers of whom this is true.
    #[must_use]
    pub fn exposed_to(&self, service: &ExposedService, is_one: impl Fn(&PeerKey) -> bool) -> u64 {
        self.0.ledger.open_with(&Role::Exposed(service.name.clone()), is_one)
    }

    /// The services that this section does not have, but streams that are open do.
    #[must_use]
    pub fn removed(&self, section: &ProtocolSection) -> Removed {
        let mut removed = Removed::default();
        for (role, metered) in self.0.ledger.in_use() {
            match role {
                Role::Exposed(name) if section.expose.iter().all(|service| service.name != name) => {
                    removed.expose.push((name, metered));
                }
                Role::Connected(listen, name, peer) => {
                    let service = ConnectedService { name, peer, listen };
                    if !section.connect.contains(&service) {
                        removed.connect.push((service, metered));
                    }
                }
                Role::Exposed(_) => {}
            }
        }
        removed
    }

    /// The figures of all services that are configured or have streams, by name (the metric `fednode_service_streams`).
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<String, Metered> {
        self.0.ledger.by_name()
    }

    /// Takes no stream any more, in either direction, and waits for those that are open (O4): until they have ended or nothing has
    /// moved on any of them for a second, but not longer than `patience`. What is open then ends with its connection.
    pub async fn drain(&self, patience: Duration) {
        self.0.stopping.store(true, Ordering::SeqCst);
        self.close_doors().await;
        let mut open = self.0.ledger.open();
        let quiet = async {
            let (mut moved, mut since) = (self.0.ledger.moved(), Instant::now());
            while since.elapsed() < QUIET {
                // Bytes tell nobody that they stopped coming.
                tokio::time::sleep(LOOK).await;
                let now = self.0.ledger.moved();
                if now != moved {
                    (moved, since) = (now, Instant::now());
                }
            }
        };
        let over = async {
            tokio::select! {
                () = quiet => {}
                // An error: the ledger is gone, and all streams with it.
                _ = open.wait_for(|open| *open == 0) => {}
            }
        };
        // An error: the time is up.
        let _ = tokio::time::timeout(patience, over).await;
        let left = *self.0.ledger.open().borrow();
        if left > 0 {
            tracing::info!(streams = left, "streams of services are cut: the node stops");
        }
    }

    /// Runs a future on the thread that never goes.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        if let Some(ground) = self.0.ground.get() {
            ground.pool.spawn_for_good(future);
        }
    }

    /// A local connection has come: it waits in its member's line.
    fn call(&self, socket: TcpStream, route: &Arc<Route>) {
        let Some(ground) = self.0.ground.get() else { return };
        let Some(seat) = self.seat(&route.meter, route.peer) else {
            if self.may_say(Kind::Service, None) {
                tracing::warn!(
                    service = %route.service, listen = %route.listen, reason = "too many streams are open",
                    "a local connection to a service was closed"
                );
            }
            return;
        };
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => return tracing::warn!(%error, "a local connection cannot be taken over"),
        };
        let number = self.0.calls.fetch_add(1, Ordering::Relaxed);
        let until = Instant::now() + WAIT;
        let (waits, mut over) = oneshot::channel();
        let call = Call { number, socket, route: Arc::clone(route), seat, until, tries: 0, _waits: waits };
        let (line, services) = (self.line(route.peer.peer_id()), self.clone());
        let view = ground.view.clone();
        line.push(call);
        ground.pool.spawn_for_good(async move {
            if timeout_at(until, &mut over).await.is_ok() {
                return;
            }
            let Some(call) = line.withdraw(number) else { return };
            let is_connected = view.connections().iter().any(|c| c.public_key == Some(call.route.peer));
            let why = if is_connected {
                "the connection to the member had no place for another stream in time"
            } else {
                "the member is not connected"
            };
            connected::turn_away(call, why, &services).await;
        });
    }

    /// The line of this peer.
    fn line(&self, peer: PeerId) -> Arc<Line> {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that no connection serves and nobody waits in: bounded by the connections and the seats.
        lines.retain(|other, line| *other == peer || Arc::strong_count(line) > 1 || !line.is_empty());
        Arc::clone(lines.entry(peer).or_default())
    }

    /// The service that this peer asks for, if it may have it.
    fn offer(&self, name: &str, caller: &Caller) -> Result<Arc<Offer>, Status> {
        if self.0.stopping.load(Ordering::SeqCst) {
            return Err(Status::Stopping);
        }
        let is_member = caller
            .key
            .is_some_and(|key| self.0.ground.get().is_some_and(|ground| ground.view.is_member(&key)));
        self.0.offers.load().find(name, caller.key, is_member).cloned()
    }

    fn seat(&self, meter: &Arc<Meter>, peer: PeerKey) -> Option<Seat> {
        self.0.ledger.seat(meter, peer)
    }

    /// Whether an event may be written: of one peer, or of local connections.
    fn may_say(&self, kind: Kind, whose: Option<Block>) -> bool {
        self.0.ground.get().is_none_or(|ground| ground.hush.may_say(kind, whose))
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

// === impl Caller ===

impl Caller {
    fn block(&self) -> Option<Block> {
        self.ip.map(Block::of)
    }

    /// A stream has ended.
    fn tell_end(&self, service: &str, ended: Result<(), Cut>) {
        match ended {
            Ok(()) => tracing::debug!(%service, peer_id = %self.peer, "a stream of a service has ended"),
            Err(error) => {
                tracing::debug!(%service, peer_id = %self.peer, %error, "a stream of a service was cut")
            }
        }
    }

    /// The peer broke the rules.
    fn complain(&self, error: &ServiceError, services: &Services) {
        if let Some(ground) = services.0.ground.get() {
            ground.view.counters().violation();
        }
        if services.may_say(Kind::Violation, self.block()) {
            tracing::warn!(peer_id = %self.peer, %error, "a peer broke the rules of services");
        }
    }
}
