//! A whole stream of peer exchange from a peer that says what it likes: it is answered in messages within the cap, and what is
//! learned of it stays within its bounds.
#![no_main]

use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite, FutureExt};
use net::exchange::{MAX_MESSAGE, decode_all, receive};
use net::{Identity, Post, RateLimit, Settings, View};

const KNOWN: usize = 8;

static PEER: LazyLock<Identity> = LazyLock::new(Identity::generate);

/// What the peer sends, and the largest thing that it is told. Never waits: it ends.
struct Peer<'a> {
    sends: &'a [u8],
    hears: Vec<u8>,
}

impl AsyncRead for Peer<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.sends).poll_read(cx, to)
    }
}

impl AsyncWrite for Peer<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.hears).poll_write(cx, from)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let settings = Settings {
        ping_interval: Duration::from_secs(15),
        max_message_size: 1024,
        rate_limit: RateLimit { messages_per_second: 1.0, burst: 1 },
        exchange_interval: Duration::from_secs(30),
    };
    let view = View::new();
    view.known().bound().set(KNOWN);
    let mut peer = Peer { sends: data, hears: Vec::new() };
    let own = Identity::generate().public_key();
    let ended = receive(&mut peer, own, PEER.public_key(), Post::new(settings), view.clone()).now_or_never();
    assert!(ended.is_some(), "nothing here is waited for");
    let answers = decode_all(&peer.hears).expect("answers are messages");
    assert!(peer.hears.len() <= answers * MAX_MESSAGE);
    assert!(view.known().count() <= KNOWN);
    let _ = decode_all(data);
});
