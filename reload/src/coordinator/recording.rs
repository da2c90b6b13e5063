//! What is told and kept of a transaction: its record while it runs, its outcome when it is over.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::oneshot;
use tokio::task::JoinError;

use super::Coordinator;
use super::running::Running;
use crate::events;
use crate::history::Recorder;
use crate::machine::{End, Event};
use crate::source::Configuration;
use crate::{Transaction, fault};

/// How long after a record could not be written it is tried again.
const RETRY_RECORD: Duration = Duration::from_secs(1);

/// A place in the line of those who write to the audit log, behind all that were given out before it: of two threads that wait for
/// one disk either may be let on first, and a transaction may be over before the line of the last one stands. Dropped, it lets the
/// next one on.
#[derive(Debug)]
pub(super) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    is_written: oneshot::Sender<()>,
}

// === impl Turn ===

impl Turn {
    /// Does the work that writes the line, when its turn has come.
    pub(super) async fn take<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let Self { before, is_written } = self;
        if let Some(before) = before {
            // It is dropped without a word, whatever became of the work.
            let _ = before.await;
        }
        let done = tokio::task::spawn_blocking(work).await;
        drop(is_written);
        done
    }
}

// === impl Coordinator ===

impl<C: Configuration> Coordinator<C> {
    /// Lets the recorder begin while the components prepare: the disk is the slowest of them all.
    pub(super) fn stage(&self) {
        let Some(running) = &self.running else { return };
        let Some(record) = running.record() else { return };
        if !running.plan.levels.is_empty() {
            let recorder = Arc::clone(&self.recorder);
            tokio::task::spawn_blocking(move || recorder.stage(&record));
        }
    }

    pub(super) fn record(&mut self, transaction: Transaction, ctx: &mut Context<Self>) {
        let Some(record) = self.running.as_ref().and_then(Running::record) else { return };
        // From here on its number is the current one: whoever confirms that has his line behind the one that tells of it.
        let turn = self.turn();
        let Some(running) = &mut self.running else { return };
        running.turn = Some(turn);
        fault::pass("coordinator::record");
        let confirm = self.confirmation.change(running.aim, running.confirm, self.generation);
        self.generation = record.generation;
        self.current.store(Arc::clone(&record.config));
        running.recording();
        let recorder = Arc::clone(&self.recorder);
        let work = tokio::task::spawn_blocking(move || {
            fault::pass("coordinator::write");
            recorder.record(&record, confirm)
        });
        running.confirm_change = confirm;
        ctx.spawn(work.into_actor(self).map(move |recorded, act, ctx| {
            fault::pass("coordinator::recorded");
            let recorded = recorded.unwrap_or_default();
            let durable = recorded.durable;
            if let Some(running) = act.running.as_mut().filter(|r| r.transaction == transaction) {
                running.recorded(recorded);
            }
            if !durable {
                act.retry(ctx);
            }
            act.on(Event::Recorded(transaction), ctx);
        }));
    }

    /// What could not be written is tried again until it can.
    pub(super) fn retry(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.retrying, true) {
            return;
        }
        ctx.run_later(RETRY_RECORD, |act, ctx| {
            let recorder = Arc::clone(&act.recorder);
            let work = tokio::task::spawn_blocking(move || recorder.retry());
            ctx.spawn(work.into_actor(act).map(|written, act, ctx| {
                act.retrying = false;
                if !written.unwrap_or(false) {
                    act.retry(ctx);
                }
            }));
        });
    }

    /// The next place in the line of those who write to the audit log.
    pub(super) fn turn(&mut self) -> Turn {
        let (is_written, next) = oneshot::channel();
        Turn { before: self.audited.replace(next), is_written }
    }

    /// Shows the outcome, then writes the audit line, then answers: in the contract's order of sight.
    pub(super) fn conclude(&mut self, end: End, ctx: &mut Context<Self>) {
        if let Some(deadline) = self.deadline.take() {
            ctx.cancel_future(deadline);
        }
        fault::pass("coordinator::conclude");
        let Some(mut running) = self.running.take() else { return };
        for handle in running.withdraw_at_end.drain(..) {
            ctx.cancel_future(handle);
        }
        if running.is_unwanted() && end == End::Unchanged {
            self.board.update(|board| board.running = None);
            events::emit(&*self.sink, &events::Event::Withdrawn);
            return;
        }
        if end == End::Unchanged
            && let Some(config) = running.candidate()
        {
            // The same values, perhaps in other words: the words are kept, so that the next comparison is a cheap one.
            self.current.store(config);
        }
        match end {
            End::Committed | End::Unchanged => self.degraded = None,
            // Everybody is whole again, also those who were broken before; why the program was degraded besides is not over.
            End::RolledBack => self.board.update(|board| board.degraded.clone_from(&self.degraded)),
            End::Rejected | End::Failed => {}
        }
        // Not before: whoever confirms is to find it written down.
        self.confirmation_changes(running.confirm_change, ctx);
        let is_confirmed = self.back_where_it_was(running.aim, end, ctx);
        let (is_durable, turn) = (self.recorder.is_durable(), running.turn.take());
        let (outcome, waiters) = running.outcome(end, self.generation, is_durable, &*self.site, &self.graph);
        let outcome = Arc::new(outcome);
        let broken: Vec<_> = self.machine.broken().iter().map(|index| self.graph.names()[index]).collect();
        self.board.finished(&outcome, &broken);
        events::emit(&*self.sink, &events::Event::Finished(&outcome));
        let recorder = Arc::clone(&self.recorder);
        let (audited, tidying) = (Arc::clone(&outcome), Arc::clone(&recorder));
        let turn = turn.unwrap_or_else(|| self.turn());
        let work = turn.take(move || {
            fault::pass("coordinator::audit");
            if is_confirmed {
                recorder.confirmed();
            }
            recorder.audit(&audited);
            recorder.is_written()
        });
        // The line stands before the answer comes, unless the disk does not come back: whoever asks has an answer all the same.
        let patience = self.current.load().budget();
        let writing = async move {
            let mut work = Box::pin(work);
            let written = tokio::time::timeout(patience, &mut work).await;
            (written, work)
        };
        ctx.spawn(writing.into_actor(self).map(move |(written, work), act, ctx| {
            fault::pass("coordinator::answer");
            for waiter in waiters {
                waiter.answer(Ok(Arc::clone(&outcome)));
            }
            match written {
                Ok(written) => act.line_is_written(written.unwrap_or(false), tidying, ctx),
                Err(_elapsed) => {
                    tracing::warn!(
                        id = outcome.id,
                        "the audit log cannot be written: the disk does not answer"
                    );
                    ctx.spawn(work.into_actor(act).map(|written, act, ctx| {
                        act.line_is_written(written.unwrap_or(false), tidying, ctx);
                    }));
                }
            }
        }));
    }

    /// The line of an outcome is written, or waits for room.
    fn line_is_written(&mut self, is_written: bool, recorder: Arc<dyn Recorder<C>>, ctx: &mut Context<Self>) {
        if !is_written {
            self.retry(ctx);
        }
        tokio::task::spawn_blocking(move || {
            fault::pass("coordinator::tidy");
            recorder.tidy();
        });
    }
}
