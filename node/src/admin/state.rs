//! What the admin routes answer from: values that can be read at any time, and the addresses of those who can be asked.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::Addr;
use arc_swap::ArcSwap;
use net::{Held, Messages, Services, Topics, View};
use reload::{Ack, Board, Coordinator, InFlight};
use serde_json::{Value, json};
use storage::PeerKey;
use tokio::sync::watch;

use super::gate::Gate;
use crate::config::Config;
use crate::history::History;
use crate::metrics::Metrics;
use crate::reloads::Reloads;

/// How long a component may take to say that it is well.
const HEALTH_WITHIN: Duration = Duration::from_secs(1);

/// Asks a component whether it is well.
pub type Check = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Ack> + Send>> + Send + Sync>;

/// What the routes need.
pub struct AdminState {
    /// Who this node is.
    pub key: PeerKey,
    /// When the process started.
    pub started: Instant,
    /// The configuration that runs.
    pub current: Arc<ArcSwap<Config>>,
    /// The reload engine, to read.
    pub board: Arc<Board>,
    /// The reload engine, to ask. Set before the socket is opened.
    pub coordinator: OnceLock<Addr<Coordinator<Config>>>,
    /// The network, to read.
    pub view: View,
    /// Direct messages.
    pub messages: Messages,
    /// Figures of services.
    pub services: Services,
    /// Broadcast topics.
    pub topics: Topics,
    /// The reload engine, to listen to.
    pub reloads: Reloads,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Generations and the audit log.
    pub history: Arc<History>,
    /// Health checks by name.
    pub checks: Vec<(&'static str, Check)>,
    /// Those that are being answered.
    pub requests: Requests,
    /// The rules of the TCP side.
    pub gate: Arc<Gate>,
    /// Becomes true when the node stops: not ready, and streams end.
    pub stopping: watch::Receiver<bool>,
}

/// Counts requests that have something under way: a stop waits for them, within `node.shutdown_timeout`.
#[derive(Clone, Debug)]
pub struct Requests(Arc<watch::Sender<usize>>);

/// One of them; over when it is dropped.
#[derive(Debug)]
pub struct UnderWay(Requests);

// === impl Requests ===

impl Default for Requests {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Requests {
    /// Another one begins.
    #[must_use]
    pub fn begin(&self) -> UnderWay {
        self.0.send_modify(|count| *count += 1);
        UnderWay(self.clone())
    }

    /// Returns when nothing is under way.
    pub async fn wait_until_none(&self) {
        // Fails only without a sender, and this is one.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

// === impl AdminState ===

impl AdminState {
    /// The contract's `status`. Looks at the files: blocks.
    #[must_use]
    pub fn status(&self) -> Value {
        let board = self.board.read();
        let file_differs = !self.current.load().files_are_unchanged();
        let config = self.current.load();
        let expose: Vec<_> = config.protocol.expose.iter().map(|s| &s.name).collect();
        let connect: Vec<_> = config.protocol.connect.iter().map(|s| &s.name).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "peer_id": self.key.peer_id().to_string(),
            "public_key": self.key,
            "pid": std::process::id(),
            "uptime_s": seconds(self.started.elapsed()),
            "state": board.state,
            "generation": board.generation,
            "degraded": board.degraded.is_some(),
            "degraded_reason": board.degraded,
            "confirm_deadline": board.unconfirmed.map(|awaited| awaited.by_unix_ms.div_ceil(1000)),
            "confirm_target": board.unconfirmed.map(|awaited| awaited.target),
            "held": self.history.held().paths(),
            "running_reload": board.running.as_ref().map(running),
            "in_sync": board.successful && !file_differs,
            "file_differs": file_differs,
            "listeners": self.view.listeners(),
            "admin_listen": self.gate.rules().listen,
            "retired_listeners": self.view.retired().iter().map(retired).collect::<Vec<_>>(),
            "failing_listeners": self.view.failing_listeners(),
            "connections": self.view.connections(),
            "known": self.view.known().list(),
            "members": self.view.members(),
            "topics": config.protocol.topics,
            "services": {"expose": expose, "connect": connect},
            "worker_threads": self.view.worker_threads(),
            "last_reload": *board.last,
        })
    }

    /// The contract's `readyz`, and whether it says yes.
    pub async fn ready(&self) -> (bool, Value) {
        let asked = self.checks.iter().map(|(name, check)| async move {
            let began = Instant::now();
            let answer = tokio::time::timeout(HEALTH_WITHIN, check()).await;
            let error = match answer {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.message),
                Err(_) => Some(format!("no answer within {} ms", HEALTH_WITHIN.as_millis())),
            };
            (*name, began.elapsed(), error)
        });
        let mut checks = serde_json::Map::new();
        let mut ready = true;
        let mut add = |name: &str, latency: Duration, error: Option<String>| {
            ready &= error.is_none();
            let status = if error.is_none() { "pass" } else { "fail" };
            let mut check = json!({"status": status, "latency_ms": millis(latency)});
            if let Some(error) = error {
                check["error"] = error.into();
            }
            checks.insert(name.to_owned(), check);
        };
        for (name, latency, mut error) in futures::future::join_all(asked).await {
            if name == "network" {
                // It works on after a panic; a person should look, and others should not be sent here.
                error = error.or_else(|| self.view.trouble().map(|why| format!("the swarm panicked: {why}")));
                // Not the component's own check, which the watchdog goes by: a restart mends no network card.
                error = error.or_else(|| {
                    let failing = self.view.failing_listeners().into_iter().next()?;
                    Some(format!("'{}' cannot be reached: {}", failing.address, failing.error))
                });
            }
            add(name, latency, error);
        }
        let stopping = self.stopping.borrow().then(|| "the node is stopping".to_owned());
        let is_gone = self.coordinator.get().is_some_and(|coordinator| !coordinator.connected());
        let gone =
            is_gone.then(|| "the reload engine is gone: no reload will come, until a restart".to_owned());
        add("config", Duration::ZERO, stopping.or(gone).or_else(|| self.board.read().degraded.clone()));
        add("certificates", Duration::ZERO, self.gate.trouble(SystemTime::now()));
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let status = if ready { "healthy" } else { "degraded" };
        let version = env!("CARGO_PKG_VERSION");
        (ready, json!({"status": status, "version": version, "timestamp": timestamp, "checks": checks}))
    }
}

/// A QUIC endpoint that outlives its listener.
fn retired(held: &Held) -> Value {
    json!({"address": held.endpoint.to_multiaddr().to_string(), "connections": held.connections})
}

/// A transaction while it runs, with the deadline that it is in.
fn running(running: &InFlight) -> Value {
    let left = running.deadline.saturating_duration_since(Instant::now());
    json!({
        "id": *running.id,
        "trigger": running.trigger,
        "elapsed_ms": millis(running.started.elapsed()),
        "budget_ms": millis(running.budget),
        "phase": running.phase,
        "phase_left_ms": millis(left),
        "waiting_for": running.waiting_for,
    })
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}
