//! A connection keeps the threads that it began on.
//!
//! The socket of a connection is driven by the runtime that it was accepted or dialled under, its tasks run on the workers in
//! office when they are spawned: the handshake's at once, the connection's own when the handshake is over. If the workers
//! change in between, nothing but this keeps the first ones from ending under the connection.
//!
//! A dial is made where its future is polled, in a task that may be older than the workers in office: the names' transport asks for it
//! there, and the second address of a member is dialled a moment after the first. It is the task's workers that drive its socket.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId, Transport};

use crate::holding::Holding;
use crate::pool::{Pool, Workers};

/// For so long after a connection's end its tasks still have workers: one turn of each is enough to see the end. What QUIC says then is
/// a matter of its socket: [`quic::LAST_WORDS`](crate::quic::LAST_WORDS).
const LAST_TURNS: Duration = Duration::from_secs(1);

/// The transport `T`, whose connections keep the workers that were in office when they began.
pub(crate) struct Homed<T> {
    inner: T,
    pool: Pool,
}

/// A share of the workers.
pub(crate) struct Home {
    workers: Arc<Workers>,
}

// === impl Home ===

impl Home {
    fn of(pool: &Pool) -> Self {
        Self { workers: pool.here() }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.workers.linger(LAST_TURNS);
    }
}

// === impl Homed ===

impl<T> Homed<T> {
    pub(crate) fn new(inner: T, pool: Pool) -> Self {
        Self { inner, pool }
    }
}

/// A handshake that ends in a connection with its share.
type AtHome<M, E> = BoxFuture<'static, Result<(PeerId, Holding<M, Home>), E>>;

type Handshake<T, M> = AtHome<M, <T as Transport>::Error>;

fn at_home<M, E>(
    handshake: impl Future<Output = Result<(PeerId, M), E>> + Send + 'static,
    home: Home,
) -> AtHome<M, E> {
    async move {
        let (peer, muxer) = handshake.await?;
        Ok((peer, Holding::new(muxer, home)))
    }
    .boxed()
}

impl<T, M> Transport for Homed<T>
where
    T: Transport<Output = (PeerId, M)> + Unpin,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Error: Send,
    M: 'static,
{
    type Output = (PeerId, Holding<M, Home>);
    type Error = T::Error;
    type ListenerUpgrade = Handshake<T, M>;
    type Dial = Handshake<T, M>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<T::Error>> {
        let home = Home::of(&self.pool);
        Ok(at_home(self.inner.dial(address, options)?, home))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, T::Error>> {
        let event = Pin::new(&mut self.inner).poll(cx);
        event.map(|event| event.map_upgrade(|handshake| at_home(handshake, Home::of(&self.pool))))
    }
}
