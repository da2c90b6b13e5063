//! A service of three actors, `log` ← `store` ← `server`, each with a number for a section and faults on command.

#![allow(unreachable_pub, reason = "a module of a test is not seen from outside")]
#![allow(dead_code, reason = "each test program uses its own part of it")]

mod parts;
mod service;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, System};
use arc_swap::ArcSwap;
use reload::history::Unconfirmed;
use reload::outcome::Kind;
use reload::{
    ActorComponent, Aim, Board, Confirm, Coordinator, DryRun, Generation, Link, Origin, Outcome, Parts,
    Pulse, Refusal, Reload, Snapshot, Stop, Trigger, Which,
};

pub use parts::Fault;
use parts::{Log, Server, Store};
use service::{Config, Settings, Shared};

pub const BUDGET: Duration = Duration::from_secs(2);

/// Runs a test inside an actix system whose clock stands still unless everybody waits.
pub fn on(test: impl Future<Output = ()>) {
    System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    })
    .block_on(test);
}

pub type Asked = tokio::task::JoinHandle<Result<Arc<Outcome>, Refusal>>;

pub struct Rig {
    shared: Shared,
    board: Arc<Board>,
    coordinator: Addr<Coordinator<Config>>,
}

impl Rig {
    /// `server` cannot be replaced, as the network actor of a node cannot.
    pub fn start() -> Self {
        let settings = Settings { log: 1, store: 1, server: 1, wrong: false, health_gate: true };
        let shared = Shared::default();
        shared.lock().file = Some(settings.clone());
        shared.lock().kept.insert(1, settings.clone());
        let config = Config::of(settings);
        let log = Link::new(Log::start_with(Arc::clone(&config.log), shared.clone()));
        let store = Link::new(Store::start_with(Arc::clone(&config.store), shared.clone()));
        let server = Link::new(Server::start_with(Arc::clone(&config.server), shared.clone()));
        let (for_log, for_store) = (shared.clone(), shared.clone());
        let board = Board::new(Arc::new(started()), None);
        let coordinator = Coordinator::new(Parts {
            components: vec![
                Box::new(ActorComponent::new(server, &["store"], |c: &Config| &c.server)),
                Box::new(
                    ActorComponent::new(log, &[], |c: &Config| &c.log)
                        .replaceable(move |section| Log::start_with(section, for_log.clone())),
                ),
                Box::new(
                    ActorComponent::new(store, &["log"], |c: &Config| &c.store)
                        .replaceable(move |section| Store::start_with(section, for_store.clone())),
                ),
            ],
            source: Arc::new(shared.clone()),
            recorder: Arc::new(shared.clone()),
            site: Arc::new(shared.clone()),
            sink: Arc::new(shared.clone()),
            board: Arc::clone(&board),
            current: Arc::new(ArcSwap::new(config)),
            generation: Generation::FIRST,
            unconfirmed: None,
        });
        Self { shared, board, coordinator: coordinator.unwrap().start() }
    }

    pub fn edit(&self, edit: impl FnOnce(&mut Settings)) {
        edit(self.shared.lock().file.as_mut().unwrap());
    }

    pub fn inject(&self, component: &str, step: &str, fault: Fault) {
        self.shared.lock().faults.insert((component.to_owned(), step.to_owned()), fault);
    }

    pub fn ask(&self) -> Asked {
        self.ask_expecting(None)
    }

    pub fn ask_expecting(&self, expect: Option<Generation>) -> Asked {
        self.request(Reload { expect, ..Reload::new(origin()) })
    }

    fn request(&self, reload: Reload) -> Asked {
        let request = self.coordinator.send(reload);
        tokio::task::spawn_local(async move { request.await.unwrap() })
    }

    /// Asks, and holds the reading of the file up until the sender is dropped.
    pub async fn ask_and_hold(&self) -> (Asked, std::sync::mpsc::SyncSender<()>) {
        let under_way = self.reading_hangs();
        let asked = self.ask();
        while self.board().state != reload::machine::State::Validating {
            tokio::task::yield_now().await;
        }
        (asked, under_way)
    }

    pub fn ask_for(&self, generation: u64) -> Asked {
        let aim = Aim::Generation(Generation::new(generation).unwrap());
        self.request(Reload { aim, ..Reload::new(origin()) })
    }

    pub async fn reload_to_confirm(&self, within: Duration) -> Arc<Outcome> {
        self.request(Reload { confirm: Some(within), ..Reload::new(origin()) }).await.unwrap().unwrap()
    }

    pub async fn confirm(&self) -> Result<Arc<Outcome>, Refusal> {
        self.coordinator.send(Confirm { origin: origin(), expect: None }).await.unwrap()
    }

    /// What is on disk to be confirmed.
    pub fn unconfirmed(&self) -> Option<Unconfirmed> {
        self.shared.lock().unconfirmed
    }

    pub fn file(&self) -> Settings {
        self.shared.lock().file.clone().unwrap()
    }

    /// So many readings fail.
    pub fn unreadable(&self, times: u32) {
        self.shared.lock().unreadable = times;
    }

    pub async fn reload(&self) -> Arc<Outcome> {
        self.ask().await.unwrap().unwrap()
    }

    pub fn look(&self) -> Asked {
        let request = self.coordinator.send(DryRun { origin: origin(), which: Which::OwnToLook });
        tokio::task::spawn_local(async move { request.await.unwrap() })
    }

    pub async fn dry_run(&self) -> Arc<Outcome> {
        self.look().await.unwrap().unwrap()
    }

    pub async fn stop(&self) {
        self.coordinator.send(Stop).await.unwrap();
    }

    pub fn board(&self) -> Arc<Snapshot> {
        self.board.read()
    }

    /// What the components were told since this was asked last.
    pub fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().told)
    }

    /// What log, store and server run.
    pub fn running(&self) -> [u32; 3] {
        let world = self.shared.lock();
        ["log", "store", "server"].map(|name| world.running[name])
    }

    pub fn incarnation(&self, name: &str) -> u32 {
        self.shared.lock().incarnations[name]
    }

    pub fn recorded(&self) -> Vec<u64> {
        self.shared.lock().recorded.clone()
    }

    pub fn audited(&self) -> Vec<Kind> {
        self.shared.lock().audited.clone()
    }

    /// The next reading hangs until the sender is dropped.
    pub fn reading_hangs(&self) -> std::sync::mpsc::SyncSender<()> {
        let (release, stuck) = std::sync::mpsc::sync_channel(1);
        self.shared.lock().stuck = Some(stuck);
        release
    }

    /// What was asked before has come to the coordinator, and its reading to where it hangs, if it does.
    pub async fn reached(&self) {
        self.coordinator.send(Pulse).await.unwrap();
        while self.shared.lock().stuck.is_some() {
            tokio::task::yield_now().await;
        }
    }

    /// The next record is not written until the sender is dropped.
    pub fn recording_hangs(&self) -> std::sync::mpsc::SyncSender<()> {
        let (release, stuck) = std::sync::mpsc::sync_channel(1);
        self.shared.lock().recording_stuck = Some(stuck);
        release
    }

    /// Whether a record has come to where it hangs.
    pub fn is_recording(&self) -> bool {
        self.shared.lock().recording_stuck.is_none()
    }

    pub fn disk_full(&self, full: bool) {
        self.shared.lock().disk_full = full;
    }
}

fn origin() -> Origin {
    Origin { trigger: Trigger::Signal, actor: None, note: None }
}

fn started() -> Outcome {
    Outcome::bare(Kind::Committed, Generation::FIRST, Generation::FIRST, origin())
}
