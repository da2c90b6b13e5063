//! A transport whose handshakes end in time, by the limit of the moment when they begin.
//!
//! libp2p's own `TransportTimeout` freezes its limit when the swarm is built. A peer that connects and says nothing holds
//! one of `network.limits.pending_incoming` until its time is up, so that limit has to follow `peers.connection_timeout`.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, Transport};

use crate::membership::LiveRules;

/// The transport `inner`, with a limit on each handshake in either direction, from the first byte to the muxer.
pub(crate) struct Timed<O> {
    inner: Boxed<O>,
    rules: LiveRules,
    doorstep: Doorstep,
}

/// Where the transport leaves the means to cut the handshake that has just come in, and who counts handshakes takes it: the
/// swarm asks for it in the same turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doorstep(Arc<Mutex<Option<AbortHandle>>>);

// === impl Doorstep ===

impl Doorstep {
    fn leave(&self, handle: AbortHandle) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }

    pub(crate) fn take(&self) -> Option<AbortHandle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

// === impl Timed ===

impl<O> Timed<O> {
    pub(crate) fn new(inner: Boxed<O>, rules: LiveRules, doorstep: Doorstep) -> Self {
        Self { inner, rules, doorstep }
    }
}

impl<O: Send + 'static> Transport for Timed<O> {
    type Output = O;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<O>>;
    type Dial = BoxFuture<'static, io::Result<O>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let limit = self.rules.load().dial_timeout(&address);
        Ok(within(limit, self.inner.dial(address, options)?))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let event = Pin::new(&mut self.inner).poll(cx);
        event.map(|event| {
            event.map_upgrade(|handshake| {
                let (handle, registration) = AbortHandle::new_pair();
                self.doorstep.leave(handle);
                let handshake = Abortable::new(handshake, registration).map(|ended| {
                    ended.unwrap_or_else(|_cut| Err(io::Error::other("made room for another handshake")))
                });
                within(self.rules.load().connection_timeout, handshake)
            })
        })
    }
}

/// The clock runs from now, not from when the future is first polled. It belongs to the runtime that the caller has entered:
/// the one that the handshake's socket belongs to.
fn within<O: 'static>(
    limit: Duration,
    handshake: impl Future<Output = io::Result<O>> + Send + 'static,
) -> BoxFuture<'static, io::Result<O>> {
    let handshake = tokio::time::timeout(limit, handshake);
    async move {
        handshake.await.unwrap_or_else(|_late| {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}")))
        })
    }
    .boxed()
}
