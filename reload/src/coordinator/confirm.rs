//! A generation that goes back by itself unless somebody confirms it.
//!
//! What is awaited is on disk before the generation is, and counted on at the next start: neither a node that lost its network
//! nor one that was killed stays on a configuration that nobody could reach it any more to confirm.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseActFuture, SpawnHandle, WrapFuture};
use tokio::time::Instant;

use super::backoff::backoff;
use super::{Answered, Coordinator, Waiter};
use crate::events;
use crate::history::{ConfirmChange, Unconfirmed};
use crate::machine::{End, Event};
use crate::outcome::{Kind, Outcome};
use crate::source::Configuration;
use crate::trigger::{Aim, Confirm, Origin, Refusal, Trigger};
use crate::{Class, Generation, Problem, fault};

/// How long after a way back that failed it is tried again; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest that it waits.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What is awaited, and what has become of it.
#[derive(Debug, Default)]
pub(super) struct Confirmation {
    awaited: Option<Unconfirmed>,
    timer: Option<SpawnHandle>,
    /// When that rings.
    due: Option<Instant>,
    /// The time is over: the way back is asked for, until it is gone.
    expired: bool,
    /// How often the way back failed.
    failures: u32,
}

// === impl Confirmation ===

impl Confirmation {
    pub(super) fn new(awaited: Option<Unconfirmed>) -> Self {
        Self { awaited, ..Self::default() }
    }

    /// Whether the time is over for what goes back to where this aims.
    pub(super) fn goes_back_to(&self, aim: Aim) -> bool {
        self.expired && self.awaited.is_some_and(|awaited| aim == Aim::Generation(awaited.target))
    }

    /// What a reload that aims there leaves as it is, in words for whoever asks for it: it goes back with the rest.
    pub(super) fn warning(&self, aim: Aim) -> Option<Problem> {
        let target =
            self.awaited.map(|awaited| awaited.target).filter(|target| aim != Aim::Generation(*target))?;
        let seconds = self.due.map_or(0, |due| due.saturating_duration_since(Instant::now()).as_secs());
        let message = match (self.expired, self.failures) {
            (false, _) => format!(
                "generation {target} comes back by itself in {seconds} s unless what runs is confirmed; a reload changes neither the time nor the generation"
            ),
            (true, 0) => {
                format!("what runs was not confirmed in time: generation {target} is about to come back")
            }
            (true, 1) => format!(
                "what runs was not confirmed in time, and generation {target} could not come back: it is tried again in {seconds} s"
            ),
            (true, failures) => format!(
                "what runs was not confirmed in time, and generation {target} could not come back in {failures} tries: the next is in {seconds} s"
            ),
        };
        let hint =
            "confirm, and what runs then stays: what is reloaded now goes back with the rest otherwise";
        Some(Problem::new(Class::System, message).hint(hint))
    }

    /// What a commit changes: a reload while one is pending keeps deadline and target, and whoever goes back to the target by
    /// hand has nothing left to confirm.
    pub(super) fn change(&self, aim: Aim, confirm: Option<Duration>, from: Generation) -> ConfirmChange {
        match (self.awaited, confirm) {
            (Some(awaited), _) if aim == Aim::Generation(awaited.target) => ConfirmChange::End,
            (None, Some(within)) => ConfirmChange::Begin(Unconfirmed::begin(from, within)),
            _ => ConfirmChange::Keep,
        }
    }
}

impl<C: Configuration> Coordinator<C> {
    /// Takes note of what a commit changes.
    pub(super) fn confirmation_changes(&mut self, change: ConfirmChange, ctx: &mut Context<Self>) {
        match change {
            ConfirmChange::Keep => {}
            ConfirmChange::Begin(awaited) => {
                self.confirmation = Confirmation::new(Some(awaited));
                self.await_confirmation(ctx);
            }
            ConfirmChange::End => self.end_confirmation(ctx),
        }
    }

    /// Counts what is left of the time. On the monotonic clock: that the wall clock is set meanwhile changes nothing.
    pub(super) fn await_confirmation(&mut self, ctx: &mut Context<Self>) {
        let Some(awaited) = self.confirmation.awaited else { return };
        self.board.update(|board| board.unconfirmed = Some(awaited));
        let left = awaited.left();
        let (generation, target) = (self.generation, awaited.target);
        events::emit(&*self.sink, &events::Event::AwaitsConfirmation { generation, target, left });
        self.confirmation.due = Some(Instant::now() + left);
        self.confirmation.timer = Some(ctx.run_later(left, |act, ctx| {
            act.confirmation.expired = true;
            act.go_back(ctx);
        }));
    }

    /// Asks for the generation before, as anybody else would.
    fn go_back(&mut self, ctx: &mut Context<Self>) {
        let Some(awaited) = self.confirmation.awaited.filter(|_| !self.machine.stopping()) else { return };
        let note = match self.confirmation.failures {
            0 => "not confirmed in time".to_owned(),
            failures => format!("not confirmed in time, try {}", failures.saturating_add(1)),
        };
        let origin = Origin { trigger: Trigger::Rollback, actor: None, note: Some(note) };
        let aim = Aim::Generation(awaited.target);
        // Nobody waits for the answer; `back_where_it_was` sees how it ended.
        self.waiting.push(Waiter { origin, expect: None, aim, confirm: None, reply: None });
        self.on(Event::Trigger, ctx);
    }

    /// Whether the way back is under way, or next. Between two tries that failed it is not: what runs may still be confirmed.
    fn goes_back(&self) -> bool {
        let runs = self.running.as_ref().is_some_and(|running| self.confirmation.goes_back_to(running.aim));
        runs || self.waiting.iter().any(|waiter| waiter.reply.is_none())
    }

    /// A transaction ended. Returns whether this leaves nothing to confirm that is still on disk.
    pub(super) fn back_where_it_was(&mut self, aim: Aim, end: End, ctx: &mut Context<Self>) -> bool {
        let Some(awaited) = self.confirmation.awaited.filter(|a| aim == Aim::Generation(a.target)) else {
            return false;
        };
        if end == End::Unchanged {
            self.end_confirmation(ctx);
            return true;
        }
        if self.confirmation.expired {
            self.confirmation.failures = self.confirmation.failures.saturating_add(1);
            let delay = backoff(FIRST_RETRY, LAST_RETRY, self.confirmation.failures);
            tracing::error!(
                target_generation = awaited.target.get(),
                tries = self.confirmation.failures,
                retry_in_s = delay.as_secs(),
                "an unconfirmed generation could not be left"
            );
            self.confirmation.due = Some(Instant::now() + delay);
            self.confirmation.timer = Some(ctx.run_later(delay, Self::go_back));
        }
        false
    }

    fn end_confirmation(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = std::mem::take(&mut self.confirmation).timer {
            ctx.cancel_future(timer);
        }
        self.board.update(|board| board.unconfirmed = None);
    }
}

impl<C: Configuration> Handler<Confirm> for Coordinator<C> {
    type Result = ResponseActFuture<Self, Answered>;

    fn handle(&mut self, Confirm { origin, expect }: Confirm, ctx: &mut Context<Self>) -> Self::Result {
        let current = self.generation;
        let refusal = match expect {
            _ if self.machine.stopping() => Some(Refusal::Stopping),
            Some(expected) if expected != current => Some(Refusal::Mismatch { expected, current }),
            _ if self.confirmation.awaited.is_none() || self.goes_back() => Some(Refusal::NothingToConfirm),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return Box::pin(actix::fut::ready(Err(refusal)));
        }
        self.end_confirmation(ctx);
        events::emit(&*self.sink, &events::Event::Confirmed { generation: current });
        let mut outcome = Outcome::bare(Kind::Unchanged, current, current, origin);
        outcome.message = format!("Generation {current} confirmed");
        let recorder = Arc::clone(&self.recorder);
        let work = self.turn().take(move || {
            fault::pass("coordinator::confirm");
            // A record that is still being written is before this in the recorder's line.
            // What is confirmed may wait for room itself.
            outcome.durable = recorder.confirmed() && recorder.is_durable();
            recorder.audit(&outcome);
            (outcome, recorder.is_written())
        });
        Box::pin(work.into_actor(self).map(|work, act, ctx| {
            // Killed before it is on disk, the node would leave a generation that somebody has confirmed.
            if !matches!(work, Ok((_, true))) {
                act.retry(ctx);
            }
            work.map(|(outcome, _)| Arc::new(outcome)).map_err(|_| Refusal::Stopping)
        }))
    }
}
