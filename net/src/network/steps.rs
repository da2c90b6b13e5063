//! The network actor's steps of a reload.
//!
//! Commit only adds and swaps values: new listeners beside the old ones, other limits, members, timeouts, threads. What
//! cannot be undone, to close listeners and to hang up on those whom the new section forbids, waits for `finish`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use actix::Context;
use libp2p::Multiaddr;
use reload::{Books, Reconfigurable, StepError, StepFuture, done};
use storage::side_by_side;
use tokio::sync::oneshot;

use super::{CLOSING, Live, Network, Partings, Prepared, Trial, start};
use crate::dialer::Pace;
use crate::goodbye::Reason;
use crate::listeners::{Held, Reservation, ReserveError};
use crate::membership::Rules;
use crate::{Membership, NetworkSection};

const ADDRESSES: &str = "network.addresses";

/// So many sockets are bound where the swarm is polled: to bind without listening waits for nobody, and a few take less time than
/// to ask another thread for it.
const FEW: usize = 8;

impl Reconfigurable for Network {
    const NAME: &'static str = "network";
    type Section = NetworkSection;
    type Prepared = Prepared;

    fn books(&mut self) -> &mut Books<NetworkSection, Prepared> {
        &mut self.books
    }

    fn prepare(&mut self, next: &Arc<NetworkSection>, _: Instant) -> StepFuture<Prepared> {
        let missing = self.listeners.missing(&next.listen);
        let held = start::held(&self.listeners, &self.view);
        let threads = next.worker_threads.max(1);
        let threads = (threads != self.pool.workers().threads()).then_some(threads);
        if threads.is_none() && missing.len() <= FEW {
            let reservations = reserve(&missing, &held);
            return done(reservations.map(|reservations| Prepared { reservations, workers: None }));
        }
        // Starting threads and binding many sockets takes longer: not on the thread that polls the swarm (R25).
        let pool = self.pool.clone();
        let acquiring = tokio::task::spawn_blocking(move || -> Result<Prepared, StepError> {
            let reservations = reserve(&missing, &held)?;
            let workers = threads.map(|threads| pool.of_size(threads)).transpose().map_err(|error| {
                StepError::system(format!("the threads cannot be started: {error}"))
                    .key("node.worker_threads")
            })?;
            Ok(Prepared { reservations, workers })
        });
        Box::pin(async move {
            acquiring
                .await
                .unwrap_or_else(|error| Err(StepError::component(format!("preparation ended: {error}"))))
        })
    }

    fn commit(
        &mut self,
        prepared: Prepared,
        next: &Arc<NetworkSection>,
        _: &mut Context<Self>,
    ) -> StepFuture<()> {
        let before = std::mem::replace(&mut self.applied, Arc::clone(next));
        self.trial = Some(Trial {
            before: Arc::clone(&before),
            first_connection: self.next_connection,
            workers: None,
            panics: self.panics,
            began: Instant::now(),
        });
        for reservation in prepared.reservations {
            if let Err((address, error)) =
                start::open(&mut self.swarm, &mut self.listeners, &self.pool, reservation)
            {
                let message = format!("'{address}' was free, but cannot be listened on: {error}");
                return done(Err(StepError::system(message).key(ADDRESSES)));
            }
        }
        if let Some(workers) = prepared.workers {
            let old = self.pool.replace(workers);
            if let Some(trial) = &mut self.trial {
                trial.workers = Some(old);
            }
        }
        self.apply_values(&before, next);
        done(Ok(()))
    }

    fn restore(&mut self, before: &Arc<NetworkSection>, _: &mut Context<Self>) -> StepFuture<()> {
        let tried = std::mem::replace(&mut self.applied, Arc::clone(before));
        let trial = self.trial.take();
        if let Some(workers) = trial.as_ref().and_then(|trial| trial.workers.clone()) {
            self.pool.replace(workers);
        }
        self.apply_values(&tried, before);
        self.dialer.forget();
        let reopened = self.reopen(before);
        // What came only because of the section that is taken back goes with it.
        let (rules, tried) = (Rules::of(before), Rules::of(&tried));
        let first = trial.map_or(u64::MAX, |trial| trial.first_connection);
        let strays =
            self.select(|live| rules.expels(&tried, live.key.as_ref()).filter(|_| live.number >= first));
        let extra = self.listeners.extra(&before.listen);
        let departed = self.part_with(extra, strays, CLOSING);
        Box::pin(async move {
            departed.await;
            reopened
        })
    }

    fn probe(&mut self) -> StepFuture<()> {
        let missing = self.listeners.missing(&self.applied.listen);
        if let Some(address) = missing.first() {
            return done(Err(StepError::component(format!("'{address}' is not listened on")).key(ADDRESSES)));
        }
        // One that was lost before is no fault of this section.
        let lost = self.trial.as_ref().and_then(|trial| self.listeners.lost_since(trial.began));
        if let Some(address) = lost {
            return done(Err(StepError::component(format!("'{address}' closed by itself")).key(ADDRESSES)));
        }
        if self.trial.as_ref().is_some_and(|trial| trial.panics != self.panics) {
            let why = self.view.trouble().unwrap_or_default();
            return done(Err(StepError::component(format!("the swarm panicked under this section: {why}"))));
        }
        let (beat, alive) = oneshot::channel();
        self.heartbeats.push(beat);
        self.wake();
        Box::pin(async move {
            alive.await.map_err(|_| StepError::component("the network actor stopped while it was probed"))
        })
    }

    fn finish(&mut self, _: &mut Context<Self>) -> StepFuture<()> {
        let Some(trial) = self.trial.take() else { return done(Ok(())) };
        let (before, now) = (Rules::of(&trial.before), self.rules.load_full());
        let expelled = self.select(|live| now.expels(&before, live.key.as_ref()));
        for _ in &expelled {
            self.view.counters().closed_by_reload();
        }
        let (old, members) = (&trial.before.members, &self.applied.members);
        // Members that are the same are not even counted.
        let old = if Arc::ptr_eq(old, members) { None } else { Some(old) };
        for (key, ..) in
            old.into_iter().flat_map(|old| side_by_side(old, members)).filter(|(.., now)| now.is_none())
        {
            let peer = key.peer_id();
            self.post.forget(&peer);
            // A dial that is under way ends, one that was overtaken by a connection when that is closed: see `on_closed`.
            if !self.swarm.is_connected(&peer) {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        }
        self.dialer.forget();
        let extra = self.listeners.extra(&self.applied.listen);
        let departed = self.part_with(extra, expelled, CLOSING);
        Box::pin(async move {
            departed.await;
            Ok(())
        })
    }
}

impl Network {
    /// Puts into force what is a value: rules, external addresses, members, pace. The same in both directions.
    fn apply_values(&mut self, from: &NetworkSection, to: &NetworkSection) {
        let rules = Rules::after(&self.rules.load(), to);
        self.rules.store(Arc::new(rules));
        for address in from.external.iter().filter(|address| !to.external.contains(address)) {
            self.swarm.remove_external_address(address);
        }
        for address in to.external.iter().filter(|address| !from.external.contains(address)) {
            self.swarm.add_external_address(address.clone());
        }
        if from.external != to.external {
            // Identify does this by itself only where a listener comes or goes.
            let peers: HashSet<_> = self.connections.values().map(|live| live.peer).collect();
            self.swarm.behaviour_mut().identify.push(peers);
        }
        self.dialer.set_pace(Pace::of(to), Instant::now(), rand::random);
        if !Arc::ptr_eq(&from.members, &to.members) {
            let swarm = &self.swarm;
            self.dialer.set(&to.members, Instant::now(), |peer| swarm.is_connected(peer));
        }
        if !Arc::ptr_eq(&from.members, &to.members) || from.membership != to.membership {
            let known = self.view.known();
            known.set_members(&to.members, to.membership == Membership::Members);
            for key in known.members() {
                self.dialer.learn(&key, known.addresses(&key), Instant::now());
            }
        }
        self.view.set_members(self.dialer.changes());
        self.view.set_worker_threads(self.pool.workers().threads());
        self.show_listeners();
        self.wake();
    }

    /// Listens again on what a half-done finish may have closed. Normally nothing.
    fn reopen(&mut self, section: &NetworkSection) -> Result<(), StepError> {
        for address in self.listeners.missing(&section.listen) {
            let reservation =
                Reservation::new(&address, &start::held(&self.listeners, &self.view)).map_err(unavailable)?;
            start::open(&mut self.swarm, &mut self.listeners, &self.pool, reservation).map_err(
                |(address, error)| {
                    StepError::system(format!("'{address}' cannot be listened on again: {error}"))
                },
            )?;
        }
        self.show_listeners();
        Ok(())
    }

    fn select(&self, chosen: impl Fn(&Live) -> Option<Reason>) -> Partings {
        let connections = self.connections.iter();
        connections.filter_map(|(id, live)| chosen(live).map(|reason| (*id, reason))).collect()
    }
}

fn reserve(missing: &[Multiaddr], held: &[Held]) -> Result<Vec<Reservation>, StepError> {
    missing.iter().map(|address| Reservation::new(address, held).map_err(unavailable)).collect()
}

fn unavailable(error: ReserveError) -> StepError {
    let (hint, message, class) = (error.hint(), error.to_string(), error.class());
    let refusal = match &error {
        ReserveError::Other(_, cause) => StepError::of_io(message, cause),
        _ => StepError { class, ..StepError::component(message) },
    };
    refusal.key(ADDRESSES).hint(hint)
}
