//! QUIC endpoints that outlive their listeners.
//!
//! A QUIC connection that came in lives on the UDP socket of the listener that it came in by, and libp2p closes it when that
//! listener is removed. So this transport stands between the swarm and libp2p's: a listener that the swarm removes is gone for
//! the swarm at once, and with that for identify and for everybody who asks; its endpoint is *retired*. It turns newcomers
//! away before they cost a handshake, and is closed when the last connection on it has ended. A listener at the address of an
//! endpoint that is there, retired or not, takes it over, because the system would refuse a second socket.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId, Transport};

use super::closed::Closed;
use super::keep::{Connections, Keep};
use super::thread::Thread;
use crate::holding::Holding;
use crate::{Endpoint, Held, View};

/// Newcomers at retired endpoints that are turned away in one poll; then others get their turn.
const TURN: usize = 64;

/// See the module. `T` is a transport whose inbound connections end with their listener.
pub(crate) struct Retiring<T: Transport> {
    inner: T,
    endpoints: Vec<Open>,
    closed: Closed,
    /// What the swarm is to hear of, at most one for each address of a listener that it has opened or removed since its last
    /// poll.
    news: VecDeque<News<T::Error>>,
    /// Woken when a connection ends.
    waker: Arc<AtomicWaker>,
    view: View,
    /// What the view has.
    shown: Vec<Figures>,
}

/// An endpoint, its connections, whether it is retired, and since when it is closed.
type Figures = (Endpoint, usize, bool, Option<Instant>);

/// An endpoint that is open.
struct Open {
    /// Its name for the transport below, which is that of the first listener that it had.
    id: ListenerId,
    endpoint: Endpoint,
    /// What drives its socket. With it goes whatever is left of the connections.
    _thread: Thread,
    /// The swarm's listeners on it, the newest last; retired if there are none.
    listeners: Vec<ListenerId>,
    /// Where it can be reached, as the transport below says.
    addresses: Vec<Multiaddr>,
    /// Those that came in, from their first packet on.
    connections: Connections,
    /// Since then.
    closing: Option<Instant>,
}

/// What the swarm is told about a listener.
enum News<E> {
    Reached(ListenerId, Multiaddr),
    Expired(ListenerId, Multiaddr),
    Closed(ListenerId, Result<(), E>),
}

/// A connection, which holds its endpoint open if it came in.
type Counted<M> = Holding<M, Option<Keep>>;

// === impl Open ===

impl Open {
    fn figures(&self) -> Figures {
        (self.endpoint, self.connections.count(), self.is_retired(), self.closing)
    }

    fn is_retired(&self) -> bool {
        self.listeners.is_empty()
    }
}

// === impl Retiring ===

impl<T: Transport> Retiring<T> {
    pub(crate) fn new(inner: T, view: View) -> Self {
        Self {
            inner,
            endpoints: Vec::new(),
            closed: Closed::default(),
            news: VecDeque::new(),
            waker: Arc::default(),
            view,
            shown: Vec::new(),
        }
    }

    /// Brings the endpoints into the view, if it does not have them so.
    fn show(&mut self) {
        let closed = self.closed.iter().map(|(endpoint, since)| (endpoint, 0, true, Some(since)));
        if self.endpoints.iter().map(Open::figures).chain(closed.clone()).eq(self.shown.iter().copied()) {
            return;
        }
        self.shown = self.endpoints.iter().map(Open::figures).chain(closed).collect();
        let held = self.shown.iter().enumerate().map(|(index, &(endpoint, connections, retired, closed))| {
            let keeper = self.endpoints.get(index).map(|open| open.connections.clone());
            Held { endpoint, connections, retired, closed, keeper }
        });
        self.view.set_endpoints(held.collect());
    }

    /// Closes the retired endpoints that nobody needs any more.
    fn close_empty(&mut self) {
        for open in &mut self.endpoints {
            if open.is_retired() && open.closing.is_none() && open.connections.count() == 0 {
                open.closing = Some(Instant::now());
                self.inner.remove_listener(open.id);
                tracing::debug!(address = %open.endpoint.to_multiaddr(), "QUIC endpoint closed");
            }
        }
    }

    fn open(&mut self, id: ListenerId) -> Option<&mut Open> {
        self.endpoints.iter_mut().find(|open| open.id == id)
    }

    /// What the swarm hears of an event of the transport below; `None` is nothing, or news.
    fn translate<M>(&mut self, event: TransportEvent<T::ListenerUpgrade, T::Error>) -> Option<Event<T, M>>
    where
        T: Transport<Output = (PeerId, M)>,
        T::ListenerUpgrade: Send + 'static,
    {
        match event {
            TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr } => {
                let open = self.open(listener_id)?;
                let Some(listener_id) = open.listeners.last().copied() else {
                    tracing::debug!(
                        address = %local_addr, from = %send_back_addr,
                        "connection refused: the listener was removed, and its endpoint stays for those that it has"
                    );
                    return None;
                };
                let keep = open.connections.keep();
                let upgrade = async move {
                    let (peer, muxer) = upgrade.await?;
                    Ok((peer, Holding::new(muxer, Some(keep))))
                };
                let upgrade = upgrade.boxed();
                Some(TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr })
            }
            TransportEvent::NewAddress { listener_id, listen_addr } => {
                let open = self.open(listener_id)?;
                open.addresses.push(listen_addr.clone());
                let listeners = open.listeners.clone();
                self.news.extend(listeners.into_iter().map(|id| News::Reached(id, listen_addr.clone())));
                None
            }
            TransportEvent::AddressExpired { listener_id, listen_addr } => {
                let open = self.open(listener_id)?;
                open.addresses.retain(|address| *address != listen_addr);
                let listeners = open.listeners.clone();
                self.news.extend(listeners.into_iter().map(|id| News::Expired(id, listen_addr.clone())));
                None
            }
            TransportEvent::ListenerClosed { listener_id, reason } => {
                let index = self.endpoints.iter().position(|open| open.id == listener_id)?;
                let open = self.endpoints.remove(index);
                self.closed.push(open.endpoint);
                let mut reason = Some(reason);
                // The newest hears why.
                let closed = |id: &ListenerId| News::Closed(*id, reason.take().unwrap_or(Ok(())));
                self.news.extend(open.listeners.iter().rev().map(closed));
                None
            }
            TransportEvent::ListenerError { listener_id, error } => {
                let listener_id = self.open(listener_id)?.listeners.last().copied()?;
                Some(TransportEvent::ListenerError { listener_id, error })
            }
        }
    }
}

type Upgrade<T, M> = BoxFuture<'static, Result<(PeerId, Counted<M>), <T as Transport>::Error>>;
type Event<T, M> = TransportEvent<Upgrade<T, M>, <T as Transport>::Error>;

impl<T, M> Transport for Retiring<T>
where
    T: Transport<Output = (PeerId, M)> + Unpin,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Error: Send + Unpin,
    M: 'static,
{
    type Output = (PeerId, Counted<M>);
    type Error = T::Error;
    type ListenerUpgrade = Upgrade<T, M>;
    type Dial = Upgrade<T, M>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        let Some(endpoint) = Endpoint::of(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let is_it = |open: &&mut Open| {
            open.endpoint == endpoint && endpoint.address.port() != 0 && open.closing.is_none()
        };
        if let Some(open) = self.endpoints.iter_mut().find(is_it) {
            open.listeners.push(id);
            self.news.extend(open.addresses.iter().map(|address| News::Reached(id, address.clone())));
        } else {
            self.closed.set_runtime();
            let thread = Thread::start();
            {
                let _entered = thread.enter();
                self.inner.listen_on(id, address)?;
            }
            self.closed.taken(&endpoint);
            self.endpoints.push(Open {
                id,
                endpoint,
                _thread: thread,
                listeners: vec![id],
                addresses: Vec::new(),
                connections: Connections::new(Arc::clone(&self.waker)),
                closing: None,
            });
        }
        self.waker.wake();
        self.show();
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(open) = self.endpoints.iter_mut().find(|open| open.listeners.contains(&id)) else {
            return false;
        };
        open.listeners.retain(|listener| *listener != id);
        // What it was about to be told has come to nothing.
        self.news.retain(|news| !matches!(news, News::Reached(of, _) | News::Expired(of, _) if *of == id));
        self.news.push_back(News::Closed(id, Ok(())));
        self.close_empty();
        self.waker.wake();
        self.show();
        true
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<T::Error>> {
        let dial = self.inner.dial(address, options)?;
        let dial = dial.map(|dialled| dialled.map(|(peer, muxer)| (peer, Holding::new(muxer, None))));
        Ok(dial.boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event<T, M>> {
        let this = &mut *self;
        this.waker.register(cx.waker());
        this.close_empty();
        this.closed.poll(cx);
        this.show();
        for _ in 0..TURN {
            if let Some(news) = this.news.pop_front() {
                return Poll::Ready(match news {
                    News::Reached(listener_id, listen_addr) => {
                        TransportEvent::NewAddress { listener_id, listen_addr }
                    }
                    News::Expired(listener_id, listen_addr) => {
                        TransportEvent::AddressExpired { listener_id, listen_addr }
                    }
                    News::Closed(listener_id, reason) => {
                        TransportEvent::ListenerClosed { listener_id, reason }
                    }
                });
            }
            let Poll::Ready(event) = Pin::new(&mut this.inner).poll(cx) else {
                // What has been closed in this turn is to be watched.
                this.closed.poll(cx);
                this.show();
                return Poll::Pending;
            };
            if let Some(event) = this.translate(event) {
                return Poll::Ready(event);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
