//! A stop, seen from outside (O4): not ready first, then what is in flight comes to its end, then goodbye, and the process ends well.

use fednode_tests::eventually;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::scene::*;

/// Keeps something moving on a stream until it is told to end.
struct Busy {
    end: tokio::sync::oneshot::Sender<()>,
    task: JoinHandle<TcpStream>,
}

// === impl Busy ===

impl Busy {
    fn keep(mut socket: TcpStream) -> Self {
        let (end, mut ended) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            while ended.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                is_alive(&mut socket).await;
            }
            socket
        });
        Self { end, task }
    }

    /// The stream, still open.
    async fn rest(self) -> TcpStream {
        self.end.send(()).expect("it goes on");
        self.task.await.expect("every byte came back")
    }
}

/// Two nodes with a busy stream between them, of which the second has been told to stop, and has all the time of the world.
async fn stopping() -> (Scene, Busy) {
    let mut specs = fednode_tests::Spec::federation(2);
    specs[HERE].conf["node"]["shutdown_timeout"] = json!("1h");
    let scene = Scene::of(specs, echo().await).await;
    let busy = Busy::keep(dial(&scene.port).await);
    scene.wait_for_streams(1).await;
    assert!(scene.nodes[HERE].client().get("/readyz").await.unwrap().status.is_success());
    scene.nodes[HERE].signal(Signal::TERM);
    scene.nodes[HERE].wait_for_log("Shutting down...").await;
    (scene, busy)
}

#[tokio::test]
async fn a_stop_is_told_first_and_lets_what_is_in_flight_come_to_its_end() {
    let (mut scene, busy) = stopping().await;
    let client = scene.nodes[HERE].client();
    let ready = eventually("it is not ready", async || {
        let answer = client.get("/readyz").await.unwrap();
        (answer.status.as_u16() == 503).then(|| answer.json::<Value>().unwrap())
    })
    .await;
    assert_eq!(ready["checks"]["config"]["error"], "the node is stopping", "{ready:#}");
    assert!(client.get("/healthz").await.unwrap().status.is_success(), "alive until the end");
    let refused = client.post("/admin/reload", &[], Vec::new()).await.unwrap();
    assert_eq!(refused.status.as_u16(), 503, "{refused:?}");
    eventually("no new streams", async || (!scene.port.accepts()).then_some(())).await;

    // A SIGHUP changes nothing any more.
    let told = scene.nodes[HERE].audit().len();
    scene.nodes[HERE].edit(|conf| conf["logging"]["level"] = json!("error"));
    scene.nodes[HERE].signal(Signal::HUP);
    let mut open = busy.rest().await;
    is_alive(&mut open).await;
    assert!(scene.nodes[HERE].try_wait().is_none(), "it waits for the stream");

    open.shutdown().await.unwrap();
    assert_eq!(read_all(&mut open).await.unwrap(), b"", "the stream ended as it should");
    assert_eq!(scene.nodes[HERE].wait_for_end().await.code(), Some(0));
    assert!(scene.nodes[HERE].log().contains("Shutdown complete"));
    assert_eq!(scene.nodes[HERE].audit().len(), told, "nothing was reloaded");
    let left = scene.nodes[HERE].data_dir();
    assert!(!left.join("fednode.pid").exists() && !left.join("admin.sock").exists());
    // It said why it went.
    let line = scene.nodes[THERE].wait_for_log("connection closed").await;
    assert!(line.contains("stop"), "{line}");
}

#[tokio::test]
async fn a_second_signal_stops_at_once_whatever_is_in_flight() {
    let (mut scene, busy) = stopping().await;
    let client = scene.nodes[HERE].client();
    eventually("it is stopping", async || {
        (client.get("/readyz").await.unwrap().status.as_u16() == 503).then_some(())
    })
    .await;
    // The stream moves, and the hour is long.
    scene.nodes[HERE].signal(Signal::INT);
    assert_eq!(scene.nodes[HERE].wait_for_end().await.code(), Some(0));
    assert!(scene.nodes[HERE].log().contains("a second signal: stopping at once"));
    busy.task.abort();
}

#[tokio::test]
async fn a_stop_with_nothing_in_flight_needs_no_patience() {
    let mut specs = fednode_tests::Spec::federation(2);
    for spec in &mut specs {
        spec.conf["node"]["shutdown_timeout"] = json!("1h");
    }
    let mut scene = Scene::of(specs, echo().await).await;
    let going = scene.nodes.remove(HERE);
    let (status, spec) = going.stop().await;
    assert_eq!(status.code(), Some(0));
    scene.nodes[THERE].wait_for_connections(0).await;
    let node = spec.start().await;
    node.wait_for_connections(1).await;
}
