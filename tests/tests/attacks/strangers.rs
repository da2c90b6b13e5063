//! Peers that shake hands as they must, and are no members.

use std::io;

use fednode_tests::{Intruder, eventually};
use net::Identity;
use net::wire::{Frame, Message};
use serde_json::{Value, json};

use crate::arena::{Arena, loopback};

fn event<'a>(line: &'a Value, name: &str) -> Option<&'a Value> {
    line["fields"].get(name).or_else(|| line.get(name))
}

/// The log's lines with this message.
fn logged(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| event(line, "message").is_some_and(|text| text == message)).collect()
}

#[tokio::test]
async fn a_non_member_with_a_valid_handshake_in_a_loop() {
    const TRIES: usize = 300;
    let mut arena = Arena::with(|conf| conf["network"]["membership"] = json!("members")).await;
    let to = arena.address();
    let identity = Identity::generate();
    let loops = (0..4).map(|n| {
        let identity = &identity;
        async move {
            for _ in 0..TRIES / 4 {
                // Refused after the handshake, in which a peer says who it is; or with it.
                if let Ok(mut stranger) = Intruder::connect(loopback(n + 1), to, identity).await {
                    stranger.hung_up().await;
                }
            }
        }
    });
    futures::future::join_all(loops).await;
    arena.restart_a_member().await;
    // Each is an event, or counted among those that were left out once their time is over.
    let (told, left_out) = eventually("all refusals are accounted for", async || {
        let log = arena.target().log();
        let told = logged(&log, "peer_denied").len();
        let summaries = logged(&log, "events were left out of the log");
        let left_out: u64 = summaries
            .iter()
            .filter(|line| event(line, "of").is_some_and(|of| of == "peer_denied"))
            .filter_map(|line| event(line, "left_out")?.as_u64())
            .sum();
        (told + left_out as usize >= TRIES).then_some((told, left_out))
    })
    .await;
    assert!(left_out > 0 && told < TRIES, "{told} events, {left_out} left out");
    let log = arena.target().log();
    let refusal = &logged(&log, "peer_denied")[0];
    assert_eq!(event(refusal, "reason").unwrap(), "not a member", "{refusal}");
    assert_eq!(event(refusal, "peer").unwrap(), &json!(identity.peer_id().to_string()), "{refusal}");
    assert!(!log.contains("Connection established with peer") || arena.strangers().await == 0);
    arena.survives("a non-member in a loop").await;
}

#[tokio::test]
async fn strangers_that_would_fill_all_connections() {
    // Two for the members, six for whoever comes.
    let mut arena = Arena::with(|conf| conf["network"]["limits"] = json!({"connections": 8})).await;
    let to = arena.address();
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(Intruder::connect(loopback(1), to, &Identity::generate()).await);
    }
    eventually("six strangers are in", async || (arena.strangers().await == 6).then_some(())).await;
    arena.goes_on().await;
    // One member goes, and its place is not given away.
    let spec = arena.nodes.remove(1).kill().await;
    let key = spec.keys.public_key.clone();
    eventually("the member is gone", async || {
        let gone = arena.nodes[1].connections().await.iter().all(|(_, other)| *other != key);
        gone.then_some(())
    })
    .await;
    let late = Intruder::connect(loopback(1), to, &Identity::generate()).await;
    if let Ok(mut late) = late {
        late.hung_up().await;
    }
    arena.nodes.insert(1, spec.start().await);
    eventually("the member is back", async || {
        let back = arena.target().connections().await.iter().any(|(_, other)| *other == key);
        back.then_some(())
    })
    .await;
    let log = arena.target().log();
    assert!(log.contains("those left are kept for members"), "the reason is told");
    drop(strangers);
    arena.survives("strangers in all connections").await;
}

/// Sends so many messages, without waiting for what becomes of them.
async fn deliver(stranger: &mut Intruder, count: u64) -> io::Result<()> {
    let hello = Frame::Hello { session: 1 }.encode();
    let stream = stranger.speak(net::direct::PROTOCOL.as_ref(), &hello).await?;
    for sequence in 1..=count {
        let message = Message { sequence, content_type: None, data: vec![0; 64] };
        stranger.more(stream, &Frame::Message(message).encode()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn strangers_that_would_fill_the_inbox() {
    let arena = Arena::open().await;
    // The second member has no reader: what comes waits in its inbox.
    let node = &arena.nodes[1];
    let to = node.spec().port.address();
    let mut strangers = Vec::new();
    for _ in 0..4 {
        let mut stranger =
            Intruder::connect(loopback(1), to, &Identity::generate()).await.expect("all may come");
        deliver(&mut stranger, 400).await.expect("it is let");
        strangers.push(stranger);
    }
    // Strangers have a quarter of it, and no more.
    let share = (net::INBOX_MESSAGES / 4) as u64;
    eventually("their share is full", async || {
        let text = node.client().get("/metrics").await.ok()?.body;
        let text = String::from_utf8_lossy(&text).into_owned();
        let received = text.lines().find(|line| {
            line.starts_with("fednode_messages_total") && line.contains("direct") && line.contains("received")
        });
        let received = received.and_then(|line| line.split_whitespace().last()?.parse::<f64>().ok())?;
        (received >= share as f64).then_some(())
    })
    .await;
    for n in 0..200 {
        let answer =
            arena.nodes[0].send(node.key(), &format!("from a member {n}")).await.expect("it answers");
        assert!(answer.status.is_success(), "{n}: {answer:?}");
    }
    drop(strangers);
    arena.survives("strangers in the inbox").await;
}
