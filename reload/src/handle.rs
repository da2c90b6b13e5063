//! The coordinator's side of a component: how it is reached, told and replaced.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actix::{Addr, Handler};

use crate::component::{Ack, Reconfigurable, Reconfigure, Step, StepKind, Tenure};
use crate::link::Link;
use crate::{StepError, Transaction};

/// The answer that is on its way.
pub type Answer = Pin<Box<dyn Future<Output = Ack>>>;

/// A component as the coordinator sees it; `C` is the whole configuration.
pub trait Component<C>: Send + 'static {
    /// Its name.
    fn name(&self) -> &'static str;

    /// The components that must be told before it.
    fn depends_on(&self) -> &'static [&'static str];

    /// Whether its section differs.
    fn affected(&self, current: &C, next: &C) -> bool;

    /// Sends it a step. `next` is the configuration that a `Prepare` hands out its section of.
    fn step(&self, transaction: Transaction, step: StepKind, next: &C, by: Instant) -> Answer;

    /// Leaves it behind and starts a successor on its section of `current`. `None` if it cannot be replaced.
    fn replace(&self, transaction: Transaction, current: &C) -> Option<Answer>;
}

/// A [`Component`] that is an actor.
pub struct ActorComponent<A: Reconfigurable, C> {
    link: Link<A>,
    depends_on: &'static [&'static str],
    select: fn(&C) -> &Arc<A::Section>,
    successor: Option<Successor<A>>,
    tenure: Mutex<Tenure>,
}

type Successor<A> = Box<dyn Fn(Arc<<A as Reconfigurable>::Section>) -> Addr<A> + Send>;

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
        Self { link, depends_on, select, successor: None, tenure: Mutex::default() }
    }

    /// How a successor is started, on an arbiter of its own. Without one, a component that is stuck means emergency.
    #[must_use]
    pub fn replaceable(mut self, start: impl Fn(Arc<A::Section>) -> Addr<A> + Send + 'static) -> Self {
        self.successor = Some(Box::new(start));
        self
    }

    fn tenure(&self) -> Tenure {
        self.tenure.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    fn affected(&self, current: &C, next: &C) -> bool {
        let (current, next) = ((self.select)(current), (self.select)(next));
        !Arc::ptr_eq(current, next) && current != next
    }

    fn step(&self, transaction: Transaction, step: StepKind, next: &C, by: Instant) -> Answer {
        let step = match step {
            StepKind::Prepare => Step::Prepare(Arc::clone((self.select)(next)), by),
            StepKind::Commit => Step::Commit,
            StepKind::Probe => Step::Probe,
            StepKind::Finish => Step::Finish,
            StepKind::Rollback => Step::Rollback,
        };
        let request = self.link.addr().send(Reconfigure::under(self.tenure(), transaction, step));
        Box::pin(async move { request.await.unwrap_or_else(|gone| Err(lost(&gone))) })
    }

    fn replace(&self, transaction: Transaction, current: &C) -> Option<Answer> {
        let start = self.successor.as_ref()?;
        let old = {
            let mut tenure = self.tenure.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tenure)
        };
        old.revoke();
        // Should it come to life again, this is what it finds first.
        self.link.addr().do_send(Reconfigure::under(old, transaction, Step::Rollback));
        self.link.replace(start(Arc::clone((self.select)(current))));
        // Its own books are new: this closes the transaction in them, and shows that it answers.
        let request = self.link.addr().send(Reconfigure::under(self.tenure(), transaction, Step::Rollback));
        Some(Box::pin(async move { request.await.unwrap_or_else(|gone| Err(lost(&gone))) }))
    }
}

fn lost(gone: &actix::MailboxError) -> StepError {
    StepError::component(format!("the component is gone: {gone}"))
}
