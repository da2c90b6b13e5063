//! An actor that can be reconfigured: the one message, the trait behind it, and the bookkeeping, written once.
//!
//! An actor implements [`Reconfigurable`] and forwards its [`Reconfigure`] message to [`reconfigure`]; fencing, repeats,
//! late answers, cancellation and panics are dealt with here.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use actix::{
    Actor, ActorContext, ActorFutureExt, Arbiter, AsyncContext, Context, Message, ResponseFuture, WrapFuture,
};
use futures::FutureExt;
use futures::future::{AbortHandle, abortable};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::fence::{Admit, Fence};
use crate::{StepError, Transaction, fault};

/// What a component answers to a step.
pub type Ack = Result<(), StepError>;

/// The part of a step that takes time. It does not borrow the actor: what it needs is taken before, what it brings is
/// handed to the next step.
pub type StepFuture<T> = Pin<Box<dyn Future<Output = Result<T, StepError>>>>;

/// A step that is done when it is called.
pub fn done<T: 'static>(result: Result<T, StepError>) -> StepFuture<T> {
    Box::pin(std::future::ready(result))
}

/// The steps by name, in the order of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Acquire whatever can fail; the running state stays as it is.
    Prepare,
    /// Swap what was prepared in.
    Commit,
    /// Is the component healthy under this generation?
    Probe,
    /// The transaction stands: do what cannot be undone (close what the new configuration forbids), let go of what only
    /// a rollback would have needed.
    Finish,
    /// Be as before.
    Rollback,
}

impl StepKind {
    /// The name in logs, metrics and fault points.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Commit => "commit",
            Self::Probe => "probe",
            Self::Finish => "finish",
            Self::Rollback => "rollback",
        }
    }
}

/// A step with what it needs.
#[derive(Debug)]
pub enum Step<S> {
    /// See [`StepKind::Prepare`]; to be answered before the instant.
    Prepare(Arc<S>, Instant),
    /// See [`StepKind::Commit`].
    Commit,
    /// See [`StepKind::Probe`].
    Probe,
    /// See [`StepKind::Finish`].
    Finish,
    /// See [`StepKind::Rollback`].
    Rollback,
}

impl<S> Step<S> {
    /// Which step it is.
    #[must_use]
    pub const fn kind(&self) -> StepKind {
        match self {
            Self::Prepare(..) => StepKind::Prepare,
            Self::Commit => StepKind::Commit,
            Self::Probe => StepKind::Probe,
            Self::Finish => StepKind::Finish,
            Self::Rollback => StepKind::Rollback,
        }
    }
}

/// The reconfigure message (C3): one step of one transaction.
#[derive(Debug, Message)]
#[rtype(result = "Ack")]
pub struct Reconfigure<S: Send + Sync + 'static> {
    transaction: Transaction,
    step: Step<S>,
    tenure: Tenure,
}

/// Whether the actor that a message is for is still in office. One that was given up on (its thread is stuck, or it could not
/// go back) has a successor; should it come to life again, it must not touch what they share.
#[derive(Clone, Debug, Default)]
pub struct Tenure(Arc<AtomicBool>);

// === impl Tenure ===

impl Tenure {
    /// Ends it, for good.
    pub fn revoke(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn ended(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

// === impl Reconfigure ===

impl<S: Send + Sync + 'static> Reconfigure<S> {
    /// One step of one transaction; steps of a transaction that is over are refused.
    pub fn new(transaction: Transaction, step: Step<S>) -> Self {
        Self::under(Tenure::default(), transaction, step)
    }

    /// Asks whether the component is healthy, outside of any transaction (R23, O1).
    #[must_use]
    pub fn health() -> Self {
        Self::new(Transaction::NONE, Step::Probe)
    }

    /// The same for an actor whose term can be ended.
    pub(crate) fn under(tenure: Tenure, transaction: Transaction, step: Step<S>) -> Self {
        Self { transaction, step, tenure }
    }
}

/// Where the glue keeps its books inside the actor: the [`Fence`] and the step that is under way, as long as a rollback would
/// cancel it.
#[derive(Debug)]
pub struct Books<S, P> {
    fence: Fence<S, P>,
    /// The step of a transaction that began last, while it is under way.
    running: Option<UnderWay>,
    /// How many were begun: a step that ends late must not be taken for the one that runs.
    begun: u64,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    /// Not actix's own handle: a future that was cancelled by that is polled once more before it is dropped, and may do in
    /// that poll what nobody undoes any more.
    abort: AbortHandle,
}

impl<S, P> Books<S, P> {
    /// The books of an actor that starts with `section`.
    pub fn new(section: Arc<S>) -> Self {
        Self { fence: Fence::new(section), running: None, begun: 0 }
    }

    /// The section that the component runs.
    pub fn section(&self) -> &Arc<S> {
        self.fence.section()
    }
}

/// An actor that can be reconfigured (R8). The methods are called in the order of [`StepKind`], on the actor's own thread;
/// a panic in any of them, or in what they return, is an error of that step.
pub trait Reconfigurable: Actor<Context = Context<Self>> {
    /// The component's name in plans, outcomes and metrics.
    const NAME: &'static str;
    /// The values that the component is configured by.
    type Section: PartialEq + Send + Sync + 'static;
    /// What a preparation acquires. Dropping it is how it is given back.
    type Prepared: 'static;

    /// The books that [`reconfigure`] keeps.
    fn books(&mut self) -> &mut Books<Self::Section, Self::Prepared>;

    /// Acquires whatever can fail (sockets, files, keys). What runs is not touched.
    fn prepare(&mut self, next: &Arc<Self::Section>, by: Instant) -> StepFuture<Self::Prepared>;

    /// Swaps what was prepared in. The section before must stay restorable until [`Reconfigurable::finish`].
    fn commit(
        &mut self,
        prepared: Self::Prepared,
        next: &Arc<Self::Section>,
        ctx: &mut Self::Context,
    ) -> StepFuture<()>;

    /// Restores *and re-applies* `before`, after a commit or after a part of one.
    fn restore(&mut self, before: &Arc<Self::Section>, ctx: &mut Self::Context) -> StepFuture<()>;

    /// Whether the component is healthy now (R23).
    fn probe(&mut self) -> StepFuture<()> {
        done(Ok(()))
    }

    /// The transaction stands: what cannot be undone is done here.
    fn finish(&mut self, ctx: &mut Self::Context) -> StepFuture<()> {
        let _ = ctx;
        done(Ok(()))
    }
}

/// Handles a [`Reconfigure`] message: the body of every component's `Handler`.
pub fn reconfigure<A: Reconfigurable>(
    actor: &mut A,
    message: Reconfigure<A::Section>,
    ctx: &mut A::Context,
) -> ResponseFuture<Ack> {
    let Reconfigure { transaction, step, tenure } = message;
    let kind = step.kind();
    let (answer, answered) = oneshot::channel();
    if tenure.ended() {
        retire(ctx);
        return Box::pin(std::future::ready(Err(StepError::component("a successor is in office"))));
    }
    let admitted = match step {
        Step::Probe if transaction == Transaction::NONE => {
            Ok(Some(step_of(A::NAME, kind, &tenure, || actor.probe())))
        }
        Step::Prepare(next, by) => admit_prepare(actor, transaction, &tenure, next, by),
        Step::Commit => admit_commit(actor, transaction, &tenure, ctx),
        Step::Probe => actor
            .books()
            .fence
            .after_commit(transaction)
            .map(|()| Some(step_of(A::NAME, kind, &tenure, || actor.probe()))),
        Step::Finish => actor
            .books()
            .fence
            .after_commit(transaction)
            .map(|()| Some(step_of(A::NAME, kind, &tenure, || actor.finish(ctx)))),
        Step::Rollback => Ok(admit_rollback(actor, transaction, &tenure, ctx)),
    };
    match admitted {
        Err(refusal) => {
            let _ = answer.send(Err(refusal));
        }
        Ok(None) => {
            let _ = answer.send(Ok(()));
        }
        Ok(Some(work)) => {
            // A finish stands whatever becomes of the next transaction, and may last into it: it is not what a rollback cancels.
            let cancellable = transaction != Transaction::NONE && kind != StepKind::Finish;
            let books = actor.books();
            books.begun += 1;
            let number = books.begun;
            let (work, abort) = abortable(work);
            let finished = work.into_actor(actor).map(move |outcome, actor: &mut A, _| {
                // Cancelled: a rollback has the books.
                let Ok(outcome) = outcome else { return };
                let books = actor.books();
                books.running.take_if(|running| running.number == number);
                let ack = match outcome {
                    Done::Prepared(result) => books.fence.prepared(transaction, result),
                    Done::Plain(result) => match kind {
                        StepKind::Commit => books.fence.committed(transaction, result),
                        StepKind::Rollback => books.fence.restored(transaction, result),
                        StepKind::Prepare | StepKind::Probe | StepKind::Finish => result,
                    },
                };
                // Nobody waits any more if the coordinator gave up; the fence has kept the books either way.
                let _ = answer.send(ack);
            });
            ctx.spawn(finished);
            if cancellable {
                // One at a time: a step that is repeated while it is under way takes its own place.
                cancel(actor);
                actor.books().running = Some(UnderWay { number, abort });
            }
        }
    }
    Box::pin(async move {
        answered
            .await
            .unwrap_or_else(|_| Err(StepError::component(format!("{} was cancelled", kind.as_str()))))
    })
}

enum Done<P> {
    Prepared(Result<P, StepError>),
    Plain(Ack),
}

type Work<P> = Pin<Box<dyn Future<Output = Done<P>>>>;

fn admit_prepare<A: Reconfigurable>(
    actor: &mut A,
    transaction: Transaction,
    tenure: &Tenure,
    next: Arc<A::Section>,
    by: Instant,
) -> Result<Option<Work<A::Prepared>>, StepError> {
    match actor.books().fence.prepare(transaction, Arc::clone(&next))? {
        Admit::Done => Ok(None),
        Admit::Run(()) => {
            let work = guarded(A::NAME, StepKind::Prepare, tenure, || actor.prepare(&next, by));
            Ok(Some(Box::pin(work.map(Done::Prepared))))
        }
    }
}

fn admit_commit<A: Reconfigurable>(
    actor: &mut A,
    transaction: Transaction,
    tenure: &Tenure,
    ctx: &mut A::Context,
) -> Result<Option<Work<A::Prepared>>, StepError> {
    match actor.books().fence.commit(transaction)? {
        Admit::Done => Ok(None),
        Admit::Run((prepared, next)) => {
            Ok(Some(step_of(A::NAME, StepKind::Commit, tenure, || actor.commit(prepared, &next, ctx))))
        }
    }
}

fn admit_rollback<A: Reconfigurable>(
    actor: &mut A,
    transaction: Transaction,
    tenure: &Tenure,
    ctx: &mut A::Context,
) -> Option<Work<A::Prepared>> {
    if actor.books().fence.is_past(transaction) {
        return None;
    }
    let admitted = actor.books().fence.rollback(transaction);
    cancel(actor);
    match admitted {
        Admit::Done => None,
        Admit::Run(before) => {
            Some(step_of(A::NAME, StepKind::Rollback, tenure, || actor.restore(&before, ctx)))
        }
    }
}

/// A successor is in office: this actor and its thread are not needed any more. Every component has an arbiter of its own.
fn retire<A: Reconfigurable>(ctx: &mut Context<A>) {
    // Not `terminate`: in actix 0.13 that spins for ever if something was cancelled and has not been dropped yet.
    ctx.stop();
    if let Some(arbiter) = Arbiter::try_current() {
        arbiter.stop();
    }
}

/// Drops the step that is under way, and with it what it has acquired so far.
fn cancel<A: Reconfigurable>(actor: &mut A) {
    if let Some(running) = actor.books().running.take() {
        running.abort.abort();
    }
}

fn step_of<P: 'static>(
    name: &'static str,
    kind: StepKind,
    tenure: &Tenure,
    call: impl FnOnce() -> StepFuture<()>,
) -> Work<P> {
    Box::pin(guarded(name, kind, tenure, call).map(Done::Plain))
}

/// Runs one step of the component with its fault point; a panic becomes an error.
fn guarded<T: 'static>(
    name: &'static str,
    kind: StepKind,
    tenure: &Tenure,
    call: impl FnOnce() -> StepFuture<T>,
) -> StepFuture<T> {
    let started = catch_unwind(AssertUnwindSafe(|| {
        let fault = fault::component(name, kind)?;
        if tenure.ended() {
            return Err(StepError::component("a successor is in office"));
        }
        let work = call();
        Ok::<_, StepError>((fault, work))
    }));
    match started {
        Err(panic) => done(Err(panicked(kind, panic.as_ref()))),
        Ok(Err(error)) => done(Err(error)),
        Ok(Ok((fault, work))) => Box::pin(async move {
            let whole = async move {
                let result = work.await;
                fault.pass().await?;
                result
            };
            match AssertUnwindSafe(whole).catch_unwind().await {
                Ok(result) => result,
                Err(panic) => Err(panicked(kind, panic.as_ref())),
            }
        }),
    }
}

fn panicked(kind: StepKind, panic: &(dyn Any + Send)) -> StepError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    StepError::component(format!("panicked in {}: {text}", kind.as_str()))
}

#[cfg(test)]
mod tests;
