//! The global subscriber with a real actor behind it. One test, because a process has one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Addr, System};
use fednode::config::logging::{Level, LogFile, LogFormat, LoggingSection};
use fednode::logging::{self, InitError};
use reload::{Reconfigure, Step, Transaction};
use storage::{Member, MembersView, PeerKey, PeerStore, PeersSection};

const ALONE: &str = "No peers configured - running in standalone mode";

fn section(file: &Path, members: &[Member]) -> Arc<PeersSection> {
    let members = members.iter().map(|member| (member.key, member.clone())).collect();
    Arc::new(PeersSection { file: file.into(), max_known: 1, members: Arc::new(members) })
}

async fn step(store: &Addr<PeerStore>, transaction: Transaction, step: Step<PeersSection>) {
    store.send(Reconfigure::new(transaction, step)).await.unwrap().unwrap();
}

#[test]
fn a_node_says_once_that_it_is_alone_and_only_when_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("node.log");
    let logging_section = LoggingSection {
        level: Level::Info,
        targets: BTreeMap::new(),
        format: LogFormat::Json,
        console: false,
        color: false,
        file: LogFile::at(&log, 1 << 20, 1),
    };
    let handle = logging::init(&logging_section).unwrap();
    assert!(matches!(logging::init(&logging_section), Err(InitError::Twice)));
    let told = || {
        assert!(handle.flush(Duration::from_secs(60)), "the log is written");
        std::fs::read_to_string(&log).unwrap().matches(ALONE).count()
    };

    let peers = dir.path().join("peers.yaml");
    std::fs::write(&peers, "peers: []").unwrap();
    let member = Member {
        key: PeerKey::from_bytes(*net::Identity::generate().public_key().as_bytes()).unwrap(),
        addresses: vec![],
        name: None,
        connection_timeout: None,
        max_retries: None,
    };
    let (alone, together) = (section(&peers, &[]), section(&peers, &[member]));
    let view = MembersView::new(Arc::default());
    System::new().block_on(async {
        let by = Instant::now() + Duration::from_secs(60);
        let store = PeerStore::start(Arc::clone(&alone), &view, &storage::KnownBound::default());
        let first = Transaction::NONE.next();
        step(&store, first, Step::Prepare(Arc::clone(&together), by)).await;
        assert_eq!(told(), 1, "at the start");
        step(&store, first, Step::Commit).await;
        step(&store, first, Step::Finish).await;

        let second = first.next();
        step(&store, second, Step::Prepare(Arc::clone(&alone), by)).await;
        step(&store, second, Step::Commit).await;
        step(&store, second, Step::Rollback).await;
        assert_eq!(told(), 1, "not for a reload that was rolled back");

        let third = second.next();
        step(&store, third, Step::Prepare(Arc::clone(&alone), by)).await;
        step(&store, third, Step::Commit).await;
        step(&store, third, Step::Finish).await;
        assert_eq!(told(), 2, "once the members are gone");
    });
}
