//! Local listeners of connected services.
//!
//! A door is reserved in `Prepare` (bound, not listening), opened in `Commit`, and shut in `Finish`. Between the last two, one
//! that the new configuration does not have any more lets callers wait where the kernel keeps them: a rollback finds the door
//! as it was.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use reload::StepError;
use socket2::Socket;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::line::Route;
use super::{Inner, Services};
use crate::handover::last_callers;
use crate::hush::Kind;
use crate::pool::Pool;
use crate::reserve::{refusal, reserve};

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

// === impl Reserved ===

impl Reserved {
    /// Reserves an address; `ours` are the addresses of doors that are open, or reserved in the same breath.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(super) fn new(listen: SocketAddr, ours: &[SocketAddr]) -> Result<Self, StepError> {
        reserve(listen, ours).map(|socket| Self { listen, socket }).map_err(|error| refusal(listen, &error))
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
                let take = |socket, _| {
                    if let (Some(services), Some(route)) = (&services, &heir) {
                        services.call(socket, route);
                    }
                };
                return last_callers(listener, heir.is_some(), take).await;
            }
        }
    }
}
