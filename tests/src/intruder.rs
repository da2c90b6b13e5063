//! A peer that does as it likes: it shakes hands as it must (TCP, Noise, Yamux), and from there on sends whatever bytes it is
//! told, with its own yamux frames.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::upgrade::OutboundConnectionUpgrade as _;
use libp2p::{noise, tcp};
use multistream_select::{Negotiated, Version, dialer_select_proto};
use tokio::net::{TcpSocket, TcpStream};

type Channel = Negotiated<noise::Output<Negotiated<tcp::tokio::TcpStream>>>;

/// Yamux's kinds of frames (yamux spec, "Type field").
pub mod kind {
    /// Bytes of a stream.
    pub const DATA: u8 = 0;
    /// More of them are allowed.
    pub const WINDOW: u8 = 1;
    /// The connection ends.
    pub const GO_AWAY: u8 = 3;
}

/// Yamux's flags (yamux spec, "Flag field").
pub mod flag {
    /// A stream begins.
    pub const SYN: u16 = 1;
    /// No more bytes come.
    pub const FIN: u16 = 4;
}

/// See the module.
#[derive(Debug)]
pub struct Intruder {
    write: WriteHalf<Channel>,
    read: ReadHalf<Channel>,
    next: u32,
}

/// A TCP connection from this address, which may be any of the machine's own.
///
/// # Errors
/// If the node does not take it.
pub async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As attackers do: what is written goes out at once.
    socket.set_nodelay(true)?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// A protocol's name as multistream frames it: its length, then the name and a line feed.
#[must_use]
pub fn multistream(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len() + 1).expect("names in tests are short");
    [&[length], name.as_bytes(), b"\n"].concat()
}

// === impl Intruder ===

impl Intruder {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// If the node refuses or hangs up on the way.
    pub async fn connect(from: IpAddr, to: SocketAddr, identity: &net::Identity) -> io::Result<Self> {
        let socket = tcp::tokio::TcpStream(connect(from, to).await?);
        let noise = noise::Config::new(&identity.keypair()).map_err(io::Error::other)?;
        let (name, socket) =
            dialer_select_proto(socket, ["/noise"], Version::V1).await.map_err(io::Error::other)?;
        let (_, secure) = noise.upgrade_outbound(socket, name).await.map_err(io::Error::other)?;
        let (_, channel) =
            dialer_select_proto(secure, ["/yamux/1.0.0"], Version::V1).await.map_err(io::Error::other)?;
        let (read, write) = channel.split();
        Ok(Self { write, read, next: 1 })
    }

    /// Sends a yamux frame, whatever sense it makes.
    ///
    /// # Errors
    /// If the node has hung up.
    pub async fn frame(
        &mut self,
        kind: u8,
        flags: u16,
        stream: u32,
        length: u32,
        body: &[u8],
    ) -> io::Result<()> {
        let header =
            [&[0, kind][..], &flags.to_be_bytes(), &stream.to_be_bytes(), &length.to_be_bytes()].concat();
        self.raw(&[&header[..], body].concat()).await
    }

    /// Sends bytes where a frame is due.
    ///
    /// # Errors
    /// If the node has hung up.
    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await?;
        self.write.flush().await
    }

    /// Opens a stream with these bytes; gives its number.
    ///
    /// # Errors
    /// If the node has hung up.
    pub async fn open(&mut self, bytes: &[u8]) -> io::Result<u32> {
        let stream = self.next;
        self.next += 2;
        self.frame(kind::DATA, flag::SYN, stream, bytes.len() as u32, bytes).await?;
        Ok(stream)
    }

    /// Opens a stream of a protocol and says this on it, without waiting for consent.
    ///
    /// # Errors
    /// If the node has hung up.
    pub async fn speak(&mut self, protocol: &str, bytes: &[u8]) -> io::Result<u32> {
        self.open(&[&multistream("/multistream/1.0.0")[..], &multistream(protocol), bytes].concat()).await
    }

    /// Sends more bytes on a stream.
    ///
    /// # Errors
    /// If the node has hung up.
    pub async fn more(&mut self, stream: u32, bytes: &[u8]) -> io::Result<()> {
        self.frame(kind::DATA, 0, stream, bytes.len() as u32, bytes).await
    }

    /// Ends this side of a stream.
    ///
    /// # Errors
    /// If the node has hung up.
    pub async fn finish(&mut self, stream: u32) -> io::Result<()> {
        self.frame(kind::DATA, flag::FIN, stream, 0, &[]).await
    }

    /// Reads and forgets, until the node hangs up.
    pub async fn hung_up(&mut self) {
        let mut buffer = [0; 4096];
        while self.read.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    }

    /// Reads until the node has said something; false if it hangs up first.
    pub async fn hears(&mut self) -> bool {
        self.read.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0)
    }
}
