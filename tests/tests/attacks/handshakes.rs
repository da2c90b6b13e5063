//! Sockets that never get through their handshake.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fednode_tests::intruder::{connect, multistream};
use fednode_tests::{Spec, eventually};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::arena::{Arena, loopback, quick};
use crate::namespaces::Namespace;

/// So many sockets that say nothing, spread over some loopback addresses. Those that are refused at once do not count less.
async fn silent(to: SocketAddr, count: usize, addresses: u8) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    for n in 0..count {
        let from = loopback(1 + u8::try_from(n % usize::from(addresses)).expect("few"));
        sockets.push(connect(from, to).await.expect("the kernel takes it"));
    }
    sockets
}

fn held(sockets: &[TcpStream]) -> usize {
    let is_held = |socket: &&TcpStream| {
        socket.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    sockets.iter().filter(is_held).count()
}

async fn end_of(mut socket: TcpStream) {
    let mut rest = [0; 1024];
    while socket.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

/// The sockets are held by the attacker until members have come through.
async fn members_get_in_through(addresses: u8, what: &str) {
    let mut arena = Arena::with(|conf| {
        // None of the silent ones ends by itself meanwhile.
        conf["peers"]["connection_timeout"] = json!("10m");
    })
    .await;
    let sockets = silent(arena.address(), 1000, addresses).await;
    arena.goes_on().await;
    arena.restart_a_member().await;
    arena.goes_on().await;
    // `pending_incoming`.
    eventually("the others were hung up on", async || (held(&sockets) <= 64).then_some(())).await;
    drop(sockets);
    arena.survives(what).await;
}

#[tokio::test]
async fn a_thousand_sockets_that_say_nothing() {
    members_get_in_through(1, "1,000 silent sockets of one address").await;
}

#[tokio::test]
async fn a_thousand_sockets_of_many_addresses_that_say_nothing() {
    members_get_in_through(50, "1,000 silent sockets of 50 addresses").await;
}

#[tokio::test]
async fn a_thousand_sockets_from_another_machine_that_say_nothing() {
    let Some(network) = Namespace::new() else { return };
    // All members are over there, known by keys alone; who attacks is here.
    let mut specs = Spec::federation(3);
    for spec in &mut specs {
        quick(&mut spec.conf);
        spec.conf["peers"]["connection_timeout"] = json!("10m");
    }
    let to = SocketAddr::new(network.there().parse().expect("an address"), specs[2].port.number());
    specs[2].conf["network"]["addresses"] = json!([format!("/ip4/{}/tcp/{}", to.ip(), to.port())]);
    let addresses = specs[2].conf["network"]["addresses"].clone();
    for spec in &mut specs {
        spec.peers["peers"][2]["addresses"] = addresses.clone();
    }
    let specs = specs.into_iter().map(|spec| spec.wrapped(&network.inside())).collect();
    let mut arena = Arena::of(specs).await;
    let from = network.here().parse().expect("an address");
    let mut sockets = Vec::new();
    for _ in 0..1000 {
        sockets.push(connect(from, to).await.expect("the kernel takes it"));
    }
    arena.restart_a_member().await;
    arena.goes_on().await;
    eventually("one address has its share", async || (held(&sockets) <= 16).then_some(())).await;
    drop(sockets);
    arena.survives("1,000 silent sockets of another machine").await;
}

/// Says this, one byte a second after the first part, and returns when the node has hung up.
async fn drip(from: IpAddr, to: SocketAddr, at_once: &[u8], slowly: &[u8]) -> Duration {
    let began = Instant::now();
    let socket = connect(from, to).await.expect("the kernel takes it");
    let (mut read, mut write) = socket.into_split();
    write.write_all(at_once).await.expect("the node listens");
    let dripping = async {
        let mut pace = tokio::time::interval(Duration::from_secs(1));
        for byte in slowly {
            pace.tick().await;
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    let hearing = async {
        let mut rest = [0; 1024];
        while read.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        () = dripping => {}
        () = hearing => {}
    }
    began.elapsed()
}

#[tokio::test]
async fn handshakes_byte_by_byte() {
    let timeout = Duration::from_secs(2);
    let arena = Arena::with(|conf| conf["peers"]["connection_timeout"] = json!("2s")).await;
    let to = arena.address();
    let greeting = [multistream("/multistream/1.0.0"), multistream("/noise")].concat();
    // A frame of Noise: two bytes of length, 32 of key.
    let noise = [&[0, 32][..], &[7; 32]].concat();
    let mut slow = Vec::new();
    for n in 0..10 {
        for (at_once, slowly) in
            [(&[][..], &greeting[..]), (&greeting, &noise), (&greeting[..25], &[]), (&[], &[])]
        {
            slow.push(drip(loopback(n + 1), to, at_once, slowly));
        }
    }
    let lived = futures::future::join_all(slow).await;
    assert!(
        lived.iter().all(|lived| *lived >= timeout),
        "cut at `connection_timeout`, not before: {lived:?}"
    );
    arena.survives("slow handshakes").await;
}

#[tokio::test]
async fn openings_that_are_no_handshake() {
    let arena = Arena::open().await;
    let to = arena.address();
    let header = multistream("/multistream/1.0.0");
    let huge = [&header[..], &[0xff; 9], &[1]].concat();
    let endless = [&header[..], &[0xff; 600]].concat();
    let long = [&header[..], &[0xff, 0xff, 0x03], &[b'x'; 70_000]].concat();
    let noise = [&header[..], &multistream("/noise"), &[0xff, 0xff], &[0; 100]].concat();
    let low_order = [&header[..], &multistream("/noise"), &[0, 32], &[0; 32]].concat();
    let names = [&header[..], &multistream("/ls").repeat(20_000)].concat();
    let openings: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0; 4096],
        // A length of u64::MAX, one that never ends, one over the 16 KiB that a name may have.
        &huge,
        &endless,
        &long,
        // More is announced than comes; a key of zeroes; twenty thousand questions.
        &noise,
        &low_order,
        &names,
    ];
    for opening in openings {
        for _ in 0..10 {
            let mut socket = connect(loopback(1), to).await.expect("the kernel takes it");
            // The node may hang up in the middle.
            let _ = socket.write_all(opening).await;
            let _ = socket.shutdown().await;
            end_of(socket).await;
        }
    }
    arena.survives("openings that are no handshake").await;
}
