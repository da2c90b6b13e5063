//! Local listeners of connected services.
//!
//! A door is reserved in `Prepare` (bound, not listening), opened in `Commit`, and shut in `Finish`. Between the last two, one
//! that the new configuration does not have any more lets callers wait where the kernel keeps them: a rollback finds the door
//! as it was.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use reload::StepError;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::line::Route;
use super::{Inner, Services};
use crate::hush::Kind;
use crate::{Endpoint, pool::Pool};

/// Callers that the kernel keeps until they are taken; what `listen` is usually asked for.
const BACKLOG: i32 = 1024;
/// After an error of the machine (no descriptors), a pause: the same would come again at once.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// An address that nobody else can take; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(super) listen: SocketAddr,
    socket: Socket,
}

/// A listener.
#[derive(Debug)]
pub(crate) struct Door {
    pub(super) listen: SocketAddr,
    orders: watch::Sender<Order>,
    /// Answered when the socket is closed.
    shut: oneshot::Receiver<()>,
}

#[derive(Clone, Debug)]
enum Order {
    /// Callers wait.
    Wait,
    /// They are led there.
    Lead(Arc<Route>),
    /// The end; those who wait go there, if anywhere.
    Shut(Option<Arc<Route>>),
}

/// Whether two listeners cannot be told apart by the kernel without a word from both: equal ports, and one address within the
/// other.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    Endpoint::tcp(one).overlaps(&Endpoint::tcp(other))
}

// === impl Reserved ===

impl Reserved {
    /// Reserves an address; `ours` are the addresses of doors that are open, or reserved in the same breath.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(super) fn new(listen: SocketAddr, ours: &[SocketAddr]) -> Result<Self, StepError> {
        let reserve = || {
            if !ours.iter().any(|own| overlap(*own, listen)) {
                // Refused if anybody listens there, whatever they share.
                bind(listen, Sharing { in_time: true, side_by_side: false })?;
            }
            // A wildcard and an address of one port can be open side by side while one takes the other's place. Whoever binds
            // in the usual way is kept out, unless connections of an earlier life are still there.
            bind(listen, Sharing { in_time: false, side_by_side: true }).or_else(|error| match error.kind() {
                io::ErrorKind::AddrInUse => bind(listen, Sharing { in_time: true, side_by_side: true }),
                _ => Err(error),
            })
        };
        reserve().map(|socket| Self { listen, socket }).map_err(|error| refusal(listen, &error))
    }

    /// Listens. Callers wait until they are led somewhere.
    ///
    /// # Errors
    /// Not in practice: the address is bound.
    pub(super) fn open(self, services: &Services, pool: &Pool) -> Result<Door, StepError> {
        let Self { listen, socket } = self;
        let refused = |error: io::Error| refusal(listen, &error);
        // What it accepts must not keep the port from whoever binds it next.
        socket.set_reuse_address(true).map_err(refused)?;
        socket.listen(BACKLOG).map_err(refused)?;
        socket.set_nonblocking(true).map_err(refused)?;
        let listener = {
            let _entered = pool.io().enter();
            TcpListener::from_std(socket.into()).map_err(refused)?
        };
        let (orders, order) = watch::channel(Order::Wait);
        let (done, shut) = oneshot::channel();
        let services = Arc::downgrade(&services.0);
        pool.spawn_for_good(async move {
            attend(&listener, order, &services).await;
            drop(listener);
            // Whether anybody waits for it is theirs to know.
            let _ = done.send(());
        });
        Ok(Door { listen, orders, shut })
    }
}

/// With whom a socket shares its port.
#[derive(Clone, Copy, Debug)]
struct Sharing {
    /// `SO_REUSEADDR`: with connections in TIME_WAIT, and with others of the kind that do not listen.
    in_time: bool,
    /// `SO_REUSEPORT`: with others of the kind and the same user.
    side_by_side: bool,
}

fn bind(listen: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    if listen.is_ipv6() {
        // `[::]:P` is IPv6 alone, as everywhere in this node.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(sharing.in_time)?;
    socket.set_reuse_port(sharing.side_by_side)?;
    socket.bind(&listen.into())?;
    Ok(socket)
}

fn refusal(listen: SocketAddr, error: &io::Error) -> StepError {
    let (message, hint) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            format!("{listen} is in use by another process, or by another listener of this node"),
            format!(
                "choose another port, or stop what holds this one (`ss -lnp 'sport = :{}'` names it); a port that this node \
                 itself frees in the same change is free for the next one",
                listen.port()
            ),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("{} is on no interface of this machine", listen.ip()),
            "`ip address` lists the addresses of this machine".to_owned(),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("{listen} needs a privilege that this process does not have"),
            "choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE".to_owned(),
        ),
        _ => (format!("{listen} cannot be listened on: {error}"), "choose another address".to_owned()),
    };
    StepError::of_io(message, error).hint(hint)
}

// === impl Door ===

impl Door {
    /// Leads callers there from now on; nowhere: they wait.
    pub(super) fn lead(&self, route: Option<Arc<Route>>) {
        self.orders.send_replace(route.map_or(Order::Wait, Order::Lead));
    }

    /// Where callers are led.
    pub(super) fn route(&self) -> Option<Arc<Route>> {
        match &*self.orders.borrow() {
            Order::Lead(route) => Some(Arc::clone(route)),
            Order::Wait | Order::Shut(_) => None,
        }
    }

    /// Whether the listener is there.
    pub(super) fn is_open(&self) -> bool {
        !self.orders.is_closed()
    }

    /// Shuts it. Who waits is led to the heir, or reset. The future ends when the socket is closed.
    pub(super) fn shut(self, heir: Option<Arc<Route>>) -> impl Future<Output = ()> + Send + use<> {
        self.orders.send_replace(Order::Shut(heir));
        let Self { orders, shut, .. } = self;
        async move {
            // An error: the thread of listening sockets is gone, and the socket with it.
            let _ = shut.await;
            drop(orders);
        }
    }
}

/// Takes callers, as it is told.
async fn attend(listener: &TcpListener, mut orders: watch::Receiver<Order>, services: &Weak<Inner>) {
    loop {
        let order = orders.borrow_and_update().clone();
        match order {
            Order::Wait => {
                if orders.changed().await.is_err() {
                    return;
                }
            }
            Order::Lead(route) => {
                let accepted = tokio::select! {
                    biased;
                    changed = orders.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        continue;
                    }
                    accepted = listener.accept() => accepted,
                };
                let Some(services) = services.upgrade().map(Services) else { return };
                match accepted {
                    Ok((socket, _)) => services.call(socket, &route),
                    Err(error) => {
                        if services.may_say(Kind::Service, None) {
                            let (service, listen) = (&route.service, route.listen);
                            tracing::warn!(%service, %listen, %error, "a service's listener could not accept");
                        }
                        // Nobody tells when there are descriptors again; without a pause this would be a busy loop.
                        tokio::time::sleep(AFTER_ERROR).await;
                    }
                }
            }
            Order::Shut(heir) => {
                let services = services.upgrade().map(Services);
                // Those who are there already came while the heir was open, too, and were not asked which they want.
                while let Some(Ok((socket, _))) = listener.accept().now_or_never() {
                    if let (Some(services), Some(route)) = (&services, &heir) {
                        services.call(socket, route);
                    }
                }
                return;
            }
        }
    }
}
