//! Services: streams between real sockets through real swarms, and what reloads do to them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::{ConnectedService, ExposedService, Protocol, ProtocolSection};
use reload::{Ack, Reconfigure, Step, Transaction};
use storage::PeerKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;

/// What a service of a test does with a connection.
#[derive(Clone, Copy, Debug)]
enum Does {
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
async fn service(does: Does) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    actix::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            actix::spawn(attend(socket, does));
        }
    });
    address
}

async fn attend(mut socket: TcpStream, does: Does) -> io::Result<()> {
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
static GREETED: std::sync::LazyLock<tokio::sync::watch::Sender<usize>> = std::sync::LazyLock::new(|| {
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
fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

fn exposed(name: &str, target: SocketAddr, allow: Option<Vec<PeerKey>>) -> ExposedService {
    ExposedService { name: name.to_owned(), target: target.to_string(), allow }
}

fn listen(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The first node exposes, the second connects.
struct Pair {
    nodes: Vec<Node>,
    sections: [ProtocolSection; 2],
    transactions: [Transaction; 2],
}

// === impl Pair ===

impl Pair {
    async fn new() -> Self {
        let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
        mesh(&mut nodes).await;
        let sections = [protocol_section(), protocol_section()];
        Self { nodes, sections, transactions: [Transaction::NONE; 2] }
    }

    /// With one service of this kind; gives the local port where it is reached.
    async fn with(does: Does) -> (Self, u16) {
        let (mut pair, target) = (Self::new().await, service(does).await);
        pair.change(0, |section| section.expose = vec![exposed("it", target, None)]).await.unwrap();
        let port = free_port();
        pair.connect("it", port).await;
        (pair, port)
    }

    async fn connect(&mut self, name: &str, port: u16) {
        let peer = self.nodes[0].key;
        let service = ConnectedService { name: name.to_owned(), peer, listen: listen(port) };
        self.change(1, |section| section.connect.push(service)).await.unwrap();
    }

    async fn step(&self, node: usize, step: Step<ProtocolSection>) -> Ack {
        let message = Reconfigure::new(self.transactions[node], step);
        soon("a step", self.nodes[node].protocol.send(message)).await.expect("the actor lives")
    }

    /// Prepare, of the section that is changed so.
    async fn prepare(&mut self, node: usize, next: &ProtocolSection) -> Ack {
        self.transactions[node] = self.transactions[node].next();
        self.step(node, Step::Prepare(Arc::new(next.clone()), Instant::now() + NEVER)).await
    }

    async fn change(&mut self, node: usize, change: impl FnOnce(&mut ProtocolSection)) -> Ack {
        let mut next = self.sections[node].clone();
        change(&mut next);
        self.prepare(node, &next).await?;
        for step in [Step::Commit, Step::Probe, Step::Finish] {
            self.step(node, step).await?;
        }
        self.sections[node] = next;
        Ok(())
    }

    fn open(&self) -> (u64, u64) {
        let open = |node: &Node| node.services.by_name().values().map(|metered| metered.open).sum();
        (open(&self.nodes[0]), open(&self.nodes[1]))
    }

    async fn all_closed(&self) {
        soon("all streams end", async {
            while self.open() != (0, 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

async fn dial(port: u16) -> TcpStream {
    TcpStream::connect(listen(port)).await.unwrap()
}

async fn read_all(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    soon("the end of a connection", socket.read_to_end(&mut all)).await.map(|_| all)
}

/// What is said on a new connection that says nothing itself.
async fn hears(port: u16) -> String {
    String::from_utf8(read_all(&mut dial(port).await).await.unwrap()).unwrap()
}

/// Sends this and its own end, and hears the rest.
async fn asks(port: u16, question: &[u8]) -> Vec<u8> {
    let mut socket = dial(port).await;
    socket.write_all(question).await.unwrap();
    socket.shutdown().await.unwrap();
    read_all(&mut socket).await.unwrap()
}

/// Exchanges a byte with an echo.
async fn is_alive(socket: &mut TcpStream) {
    socket.write_all(b"?").await.unwrap();
    let mut answer = [0; 1];
    soon("an echo", socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"?");
}

#[actix::test]
async fn either_side_may_end_first_and_the_other_goes_on() {
    // The client ends first, the server answers after that.
    let (pair, port) = Pair::with(Does::Count).await;
    let data = vec![7; 3 << 20];
    assert_eq!(asks(port, &data).await, b"3145728");
    assert_eq!(asks(port, b"").await, b"0");
    pair.all_closed().await;
    // The server ends first, the client goes on.
    let (pair, port) = Pair::with(Does::Greet).await;
    let mut greeted = GREETED.subscribe();
    let mut socket = dial(port).await;
    assert_eq!(read_all(&mut socket).await.unwrap(), b"hello");
    socket.write_all(&data).await.unwrap();
    drop(socket);
    soon("what came after the end", greeted.wait_for(|count| *count == data.len())).await.unwrap();
    pair.all_closed().await;
}

#[actix::test]
async fn what_goes_through_is_what_comes_out_many_at_a_time() {
    let (pair, port) = Pair::with(Does::Echo).await;
    let talks = (0..60u8).map(|number| async move {
        let data: Vec<u8> = (0..200_000u32).map(|n| (n as u8).wrapping_mul(number)).collect();
        let (mut reader, mut writer) = dial(port).await.into_split();
        let sent = data.clone();
        let sender = actix::spawn(async move {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut echoed = Vec::new();
        soon("the echo", reader.read_to_end(&mut echoed)).await.unwrap();
        assert!(echoed == data);
        sender.await.unwrap();
    });
    futures::future::join_all(talks).await;
    pair.all_closed().await;
    let metered = pair.nodes[1].services.connected(&pair.sections[1].connect[0]);
    assert_eq!((metered.sent, metered.received), (12_000_000, 12_000_000));
}

#[actix::test]
async fn a_reset_is_a_reset_at_the_other_end() {
    // Of the server.
    let (pair, port) = Pair::with(Does::Reset).await;
    let mut socket = dial(port).await;
    socket.write_all(b"x").await.unwrap();
    assert_eq!(read_all(&mut socket).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    // Also where the client has said its end: half of an answer is not a whole one.
    let mut socket = dial(port).await;
    socket.write_all(b"x").await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(read_all(&mut socket).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    pair.all_closed().await;

    // Of the client, before and after its end.
    for says_end in [false, true] {
        let mut pair = Pair::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        pair.change(0, |section| section.expose = vec![exposed("it", target, None)]).await.unwrap();
        let port = free_port();
        pair.connect("it", port).await;
        let mut socket = dial(port).await;
        let (mut server, _) = soon("the target is called", listener.accept()).await.unwrap();
        socket.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0; 1]).await.unwrap();
        if says_end {
            socket.shutdown().await.unwrap();
            assert_eq!(soon("the end", server.read(&mut [0; 1])).await.unwrap(), 0);
        }
        reset(socket);
        if says_end {
            // Nothing is to be read any more: the reset shows when the server writes, or right away in the socket.
            soon("the reset", server.ready(tokio::io::Interest::ERROR)).await.unwrap();
            assert_eq!(server.take_error().unwrap().unwrap().kind(), io::ErrorKind::BrokenPipe);
        } else {
            let error = read_all(&mut server).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        pair.all_closed().await;
    }
}

#[actix::test]
async fn a_connection_that_is_lost_is_a_reset_also_where_the_client_has_said_its_end() {
    let (mut pair, port) = Pair::with(Does::Stall).await;
    let mut socket = dial(port).await;
    let mut hello = [0; 5];
    soon("the greeting", socket.read_exact(&mut hello)).await.unwrap();
    socket.shutdown().await.unwrap();
    // The member is removed: its connection goes, and its streams with it.
    pair.nodes[0].reload_with(|section| section.members = Arc::default()).await;
    assert_eq!(read_all(&mut socket).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    pair.all_closed().await;
}

#[actix::test]
async fn a_reader_that_stands_still_makes_the_sender_stand_still() {
    let (pair, port) = Pair::with(Does::Stall).await;
    let mut socket = dial(port).await;
    let chunk = vec![0; 64 * 1024];
    let mut sent = 0usize;
    // Sockets' and streams' windows fill up; then nothing moves for as long as nobody reads.
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), socket.write(&chunk)).await {
        sent += written.unwrap();
        assert!(sent < 64 << 20, "more than all windows and buffers together");
    }
    // The others on the connection do not notice.
    pair.nodes[1].send(&pair.nodes[0], b"still there").await.unwrap();
    drop(socket);
}

#[actix::test]
async fn whoever_may_not_or_cannot_is_closed_cleanly_and_told_in_the_log() {
    capture_log();
    let mut pair = Pair::new().await;
    let (there, stranger) = (service(Does::Name("there")).await, Node::start(network_section()).key);
    let gone = listen(free_port());
    let allowed = pair.nodes[1].key;
    pair.change(0, |section| {
        section.expose = vec![
            exposed("refused-mine", there, Some(vec![allowed])),
            exposed("refused-others", there, Some(vec![stranger])),
            exposed("refused-gone", gone, None),
        ];
    })
    .await
    .unwrap();
    for (name, answer, why) in [
        ("refused-mine", "there", None),
        ("refused-others", "", Some("does not allow")),
        ("refused-gone", "", Some("target does not answer")),
        ("refused-unknown", "", Some("does not expose")),
    ] {
        let port = free_port();
        pair.connect(name, port).await;
        assert_eq!(hears(port).await, answer, "{name}");
        if let Some(why) = why {
            // With something on its way, too: not a reset.
            assert_eq!(asks(port, &[0; 100_000]).await, b"", "{name}");
            assert!(logged(&["a local connection to a service was closed", name, why]) > 0, "{name}");
            assert!(logged(&["a stream to a service was refused", name]) > 0, "{name}");
        }
    }
    // The target comes up.
    let listener = TcpListener::bind(gone).await.unwrap();
    actix::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            actix::spawn(attend(socket, Does::Name("up")));
        }
    });
    let port = pair.sections[1].connect[2].listen.port();
    assert_eq!(hears(port).await, "up");
    // A member that is not connected: the local connection waits a while, then it is closed as cleanly.
    pair.nodes[0].shut_down().await;
    soon("the loss", pair.nodes[1].view.when(|view| view.connection_count() == 0)).await;
    assert_eq!(hears(port).await, "");
    assert!(logged(&["a local connection to a service was closed", "not connected"]) > 0);
}

#[actix::test]
async fn a_local_connection_waits_for_its_member() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    let all = members(&nodes);
    let target = service(Does::Name("there")).await;
    let expose = vec![exposed("it", target, None)];
    nodes[0].reload_protocol(1, |section| section.expose = expose).await;
    let port = free_port();
    let connect = ConnectedService { name: "it".to_owned(), peer: nodes[0].key, listen: listen(port) };
    nodes[1].reload_protocol(1, |section| section.connect = vec![connect]).await;
    let heard = actix::spawn(hears(port));
    // It is there before its member is.
    soon("the call", async {
        while nodes[1].services.by_name()["it"].open == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    nodes[0].reload_with(|section| section.members = Arc::clone(&all)).await;
    nodes[1].reload_with(|section| section.members = all).await;
    assert_eq!(heard.await.unwrap(), "there");
}

#[actix::test]
async fn open_streams_go_on_under_what_they_began_with() {
    let (mut pair, port) = Pair::with(Does::Echo).await;
    let (other, name) = (free_port(), service(Does::Name("another")).await);
    let mut old = dial(port).await;
    is_alive(&mut old).await;

    // Another target: new streams follow.
    pair.change(0, |section| section.expose = vec![exposed("it", name, None)]).await.unwrap();
    assert_eq!(hears(port).await, "another");
    is_alive(&mut old).await;
    // Not exposed any more, then exposed under another name, to which the listener that stays leads.
    pair.change(0, |section| section.expose.clear()).await.unwrap();
    assert_eq!(hears(port).await, "");
    pair.change(0, |section| section.expose = vec![exposed("that", name, None)]).await.unwrap();
    pair.change(1, |section| section.connect[0].name = "that".to_owned()).await.unwrap();
    assert_eq!(hears(port).await, "another");
    is_alive(&mut old).await;
    // Another port.
    pair.change(1, |section| section.connect[0].listen = listen(other)).await.unwrap();
    assert!(refuses(port), "closed when the reload is done");
    assert_eq!(hears(other).await, "another");
    is_alive(&mut old).await;
    // Nobody is allowed any more, nothing is connected.
    pair.change(0, |section| section.expose[0].allow = Some(Vec::new())).await.unwrap();
    assert_eq!(hears(other).await, "");
    pair.change(1, |section| section.connect.clear()).await.unwrap();
    assert!(refuses(other));
    is_alive(&mut old).await;
    // A successor of each actor.
    for node in 0..2 {
        let (section, post) = (Arc::new(pair.sections[node].clone()), pair.nodes[node].post.clone());
        let topics = pair.nodes[node].topics.clone();
        let successor = Protocol::start(section, post, &pair.nodes[node].services, topics);
        pair.nodes[node].protocol = successor;
        pair.transactions[node] = Transaction::NONE;
    }
    is_alive(&mut old).await;
    assert_eq!(pair.open(), (1, 1));
    old.shutdown().await.unwrap();
    assert_eq!(read_all(&mut old).await.unwrap(), b"");
    pair.all_closed().await;
}

#[actix::test]
async fn a_rollback_leaves_services_and_listeners_as_they_were() {
    let (mut pair, port) = Pair::with(Does::Name("first")).await;
    let (second, other) = (service(Does::Name("second")).await, free_port());
    let mut next = pair.sections[0].clone();
    next.expose = vec![exposed("it", second, None)];
    pair.prepare(0, &next).await.unwrap();
    assert_eq!(hears(port).await, "first", "prepared is not committed");
    pair.step(0, Step::Commit).await.unwrap();
    assert_eq!(hears(port).await, "second");
    pair.step(0, Step::Rollback).await.unwrap();
    assert_eq!(hears(port).await, "first");

    let mut next = pair.sections[1].clone();
    next.connect[0].listen = listen(other);
    pair.prepare(1, &next).await.unwrap();
    assert!(refuses(other), "reserved, and not listened on");
    TcpListener::bind(listen(other)).await.unwrap_err();
    pair.step(1, Step::Commit).await.unwrap();
    assert_eq!(hears(other).await, "first");
    // Whoever comes to the old door meanwhile waits, and is served after the way back.
    let waits = actix::spawn(hears(port));
    let mut early = dial(port).await;
    pair.step(1, Step::Rollback).await.unwrap();
    assert_eq!(read_all(&mut early).await.unwrap(), b"first");
    assert_eq!(waits.await.unwrap(), "first");
    assert!(refuses(other));
    assert_eq!(hears(port).await, "first");
}

#[actix::test]
async fn two_listeners_swap_their_services_and_a_port_its_address() {
    let mut pair = Pair::new().await;
    let (a, b) = (service(Does::Name("a")).await, service(Does::Name("b")).await);
    pair.change(0, |section| section.expose = vec![exposed("a", a, None), exposed("b", b, None)])
        .await
        .unwrap();
    let (one, two) = (free_port(), free_port());
    pair.connect("a", one).await;
    pair.connect("b", two).await;
    assert_eq!((hears(one).await, hears(two).await), ("a".to_owned(), "b".to_owned()));
    pair.change(1, |section| {
        section.connect[0].listen = listen(two);
        section.connect[1].listen = listen(one);
    })
    .await
    .unwrap();
    assert_eq!((hears(one).await, hears(two).await), ("b".to_owned(), "a".to_owned()));
    // To the wildcard and back, on the same port, with callers all the time: none is lost.
    let caller = actix::spawn(async move {
        let mut calls = 0;
        while calls < 400 {
            assert_eq!(hears(two).await, "a");
            calls += 1;
        }
    });
    for number in 0..6 {
        let address = if number % 2 == 0 { ([0, 0, 0, 0], two).into() } else { listen(two) };
        pair.change(1, |section| section.connect[0].listen = address).await.unwrap();
        let elsewhere = std::net::TcpStream::connect(("127.0.0.2", two));
        assert_eq!(
            elsewhere.is_ok(),
            number % 2 == 0,
            "only the wildcard is reached on every loopback address"
        );
    }
    caller.await.unwrap();
}

#[actix::test]
async fn a_port_that_is_taken_is_refused_with_its_key_and_what_runs_runs_on() {
    let (mut pair, port) = Pair::with(Does::Name("it")).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let peer = pair.nodes[0].key;
    let service = ConnectedService { name: "it".to_owned(), peer, listen: address };
    let error = pair.change(1, |section| section.connect.push(service)).await.unwrap_err();
    assert_eq!(error.key.as_deref(), Some("protocol.services.connect[1].listen"));
    assert!(error.message.contains(&address.to_string()) && error.hint.is_some(), "{error:?}");
    assert_eq!(error.class, reload::Class::System);
    pair.step(1, Step::Rollback).await.unwrap();
    assert_eq!(hears(port).await, "it");
}

#[actix::test]
async fn a_stop_waits_for_what_moves_and_cuts_what_does_not() {
    let (pair, port) = Pair::with(Does::Echo).await;
    let (mut idle, mut busy) = (dial(port).await, dial(port).await);
    is_alive(&mut idle).await;
    is_alive(&mut busy).await;
    let services = pair.nodes[1].services.clone();
    let drained = actix::spawn(async move { services.drain(NEVER).await });
    soon("the door is shut", async {
        while !refuses(port) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..20 {
        is_alive(&mut busy).await;
        assert!(!drained.is_finished(), "something moves");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(busy);
    soon("the rest is idle", drained).await.unwrap();
    pair.nodes[1].shut_down().await;
    assert_eq!(read_all(&mut idle).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
