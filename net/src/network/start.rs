//! Starting the network: everything that can fail does so before the actor exists.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use actix::Actor;
use libp2p::{Multiaddr, TransportError};
use reload::{Books, Link, fault};

use super::{Bootstrap, Network};
use crate::dialer::{Dialer, Pace};
use crate::host::{self, Built};
use crate::listeners::{Held, Listeners, Reservation, ReserveError, patiently};
use crate::pool::Pool;
use crate::post::Post;
use crate::services::Services;
use crate::{Endpoint, Identity, Membership, NetworkSection, Topics, Transport, View};

/// What the network starts with.
#[derive(Debug)]
pub struct StartNetwork {
    /// The node's key.
    pub identity: Identity,
    /// Its configuration.
    pub section: Arc<NetworkSection>,
    /// Where messages go to and come from; shared with the protocol actor.
    pub post: Post,
    /// What is exposed and connected; shared with the protocol actor.
    pub services: Services,
    /// What is published to all; shared with the protocol actor.
    pub topics: Topics,
    /// Where the network shows itself.
    pub view: View,
}

/// Why the network cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be reserved. Has a hint.
    #[error("network.addresses: {0}")]
    Reserve(#[from] ReserveError),
    /// An address that was free cannot be listened on.
    #[error("network.addresses: '{address}' cannot be listened on: {error}")]
    Listen {
        /// The address as configured.
        address: Multiaddr,
        /// What libp2p says.
        error: String,
    },
    /// The machine refuses threads.
    #[error("node.worker_threads: the threads cannot be started: {0}")]
    Threads(io::Error),
    /// The swarm cannot be built.
    #[error("the network cannot be set up: {0}")]
    Host(io::Error),
}

// === impl Network ===

impl Network {
    /// Starts the actor on its own arbiter. When this returns, every address of the section accepts connections. To be
    /// called inside an actix system.
    ///
    /// # Errors
    /// If an address cannot be listened on, or the machine refuses threads; then nothing is left open.
    pub fn start(start: StartNetwork) -> Result<Link<Self>, StartError> {
        let StartNetwork { identity, section, post, services, topics, view } = start;
        let pool = Pool::start(section.worker_threads).map_err(StartError::Threads)?;
        let workers = pool.workers();
        let Built { mut swarm, rules, hush, figures } = {
            let _entered = workers.enter();
            host::build(&identity, &section, &pool, &post, &services, &topics, &view)
                .map_err(StartError::Host)?
        };
        services.attach(pool.clone(), hush.clone(), view.clone());
        let mut listeners = Listeners::default();
        for configured in &section.listen {
            let reservation = Reservation::new(configured, &held(&listeners, &view))?;
            open(&mut swarm, &mut listeners, &pool, reservation)
                .map_err(|(address, error)| StartError::Listen { address, error })?;
        }
        for address in &section.external {
            swarm.add_external_address(address.clone());
        }
        let mut dialer = Dialer::new(Pace::of(&section));
        dialer.set(&section.members, Instant::now(), |_| false);
        // What was kept of the members from before is dialled, too.
        view.known().set_members(&section.members, section.membership == Membership::Members);
        for key in view.known().members() {
            dialer.learn(&key, view.known().addresses(&key), Instant::now());
        }
        view.set_members(dialer.changes());
        view.set_worker_threads(workers.threads());
        view.set_listeners(listeners.show(&section.listen), listeners.failing());
        announce(&identity, &view);

        let arbiter = reload::arbiter();
        let addr = Self::start_in_arbiter(&arbiter.handle(), move |_| Self {
            swarm,
            pool,
            rules,
            hush,
            figures,
            post,
            view,
            listeners,
            dialer,
            connections: HashMap::new(),
            next_connection: 1,
            applied: Arc::clone(&section),
            trial: None,
            books: Books::new(section),
            departures: Vec::new(),
            closing: Vec::new(),
            heartbeats: Vec::new(),
            waker: None,
            // Set anew by each poll of the swarm; until the first it is due at once.
            timer: Box::pin(tokio::time::sleep(std::time::Duration::ZERO)),
            bootstrap: Bootstrap::Waiting,
            panics: 0,
        });
        Ok(Link::new(addr))
    }
}

fn announce(identity: &Identity, view: &View) {
    let addresses: Vec<_> = view.listeners().iter().map(ToString::to_string).collect();
    tracing::info!(peer_id = %identity.peer_id(), "Peer ID");
    tracing::info!(addresses = %addresses.join(", "), "Listening addresses");
    tracing::info!("Network manager started successfully");
}

/// The sockets that this node has.
pub(super) fn held(listeners: &Listeners, view: &View) -> Vec<Held> {
    let quic = view.held().into_iter().filter(|held| held.endpoint.transport == Transport::Udp);
    listeners.held().into_iter().chain(quic).collect()
}

/// Listens on what was reserved. On an error, gives the configured address and what libp2p says.
pub(super) fn open(
    swarm: &mut libp2p::Swarm<host::Host>,
    listeners: &mut Listeners,
    pool: &Pool,
    mut reservation: Reservation,
) -> Result<(), (Multiaddr, String)> {
    fault::io("listener::open").map_err(|error| (reservation.configured.clone(), error.to_string()))?;
    // A listening socket stays with this runtime for life; the workers come and go.
    let _entered = pool.io().enter();
    reservation.make_room();
    let listened = match Endpoint::of(&reservation.bound) {
        // It was ours a moment ago: whatever libp2p says, somebody has it.
        Some(endpoint) => patiently(&endpoint, |_| true, || swarm.listen_on(reservation.bound.clone())),
        None => swarm.listen_on(reservation.bound.clone()),
    };
    match listened {
        Ok(id) => {
            let Reservation { configured, bound, .. } = &reservation;
            listeners.opened(id, configured.clone(), bound.clone());
            Ok(())
        }
        Err(error) => {
            let text = match error {
                TransportError::Other(error) => super::root(&error),
                TransportError::MultiaddrNotSupported(_) => "not supported".to_owned(),
            };
            Err((reservation.configured.clone(), text))
        }
    }
}
