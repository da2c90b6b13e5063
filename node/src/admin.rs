//! The admin actor: the HTTP API on the node's socket, and on `admin.listen` where that is set (O2).
//!
//! A change of an address binds the new one first, swaps, and lets the old server end in its own time: the request that asked for the
//! reload may have come in through it. Certificates, keys, algorithm and claims are values that handshakes and requests read.

pub mod connections;
pub mod gate;
mod guard;
mod page;
pub mod routes;
pub mod servers;
pub mod socket;
pub mod state;
mod stream;
mod streams;
mod tcp;
pub mod throttle;
pub mod tls;
mod token;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, ResponseFuture};
use reload::{Ack, Books, Reconfigurable, Reconfigure, StepError, StepFuture, done};

pub use guard::Actor as TokenHolder;
pub use servers::Servers;
pub use socket::{Bound, Caller};
pub use state::{AdminState, Requests};
pub use tcp::Reserved;

use crate::config::AdminSection;
use gate::Rules;
use servers::Closing;

/// How long requests that are under way may take when a server ends.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a generation may wait to be confirmed: long enough to type the command, short enough for somebody to remember.
pub const CONFIRM: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// The admin actor.
pub struct Admin {
    books: Books<AdminSection, Prepared>,
    servers: Servers,
    /// Its own.
    term: u64,
    state: Arc<AdminState>,
}

/// What the next section needs and does not have yet: bound, not served. Dropped unserved, it is given back.
pub struct Prepared {
    socket: Option<Bound>,
    tcp: Option<Reserved>,
    rules: Rules,
}

/// Serves the socket again if its file was removed or replaced. Sent on each SIGHUP, as for a log file that was moved away.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Reopen;

/// Ends all servers: no new connection, requests under way may end.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Close;

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
            drop(successor.close_others());
            successor
        })
    }

    fn new(section: Arc<AdminSection>, state: Arc<AdminState>, servers: Servers) -> Self {
        let term = servers.take_office();
        Self { books: Books::new(section), servers, term, state }
    }

    /// The probe tells if it cannot be.
    fn serve_again(&self) {
        let section = self.books.section();
        if let Err(error) = self.stand_on(section) {
            tracing::error!(error = error.message, "the admin API cannot be served");
        }
    }

    /// Serves what this section says, as far as it is not served.
    fn stand_on(&self, section: &AdminSection) -> Result<(), StepError> {
        let rules =
            Rules::new(section, &self.servers.gate().rules()).map_err(|error| not_governed(&error))?;
        self.servers.govern(self.term, rules);
        if !self.servers.is_reached(&section.socket)
            && let Err(error) = self.open(section.socket.clone())
        {
            let message = format!("cannot serve {} again: {error}", section.socket.display());
            if !self.servers.serves(&section.socket) {
                return Err(StepError::of_io(message, &error));
            }
            // It is back when its folder is.
            tracing::error!(error = message, "the admin API cannot be served");
        }
        match section.listen.filter(|address| !self.servers.listens(*address)) {
            None => Ok(()),
            Some(address) => {
                let reserved =
                    self.servers.reserve(address).map_err(|error| not_listening(address, &error))?;
                self.listen(reserved)
            }
        }
    }

    fn close_others(&self) -> Closing {
        self.servers.close(self.term, Some(self.books.section()))
    }

    /// Everything for the next section that can fail.
    fn acquire(&self, next: &AdminSection) -> Result<Prepared, StepError> {
        let rules = Rules::new(next, &self.servers.gate().rules()).map_err(|error| not_governed(&error))?;
        let socket = if self.servers.is_reached(&next.socket) {
            None
        } else {
            let bound = self.servers.bind(self.term, next.socket.clone()).map_err(|error| {
                StepError::of_io(format!("cannot listen on {}: {error}", next.socket.display()), &error)
                    .key("admin.socket")
                    .hint("name a path in a folder that the node may write")
            })?;
            Some(bound)
        };
        let tcp = match next.listen.filter(|address| !self.servers.listens(*address)) {
            None => None,
            Some(address) => {
                Some(self.servers.reserve(address).map_err(|error| not_listening(address, &error))?)
            }
        };
        Ok(Prepared { socket, tcp, rules })
    }

    fn open(&self, path: PathBuf) -> io::Result<()> {
        self.serve(self.servers.bind(self.term, path)?)
    }

    fn serve(&self, bound: Bound) -> io::Result<()> {
        self.servers.serve_under(Some(self.term), bound, &self.state)
    }

    fn listen(&self, reserved: Reserved) -> Result<(), StepError> {
        let address = reserved.address();
        let listening = self.servers.listen_under(Some(self.term), reserved, &self.state);
        listening.map_err(|error| not_listening(address, &error))
    }
}

/// What whoever starts the node begins with: nothing is served yet, and the address of `listen` is reserved.
///
/// # Errors
/// If it cannot be had, or the files that the section names cannot serve.
pub fn settle(section: &AdminSection) -> Result<(Servers, Option<Reserved>), StepError> {
    let servers = Servers::under(section).map_err(|error| not_governed(&error))?;
    let reserve = |address| servers.reserve(address).map_err(|error| not_listening(address, &error));
    let reserved = section.listen.map(reserve).transpose()?;
    Ok((servers, reserved))
}

/// Listens on what was reserved.
///
/// # Errors
/// Not in practice: the address is bound.
pub fn open(servers: &Servers, reserved: Reserved, state: &Arc<AdminState>) -> Result<(), StepError> {
    let address = reserved.address();
    servers.listen(reserved, state).map_err(|error| not_listening(address, &error))
}

/// Not in practice: whoever judged the configuration has tried it.
fn not_governed(error: &gate::RulesError) -> StepError {
    StepError::component(error.to_string())
        .key("admin")
        .hint("the files that admin names are judged by `fednode check`")
}

fn not_listening(address: SocketAddr, error: &io::Error) -> StepError {
    net::reserve::refusal(address, error).key("admin.listen")
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
        done(self.acquire(next))
    }

    fn commit(&mut self, prepared: Prepared, _: &Arc<AdminSection>, _: &mut Self::Context) -> StepFuture<()> {
        let Prepared { socket, tcp, rules } = prepared;
        // First the rules: nobody comes in through a new address under the old ones.
        self.servers.govern(self.term, rules);
        let served = socket.map_or(Ok(()), |bound| self.serve(bound));
        let served = served
            .map_err(|error| StepError::of_io(format!("cannot serve the admin socket: {error}"), &error));
        done(served.and_then(|()| tcp.map_or(Ok(()), |reserved| self.listen(reserved))))
    }

    fn restore(&mut self, before: &Arc<AdminSection>, _: &mut Self::Context) -> StepFuture<()> {
        let Closing { freed, left: _ } = self.servers.close(self.term, Some(before));
        let stands = self.stand_on(before);
        Box::pin(async move {
            freed.await;
            stands
        })
    }

    fn probe(&mut self) -> StepFuture<()> {
        let section = self.books.section();
        let socket = &section.socket;
        if let Err(error) = storage::socket_path::connect(socket) {
            let message = format!("nothing answers on {}: {error}", socket.display());
            return done(Err(StepError::component(message).key("admin.socket")));
        }
        let silent = section.listen.filter(|address| !self.servers.listens(*address));
        done(silent.map_or(Ok(()), |address| {
            Err(StepError::component(format!("nothing listens on {address}")).key("admin.listen"))
        }))
    }

    fn finish(&mut self, _: &mut Self::Context) -> StepFuture<()> {
        // Who is in is not waited for: the request that asked for this reload may be one of those that are let to end.
        let Closing { freed, left: _ } = self.close_others();
        Box::pin(async move {
            freed.await;
            Ok(())
        })
    }
}

impl Handler<Reopen> for Admin {
    type Result = ();

    fn handle(&mut self, _: Reopen, _: &mut Self::Context) {
        let path = &self.books.section().socket;
        if !self.servers.has_lost(self.term, path) {
            return;
        }
        // The one that is there goes on meanwhile: its folder may come back.
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
        let Closing { freed, left } = self.servers.close(self.term, None);
        let servers = self.servers.clone();
        Box::pin(async move {
            freed.await;
            futures::future::join(left, servers.drain()).await;
        })
    }
}
