//! Streams that cannot be: each is closed cleanly before a byte, and both nodes say why in their logs.

use std::net::SocketAddr;

use fednode_tests::{Port, Spec};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::scene::*;

/// Closed at the client's end without a byte and without a reset, though it has something on its way itself.
async fn is_turned_away(port: &Port, what: &str) {
    assert_eq!(hears(port).await, "", "{what}");
    let mut socket = dial(port).await;
    socket.write_all(&[0; 10_000]).await.unwrap();
    assert_eq!(read_all(&mut socket).await.unwrap_or_else(|e| panic!("{what}: {e}")), b"", "{what}");
}

#[tokio::test]
async fn whoever_is_refused_is_told_why_at_both_ends() {
    let mut scene = Scene::with(named("there").await).await;
    let target: SocketAddr = scene.nodes[THERE].spec().conf["protocol"]["services"]["expose"][0]["target"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let (mine, nobodys, down) = (Port::free(), Port::free(), Port::free());
    let (key, target) = (scene.nodes[HERE].key().to_owned(), target.to_string());
    scene
        .expose(json!([
            {"name": "mine", "target": target, "allow": [key]},
            {"name": "nobodys", "target": target, "allow": []},
            {"name": "down", "target": down.address().to_string()},
        ]))
        .await;
    let down_here = Port::free();
    let rows = [("it", &scene.port), ("mine", &mine), ("nobodys", &nobodys), ("down", &down_here)];
    let rows: Vec<_> = rows.iter().map(|(name, port)| scene.connection(name, port)).collect();
    scene.connect(json!(rows)).await;

    assert_eq!(hears(&mine).await, "there");
    is_turned_away(&scene.port, "unknown").await;
    is_turned_away(&nobodys, "not allowed").await;
    is_turned_away(&down_here, "down").await;
    for (name, here, there) in [
        ("it", "does not expose", "no service of this name"),
        ("nobodys", "does not allow", "may not use it"),
        ("down", "target does not answer", "cannot be reached"),
    ] {
        let log = |node: usize, event: &str, why: &str| {
            let log = scene.nodes[node].log();
            let service = format!("\"service\":\"{name}\"");
            assert!(
                log.lines().any(|line| [event, &service, why].iter().all(|part| line.contains(part))),
                "{event}, {name}, {why} in {log}"
            );
        };
        log(HERE, "a local connection to a service was closed", here);
        log(THERE, "a stream to a service was refused", there);
    }
    // It comes up; nobody has to be told.
    let listener = TcpListener::bind(down.address()).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            socket.write_all(b"up").await.unwrap();
        }
    });
    assert_eq!(hears(&down_here).await, "up");
}

#[tokio::test]
async fn members_that_are_not_connected_are_waited_for_a_moment() {
    let mut scene = Scene::with(named("there").await).await;
    let mut spec = scene.nodes.remove(THERE).kill().await;
    let here = scene.nodes.remove(0);
    is_turned_away(&scene.port, "not connected").await;
    here.wait_for_log("the member is not connected").await;
    // It dials by itself when it comes back; who calls before that waits for it.
    spec.conf["peers"]["reconnect_max"] = json!("200ms");
    let there = spec.start().await;
    let mut heard = hears(&scene.port).await;
    // On a machine that is slower than that wait, somebody who calls again.
    while heard.is_empty() {
        heard = hears(&scene.port).await;
    }
    assert_eq!(heard, "there");
    drop(there);
}

#[tokio::test]
async fn a_member_that_is_removed_loses_its_streams() {
    let mut scene = Scene::with(echo().await).await;
    let mut open = dial(&scene.port).await;
    is_alive(&mut open).await;
    let key = scene.nodes[HERE].key().to_owned();
    // Were the service to go, too: a plan promises only what it will keep.
    let exposed = scene.nodes[THERE].spec().conf["protocol"]["services"]["expose"].clone();
    scene.nodes[THERE].edit(|conf| conf["protocol"]["services"]["expose"] = json!([]));
    let warnings = |scene: &Scene| {
        let output = scene.nodes[THERE].spec().cli(&["reload", "--dry-run", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")["warnings"].clone()
    };
    let goes_on = warnings(&scene)[0]["message"].clone();
    let says = "1 open stream of service 'it' goes on until it ends";
    assert!(goes_on.as_str().is_some_and(|text| text.contains(says)), "{goes_on}");
    scene.nodes[THERE].edit_peers(|peers| peers.retain(|peer| peer["public_key"] != key.as_str()));
    assert_eq!(warnings(&scene), json!([]), "its member goes, and takes the stream along");
    scene.nodes[THERE].edit(|conf| conf["protocol"]["services"]["expose"] = exposed);
    committed(&scene.nodes[THERE].hangup().await);
    assert_eq!(read_all(&mut open).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    // In an open federation it may come back, but to no service.
    is_turned_away(&scene.port, "a stranger").await;
}

#[tokio::test]
async fn a_reader_that_stands_still_costs_neither_memory_nor_its_neighbours() {
    let stalls = serve(|mut socket| async move {
        socket.write_all(b"hello").await?;
        std::future::pending().await
    })
    .await;
    let mut specs = Spec::federation(2);
    specs[THERE].conf["protocol"] = json!({});
    let mut scene = Scene::of(specs, stalls).await;
    let (echo, beside) = (echo().await, Port::free());
    let it = scene.nodes[THERE].spec().conf["protocol"]["services"]["expose"][0].clone();
    scene.expose(json!([it, {"name": "beside", "target": echo.to_string()}])).await;
    let rows = json!([scene.connection("it", &scene.port), scene.connection("beside", &beside)]);
    scene.connect(rows).await;
    let mut neighbour = dial(&beside).await;
    is_alive(&mut neighbour).await;

    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut socket = dial(&scene.port).await;
        let mut hello = [0; 5];
        socket.read_exact(&mut hello).await.unwrap();
        let chunk = vec![0; 64 << 10];
        let mut sent = 0usize;
        // It takes what sockets and windows hold, and then no more.
        while let Ok(written) =
            tokio::time::timeout(std::time::Duration::from_millis(500), socket.write(&chunk)).await
        {
            sent += written.unwrap();
            assert!(sent < 48 << 20, "more than windows and buffers hold");
        }
        stalled.push(socket);
        is_alive(&mut neighbour).await;
    }
    drop(stalled);
    is_alive(&mut neighbour).await;
}
