//! A connection that closes in bounded time.
//!
//! Yamux says goodbye to the peer, and waits until everything before it is written. A peer that is gone, or stands still,
//! with its window full lets nothing be written: the connection would stay established until the kernel gives up after a
//! quarter of an hour, or for ever, and a member that stays connected is not dialled.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{MapOk, TryFutureExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use tokio::time::Sleep;

/// What is not written by then is not waited for. A peer that is there takes a round trip.
const PATIENCE: Duration = Duration::from_secs(2);

/// The upgrade `U`, to a muxer that closes in bounded time.
#[derive(Clone, Debug)]
pub(crate) struct Brief<U>(pub(crate) U);

/// The muxer `M`, but closed in bounded time.
#[derive(Debug)]
pub(crate) struct BriefMuxer<M> {
    muxer: M,
    /// Since the close began.
    patience: Option<Pin<Box<Sleep>>>,
}

// === impl Brief ===

impl<U: UpgradeInfo> UpgradeInfo for Brief<U> {
    type Info = U::Info;
    type InfoIter = U::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C, U: InboundConnectionUpgrade<C>> InboundConnectionUpgrade<C> for Brief<U> {
    type Output = BriefMuxer<U::Output>;
    type Error = U::Error;
    type Future = MapOk<U::Future, fn(U::Output) -> Self::Output>;

    fn upgrade_inbound(self, stream: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(stream, info).map_ok(BriefMuxer::new as fn(_) -> _)
    }
}

impl<C, U: OutboundConnectionUpgrade<C>> OutboundConnectionUpgrade<C> for Brief<U> {
    type Output = BriefMuxer<U::Output>;
    type Error = U::Error;
    type Future = MapOk<U::Future, fn(U::Output) -> Self::Output>;

    fn upgrade_outbound(self, stream: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(stream, info).map_ok(BriefMuxer::new as fn(_) -> _)
    }
}

// === impl BriefMuxer ===

impl<M> BriefMuxer<M> {
    fn new(muxer: M) -> Self {
        Self { muxer, patience: None }
    }
}

impl<M> StreamMuxer for BriefMuxer<M>
where
    M: StreamMuxer + Unpin,
    M::Error: Send + Sync + 'static,
{
    type Substream = M::Substream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        Pin::new(&mut self.muxer).poll_inbound(cx).map_err(io::Error::other)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        Pin::new(&mut self.muxer).poll_outbound(cx).map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.muxer).poll_close(cx) {
            return Poll::Ready(closed.map_err(io::Error::other));
        }
        // A bound, not a wait: whoever does not hear the close is not waited for any longer.
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        patience.poll_unpin(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.muxer).poll(cx).map_err(io::Error::other)
    }
}
