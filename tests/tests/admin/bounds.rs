//! Slow ones, silent ones, and those who send too much.

use fednode_tests::eventually;
use fednode_tests::web::Way;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::scene::{Scene, bearer, good};

#[tokio::test]
async fn slow_callers_are_cut_off() {
    let scene = Scene::plain().await;
    let way = scene.plainly();
    let token = bearer(&good());
    let head = "GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ";
    let body = format!("POST /admin/reload HTTP/1.1\r\nhost: x\r\n{token}\r\ncontent-length: 100\r\n\r\n{{");
    let whole = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    // Nothing at all; half a head; half a body; nothing after an answer.
    let ends = ["", head, &body, whole].map(|text| {
        let way = way.clone();
        async move {
            let mut line = way.connect().await.expect("a connection");
            line.say(text).await.expect("it can be sent");
            line.hear_the_end().await.unwrap_or_else(|error| panic!("{text:?}: {error}"))
        }
    });
    futures::future::join_all(ends).await;
    let mut line = way.connect().await.expect("a connection");
    line.say(&body).await.expect("it can be sent");
    let reply = line.hear().await.expect("an answer");
    assert_eq!(reply.status, 408, "{reply:?}");
    assert_eq!(reply.json()["status"], "error");
    assert!(scene.node.audit().len() == 1, "half a body reloads nothing");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let scene = Scene::secured().await;
    let Way::Tls(address, _) = scene.by_tls() else { unreachable!("it is by TLS") };
    let silent = Way::Plain(address);
    let mut line = silent.connect().await.expect("a connection");
    line.hear_the_end().await.expect("it is closed");
    let mut line = silent.connect().await.expect("a connection");
    line.say("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it can be sent");
    let count = line.hear_the_end().await.expect("it is closed");
    assert!(count < 16, "an alert and no answer: {count} bytes");
    assert_eq!(scene.by_tls().ask("GET /healthz", "").await.status, 200);
}

#[tokio::test]
async fn a_crowd_of_silent_ones_keeps_nobody_out() {
    let scene = Scene::secured().await;
    let mut silent = Vec::new();
    for index in 0..600 {
        let mut stream = TcpStream::connect(scene.port.address()).await.expect("a connection");
        if index % 2 == 0 {
            // The beginning of a handshake.
            let _ = stream.write_all(&[22, 3, 1]).await;
        }
        silent.push(stream);
        if index % 50 == 0 {
            assert_eq!(scene.by_tls().ask("GET /healthz", "").await.status, 200);
        }
    }
    let token = bearer(&good());
    assert_eq!(scene.by_tls().ask(&format!("GET /admin/status\n{token}"), "").await.status, 200);
}

#[tokio::test]
async fn a_stream_is_not_cut_for_being_silent_nor_for_a_crowd() {
    let scene = Scene::plain().await;
    let token = bearer(&good());
    let mut line = scene.plainly().connect().await.expect("a connection");
    let reply = line.ask(&format!("GET /v1/events\n{token}"), "").await.expect("an answer");
    assert_eq!(reply.status, 200);
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(TcpStream::connect(scene.port.address()).await.expect("a connection"));
    }
    let asked = scene.plainly().ask(&format!("POST /admin/reload\n{token}"), "").await;
    assert_eq!(asked.status, 200);
    line.hear_of("reload_finished").await.expect("the stream goes on");
}

#[tokio::test]
async fn streams_leave_room_for_whoever_asks_and_goes() {
    let scene = Scene::plain().await;
    let ask = format!("GET /v1/events\n{}", bearer(&good()));
    let mut streams = Vec::new();
    loop {
        let mut line = scene.plainly().connect().await.expect("a connection");
        let reply = line.ask(&ask, "").await.expect("an answer");
        if reply.status != 200 {
            assert_eq!((reply.status, &reply.json()["status"]), (503, &"error".into()), "{reply:?}");
            break;
        }
        streams.push(line);
    }
    assert_eq!(streams.len(), 192);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(scene.plainly().ask(&format!("GET {path}"), "").await.status, 200);
    }
    streams.pop();
    eventually("there is a place again", async || {
        let mut line = scene.plainly().connect().await.expect("a connection");
        let is_in = line.ask(&ask, "").await.expect("an answer").status == 200;
        is_in.then(|| streams.push(line))
    })
    .await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let scene = Scene::plain().await;
    let way = scene.plainly();
    let token = bearer(&good());
    let reply = way.ask(&format!("GET /healthz\nx-large: {}", "x".repeat(40 << 10)), "").await;
    assert_eq!(reply.status, 431, "{reply:?}");
    assert_eq!(reply.json()["status"], "error");
    // The parser's own bound: no answer of ours, and no connection.
    let mut line = way.connect().await.expect("a connection");
    let _ = line.say(&format!("GET /healthz HTTP/1.1\r\nx: {}", "x".repeat(300 << 10))).await;
    line.hear_the_end().await.expect("it is closed");
    let large = "x".repeat(100 << 10);
    assert_eq!(way.ask(&format!("POST /admin/reload\n{token}"), &large).await.status, 413);
    let mut line = way.connect().await.expect("a connection");
    line.say("POST /admin/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\nx")
        .await
        .expect("sent");
    let reply = line.hear().await.expect("an answer");
    assert_eq!((reply.status, reply.is_last()), (401, true), "{reply:?}");
    line.hear_the_end().await.expect("it is closed");
    let mut line = way.connect().await.expect("a connection");
    line.say("POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\nx").await.expect("sent");
    let reply = line.hear().await.expect("an answer");
    assert_eq!((reply.status, reply.is_last()), (405, true), "{reply:?}");
    line.hear_the_end().await.expect("it is closed");
    let topic = format!("POST /v1/topics/none/messages\n{token}");
    assert_eq!(way.ask(&topic, &"x".repeat(2 << 20)).await.status, 404);
    eventually("it still answers", async || {
        way.try_ask("GET /healthz", "").await.ok().filter(|reply| reply.status == 200)
    })
    .await;
}
