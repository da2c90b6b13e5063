//! Liars in peer exchange: what they send costs them their stream, and teaches the node nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use fednode_tests::{Intruder, eventually};
use net::Identity;
use net::exchange::{PROTOCOL, sign};

use crate::arena::{Arena, loopback};

const BROKEN: &str = "a peer broke the rules of peer exchange";

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(since.as_millis()).expect("it is before the year 500 million")
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("it is short");
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// An announcement of these records.
fn announcement(records: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![u8::try_from(records.len()).expect("a few")];
    for record in records {
        body.extend(u16::try_from(record.len()).expect("it is short").to_be_bytes());
        body.extend(record);
    }
    message(3, &body)
}

fn request(depth: u8, digests: usize) -> Vec<u8> {
    message(1, &[&[0; 4][..], &[2], &[0; 16], &[depth], &vec![7; digests * 16]].concat())
}

fn record(identity: &Identity, seq: u64, address: &str) -> Vec<u8> {
    sign(identity, seq, &[address.parse().expect("an address")]).expect("it can be signed")
}

#[tokio::test]
async fn liars_in_peer_exchange() {
    let arena = Arena::open().await;
    let (liar, victim) = (Identity::generate(), arena.nodes[0].key().to_owned());
    let other = Identity::generate();
    let honest = record(&other, now(), "/ip4/127.0.0.1/tcp/9");
    let mut forged = honest.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let named = record(&liar, now(), "/ip4/127.0.0.1/tcp/9");
    let many: Vec<_> = (0..4).map(|n| record(&liar, now() + n, "/ip4/127.0.0.1/tcp/9")).collect();
    let response = message(2, &[&[0; 20][..], &[0, 0, 0]].concat());
    for (what, bytes) in [
        ("an unknown kind", vec![9, 0, 0, 0, 1, 0]),
        ("an announcement of 4 GiB", vec![3, 0xff, 0xff, 0xff, 0xff]),
        ("a response of 65 KiB", message(2, &[0; 65_600])),
        ("a request with 2^200 digests", request(200, 1)),
        ("a request with fewer digests than it says", request(8, 16)),
        ("an answer to no question", response),
        ("a forged record", announcement(&[forged])),
        ("a record of somebody else", announcement(&[honest])),
        ("no record", announcement(&[vec![7; 200]])),
        ("records without end", announcement(&many)),
        ("an announcement of nothing", message(3, &[0, 0, 0, 0])),
        ("a record that ends too early", announcement(&[named[..named.len() - 1].to_vec()])),
    ] {
        let broken = |log: &str| log.matches(BROKEN).count();
        let before = broken(&arena.target().log());
        let mut stranger =
            Intruder::connect(loopback(2), arena.address(), &liar).await.expect("all may come");
        let stream = stranger.speak(PROTOCOL.as_ref(), &bytes).await.expect("it may");
        let _ = stranger.finish(stream).await;
        eventually(&format!("{what} is noted"), async || {
            (broken(&arena.target().log()) > before).then_some(())
        })
        .await;
    }
    let status = arena.target().status().await;
    let known = status["known"].as_array().expect("a list");
    assert!(known.iter().all(|peer| peer["public_key"] != liar.public_key().to_string()), "{known:#?}");
    assert!(known.iter().all(|peer| peer["public_key"] != other.public_key().to_string()), "{known:#?}");
    assert!(status["members"].to_string().contains(&victim));
    arena.survives("liars in peer exchange").await;
}

#[tokio::test]
async fn a_peer_that_announces_and_asks_without_end() {
    let arena = Arena::open().await;
    let liar = Identity::generate();
    // Each newer than the one before, each with a good signature; then the oldest again.
    let first = record(&liar, now(), "/ip4/127.0.0.1/tcp/1");
    let one = |n| announcement(&[record(&liar, now() + n, &format!("/ip4/127.0.0.1/tcp/{n}"))]);
    let newer_and_newer: Vec<u8> = (1..1000).flat_map(one).collect();
    // A byte of work costs its sender least in updates.
    let updates = message(4, &[7; 16]).repeat(11_000);
    let mut stranger = Intruder::connect(loopback(2), arena.address(), &liar).await.expect("all may come");
    for bytes in [announcement(&[first]), request(8, 256)] {
        for _ in 0..200 {
            let Ok(stream) = stranger.speak(PROTOCOL.as_ref(), &bytes).await else { break };
            let _ = stranger.finish(stream).await;
        }
    }
    drop(stranger);
    let mut stranger = Intruder::connect(loopback(2), arena.address(), &liar).await.expect("all may come");
    for flood in [newer_and_newer, updates] {
        // Each within a stream's first window of 256 KiB: more would break Yamux's rules, and cost the connection.
        let stream = stranger.speak(PROTOCOL.as_ref(), &[]).await.expect("it may");
        for part in flood.chunks(16 * 1024) {
            stranger.more(stream, part).await.expect("the connection stays");
        }
    }
    eventually("it is too much", async || {
        arena.target().log().contains("the peer asks and announces too often").then_some(())
    })
    .await;
    drop(stranger);
    arena.survives("a peer that announces and asks without end").await;
}
