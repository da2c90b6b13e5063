//! Data between a local socket and a stream, both ways, until both ends were said or one side broke.

use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;

use super::meter::Seat;
use super::wire::{self, Chunks, HEAD, Piece, ServiceError};

/// What a stream reads into while little flows: an idle tunnel holds no more.
const SMALL: usize = 2 * 1024;
/// What it reads into while much flows.
const LARGE: usize = 64 * 1024;
/// So long, and so much, a client may go on sending that is told that there is no service: closed at once, what it has sent
/// would turn the close into a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// Why a tunnel broke.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// The local end was reset, or failed.
    #[error("the local connection broke: {0}")]
    Local(io::Error),
    /// The peer reset it, or the connection to the peer is gone.
    #[error("the peer's end broke")]
    Remote,
    /// The peer did what may not be.
    #[error(transparent)]
    Rules(#[from] ServiceError),
}

/// A buffer that grows when it is filled, and shrinks when it is not.
#[derive(Debug)]
struct Buffer(Vec<u8>);

// === impl Buffer ===

impl Buffer {
    fn new() -> Self {
        Self(vec![0; SMALL])
    }

    /// So much of `room` was used.
    fn used(&mut self, read: usize, room: usize) {
        if read == room && self.0.len() == SMALL {
            self.0 = vec![0; LARGE];
        } else if read < SMALL / 2 && self.0.len() == LARGE {
            self.0 = vec![0; SMALL];
        }
    }
}

/// From here on, the socket is reset when it is dropped, until it has ended well: whatever ends a tunnel (an error, the
/// connection, the node) must not look like the end of its data.
pub(super) fn arm(socket: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    // One that has gone without a word is found out some time; nothing else ends an idle tunnel.
    socket.set_keepalive(true)?;
    socket.set_linger(Some(Duration::ZERO))
}

/// Carries data both ways until both sides have said that they have no more.
///
/// # Errors
/// If either side breaks. Then both are to be dropped: the socket is reset with it, the stream is at an end that was not said.
pub(super) async fn pump<S>(socket: TcpStream, stream: S, seat: &Seat) -> Result<(), Cut>
where
    S: AsyncRead + AsyncWrite,
{
    arm(&socket).map_err(Cut::Local)?;
    let (mut reader, mut writer) = stream.split();
    let (said, heard) = (AtomicBool::new(false), AtomicBool::new(false));
    let is_over = || said.load(Ordering::Relaxed) && heard.load(Ordering::Relaxed);
    {
        let mut outgoing = pin!(async {
            outgoing(&socket, &mut writer, seat).await?;
            said.store(true, Ordering::Relaxed);
            // Nothing more is read from the socket: its end would go unseen while the other direction has a pause.
            let ready = socket.ready(Interest::ERROR).await;
            Err::<(), _>(Cut::Local(match ready.and_then(|_| socket.take_error()) {
                Ok(error) => error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
                Err(error) => error,
            }))
        });
        let mut incoming = pin!(async {
            incoming(&socket, &mut reader, seat).await?;
            heard.store(true, Ordering::Relaxed);
            // A peer that has heard this side's end as well closes the stream; one that has not, broke off.
            match reader.read(&mut [0; 1]).await {
                Ok(1..) => Err(Cut::Rules(ServiceError::AfterEnd)),
                _ if said.load(Ordering::Relaxed) => Ok(()),
                _ => Err(Cut::Remote),
            }
        });
        let mut is_closed = false;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(Err(cut)) = outgoing.as_mut().poll(cx) {
                return Poll::Ready(Err(cut));
            }
            if !is_closed && let Poll::Ready(closed) = incoming.as_mut().poll(cx) {
                is_closed = true;
                closed?;
            }
            if is_over() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await?;
    }
    SockRef::from(&socket).set_linger(None).map_err(Cut::Local)?;
    // The peer has said its end: whether it still hears this close is all the same.
    let _ = tokio::time::timeout(LINGER, writer.close()).await;
    Ok(())
}

/// What the socket sends, to the stream.
async fn outgoing<W: AsyncWrite + Unpin>(socket: &TcpStream, writer: &mut W, seat: &Seat) -> Result<(), Cut> {
    let mut buffer = Buffer::new();
    loop {
        let room = buffer.0.len() - HEAD;
        let read = match socket.try_read(&mut buffer.0[HEAD..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                writer.flush().await.map_err(|_| Cut::Remote)?;
                socket.readable().await.map_err(Cut::Local)?;
                continue;
            }
            Err(error) => return Err(Cut::Local(error)),
        };
        buffer.0[..HEAD].copy_from_slice(&wire::head(read));
        writer.write_all(&buffer.0[..HEAD + read]).await.map_err(|_| Cut::Remote)?;
        if read == 0 {
            return writer.flush().await.map_err(|_| Cut::Remote);
        }
        seat.sent(read);
        buffer.used(read, room);
        consume_budget().await;
    }
}

/// What the stream brings, to the socket, whose sending half is shut when the peer has said its end.
async fn incoming<R: AsyncRead + Unpin>(socket: &TcpStream, reader: &mut R, seat: &Seat) -> Result<(), Cut> {
    let (mut buffer, mut chunks) = (Buffer::new(), Chunks::default());
    loop {
        let read = match reader.read(&mut buffer.0).await {
            Ok(0) | Err(_) => return Err(Cut::Remote),
            Ok(read) => read,
        };
        let mut bytes = &buffer.0[..read];
        let mut is_over = false;
        while let Some(piece) = chunks.next(&mut bytes)? {
            match piece {
                Piece::Data(data) => {
                    write_all(socket, data).await.map_err(Cut::Local)?;
                    seat.received(data.len());
                }
                Piece::End => is_over = true,
            }
        }
        if is_over {
            return SockRef::from(socket).shutdown(Shutdown::Write).map_err(Cut::Local);
        }
        let room = buffer.0.len();
        buffer.used(read, room);
        consume_budget().await;
    }
}

async fn write_all(socket: &TcpStream, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match socket.try_write(data) {
            Ok(written) => data = &data[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Closes a socket on which nothing was said, as `ssh -L` and socat do where they reach nobody: with a FIN. What its owner sends
/// meanwhile is read and thrown away, within bounds.
pub(super) async fn close_politely(socket: TcpStream) {
    if SockRef::from(&socket).shutdown(Shutdown::Write).is_err() {
        return;
    }
    let drain = async {
        let (mut buffer, mut left) = (vec![0; SMALL], LINGER_BYTES);
        while left > 0 && socket.readable().await.is_ok() {
            match socket.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    };
    // Whoever does not close by then is not waited for.
    let _ = tokio::time::timeout(LINGER, drain).await;
}
