//! The smallest service there is: one actor that takes what the traits give, beside a coordinator on its own thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, ResponseFuture};
use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use reload::events::{Event, Sink};
use reload::graph::{Graph, GraphError, MAX_COMPONENTS};
use reload::outcome::Kind;
use reload::*;

struct Config {
    greeting: Arc<String>,
}

struct Greeter {
    books: Books<String, ()>,
    greeting: Arc<String>,
}

/// What the next reading brings.
#[derive(Clone, Default)]
struct World {
    shared: Arc<Mutex<Shared>>,
    /// Whoever holds this keeps the reader from reading.
    reading: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Shared {
    file: Vec<String>,
    written: Vec<u64>,
    disk_full: bool,
    steps: u32,
}

impl World {
    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Actor for Greeter {
    type Context = Context<Self>;
}

impl Handler<Reconfigure<String>> for Greeter {
    type Result = ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<String>, ctx: &mut Self::Context) -> Self::Result {
        reconfigure(self, message, ctx)
    }
}

impl Reconfigurable for Greeter {
    const NAME: &'static str = "greeter";
    type Section = String;
    type Prepared = ();

    fn books(&mut self) -> &mut Books<String, ()> {
        &mut self.books
    }

    fn prepare(&mut self, _: &Arc<String>, _: std::time::Instant) -> StepFuture<()> {
        done(Ok(()))
    }

    fn commit(&mut self, (): (), next: &Arc<String>, _: &mut Self::Context) -> StepFuture<()> {
        self.greeting = Arc::clone(next);
        done(Ok(()))
    }

    fn restore(&mut self, before: &Arc<String>, _: &mut Self::Context) -> StepFuture<()> {
        self.greeting = Arc::clone(before);
        done(Ok(()))
    }
}

#[derive(actix::Message)]
#[rtype(result = "(Arc<String>, Arc<String>)")]
struct Greet;

impl Handler<Greet> for Greeter {
    type Result = actix::MessageResult<Greet>;

    fn handle(&mut self, _: Greet, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult((Arc::clone(&self.greeting), Arc::clone(self.books.section())))
    }
}

impl Configuration for Config {
    fn changes(&self, next: &Self) -> Vec<Change> {
        let change = Change {
            path: "greeting".to_owned(),
            from: self.greeting.as_str().into(),
            to: next.greeting.as_str().into(),
            component: "greeter".to_owned(),
            components: vec!["greeter".to_owned()],
            strategy: Strategy::InPlace,
        };
        if self.greeting == next.greeting { vec![] } else { vec![change] }
    }

    fn budget(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn health_gate(&self) -> bool {
        true
    }
}

impl Source<Config> for World {
    fn load(&self, _: &Arc<Config>, _: &Which) -> Result<Candidate<Config>, Rejection> {
        let _turn = self.reading.blocking_lock();
        let file = self.lock().file.clone();
        assert!(!file.is_empty(), "an empty file is a bug in this reader");
        if file.len() > 1 {
            let problems = file.into_iter().map(|line| Problem::at("greeting", line)).collect();
            return Err(Rejection { problems, ..Rejection::default() });
        }
        let greeting = Arc::new(file[0].clone());
        let config = Arc::new(Config { greeting });
        Ok(Candidate { config, warnings: vec![], read: Duration::ZERO, validate: Duration::ZERO })
    }
}

impl Recorder<Config> for World {
    fn record(&self, record: &Record<Config>, _: ConfirmChange) -> Recorded {
        self.lock().written.push(record.generation.get());
        Recorded { durable: true, warnings: vec![] }
    }

    fn audit(&self, _: &Outcome) {}

    fn is_durable(&self) -> bool {
        // What is recorded here is written at once.
        true
    }

    fn retry(&self) -> bool {
        let mut world = self.lock();
        if !world.disk_full {
            world.written.push(1);
        }
        !world.disk_full
    }
}

impl Site<Config> for World {
    fn connections(&self) -> usize {
        3
    }
}

impl Sink for World {
    fn emit(&self, event: &Event<'_>) {
        if let Event::Stepped { .. } = event {
            self.lock().steps += 1;
        }
    }
}

fn origin() -> Origin {
    Origin { trigger: Trigger::Signal, actor: None, note: None }
}

fn service(world: &World, started: Outcome) -> (Link<Greeter>, Addr<Coordinator<Config>>) {
    let greeting = Arc::new("hello".to_owned());
    let greeter = Greeter { books: Books::new(Arc::clone(&greeting)), greeting: Arc::clone(&greeting) };
    let link = Link::new(greeter.start());
    let component = ActorComponent::new(link.clone(), &[], |config: &Config| &config.greeting);
    let coordinator = Coordinator::start_apart(Parts {
        components: vec![Box::new(component)],
        source: Arc::new(world.clone()),
        recorder: Arc::new(world.clone()),
        site: Arc::new(world.clone()),
        sink: Arc::new(world.clone()),
        board: Board::new(Arc::new(started), None),
        current: Arc::new(ArcSwap::from_pointee(Config { greeting })),
        generation: Generation::FIRST,
        unconfirmed: None,
    });
    (link, coordinator.unwrap())
}

fn started() -> Outcome {
    Outcome::bare(Kind::Committed, Generation::FIRST, Generation::FIRST, origin())
}

#[actix::test]
async fn an_actor_that_says_nothing_of_probe_and_finish_is_reloaded() {
    let world = World::default();
    let (link, coordinator) = service(&world, started());
    world.lock().file = vec!["good evening".to_owned()];
    let outcome = coordinator.send(Reload::new(origin())).await.unwrap().unwrap();
    assert_eq!((outcome.outcome, outcome.connections.before), (Kind::Committed, 3));
    let (says, section) = link.addr().send(Greet).await.unwrap();
    assert_eq!((says.as_str(), section.as_str()), ("good evening", "good evening"));
    assert_eq!(world.lock().steps, 4, "prepare, commit, probe, finish");
    // Outside of any transaction too, it can be asked how it is.
    link.addr().send(Reconfigure::health()).await.unwrap().unwrap();
    assert_eq!(world.lock().written, [2]);
}

#[actix::test]
async fn a_reader_that_panics_has_judged_nothing() {
    let world = World::default();
    let (link, coordinator) = service(&world, started());
    let outcome = coordinator.send(Reload::new(origin())).await.unwrap().unwrap();
    assert_eq!((outcome.outcome, outcome.errors[0].class), (Kind::Rejected, Class::Component));
    assert!(outcome.error.as_deref().unwrap().contains("reading the configuration panicked"));
    let look = DryRun { origin: origin(), which: Which::OwnToLook };
    assert_eq!(coordinator.send(look).await.unwrap().unwrap().outcome, Kind::Rejected);
    assert_eq!(link.addr().send(Greet).await.unwrap().0.as_str(), "hello");
}

#[actix::test]
async fn an_outcome_tells_a_hundred_problems_and_how_many_there_are_besides() {
    let world = World::default();
    let (_, coordinator) = service(&world, started());
    world.lock().file = (0..250).map(|line| format!("line {line} is wrong")).collect();
    let outcome = coordinator.send(Reload::new(origin())).await.unwrap().unwrap();
    assert_eq!((outcome.outcome, outcome.errors.len()), (Kind::Rejected, 101));
    assert_eq!(outcome.errors[100].message, "and 150 more problems");
}

#[actix::test]
async fn more_requests_than_may_wait_are_sent_away() {
    let world = World::default();
    let (_, coordinator) = service(&world, started());
    world.lock().file = vec!["hello".to_owned()];
    // The first one is kept from reading.
    let held = world.reading.lock().await;
    let asked = (0..1100).map(|_| coordinator.send(Reload::new(origin())));
    let mut answers: FuturesUnordered<_> = asked.collect();
    for _ in 0..1100 - 1 - 1024 {
        assert_eq!(answers.next().await.unwrap().unwrap().unwrap_err(), Refusal::Busy(1024));
    }
    drop(held);
    let kinds: Vec<_> = answers.map(|answer| answer.unwrap().unwrap().outcome).collect().await;
    assert_eq!(kinds, [Kind::Unchanged; 1 + 1024]);
    assert_eq!(coordinator.send(Reload::new(origin())).await.unwrap().unwrap().outcome, Kind::Unchanged);
}

#[test]
fn a_start_on_a_full_disk_is_written_down_when_there_is_room() {
    let system = actix::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    });
    system.block_on(async {
        let world = World::default();
        world.lock().disk_full = true;
        let greeting = Arc::new("hello".to_owned());
        let coordinator = Coordinator::<Config>::new(Parts {
            components: vec![],
            source: Arc::new(world.clone()),
            recorder: Arc::new(world.clone()),
            site: Arc::new(world.clone()),
            sink: Arc::new(world.clone()),
            board: Board::new(Arc::new(Outcome { durable: false, ..started() }), None),
            current: Arc::new(ArcSwap::from_pointee(Config { greeting })),
            generation: Generation::FIRST,
            unconfirmed: None,
        });
        let _coordinator = coordinator.unwrap().start();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(world.lock().written.is_empty());
        world.lock().disk_full = false;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.lock().written, [1], "once, and not again");
    });
}

#[test]
fn there_are_as_many_components_as_a_set_holds() {
    let names: Vec<&'static str> =
        (0..=MAX_COMPONENTS).map(|number| &*Box::leak(format!("c{number}").into_boxed_str())).collect();
    let declared: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &[][..])).collect();
    assert!(Graph::new(&declared[1..]).is_ok());
    assert_eq!(Graph::new(&declared).unwrap_err(), GraphError::TooMany(MAX_COMPONENTS + 1));
}
