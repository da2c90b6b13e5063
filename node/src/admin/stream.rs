//! The bytes of one TCP connection, plain or through TLS; one whose reader has stopped reading comes to an end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::connections::Connection;

/// How long a reader may take nothing of what there is for it.
const STALLED: Duration = Duration::from_secs(30);

/// A connection's bytes.
pub(super) struct Stream {
    io: Io,
    connection: Arc<Connection>,
    /// When a write that waits has waited too long.
    deadline: Pin<Box<Sleep>>,
    waits: bool,
}

/// The two kinds.
pub(super) enum Io {
    /// As they are.
    Plain(TcpStream),
    /// Through TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

// === impl Stream ===

impl Stream {
    /// The stream of this connection.
    #[must_use]
    pub(super) fn new(io: Io, connection: Arc<Connection>) -> Self {
        Self { io, connection, deadline: Box::pin(sleep(STALLED)), waits: false }
    }

    /// The connection.
    #[must_use]
    pub(super) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn io(&mut self) -> Pin<&mut (dyn Duplex + 'static)> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io),
            Io::Tls(io) => Pin::new(&mut **io),
        }
    }

    /// Notes whether a write waits, and ends it when it has waited too long.
    fn watched<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.connection.set_unwritten(polled.is_pending());
        if polled.is_ready() {
            self.waits = false;
            return polled;
        }
        if !self.waits {
            self.waits = true;
            self.deadline.as_mut().reset(Instant::now() + STALLED);
        }
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Both directions.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.io().poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.io().poll_write(cx, buf);
        self.watched(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.io().poll_flush(cx);
        self.watched(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}
