//! Yamux (libp2p specs, "yamux"), with a bound on what one connection can make this node hold.
//!
//! What a peer sends on a stream that nobody reads stays in memory, up to the stream's window, and a peer that delays its
//! pongs makes the windows grow. libp2p's own upgrade leaves the bound at 1 GiB for each connection; this one sets it, and a
//! stranger gets less than a member.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::iter::{Once, once};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use yamux::{Connection, ConnectionError, DEFAULT_CREDIT, Mode, Stream};

/// What a peer may have open at once, in both directions together: a connection that goes beyond is closed (yamux).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    streams: usize,
    /// What all windows together may grow by, beyond the 256 KiB that each stream begins with (yamux spec, "Flow control").
    growth: usize,
}

/// Streams that have come and wait to be taken over; more are reset. The swarm takes them as fast as it is polled.
const WAITING: usize = 32;
/// Streams taken from the connection in one poll; then others have their turn.
const TURN: usize = 32;

/// The upgrade to a connection of streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Yamux(Allowance);

/// A connection of streams.
#[derive(Debug)]
pub(crate) struct Muxer<C> {
    connection: Connection<C>,
    /// What came while nobody asked: the connection makes no progress without giving out what comes.
    waiting: VecDeque<Stream>,
    /// Who asked for the next one.
    asked: Option<Waker>,
}

// === impl Allowance ===

impl Allowance {
    /// 256 streams, and at most 96 MiB: a link of 1 Gbit/s and 250 ms is full with a third of it.
    pub(crate) const MEMBER: Self = Self { streams: 256, growth: 32 * 1024 * 1024 };
    /// 32 streams, and at most 8 MiB. Enough for all protocols that a stranger is answered on; its windows do not grow.
    pub(crate) const STRANGER: Self = Self { streams: 32, growth: 0 };

    /// The most bytes that a connection holds unread.
    const fn window(self) -> usize {
        self.streams.saturating_mul(DEFAULT_CREDIT as usize).saturating_add(self.growth)
    }

    fn config(self) -> yamux::Config {
        let mut config = yamux::Config::default();
        // The larger one of the two first: yamux checks them against one another at every step.
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(self.streams);
        config.set_max_connection_receive_window(Some(self.window()));
        config
    }
}

// === impl Yamux ===

impl Yamux {
    pub(crate) fn new(allowance: Allowance) -> Self {
        Self(allowance)
    }
}

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(Connection::new(socket, self.0.config(), Mode::Server))))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(Connection::new(socket, self.0.config(), Mode::Client))))
    }
}

// === impl Muxer ===

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(connection: Connection<C>) -> Self {
        Self { connection, waiting: VecDeque::new(), asked: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        self.connection
            .poll_next_inbound(cx)
            .map(|next| next.unwrap_or(Err(ConnectionError::Closed)).map_err(to_io))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.poll_next(cx);
        if next.is_pending() {
            self.asked = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        self.connection.poll_new_outbound(cx).map_err(to_io)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_close(cx).map_err(to_io)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        for _ in 0..TURN {
            let Poll::Ready(stream) = self.poll_next(cx)? else { return Poll::Pending };
            if self.waiting.len() < WAITING {
                self.waiting.push_back(stream);
            } else {
                tracing::debug!("a peer opens streams faster than they are taken over: one was reset");
            }
            if let Some(asked) = self.asked.take() {
                asked.wake();
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn to_io(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_connection_can_hold_is_bounded() {
        for (allowance, most) in [(Allowance::MEMBER, 96), (Allowance::STRANGER, 8)] {
            assert_eq!(allowance.window(), most * 1024 * 1024);
            let config = format!("{:?}", allowance.config());
            let window = format!("max_connection_receive_window: Some({})", allowance.window());
            let streams = format!("max_num_streams: {}", allowance.streams);
            assert!(config.contains(&window) && config.contains(&streams), "{config}");
        }
    }
}
