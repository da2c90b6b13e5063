//! One long transfer while everything around it changes: byte for byte, on one connection.

use std::sync::Arc;

use fednode_tests::Port;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;

use crate::scene::*;

/// How much is transferred in each direction, in MiB, if the environment does not say.
const MIB: usize = 64;
const VARIABLE: &str = "FEDNODE_TRANSFER_MIB";
/// How often services around it are added and removed.
const CHANGES: usize = 200;
const BLOCK: usize = 64 << 10;

/// The transfer's bytes at a place: its number, eight bytes at a time, so that none can stand in for another.
fn block(number: usize) -> Vec<u8> {
    let first = (number * BLOCK / 8) as u64;
    (first..)
        .take(BLOCK / 8)
        .flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

/// Sends each block when there is leave for it.
async fn send(mut to: OwnedWriteHalf, blocks: usize, leave: Arc<Semaphore>) {
    for number in 0..blocks {
        leave.acquire().await.expect("never closed").forget();
        to.write_all(&block(number)).await.expect("the stream holds");
    }
    to.shutdown().await.expect("the stream holds");
}

async fn receive(mut from: OwnedReadHalf, blocks: usize) {
    let mut data = vec![0; BLOCK];
    for number in 0..blocks {
        from.read_exact(&mut data).await.expect("the stream holds");
        assert!(data == block(number), "block {number} is another one");
    }
    assert_eq!(from.read(&mut data).await.expect("a clean end"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_runs_while_services_around_it_come_and_go() {
    let mib = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(MIB);
    let blocks = (mib << 20) / BLOCK;
    let mut scene = Scene::with(echo().await).await;
    let before = scene.connections().await;
    let leave = Arc::new(Semaphore::new(0));
    let (reader, writer) = dial(&scene.port).await.into_split();
    let sender = tokio::spawn(send(writer, blocks, Arc::clone(&leave)));
    let receiver = tokio::spawn(receive(reader, blocks));

    let (other, port) = (named("another").await, Port::free());
    let listeners = [Port::free(), Port::free()];
    let it = scene.nodes[THERE].spec().conf["protocol"]["services"]["expose"][0].clone();
    let row = scene.connection("it", &scene.port);
    for change in 0..CHANGES {
        // A part of it moves during each change, not between them.
        leave.add_permits(blocks / CHANGES);
        let is_there = change % 2 == 0;
        let more = json!({"name": format!("more-{change}"), "target": other.to_string()});
        let extra = scene.connection(&format!("more-{change}"), &port);
        for node in [THERE, HERE] {
            let first = scene.nodes[node].spec().port.loopback();
            let second = listeners[node].loopback();
            let outcome = scene.nodes[node]
                .reload_with(|conf| {
                    let services = &mut conf["protocol"]["services"];
                    if node == THERE {
                        services["expose"] = if is_there { json!([it, more]) } else { json!([it]) };
                    } else {
                        services["connect"] = if is_there { json!([extra, row]) } else { json!([row]) };
                    }
                    conf["logging"]["level"] = json!(if change % 4 < 2 { "info" } else { "warn" });
                    conf["network"]["limits"] = json!({"connections": 1000 + change % 7});
                    conf["network"]["addresses"] =
                        if change % 10 < 5 { json!([first]) } else { json!([first, second]) };
                })
                .await;
            committed(&outcome);
        }
        if is_there {
            assert_eq!(hears(&port).await, "another", "change {change}");
        } else {
            assert!(!port.accepts(), "change {change}");
        }
    }
    leave.add_permits(blocks);
    sender.await.expect("it sends all");
    receiver.await.expect("it gets all, as it was");
    assert_eq!(scene.connections().await, before, "one connection");
    scene.wait_for_streams(0).await;
    let rows = services(&scene.nodes[HERE]).await;
    assert_eq!(
        rows["connect"][0]["bytes_sent"],
        (blocks * BLOCK) as u64,
        "all on one stream, once: {rows:#}"
    );
}
