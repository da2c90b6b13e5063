//! What a service manager is told (sd_notify(3), sd_watchdog_enabled(3)): every datagram, to the byte, on a real socket.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::time::Duration;

use fednode_tests::wait::PATIENCE;
use fednode_tests::{Node, Spec, eventually};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::net::UnixDatagram;

/// The manager's end.
struct Manager(UnixDatagram);

// === impl Manager ===

impl Manager {
    fn new(socket: StdDatagram) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self(UnixDatagram::from_std(socket).unwrap())
    }

    /// The next datagram, as it came.
    async fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let size =
            tokio::time::timeout(PATIENCE, self.0.recv(&mut buffer)).await.expect("it is told").unwrap();
        String::from_utf8(buffer[..size].to_vec()).unwrap()
    }

    /// The next datagram if one comes within so long.
    async fn next_within(&self, patience: Duration) -> Option<String> {
        tokio::time::timeout(patience, self.next()).await.ok()
    }

    /// The datagram that a reload begins with, whose clock is the kernel's at that time.
    async fn reloading(&self, since: u64) {
        let text = self.next().await;
        let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.strip_suffix('\n'));
        let usec: u64 = usec.unwrap_or_else(|| panic!("{text:?}")).parse().unwrap();
        assert!((since..=monotonic_usec()).contains(&usec), "{usec} is not between {since} and now");
    }
}

fn monotonic_usec() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000 + u64::try_from(now.tv_nsec).unwrap() / 1000
}

/// From the start to the stop.
async fn everything_is_told(manager: Manager, address: &str) {
    let mut node = Spec::new().env("NOTIFY_SOCKET", address).start().await;
    assert_eq!(manager.next().await, "READY=1\n");

    let since = monotonic_usec();
    node.reload_with(|conf| conf["logging"]["level"] = json!("warn")).await;
    manager.reloading(since).await;
    assert_eq!(manager.next().await, "READY=1\nSTATUS=generation 2 (committed)\n");

    let since = monotonic_usec();
    let refused = node.reload_with(|conf| conf["logging"]["level"] = json!("loud")).await;
    manager.reloading(since).await;
    let why = refused["error"].as_str().unwrap();
    assert!(why.contains("logging.level"), "{why}");
    let expected = format!("READY=1\nSTATUS=generation 2 runs on; reload rejected: {why}\n");
    assert_eq!(manager.next().await, expected);

    let since = monotonic_usec();
    node.reload_with(|conf| conf["logging"]["level"] = json!("warn")).await;
    manager.reloading(since).await;
    assert_eq!(manager.next().await, "READY=1\nSTATUS=generation 2 (unchanged)\n");

    let (status, _spec) = node.stop().await;
    assert!(status.success());
    assert_eq!(manager.next().await, "STOPPING=1\n");
    assert_eq!(manager.next_within(Duration::ZERO).await, None, "nothing after that");
}

#[tokio::test]
async fn all_is_told_on_a_socket_with_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify.sock");
    let manager = Manager::new(StdDatagram::bind(&path).unwrap());
    everything_is_told(manager, path.to_str().unwrap()).await;
}

#[tokio::test]
async fn all_is_told_on_an_abstract_socket() {
    let name = format!("fednode-supervisor-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager::new(StdDatagram::bind_addr(&address).unwrap());
    everything_is_told(manager, &format!("@{name}")).await;
}

#[tokio::test]
async fn a_manager_that_is_gone_keeps_nobody_from_serving() {
    let folder = tempfile::tempdir().unwrap();
    let mut node =
        Spec::new().env("NOTIFY_SOCKET", folder.path().join("none").to_str().unwrap()).start().await;
    let outcome = node.reload_with(|conf| conf["logging"]["level"] = json!("warn")).await;
    assert_eq!(outcome["outcome"], "committed");
    assert!(node.log().contains("the supervisor was not told"), "{}", node.log());
    assert!(node.stop().await.0.success());
}

/// A node that is watched, with `WATCHDOG_PID` as a shell computes it from `$$`, which is the node's pid later.
async fn watched(pid: &str, more: &[(&str, &str)]) -> (tempfile::TempDir, Manager, Node) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify.sock");
    let manager = Manager::new(StdDatagram::bind(&path).unwrap());
    let script = format!("WATCHDOG_PID={pid} exec \"$@\"");
    let mut spec = Spec::new().env("NOTIFY_SOCKET", path.to_str().unwrap()).env("WATCHDOG_USEC", "200000");
    for (name, value) in more {
        spec = spec.env(name, value);
    }
    let node = spec.wrapped(&["sh", "-c", &script, "sh"]).start().await;
    assert_eq!(manager.next().await, "READY=1\n");
    (folder, manager, node)
}

#[tokio::test]
async fn a_watchdog_is_fed() {
    let (_folder, manager, _node) = watched("$$", &[]).await;
    for _ in 0..3 {
        assert_eq!(manager.next().await, "WATCHDOG=1\n");
    }
}

#[tokio::test]
async fn a_watchdog_of_another_process_is_not_fed() {
    let (_folder, manager, node) = watched("1", &[]).await;
    // Longer than the watchdog of this process would have been patient.
    let told = manager.next_within(Duration::from_secs(1)).await;
    assert_eq!(told, None);
    node.stop().await;
    assert_eq!(manager.next().await, "STOPPING=1\n");
}

#[tokio::test]
async fn a_watchdog_is_not_fed_for_a_node_that_cannot_be_changed_any_more() {
    let (_folder, manager, mut node) =
        watched("$$", &[("FAILPOINTS", "coordinator::record=sleep(600000)")]).await;
    assert_eq!(manager.next().await, "WATCHDOG=1\n");
    node.edit(|conf| conf["logging"]["level"] = json!("warn"));
    node.signal(Signal::HUP);
    // Ten times as long as it was asked for.
    let quiet = Duration::from_secs(2);
    eventually("it is not fed any more", async || manager.next_within(quiet).await.is_none().then_some(()))
        .await;
    let healthy = node.client().get("/healthz").await.unwrap();
    assert!(healthy.status.is_success(), "the process is there, and answers");
}
