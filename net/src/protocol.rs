//! The protocol actor: puts the protocol's section into force.
//!
//! It holds nothing that its replacement would lose: settings, outboxes, inbox and subscriptions are in the [`Post`], listeners and
//! what is exposed in [`Services`], topics in [`Topics`]. Neither messages nor streams of services pass it: see
//! [`Messages`](crate::Messages).

use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Addr, Arbiter, Context, Handler, ResponseFuture};
use reload::{Ack, Books, Reconfigurable, Reconfigure, StepError, StepFuture, done, reconfigure};

use crate::post::{Post, Settings};
use crate::services::{Office, Services, Ticket};
use crate::{ProtocolSection, Topics};

/// The actor. May be replaced by a successor at any time.
#[derive(Debug)]
pub struct Protocol {
    post: Post,
    office: Office,
    topics: Topics,
    books: Books<ProtocolSection, Prepared>,
}

/// What a preparation acquires: ports that nobody else can take.
#[derive(Debug)]
pub struct Prepared {
    ports: Ticket,
}

// === impl Protocol ===

impl Protocol {
    /// Starts the actor on its own arbiter, and puts the section's values into force. To be called inside an actix system;
    /// called again for a successor.
    #[must_use]
    pub fn start(
        section: Arc<ProtocolSection>,
        post: Post,
        services: &Services,
        topics: Topics,
    ) -> Addr<Self> {
        post.set(Settings::from(&*section));
        topics.set(&section.topics);
        topics.finish();
        let office = services.take_office();
        match office.establish(&section) {
            Ok(shut) => services.spawn(shut),
            // The probe says so, too, until a reload mends it.
            Err(error) => tracing::error!(%error, "the services are not as they are configured"),
        }
        let arbiter = Arbiter::new();
        let books = Books::new(section);
        Self::start_in_arbiter(&arbiter.handle(), move |_| Self { post, office, topics, books })
    }
}

impl Actor for Protocol {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(arbiter) = Arbiter::try_current() {
            arbiter.stop();
        }
    }
}

impl Handler<Reconfigure<ProtocolSection>> for Protocol {
    type Result = ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<ProtocolSection>, ctx: &mut Self::Context) -> Self::Result {
        reconfigure(self, message, ctx)
    }
}

impl Reconfigurable for Protocol {
    const NAME: &'static str = "protocol";
    type Section = ProtocolSection;
    type Prepared = Prepared;

    fn books(&mut self) -> &mut Books<ProtocolSection, Prepared> {
        &mut self.books
    }

    fn prepare(&mut self, next: &Arc<ProtocolSection>, _: Instant) -> StepFuture<Prepared> {
        done(self.office.prepare(next).map(|ports| Prepared { ports }))
    }

    fn commit(
        &mut self,
        prepared: Prepared,
        next: &Arc<ProtocolSection>,
        _: &mut Self::Context,
    ) -> StepFuture<()> {
        if let Err(error) = self.office.holds() {
            return done(Err(error));
        }
        self.post.set(Settings::from(&**next));
        if let Err(error) = self.office.commit(&prepared.ports, next) {
            return done(Err(error));
        }
        self.topics.set(&next.topics);
        let topics = self.topics.clone();
        Box::pin(async move {
            topics.settled().await;
            Ok(())
        })
    }

    fn restore(&mut self, before: &Arc<ProtocolSection>, _: &mut Self::Context) -> StepFuture<()> {
        if let Err(error) = self.office.holds() {
            return done(Err(error));
        }
        self.post.set(Settings::from(&**before));
        // The swarm follows; a rollback must not depend on it.
        self.topics.set(&before.topics);
        match self.office.establish(before) {
            Ok(shut) => Box::pin(async move {
                shut.await;
                Ok(())
            }),
            Err(error) => done(Err(error)),
        }
    }

    fn probe(&mut self) -> StepFuture<()> {
        let expected = Settings::from(&**self.books.section());
        let found = self.post.settings();
        done(if found != expected {
            Err(StepError::component("connections go by other settings than the section says"))
        } else if self.topics.subscribed() != *self.topics.wanted() {
            Err(StepError::component("the swarm is subscribed to other topics than the section says")
                .key("protocol.topics"))
        } else {
            self.office.probe(self.books.section())
        })
    }

    fn finish(&mut self, _: &mut Self::Context) -> StepFuture<()> {
        self.topics.finish();
        match self.office.shut_others(self.books.section()) {
            Ok(shut) => Box::pin(async move {
                shut.await;
                Ok(())
            }),
            Err(error) => done(Err(error)),
        }
    }
}
