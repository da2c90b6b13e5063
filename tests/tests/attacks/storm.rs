//! Connections as fast as they can be made, while members come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fednode_tests::intruder::connect;
use tokio::io::AsyncWriteExt as _;

use crate::arena::{Arena, loopback};

#[tokio::test]
async fn a_storm_from_one_address_while_members_reconnect() {
    let mut arena = Arena::open().await;
    let to = arena.address();
    let (over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let storm: Vec<_> = (0..4_u8)
        .map(|n| {
            let (over, made) = (Arc::clone(&over), Arc::clone(&made));
            tokio::spawn(async move {
                // The last ones of each: some hang up at once, some are left to the node.
                let mut open = std::collections::VecDeque::new();
                while !over.load(Ordering::SeqCst) {
                    // A full accept queue is no reason to stop.
                    if let Ok(mut socket) = connect(loopback(2), to).await {
                        let _ = socket.write_all(b"\x13/multistream/1.0.0\n").await;
                        made.fetch_add(1, Ordering::SeqCst);
                        if n % 2 == 0 {
                            open.push_back(socket);
                        }
                    }
                    if open.len() > 50 {
                        open.pop_front();
                    }
                }
            })
        })
        .collect();
    for _ in 0..2 {
        arena.restart_a_member().await;
        arena.goes_on().await;
    }
    over.store(true, Ordering::SeqCst);
    for task in storm {
        task.await.expect("it ends");
    }
    let made = made.load(Ordering::SeqCst);
    assert!(made > 100, "no storm: {made}");
    arena.survives(&format!("a storm of {made} connections")).await;
}
