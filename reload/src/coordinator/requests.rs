//! What the coordinator is asked: a reload, a look at one, a stop.

use std::sync::Arc;

use actix::{ActorFutureExt, Context, Handler, ResponseActFuture, ResponseFuture, WrapFuture};
use tokio::sync::oneshot;

use super::running::Running;
use super::{Answered, Coordinator, Waiter, judging};
use crate::budget::Stage;
use crate::machine::Event;
use crate::source::{Configuration, Which};
use crate::trigger::{Aim, DryRun, Pulse, Refusal, Reload, Stop};

/// How many requests may wait for the next reload. Each is a caller with an open connection; more are told to come back.
const MAX_WAITING: usize = 1024;

impl<C: Configuration> Handler<Reload> for Coordinator<C> {
    type Result = ResponseFuture<Answered>;

    fn handle(&mut self, request: Reload, ctx: &mut Context<Self>) -> Self::Result {
        let Reload { origin, expect, aim, confirm } = request;
        let current = self.generation;
        let refusal = match expect {
            _ if self.machine.stopping() => Some(Refusal::Stopping),
            Some(expected) if expected != current => Some(Refusal::Mismatch { expected, current }),
            _ if self.waiting.len() >= MAX_WAITING => Some(Refusal::Busy(MAX_WAITING)),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return Box::pin(std::future::ready(Err(refusal)));
        }
        let (reply, answer) = oneshot::channel();
        self.waiting.push(Waiter { origin, expect, aim, confirm, reply: Some(reply) });
        self.on(Event::Trigger, ctx);
        Box::pin(async move { answer.await.unwrap_or(Err(Refusal::Stopping)) })
    }
}

impl<C: Configuration> Handler<DryRun> for Coordinator<C> {
    type Result = ResponseActFuture<Self, Answered>;

    fn handle(&mut self, DryRun { origin, which }: DryRun, _: &mut Context<Self>) -> Self::Result {
        let (source, site) = (Arc::clone(&self.source), Arc::clone(&self.site));
        let places = Arc::clone(&self.dry_runs);
        let current = self.current.load_full();
        let (budget, generation) = (current.budget(), self.generation);
        let mut running = Running::dry(origin, budget, &*site, generation);
        if let Which::Generation(generation) = which {
            running.aim = Aim::Generation(generation);
        }
        let deadline = running.arm(Stage::Judge);
        let comparisons = Arc::clone(&self.comparisons);
        let looking = async move {
            loop {
                let (source, site, comparisons) =
                    (Arc::clone(&source), Arc::clone(&site), Arc::clone(&comparisons));
                let (current, which) = (Arc::clone(&current), which.clone());
                let place = running.reading.clone().place(Arc::clone(&places));
                let work = async {
                    let place = place.await?;
                    let look = move || judging::look(&*source, &*site, &comparisons, &current, &which);
                    Some(tokio::task::spawn_blocking(move || place.read(look)).await)
                };
                let looked = match tokio::time::timeout_at(deadline, work).await {
                    Ok(Some(looked)) => looked.unwrap_or_else(|panic| Err(judging::panicked(&panic))),
                    Ok(None) | Err(_) => {
                        running.give_up_reading();
                        return (running, None);
                    }
                };
                // As long as a reload would be tried: what is shown is what would be done.
                match looked {
                    Err(rejection) if rejection.may_pass() => {
                        running.judged(Err(rejection));
                        match running.next_reading() {
                            Some(delay) => tokio::time::sleep(delay).await,
                            None => return (running, None),
                        }
                    }
                    looked => return (running, Some(looked)),
                }
            }
        };
        let planned = looking.into_actor(self).map(move |looked, act, _| {
            let (mut running, looked) = looked;
            let loaded = looked.map(|looked| looked.map(|looked| act.plan(looked, running.aim)));
            let is_valid = loaded.as_ref().is_some_and(Result::is_ok);
            // One that was given up says so already.
            if let Some(loaded) = loaded {
                running.judged(loaded);
            }
            let is_durable = act.recorder.is_durable();
            Ok(Arc::new(running.planned(generation, is_durable, &*act.site, is_valid.then_some(&act.graph))))
        });
        Box::pin(planned)
    }
}

impl<C: Configuration> Handler<Pulse> for Coordinator<C> {
    type Result = ();

    fn handle(&mut self, _: Pulse, _: &mut Context<Self>) {}
}

impl<C: Configuration> Handler<Stop> for Coordinator<C> {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.halting.push(tell);
        self.on(Event::Stop, ctx);
        if self.halted {
            self.halting.clear();
            return Box::pin(std::future::ready(()));
        }
        Box::pin(async move {
            let _ = told.await;
        })
    }
}
