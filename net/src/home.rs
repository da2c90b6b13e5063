//! A connection keeps the threads that it began on.
//!
//! The socket of a connection is driven by the runtime that it was accepted or dialled under, its tasks run on the workers in
//! office when they are spawned: the handshake's at once, the connection's own when the handshake is over. If the workers
//! change in between, nothing but this keeps the first ones from ending under the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport};

use crate::holding::Holding;
use crate::pool::{Pool, Workers};

/// For so long whatever is left is done at the least: one turn of each task is enough.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A QUIC connection that was closed says so in a packet, and hears what was still on its way to it, for three times its probe
/// timeout (RFC 9000, 10.2): 3 s where no round trip was ever measured, longer where the peer had stood still for a while. That is the
/// work of its driver, a task of its own which nobody can wait for. Its workers are kept for so long, also where they are out of
/// office: a driver that ends before leaves its connection in the endpoint's books while anybody holds one of its streams, and the port
/// taken. No longer, because workers that are out of office cost threads and descriptors.
const DRAINED: Duration = Duration::from_secs(10);

/// The transport `T`, whose connections keep the workers that were in office when they began.
pub(crate) struct Homed<T> {
    inner: T,
    pool: Pool,
}

/// A share of the workers.
pub(crate) struct Home {
    workers: Arc<Workers>,
    pool: Pool,
    over_quic: bool,
}

// === impl Home ===

impl Home {
    fn of(pool: &Pool, over_quic: bool) -> Self {
        Self { workers: pool.workers(), pool: pool.clone(), over_quic }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let most = if self.over_quic { DRAINED } else { LAST_WORDS };
        self.pool.keep(&self.workers, LAST_WORDS, most);
    }
}

// === impl Homed ===

impl<T> Homed<T> {
    pub(crate) fn new(inner: T, pool: Pool) -> Self {
        Self { inner, pool }
    }
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::QuicV1))
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
        let home = Home::of(&self.pool, is_quic(&address));
        Ok(at_home(self.inner.dial(address, options)?, home))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, T::Error>> {
        let event = Pin::new(&mut self.inner).poll(cx);
        let over_quic =
            matches!(&event, Poll::Ready(TransportEvent::Incoming { local_addr, .. }) if is_quic(local_addr));
        event.map(|event| event.map_upgrade(|handshake| at_home(handshake, Home::of(&self.pool, over_quic))))
    }
}
