//! Peers that are let in, and misuse the streams of their connection.

use std::net::SocketAddr;

use fednode_tests::intruder::multistream;
use fednode_tests::{Intruder, eventually};
use libp2p::StreamProtocol;
use net::Identity;
use net::wire::{Frame, Message};
use serde_json::json;

use crate::arena::{Arena, loopback};

/// What a stranger may have open at once, less those that the node opens to it.
const STREAMS: usize = 24;

async fn stranger(to: SocketAddr) -> Intruder {
    Intruder::connect(loopback(2), to, &Identity::generate()).await.expect("all may come")
}

/// The protocol of direct messages.
static DIRECT: StreamProtocol = net::direct::PROTOCOL;

#[tokio::test]
async fn streams_that_say_nothing_and_half_of_something() {
    let arena = Arena::open().await;
    let to = arena.address();
    let half = multistream("/multistream/1.0.0");
    let hello = Frame::Hello { session: 7 }.encode();
    let mut strangers = Vec::new();
    for n in 0..16 {
        let mut stranger = stranger(to).await;
        for _ in 0..STREAMS {
            let opened = match n % 4 {
                0 => stranger.open(&[]).await,
                1 => stranger.open(&half).await,
                2 => stranger.speak(DIRECT.as_ref(), &hello[..6]).await,
                _ => stranger.speak("/ipfs/id/push/1.0.0", &[0xff]).await,
            };
            opened.expect("it may open them");
        }
        strangers.push(stranger);
    }
    eventually("all are in", async || (arena.strangers().await == strangers.len()).then_some(())).await;
    arena.goes_on().await;
    drop(strangers);
    arena.survives("streams that say nothing").await;
}

#[tokio::test]
async fn more_streams_than_a_peer_may_have() {
    let arena = Arena::open().await;
    let to = arena.address();
    let mut strangers = Vec::new();
    for _ in 0..20 {
        let mut stranger = stranger(to).await;
        // Those beyond are refused; the node may hang up, on this peer alone.
        for _ in 0..2000 {
            if stranger.open(&[]).await.is_err() {
                break;
            }
        }
        strangers.push(stranger);
    }
    arena.goes_on().await;
    drop(strangers);
    arena.survives("2,000 streams of a peer").await;
}

#[tokio::test]
async fn a_direct_stream_again_and_again() {
    let arena = Arena::open().await;
    let to = arena.address();
    let hello = Frame::Hello { session: 7 }.encode();
    let mut stranger = stranger(to).await;
    for n in 0..3000_u64 {
        let message = Message { sequence: n + 1, content_type: None, data: vec![0; 100] };
        let said = [&hello[..], &Frame::Message(message).encode()].concat();
        let stream = stranger.speak(DIRECT.as_ref(), &said).await;
        // Faster than the node takes them over: it may have hung up.
        let Ok(stream) = stream else { break };
        if stranger.finish(stream).await.is_err() {
            break;
        }
    }
    arena.goes_on().await;
    drop(stranger);
    arena.survives("a direct stream again and again").await;
}

#[tokio::test]
async fn a_peer_that_never_reads() {
    // It answers no ping either, and is noticed in two missed ones.
    let arena = Arena::with(|conf| conf["protocol"]["ping_interval"] = json!("1s")).await;
    let to = arena.address();
    let hello = Frame::Hello { session: 7 }.encode();
    let mut strangers = Vec::new();
    for _ in 0..16 {
        let mut stranger = stranger(to).await;
        let stream = stranger.speak(DIRECT.as_ref(), &hello).await.expect("it may");
        let pings = stranger.speak("/ipfs/ping/1.0.0", &[1; 32]).await.expect("it may");
        // Less than a window in each: whatever comes back is never taken, and more than the machine keeps for it comes back.
        for sequence in 0..4000_u64 {
            let message = Message { sequence: sequence + 1, content_type: None, data: vec![0; 20] };
            let sent = async {
                stranger.more(stream, &Frame::Message(message).encode()).await?;
                stranger.more(pings, &[2; 32]).await?;
                stranger.frame(2, 1, 0, sequence as u32, &[]).await
            };
            // The node does not take more than it can answer; nobody waits for it here.
            let sent = tokio::time::timeout(std::time::Duration::from_secs(1), sent).await;
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
        strangers.push(stranger);
    }
    arena.goes_on().await;
    eventually("they are noticed", async || (arena.strangers().await == 0).then_some(())).await;
    arena.survives("a peer that never reads").await;
    drop(strangers);
}

#[tokio::test]
async fn half_of_everything() {
    let arena = Arena::open().await;
    let to = arena.address();
    let hello = Frame::Hello { session: 7 }.encode();
    // A name of 16 KiB that never ends, a message of 1 MiB that never ends: both have to be kept.
    let name = [&multistream("/multistream/1.0.0")[..], &[0xfe, 0x7f], &[b'n'; 8 * 1024]].concat();
    let message = Message { sequence: 1, content_type: None, data: vec![0; 1024 * 1024] };
    let message = Frame::Message(message).encode();
    let mut strangers = Vec::new();
    for _ in 0..32 {
        let mut stranger = stranger(to).await;
        for _ in 0..STREAMS {
            stranger.open(&name).await.expect("it may open them");
        }
        let stream = stranger.speak(DIRECT.as_ref(), &hello).await.expect("it may");
        stranger.more(stream, &message[..200 * 1024]).await.expect("it may");
        strangers.push(stranger);
    }
    eventually("all are in", async || (arena.strangers().await == strangers.len()).then_some(())).await;
    arena.goes_on().await;
    drop(strangers);
    arena.survives("half of everything").await;
}
