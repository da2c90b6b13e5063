//! Services: streams between real sockets through real swarms, and how they end.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::ConnectedService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::*;
use crate::services_pair::*;

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
async fn as_many_readers_that_stand_still_as_there_may_be_hold_up_nobody() {
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let (pair, port) = Pair::over(address(listen)).await.serving(Does::Stall).await;
        let (full, mut filled) = tokio::sync::mpsc::channel(32);
        for _ in 0..32 {
            let full = full.clone();
            actix::spawn(async move {
                let chunk = vec![0; 64 * 1024];
                loop {
                    let mut socket = dial(port).await;
                    // Until nothing moves any more. Whoever is not answered in time, on a busy machine, is closed, and calls again.
                    let ended = loop {
                        match tokio::time::timeout(Duration::from_secs(1), socket.write(&chunk)).await {
                            Ok(Ok(_)) => {}
                            Ok(Err(_)) => break true,
                            Err(_) => break false,
                        }
                    };
                    if !ended {
                        full.send(()).await.unwrap();
                        std::future::pending::<()>().await;
                    }
                }
            });
        }
        for _ in 0..32 {
            soon("a stream is full", filled.recv()).await;
        }
        for _ in 0..20 {
            pair.nodes[1].send(&pair.nodes[0], &[0; 256 * 1024]).await.unwrap();
            pair.nodes[0].send(&pair.nodes[1], b"still there").await.unwrap();
        }
    }
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
            // A counter, which wakes nobody.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    nodes[0].reload_with(|section| section.members = Arc::clone(&all)).await;
    nodes[1].reload_with(|section| section.members = all).await;
    assert_eq!(heard.await.unwrap(), "there");
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
    let mut moved = Instant::now();
    for _ in 0..20 {
        is_alive(&mut busy).await;
        // A machine that held this test up for longer than a stream may be silent has said nothing about the node.
        let was_held_up = moved.elapsed() > Duration::from_millis(900);
        assert!(was_held_up || !drained.is_finished(), "something moves");
        if was_held_up {
            break;
        }
        moved = Instant::now();
        // Between two pieces: something moves, and not all the time.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(busy);
    soon("the rest is idle", drained).await.unwrap();
    pair.nodes[1].shut_down().await;
    assert_eq!(read_all(&mut idle).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
