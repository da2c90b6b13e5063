//! The TCP side of the API: listeners, and what becomes of those who connect.
//!
//! One thread of its own serves all of them, so that no stuck component holds `status` up. A listener is bound in `Prepare`, opened in
//! `Commit` and closed in `Finish`; what TLS a caller meets is read from the [`Gate`] when he is accepted.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::ArbiterHandle;
use actix_http::HttpService;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, map_config};
use actix_web::dev::{AppConfig, Extensions};
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use reload::fault;
use socket2::Socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use super::connections::{Connection, Connections, Seat};
use super::gate::Gate;
use super::stream::{Io, Stream};
use super::{AdminState, guard, routes};

/// Callers that the kernel keeps until they are accepted.
const BACKLOG: i32 = 256;

/// How long a caller may take for the TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// How long the head of a request may take, from its first byte or from the connection on.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// How long a connection without a request is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How long a caller may take to close his side.
const DISCONNECT_WITHIN: Duration = Duration::from_secs(1);

/// After an error of the machine (no descriptors), a pause: the same would come again at once.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// An address that nobody else can take; given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    address: SocketAddr,
    socket: Socket,
}

/// A listener that is open. Dropped, it closes; its connections end with the answers that they wait for.
#[derive(Debug)]
pub struct Listening {
    retired: Arc<AtomicBool>,
    /// Told whether another listener takes its place, when it is to end.
    end: watch::Sender<bool>,
    /// Answered when the socket is closed.
    closed: oneshot::Receiver<()>,
}

/// What connections are served with.
#[derive(Clone)]
pub struct Site {
    /// What the routes answer from.
    pub state: Arc<AdminState>,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// Who is in.
    pub connections: Connections,
}

// === impl Reserved ===

impl Reserved {
    /// Reserves an address; `ours` are those that are open.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn new(address: SocketAddr, ours: &[SocketAddr]) -> io::Result<Self> {
        fault::io("admin::bind")?;
        Ok(Self { address, socket: net::reserve::reserve(address, ours)? })
    }

    /// The address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, and serves whoever comes.
    ///
    /// # Errors
    /// Not in practice: the address is bound.
    pub fn listen(self, site: Site, thread: &ArbiterHandle) -> io::Result<Listening> {
        fault::io("admin::listen")?;
        let Self { address, socket } = self;
        // What it accepts must not keep the port from whoever binds it next.
        socket.set_reuse_address(true)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let retired = Arc::new(AtomicBool::new(false));
        let (end, ended) = watch::channel(false);
        let (done, closed) = oneshot::channel();
        let for_them = Arc::clone(&retired);
        let spawned = thread.spawn_fn(move || {
            actix_web::rt::spawn(async move {
                let served = async {
                    let listener = TcpListener::from_std(socket.into())?;
                    attend(&listener, ended, site, &for_them).await
                };
                if let Err(error) = served.await {
                    tracing::error!(%address, %error, "the admin API's listener ended");
                }
                // Whether anybody waits for it is theirs to know.
                let _ = done.send(());
            });
        });
        if spawned {
            Ok(Listening { retired, end, closed })
        } else {
            Err(io::Error::other("the API's thread is gone"))
        }
    }
}

// === impl Listening ===

impl Listening {
    /// Whether it takes callers.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.end.is_closed()
    }

    /// Closes it; with `has_heir`, because another listener takes its place. The future ends when the address is free.
    pub fn close(self, has_heir: bool) -> impl Future<Output = ()> + Send + use<> {
        self.retired.store(true, Ordering::SeqCst);
        let Self { retired: _, end, closed } = self;
        end.send_replace(has_heir);
        async move {
            // An error: the thread is gone, and the socket with it.
            let _ = closed.await;
        }
    }
}

/// Takes callers until it is told to end.
async fn attend(
    listener: &TcpListener,
    mut ended: watch::Receiver<bool>,
    site: Site,
    retired: &Arc<AtomicBool>,
) -> io::Result<()> {
    let (state, gate) = (web::Data::from(Arc::clone(&site.state)), web::Data::from(Arc::clone(&site.gate)));
    let app =
        App::new().app_data(state).app_data(gate).wrap(from_fn(guard::guard)).configure(routes::configure);
    let app = app.into_factory().map_err(|error: actix_web::Error| error.error_response());
    let factory = HttpService::build()
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_WITHIN)
        .client_disconnect_timeout(DISCONNECT_WITHIN)
        .on_connect_ext(|stream: &Stream, extensions: &mut Extensions| {
            extensions.insert(Arc::clone(stream.connection()));
        })
        .h1(map_config(app, |()| AppConfig::default()));
    let made = factory.new_service(()).await;
    let service = Rc::new(made.map_err(|()| io::Error::other("the routes cannot be made"))?);
    let serve = |stream: TcpStream, peer: SocketAddr| {
        // As it is now: who is accepted under an old certificate has it to the end of his connection.
        let tls = site.gate.rules().tls.as_ref().map(|tls| Arc::clone(&tls.server));
        let connection = Connection::new(peer, tls, Arc::clone(retired));
        let Some(seat) = site.connections.admit(connection) else { return };
        let service = Rc::clone(&service);
        actix_web::rt::spawn(async move {
            let served = async {
                let Some(stream) = shake_hands(stream, &seat).await else { return };
                // How it ends is the caller's doing: a reset, a timeout.
                let _ = service.call((stream, Some(peer))).await;
            };
            tokio::select! {
                () = served => {}
                () = seat.revoked() => {}
            }
        });
    };
    loop {
        let accepted = tokio::select! {
            biased;
            _ = ended.changed() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => serve(stream, peer),
            Err(error) => {
                tracing::warn!(%error, "the admin API could not accept a connection");
                // Nobody tells when there are descriptors again; without a pause this would be a busy loop.
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
    // Who waits in the queue came while it was open.
    let has_heir = *ended.borrow();
    net::handover::last_callers(listener, has_heir, serve).await;
    Ok(())
}

/// TLS, where it is on. `None` if it does not come about in time.
async fn shake_hands(stream: TcpStream, seat: &Seat) -> Option<Stream> {
    // Answers are small and wanted at once; it fails for a connection that is gone.
    let _ = stream.set_nodelay(true);
    let connection = Arc::clone(seat.connection());
    let io = match &connection.tls {
        None => Io::Plain(stream),
        Some(tls) => {
            let shaken = TlsAcceptor::from(Arc::clone(tls)).accept(stream);
            Io::Tls(Box::new(tokio::time::timeout(HANDSHAKE_WITHIN, shaken).await.ok()?.ok()?))
        }
    };
    Some(Stream::new(io, connection))
}
