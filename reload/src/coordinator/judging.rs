//! Reading and judging what is to run, and the plan that comes of it: one way for a reload and for a look at one, so that what
//! is shown is what is done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::running::{Loaded, Running};
use super::{Coordinator, Waiter};
use crate::graph::Set;
use crate::handle::Comparison;
use crate::machine::{Event, Verdict};
use crate::plan::{Change, Closing, Plan};
use crate::source::{Candidate, Configuration, Rejection, Site, Source, Which};
use crate::trigger::{Aim, Refusal};
use crate::{Class, Problem, Transaction, fault};

/// What looking at a configuration brought, from the blocking pool.
pub(super) struct Looked<C> {
    candidate: Candidate<C>,
    changes: Vec<Change>,
    would_close: Vec<Closing>,
    /// Whose section differs.
    affected: Set,
    /// When reading and judging were done.
    judged: Instant,
}

impl<C: Configuration> Coordinator<C> {
    /// Takes those whose turn it is into the transaction, and sends the configuration to be read and judged.
    pub(super) fn judge(&mut self, transaction: Transaction, ctx: &mut Context<Self>) -> Option<Event> {
        let current = self.current.load_full();
        let (aim, waiters) = self.next_in_line();
        let running = Running::new(transaction, aim, waiters, current.budget(), &*self.site, self.generation);
        let silent = running.is_unwanted();
        self.running = Some(running);
        if !self.waiting.is_empty() {
            // Those with another aim: one more transaction is theirs.
            self.machine.on(Event::Trigger);
        }
        if silent {
            // Everybody who asked wanted another generation to be current, or nobody asked: nothing is done.
            return Some(Event::Judged(transaction, Verdict::Unchanged));
        }
        self.load(transaction, ctx);
        None
    }

    /// The files or the disk could not be read; a little later they may be (R15).
    pub(super) fn judge_again(&mut self, transaction: Transaction, ctx: &mut Context<Self>) -> Option<Event> {
        let Some(delay) = self.running.as_mut()?.next_reading() else {
            return Some(Event::Judged(transaction, Verdict::Rejected));
        };
        ctx.run_later(delay, move |act, ctx| {
            if act.machine.awaits_judgement(transaction) {
                act.load(transaction, ctx);
            }
        });
        None
    }

    /// Those who wait and want the same as the first; whoever expects another generation is sent away.
    fn next_in_line(&mut self) -> (Aim, Vec<Waiter>) {
        let current = self.generation;
        let mut line = Vec::new();
        for waiter in std::mem::take(&mut self.waiting) {
            match waiter.expect {
                Some(expected) if expected != current => {
                    waiter.answer(Err(Refusal::Mismatch { expected, current }));
                }
                // Somebody has gone back by hand meanwhile, and may have changed the files since.
                _ if waiter.reply.is_none() && !self.confirmation.goes_back_to(waiter.aim) => {}
                _ => line.push(waiter),
            }
        }
        let aim = line.first().map_or(Aim::Files, |waiter| waiter.aim);
        let (now, later) = line.into_iter().partition(|waiter| waiter.aim == aim);
        self.waiting = later;
        (aim, now)
    }

    fn load(&mut self, transaction: Transaction, ctx: &mut Context<Self>) {
        let Some(running) = &self.running else { return };
        let aim = running.aim;
        let which = match aim {
            Aim::Files => Which::Own,
            Aim::Generation(generation) => Which::Generation(generation),
        };
        let (source, site) = (Arc::clone(&self.source), Arc::clone(&self.site));
        let comparisons = Arc::clone(&self.comparisons);
        let current = self.current.load_full();
        let place = running.reading.clone().place(Arc::clone(&self.readers));
        let work = async move {
            let place = place.await?;
            let work = tokio::task::spawn_blocking(move || {
                place.read(|| {
                    fault::pass("coordinator::judge");
                    look(&*source, &*site, &comparisons, &current, &which)
                })
            });
            Some(work.await)
        };
        ctx.spawn(work.into_actor(self).map(move |looked, act, ctx| {
            // One that was given up before it had a place has nobody who waits for it.
            let Some(looked) = looked else { return };
            match looked.unwrap_or_else(|panic| Err(panicked(&panic))) {
                Ok(looked)
                    if aim != Aim::Files && looked.changes.is_empty() && act.machine.broken().is_empty() =>
                {
                    act.restore(transaction, aim, looked, ctx);
                }
                looked => {
                    let loaded = looked.map(|looked| act.plan(looked, aim));
                    act.judged(transaction, loaded, ctx);
                }
            }
        }));
    }

    /// The generation that is wanted runs already; the files may say something else all the same. A reading that came too late
    /// does not get here: whatever was written to the files since its transaction ended stays.
    fn restore(
        &mut self,
        transaction: Transaction,
        aim: Aim,
        mut looked: Looked<C>,
        ctx: &mut Context<Self>,
    ) {
        if !self.machine.awaits_judgement(transaction) {
            return;
        }
        let (recorder, generation) = (Arc::clone(&self.recorder), self.generation);
        let config = Arc::clone(&looked.candidate.config);
        let work = tokio::task::spawn_blocking(move || recorder.restore(&config, generation));
        ctx.spawn(work.into_actor(self).map(move |warnings, act, ctx| {
            looked.candidate.warnings.extend(warnings.unwrap_or_default());
            let loaded = Ok(act.plan(looked, aim));
            act.judged(transaction, loaded, ctx);
        }));
    }

    /// The plan: what changed, whom it concerns, and in which order they are told (invariant 3: nobody else is).
    pub(super) fn plan(&self, looked: Looked<C>, aim: Aim) -> (Candidate<C>, Plan, Duration) {
        let Looked { mut candidate, changes, would_close, affected, judged } = looked;
        candidate.warnings.extend(self.confirmation.warning(aim));
        let plan = Plan::new(&self.graph, changes, affected, self.machine.broken(), would_close);
        (candidate, plan, judged.elapsed())
    }

    fn judged(&mut self, transaction: Transaction, loaded: Loaded<C>, ctx: &mut Context<Self>) {
        fault::pass("coordinator::judged");
        let verdict = verdict(&loaded);
        // One that took too long is over, and what it brings is for nobody.
        match &mut self.running {
            Some(running) if running.transaction == transaction => running.judged(loaded),
            _ => return,
        }
        self.on(Event::Judged(transaction, verdict), ctx);
        // After the first steps are on their way: they need not wait for it.
        if self.running.as_ref().is_some_and(|running| running.transaction == transaction) {
            self.stage();
        }
    }
}

/// Loads a configuration and compares it with the one that runs. Blocks.
pub(super) fn look<C: Configuration>(
    source: &dyn Source<C>,
    site: &dyn Site<C>,
    comparisons: &[Comparison<C>],
    current: &Arc<C>,
    which: &Which,
) -> Result<Looked<C>, Rejection> {
    let candidate = source.load(current, which)?;
    let judged = Instant::now();
    let changes = current.changes(&candidate.config);
    let would_close = site.would_close(current, &candidate.config);
    let differs = |index: &usize| comparisons[*index](current, &candidate.config);
    let affected = (0..comparisons.len()).filter(differs).collect();
    Ok(Looked { candidate, changes, would_close, affected, judged })
}

/// A reader that panicked has judged nothing.
pub(super) fn panicked(panic: &tokio::task::JoinError) -> Rejection {
    let problem = Problem::new(Class::Component, format!("reading the configuration panicked: {panic}"))
        .hint("this is a bug; the running configuration was not touched");
    Rejection { problems: vec![problem], ..Rejection::default() }
}

fn verdict<C>(loaded: &Loaded<C>) -> Verdict {
    match loaded {
        Err(rejection) if rejection.may_pass() => Verdict::Unavailable,
        Err(_) => Verdict::Rejected,
        Ok((_, plan, _)) if plan.is_empty() => Verdict::Unchanged,
        Ok((_, plan, _)) => Verdict::Accepted(plan.levels.clone()),
    }
}
