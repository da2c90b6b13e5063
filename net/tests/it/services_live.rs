//! What the steps of a reload do to services and their listeners, and leave alone.

use net::{ConnectedService, SendError, Settings};
use reload::{Reconfigure, Step, Transaction};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::harness::*;
use crate::services_pair::*;

#[actix::test]
async fn open_streams_go_on_under_what_they_began_with() {
    let (mut pair, port) = Pair::with(Does::Echo).await;
    let (other, name) = (free_port(), service(Does::Name("another")).await);
    let mut old = dial(port).await;
    is_alive(&mut old).await;

    // Another target: new streams follow.
    pair.change(0, |section| section.expose = vec![exposed("it", name, None)]).await.unwrap();
    assert_eq!(hears(port).await, "another");
    is_alive(&mut old).await;
    // Not exposed any more, then exposed under another name, to which the listener that stays leads.
    pair.change(0, |section| section.expose.clear()).await.unwrap();
    assert_eq!(hears(port).await, "");
    pair.change(0, |section| section.expose = vec![exposed("that", name, None)]).await.unwrap();
    pair.change(1, |section| section.connect[0].name = "that".to_owned()).await.unwrap();
    assert_eq!(hears(port).await, "another");
    is_alive(&mut old).await;
    // Another port.
    pair.change(1, |section| section.connect[0].listen = listen(other)).await.unwrap();
    assert!(refuses(port), "closed when the reload is done");
    assert_eq!(hears(other).await, "another");
    is_alive(&mut old).await;
    // Nobody is allowed any more, nothing is connected.
    pair.change(0, |section| section.expose[0].allow = Some(Vec::new())).await.unwrap();
    assert_eq!(hears(other).await, "");
    pair.change(1, |section| section.connect.clear()).await.unwrap();
    assert!(refuses(other));
    is_alive(&mut old).await;
    // A successor of each actor.
    for node in 0..2 {
        let successor = pair.successor(node, pair.sections[node].clone());
        pair.inaugurate(node, successor);
    }
    is_alive(&mut old).await;
    assert_eq!(pair.open(), (1, 1));
    old.shutdown().await.unwrap();
    assert_eq!(read_all(&mut old).await.unwrap(), b"");
    pair.all_closed().await;
}

#[actix::test]
async fn a_rollback_leaves_services_and_listeners_as_they_were() {
    let (mut pair, port) = Pair::with(Does::Name("first")).await;
    let (second, other) = (service(Does::Name("second")).await, free_port());
    let mut next = pair.sections[0].clone();
    next.expose = vec![exposed("it", second, None)];
    pair.prepare(0, &next).await.unwrap();
    assert_eq!(hears(port).await, "first", "prepared is not committed");
    pair.step(0, Step::Commit).await.unwrap();
    assert_eq!(hears(port).await, "second");
    pair.step(0, Step::Rollback).await.unwrap();
    assert_eq!(hears(port).await, "first");

    let mut next = pair.sections[1].clone();
    next.connect[0].listen = listen(other);
    pair.prepare(1, &next).await.unwrap();
    assert!(refuses(other), "reserved, and not listened on");
    TcpListener::bind(listen(other)).await.unwrap_err();
    pair.step(1, Step::Commit).await.unwrap();
    assert_eq!(hears(other).await, "first");
    // Whoever comes to the old door meanwhile waits, and is served after the way back.
    let waits = actix::spawn(hears(port));
    let mut early = dial(port).await;
    pair.step(1, Step::Rollback).await.unwrap();
    assert_eq!(read_all(&mut early).await.unwrap(), b"first");
    assert_eq!(waits.await.unwrap(), "first");
    assert!(refuses(other));
    assert_eq!(hears(port).await, "first");
}

#[actix::test]
async fn who_was_left_behind_in_a_change_can_neither_finish_it_nor_take_it_back() {
    let (mut pair, port) = Pair::with(Does::Name("it")).await;
    let other = free_port();
    let mut next = pair.sections[1].clone();
    next.connect[0].listen = listen(other);
    pair.prepare(1, &next).await.unwrap();
    pair.step(1, Step::Commit).await.unwrap();
    let mut section = pair.sections[1].clone();
    section.max_message_size = 100;
    let successor = pair.successor(1, section);
    pair.step(1, Step::Probe).await.expect_err("what it put into force is not in force any more");
    for step in [Step::Finish, Step::Rollback] {
        let error = pair.step(1, step).await.unwrap_err();
        assert_eq!(error.message, "a successor is in office");
    }
    let error = pair.prepare(1, &next).await.unwrap_err();
    assert_eq!(error.message, "a successor is in office");
    assert_eq!(hears(port).await, "it");
    assert!(refuses(other));
    let too_large = pair.nodes[1].send(&pair.nodes[0], &[0; 101]).await;
    assert!(matches!(too_large, Err(SendError::TooLarge { .. })), "{too_large:?}");
    // The one in office can.
    pair.inaugurate(1, successor);
    pair.change(1, |section| section.connect[0].listen = listen(other)).await.unwrap();
    assert_eq!(hears(other).await, "it");
}

#[actix::test]
async fn what_was_prepared_before_a_successor_took_office_is_not_committed() {
    let (mut pair, port) = Pair::with(Does::Name("it")).await;
    let other = free_port();
    let mut next = pair.sections[1].clone();
    next.connect[0].listen = listen(other);
    next.max_message_size = 100;
    pair.prepare(1, &next).await.unwrap();
    let successor = pair.successor(1, pair.sections[1].clone());
    let error = pair.step(1, Step::Commit).await.unwrap_err();
    assert_eq!(error.message, "a successor is in office");
    assert_eq!(pair.nodes[1].post.settings(), Settings::from(&pair.sections[1]), "nothing of it is in force");
    assert_eq!(hears(port).await, "it");
    // Its ports go with it.
    pair.inaugurate(1, successor);
    pair.change(1, |section| section.connect[0].listen = listen(other)).await.unwrap();
    assert_eq!(hears(other).await, "it");
}

#[actix::test]
async fn a_successor_that_cannot_have_a_port_says_so_until_a_change_mends_it() {
    let (mut pair, port) = Pair::with(Does::Name("it")).await;
    let other = free_port();
    let holder = TcpListener::bind(listen(other)).await.unwrap();
    let mut section = pair.sections[1].clone();
    section.connect[0].listen = listen(other);
    let successor = pair.successor(1, section);
    pair.inaugurate(1, successor);
    let probe = |pair: &Pair| {
        let probe = Reconfigure::new(Transaction::NONE, Step::Probe);
        pair.nodes[1].protocol.send(probe)
    };
    let error = probe(&pair).await.unwrap().unwrap_err();
    assert!(error.message.contains(&other.to_string()), "{error:?}");
    drop(holder);
    pair.change(1, |_| {}).await.unwrap();
    probe(&pair).await.unwrap().unwrap();
    assert_eq!(hears(port).await, "it");
}

#[actix::test]
async fn two_listeners_swap_their_services_and_a_port_its_address() {
    let mut pair = Pair::new().await;
    let (a, b) = (service(Does::Name("a")).await, service(Does::Name("b")).await);
    pair.change(0, |section| section.expose = vec![exposed("a", a, None), exposed("b", b, None)])
        .await
        .unwrap();
    let (one, two) = (free_port(), free_port());
    pair.connect("a", one).await;
    pair.connect("b", two).await;
    assert_eq!((hears(one).await, hears(two).await), ("a".to_owned(), "b".to_owned()));
    pair.change(1, |section| {
        section.connect[0].listen = listen(two);
        section.connect[1].listen = listen(one);
    })
    .await
    .unwrap();
    assert_eq!((hears(one).await, hears(two).await), ("b".to_owned(), "a".to_owned()));
    // To the wildcard and back, on the same port, with callers all the time: none is lost.
    let caller = actix::spawn(async move {
        let mut calls = 0;
        while calls < 400 {
            assert_eq!(hears(two).await, "a");
            calls += 1;
        }
    });
    for number in 0..6 {
        let address = if number % 2 == 0 { ([0, 0, 0, 0], two).into() } else { listen(two) };
        pair.change(1, |section| section.connect[0].listen = address).await.unwrap();
        let elsewhere = std::net::TcpStream::connect(("127.0.0.2", two));
        assert_eq!(
            elsewhere.is_ok(),
            number % 2 == 0,
            "only the wildcard is reached on every loopback address"
        );
    }
    caller.await.unwrap();
}

#[actix::test]
async fn a_port_that_is_taken_is_refused_with_its_key_and_what_runs_runs_on() {
    let (mut pair, port) = Pair::with(Does::Name("it")).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let peer = pair.nodes[0].key;
    let service = ConnectedService { name: "it".to_owned(), peer, listen: address };
    let error = pair.change(1, |section| section.connect.push(service)).await.unwrap_err();
    assert_eq!(error.key.as_deref(), Some("protocol.services.connect[1].listen"));
    assert!(error.message.contains(&address.to_string()) && error.hint.is_some(), "{error:?}");
    assert_eq!(error.class, reload::Class::System);
    pair.step(1, Step::Rollback).await.unwrap();
    assert_eq!(hears(port).await, "it");
}
