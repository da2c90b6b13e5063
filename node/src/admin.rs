//! The admin actor: the HTTP server on the node's socket.
//!
//! A change of its address binds the new socket first, swaps, and lets the old server end in its own time: the request that
//! asked for the reload may have come in through it.

mod page;
pub mod routes;
pub mod state;

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, ResponseFuture, System};
use actix_web::dev::{Extensions, ServerHandle};
use actix_web::rt::net::UnixStream;
use actix_web::{App, HttpServer, web};
use reload::{Ack, Books, Reconfigurable, Reconfigure, StepError, StepFuture, done, fault};

pub use state::{AdminState, Requests};
use storage::socket_path::Unplaced;

use crate::config::AdminSection;

/// A caller that sends no request is not kept.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// How long requests that are under way may take when a server ends.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a generation may wait to be confirmed: long enough to type the command, short enough for somebody to remember.
pub const CONFIRM: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// Who is at the other end of the socket, as the kernel tells (SO_PEERCRED).
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    uid: u32,
    pid: Option<i32>,
}

/// The servers by their socket. Outlives the actor: a successor finds them running.
#[derive(Clone, Default)]
pub struct Servers(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    by_socket: BTreeMap<PathBuf, Serving>,
    /// The term of the actor in office. One that was left behind in the middle of a step wakes up in that step, and must not open
    /// or close a server any more.
    term: u64,
}

struct Serving {
    handle: ServerHandle,
    file: SocketFile,
}

/// The file of a socket that we bound. Dropped, it is removed, unless somebody has put another in its place.
struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

/// The admin actor.
pub struct Admin {
    books: Books<AdminSection, Prepared>,
    servers: Servers,
    /// Its own.
    term: u64,
    state: Arc<AdminState>,
}

/// A socket that is bound and not served yet. Dropped unserved, its file is removed.
pub struct Prepared(Option<Bound>);

/// A socket that is bound: callers may connect, and wait until it is served.
pub struct Bound {
    file: SocketFile,
    listener: std::os::unix::net::UnixListener,
}

/// Serves the socket again if its file was removed or replaced. Sent on each SIGHUP, as for a log file that was moved away.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Reopen;

/// Ends all servers: no new connection, requests under way may end.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Close;

// === impl Caller ===

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "uid:{} pid:{pid}", self.uid),
            None => write!(f, "uid:{}", self.uid),
        }
    }
}

// === impl Bound ===

impl Bound {
    /// Binds the socket, for its owner only.
    ///
    /// # Errors
    /// If it cannot be bound, or somebody serves it.
    pub fn new(path: PathBuf) -> io::Result<Self> {
        Self::place(path.clone(), Unplaced::new(&path)?)
    }

    fn place(path: PathBuf, unplaced: Unplaced) -> io::Result<Self> {
        let listener = unplaced.place()?;
        let identity = storage::socket_path::identity(&path);
        Ok(Self { file: SocketFile { path, identity }, listener })
    }
}

// === impl SocketFile ===

impl SocketFile {
    fn is_in_place(&self) -> bool {
        self.identity.is_some() && storage::socket_path::identity(&self.path) == self.identity
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.is_in_place() {
            return;
        }
        if let Err(error) = fault::io("admin::unlink").and_then(|()| std::fs::remove_file(&self.path)) {
            tracing::warn!(path = %self.path.display(), %error, "the admin socket's file stays behind");
        }
    }
}

// === impl Servers ===

impl Servers {
    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Binds a socket. One who was left behind while he made it does not take his successor's place.
    fn bind(&self, term: u64, path: PathBuf) -> io::Result<Bound> {
        let unplaced = Unplaced::new(&path)?;
        self.with(
            |shared| {
                if term == shared.term { Bound::place(path, unplaced) } else { Err(left_behind()) }
            },
        )
    }

    /// Serves a socket, for whoever starts the node.
    ///
    /// # Errors
    /// If the server's threads cannot be started.
    pub fn serve(&self, bound: Bound, state: &Arc<AdminState>) -> io::Result<()> {
        self.serve_under(None, bound, state)
    }

    fn serve_under(&self, term: Option<u64>, bound: Bound, state: &Arc<AdminState>) -> io::Result<()> {
        let Bound { file, listener } = bound;
        let handle = serve(listener, Arc::clone(state))?;
        let serving = Serving { handle, file };
        let refused = self.with(|shared| {
            if term.is_none_or(|term| term == shared.term) {
                shared.by_socket.insert(serving.file.path.clone(), serving);
                None
            } else {
                Some(serving)
            }
        });
        let Some(Serving { handle, file: _ }) = refused else { return Ok(()) };
        actix::spawn(handle.stop(false));
        Err(left_behind())
    }

    /// Takes office: whoever was before opens and closes nothing from here on.
    fn take_office(&self) -> u64 {
        self.with(|shared| {
            shared.term = shared.term.saturating_add(1);
            shared.term
        })
    }

    /// Ends every server but the one on `keep`.
    fn close(&self, term: u64, keep: Option<&PathBuf>) -> Vec<impl Future<Output = ()> + use<>> {
        fault::pass("admin::close");
        let closing = self.with(|shared| {
            if shared.term != term {
                return BTreeMap::new();
            }
            let kept = keep.and_then(|keep| shared.by_socket.remove_entry(keep));
            std::mem::replace(&mut shared.by_socket, kept.into_iter().collect())
        });
        // The file goes first: nobody comes in any more while those who are in may end.
        closing.into_values().map(|Serving { handle, file: _ }| handle.stop(true)).collect()
    }
}

fn left_behind() -> io::Error {
    io::Error::other("a successor is in office")
}

/// Runs a server on threads of its own, so that no stuck component holds `status` up.
fn serve(listener: std::os::unix::net::UnixListener, state: Arc<AdminState>) -> io::Result<ServerHandle> {
    fault::io("admin::serve")?;
    let server = HttpServer::new(move || {
        App::new().app_data(web::Data::from(Arc::clone(&state))).configure(routes::configure)
    })
    .workers(1)
    .disable_signals()
    .client_request_timeout(REQUEST_WITHIN)
    .shutdown_timeout(DRAIN.as_secs())
    .on_connect(|connection, extensions: &mut Extensions| {
        let stream = connection.downcast_ref::<UnixStream>();
        if let Some(Ok(peer)) = stream.map(UnixStream::peer_cred) {
            extensions.insert(Caller { uid: peer.uid(), pid: peer.pid() });
        }
    })
    .listen_uds(listener)?
    .run();
    let handle = server.handle();
    System::current().arbiter().spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the admin server ended");
        }
    });
    Ok(handle)
}

// === impl Admin ===

impl Admin {
    /// Starts the actor on an arbiter of its own. Its socket is served by whoever bound it.
    #[must_use]
    pub fn first(section: Arc<AdminSection>, state: Arc<AdminState>, servers: Servers) -> Addr<Self> {
        Self::start_in_arbiter(&Arbiter::new().handle(), move |_| Self::new(section, state, servers))
    }

    /// Starts a successor, which finds the servers running, and serves again what its predecessor could not.
    #[must_use]
    pub fn take_office(section: Arc<AdminSection>, state: Arc<AdminState>, servers: Servers) -> Addr<Self> {
        Self::start_in_arbiter(&Arbiter::new().handle(), move |_| {
            let successor = Self::new(section, state, servers);
            successor.serve_again();
            // What the predecessor was about to serve, or has left open.
            successor.close_others();
            successor
        })
    }

    fn new(section: Arc<AdminSection>, state: Arc<AdminState>, servers: Servers) -> Self {
        let term = servers.take_office();
        Self { books: Books::new(section), servers, term, state }
    }

    /// The probe tells if it cannot be.
    fn serve_again(&self) {
        let socket = self.books.section().socket.clone();
        if !self.serves(&socket)
            && let Err(error) = self.open(socket.clone())
        {
            tracing::error!(path = %socket.display(), %error, "the admin socket cannot be served");
        }
    }

    fn close_others(&self) {
        // Not awaited: the request that asked for this reload may be one of those that are let to end.
        for closing in self.servers.close(self.term, Some(&self.books.section().socket)) {
            actix::spawn(closing);
        }
    }

    fn serves(&self, path: &PathBuf) -> bool {
        self.servers.with(|shared| shared.by_socket.contains_key(path))
    }

    fn open(&self, path: PathBuf) -> io::Result<()> {
        self.serve(self.servers.bind(self.term, path)?)
    }

    fn serve(&self, bound: Bound) -> io::Result<()> {
        self.servers.serve_under(Some(self.term), bound, &self.state)
    }
}

impl Actor for Admin {
    type Context = Context<Self>;
}

impl Handler<Reconfigure<AdminSection>> for Admin {
    type Result = ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<AdminSection>, ctx: &mut Self::Context) -> Self::Result {
        reload::reconfigure(self, message, ctx)
    }
}

impl Reconfigurable for Admin {
    const NAME: &'static str = "admin";
    type Section = AdminSection;
    type Prepared = Prepared;

    fn books(&mut self) -> &mut Books<AdminSection, Prepared> {
        &mut self.books
    }

    fn prepare(&mut self, next: &Arc<AdminSection>, _: Instant) -> StepFuture<Prepared> {
        if self.serves(&next.socket) {
            return done(Ok(Prepared(None)));
        }
        let bound = self.servers.bind(self.term, next.socket.clone()).map_err(|error| {
            StepError::of_io(format!("cannot listen on {}: {error}", next.socket.display()), &error)
                .key("admin.socket")
                .hint("name a path in a folder that the node may write")
        });
        done(bound.map(|bound| Prepared(Some(bound))))
    }

    fn commit(&mut self, prepared: Prepared, _: &Arc<AdminSection>, _: &mut Self::Context) -> StepFuture<()> {
        let served = prepared.0.map_or(Ok(()), |bound| self.serve(bound));
        done(
            served
                .map_err(|error| StepError::of_io(format!("cannot serve the admin socket: {error}"), &error)),
        )
    }

    fn restore(&mut self, before: &Arc<AdminSection>, _: &mut Self::Context) -> StepFuture<()> {
        drop(self.servers.close(self.term, Some(&before.socket)));
        if self.serves(&before.socket) {
            return done(Ok(()));
        }
        done(
            self.open(before.socket.clone()).map_err(|error| {
                StepError::of_io(format!("cannot serve the old socket again: {error}"), &error)
            }),
        )
    }

    fn probe(&mut self) -> StepFuture<()> {
        let socket = self.books.section().socket.clone();
        let reached = storage::socket_path::connect(&socket).map(drop);
        done(reached.map_err(|error| {
            StepError::component(format!("nothing answers on {}: {error}", socket.display()))
                .key("admin.socket")
        }))
    }

    fn finish(&mut self, _: &mut Self::Context) -> StepFuture<()> {
        self.close_others();
        done(Ok(()))
    }
}

impl Handler<Reopen> for Admin {
    type Result = ();

    fn handle(&mut self, _: Reopen, _: &mut Self::Context) {
        let path = &self.books.section().socket;
        let lost = self.servers.with(|shared| match shared.by_socket.get(path) {
            _ if shared.term != self.term => Err(()),
            Some(serving) if serving.file.is_in_place() => Err(()),
            _ => Ok(shared.by_socket.remove(path)),
        });
        let Ok(lost) = lost else { return };
        // Callers who are connected keep their server until they are done.
        if let Some(lost) = lost {
            actix::spawn(lost.handle.stop(true));
        }
        match self.open(path.clone()) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "the admin socket's file was gone; it is served again")
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the admin socket cannot be served again")
            }
        }
    }
}

impl Handler<Close> for Admin {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Close, _: &mut Self::Context) -> Self::Result {
        let closing = self.servers.close(self.term, None);
        Box::pin(async move {
            futures::future::join_all(closing).await;
        })
    }
}
