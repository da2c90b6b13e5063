//! What the coordinator is asked: a reload, a look at one, a stop.

use std::sync::Arc;

use actix::{Context, Handler, ResponseFuture};
use tokio::sync::oneshot;

use super::running::{self, Running};
use super::{Answered, Coordinator, Waiter};
use crate::machine::Event;
use crate::plan::Plan;
use crate::source::Configuration;
use crate::trigger::{DryRun, Refusal, Reload, Stop};

/// How many requests may wait for the next reload. Each is a caller with an open connection; more are told to come back.
const MAX_WAITING: usize = 1024;

impl<C: Configuration> Handler<Reload> for Coordinator<C> {
    type Result = ResponseFuture<Answered>;

    fn handle(&mut self, Reload { origin, expect }: Reload, ctx: &mut Context<Self>) -> Self::Result {
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
        self.waiting.push(Waiter { origin, expect, reply });
        self.on(Event::Trigger, ctx);
        Box::pin(async move { answer.await.unwrap_or(Err(Refusal::Stopping)) })
    }
}

impl<C: Configuration> Handler<DryRun> for Coordinator<C> {
    type Result = ResponseFuture<Answered>;

    fn handle(&mut self, DryRun { origin, which }: DryRun, _: &mut Context<Self>) -> Self::Result {
        let (source, site, graph) = (Arc::clone(&self.source), Arc::clone(&self.site), self.graph.clone());
        let (current, generation, forced) =
            (self.current.load_full(), self.generation, self.machine.broken());
        let budget = current.budget();
        let turn = Arc::clone(&self.dry_runs);
        Box::pin(async move {
            let Ok(_turn) = turn.acquire_owned().await else { return Err(Refusal::Stopping) };
            let mut running = Running::dry(origin, budget, &*site, generation);
            let looked = {
                let (site, current) = (Arc::clone(&site), Arc::clone(&current));
                tokio::task::spawn_blocking(move || {
                    source.load(&current, &which).map(|candidate| {
                        let started = std::time::Instant::now();
                        let changes = current.changes(&candidate.config);
                        // A plan names the components by the keys that changed; only a transaction compares sections.
                        let affected = changes.iter().flat_map(|c| &c.components);
                        let affected = affected.filter_map(|name| graph.index(name)).collect();
                        let would_close = site.would_close(&current, &candidate.config);
                        let plan = Plan::new(&graph, changes, affected, forced, would_close);
                        (candidate, plan, started.elapsed(), graph)
                    })
                })
                .await
            };
            let graph = match looked {
                Ok(Ok((candidate, plan, elapsed, graph))) => {
                    running.judged(Ok((candidate, plan, elapsed)));
                    Some(graph)
                }
                Ok(Err(rejection)) => {
                    running.judged(Err(rejection));
                    None
                }
                Err(panic) => {
                    running.judged(Err(running::judge_panicked(&panic)));
                    None
                }
            };
            Ok(Arc::new(running.planned(generation, &*site, graph.as_ref())))
        })
    }
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
