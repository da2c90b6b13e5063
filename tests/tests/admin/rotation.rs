//! A new certificate, a hundred times, while requests come in without a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::scene::{Scene, bearer, good, put};

#[tokio::test]
async fn a_hundred_certificates_and_no_failed_request() {
    const ROTATIONS: u64 = 100;
    let scene = Scene::secured().await;
    let way = scene.by_tls();
    let token = bearer(&good());
    let (over, kept, fresh) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut load = Vec::new();
    for keeps in [true, true, false] {
        let (way, over, token) = (way.clone(), Arc::clone(&over), token.clone());
        let count = Arc::clone(if keeps { &kept } else { &fresh });
        load.push(tokio::spawn(async move {
            let ask = format!("GET /admin/status\n{token}");
            let mut line = None;
            while !over.load(Ordering::SeqCst) {
                let mut open = match line.take() {
                    Some(open) => open,
                    None => way.connect().await.expect("a connection"),
                };
                let reply = open.ask(&ask, "").await.expect("an answer");
                assert_eq!(reply.status, 200, "{reply:?}");
                count.fetch_add(1, Ordering::SeqCst);
                line = (keeps && !reply.is_last()).then_some(open);
            }
        }));
    }
    for rotation in 0..ROTATIONS {
        let pair = scene.authority.pair();
        put(scene.node.spec(), &pair);
        let outcome = scene.node.hangup().await;
        assert_eq!(outcome["outcome"], "committed", "rotation {rotation}: {outcome:#}");
        let changed: Vec<_> =
            outcome["changes"].as_array().into_iter().flatten().map(|change| &change["path"]).collect();
        assert_eq!(changed, ["admin.tls.certificate", "admin.tls.private_key"]);
        let line = way.connect().await.expect("a connection");
        assert_eq!(line.certificate.as_ref(), Some(&pair.der), "rotation {rotation}");
        assert!(load.iter().all(|task| !task.is_finished()), "a request failed at rotation {rotation}");
    }
    over.store(true, Ordering::SeqCst);
    for task in load {
        task.await.expect("no request failed");
    }
    let (kept, fresh) = (kept.load(Ordering::SeqCst), fresh.load(Ordering::SeqCst));
    println!("{kept} requests on connections that were kept, {fresh} on new ones");
    assert!(kept > ROTATIONS && fresh > 0, "{kept} and {fresh}: a load that was none");
}
