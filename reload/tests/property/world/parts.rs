//! The components, with somebody who writes down what passes between them and the coordinator.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use reload::handle::Answer;
use reload::{
    Ack, ActorComponent, Books, Component, Link, LiveWriter, Reconfigurable, Reconfigure, Step, StepError,
    StepFuture, StepKind, Transaction, done,
};

use super::{Config, Shared};
use crate::case::{Case, Fault, MOST, NAMES, Point};
use crate::log::What;

/// What a component runs that is on its minimal section.
pub const MINIMAL: u8 = 0;

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
