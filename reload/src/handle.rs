//! The coordinator's side of a component: how it is reached, told and replaced.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actix::{Addr, Handler};

use crate::component::{Ack, Reconfigurable, Reconfigure, Step, StepKind, Tenure};
use crate::link::Link;
use crate::{StepError, Transaction};

/// The answer that is on its way.
pub type Answer = Pin<Box<dyn Future<Output = Ack>>>;

/// Whether a component's section differs in two configurations.
pub type Comparison<C> = Box<dyn Fn(&C, &C) -> bool + Send + Sync>;

/// A component as the coordinator sees it; `C` is the whole configuration.
pub trait Component<C>: Send + 'static {
    /// Its name.
    fn name(&self) -> &'static str;

    /// The components that must be told before it.
    fn depends_on(&self) -> &'static [&'static str];

    /// Tells whether its section differs in two configurations. A value of its own, because comparing large sections is no
    /// work for the coordinator's thread.
    fn comparison(&self) -> Comparison<C>;

    /// Sends it a step. `next` is the configuration that a `Prepare` hands out its section of.
    fn step(&self, transaction: Transaction, step: StepKind, next: &C, by: Instant) -> Answer;

    /// Leaves it behind and starts a successor on its section of `current`, the last good one; where that does not run by
    /// half of the time until `by`, another one on a minimal section, which is an error all the same (R15). `None` if it
    /// cannot be replaced.
    fn replace(&self, transaction: Transaction, current: &C, by: Instant) -> Option<Answer>;
}

/// A [`Component`] that is an actor.
pub struct ActorComponent<A: Reconfigurable, C> {
    office: Office<A>,
    depends_on: &'static [&'static str],
    select: fn(&C) -> &Arc<A::Section>,
    successor: Option<Successor<A>>,
    minimal: Option<Minimal<A::Section>>,
    /// The actor in office was started on a minimal section, and no transaction has stood since: going back means to go
    /// back to that, which is not the last good one.
    is_minimal: Arc<AtomicBool>,
}

type Successor<A> = Arc<dyn Fn(Arc<<A as Reconfigurable>::Section>) -> Addr<A> + Send + Sync>;
type Minimal<S> = Box<dyn Fn(&S) -> S + Send>;

/// Who does the component's work: an actor, until it is left behind and a successor takes its place.
struct Office<A: Reconfigurable> {
    link: Link<A>,
    tenure: Arc<Mutex<Tenure>>,
}

// === impl Office ===

impl<A> Office<A>
where
    A: Reconfigurable + Handler<Reconfigure<A::Section>>,
    A::Context: actix::dev::ToEnvelope<A, Reconfigure<A::Section>>,
{
    fn tell(&self, transaction: Transaction, step: Step<A::Section>) -> Answer {
        let tenure = self.tenure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let request = self.link.addr().send(Reconfigure::under(tenure, transaction, step));
        Box::pin(async move { request.await.unwrap_or_else(|gone| Err(lost(&gone))) })
    }

    /// Leaves the actor in office behind.
    fn hand_over(&self, transaction: Transaction, successor: Addr<A>) {
        let old = {
            let mut tenure = self.tenure.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tenure)
        };
        old.revoke();
        // Should it come to life again, this is what it finds first.
        self.link.addr().do_send(Reconfigure::under(old, transaction, Step::Rollback));
        self.link.replace(successor);
    }

    /// Whether the successor answers and is well. Its books are new: the rollback closes the transaction in them.
    async fn is_well(&self, transaction: Transaction, by: Instant) -> Ack {
        let well = async {
            self.tell(transaction, Step::Rollback).await?;
            self.tell(Transaction::NONE, Step::Probe).await
        };
        let late = || Err(StepError::component("the successor does not answer"));
        tokio::time::timeout_at(by.into(), well).await.unwrap_or_else(|_| late())
    }
}

impl<A: Reconfigurable> Clone for Office<A> {
    fn clone(&self) -> Self {
        Self { link: self.link.clone(), tenure: Arc::clone(&self.tenure) }
    }
}

// === impl ActorComponent ===

impl<A, C> ActorComponent<A, C>
where
    A: Reconfigurable + Handler<Reconfigure<A::Section>>,
{
    /// The actor behind `link`, told after `depends_on`, with the section that `select` finds.
    pub fn new(
        link: Link<A>,
        depends_on: &'static [&'static str],
        select: fn(&C) -> &Arc<A::Section>,
    ) -> Self {
        let office = Office { link, tenure: Arc::default() };
        Self { office, depends_on, select, successor: None, minimal: None, is_minimal: Arc::default() }
    }

    /// How a successor is started, on an arbiter of its own. Without one, a component that is stuck means emergency.
    #[must_use]
    pub fn replaceable(mut self, start: impl Fn(Arc<A::Section>) -> Addr<A> + Send + Sync + 'static) -> Self {
        self.successor = Some(Arc::new(start));
        self
    }

    /// What is left of a section when it must run whatever happens: in emergency, where a successor cannot run on the last
    /// good one (R15).
    #[must_use]
    pub fn minimal(mut self, section: impl Fn(&A::Section) -> A::Section + Send + 'static) -> Self {
        self.minimal = Some(Box::new(section));
        self
    }
}

impl<A, C> Component<C> for ActorComponent<A, C>
where
    A: Reconfigurable + Handler<Reconfigure<A::Section>>,
    A::Context: actix::dev::ToEnvelope<A, Reconfigure<A::Section>>,
    C: 'static,
{
    fn name(&self) -> &'static str {
        A::NAME
    }

    fn depends_on(&self) -> &'static [&'static str] {
        self.depends_on
    }

    fn comparison(&self) -> Comparison<C> {
        let select = self.select;
        Box::new(move |current, next| {
            let (current, next) = (select(current), select(next));
            !Arc::ptr_eq(current, next) && current != next
        })
    }

    fn step(&self, transaction: Transaction, step: StepKind, next: &C, by: Instant) -> Answer {
        let step = match step {
            StepKind::Prepare => Step::Prepare(Arc::clone((self.select)(next)), by),
            StepKind::Commit => Step::Commit,
            StepKind::Probe => Step::Probe,
            StepKind::Finish => Step::Finish,
            StepKind::Rollback => Step::Rollback,
        };
        let kind = step.kind();
        let answer = self.office.tell(transaction, step);
        match kind {
            StepKind::Finish => self.is_minimal.store(false, Ordering::SeqCst),
            StepKind::Rollback if self.is_minimal.load(Ordering::SeqCst) => {
                return Box::pin(async move {
                    answer.await?;
                    Err(StepError::component("it runs on a minimal section, not on its last good one"))
                });
            }
            _ => {}
        }
        answer
    }

    fn replace(&self, transaction: Transaction, current: &C, by: Instant) -> Option<Answer> {
        let start = Arc::clone(self.successor.as_ref()?);
        let last_good = (self.select)(current);
        let minimal = self.minimal.as_ref().map(|minimal| Arc::new(minimal(last_good)));
        let (office, is_minimal) = (self.office.clone(), Arc::clone(&self.is_minimal));
        office.hand_over(transaction, start(Arc::clone(last_good)));
        is_minimal.store(false, Ordering::SeqCst);
        Some(Box::pin(async move {
            let now = tokio::time::Instant::now().into_std();
            let half = now + by.saturating_duration_since(now) / 2;
            let by_then = if minimal.is_some() { half } else { by };
            let (error, minimal) = match (office.is_well(transaction, by_then).await, minimal) {
                (Err(error), Some(minimal)) => (error, minimal),
                (ack, _) => return ack,
            };
            office.hand_over(transaction, start(minimal));
            is_minimal.store(true, Ordering::SeqCst);
            office.is_well(transaction, by).await?;
            let message = format!("{}; it runs on a minimal section instead", error.message);
            Err(StepError { message, ..error })
        }))
    }
}

fn lost(gone: &actix::MailboxError) -> StepError {
    StepError::component(format!("the component is gone: {gone}"))
}
