//! The steps of a move with real folders, and what somebody does to them meanwhile.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reload::{Step, Transaction};
use storage::{DataDir, Signpost};

use super::*;

struct Scene {
    dir: tempfile::TempDir,
    history: Arc<History>,
    keeper: Addr<Keeper>,
    transaction: Cell<Transaction>,
}

// === impl Scene ===

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (here, conf) = (dir.path().join("data"), dir.path().join("conf.yaml"));
        let (history, _) = History::open(DataDir::open(&here).unwrap(), 10, Signpost::beside(&conf)).unwrap();
        let history = Arc::new(history);
        history.settle_here();
        let keeper = Keeper::start(Arc::new(HistorySection { data_dir: here }), Arc::clone(&history));
        Self { dir, history, keeper, transaction: Cell::new(Transaction::NONE) }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn section(&self, name: &str) -> Arc<HistorySection> {
        Arc::new(HistorySection { data_dir: self.folder(name) })
    }

    /// Begins a transaction.
    async fn prepare(&self, name: &str) -> Ack {
        self.transaction.set(self.transaction.get().next());
        self.step(Step::Prepare(self.section(name), Instant::now() + Duration::from_secs(60))).await
    }

    async fn step(&self, step: Step<HistorySection>) -> Ack {
        self.keeper.send(Reconfigure::new(self.transaction.get(), step)).await.unwrap()
    }

    async fn probe(&self) -> Ack {
        self.keeper.send(Reconfigure::new(Transaction::NONE, Step::Probe)).await.unwrap()
    }
}

#[actix::test]
async fn what_was_copied_before_a_successor_took_office_does_not_count() {
    let scene = Scene::new();
    scene.prepare("new").await.unwrap();
    assert!(scene.folder("new").join("generations").is_dir());
    let successor = Keeper::start(scene.section("data"), Arc::clone(&scene.history));
    let error = scene.step(Step::Commit).await.unwrap_err();
    assert_eq!(error.message, "a successor is in office");
    assert_eq!(scene.history.path(), scene.folder("data"));
    // The predecessor has let go of what it copied, and the one in office can go there.
    assert!(!scene.folder("new").exists());
    let scene = Scene { keeper: successor, ..scene };
    scene.prepare("new").await.unwrap();
    scene.step(Step::Commit).await.unwrap();
    scene.step(Step::Finish).await.unwrap();
    assert_eq!(scene.history.path(), scene.folder("new"));
}

#[actix::test]
async fn a_section_that_names_the_folder_in_use_moves_nothing() {
    let scene = Scene::new();
    scene.prepare("data").await.unwrap();
    for step in [Step::Commit, Step::Probe, Step::Finish] {
        scene.step(step).await.unwrap();
    }
    assert_eq!(scene.history.path(), scene.folder("data"));
}

#[actix::test]
async fn a_folder_that_is_not_the_one_that_was_locked_is_told_of() {
    let scene = Scene::new();
    scene.probe().await.unwrap();
    fs::rename(scene.folder("data"), scene.folder("aside")).unwrap();
    let gone = scene.probe().await.unwrap_err();
    fs::create_dir(scene.folder("data")).unwrap();
    let another = scene.probe().await.unwrap_err();
    assert!(another.message.ends_with("data: is not the folder any more that was locked"), "{another:?}");
    for error in [gone, another] {
        assert_eq!(error.key.as_deref(), Some(KEY), "{error:?}");
    }
    fs::remove_dir(scene.folder("data")).unwrap();
    fs::rename(scene.folder("aside"), scene.folder("data")).unwrap();
    scene.probe().await.unwrap();
}

/// Each cause in the words of whoever has to mend it, and with the key.
#[actix::test]
async fn a_folder_that_cannot_take_the_history_is_refused_and_nothing_is_moved() {
    let scene = Scene::new();
    fs::write(scene.folder("file"), "").unwrap();
    fs::create_dir_all(scene.folder("taken").join("generations")).unwrap();
    fs::write(scene.folder("taken").join("audit.jsonl"), "{}\n").unwrap();
    for name in ["file", "file/below", "taken", "data/below"] {
        let error = scene.prepare(name).await.unwrap_err();
        assert_eq!(error.key.as_deref(), Some(KEY), "{name}: {error:?}");
        assert!(error.message.starts_with("the node's data cannot be moved: "), "{name}: {error:?}");
        scene.step(Step::Rollback).await.unwrap();
    }
    assert_eq!(scene.history.path(), scene.folder("data"));
    scene.probe().await.unwrap();
}
