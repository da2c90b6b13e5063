//! The actor that takes the history to another data folder (`node.data_dir`), as one component among the others.
//!
//! `Prepare` locks the new folder and copies everything there, durably; `Commit` is a swap in memory; `Finish` lets the old
//! folder go. Until then nothing is written to either, so that a rollback has nothing to bring back. What others keep in the
//! folder is theirs: the admin actor moves its socket, and is told after this one.

use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Addr, Arbiter, Context, Handler, ResponseFuture};
use reload::{Ack, Books, Reconfigurable, Reconfigure, StepError, StepFuture, done};
use storage::generations::OpenError;

use super::moving::{CopyError, Pause, Place};
use super::{History, HistoryError};
use crate::config::HistorySection;

const KEY: &str = "node.data_dir";

/// See the module.
pub struct Keeper {
    books: Books<HistorySection, Prepared>,
    history: Arc<History>,
    /// Its own.
    term: u64,
}

/// A copy of the history that does not count yet. Dropped, it is removed.
pub struct Prepared {
    /// Nothing where the history is there already.
    place: Option<Place>,
    pause: Pause,
}

// === impl Keeper ===

impl Keeper {
    /// Starts the actor on an arbiter of its own: the first one, or a successor, which brings the history back to where it was.
    #[must_use]
    pub fn start(section: Arc<HistorySection>, history: Arc<History>) -> Addr<Self> {
        let term = history.take_office();
        Self::start_in_arbiter(&reload::arbiter().handle(), move |_| Self {
            books: Books::new(section),
            history,
            term,
        })
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        Arbiter::current().stop();
    }
}

impl Handler<Reconfigure<HistorySection>> for Keeper {
    type Result = ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<HistorySection>, ctx: &mut Self::Context) -> Self::Result {
        reload::reconfigure(self, message, ctx)
    }
}

impl Reconfigurable for Keeper {
    const NAME: &'static str = "history";
    type Section = HistorySection;
    type Prepared = Prepared;

    fn books(&mut self) -> &mut Books<HistorySection, Prepared> {
        &mut self.books
    }

    fn prepare(&mut self, next: &Arc<HistorySection>, _: Instant) -> StepFuture<Prepared> {
        let (history, next) = (Arc::clone(&self.history), Arc::clone(next));
        let pause = history.pause();
        Box::pin(async move {
            let turn = history.turn().await;
            let is_wanted = pause.watch();
            let place = on_disk(move || {
                if history.path() == next.data_dir {
                    return Ok(None);
                }
                let place = Place::copy(&history, &next.data_dir, is_wanted, turn);
                place.map(Some).map_err(|error| refused(&error))
            });
            Ok(Prepared { place: place.await?, pause })
        })
    }

    fn commit(
        &mut self,
        prepared: Prepared,
        _: &Arc<HistorySection>,
        _: &mut Self::Context,
    ) -> StepFuture<()> {
        let Prepared { place, pause } = prepared;
        let Some(place) = place else { return done(Ok(())) };
        if self.history.move_to(self.term, place, pause) {
            return done(Ok(()));
        }
        done(Err(StepError::component("a successor is in office")))
    }

    fn restore(&mut self, _: &Arc<HistorySection>, _: &mut Self::Context) -> StepFuture<()> {
        let undone = self.history.move_back(self.term);
        Box::pin(on_disk(move || {
            drop(undone);
            Ok(())
        }))
    }

    fn probe(&mut self) -> StepFuture<()> {
        let history = Arc::clone(&self.history);
        Box::pin(on_disk(move || {
            let message = match history.is_in_place() {
                Ok(true) => return Ok(()),
                Ok(false) => "is not the folder any more that was locked".to_owned(),
                Err(error) => error.to_string(),
            };
            let folder = history.path();
            Err(StepError::component(format!("{}: {message}", folder.display())).key(KEY))
        }))
    }

    fn finish(&mut self, _: &mut Self::Context) -> StepFuture<()> {
        let history = Arc::clone(&self.history);
        Box::pin(on_disk(move || {
            history.settle();
            Ok(())
        }))
    }
}

/// Does file work where it may block.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(StepError::component(format!("the work on the data folder failed: {error}")))
    })
}

fn refused(error: &CopyError) -> StepError {
    let io = match error {
        CopyError::Move(error) => error.io(),
        CopyError::Open(HistoryError::Generations(OpenError { source, .. })) => Some(source),
        CopyError::Open(HistoryError::Audit(storage::audit::AuditError::Io { source, .. })) => Some(source),
        CopyError::Signpost(storage::atomic::WriteError { source, .. }) => Some(source),
        CopyError::Open(_) | CopyError::Unsettled(_) => None,
    };
    let message = format!("the node's data cannot be moved: {error}");
    let refusal = match io {
        Some(io) => StepError::of_io(message, io),
        None => StepError::component(message),
    };
    refusal.key(KEY).hint("name another folder, or put the one back that is in use; nothing was moved")
}

#[cfg(test)]
mod tests;
