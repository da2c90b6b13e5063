//! Broadcast topics: to everybody who wants them, once, and from nobody who may not.

use std::collections::BTreeSet;
use std::sync::Arc;

use net::{Ended, Membership, NetworkSection, PublishError, RateLimit, TopicSubscription};
use reload::{Reconfigure, Step, Transaction};

use crate::harness::*;

fn with(topics: &'static [&'static str]) -> impl FnOnce(&mut net::ProtocolSection) {
    move |section| section.topics = topics.iter().map(|&name| name.to_owned()).collect()
}

/// So many nodes, all connected, all with these topics.
async fn federation(size: usize, topics: &'static [&'static str]) -> Vec<Node> {
    let mut nodes: Vec<_> = (0..size).map(|_| Node::start(network_section())).collect();
    mesh(&mut nodes).await;
    for node in &nodes {
        node.reload_protocol(1, with(topics)).await;
    }
    nodes
}

fn reader(node: &Node, topic: &str) -> TopicSubscription {
    node.topics.subscribe(topic, None).unwrap()
}

async fn publish(node: &Node, topic: &str, data: &[u8]) -> Result<(), PublishError> {
    soon("publishing", node.topics.publish(topic, Some("n"), data.to_vec())).await
}

async fn next(reader: &mut TopicSubscription) -> Vec<u8> {
    soon("a message", reader.recv()).await.unwrap().data.clone()
}

/// Publishes until a message arrives: the announcement of a topic is on its way for a moment.
async fn until_it_arrives(from: &Node, topic: &str, reader: &mut TopicSubscription) {
    let arrive = async {
        loop {
            publish(from, topic, b"are you there").await.unwrap();
            tokio::select! {
                message = reader.recv() => break drop(message.unwrap()),
                // Nobody tells when the mesh is made: it is tried until it is.
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
            }
        }
    };
    soon("the topic's mesh", arrive).await;
}

/// Every reader hears of the first node, and then there is nothing on its way any more that was only asked for this.
async fn warm(nodes: &[Node], topic: &str) -> Vec<TopicSubscription> {
    let mut readers = Vec::new();
    for node in &nodes[1..] {
        let mut reader = reader(node, topic);
        until_it_arrives(&nodes[0], topic, &mut reader).await;
        readers.push(reader);
    }
    publish(&nodes[0], topic, b"begin").await.unwrap();
    for reader in &mut readers {
        while next(reader).await != b"begin" {}
    }
    readers
}

#[actix::test]
async fn everybody_who_is_subscribed_gets_a_message_once_and_its_author_is_known() {
    let nodes = federation(3, &["a/b", "c"]).await;
    let mut readers = warm(&nodes, "a/b").await;
    readers.push(reader(&nodes[0], "a/b"));
    let mut other = reader(&nodes[1], "c");
    for n in 0..1000_u32 {
        publish(&nodes[0], "a/b", &n.to_be_bytes()).await.unwrap();
    }
    for reader in &mut readers {
        let mut seen = BTreeSet::new();
        while seen.len() < 1000 {
            let message = soon("a message", reader.recv()).await.unwrap();
            assert_eq!((message.from, message.content_type.as_deref()), (nodes[0].key, Some("n")));
            assert!(seen.insert(message.data.clone()), "repeated");
        }
    }
    assert!(other.try_recv().unwrap().is_none(), "another topic");
    assert_eq!(publish(&nodes[0], "nowhere", b"").await, Err(PublishError::UnknownTopic));
    assert!(nodes[0].topics.subscribe("nowhere", None).is_none());
}

#[actix::test]
async fn a_message_reaches_those_with_whom_its_author_is_not_connected() {
    // A chain: the middle one passes on.
    let mut nodes: Vec<_> = (0..3).map(|_| Node::start(network_section())).collect();
    let middle = members([&nodes[1]]);
    for end in [0, 2] {
        nodes[end].reload_with(|section| section.members = Arc::clone(&middle)).await;
        soon("a connection", nodes[end].view.when(|view| view.connection_count() == 1)).await;
    }
    for node in &nodes {
        node.reload_protocol(1, with(&["a"])).await;
    }
    let mut far = reader(&nodes[2], "a");
    until_it_arrives(&nodes[0], "a", &mut far).await;
    for n in 0..500_u32 {
        publish(&nodes[0], "a", &n.to_be_bytes()).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 500 {
        let message = soon("a message", far.recv()).await.unwrap();
        assert_eq!(message.from, nodes[0].key, "the author, not who passed it on");
        if message.data.len() == 4 {
            assert!(seen.insert(message.data.clone()), "repeated");
        }
    }
}

#[actix::test]
async fn a_topic_comes_and_goes_while_another_one_goes_on() {
    let nodes = federation(2, &["stays"]).await;
    let mut stays = warm(&nodes, "stays").await.remove(0);
    let ids: Vec<_> = nodes.iter().map(Node::ids).collect();
    for round in 0..3 {
        for node in &nodes {
            node.reload_protocol(round * 2 + 2, with(&["stays", "comes"])).await;
        }
        let mut comes = reader(&nodes[1], "comes");
        until_it_arrives(&nodes[0], "comes", &mut comes).await;
        for node in &nodes {
            node.reload_protocol(round * 2 + 3, with(&["stays"])).await;
        }
        let ended = async { while comes.recv().await.is_ok() {} };
        soon("the end", ended).await;
        assert_eq!(comes.try_recv().unwrap_err(), Ended::Removed);
        assert_eq!(publish(&nodes[0], "comes", b"").await, Err(PublishError::UnknownTopic));
        publish(&nodes[0], "stays", &round.to_be_bytes()).await.unwrap();
        assert_eq!(next(&mut stays).await, round.to_be_bytes());
    }
    assert_eq!(nodes.iter().map(Node::ids).collect::<Vec<_>>(), ids);
}

#[actix::test]
async fn a_topic_that_a_rollback_brings_back_has_kept_its_readers() {
    let nodes = federation(2, &["a"]).await;
    let mut reader = warm(&nodes, "a").await.remove(0);
    let step = async |step| nodes[1].protocol.send(Reconfigure::new(transaction(2), step)).await.unwrap();
    let by = std::time::Instant::now() + NEVER;
    step(Step::Prepare(Arc::new(protocol_section()), by)).await.unwrap();
    step(Step::Commit).await.unwrap();
    step(Step::Probe).await.unwrap();
    assert!(nodes[1].topics.subscribed().is_empty());
    step(Step::Rollback).await.unwrap();
    until_it_arrives(&nodes[0], "a", &mut reader).await;
    assert_eq!(nodes[1].topics.subscribed(), BTreeSet::from(["a".to_owned()]));
}

fn transaction(number: u64) -> Transaction {
    (0..number).fold(Transaction::NONE, |transaction, _| transaction.next())
}

#[actix::test]
async fn sizes_and_rates_change_live_and_each_refusal_has_its_own_error() {
    let nodes = federation(2, &["a"]).await;
    let mut reader = warm(&nodes, "a").await.remove(0);
    let large = vec![7; 1024 * 1024];
    publish(&nodes[0], "a", &large).await.unwrap();
    assert_eq!(next(&mut reader).await, large);
    let raised = vec![8; 5 * 1024 * 1024];
    assert_eq!(publish(&nodes[0], "a", &raised).await, Err(PublishError::TooLarge { max: 1024 * 1024 }));
    for node in &nodes {
        node.reload_protocol(2, |section| {
            with(&["a"])(section);
            section.max_message_size = raised.len();
        })
        .await;
    }
    publish(&nodes[0], "a", &raised).await.unwrap();
    assert_eq!(next(&mut reader).await, raised, "on the same connection");
    // Only the receiver's is lowered: it does not take what the author may still write, and is not cross with it.
    nodes[1]
        .reload_protocol(3, |section| {
            with(&["a"])(section);
            section.max_message_size = 256;
        })
        .await;
    publish(&nodes[0], "a", &large).await.unwrap();
    publish(&nodes[0], "a", b"small").await.unwrap();
    assert_eq!(next(&mut reader).await, b"small");

    let odd = nodes[0].topics.publish("a", Some("no\nline"), Vec::new());
    assert_eq!(soon("publishing", odd).await, Err(PublishError::ContentType));
    nodes[0]
        .reload_protocol(3, |section| {
            with(&["a"])(section);
            section.rate_limit = RateLimit { messages_per_second: 0.001, burst: 2 };
        })
        .await;
    for n in [1, 2] {
        publish(&nodes[0], "a", &[n]).await.unwrap();
        assert_eq!(next(&mut reader).await, [n]);
    }
    let refused = publish(&nodes[0], "a", b"3").await;
    assert!(matches!(refused, Err(PublishError::RateLimited { retry_after }) if retry_after > NEVER));
}

#[actix::test]
async fn one_author_that_floods_does_not_starve_another() {
    let nodes = federation(3, &["a"]).await;
    let mut reader = warm(&nodes, "a").await.remove(0);
    until_it_arrives(&nodes[2], "a", &mut reader).await;
    let limit = RateLimit { messages_per_second: 0.001, burst: 50 };
    nodes[1]
        .reload_protocol(2, |section| {
            with(&["a"])(section);
            section.rate_limit = limit;
        })
        .await;
    // What the first one writes from now on is more than this node takes of one.
    for n in 0..500_u32 {
        publish(&nodes[0], "a", &n.to_be_bytes()).await.unwrap();
    }
    publish(&nodes[2], "a", b"quiet").await.unwrap();
    let mut loud = 0;
    loop {
        let message = soon("a message", reader.recv()).await.unwrap();
        if message.from == nodes[2].key && message.data == b"quiet" {
            break;
        }
        loud += usize::from(message.data.len() == 4);
    }
    assert!(loud <= 51, "{loud}");
}

#[actix::test]
async fn among_members_only_members_are_heard() {
    let mut nodes = federation(3, &["a"]).await;
    let mut reader = warm(&nodes, "a").await.remove(0);
    until_it_arrives(&nodes[2], "a", &mut reader).await;
    // The second node forgets the first and hears members only; the third still knows both, and passes on.
    let fewer = members([&nodes[2]]);
    nodes[1]
        .reload_with(|section| {
            section.membership = Membership::Members;
            section.members = fewer;
        })
        .await;
    while reader.try_recv().unwrap().is_some() {}
    publish(&nodes[0], "a", b"stranger").await.unwrap();
    let mut third = self::reader(&nodes[2], "a");
    publish(&nodes[2], "a", b"member").await.unwrap();
    assert_eq!(next(&mut third).await, b"member");
    let arrives = async {
        loop {
            let message = tokio::select! {
                message = reader.recv() => message.unwrap(),
                // Until now the third may have been heard through the first, and not know yet that the second reads.
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {
                    publish(&nodes[2], "a", b"member").await.unwrap();
                    continue;
                }
            };
            assert_ne!(message.data, b"stranger");
            if message.data == b"member" {
                break;
            }
        }
    };
    soon("a message", arrives).await;
}

#[actix::test]
async fn an_author_waits_for_a_reader_that_is_slow_and_loses_nothing() {
    let nodes = federation(2, &["a"]).await;
    let mut reader = warm(&nodes, "a").await.remove(0);
    // Far more than fits between the two of them while nobody reads.
    let (all, topics) = (20_000_u32, nodes[0].topics.clone());
    let (count, mut published) = tokio::sync::watch::channel(0);
    let author = actix::spawn(async move {
        for n in 0..all {
            topics.publish("a", None, n.to_be_bytes().to_vec()).await.unwrap();
            count.send_replace(n + 1);
        }
    });
    // Half of what a reader may be behind by; from there on, it is waited for.
    soon("a line that is half full", published.wait_for(|count| *count > 4096)).await.unwrap();
    // Time to go too far, for an author that would.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let ahead = *published.borrow();
    assert!(ahead < 4096 + 2 * 1024, "{ahead} messages without a word of the reader");
    for n in 0..all {
        assert_eq!(next(&mut reader).await, n.to_be_bytes(), "one author over one connection, in order");
    }
    soon("the author", author).await.unwrap();
}

#[actix::test]
async fn a_node_alone_hears_itself() {
    let node = Node::start(NetworkSection { listen: Vec::new(), ..network_section() });
    node.reload_protocol(1, with(&["a"])).await;
    let mut reader = reader(&node, "a");
    publish(&node, "a", b"echo").await.unwrap();
    let message = soon("a message", reader.recv()).await.unwrap();
    assert_eq!((message.data.as_slice(), message.from), (&b"echo"[..], node.key));
    assert_eq!(node.view.counted().topics_sent, 1);
}

#[actix::test]
async fn a_reader_that_takes_nothing_costs_an_author_some_time_and_no_message() {
    // Alone: no peer's word wakes the node when the reader's time is over.
    let node = Node::start(NetworkSection { listen: Vec::new(), ..network_section() });
    node.reload_protocol(1, with(&["a"])).await;
    let mut silent = reader(&node, "a");
    // And quiet for as long as gossipsub's own clocks need to fall into step.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    // Far more than it may be behind by.
    for n in 0..80 {
        let published = node.topics.publish("a", None, vec![n; 1024 * 1024]);
        assert_eq!(soon("publishing", published).await, Ok(()), "message {n}");
    }
    let ended = loop {
        match silent.try_recv() {
            Ok(message) => assert!(message.is_some(), "it is still waited for"),
            Err(ended) => break ended,
        }
    };
    assert_eq!(ended, Ended::TooSlow);
}

#[actix::test]
async fn both_ends_know_of_each_others_topics_also_where_their_dials_crossed() {
    for _ in 0..20 {
        let mut nodes: Vec<_> = (0..2).map(|_| Node::start(network_section())).collect();
        for node in &nodes {
            node.reload_protocol(1, with(&["a"])).await;
        }
        // Each dials the other, and of two connections one goes: with it, perhaps, what was just being said on it.
        mesh(&mut nodes).await;
        for (author, other) in [(0, 1), (1, 0)] {
            let mut reader = reader(&nodes[other], "a");
            until_it_arrives(&nodes[author], "a", &mut reader).await;
        }
        for node in &nodes {
            node.shut_down().await;
        }
    }
}

/// The swarm is what subscribes: one that is gone does not follow.
#[actix::test]
async fn a_node_that_is_not_subscribed_as_its_section_says_does_not_pass_for_it() {
    let node = Node::start(network_section());
    node.shut_down().await;
    let mut section = protocol_section();
    with(&["news"])(&mut section);
    let topics = node.topics.clone();
    let protocol = net::Protocol::start(Arc::new(section), node.post.clone(), &node.services, topics);
    let error = protocol.send(Reconfigure::new(Transaction::NONE, Step::Probe)).await.unwrap().unwrap_err();
    assert_eq!(error.key.as_deref(), Some("protocol.topics"), "{error:?}");
}
