//! Threads that change while connections are on their way.

use std::sync::Arc;

use net::NetworkSection;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::harness::*;

#[actix::test]
async fn a_connection_whose_handshake_began_on_threads_that_are_gone_lives() {
    let mut other = Node::start(network_section());
    // A line that carries nothing until it is told to.
    let line = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = address(&format!("/ip4/127.0.0.1/tcp/{}", line.local_addr().unwrap().port()));
    let (target, (go, may_go)) = (("127.0.0.1", other.port()), oneshot::channel::<()>());
    actix::spawn(async move {
        let (mut near, _) = line.accept().await.unwrap();
        let mut far = TcpStream::connect(target).await.unwrap();
        may_go.await.unwrap();
        let _ = copy_bidirectional(&mut near, &mut far).await;
    });
    let members = Arc::new([(other.key, member(other.key, vec![at]))].into());
    let mut one = Node::start(NetworkSection { members, ..network_section() });
    soon("a dial", one.view.when(|view| view.handshakes() == 1)).await;
    soon("a handshake", other.view.when(|view| view.handshakes() == 1)).await;
    for node in [&mut one, &mut other] {
        node.reload_with(|section| section.worker_threads = 1).await;
    }
    go.send(()).unwrap();
    soon("the dialler", one.view.when(|_| one.is_connected_to(&other))).await;
    soon("the other", other.view.when(|_| other.is_connected_to(&one))).await;
    let (ids, theirs) = (one.ids(), other.ids());
    for _ in 0..20 {
        one.send(&other, b"there").await.unwrap();
        other.send(&one, b"and back").await.unwrap();
    }
    assert_eq!((one.ids(), other.ids()), (ids, theirs));
}
