//! The greeter: a listener, moved by opening the new one before the old one closes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, Context, Handler, ResponseFuture};
use reload::{
    Ack, Books, Coordinator, Live, Origin, Outcome, Reconfigurable, Reconfigure, Reload, StepError,
    StepFuture, Trigger, done,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::files::{Config, GreeterSection};
use crate::phrasebook::Phrase;

/// The most that one connection may send: a line that never ends does not fill the memory.
const MAX_SENT: u64 = 64 << 10;

/// The most connections at a time.
const MAX_OPEN: usize = 256;

/// How long nobody is accepted after the machine failed to.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Greeter {
    books: Books<GreeterSection, Option<std::net::TcpListener>>,
    /// One, but for the time between commit and finish.
    doors: BTreeMap<SocketAddr, Door>,
    shared: Shared,
}

/// Accepts connections for as long as it lives. Those that were accepted live on: a move of the address closes none of them.
struct Door(JoinHandle<()>);

/// What a connection needs.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) phrase: Live<Phrase>,
    pub(crate) open: Arc<AtomicUsize>,
    /// Whom `/reload` asks. There is a coordinator only after its components.
    pub(crate) coordinator: Arc<OnceLock<Addr<Coordinator<Config>>>>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A caller who comes between prepare and a rollback is let down: a stricter service binds in prepare and listens in commit.
pub(crate) fn bind(address: SocketAddr) -> Result<std::net::TcpListener, StepError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    // The class follows from the error: an address in use may become free and is tried again, one that is not ours is not.
    bound.map_err(|error| {
        StepError::of_io(format!("cannot listen on {address}: {error}"), &error)
            .key("greeter.listen")
            .hint("choose an address that is free")
    })
}

impl Greeter {
    pub(crate) fn start(
        section: Arc<GreeterSection>,
        listener: std::net::TcpListener,
        shared: Shared,
    ) -> Addr<Self> {
        // On its own arbiter from here on: the listener's I/O belongs there.
        Self::start_in_arbiter(&Arbiter::new().handle(), move |_| {
            let address = section.listen;
            let mut greeter = Self { books: Books::new(section), doors: BTreeMap::new(), shared };
            // If it fails, the first probe tells.
            let _ = greeter.open(address, listener);
            greeter
        })
    }

    fn open(&mut self, address: SocketAddr, listener: std::net::TcpListener) -> Ack {
        let listener = TcpListener::from_std(listener)
            .map_err(|error| StepError::of_io(format!("cannot serve {address}: {error}"), &error))?;
        let shared = self.shared.clone();
        let accepting = actix::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // No descriptor left, or a caller who is gone already: a pause, and not the end of the door.
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                if shared.open.load(Ordering::Relaxed) >= MAX_OPEN {
                    continue;
                }
                shared.open.fetch_add(1, Ordering::Relaxed);
                let shared = shared.clone();
                actix::spawn(async move {
                    // A caller that went away is no error.
                    let _ = greet(stream, &shared).await;
                    shared.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        self.doors.insert(address, Door(accepting));
        Ok(())
    }
}

/// Answers each line with a greeting, in the words that are in force when it comes.
async fn greet(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(MAX_SENT)).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match (line.as_str(), shared.coordinator.get()) {
            ("/reload", Some(coordinator)) => reload_now(coordinator).await,
            (name, _) => {
                let phrase = shared.phrase.load_full();
                format!("{}{name}{}", phrase.0, phrase.1)
            }
        };
        write.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

/// The second trigger: whoever asks this way is told how it ended.
async fn reload_now(coordinator: &Addr<Coordinator<Config>>) -> String {
    let origin = Origin { trigger: Trigger::Api, actor: Some("a caller".to_owned()), note: None };
    match coordinator.send(Reload::new(origin)).await {
        Ok(Ok(outcome)) => said(&outcome),
        Ok(Err(refusal)) => refusal.to_string(),
        Err(gone) => gone.to_string(),
    }
}

pub(crate) fn said(outcome: &Outcome) -> String {
    let error = outcome.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("{}, generation {}{error}", outcome.outcome.as_str(), outcome.config_generation)
}

impl Actor for Greeter {
    type Context = Context<Self>;
}

impl Handler<Reconfigure<GreeterSection>> for Greeter {
    type Result = ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<GreeterSection>, ctx: &mut Self::Context) -> Self::Result {
        reload::reconfigure(self, message, ctx)
    }
}

impl Reconfigurable for Greeter {
    const NAME: &'static str = "greeter";
    type Section = GreeterSection;
    /// Nothing is to be opened where the address stays. Dropped unused, the listener is closed: nothing leaks.
    type Prepared = Option<std::net::TcpListener>;

    fn books(&mut self) -> &mut Books<GreeterSection, Self::Prepared> {
        &mut self.books
    }

    fn prepare(&mut self, next: &Arc<GreeterSection>, _by: Instant) -> StepFuture<Self::Prepared> {
        if self.doors.contains_key(&next.listen) { done(Ok(None)) } else { done(bind(next.listen).map(Some)) }
    }

    /// The old door stays open: until `finish` there may be a way back.
    fn commit(
        &mut self,
        prepared: Self::Prepared,
        next: &Arc<GreeterSection>,
        _: &mut Self::Context,
    ) -> StepFuture<()> {
        done(prepared.map_or(Ok(()), |listener| self.open(next.listen, listener)))
    }

    fn restore(&mut self, before: &Arc<GreeterSection>, _: &mut Self::Context) -> StepFuture<()> {
        self.doors.retain(|address, _| *address == before.listen);
        if self.doors.is_empty() {
            return done(bind(before.listen).and_then(|listener| self.open(before.listen, listener)));
        }
        done(Ok(()))
    }

    /// Asked after the commit: an unhealthy component takes everybody back.
    fn probe(&mut self) -> StepFuture<()> {
        let is_open = self.doors.get(&self.books.section().listen).is_some_and(|door| !door.0.is_finished());
        done(if is_open { Ok(()) } else { Err(StepError::component("nobody listens")) })
    }

    /// There is no way back from here: now the old door closes, and it is closed when this is answered.
    fn finish(&mut self, _: &mut Self::Context) -> StepFuture<()> {
        let kept = self.books.section().listen;
        let old: Vec<Door> =
            self.doors.extract_if(.., |address, _| *address != kept).map(|(_, door)| door).collect();
        Box::pin(async move {
            for mut door in old {
                door.0.abort();
                let _ = (&mut door.0).await;
            }
            Ok(())
        })
    }
}
