//! The section `network.limits`: what is over a limit is refused, what is there stays.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};

use fednode_tests::{Port, Stranger, eventually};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Key;
use crate::network::denied;
use crate::scene::{LIVE, Scene};

pub async fn connections(key: Key) {
    let mut scene = Scene::start().await;
    let at = scene.address();
    let (first, second, third) = (Stranger::new(), Stranger::new(), Stranger::new());
    // Two are the members'.
    scene.change(key, json!(3)).await;
    let one = scene.call(&first, &at).await.expect("there is room for one");
    assert_eq!(scene.call(&second, &at).await, None);
    denied(scene.live(), &["too many connections"]).await;
    scene.change(key, json!(4)).await;
    let two = scene.call(&second, &at).await.expect("there is room for one more");
    scene.change(key, json!(1)).await;
    assert_eq!(scene.call(&third, &at).await, None);
    assert!(first.holds(one) && second.holds(two), "lowering sheds nothing");
    scene.change(key, json!(1024)).await;
    scene.call(&third, &at).await.expect("there is room again");
    scene.finish().await;
}

pub async fn connections_per_peer(key: Key) {
    let mut scene = Scene::start().await;
    let at = scene.address();
    let stranger = Stranger::new();
    let mut calls = Vec::new();
    for most in [3, 5] {
        scene.change(key, json!(most)).await;
        while calls.len() < most {
            calls.push(scene.call(&stranger, &at).await.expect("there is room for one more of this peer"));
        }
        assert_eq!(scene.call(&stranger, &at).await, None);
        assert!(scene.lets_in(&at).await, "others are not concerned");
    }
    denied(scene.live(), &["of this peer", &stranger.peer_id.to_string()]).await;
    scene.change(key, json!(1)).await;
    assert_eq!(scene.call(&stranger, &at).await, None);
    assert!(calls.iter().all(|call| stranger.holds(*call)), "lowering sheds nothing");
    let other = Stranger::new();
    scene.call(&other, &at).await.expect("one of a peer");
    assert_eq!(scene.call(&other, &at).await, None);
    scene.change(key, json!(2)).await;
    scene.call(&other, &at).await.expect("two of a peer");
    scene.finish().await;
}

/// Loopback does not count by address: the machine's own address does.
pub async fn connections_per_ip(key: Key) {
    let Some(ip) = own_address() else { return };
    let port = Port::free();
    let mut scene = Scene::with(|specs| {
        let first = specs[LIVE].port.loopback();
        let second = port.loopback().replace("127.0.0.1", &ip.to_string());
        specs[LIVE].conf["network"]["addresses"] = json!([first, second]);
    })
    .await;
    let at = port.loopback().replace("127.0.0.1", &ip.to_string());
    let strangers: Vec<_> = (0..4).map(|_| Stranger::new()).collect();
    scene.change(key, json!(1)).await;
    let one = scene.call(&strangers[0], &at).await.expect("one of an address");
    assert_eq!(scene.call(&strangers[1], &at).await, None);
    denied(scene.live(), &["of this address", &ip.to_string()]).await;
    let loopback = scene.address();
    assert!(scene.lets_in(&loopback).await, "loopback is not counted");
    scene.change(key, json!(2)).await;
    let two = scene.call(&strangers[1], &at).await.expect("two of an address");
    assert_eq!(scene.call(&strangers[2], &at).await, None);
    scene.change(key, json!(1)).await;
    assert_eq!(scene.call(&strangers[2], &at).await, None);
    assert!(strangers[0].holds(one) && strangers[1].holds(two), "lowering sheds nothing");
    scene.change(key, json!(64)).await;
    for stranger in &strangers[2..] {
        scene.call(stranger, &at).await.expect("there is room again");
    }
    scene.finish().await;
}

/// The address that this machine reaches others from. A machine without any has nobody to count.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    // Nothing is sent: the kernel only looks for the way (RFC 5737 address).
    socket.connect(("198.51.100.1", 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

pub async fn pending_incoming(key: Key) {
    // Whoever says nothing is not hung up on for that while this test runs.
    let mut scene = Scene::with(|specs| specs[LIVE].conf["peers"]["connection_timeout"] = json!("10m")).await;
    let mut silent = Vec::new();
    scene.change(key, json!(2)).await;
    four_more_until_held(2, &mut silent, &scene).await;
    denied(scene.live(), &["too many handshakes", "127.0.0.1"]).await;
    scene.change(key, json!(1)).await;
    assert_eq!(held(&silent), 2, "lowering sheds nothing");
    scene.change(key, json!(3)).await;
    four_more_until_held(3, &mut silent, &scene).await;
    scene.change(key, json!(64)).await;
    four_more_until_held(3 + 4, &mut silent, &scene).await;
    let at = scene.address();
    assert!(scene.lets_in(&at).await, "there is room again");
    scene.finish().await;
}

/// Four more who say nothing. Waits until so many of all have not been hung up on; which ones is the node's choice.
async fn four_more_until_held(count: usize, silent: &mut Vec<TcpStream>, scene: &Scene) {
    for _ in 0..4 {
        silent.push(scene.connect().await);
    }
    let what = format!("{count} handshakes at once");
    eventually(&what, async || (held(silent) == count).then_some(())).await;
}

fn held(sockets: &[TcpStream]) -> usize {
    let is_held = |socket: &&TcpStream| {
        socket.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    sockets.iter().filter(is_held).count()
}

/// Whether this raw connection gets the first line of libp2p's handshake (multistream-select).
pub async fn is_served(stream: &mut TcpStream) -> bool {
    const HELLO: &[u8] = b"\x13/multistream/1.0.0\n";
    let mut reply = [0; HELLO.len()];
    stream.write_all(HELLO).await.is_ok() && stream.read_exact(&mut reply).await.is_ok() && reply == *HELLO
}
