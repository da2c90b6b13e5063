//! The node: configuration → actors → coordinator → socket, and the way back.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix::Addr;
use arc_swap::ArcSwap;
use futures::{Stream, StreamExt};
use net::{Messages, Network, Post, Protocol, Services, Settings, StartNetwork, Topics, View};
use reload::signal::Signal;
use reload::{
    ActorComponent, Board, Coordinator, Link, Live, Origin, Parts, Problem, Pulse, Reconfigure, Reload,
    StepError, Stop, Trigger, fault,
};
use storage::PeerStore;
use tokio::sync::watch;

use crate::admin::state::Check;
use crate::admin::{self, Admin, AdminState, Bound, Requests};
use crate::config::{Config, LoggingSection};
use crate::engine::{Connections, Current, Files, Listeners};
use crate::history::{History, Keeper};
use crate::known::Keep;
use crate::limits;
use crate::logging::{self, Logging, LoggingHandle, Reopen};
use crate::memory::Tidy;
use crate::metrics::{Metrics, Now};
use crate::notify::{Notice, notify, watchdog_interval};
use crate::reloads::Reloads;
use crate::start_from::StartFrom;
use crate::startup::{self, Began, Begun};
use crate::watching::Watching;

/// Actors that do not come to an end when they are told to are left behind after this long.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// How long peers may take to hear the goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A running node.
pub struct Node {
    current: Current,
    board: Arc<Board>,
    coordinator: Addr<Coordinator<Config>>,
    logging: Link<Logging>,
    network: Link<Network>,
    admin: Link<Admin>,
    history: Arc<History>,
    /// Requests of the admin socket that are being answered.
    requests: Requests,
    services: Services,
    known: Keep,
    stopping: watch::Sender<bool>,
}

/// Why a node does not start. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Network(#[from] net::StartError),
    /// The admin socket cannot be bound.
    #[error("{}: cannot listen on the admin socket: {source} (set admin.socket to a path that the node may write)", path.display())]
    Admin {
        /// The socket.
        path: std::path::PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The address of the API cannot be listened on, or not served by the files that it names. Has key and remedy.
    #[error("{0}")]
    Listen(Box<Problem>),
    /// The address of a connected service cannot be listened on. Has key and remedy.
    #[error("{0}")]
    Services(Box<Problem>),
    /// A bug: the components' dependencies are no graph.
    #[error(transparent)]
    Graph(#[from] reload::graph::GraphError),
}

// === impl Node ===

impl Node {
    /// Starts every actor on the configuration, and the coordinator on top. When it returns, the node serves.
    ///
    /// # Errors
    /// If something cannot be had: an address, the socket, the history.
    pub async fn start(chosen: StartFrom, handle: LoggingHandle) -> Result<Self, StartError> {
        let started = Instant::now();
        let StartFrom { loaded, history, wrong, from } = chosen;
        let config = loaded.config;
        let key = config.identity().public_key();
        tracing::info!(config = %config.source.path.display(), "BTC Federation Node starting with config");
        if let Some(error) = history.pid_error() {
            tracing::warn!(%error, "there is no pid file");
        }
        limits::raise_descriptor_limit();
        let mut warnings = loaded.warnings;
        warnings.extend(limits::too_few_descriptors(config.network.limits.connections));
        for warning in &warnings {
            tracing::warn!(%warning, "configuration");
        }
        history.speak_after(handle.clone());
        let history = Arc::new(history);
        for file in &wrong.damaged {
            tracing::warn!(%file, "history");
        }
        if let Some(error) = &wrong.standing {
            tracing::error!(%error, "history");
        }

        fault::pass("start::actors");
        let members = Live::new(Arc::clone(&config.peers.members));
        let view = View::new();
        let known = view.known().bound().clone();
        let post = Post::new(Settings::from(&*config.protocol));
        let services = Services::new();
        let topics = Topics::new(key, post.clone(), view.clone());
        let logging = Link::new(Logging::start(Arc::clone(&config.logging), &handle));
        let peer_store = Link::new(PeerStore::start(Arc::clone(&config.peers), &members, &known));
        let keeper = Link::new(Keeper::start(Arc::clone(&config.history), Arc::clone(&history)));
        let network = Network::start(StartNetwork {
            identity: config.identity().clone(),
            section: Arc::clone(&config.network),
            post: post.clone(),
            services: services.clone(),
            topics: topics.clone(),
            view: view.clone(),
        })?;
        // Upstream's words; what peers.yaml wants is the key that the peer id holds.
        tracing::info!(peer_id = %key.peer_id(), public_key = %key, "For peers.yaml, use peer ID");
        services
            .open(&config.protocol)
            .map_err(|error| StartError::Services(Box::new(error.into_problem("protocol"))))?;
        let start_protocol = {
            let (post, services, topics) = (post.clone(), services.clone(), topics.clone());
            move |section| Protocol::start(section, post.clone(), &services, topics.clone())
        };
        let protocol = Link::new(start_protocol(Arc::clone(&config.protocol)));

        fault::pass("start::socket");
        // Bound, and served only when the start's own line is written: nobody sees a node that has no history yet.
        let socket = Bound::new(config.admin.socket.clone())
            .map_err(|source| StartError::Admin { path: config.admin.socket.clone(), source })?;
        let (servers, tcp) = admin::settle(&config.admin)
            .map_err(|error| StartError::Listen(Box::new(error.into_problem("admin"))))?;
        let began = Began { at: started, read: loaded.read, validate: loaded.validate, warnings, from };
        let Begun { generation, outcome, degraded } = startup::begin(&history, &config, began).await;
        let board = Board::new(outcome, degraded);
        let current: Current = Arc::new(ArcSwap::new(Arc::clone(&config)));
        let metrics = Arc::new(Metrics::new(Now {
            board: Arc::clone(&board),
            view: view.clone(),
            services: services.clone(),
            current: Arc::clone(&current),
            history: Arc::clone(&history),
            logging: handle.clone(),
        }));
        let (stopping, stopped) = watch::channel(false);
        let reloads = Reloads::default();
        let requests = Requests::default();
        let state = Arc::new(AdminState {
            key,
            started,
            current: Arc::clone(&current),
            board: Arc::clone(&board),
            coordinator: OnceLock::new(),
            view: view.clone(),
            messages: Messages::new(post.clone(), view.clone()),
            services: services.clone(),
            topics,
            reloads: reloads.clone(),
            metrics: Arc::clone(&metrics),
            history: Arc::clone(&history),
            checks: vec![
                ("network", check(&network)),
                ("peer_store", check(&peer_store)),
                ("protocol", check(&protocol)),
                ("logging", check(&logging)),
            ],
            requests: requests.clone(),
            gate: Arc::clone(servers.gate()),
            stopping: stopped,
        });
        let admin = Link::new(Admin::first(Arc::clone(&config.admin), Arc::clone(&state), servers.clone()));
        let start_admin = {
            let (state, servers) = (Arc::clone(&state), servers.clone());
            move |section| Admin::take_office(section, Arc::clone(&state), servers.clone())
        };
        let watching = Watching::default();
        let coordinator = Coordinator::start_apart(Parts {
            components: vec![
                Box::new(
                    ActorComponent::new(logging.clone(), &[], |c: &Config| &c.logging)
                        .replaceable(move |section| Logging::start(section, &handle))
                        .minimal(LoggingSection::console_only),
                ),
                Box::new(ActorComponent::new(keeper, &[], |c: &Config| &c.history).replaceable({
                    let history = Arc::clone(&history);
                    move |section| Keeper::start(section, Arc::clone(&history))
                })),
                Box::new(
                    ActorComponent::new(peer_store, &["logging"], |c: &Config| &c.peers)
                        .replaceable(move |section| PeerStore::start(section, &members, &known)),
                ),
                Box::new(ActorComponent::new(network.clone(), &["peer_store"], |c: &Config| &c.network)),
                Box::new(
                    ActorComponent::new(protocol, &["network"], |c: &Config| &c.protocol)
                        .replaceable(start_protocol),
                ),
                Box::new(
                    // Its socket lies in the data folder, which has to be there first.
                    ActorComponent::new(admin.clone(), &["logging", "history"], |c: &Config| &c.admin)
                        .replaceable(start_admin),
                ),
            ],
            source: Arc::new(Files {
                view: view.clone(),
                services: services.clone(),
                history: Arc::clone(&history),
                servers: servers.clone(),
            }),
            recorder: Arc::clone(&history) as _,
            site: Arc::new(Connections { view: view.clone() }),
            sink: watching.beside(Listeners { metrics, reloads, tidy: Tidy::default() }),
            board: Arc::clone(&board),
            current: Arc::clone(&current),
            generation,
            unconfirmed: history.unconfirmed(),
        })?;
        // Nobody has asked yet: the socket is opened below, and with it the way to the coordinator.
        let _ = state.coordinator.set(coordinator.clone());
        fault::pass("start::serve");
        servers
            .serve(socket, &state)
            .map_err(|source| StartError::Admin { path: config.admin.socket.clone(), source })?;
        if let Some(tcp) = tcp {
            admin::open(&servers, tcp, &state)
                .map_err(|error| StartError::Listen(Box::new(error.into_problem("admin"))))?;
        }
        watching.start(Arc::clone(&current), coordinator.clone());
        let known = Keep::start(view.known().clone(), Arc::clone(&current), Arc::clone(&board));
        tracing::info!(generation = generation.get(), "Node started successfully");
        fault::pass("start::served");
        notify(&Notice::Ready);
        Ok(Self {
            current,
            board,
            coordinator,
            logging,
            network,
            admin,
            history,
            requests,
            services,
            known,
            stopping,
        })
    }

    /// Runs until a signal says stop, then stops gracefully.
    pub async fn run(self, mut signals: impl Stream<Item = Signal> + Unpin) -> ExitCode {
        let mut watchdog = watchdog_interval().map(tokio::time::interval);
        loop {
            let signal = tokio::select! {
                signal = signals.next() => signal,
                () = tick(&mut watchdog) => {
                    // Not awaited: a signal must not wait for a network that does not answer.
                    actix::spawn(feed_watchdog(self.coordinator.clone(), self.network.clone()));
                    continue;
                }
            };
            match signal {
                Some(Signal::Reload(sender)) => {
                    let origin =
                        Origin { trigger: Trigger::Signal, actor: Some(sender.to_string()), note: None };
                    // First: the others are done long before a file is judged.
                    self.coordinator.do_send(Reload::new(origin));
                    self.logging.addr().do_send(Reopen);
                    self.admin.addr().do_send(admin::Reopen);
                }
                Some(Signal::Stop(sender)) => {
                    tracing::info!(%sender, "Shutting down...");
                    break;
                }
                None => {
                    tracing::error!("the signal handlers are gone; the node stops");
                    break;
                }
            }
        }
        self.stop(signals).await
    }

    /// Not ready first, then the transaction's end, then goodbye, flush, close (O4).
    async fn stop(self, mut signals: impl Stream<Item = Signal> + Unpin) -> ExitCode {
        fault::pass("stop::begin");
        notify(&Notice::Stopping);
        // Those who wait for it are streams; that nobody does is no error.
        let _ = self.stopping.send(true);
        let timeout = self.current.load().node.shutdown_timeout;
        let second = async {
            while let Some(signal) = signals.next().await {
                if let Signal::Stop(sender) = signal {
                    return sender;
                }
            }
            std::future::pending().await
        };
        exit_after(timeout);
        tokio::select! {
            () = self.close() => tracing::info!("Shutdown complete"),
            () = keep_feeding() => {}
            sender = second => tracing::warn!(%sender, "a second signal: stopping at once"),
        }
        self.history.sync();
        fault::pass("stop::synced");
        self.history.release();
        ExitCode::SUCCESS
    }

    async fn close(&self) {
        // The transaction ends within its budget whatever happens; the margin is for a machine under load.
        let running = self.board.read().running.as_ref().map_or(Duration::ZERO, |running| running.budget);
        let _ = tokio::time::timeout(running + CLOSE_WITHIN, self.coordinator.send(Stop)).await;
        fault::pass("stop::halted");
        // A message that is on its way gets its answer, if the time for it leaves enough for the rest.
        let patience = self.current.load().node.shutdown_timeout.saturating_sub(2 * CLOSE_WITHIN);
        // So does a stream of a service, for as long as something moves on it.
        let answered = tokio::time::timeout(patience, self.requests.wait_until_none());
        let _ = futures::future::join(answered, self.services.drain(patience)).await;
        let _ =
            tokio::time::timeout(CLOSE_WITHIN, self.network.addr().send(net::Shutdown { within: GOODBYE }))
                .await;
        fault::pass("stop::network");
        let _ = tokio::time::timeout(CLOSE_WITHIN, self.known.save()).await;
        let _ = tokio::time::timeout(CLOSE_WITHIN, self.admin.addr().send(admin::Close)).await;
    }
}

/// A supervisor's watchdog is fed while the two answer that only a restart can mend: the network, and the coordinator, without
/// which the node cannot be changed or stopped in order any more.
async fn feed_watchdog(coordinator: Addr<Coordinator<Config>>, network: Link<Network>) {
    let answers = futures::future::join(coordinator.send(Pulse), network.addr().send(Reconfigure::health()));
    if let Ok((Ok(()), Ok(Ok(())))) = tokio::time::timeout(CLOSE_WITHIN, answers).await {
        notify(&Notice::Watchdog);
    }
}

/// A stop may take longer than the watchdog is patient; that it ends is seen to by [`exit_after`]. Never returns.
async fn keep_feeding() {
    let mut watchdog = watchdog_interval().map(tokio::time::interval);
    loop {
        tick(&mut watchdog).await;
        notify(&Notice::Watchdog);
    }
}

/// A graceful stop has a deadline, and it is kept by a thread that depends on nothing: an arbiter that is stuck holds the
/// process otherwise (`System::run` and a runtime's drop wait for their threads).
pub fn exit_after(timeout: Duration) {
    let keeper = std::thread::Builder::new().name("deadline".into()).spawn(move || {
        // The deadline itself, on a thread that nothing else can hold up.
        std::thread::sleep(timeout);
        let text = format!("the node did not stop within node.shutdown_timeout ({timeout:?}); exiting\n");
        logging::complain(text.as_bytes());
        logging::farewell(Duration::ZERO);
        std::process::exit(0);
    });
    if let Err(error) = keeper {
        tracing::warn!(%error, "nobody keeps node.shutdown_timeout");
    }
}

async fn tick(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn check<A>(link: &Link<A>) -> Check
where
    A: reload::Reconfigurable + actix::Handler<Reconfigure<A::Section>>,
    A::Context: actix::dev::ToEnvelope<A, Reconfigure<A::Section>>,
{
    let link = link.clone();
    Box::new(move || {
        let request = link.addr().send(Reconfigure::health());
        Box::pin(async move {
            request
                .await
                .unwrap_or_else(|gone| Err(StepError::component(format!("the component is gone: {gone}"))))
        })
    })
}
