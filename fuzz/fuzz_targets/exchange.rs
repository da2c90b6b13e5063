//! A whole stream of peer exchange from a peer that says what it likes: it is answered in messages within the cap, and what is
//! learned of it stays within its bounds.
#![no_main]

mod peer;

use std::sync::LazyLock;
use std::time::Duration;

use futures::FutureExt;
use net::exchange::{MAX_MESSAGE, decode_all, receive};
use net::{Identity, Post, RateLimit, Settings, View};
use peer::Peer;

const KNOWN: usize = 8;

static PEER: LazyLock<Identity> = LazyLock::new(Identity::generate);

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
