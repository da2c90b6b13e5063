//! A dial that arrives long after another connection to the same member has come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use net::NetworkSection;
use storage::{Member, Members};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::harness::*;

/// More than `crossed` takes for crossed, or leaves open.
const LATE: Duration = Duration::from_millis(7500);

fn only(member: Member) -> Arc<Members> {
    Arc::new(Members::from([(member.key, member)]))
}

fn connection(node: &Node) -> (String, bool) {
    let connections = node.view.connections();
    assert_eq!(connections.len(), 1, "{connections:?}");
    (connections[0].id.clone(), connections[0].direction == net::Direction::Outbound)
}

#[actix::test]
async fn it_takes_nobodys_place() {
    let patient = || NetworkSection { connection_timeout: Duration::from_secs(60), ..network_section() };
    let (mut slow, mut quick) = (Node::start(patient()), Node::start(patient()));
    // Whoever dials here is kept waiting until it is said, then is through to `quick`.
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = door.local_addr().unwrap().port();
    let behind = quick.view.listeners()[0].to_string();
    let behind: SocketAddr = ([127, 0, 0, 1], behind.rsplit('/').next().unwrap().parse().unwrap()).into();
    let (let_through, told) = oneshot::channel();
    let (has_come, came) = oneshot::channel();
    let through = actix::spawn(async move {
        let (mut caller, _) = door.accept().await.unwrap();
        has_come.send(()).unwrap();
        told.await.unwrap();
        let mut target = TcpStream::connect(behind).await.unwrap();
        // Ends with the connection, in an error or not.
        let _ = tokio::io::copy_bidirectional(&mut caller, &mut target).await;
    });

    let at_the_door = member(quick.key, vec![address(&format!("/ip4/127.0.0.1/tcp/{port}"))]);
    slow.reload_with(|section| section.members = only(at_the_door)).await;
    soon("the dial", came).await.unwrap();
    let known = members([&slow]);
    quick.reload_with(|section| section.members = known).await;
    for node in [&slow, &quick] {
        soon("the connection", node.view.when(|view| view.connection_count() == 1)).await;
    }
    let before = (connection(&slow), connection(&quick));
    assert_eq!((before.0.1, before.1.1), (false, true));

    // What is late is told by the clock, of which a node has one.
    tokio::time::sleep(LATE).await;
    let_through.send(()).unwrap();
    soon("the late one's end", through).await.unwrap();
    quick.send(&slow, b"there").await.unwrap();
    slow.send(&quick, b"and back").await.unwrap();
    soon("one connection", quick.view.when(|view| view.connection_count() == 1)).await;
    assert_eq!((connection(&slow), connection(&quick)), before);
}
