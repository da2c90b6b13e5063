use std::future::poll_fn;
use std::task::Waker;

use arc_swap::ArcSwap;

use super::*;
use crate::membership::Rules;
use crate::post::{Post, Settings};
use crate::{Identity, RateLimit, View, fixtures};

fn gossip() -> Gossip {
    let identity = Identity::generate();
    let rate_limit = RateLimit { messages_per_second: 1e6, burst: 1_000_000 };
    let minute = Duration::from_secs(60);
    let settings =
        Settings { ping_interval: minute, max_message_size: 1 << 20, rate_limit, exchange_interval: minute };
    let topics = Topics::new(identity.public_key(), Post::new(settings), View::new());
    let rules = Arc::new(ArcSwap::from_pointee(Rules::of(&fixtures::section())));
    Gossip::new(&identity.keypair(), topics, rules, &mut Unbuilt::new()).unwrap()
}

#[tokio::test]
async fn a_heartbeat_is_followed_by_another_though_nothing_else_happens() {
    let mut gossip = gossip();
    // Both of gossipsub's clocks run out, and find that in one and the same poll.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut polls = 0;
    let polled = poll_fn(|cx| {
        while gossip.poll(cx).is_ready() {}
        polls += 1;
        if polls > 3 { Poll::Ready(()) } else { Poll::Pending }
    });
    // Longer than anything takes that comes at all.
    tokio::time::timeout(Duration::from_secs(60), polled).await.expect("nothing wakes it");
}

#[test]
fn the_end_of_a_readers_time_is_known_beforehand() {
    let mut gossip = gossip();
    let topics = gossip.topics.clone();
    topics.set(&["a".to_owned()]);
    let reader = topics.subscribe("a", None).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut poll = || {
        while gossip.poll(&mut cx).is_ready() {}
        gossip.next()
    };
    assert_eq!(poll(), None);
    for _ in 0..33 {
        assert!(topics.deliver("a", topics.0.me, None, vec![0; 1 << 20]));
    }
    assert!(poll().is_some_and(|until| until > Instant::now()));
    drop(reader);
    assert_eq!(poll(), None, "nobody is waited for");
}
