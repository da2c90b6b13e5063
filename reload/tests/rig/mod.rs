//! A service of three actors, `log` ← `store` ← `server`, each with a number for a section and faults on command.

#![allow(unreachable_pub, reason = "a module of a test is not seen from outside")]
#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, ResponseFuture, System};
use arc_swap::ArcSwap;
use reload::events::{Event, Sink};
use reload::history::{ConfirmChange, Record, Recorded, Recorder, Unconfirmed};
use reload::outcome::Kind;
use reload::{
    Ack, ActorComponent, Aim, Board, Books, Candidate, Change, Class, Closing, Configuration, Confirm,
    Coordinator, DryRun, Generation, Link, Origin, Outcome, Parts, Problem, Reconfigurable, Reconfigure,
    Refusal, Rejection, Reload, Site, Snapshot, Source, StepError, StepFuture, Stop, Strategy, Trigger,
    Which, done,
};

pub const BUDGET: Duration = Duration::from_secs(2);

/// Runs a test inside an actix system whose clock stands still unless everybody waits.
pub fn on(test: impl Future<Output = ()>) {
    System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    })
    .block_on(test);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// An error before anything is done.
    Refuse,
    /// An error after it is done.
    FailAfter,
    /// A panic before anything is done.
    Panic,
    /// A panic after it is done.
    PanicLater,
    /// Done, and never answered.
    Hang,
    /// Done, and answered when nobody waits any more.
    Late,
    /// The machine fails it, so many times.
    Unavailable(u32),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub log: u32,
    pub store: u32,
    pub server: u32,
    pub wrong: bool,
    pub health_gate: bool,
}

pub struct Config {
    settings: Settings,
    log: Arc<u32>,
    store: Arc<u32>,
    server: Arc<u32>,
}

#[derive(Default)]
struct World {
    file: Option<Settings>,
    faults: BTreeMap<(String, String), Fault>,
    told: Vec<String>,
    running: BTreeMap<&'static str, u32>,
    incarnations: BTreeMap<&'static str, u32>,
    recorded: Vec<u64>,
    unwritten: Vec<u64>,
    disk_full: bool,
    /// Reading waits until this is gone.
    stuck: Option<std::sync::mpsc::Receiver<()>>,
    audited: Vec<Kind>,
    /// What the generations said.
    kept: BTreeMap<u64, Settings>,
    unconfirmed: Option<Unconfirmed>,
    /// How often reading fails for the machine's sake.
    unreadable: u32,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, name: &str, step: &str) -> Fault {
        let fault = self.lock().faults.remove(&(name.to_owned(), step.to_owned()));
        fault.unwrap_or(Fault::None)
    }

    /// Does `work` as the fault of this step has it.
    fn step<T: 'static>(
        &self,
        name: &'static str,
        step: &str,
        work: impl FnOnce(&mut World) -> T,
    ) -> StepFuture<T> {
        let fault = self.fault(name, step);
        match fault {
            Fault::Unavailable(0) => {}
            Fault::Unavailable(times) => {
                let again = Fault::Unavailable(times - 1);
                self.lock().faults.insert((name.to_owned(), step.to_owned()), again);
                return done(Err(StepError::system("no descriptor left")));
            }
            Fault::Refuse => return done(Err(StepError::component("refused"))),
            Fault::Panic => panic!("on command"),
            _ => {}
        }
        let result = {
            let mut world = self.lock();
            world.told.push(format!("{name}.{step}"));
            work(&mut world)
        };
        Box::pin(async move {
            match fault {
                Fault::FailAfter => Err(StepError::component("failed")),
                Fault::PanicLater => panic!("on command, later"),
                Fault::Hang => std::future::pending().await,
                Fault::Late => {
                    tokio::time::sleep(4 * BUDGET).await;
                    Ok(result)
                }
                Fault::None | Fault::Refuse | Fault::Panic | Fault::Unavailable(_) => Ok(result),
            }
        })
    }
}

macro_rules! part {
    ($actor:ident, $name:literal) => {
        struct $actor {
            books: Books<u32, u32>,
            shared: Shared,
        }

        impl $actor {
            fn start_with(section: Arc<u32>, shared: Shared) -> Addr<Self> {
                {
                    let mut world = shared.lock();
                    world.running.insert($name, *section);
                    *world.incarnations.entry($name).or_default() += 1;
                }
                Self { books: Books::new(section), shared }.start()
            }
        }

        impl Actor for $actor {
            type Context = Context<Self>;
        }

        impl Handler<Reconfigure<u32>> for $actor {
            type Result = ResponseFuture<Ack>;

            fn handle(&mut self, message: Reconfigure<u32>, ctx: &mut Self::Context) -> Self::Result {
                reload::reconfigure(self, message, ctx)
            }
        }

        impl Reconfigurable for $actor {
            const NAME: &'static str = $name;
            type Section = u32;
            type Prepared = u32;

            fn books(&mut self) -> &mut Books<u32, u32> {
                &mut self.books
            }

            fn prepare(&mut self, next: &Arc<u32>, _: std::time::Instant) -> StepFuture<u32> {
                let next = **next;
                self.shared.step($name, "prepare", move |_| next)
            }

            fn commit(&mut self, prepared: u32, next: &Arc<u32>, _: &mut Self::Context) -> StepFuture<()> {
                assert_eq!(prepared, **next);
                self.shared.step($name, "commit", |world| {
                    world.running.insert($name, prepared);
                })
            }

            fn restore(&mut self, before: &Arc<u32>, _: &mut Self::Context) -> StepFuture<()> {
                let before = **before;
                self.shared.step($name, "rollback", move |world| {
                    world.running.insert($name, before);
                })
            }

            fn probe(&mut self) -> StepFuture<()> {
                self.shared.step($name, "probe", |_| ())
            }

            fn finish(&mut self, _: &mut Self::Context) -> StepFuture<()> {
                self.shared.step($name, "finish", |_| ())
            }
        }
    };
}

part!(Log, "log");
part!(Store, "store");
part!(Server, "server");

impl Config {
    fn of(settings: Settings) -> Arc<Self> {
        let (log, store, server) = (settings.log, settings.store, settings.server);
        Arc::new(Self { settings, log: Arc::new(log), store: Arc::new(store), server: Arc::new(server) })
    }
}

impl Configuration for Config {
    fn changes(&self, next: &Self) -> Vec<Change> {
        let (a, b) = (&self.settings, &next.settings);
        let keys = [
            ("log", a.log, b.log),
            ("store", a.store, b.store),
            ("server", a.server, b.server),
            ("reload", a.health_gate.into(), b.health_gate.into()),
        ];
        keys.into_iter()
            .filter(|(_, from, to)| from != to)
            .map(|(name, from, to)| Change {
                path: name.to_owned(),
                from: from.into(),
                to: to.into(),
                component: name.to_owned(),
                components: vec![name.to_owned()],
                strategy: Strategy::InPlace,
            })
            .collect()
    }

    fn budget(&self) -> Duration {
        BUDGET
    }

    fn health_gate(&self) -> bool {
        self.settings.health_gate
    }
}

impl Source<Config> for Shared {
    fn load(&self, _: &Arc<Config>, which: &Which) -> Result<Candidate<Config>, Rejection> {
        {
            let mut world = self.lock();
            if world.unreadable > 0 {
                world.unreadable -= 1;
                let problems = vec![Problem::new(Class::System, "the disk does not answer")];
                return Err(Rejection { problems, ..Rejection::default() });
            }
        }
        let stuck = self.lock().stuck.take();
        if let Some(stuck) = stuck {
            let _ = stuck.recv();
        }
        let settings = match which {
            Which::Generation(generation) => self.lock().kept[&generation.get()].clone(),
            _ => self.lock().file.clone().unwrap(),
        };
        if settings.wrong {
            let problems = vec![Problem::at("wrong", "is wrong").hint("make it right")];
            return Err(Rejection { problems, ..Rejection::default() });
        }
        Ok(Candidate {
            config: Config::of(settings),
            warnings: vec![],
            read: Duration::ZERO,
            validate: Duration::ZERO,
        })
    }
}

impl Recorder<Config> for Shared {
    fn record(&self, record: &Record<Config>, confirm: ConfirmChange) -> Recorded {
        {
            let mut world = self.lock();
            world.unwritten.push(record.generation.get());
            world.kept.insert(record.generation.get(), record.config.settings.clone());
            match confirm {
                ConfirmChange::Keep => {}
                ConfirmChange::Begin(awaited) => world.unconfirmed = Some(awaited),
                ConfirmChange::End => world.unconfirmed = None,
            }
            if record.restore {
                world.file = Some(record.config.settings.clone());
            }
        }
        Recorded { durable: self.retry(), warnings: vec![] }
    }

    fn restore(&self, config: &Arc<Config>, _: Generation) -> Vec<Problem> {
        self.lock().file = Some(config.settings.clone());
        vec![]
    }

    fn confirmed(&self) -> bool {
        self.lock().unconfirmed = None;
        true
    }

    fn audit(&self, outcome: &Outcome) {
        self.lock().audited.push(outcome.outcome);
    }

    fn retry(&self) -> bool {
        let mut world = self.lock();
        if !world.disk_full {
            let unwritten = std::mem::take(&mut world.unwritten);
            world.recorded.extend(unwritten);
        }
        !world.disk_full
    }
}

impl Site<Config> for Shared {
    fn connections(&self) -> usize {
        0
    }

    fn closed_by_reload(&self) -> u64 {
        0
    }

    fn would_close(&self, _: &Config, _: &Config) -> Vec<Closing> {
        vec![]
    }
}

impl Sink for Shared {
    fn emit(&self, _: &Event<'_>) {}
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

    pub async fn dry_run(&self) -> Arc<Outcome> {
        self.coordinator.send(DryRun { origin: origin(), which: Which::OwnToLook }).await.unwrap().unwrap()
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
