//! Direct messages: in order, once, with an answer, through every kind of reload.

use std::sync::Arc;

use net::{Limits, Membership, NetworkSection, Protocol, RateLimit, SendError, Settings};

use crate::harness::*;

#[actix::test]
async fn a_stream_of_messages_runs_through_reloads_of_every_kind() {
    let mut nodes: Vec<_> = (0..3).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    let mut inbox = nodes[1].post.subscribe(None);
    let ids: Vec<_> = nodes.iter().map(Node::ids).collect();
    let (to, messages) = (nodes[1].key, nodes[0].messages.clone());
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let talker = actix::spawn(async move {
        let mut sent = 0u32;
        while stopped.try_recv().is_err() {
            // Eight on the way at a time.
            let batch: Vec<_> = (0..8)
                .map(|_| {
                    let data = sent.to_be_bytes().to_vec();
                    sent += 1;
                    messages.send(&to, Some("n"), data)
                })
                .collect();
            for answer in futures::future::join_all(batch).await {
                answer.unwrap();
            }
        }
        sent
    });

    for (number, node) in [0, 1].into_iter().enumerate() {
        let extra = address(&format!("/ip4/127.0.0.1/tcp/{}", free_port()));
        let wildcard = address(&format!("/ip4/0.0.0.0/tcp/{}", nodes[node].port()));
        let limits = Limits { connections: 3, ..nodes[node].section.limits };
        nodes[node].reload_with(|section| section.listen.push(extra)).await;
        nodes[node].reload_with(|section| section.listen = vec![wildcard]).await;
        nodes[node].reload_with(|section| section.limits = limits).await;
        nodes[node].reload_with(|section| section.membership = Membership::Members).await;
        nodes[node].reload_with(|section| section.worker_threads = 1).await;
        // One that is rolled back, with everything in it.
        let next = NetworkSection {
            listen: vec![any_port()],
            membership: Membership::Open,
            worker_threads: 3,
            members: Arc::default(),
            ..nodes[node].section.clone()
        };
        nodes[node].prepare(&next).await.unwrap();
        nodes[node].commit().await.unwrap();
        nodes[node].rollback().await.unwrap();
        nodes[node].reload_protocol(number as u64 + 1, |section| section.max_message_size = 2048).await;
    }
    // A member leaves; the other two do not notice.
    let mut fewer = (*nodes[0].section.members).clone();
    fewer.remove(&nodes[2].key);
    nodes[0].reload_with(|section| section.members = Arc::new(fewer)).await;
    assert!(nodes[0].ids_to(&nodes[2]).is_empty());

    stop.send(()).unwrap();
    let sent = talker.await.unwrap();
    assert!(sent > 0);
    for expected in 0..sent {
        let message = inbox.try_recv().expect("answered means that it is here");
        assert_eq!((message.data.as_slice(), message.from), (&expected.to_be_bytes()[..], nodes[0].key));
        assert_eq!(message.content_type.as_deref(), Some("n"));
    }
    inbox.try_recv().expect_err("nothing twice");
    assert!(
        ids[0].is_superset(&nodes[0].ids_to(&nodes[1])) && ids[1].is_superset(&nodes[1].ids_to(&nodes[0]))
    );
}

#[actix::test]
async fn every_refusal_has_its_own_error() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    let stranger = Node::start(network_section());
    assert_eq!(nodes[0].send(&stranger, b"?").await, Err(SendError::UnknownPeer));
    let odd = nodes[0].messages.send(&nodes[1].key, Some("Ö"), vec![]);
    assert_eq!(odd.await, Err(SendError::ContentType));

    // Sizes: the receiver's limit, then the sender's own.
    nodes[1].reload_protocol(1, |section| section.max_message_size = 10).await;
    assert_eq!(nodes[0].send(&nodes[1], &[0; 11]).await, Err(SendError::TooLargeThere));
    assert_eq!(nodes[0].send(&nodes[1], &[0; 10]).await, Ok(()), "the stream is as good as before");
    nodes[0].reload_protocol(1, |section| section.max_message_size = 9).await;
    assert_eq!(nodes[0].send(&nodes[1], &[0; 10]).await, Err(SendError::TooLarge { max: 9 }));

    // The rate, live in both directions.
    let slow = RateLimit { messages_per_second: 0.0, burst: 0 };
    nodes[1].reload_protocol(2, |section| section.rate_limit = slow).await;
    assert_eq!(nodes[0].send(&nodes[1], b"now").await, Err(SendError::RateLimited));
    nodes[1].reload_protocol(3, |_| {}).await;
    while nodes[0].send(&nodes[1], b"now").await == Err(SendError::RateLimited) {}

    nodes[1].shut_down().await;
    soon("the loss", nodes[0].view.when(|view| view.connection_count() == 0)).await;
    assert_eq!(nodes[0].send(&nodes[1], b"gone").await, Err(SendError::NotConnected));
}

#[actix::test]
async fn messages_wait_for_a_reader_and_a_full_inbox_says_so() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    for n in 0..net::INBOX_MESSAGES / 4 * 3 {
        nodes[0].send(&nodes[1], &(n as u32).to_be_bytes()).await.unwrap();
    }
    assert_eq!(nodes[0].send(&nodes[1], b"over").await, Err(SendError::InboxFull));
    let mut inbox = nodes[1].messages.subscribe(None);
    nodes[0].send(&nodes[1], b"after").await.unwrap();
    for n in 0..net::INBOX_MESSAGES / 4 * 3 {
        assert_eq!(inbox.try_recv().unwrap().data, (n as u32).to_be_bytes());
    }
    assert_eq!(inbox.try_recv().unwrap().data, b"after");
}

#[actix::test]
async fn a_successor_of_the_protocol_actor_finds_subscriptions_and_settings_as_they_were() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    let mut inbox = nodes[1].messages.subscribe(None);
    nodes[0].send(&nodes[1], b"one").await.unwrap();
    let mut section = protocol_section();
    section.max_message_size = 100;
    let post = nodes[1].post.clone();
    let topics = nodes[1].topics.clone();
    nodes[1].protocol = Protocol::start(Arc::new(section.clone()), post.clone(), &nodes[1].services, topics);
    assert_eq!(post.settings(), Settings::from(&section));
    nodes[0].send(&nodes[1], b"two").await.unwrap();
    nodes[1].send(&nodes[0], b"back").await.unwrap();
    assert_eq!(inbox.recv().await.unwrap().data, b"one");
    assert_eq!(inbox.recv().await.unwrap().data, b"two");
}

#[actix::test]
async fn large_messages_pass_and_the_line_to_a_peer_is_bounded() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    let mut inbox = nodes[1].post.subscribe(None);
    let batch: Vec<_> = (0..100u8)
        .map(|n| {
            let data = vec![n; 1024 * 1024];
            nodes[0].messages.send(&nodes[1].key, None, data)
        })
        .collect();
    let mut accepted = Vec::new();
    for (n, answer) in (0..100u8).zip(futures::future::join_all(batch).await) {
        match answer {
            Ok(()) => accepted.push(n),
            Err(error) => assert_eq!(error, SendError::Busy),
        }
    }
    assert!(!accepted.is_empty());
    for n in accepted {
        let message = inbox.recv().await.unwrap();
        assert!(message.data.len() == 1024 * 1024 && message.data.iter().all(|byte| *byte == n));
    }
}

#[actix::test]
async fn a_protocol_rollback_puts_the_settings_back() {
    use reload::{Reconfigure, Step, Transaction};
    let node = Node::start(network_section());
    let before = node.post.settings();
    let mut next = protocol_section();
    next.max_message_size = 7;
    let transaction = Transaction::NONE.next();
    for step in [Step::Prepare(Arc::new(next), std::time::Instant::now() + NEVER), Step::Commit] {
        node.protocol.send(Reconfigure::new(transaction, step)).await.unwrap().unwrap();
    }
    assert_eq!(node.post.settings().max_message_size, 7);
    let step = Step::Rollback;
    node.protocol.send(Reconfigure::new(transaction, step)).await.unwrap().unwrap();
    assert_eq!(node.post.settings(), before);
}

#[actix::test]
async fn a_changed_size_counts_for_the_next_message_of_a_stream_that_is_open() {
    let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    nodes[0].send(&nodes[1], b"opens the stream").await.unwrap();
    nodes[1].reload_protocol(1, |section| section.max_message_size = 10).await;
    assert_eq!(nodes[0].send(&nodes[1], &[0; 11]).await, Err(SendError::TooLargeThere));
    nodes[1].reload_protocol(2, |section| section.max_message_size = 11).await;
    assert_eq!(nodes[0].send(&nodes[1], &[0; 11]).await, Ok(()));
}
