//! A door that members are said to be behind: how often it is knocked at.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fednode_tests::stage::NOBODY;
use fednode_tests::{Port, Spec, eventually};
use serde_json::json;

use crate::scene::Scene;

/// Somebody who hangs up at once, and counts how often.
pub struct Door {
    pub port: Port,
    opened: Arc<AtomicU64>,
}

// === impl Door ===

impl Door {
    /// A new member of this node, at whose address it stands.
    pub async fn of(scene: &mut Scene, index: usize) -> Self {
        let door = Self::new();
        has_also(scene.nodes[index].spec_mut(), &door.port.loopback());
        scene.nodes[index].spec().write();
        let outcome = scene.nodes[index].hangup().await;
        assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
        door
    }

    pub fn new() -> Self {
        let (port, opened) = (Port::free(), Arc::new(AtomicU64::new(0)));
        let listener = TcpListener::bind(port.address()).expect("the port is free");
        listener.set_nonblocking(true).expect("it can be told");
        let listener = tokio::net::TcpListener::from_std(listener).expect("within a runtime");
        let count = Arc::clone(&opened);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port, opened }
    }

    pub fn count(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }

    /// Waits until so many have come.
    pub async fn opens(&self, times: u64) {
        let what = format!("dial {times} at {}", self.port.number());
        eventually(&what, async || (self.count() >= times).then_some(())).await;
    }
}

/// Writes one more member, who is at this address.
pub fn has_also(spec: &mut Spec, address: &str) {
    let nobody = json!({"public_key": NOBODY, "addresses": [address]});
    spec.peers["peers"].as_array_mut().expect("a list").push(nobody);
}

/// Nobody is dialled any more, but for a pause that had begun and a dial that was on its way, while the other node, whose pace is
/// what it was, goes on.
pub async fn stands_still(door: &Door, other: &Door) {
    let (before, beside) = (door.count(), other.count());
    other.opens(beside + 6).await;
    let more = door.count() - before;
    assert!(more <= 2, "{more} dials, where the pauses are an hour");
}
