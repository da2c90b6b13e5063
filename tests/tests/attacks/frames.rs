//! Bytes that are no frames, or frames that say what is not so, on every layer that a peer reaches after its handshake.

use std::net::SocketAddr;

use fednode_tests::Intruder;
use fednode_tests::intruder::{flag, kind};
use net::Identity;
use net::wire::Frame;

use crate::arena::{Arena, loopback};

async fn stranger(to: SocketAddr) -> Intruder {
    Intruder::connect(loopback(2), to, &Identity::generate()).await.expect("all may come")
}

/// A length of 2^64 - 1, as a varint.
const ENDLESS: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];

/// What is no direct message, and whether the node counts it against the peer.
fn direct_frames() -> Vec<(&'static str, Vec<u8>, bool)> {
    let hello = Frame::Hello { session: 7 }.encode();
    let after = |rest: &[u8]| [&hello[..], rest].concat();
    vec![
        ("a message of 4 GiB", after(&[2, 0xff, 0xff, 0xff, 0xff]), true),
        ("a message of 65 MiB", after(&[2, 0x04, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), true),
        ("no kind", after(&[0, 0, 0, 0, 0]), true),
        ("an unknown kind", after(&[0xff; 5]), true),
        ("a length of u64::MAX", ENDLESS.to_vec(), true),
        ("a hello that is too long", vec![1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0], true),
        ("a message before the hello", vec![2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0], true),
        ("an ack where messages are due", after(&[3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0]), true),
        ("two hellos", after(&hello), true),
        ("a content type beyond the message", after(&[2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 255]), true),
        ("a content type of control bytes", after(&[2, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 1, 7]), true),
        ("bytes after the message", after(&[2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 9, 9, 9, 9, 9]), true),
        ("half a header", after(&[2, 0, 0]), false),
        ("half a message", after(&[2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 5]), false),
    ]
}

#[tokio::test]
async fn frames_of_direct_messages_that_are_none() {
    let arena = Arena::open().await;
    let to = arena.address();
    let protocol = net::direct::PROTOCOL;
    for (what, bytes, counts) in direct_frames() {
        let broken = |log: &str| log.matches("a peer broke the rules of direct messages").count();
        let before = broken(&arena.target().log());
        let mut stranger = stranger(to).await;
        let stream = stranger.speak(protocol.as_ref(), &bytes).await.expect("it may");
        stranger.finish(stream).await.expect("it may");
        if counts {
            fednode_tests::eventually(&format!("{what} is noted"), async || {
                (broken(&arena.target().log()) > before).then_some(())
            })
            .await;
        } else {
            assert!(stranger.hears().await, "{what}");
        }
    }
    // Once for each of a few is told, a thousand times is not.
    let mut stranger = stranger(to).await;
    for _ in 0..1000 {
        let Ok(stream) = stranger.speak(protocol.as_ref(), &[0xff; 5]).await else { break };
        let _ = stranger.finish(stream).await;
    }
    drop(stranger);
    arena.survives("frames that are none").await;
}

/// A message of identify (libp2p specs, "identify") with this many addresses and protocols, and its length before it.
fn identify(addresses: usize, protocols: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for n in 0..addresses {
        // Field 2: /ip4/10.x.y.z/tcp/1.
        let [_, x, y, z] = (n as u32).to_be_bytes();
        body.extend([0x12, 8, 4, 10, x, y, z, 6, 0, 1]);
    }
    for n in 0..protocols {
        let name = format!("/a/{n}");
        body.extend([0x1a, u8::try_from(name.len()).expect("short")]);
        body.extend(name.as_bytes());
    }
    let mut framed = Vec::new();
    let mut length = body.len();
    while length >= 0x80 {
        framed.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    framed.push(length as u8);
    [framed, body].concat()
}

#[tokio::test]
async fn identify_messages_without_measure() {
    let arena = Arena::open().await;
    let to = arena.address();
    let pushes = [
        identify(0, 0),
        identify(400, 0),
        identify(0, 500),
        identify(10_000, 0),
        identify(0, 10_000),
        ENDLESS.to_vec(),
        vec![0xff; 400],
        identify(3, 3)[..20].to_vec(),
        [identify(1, 1), vec![9; 1000]].concat(),
        // Lengths of fields that go beyond the message.
        vec![4, 0x12, 0xff, 0xff, 0x7f],
        vec![12, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0],
    ];
    let mut strangers = Vec::new();
    for push in &pushes {
        let mut stranger = stranger(to).await;
        for _ in 0..20 {
            for protocol in ["/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"] {
                let stream = stranger.speak(protocol, push).await;
                if let Ok(stream) = stream {
                    let _ = stranger.finish(stream).await;
                }
            }
        }
        strangers.push(stranger);
    }
    arena.goes_on().await;
    drop(strangers);
    arena.survives("identify without measure").await;
}

#[tokio::test]
async fn frames_of_yamux_that_are_none() {
    let arena = Arena::open().await;
    let to = arena.address();
    let header = |version: u8, kind: u8, flags: u16, stream: u32, length: u32| {
        [&[version, kind][..], &flags.to_be_bytes(), &stream.to_be_bytes(), &length.to_be_bytes()].concat()
    };
    let frames = [
        ("another version", header(9, kind::DATA, 0, 1, 0)),
        ("an unknown kind", header(0, 77, 0, 1, 0)),
        ("4 GiB of data", header(0, kind::DATA, flag::SYN, 1, u32::MAX)),
        ("data beyond the window", [header(0, kind::DATA, flag::SYN, 1, 300_000), vec![0; 300_000]].concat()),
        ("a stream of the node's own numbers", header(0, kind::DATA, flag::SYN, 2, 0)),
        ("a stream of the number zero", header(0, kind::DATA, flag::SYN, 0, 0)),
        ("the same stream twice", header(0, kind::DATA, flag::SYN, 1, 0).repeat(2)),
        ("a window that overflows", header(0, kind::WINDOW, flag::SYN, 1, u32::MAX).repeat(2)),
        ("a pong to no ping", header(0, 2, 2, 0, 99)),
        ("an end for a reason that is none", header(0, kind::GO_AWAY, 0, 0, 99)),
        ("all bits", vec![0xff; 12]),
        ("half a header", header(0, kind::DATA, flag::SYN, 1, 0)[..7].to_vec()),
        ("less than announced", [header(0, kind::DATA, flag::SYN, 1, 1000), vec![0; 10]].concat()),
        ("a stream that never was", header(0, kind::DATA, 0, 4_000_000_001, 0)),
    ];
    for (what, bytes) in &frames {
        for _ in 0..5 {
            let mut stranger = stranger(to).await;
            // The node may hang up in the middle.
            let _ = stranger.raw(bytes).await;
        }
        assert!(arena.target().status().await["pid"].is_number(), "{what}");
    }
    arena.survives("frames of yamux that are none").await;
}
