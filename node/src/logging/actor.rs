//! The logging actor: changes the settings behind the layer, as one step of a reload.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, Addr, Arbiter, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use reload::{Ack, Books, LiveWriter, Reconfigurable, Reconfigure, StepError, StepFuture, done, reconfigure};

use super::output::{Outputs, Settings};
use super::rotate::RotatingFile;
use super::{LogFileError, LoggingHandle};
use crate::config::logging::LoggingSection;

/// How long a step waits for a log file that is open: one that hangs holds up no reload (R14).
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a file that is to be opened again is waited for, outside of any transaction.
const REOPEN_WITHIN: Duration = Duration::from_secs(2);

/// Owns the settings of the log.
#[derive(Debug)]
pub struct Logging {
    books: Books<LoggingSection, PreparedLogging>,
    outputs: Arc<Outputs>,
    writer: LiveWriter<Settings>,
    /// The settings before the last commit, with their file still open, until the transaction stands.
    before: Option<Arc<Settings>>,
    /// Why this actor, a successor, could not apply the section that it was started with.
    unapplied: Option<StepError>,
}

/// What the actor holds between prepare and commit.
#[derive(Debug)]
pub struct PreparedLogging(Arc<Settings>);

/// Opens the log file again if it was moved away; answers whether it was. Sent on each SIGHUP, whether or not the
/// configuration changed (contract: conf.yaml).
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<bool, LogFileError>")]
pub struct Reopen;

// === impl Logging ===

impl Logging {
    /// Starts the actor on an arbiter of its own. Called again with the same handle it starts a successor, which applies
    /// `section`; what the predecessor still tries to swap in is refused.
    ///
    /// # Panics
    /// Outside of an actix `System`.
    #[must_use]
    pub fn start(section: Arc<LoggingSection>, handle: &LoggingHandle) -> Addr<Self> {
        let outputs = Arc::clone(&handle.0);
        let writer = outputs.live.writer();
        Self::start_in_arbiter(&Arbiter::new().handle(), move |_| Self {
            books: Books::new(section),
            outputs,
            writer,
            before: None,
            unapplied: None,
        })
    }

    /// Swaps settings in. The callsites' shortcuts follow; an event in between is judged by the settings all the same.
    fn swap(&self, settings: Arc<Settings>) -> Result<Arc<Settings>, StepError> {
        let before =
            self.writer.swap(settings).map_err(|retired| StepError::component(retired.to_string()))?;
        self.outputs.rebuild_callsites();
        Ok(before)
    }

    /// Opens what `section` names, on a thread of the file's own.
    fn open(&self, section: &Arc<LoggingSection>, patience: Duration) -> StepFuture<PreparedLogging> {
        let (section, outputs) = (Arc::clone(section), Arc::clone(&self.outputs));
        Box::pin(
            async move { outputs.prepare(section, patience).await.map(PreparedLogging).map_err(refusal) },
        )
    }
}

impl Actor for Logging {
    type Context = Context<Self>;

    /// At the first start the settings are the section's already. A successor applies its own before it answers anything.
    fn started(&mut self, ctx: &mut Self::Context) {
        let section = Arc::clone(self.books.section());
        if self.writer.load_full().section == section {
            return;
        }
        ctx.wait(self.open(&section, PATIENCE).into_actor(self).map(|opened, actor, _| {
            actor.unapplied = opened.and_then(|opened| actor.swap(opened.0)).err();
        }));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        Arbiter::current().stop();
    }
}

impl Reconfigurable for Logging {
    const NAME: &'static str = "logging";
    type Section = LoggingSection;
    type Prepared = PreparedLogging;

    fn books(&mut self) -> &mut Books<LoggingSection, PreparedLogging> {
        &mut self.books
    }

    fn prepare(&mut self, next: &Arc<LoggingSection>, by: Instant) -> StepFuture<PreparedLogging> {
        // Soon enough to say itself why it is refused.
        let patience = by.saturating_duration_since(Instant::now()).mul_f64(0.8);
        self.open(next, patience)
    }

    fn commit(
        &mut self,
        PreparedLogging(settings): PreparedLogging,
        _: &Arc<LoggingSection>,
        _: &mut Self::Context,
    ) -> StepFuture<()> {
        done(self.swap(settings).map(|before| {
            self.before = Some(before);
            self.unapplied = None;
        }))
    }

    /// Puts the settings before back, whose file was kept open: this cannot fail for want of a disk.
    fn restore(&mut self, _: &Arc<LoggingSection>, _: &mut Self::Context) -> StepFuture<()> {
        // Without settings before, the commit did not come as far as the swap.
        let Some(before) = self.before.clone() else { return done(Ok(())) };
        done(self.swap(before).map(|_| self.before = None))
    }

    /// Whether the file may be written. A disk that is full or does not answer is no reason to refuse a reload: it may be what the reload is
    /// for.
    fn probe(&mut self) -> StepFuture<()> {
        if let Some(error) = &self.unapplied {
            return done(Err(error.clone()));
        }
        let settings = self.writer.load_full();
        Box::pin(async move {
            let Some(output) = settings.file.clone() else { return Ok(()) };
            match output.file.ask(PATIENCE, |file: &mut RotatingFile| file.probe()).await {
                Err(error) if error.kind() == ErrorKind::TimedOut => Ok(()),
                probed => {
                    probed.map_err(|source| refusal(LogFileError { path: output.file.path().into(), source }))
                }
            }
        })
    }

    /// Lets the old file go. It is closed when the last event that began with it has ended.
    fn finish(&mut self, _: &mut Self::Context) -> StepFuture<()> {
        let old = self.before.take().and_then(|before| before.file.clone());
        let current = self.writer.load_full();
        Box::pin(async move {
            let Some(old) = old else { return Ok(()) };
            if current.file.as_ref().is_some_and(|current| current.file.is_same(&old.file)) {
                return Ok(());
            }
            if let Err(error) = old.file.sync(PATIENCE).await {
                // The lines are written, as a rule, and only a power cut could still take them; where the disk does not answer, they
                // are left to the file's own thread.
                let path = old.file.path().display();
                tracing::warn!(%path, %error, "the old log file was not made durable");
            }
            Ok(())
        })
    }
}

impl Handler<Reconfigure<LoggingSection>> for Logging {
    type Result = ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<LoggingSection>, ctx: &mut Self::Context) -> Self::Result {
        reconfigure(self, message, ctx)
    }
}

impl Handler<Reopen> for Logging {
    type Result = ResponseFuture<Result<bool, LogFileError>>;

    fn handle(&mut self, _: Reopen, _: &mut Self::Context) -> Self::Result {
        let settings = self.outputs.live.load_full();
        Box::pin(async move {
            let Some(output) = settings.file.clone() else { return Ok(false) };
            let reopened = output.file.ask(REOPEN_WITHIN, RotatingFile::reopen).await;
            reopened.map_err(|source| LogFileError { path: output.file.path().into(), source })
        })
    }
}

fn refusal(error: LogFileError) -> StepError {
    let hint = match error.source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "create its folder, or change logging.file_name",
        ErrorKind::PermissionDenied => "let the user that the node runs as write to it and to its folder",
        ErrorKind::ReadOnlyFilesystem => "choose a file on a writable file system",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on the file system",
        ErrorKind::TimedOut => "look at its disk, or choose another logging.file_name",
        _ => "choose another logging.file_name",
    };
    StepError::of_io(error.to_string(), &error.source).key("logging.file_name").hint(hint)
}
