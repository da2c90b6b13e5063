//! A connection that holds something for as long as it lives: threads, an endpoint.

use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

/// The muxer `M`, and what is let go of after it.
#[derive(Debug)]
pub(crate) struct Holding<M, H> {
    muxer: M,
    // After the muxer, which may need it to its end.
    _held: H,
}

// === impl Holding ===

impl<M, H> Holding<M, H> {
    pub(crate) const fn new(muxer: M, held: H) -> Self {
        Self { muxer, _held: held }
    }
}

impl<M: StreamMuxer + Unpin, H: Unpin> StreamMuxer for Holding<M, H> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.muxer).poll_inbound(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.muxer).poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        Pin::new(&mut self.muxer).poll(cx)
    }
}
