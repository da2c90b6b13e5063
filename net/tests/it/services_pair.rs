//! Two nodes of which one exposes what the other connects to, and local services of every kind.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use libp2p::Multiaddr;
use net::{ConnectedService, ExposedService, NetworkSection, Protocol, ProtocolSection};
use reload::{Ack, Reconfigure, Step, Transaction};
use storage::PeerKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;

/// What a service of a test does with a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    /// Sends back what comes, then closes.
    Echo,
    /// Says which one it is and its end, then reads to the other's.
    Name(&'static str),
    /// Reads to the end, then says how much it was.
    Count,
    /// Says something and its end, then counts what comes, into the void.
    Greet,
    /// Reads one byte, then resets.
    Reset,
    /// Says something, then nothing more, and reads nothing.
    Stall,
}

/// A local TCP service; ends with the test's runtime.
pub(crate) async fn service(does: Does) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    actix::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            actix::spawn(attend(socket, does));
        }
    });
    address
}

pub(crate) async fn attend(mut socket: TcpStream, does: Does) -> io::Result<()> {
    match does {
        Does::Echo => {
            let (mut reader, mut writer) = socket.split();
            tokio::io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await
        }
        Does::Name(name) => {
            socket.write_all(name.as_bytes()).await?;
            socket.shutdown().await?;
            drain(&mut socket).await.map(drop)
        }
        Does::Count => {
            let count = drain(&mut socket).await?;
            socket.write_all(count.to_string().as_bytes()).await
        }
        Does::Greet => {
            socket.write_all(b"hello").await?;
            socket.shutdown().await?;
            let count = drain(&mut socket).await?;
            GREETED.send_replace(count);
            Ok(())
        }
        Does::Reset => {
            socket.read_exact(&mut [0; 1]).await?;
            reset(socket);
            Ok(())
        }
        Does::Stall => {
            socket.write_all(b"hello").await?;
            std::future::pending().await
        }
    }
}

/// How much the last connection of [`Does::Greet`] got after its own end.
pub(crate) static GREETED: std::sync::LazyLock<tokio::sync::watch::Sender<usize>> =
    std::sync::LazyLock::new(|| {
        let (sender, _) = tokio::sync::watch::channel(0);
        sender
    });

async fn drain(socket: &mut TcpStream) -> io::Result<usize> {
    let (mut buffer, mut count) = (vec![0; 64 * 1024], 0);
    loop {
        match socket.read(&mut buffer).await? {
            0 => return Ok(count),
            read => count += read,
        }
    }
}

/// Drops a connection with a reset.
pub(crate) fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

pub(crate) fn exposed(name: &str, target: SocketAddr, allow: Option<Vec<PeerKey>>) -> ExposedService {
    ExposedService { name: name.to_owned(), target: target.to_string(), allow }
}

pub(crate) fn listen(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The first node exposes, the second connects.
pub(crate) struct Pair {
    pub(crate) nodes: Vec<Node>,
    pub(crate) sections: [ProtocolSection; 2],
    pub(crate) transactions: [Transaction; 2],
}

// === impl Pair ===

impl Pair {
    pub(crate) async fn new() -> Self {
        Self::over(any_port()).await
    }

    /// Connected by this transport.
    pub(crate) async fn over(listen: Multiaddr) -> Self {
        let section = NetworkSection { listen: vec![listen], ..network_section() };
        let mut nodes: Vec<_> = (0..2).map(|_| Node::start(section.clone())).collect();
        mesh(&mut nodes).await;
        let sections = [protocol_section(), protocol_section()];
        Self { nodes, sections, transactions: [Transaction::NONE; 2] }
    }

    /// With one service of this kind; gives the local port where it is reached.
    pub(crate) async fn with(does: Does) -> (Self, u16) {
        Self::new().await.serving(does).await
    }

    /// The same.
    pub(crate) async fn serving(self, does: Does) -> (Self, u16) {
        let (mut pair, target) = (self, service(does).await);
        pair.change(0, |section| section.expose = vec![exposed("it", target, None)]).await.unwrap();
        let port = free_port();
        pair.connect("it", port).await;
        (pair, port)
    }

    pub(crate) async fn connect(&mut self, name: &str, port: u16) {
        let peer = self.nodes[0].key;
        let service = ConnectedService { name: name.to_owned(), peer, listen: listen(port) };
        self.change(1, |section| section.connect.push(service)).await.unwrap();
    }

    /// Another actor takes office with this section; the one before is still the node's.
    pub(crate) fn successor(&self, node: usize, section: ProtocolSection) -> Addr<Protocol> {
        let Node { post, services, topics, .. } = &self.nodes[node];
        Protocol::start(Arc::new(section), post.clone(), services, topics.clone())
    }

    /// It becomes the node's.
    pub(crate) fn inaugurate(&mut self, node: usize, successor: Addr<Protocol>) {
        self.nodes[node].protocol = successor;
        self.transactions[node] = Transaction::NONE;
    }

    pub(crate) async fn step(&self, node: usize, step: Step<ProtocolSection>) -> Ack {
        let message = Reconfigure::new(self.transactions[node], step);
        soon("a step", self.nodes[node].protocol.send(message)).await.expect("the actor lives")
    }

    /// Prepare, of the section that is changed so.
    pub(crate) async fn prepare(&mut self, node: usize, next: &ProtocolSection) -> Ack {
        self.transactions[node] = self.transactions[node].next();
        self.step(node, Step::Prepare(Arc::new(next.clone()), Instant::now() + NEVER)).await
    }

    pub(crate) async fn change(&mut self, node: usize, change: impl FnOnce(&mut ProtocolSection)) -> Ack {
        let mut next = self.sections[node].clone();
        change(&mut next);
        self.prepare(node, &next).await?;
        for step in [Step::Commit, Step::Probe, Step::Finish] {
            self.step(node, step).await?;
        }
        self.sections[node] = next;
        Ok(())
    }

    pub(crate) fn open(&self) -> (u64, u64) {
        let open = |node: &Node| node.services.by_name().values().map(|metered| metered.open).sum();
        (open(&self.nodes[0]), open(&self.nodes[1]))
    }

    pub(crate) async fn all_closed(&self) {
        soon("all streams end", async {
            while self.open() != (0, 0) {
                // Counters, which wake nobody.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

pub(crate) async fn dial(port: u16) -> TcpStream {
    TcpStream::connect(listen(port)).await.unwrap()
}

pub(crate) async fn read_all(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    soon("the end of a connection", socket.read_to_end(&mut all)).await.map(|_| all)
}

/// What is said on a new connection that says nothing itself.
pub(crate) async fn hears(port: u16) -> String {
    String::from_utf8(read_all(&mut dial(port).await).await.unwrap()).unwrap()
}

/// Sends this and its own end, and hears the rest.
pub(crate) async fn asks(port: u16, question: &[u8]) -> Vec<u8> {
    let mut socket = dial(port).await;
    socket.write_all(question).await.unwrap();
    socket.shutdown().await.unwrap();
    read_all(&mut socket).await.unwrap()
}

/// Exchanges a byte with an echo.
pub(crate) async fn is_alive(socket: &mut TcpStream) {
    socket.write_all(b"?").await.unwrap();
    let mut answer = [0; 1];
    soon("an echo", socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"?");
}
