//! A whole stream of direct messages from a peer that sends what it likes: every message is answered once and in order, and what
//! is kept stays within its bounds.
#![no_main]

mod peer;

use std::sync::LazyLock;
use std::time::Duration;

use futures::FutureExt;
use net::wire::Frame;
use net::{INBOX_BYTES, INBOX_MESSAGES, Identity, Post, RateLimit, Settings, View};
use peer::Peer;

const MAX_DATA: usize = 4096;

static PEER: LazyLock<storage::PeerKey> = LazyLock::new(|| Identity::generate().public_key());

/// The sequence numbers of the messages in these bytes, as far as they are frames in turn.
fn messages(mut bytes: &[u8]) -> Vec<u64> {
    let mut sequences = Vec::new();
    let mut first = true;
    while let Ok(Some((frame, taken))) = Frame::decode(bytes, MAX_DATA) {
        bytes = &bytes[taken..];
        match (frame, std::mem::take(&mut first)) {
            (Frame::Hello { .. }, true) => {}
            (Frame::Message(message), false) => sequences.push(message.sequence),
            (Frame::Oversized { sequence }, false) => sequences.push(sequence),
            _ => break,
        }
    }
    sequences
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let rate_limit = RateLimit { messages_per_second: 1e6, burst: 1_000_000 };
    let settings = Settings {
        ping_interval: Duration::from_secs(15),
        max_message_size: MAX_DATA,
        rate_limit,
        exchange_interval: Duration::from_secs(30),
    };
    let post = Post::new(settings);
    let mut peer = Peer { sends: data, hears: Vec::new() };
    let ended = net::direct::receive(&mut peer, *PEER, post.clone(), View::new()).now_or_never();
    assert!(ended.is_some(), "nothing here is waited for");
    let (mut heard, mut acks) = (&peer.hears[..], Vec::new());
    while let Some((frame, taken)) = Frame::decode(heard, 0).expect("answers are frames") {
        heard = &heard[taken..];
        if let Frame::Ack { sequence, .. } = frame {
            acks.push(sequence);
        }
    }
    assert_eq!(acks, messages(data), "each is answered once, in order");
    let mut inbox = post.subscribe(None);
    let (mut count, mut bytes) = (0, 0);
    while let Ok(message) = inbox.try_recv() {
        count += 1;
        bytes += message.data.len();
    }
    assert!(count <= INBOX_MESSAGES && bytes <= INBOX_BYTES, "{count} messages, {bytes} bytes");
});
