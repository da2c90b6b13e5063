//! How the swarm moves: polled inside the actor, a bounded number of events at a time, with the dialer's clock beside it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix::ActorFuture;
use futures::{FutureExt, Stream};
use libp2p::PeerId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use reload::fault;

use super::{BOOTSTRAP, Bootstrap, Network, explain};
use crate::dialer::Action;

/// Events in one turn; then other work of the actor gets its turn.
const EVENTS: usize = 128;
/// Events in one [`Network::drain`]: more than a listener's backlog of 1024 makes.
const DRAIN: usize = 8192;
/// After a panic, the swarm is polled again no sooner than this: what it would have been woken by may be lost.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// The future inside the actor that drives everything. Never ends.
pub(super) struct Drive;

/// How far a poll came.
pub(super) enum Progress {
    /// The swarm has nothing more to do now.
    Idle,
    /// It may have.
    More,
    /// It panicked.
    Broken,
}

// === impl Drive ===

impl ActorFuture<Network> for Drive {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        network: &mut Network,
        _: &mut actix::Context<Network>,
        task: &mut Context<'_>,
    ) -> Poll<()> {
        network.drive(task);
        Poll::Pending
    }
}

// === impl Network ===

impl Network {
    fn drive(&mut self, task: &mut Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(task.waker())) {
            self.waker = Some(task.waker().clone());
        }
        let progress = self.guarded(|network| network.turn(task));
        match progress {
            Progress::Idle => self.settle(),
            Progress::More => task.waker().wake_by_ref(),
            Progress::Broken => {}
        }
        self.recover(Instant::now());
        self.on_bootstrap(Instant::now());
        self.view.set_members(self.dialer.changes());
        self.view.set_handshakes(self.swarm.network_info().connection_counters().num_pending());
        self.set_timer(matches!(progress, Progress::Broken), task);
    }

    /// What one turn does: whatever panics in here ends the turn, not the actor.
    fn turn(&mut self, task: &mut Context<'_>) -> Progress {
        self.close_listeners(task);
        let mut progress = self.pump(task, EVENTS);
        // Not only when the swarm is idle: a flood of strangers could keep it from that for long.
        for heartbeat in self.heartbeats.drain(..) {
            let _ = heartbeat.send(());
        }
        if self.dial_what_is_due() {
            progress = self.pump(task, EVENTS);
        }
        progress
    }

    /// Takes events from the swarm, until it has none or the budget is spent.
    fn pump(&mut self, task: &mut Context<'_>, budget: usize) -> Progress {
        let workers = self.pool.workers();
        // An inbound socket is driven by the runtime that it was accepted under.
        let _entered = workers.enter();
        for _ in 0..budget {
            match Pin::new(&mut self.swarm).poll_next(task) {
                Poll::Ready(Some(event)) => self.on_event(event),
                Poll::Ready(None) | Poll::Pending => return Progress::Idle,
            }
        }
        Progress::More
    }

    /// Polls the swarm until it has nothing more to do now, whatever the runtime's opinion of a fair turn: without that a
    /// listener claims to be empty after some hundred accepts (tokio's cooperative budget).
    fn drain(&mut self, task: &mut Context<'_>) {
        let whole = std::future::poll_fn(|task| {
            self.pump(task, DRAIN);
            Poll::Ready(())
        });
        let _ = std::pin::pin!(tokio::task::unconstrained(whole)).poll_unpin(task);
    }

    /// A panic inside the swarm would take the actor and every connection with it: it becomes trouble in the view, which
    /// fails a transaction's probe and makes the node unready, and the connections live on.
    pub(super) fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Progress) -> Progress {
        match catch_unwind(AssertUnwindSafe(|| work(&mut *self))) {
            Ok(progress) => progress,
            Err(panic) => {
                self.panics = self.panics.saturating_add(1);
                let text = message_of(panic.as_ref());
                tracing::error!(panic = %text, "the swarm panicked; this is a bug, please report it");
                self.view.set_trouble(text);
                Progress::Broken
            }
        }
    }

    /// Begins the dials that are due, ends those that took too long. True if there were any.
    fn dial_what_is_due(&mut self) -> bool {
        let actions = self.dialer.due(Instant::now(), rand::random);
        let any = !actions.is_empty();
        for action in actions {
            match action {
                // A connection that came in meanwhile is not to be hung up on; the dial beside it ends by itself.
                Action::Abort { peer } if self.swarm.is_connected(&peer) => {}
                Action::Abort { peer } => {
                    // Says that nothing was established, which is so.
                    let _ = self.swarm.disconnect_peer_id(peer);
                }
                Action::Dial { peer, addresses } => self.dial(peer, addresses),
            }
        }
        any
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<libp2p::Multiaddr>) {
        let options = DialOpts::peer_id(peer)
            // The dialer has one dial for each member at a time. One that it has given up may still be on its way out of
            // the swarm: that is no reason to put the next one off.
            .condition(PeerCondition::Disconnected)
            // From a listening port both ends could dial one another into one half-open connection
            // (libp2p/specs#389), and a retired listener's port would live on.
            .allocate_new_port()
            .addresses(addresses)
            .build();
        let id = options.connection_id();
        let workers = self.pool.workers();
        let _entered = workers.enter();
        match self.swarm.dial(options) {
            Ok(()) => self.dialer.dialing(&peer, id),
            Err(error) => self.dialer.refused(&peer, explain(&error), Instant::now(), rand::random()),
        }
    }

    /// Closes the listeners that were asked to, once what had queued up for them is known: polled to their end and removed
    /// with nothing in between.
    fn close_listeners(&mut self, task: &mut Context<'_>) {
        for departure in &mut self.departures {
            if let Some(queued) = &mut departure.queued
                && queued.poll_unpin(task).is_ready()
            {
                departure.queued = None;
                self.closing.extend(departure.listeners.iter().copied());
            }
        }
        if !self.closing.is_empty() {
            self.drain(task);
        }
        while let Some(&id) = self.closing.last() {
            fault::pass("listener::close");
            self.swarm.remove_listener(id);
            self.closing.pop();
        }
    }

    /// The swarm is idle: sockets that were asked to close are closed now.
    fn settle(&mut self) {
        let now = Instant::now();
        let (over, open) =
            std::mem::take(&mut self.departures).into_iter().partition::<Vec<_>, _>(|departure| {
                departure.listeners.is_empty() && (departure.connections.is_empty() || departure.until <= now)
            });
        self.departures = open;
        for departure in over {
            for id in departure.connections {
                // Closing goes on without us; nothing of this node uses the connection any more.
                let parting = self.connections.get(&id).and_then(|live| live.parting);
                let why = parting.map(|why| format!("{why}; ")).unwrap_or_default();
                self.forget_connection(id, &format!("{why}the peer did not let it close"));
            }
            let _ = departure.done.send(());
        }
    }

    /// Sees to it that this is polled again when something is due. Everything that is due already has been done, or nothing
    /// but the end of this turn stands in its way.
    fn set_timer(&mut self, broken: bool, task: &mut Context<'_>) {
        let bootstrap = match self.bootstrap {
            Bootstrap::Since(since) => Some(since + BOOTSTRAP),
            Bootstrap::Waiting | Bootstrap::Said => None,
        };
        let departures = self.departures.iter().filter(|departure| departure.listeners.is_empty());
        let due = if broken {
            Some(Instant::now() + AFTER_PANIC)
        } else {
            [
                self.dialer.next(),
                bootstrap,
                self.listeners.next(),
                self.swarm.behaviour().crossed.next(),
                self.swarm.behaviour().topics.next(),
                departures.map(|departure| departure.until).min(),
            ]
            .into_iter()
            .flatten()
            .min()
        };
        let Some(due) = due else { return };
        let due = tokio::time::Instant::from_std(due);
        if self.timer.deadline() != due || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due);
        }
        if self.timer.poll_unpin(task).is_ready() {
            task.waker().wake_by_ref();
        }
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
