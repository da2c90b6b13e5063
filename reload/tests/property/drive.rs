//! Runs a case against the real coordinator, under a clock that stands still unless everybody waits.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, System};
use arc_swap::ArcSwap;
use reload::outcome::Kind;
use reload::{
    Aim, Board, Confirm, Coordinator, DryRun, Generation, Origin, Outcome, Parts, Reload, Stop, Trigger,
    Which,
};
use tokio::task::JoinHandle;

use crate::case::{Ask, Case, Edit, Expect, Op, Then};
use crate::log::{AskId, Entry, Rest, What};
use crate::world::{Blocker, Config, Shared, components};

/// How long nothing may happen before it is taken for rest: longer than every fault, and than the way back is waited for.
const QUIET: Duration = Duration::from_secs(300);

/// Runs a case, and returns what was seen and what is left.
pub fn run(case: &Case) -> (Vec<Entry>, Rest) {
    let system = System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    });
    system.block_on(async {
        let mut driver = Driver::start(case);
        driver.run().await;
        let unanswered = driver.come_to_rest().await;
        let rest = driver.shared.rest(unanswered);
        let log = std::mem::take(&mut driver.shared.lock().log);
        (log, rest)
    })
}

struct Driver<'a> {
    case: &'a Case,
    shared: Shared,
    board: Arc<Board>,
    coordinator: Addr<Coordinator<Config>>,
    blockers: Vec<Blocker>,
    asked: Vec<JoinHandle<()>>,
    stopped: bool,
}

impl<'a> Driver<'a> {
    fn start(case: &'a Case) -> Self {
        let shared = Shared::new(case);
        let board = Board::new(Arc::new(started()), None);
        shared.lock().board = Some(Arc::clone(&board));
        let (components, blockers) = components(case, &shared);
        let coordinator = Coordinator::new(Parts {
            components,
            source: Arc::new(shared.clone()),
            recorder: Arc::new(shared.clone()),
            site: Arc::new(shared.clone()),
            sink: Arc::new(shared.clone()),
            board: Arc::clone(&board),
            current: Arc::new(ArcSwap::new(Config::of(shared.lock().file.clone()))),
            generation: Generation::FIRST,
            unconfirmed: None,
        });
        if case.hangs() {
            tokio::task::spawn_local(shared.clone().turn_the_clock());
        }
        let coordinator = coordinator.unwrap().start();
        Self { case, shared, board, coordinator, blockers, asked: Vec::new(), stopped: false }
    }

    async fn run(&mut self) {
        let case = self.case;
        for (number, op) in case.ops.iter().enumerate() {
            if case.stop_before == Some(case.ops.len() - 1 - number) {
                self.stop();
            }
            self.perform(op).await;
        }
    }

    async fn perform(&mut self, op: &Op) {
        match op {
            Op::Edit(edit) => self.edit(edit),
            Op::Inject(injected) => self.inject(injected),
            Op::Unreadable(times) => self.shared.lock().unreadable = *times,
            Op::DiskFull(full) => self.shared.lock().disk_full = *full,
            Op::Hang(io, share) => {
                let long = self.shared.of_budget(*share);
                self.shared.lock().hang = Some((*io, long));
            }
            Op::Block(part, share) => {
                let long = self.shared.of_budget(*share);
                self.blockers[part % self.blockers.len()](long);
            }
            Op::Reload { edits, faults, ask, then } => {
                edits.iter().for_each(|edit| self.edit(edit));
                faults.iter().for_each(|fault| self.inject(fault));
                self.ask(ask);
                self.then(*then).await;
            }
            Op::Burst(asks) => asks.iter().for_each(|ask| self.ask(ask)),
            Op::Confirm(expect) => {
                let (id, expect) = (self.asked.len(), self.expect(*expect));
                self.shared.log(What::AskedConfirm { id, expect });
                let request = self.coordinator.send(Confirm { origin: origin(), expect });
                self.wait_for(id, request);
                self.then(Then::Await).await;
            }
            Op::DryRun => {
                let id = self.asked.len();
                self.shared.log(What::AskedDryRun { id });
                let request = self.coordinator.send(DryRun { origin: origin(), which: Which::OwnToLook });
                self.wait_for(id, request);
            }
            Op::Wait(share) => self.then(Then::Wait(*share)).await,
        }
    }

    fn edit(&self, edit: &Edit) {
        let mut world = self.shared.lock();
        match *edit {
            Edit::Section(part, value) => {
                let parts = world.file.sections.len();
                world.file.sections[part % parts] = value;
            }
            Edit::HealthGate(on) => world.file.health_gate = on,
            Edit::Budget(ms) => world.file.budget_ms = ms,
            Edit::Wrong(wrong) => world.file.wrong = wrong,
        }
        let file = world.file.clone();
        world.log(What::Edited(file));
    }

    fn inject(&self, injected: &crate::case::Injected) {
        let part = injected.part % self.blockers.len();
        self.shared.lock().faults.insert((part, injected.point), injected.fault);
    }

    fn expect(&self, expect: Expect) -> Option<Generation> {
        let current = self.board.read().generation;
        match expect {
            Expect::Anything => None,
            Expect::Current => Some(current),
            Expect::Another => Some(current.next()),
        }
    }

    fn ask(&mut self, Ask { expect, aim, confirm }: &Ask) {
        let current = self.board.read().generation.get();
        // One that there is; or, rarely, one that there is not.
        let aim = aim.map(|aim| Generation::new(1 + u64::from(aim) % (current + u64::from(aim > 250))));
        let aim = aim.map_or(Aim::Files, |aim| Aim::Generation(aim.unwrap()));
        let confirm = confirm.map(|share| self.shared.of_budget(share));
        let (id, expect) = (self.asked.len(), self.expect(*expect));
        self.shared.log(What::AskedReload { id, expect, aim, confirm });
        let request = self.coordinator.send(Reload { expect, aim, confirm, ..Reload::new(origin()) });
        self.wait_for(id, request);
    }

    fn wait_for<M>(&mut self, id: AskId, request: actix::prelude::Request<Coordinator<Config>, M>)
    where
        M: actix::Message<Result = Result<Arc<Outcome>, reload::Refusal>> + Send + Unpin + 'static,
        Coordinator<Config>: actix::Handler<M>,
        <Coordinator<Config> as Actor>::Context: actix::dev::ToEnvelope<Coordinator<Config>, M>,
    {
        let shared = self.shared.clone();
        self.asked.push(tokio::task::spawn_local(async move {
            let answer = request.await.unwrap();
            shared.log(What::Answered { id, answer });
        }));
    }

    fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        self.shared.log(What::StopAsked);
        let (request, shared) = (self.coordinator.send(Stop), self.shared.clone());
        tokio::task::spawn_local(async move {
            request.await.unwrap();
            shared.log(What::StopAnswered);
        });
    }

    async fn then(&mut self, then: Then) {
        match then {
            Then::Await => {
                // An answer that never comes is seen at the end.
                if let Some(asked) = self.asked.last_mut() {
                    let _ = tokio::time::timeout(QUIET, asked).await;
                }
            }
            Then::Yield(times) => {
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
            }
            Then::Wait(share) => tokio::time::sleep(self.shared.of_budget(share)).await,
        }
    }

    /// Nothing goes wrong any more: everybody is answered, what went wrong comes right, and good reloads get through, the
    /// first one too. Returns those who were not answered.
    async fn come_to_rest(&mut self) -> Vec<AskId> {
        self.shared.heal();
        tokio::time::sleep(QUIET).await;
        {
            let running = self.shared.running();
            let mut world = self.shared.lock();
            let held = world.held();
            world.log(What::Healed { running, held });
        }
        if !self.stopped {
            for value in [5, 6] {
                for part in 0..self.blockers.len() {
                    self.edit(&Edit::Section(part, value));
                }
                self.edit(&Edit::Wrong(false));
                self.ask(&Ask { expect: Expect::Anything, aim: None, confirm: None });
                tokio::time::sleep(QUIET).await;
            }
        }
        let unanswered = self.asked.iter().enumerate().filter(|(_, asked)| !asked.is_finished());
        unanswered.map(|(id, _)| id).collect()
    }
}

fn origin() -> Origin {
    Origin { trigger: Trigger::Api, actor: None, note: None }
}

fn started() -> Outcome {
    Outcome::bare(Kind::Committed, Generation::FIRST, Generation::FIRST, origin())
}
