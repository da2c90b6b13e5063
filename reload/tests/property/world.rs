//! The service around the coordinator: its configuration, its disk, and the components that fail on command.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use reload::events::{Event, Sink};
use reload::handle::Answer;
use reload::history::{ConfirmChange, Record, Recorded, Recorder, Unconfirmed};
use reload::machine::State;
use reload::{
    Ack, ActorComponent, Board, Books, Candidate, Change, Class, Closing, Component, Configuration,
    Generation, Link, Live, LiveWriter, Outcome, Problem, Reconfigurable, Reconfigure, Rejection, Site,
    Source, Step, StepError, StepFuture, StepKind, Strategy, Transaction, Which, done,
};

use crate::case::{Case, Fault, Io, MOST, NAMES, Point, Share};
use crate::log::{Entry, What};

/// What a component runs that is on its minimal section.
pub const MINIMAL: u8 = 0;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub sections: Vec<u8>,
    pub health_gate: bool,
    pub budget_ms: u64,
    pub wrong: bool,
}

pub struct Config {
    pub settings: Settings,
    sections: Vec<Arc<u8>>,
}

pub struct World {
    began: tokio::time::Instant,
    pub log: Vec<Entry>,
    pub file: Settings,
    pub faults: BTreeMap<(usize, Point), Fault>,
    pub unreadable: u32,
    pub disk_full: bool,
    pub hang: Option<(Io, Duration)>,
    pub board: Option<Arc<Board>>,
    readings: u64,
    /// A transaction has begun, and the thread that reads for it has not.
    reading_due: bool,
    kept: BTreeMap<u64, Settings>,
    unwritten: Vec<u64>,
    written: Vec<u64>,
    awaited: Option<Unconfirmed>,
    incarnations: Vec<u32>,
    /// One per actor in office; what it has prepared holds a clone.
    tokens: Vec<Arc<()>>,
}

/// The one world that everybody shares.
#[derive(Clone)]
pub struct Shared {
    world: Arc<Mutex<World>>,
    /// What the components run, for everybody to see.
    live: Arc<Vec<Live<u8>>>,
    disk: Arc<Disk>,
    budget: Duration,
}

/// A disk that hangs, until the one who turns the clock lets it go.
#[derive(Default)]
struct Disk {
    stuck: Mutex<Option<tokio::time::Instant>>,
    let_go: Condvar,
    line: Mutex<()>,
    hangs: tokio::sync::Notify,
}

// === impl Config ===

impl Config {
    pub fn of(settings: Settings) -> Arc<Self> {
        let sections = settings.sections.iter().copied().map(Arc::new).collect();
        Arc::new(Self { settings, sections })
    }
}

/// What is different, as paths.
pub fn differences(from: &Settings, to: &Settings) -> Vec<String> {
    let sections = from.sections.iter().zip(&to.sections).enumerate();
    let mut paths: Vec<_> =
        sections.filter(|(_, (a, b))| a != b).map(|(part, _)| NAMES[part].to_owned()).collect();
    if (from.health_gate, from.budget_ms) != (to.health_gate, to.budget_ms) {
        paths.push("reload".to_owned());
    }
    paths
}

impl Configuration for Config {
    fn changes(&self, next: &Self) -> Vec<Change> {
        let change = |path: String| Change {
            from: 0.into(),
            to: 1.into(),
            component: path.clone(),
            components: vec![path.clone()],
            strategy: Strategy::InPlace,
            path,
        };
        differences(&self.settings, &next.settings).into_iter().map(change).collect()
    }

    fn budget(&self) -> Duration {
        Duration::from_millis(self.settings.budget_ms)
    }

    fn health_gate(&self) -> bool {
        self.settings.health_gate
    }
}

// === impl Shared ===

impl Shared {
    pub fn new(case: &Case) -> Self {
        let parts = case.parts.len();
        let file =
            Settings { sections: vec![1; parts], health_gate: true, budget_ms: case.budget_ms, wrong: false };
        let world = World {
            began: tokio::time::Instant::now(),
            log: Vec::with_capacity(256),
            kept: BTreeMap::from([(1, file.clone())]),
            file,
            faults: BTreeMap::new(),
            unreadable: 0,
            disk_full: false,
            hang: None,
            board: None,
            readings: 0,
            reading_due: false,
            unwritten: vec![],
            written: vec![],
            awaited: None,
            incarnations: vec![0; parts],
            tokens: vec![Arc::default(); parts],
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            live: Arc::new((0..parts).map(|_| Live::new(Arc::new(1))).collect()),
            disk: Arc::default(),
            budget: Duration::from_millis(case.budget_ms),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn log(&self, what: What) {
        self.lock().log(what);
    }

    pub fn of_budget(&self, share: Share) -> Duration {
        self.budget * u32::try_from(share).unwrap() / 100
    }

    pub fn running(&self) -> Vec<u8> {
        self.live.iter().map(|live| **live.load()).collect()
    }

    fn fault(&self, part: usize, point: Point) -> Option<Fault> {
        self.lock().faults.remove(&(part, point))
    }

    /// Everything works from now on.
    pub fn heal(&self) {
        let mut world = self.lock();
        world.faults.clear();
        (world.unreadable, world.disk_full, world.hang) = (0, false, None);
    }

    pub fn rest(&self, unanswered: Vec<usize>) -> crate::log::Rest {
        let running = self.running();
        let world = self.lock();
        crate::log::Rest {
            running,
            incarnations: world.incarnations.clone(),
            held: world.held(),
            board: world.board.as_ref().unwrap().read(),
            written: world.written.clone(),
            awaited_on_disk: world.awaited,
            file: world.file.clone(),
            unanswered,
        }
    }

    /// Stands still if it is told to. The clock of a runtime whose thread is busy does not run by itself.
    fn hang(&self, io: Io) {
        let share = {
            let mut world = self.lock();
            match world.hang {
                Some((what, share)) if what == io => {
                    world.hang = None;
                    share
                }
                _ => return,
            }
        };
        let mut stuck = self.disk.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        *stuck = Some(tokio::time::Instant::now() + share);
        self.disk.hangs.notify_one();
        while stuck.is_some() {
            stuck = self.disk.let_go.wait(stuck).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One writes at a time: what comes after a writing that hangs, waits.
    fn line(&self) -> MutexGuard<'_, ()> {
        self.disk.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns the clock while the disk hangs, a hundredth of the budget at a time.
    pub async fn turn_the_clock(self) {
        let until = || *self.disk.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.disk.hangs.notified().await;
            while let Some(until) = until() {
                // Whatever runs on other threads gets a moment of real time for a moment of the virtual one.
                std::thread::sleep(Duration::from_micros(50));
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
                if self.lock().reading_due {
                    continue;
                }
                if tokio::time::Instant::now() >= until {
                    *self.disk.stuck.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    self.disk.let_go.notify_all();
                } else {
                    tokio::time::advance(self.budget / 100).await;
                }
            }
        }
    }
}

// === impl World ===

impl World {
    /// What is held of what was prepared, by the actors in office.
    pub fn held(&self) -> Vec<usize> {
        // The world has one of its own, and so has the actor.
        self.tokens.iter().map(|token| Arc::strong_count(token).saturating_sub(2)).collect()
    }

    pub fn log(&mut self, what: What) {
        let at = self.began.elapsed();
        self.log.push(Entry { at, what });
    }
}

impl Source<Config> for Shared {
    fn load(&self, current: &Arc<Config>, which: &Which) -> Result<Candidate<Config>, Rejection> {
        let number = {
            let mut world = self.lock();
            world.readings += 1;
            let number = world.readings;
            world.reading_due &= *which == Which::OwnToLook;
            let current = current.settings.clone();
            world.log(What::Reading { number, which: which.clone(), current });
            number
        };
        if *which != Which::OwnToLook {
            self.hang(Io::Read);
        }
        let mut world = self.lock();
        let found = match which {
            _ if world.unreadable > 0 => {
                world.unreadable -= 1;
                Err(Class::System)
            }
            Which::Generation(generation) => {
                world.kept.get(&generation.get()).cloned().ok_or(Class::Validation)
            }
            _ => Ok(world.file.clone()),
        };
        let result = found.and_then(|found| if found.wrong { Err(Class::Validation) } else { Ok(found) });
        world.log(What::Read { number, result: result.clone() });
        match result {
            Ok(settings) => Ok(Candidate {
                config: Config::of(settings),
                warnings: vec![],
                read: Duration::ZERO,
                validate: Duration::ZERO,
            }),
            Err(class) => {
                Err(Rejection { problems: vec![Problem::new(class, "is wrong")], ..Rejection::default() })
            }
        }
    }
}

impl Recorder<Config> for Shared {
    fn record(&self, record: &Record<Config>, confirm: ConfirmChange) -> Recorded {
        let generation = record.generation.get();
        {
            let mut world = self.lock();
            let settings = record.config.settings.clone();
            world.kept.insert(generation, settings.clone());
            world.log(What::Recording {
                generation,
                from: record.from.get(),
                settings,
                confirm,
                restore: record.restore,
            });
        }
        let _turn = self.line();
        self.hang(Io::Write);
        let mut world = self.lock();
        match confirm {
            ConfirmChange::Keep => {}
            ConfirmChange::Begin(awaited) => world.awaited = Some(awaited),
            ConfirmChange::End => world.awaited = None,
        }
        if record.restore {
            world.file = record.config.settings.clone();
        }
        world.unwritten.push(generation);
        let durable = world.write();
        world.log(What::Recorded { generation, durable });
        Recorded { durable, warnings: vec![] }
    }

    fn restore(&self, config: &Arc<Config>, _: Generation) -> Vec<Problem> {
        let _turn = self.line();
        let mut world = self.lock();
        world.file = config.settings.clone();
        world.log(What::Restored(config.settings.clone()));
        vec![]
    }

    fn confirmed(&self) -> bool {
        let _turn = self.line();
        let mut world = self.lock();
        world.awaited = None;
        world.log(What::NotAwaitedOnDisk);
        true
    }

    fn audit(&self, outcome: &Outcome) {
        let _turn = self.line();
        self.log(What::Audited(outcome.id.clone()));
    }

    fn retry(&self) -> bool {
        let _turn = self.line();
        self.lock().write()
    }
}

impl World {
    fn write(&mut self) -> bool {
        if !self.disk_full {
            let unwritten = std::mem::take(&mut self.unwritten);
            self.written.extend(unwritten);
        }
        !self.disk_full
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
    fn emit(&self, event: &Event<'_>) {
        let what = match event {
            Event::Entered(state) => {
                self.lock().reading_due = *state == State::Validating;
                What::Entered(*state)
            }
            Event::Stepped { .. } => return,
            Event::Finished(outcome) => {
                let running = self.running();
                let board = self.lock().board.as_ref().unwrap().read();
                What::Finished { outcome: Box::new((*outcome).clone()), board, running }
            }
            Event::AwaitsConfirmation { generation, target, left } => {
                What::Awaits { generation: *generation, target: *target, left: *left }
            }
            Event::Confirmed { generation } => What::Confirmed { generation: *generation },
            Event::Withdrawn => What::Withdrawn,
        };
        self.log(what);
    }
}

// === the components ===

/// The `N`th component.
struct PartActor<const N: usize> {
    books: Books<u8, Prepared>,
    shared: Shared,
    writer: Arc<LiveWriter<u8>>,
    unguarded: bool,
    token: Arc<()>,
    /// A successor that nobody has asked yet how it is.
    fresh: bool,
}

/// What a preparation acquires.
struct Prepared {
    value: u8,
    _held: Arc<()>,
}

/// The thread of the component stands still from now on.
#[derive(Message)]
#[rtype(result = "()")]
struct Block(Duration);

impl<const N: usize> PartActor<N> {
    fn start_with(section: Arc<u8>, unguarded: bool, shared: Shared) -> Addr<Self> {
        let writer = shared.live[N].writer();
        writer.swap(Arc::clone(&section)).unwrap();
        let token = Arc::default();
        let fresh = {
            let mut world = shared.lock();
            world.tokens[N] = Arc::clone(&token);
            world.incarnations[N] += 1;
            world.incarnations[N] > 1
        };
        Self { books: Books::new(section), shared, writer: Arc::new(writer), unguarded, token, fresh }.start()
    }

    /// Does `work` as the fault of this step has it.
    fn step<T: 'static>(
        &self,
        point: Point,
        ctx: Option<&mut Context<Self>>,
        work: impl FnOnce() -> Result<T, StepError> + 'static,
    ) -> StepFuture<T> {
        let fault = self.shared.fault(N, point);
        let share = |share| self.shared.of_budget(share);
        match fault {
            // What is done to the messages is done before one is looked at.
            None | Some(Fault::Unavailable(0) | Fault::Blocked(_) | Fault::Repeated(_)) => done(work()),
            Some(Fault::Refuse) => done(Err(StepError::component("refused"))),
            Some(Fault::Unavailable(times)) => {
                self.shared.lock().faults.insert((N, point), Fault::Unavailable(times - 1));
                done(Err(StepError::system("no descriptor left")))
            }
            Some(Fault::Panic) => panic!("on command"),
            Some(Fault::FailAfter { system }) => done(work().and_then(|_| {
                Err(if system { StepError::system("failed") } else { StepError::component("failed") })
            })),
            Some(Fault::PanicLater) => {
                let _done = work();
                Box::pin(async { panic!("on command, later") })
            }
            Some(Fault::Hang) => {
                let done = work();
                Box::pin(async move {
                    let _done = done;
                    std::future::pending().await
                })
            }
            Some(Fault::Late(late)) => {
                let (late, done) = (share(late), work());
                Box::pin(async move {
                    tokio::time::sleep(late).await;
                    done
                })
            }
            Some(Fault::Slow(late)) => {
                let late = share(late);
                Box::pin(async move {
                    tokio::time::sleep(late).await;
                    work()
                })
            }
            Some(Fault::Stuck(long)) => {
                let (long, done) = (share(long), work());
                match ctx {
                    Some(ctx) => {
                        ctx.wait(tokio::time::sleep(long).into_actor(self));
                        reload::done(done)
                    }
                    None => Box::pin(async move {
                        tokio::time::sleep(long).await;
                        done
                    }),
                }
            }
        }
    }

    /// Swaps what everybody sees, if it is still in office.
    fn swap(&self, value: u8) -> impl FnOnce() -> Result<(), StepError> + 'static {
        let writer =
            if self.unguarded { Arc::new(self.shared.live[N].writer()) } else { Arc::clone(&self.writer) };
        move || {
            let swapped = writer.swap(Arc::new(value));
            swapped.map(drop).map_err(|retired| StepError::component(retired.to_string()))
        }
    }
}

impl<const N: usize> Actor for PartActor<N> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let blocked = self.shared.lock().faults.get(&(N, Point::Health)).copied();
        if let (true, Some(Fault::Blocked(share))) = (self.fresh, blocked) {
            ctx.wait(tokio::time::sleep(self.shared.of_budget(share)).into_actor(self));
        }
    }
}

impl<const N: usize> Handler<Block> for PartActor<N> {
    type Result = ();

    fn handle(&mut self, Block(long): Block, ctx: &mut Self::Context) {
        ctx.wait(tokio::time::sleep(long).into_actor(self));
    }
}

impl<const N: usize> Handler<Reconfigure<u8>> for PartActor<N> {
    type Result = ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<u8>, ctx: &mut Self::Context) -> Self::Result {
        reload::reconfigure(self, message, ctx)
    }
}

impl<const N: usize> Reconfigurable for PartActor<N> {
    const NAME: &'static str = NAMES[N];
    type Section = u8;
    type Prepared = Prepared;

    fn books(&mut self) -> &mut Books<u8, Prepared> {
        &mut self.books
    }

    fn prepare(&mut self, next: &Arc<u8>, _: Instant) -> StepFuture<Prepared> {
        let prepared = Prepared { value: **next, _held: Arc::clone(&self.token) };
        self.step(Point::Prepare, None, || Ok(prepared))
    }

    fn commit(&mut self, prepared: Prepared, next: &Arc<u8>, ctx: &mut Self::Context) -> StepFuture<()> {
        assert_eq!(prepared.value, **next);
        self.step(Point::Commit, Some(ctx), self.swap(prepared.value))
    }

    fn restore(&mut self, before: &Arc<u8>, ctx: &mut Self::Context) -> StepFuture<()> {
        self.step(Point::Rollback, Some(ctx), self.swap(**before))
    }

    fn probe(&mut self) -> StepFuture<()> {
        let point = if std::mem::take(&mut self.fresh) { Point::Health } else { Point::Probe };
        self.step(point, None, || Ok(()))
    }

    fn finish(&mut self, ctx: &mut Self::Context) -> StepFuture<()> {
        self.step(Point::Finish, Some(ctx), || Ok(()))
    }
}

/// A component as the coordinator sees it, with somebody who writes down what passes.
struct Seen<const N: usize> {
    inner: ActorComponent<PartActor<N>, Config>,
    link: Link<PartActor<N>>,
    shared: Shared,
}

impl<const N: usize> Component<Config> for Seen<N> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn depends_on(&self) -> &'static [&'static str] {
        self.inner.depends_on()
    }

    fn comparison(&self) -> reload::handle::Comparison<Config> {
        self.inner.comparison()
    }

    fn step(&self, transaction: Transaction, step: StepKind, next: &Config, by: Instant) -> Answer {
        let point = match step {
            StepKind::Prepare => Point::Prepare,
            StepKind::Commit => Point::Commit,
            StepKind::Probe => Point::Probe,
            StepKind::Finish => Point::Finish,
            StepKind::Rollback => Point::Rollback,
        };
        let fault = self.shared.lock().faults.get(&(N, point)).copied();
        match fault {
            Some(Fault::Blocked(share)) => {
                self.shared.fault(N, point);
                self.link.addr().do_send(Block(self.shared.of_budget(share)));
            }
            Some(Fault::Repeated(share)) => {
                self.shared.fault(N, point);
                let (link, late) = (self.link.clone(), self.shared.of_budget(share));
                let step = match step {
                    StepKind::Prepare => Step::Prepare(Arc::clone(&next.sections[N]), by),
                    StepKind::Commit => Step::Commit,
                    StepKind::Probe => Step::Probe,
                    StepKind::Finish => Step::Finish,
                    StepKind::Rollback => Step::Rollback,
                };
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(late).await;
                    link.addr().do_send(Reconfigure::new(transaction, step));
                });
            }
            _ => {}
        }
        let number = number(transaction);
        self.shared.log(What::Sent { transaction: number, part: N, step });
        let answer = self.inner.step(transaction, step, next, by);
        let shared = self.shared.clone();
        Box::pin(async move {
            let ack = answer.await;
            let error = ack.as_ref().err().map(|error| error.class);
            shared.log(What::Acked { transaction: number, part: N, step, error });
            ack
        })
    }

    fn replace(&self, transaction: Transaction, current: &Config, by: Instant) -> Option<Answer> {
        let answer = self.inner.replace(transaction, current, by);
        let number = number(transaction);
        self.shared.log(What::Replace { part: N, possible: answer.is_some() });
        let (answer, shared) = (answer?, self.shared.clone());
        Some(Box::pin(async move {
            let ack = answer.await;
            shared.log(What::Replaced { transaction: number, part: N, done: ack.is_ok() });
            ack
        }))
    }
}

fn number(transaction: Transaction) -> u64 {
    transaction.to_string().parse().unwrap()
}

/// Lists of names live as long as the program; there are not many.
static NEEDS: LazyLock<Vec<Vec<&'static str>>> = LazyLock::new(|| {
    (0..1_usize << MOST)
        .map(|set| (0..MOST).filter(|part| set & (1 << part) != 0).map(|part| NAMES[part]).collect())
        .collect()
});

/// How a component's thread is made to stand still.
pub type Blocker = Box<dyn Fn(Duration)>;

fn component<const N: usize>(case: &Case, shared: &Shared) -> (Box<dyn Component<Config>>, Blocker) {
    let spec = &case.parts[N];
    let unguarded = spec.unguarded;
    let link = Link::new(PartActor::<N>::start_with(Arc::new(1), unguarded, shared.clone()));
    let needs = case.needs(N).fold(0, |set, need| set | 1 << need);
    let mut inner = ActorComponent::new(link.clone(), &NEEDS[needs], |config: &Config| &config.sections[N]);
    if spec.replaceable {
        let shared = shared.clone();
        inner =
            inner.replaceable(move |section| PartActor::<N>::start_with(section, unguarded, shared.clone()));
    }
    if spec.minimal {
        inner = inner.minimal(|_| MINIMAL);
    }
    let blocked = link.clone();
    let blocker = Box::new(move |long| blocked.addr().do_send(Block(long)));
    (Box::new(Seen { inner, link, shared: shared.clone() }), blocker)
}

/// All components of a case.
pub fn components(case: &Case, shared: &Shared) -> (Vec<Box<dyn Component<Config>>>, Vec<Blocker>) {
    type Build = fn(&Case, &Shared) -> (Box<dyn Component<Config>>, Blocker);
    const BUILD: [Build; MOST] =
        [component::<0>, component::<1>, component::<2>, component::<3>, component::<4>, component::<5>];
    BUILD[..case.parts.len()].iter().map(|build| build(case, shared)).unzip()
}
