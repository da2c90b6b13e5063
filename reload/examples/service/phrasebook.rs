//! The phrasebook: a value that others read, swapped in place.

use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Addr, Arbiter, Context, Handler, ResponseFuture};
use reload::{Ack, Books, Live, LiveWriter, Reconfigurable, Reconfigure, StepError, StepFuture, done};

use crate::files::PhrasebookSection;

/// What stands before the name, and after it.
pub(crate) type Phrase = (String, String);

pub(crate) struct Phrasebook {
    /// The engine's bookkeeping. Every component has it.
    books: Books<PhrasebookSection, Phrase>,
    /// The phrase is shared through this: only the actor in office may change it, so that one which was given up on (its
    /// thread hangs) does no harm when it wakes up.
    phrase: LiveWriter<Phrase>,
}

impl Phrasebook {
    pub(crate) fn start(section: Arc<PhrasebookSection>, phrase: &Live<Phrase>) -> Addr<Self> {
        let phrase = phrase.writer();
        // Every component has an arbiter (a thread) of its own: one that blocks holds nobody else.
        Self::start_in_arbiter(&Arbiter::new().handle(), move |_| Self { books: Books::new(section), phrase })
    }

    fn swap(&self, phrase: Phrase) -> Ack {
        self.phrase.swap(Arc::new(phrase)).map(drop).map_err(|why| StepError::component(why.to_string()))
    }
}

impl Actor for Phrasebook {
    type Context = Context<Self>;
}

// One message carries all steps; `reload::reconfigure` calls the methods below and deals with repeats, late steps and panics.
impl Handler<Reconfigure<PhrasebookSection>> for Phrasebook {
    type Result = ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<PhrasebookSection>, ctx: &mut Self::Context) -> Self::Result {
        reload::reconfigure(self, message, ctx)
    }
}

impl Reconfigurable for Phrasebook {
    const NAME: &'static str = "phrasebook";
    type Section = PhrasebookSection;
    type Prepared = Phrase;

    fn books(&mut self) -> &mut Books<PhrasebookSection, Phrase> {
        &mut self.books
    }

    /// All that can fail is done here, and nothing that runs is touched.
    fn prepare(&mut self, next: &Arc<PhrasebookSection>, _by: Instant) -> StepFuture<Phrase> {
        done(Ok(next.phrase()))
    }

    /// Swaps in what was prepared.
    fn commit(
        &mut self,
        phrase: Phrase,
        _: &Arc<PhrasebookSection>,
        _: &mut Self::Context,
    ) -> StepFuture<()> {
        done(self.swap(phrase))
    }

    /// Puts `before` into force again.
    fn restore(&mut self, before: &Arc<PhrasebookSection>, _: &mut Self::Context) -> StepFuture<()> {
        done(self.swap(before.phrase()))
    }
}
