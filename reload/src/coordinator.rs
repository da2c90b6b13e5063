//! The coordinator: performs the actions of the [state machine](crate::machine) and feeds it events.
//!
//! It decides nothing. It keeps the time, sends the steps, gathers what the outcome tells, and answers those who wait.

mod backoff;
mod confirm;
mod judging;
mod reading;
mod recording;
mod requests;
mod running;
mod tries;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, SpawnHandle, WrapFuture};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::board::Board;
use crate::budget::Stage;
use crate::component::{Ack, StepKind};
use crate::events::{self, Sink};
use crate::graph::{Graph, GraphError, Index};
use crate::handle::{Comparison, Component};
use crate::history::{Recorder, Unconfirmed};
use crate::machine::{Action, Answer, Event, Machine, State};
use crate::outcome::Outcome;
use crate::source::{Configuration, Site, Source};
use crate::trigger::{Aim, Origin, Refusal};
use crate::{Class, Generation, StepError, Transaction, fault};
use confirm::Confirmation;
use running::Running;

pub use reading::READERS;

type Answered = Result<Arc<Outcome>, Refusal>;

/// What a coordinator is built from. Everything in it is running already, on `current`.
pub struct Parts<C> {
    /// The components, in any order.
    pub components: Vec<Box<dyn Component<C>>>,
    /// Where configurations come from.
    pub source: Arc<dyn Source<C>>,
    /// Where history goes.
    pub recorder: Arc<dyn Recorder<C>>,
    /// What can be told about connections.
    pub site: Arc<dyn Site<C>>,
    /// Where events go.
    pub sink: Arc<dyn Sink>,
    /// What is shown.
    pub board: Arc<Board>,
    /// The configuration that runs. Kept up to date for others to read.
    pub current: Arc<arc_swap::ArcSwap<C>>,
    /// Its generation.
    pub generation: Generation,
    /// What the process before left to be confirmed.
    pub unconfirmed: Option<Unconfirmed>,
}

/// The coordinator actor (C4).
pub struct Coordinator<C: Configuration> {
    graph: Graph,
    /// In the order of the graph's indices.
    components: Vec<Box<dyn Component<C>>>,
    /// Theirs, in the same order.
    comparisons: Arc<[Comparison<C>]>,
    source: Arc<dyn Source<C>>,
    recorder: Arc<dyn Recorder<C>>,
    site: Arc<dyn Site<C>>,
    sink: Arc<dyn Sink>,
    board: Arc<Board>,
    current: Arc<arc_swap::ArcSwap<C>>,
    generation: Generation,
    machine: Machine,
    running: Option<Running<C>>,
    /// Those whose turn comes with the next transaction.
    waiting: Vec<Waiter>,
    /// Where dry runs read: they take no place from a reload.
    dry_runs: Arc<tokio::sync::Semaphore>,
    /// Where reloads read, also after nobody waits for them any more.
    readers: Arc<tokio::sync::Semaphore>,
    deadline: Option<SpawnHandle>,
    halted: bool,
    halting: Vec<oneshot::Sender<()>>,
    retrying: bool,
    /// Resolves when the last transaction's audit line is written: the next one's comes behind it.
    audited: Option<oneshot::Receiver<()>>,
    confirmation: Confirmation,
    /// Why the program runs on something else than its file says, since its start.
    degraded: Option<String>,
}

struct Waiter {
    origin: Origin,
    expect: Option<Generation>,
    aim: Aim,
    confirm: Option<Duration>,
    /// `None` if nobody asks: a generation goes back by itself, if it still has to when the turn comes.
    reply: Option<oneshot::Sender<Answered>>,
}

// === impl Waiter ===

impl Waiter {
    /// Whoever hung up meanwhile finds the outcome in the audit log.
    fn answer(self, answer: Answered) {
        if let Some(reply) = self.reply {
            let _ = reply.send(answer);
        }
    }
}

// === impl Coordinator ===

impl<C: Configuration> Coordinator<C> {
    /// Starts the coordinator on an arbiter of its own.
    ///
    /// # Errors
    /// If the components' dependencies are no graph.
    pub fn start_apart(parts: Parts<C>) -> Result<Addr<Self>, GraphError> {
        let coordinator = Self::new(parts)?;
        Ok(Self::start_in_arbiter(&crate::arbiter().handle(), move |_| coordinator))
    }

    /// A coordinator that is not started yet.
    ///
    /// # Errors
    /// If the components' dependencies are no graph.
    pub fn new(parts: Parts<C>) -> Result<Self, GraphError> {
        let declared: Vec<_> = parts.components.iter().map(|c| (c.name(), c.depends_on())).collect();
        let graph = Graph::new(&declared)?;
        let mut components = parts.components;
        components.sort_by_key(|component| graph.index(component.name()));
        let degraded = parts.board.read().degraded.clone();
        // Before anybody can look: the actor itself starts a little later, on its own thread.
        let unconfirmed = parts.unconfirmed.map(Unconfirmed::count_on);
        parts.board.update(|board| board.unconfirmed = unconfirmed);
        Ok(Self {
            graph,
            comparisons: components.iter().map(|component| component.comparison()).collect(),
            components,
            source: parts.source,
            recorder: parts.recorder,
            site: parts.site,
            sink: parts.sink,
            board: parts.board,
            current: parts.current,
            generation: parts.generation,
            machine: Machine::default(),
            running: None,
            waiting: Vec::new(),
            dry_runs: Arc::new(tokio::sync::Semaphore::new(READERS)),
            readers: Arc::new(tokio::sync::Semaphore::new(READERS)),
            deadline: None,
            halted: false,
            halting: Vec::new(),
            retrying: false,
            audited: None,
            confirmation: Confirmation::new(unconfirmed),
            degraded,
        })
    }

    /// Feeds the machine and performs what it asks for.
    fn on(&mut self, event: Event, ctx: &mut Context<Self>) {
        let mut actions = VecDeque::from(self.machine.on(event));
        while let Some(action) = actions.pop_front() {
            // A step that needs nobody (a health gate that is off) is answered on the spot.
            if let Some(event) = self.perform(action, ctx) {
                actions.extend(self.machine.on(event));
            }
        }
        self.show();
    }

    /// Shows how far the transaction is: its deadlines are seen from outside while they run (R4, R14).
    fn show(&self) {
        let Some(running) = &self.running else { return };
        let names = self.graph.names();
        let waiting_for = self.machine.pending().iter().map(|component| names[component]).collect();
        let in_flight = running.in_flight(waiting_for);
        self.board.update(|board| board.running = Some(in_flight));
    }

    fn perform(&mut self, action: Action, ctx: &mut Context<Self>) -> Option<Event> {
        match action {
            Action::Enter(state) => self.enter(state),
            Action::Judge(transaction) => return self.judge(transaction, ctx),
            Action::JudgeAgain(transaction) => return self.judge_again(transaction, ctx),
            Action::Arm(transaction, stage) => self.arm(transaction, stage, ctx),
            Action::Send(transaction, component, step) => {
                return self.send(transaction, component, step, ctx);
            }
            Action::SendAgain(transaction, component, step) => {
                return self.send_again(transaction, component, step, ctx);
            }
            Action::Replace(transaction, component) => return self.replace(transaction, component, ctx),
            Action::Record(transaction) => self.record(transaction, ctx),
            Action::Conclude(_, end) => self.conclude(end, ctx),
            Action::DismissWaiting => {
                for waiter in self.waiting.drain(..) {
                    waiter.answer(Err(Refusal::Stopping));
                }
            }
            Action::Halt => {
                self.halted = true;
                for halting in self.halting.drain(..) {
                    let _ = halting.send(());
                }
            }
        }
        None
    }

    fn enter(&mut self, state: State) {
        self.board.update(|board| board.state = state);
        events::emit(&*self.sink, &events::Event::Entered(state));
        if let Some(running) = &mut self.running {
            running.enter(state);
        }
    }

    fn arm(&mut self, transaction: Transaction, stage: Stage, ctx: &mut Context<Self>) {
        if let Some(old) = self.deadline.take() {
            ctx.cancel_future(old);
        }
        let Some(running) = &mut self.running else { return };
        let at = running.arm(stage);
        // The deadline of the stage; an event of the machine, which may come too late for it.
        let expiry = tokio::time::sleep_until(at).into_actor(self).map(move |(), act, ctx| {
            let pending = act.machine.pending();
            // Actix polls a future once more before it drops one that was cancelled: a stage that was over in the instant of its
            // deadline has not expired.
            let Some(running) = act.running.as_mut().filter(|r| r.is_at(transaction, stage)) else { return };
            act.deadline = None;
            if running.has_missed_it(stage) {
                return act.arm(transaction, stage, ctx);
            }
            running.expired(stage, pending, &act.graph);
            act.on(Event::Expired(transaction, stage), ctx);
        });
        self.deadline = Some(ctx.spawn(expiry));
    }

    fn send(
        &mut self,
        transaction: Transaction,
        component: Index,
        step: StepKind,
        ctx: &mut Context<Self>,
    ) -> Option<Event> {
        let running = self.running.as_mut()?;
        if step == StepKind::Probe && !self.current.load().health_gate() {
            return Some(Event::Acked { transaction, component, step, answer: Answer::Done });
        }
        fault::send(step);
        running.told(component, step);
        let next = running.candidate()?;
        let by = running.deadline.into_std();
        let sent = Instant::now();
        let answer = self.components[component].step(transaction, step, &next, by);
        let handle = ctx.spawn(wrap_future::<_, Self>(answer).map(move |ack, act, ctx| {
            act.answered(transaction, component, step, sent.elapsed(), ack, ctx);
        }));
        // A rollback or a finish is delivered even to a component that wakes up when nobody waits any more; the other
        // steps of a transaction that is over are withdrawn.
        if !matches!(step, StepKind::Rollback | StepKind::Finish) {
            running.withdraw_at_end.push(handle);
        }
        None
    }

    /// The machine failed the component; it may do better a little later, if there is time for that (R15).
    fn send_again(
        &mut self,
        transaction: Transaction,
        component: Index,
        step: StepKind,
        ctx: &mut Context<Self>,
    ) -> Option<Event> {
        let running = self.running.as_mut()?;
        let Some(delay) = running.next_try(component, step) else {
            return Some(Event::Acked { transaction, component, step, answer: Answer::Failed });
        };
        let handle = ctx.run_later(delay, move |act, ctx| {
            // Meanwhile another component may have turned the transaction round.
            if act.machine.awaits(transaction, component, step)
                && let Some(event) = act.send(transaction, component, step, ctx)
            {
                act.on(event, ctx);
            }
        });
        running.withdraw_at_end.push(handle);
        None
    }

    fn answered(
        &mut self,
        transaction: Transaction,
        component: Index,
        step: StepKind,
        elapsed: Duration,
        ack: Ack,
        ctx: &mut Context<Self>,
    ) {
        let answer = match &ack {
            Ok(()) => Answer::Done,
            Err(error) if error.class == Class::System => Answer::Unavailable,
            Err(_) => Answer::Failed,
        };
        let awaited = self.machine.awaits(transaction, component, step);
        if let Some(running) = self.running.as_mut().filter(|r| r.transaction == transaction) {
            let name = self.graph.names()[component];
            let error = ack.as_ref().err().map(|error| error.message.as_str());
            events::emit(&*self.sink, &events::Event::Stepped { component: name, step, elapsed, error });
            running.took(component, step, elapsed);
            // What comes when nobody waits any more is no cause: a step that the rollback cancelled, or one that the outcome
            // names already as not answered. The log has it.
            if awaited {
                running.answered(component, name, step, ack);
            }
        }
        self.on(Event::Acked { transaction, component, step, answer }, ctx);
    }

    fn replace(
        &mut self,
        transaction: Transaction,
        component: Index,
        ctx: &mut Context<Self>,
    ) -> Option<Event> {
        let name = self.graph.names()[component];
        tracing::warn!(component = name, "component could not be rolled back; a successor is started");
        let running = self.running.as_mut()?;
        self.board.update(|board| board.degraded = Some(format!("{name} is being started again")));
        running.replaced(component);
        let by = running.deadline.into_std();
        let current = self.current.load_full();
        let Some(answer) = self.components[component].replace(transaction, &current, by) else {
            if let Some(running) = &mut self.running {
                running.lost(name, StepError::component("it cannot be replaced while the process lives"));
            }
            return Some(Event::Replaced { transaction, component, done: false });
        };
        ctx.spawn(answer.into_actor(self).map(move |ack, act, ctx| {
            let done = ack.is_ok();
            // It may be too late: then the transaction is over, and the one that runs has nothing to do with it.
            let running = act.running.as_mut().filter(|r| r.transaction == transaction);
            if let (Err(error), Some(running)) = (ack, running) {
                running.lost(act.graph.names()[component], error);
            }
            act.on(Event::Replaced { transaction, component, done }, ctx);
        }));
        None
    }
}

impl<C: Configuration> Actor for Coordinator<C> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // The program may have started on a full disk.
        if !self.board.read().last.durable || !self.recorder.is_written() {
            self.retry(ctx);
        }
        self.await_confirmation(ctx);
    }
}
