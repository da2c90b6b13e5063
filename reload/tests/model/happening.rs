//! The environment: everything that can happen to the program, and what it makes of it.

use std::collections::BTreeSet;

use reload::graph::{Index, Set};
use reload::machine::{Answer, Event};
use reload::{StepKind, Transaction};

use super::component::{MINIMAL, Message, TORN};
use super::seen::Seen;
use super::world::{Model, World};

/// Everything that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The file is changed to what it says next, if anything, and somebody asks for a reload.
    Request,
    /// SIGTERM.
    Stop,
    /// The process is killed, and started again.
    Kill,
    /// The deadline that is armed passes.
    Expire,
    /// A file has been read and judged; it said this.
    Judge(usize, usize),
    /// It could not be read; whether there is time for another try.
    Unreadable(usize, bool),
    /// The time before another try is over.
    Again(usize),
    /// A component handles the message that is next.
    Deliver(Index),
    /// The message that is next comes twice.
    Repeat(Index),
    /// A message that nobody waits for any more was withdrawn before it was handled.
    Withdraw(Index),
    /// A step that is under way is over.
    Complete(Index, usize, Ending),
    /// An answer that was late or is repeated arrives.
    Late(usize),
    /// A successor starts; whether it is well, and whether it is still asked.
    Start(Index, bool, bool),
    /// A step that is under way in an actor that was left behind is over.
    LeftBehind(Index, usize),
    /// The generation that is next is on disk.
    Write,
    /// It cannot be written now.
    DiskFull,
}

/// How a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// Done, and the answer takes its time.
    DoneLate,
    /// Done, and the answer comes twice.
    DoneTwice,
    /// Refused, failed, or a panic.
    Failed,
    /// Failed by the machine; whether there is time for another try.
    Unavailable(bool),
}

// === impl Model ===

impl Model {
    /// What happens if nothing goes wrong and nobody asks for anything.
    pub fn by_itself(&self, world: &World, happenings: &mut Vec<Happening>) {
        let World { desk, parts, disk, file, .. } = world;
        if desk.halted {
            // The process ends.
            return;
        }
        for (at, (_, then)) in desk.readings.iter().enumerate() {
            for read in BTreeSet::from([*then, *file]) {
                happenings.push(Happening::Judge(at, read));
            }
        }
        happenings.extend((0..desk.again.len()).map(Happening::Again));
        happenings.extend((0..desk.late.len()).map(Happening::Late));
        for (index, part) in parts.iter().enumerate() {
            match part.actor.mailbox.front() {
                Some(Message::Start(transaction, _)) => {
                    happenings.push(Happening::Start(index, true, true));
                    if !self.awaits_successor(world, *transaction, index) {
                        happenings.push(Happening::Start(index, true, false));
                    }
                }
                Some(Message::Step(step)) => {
                    happenings.push(Happening::Deliver(index));
                    let over = desk.running.is_none_or(|running| running.transaction != step.transaction);
                    if over && !matches!(step.kind, StepKind::Rollback | StepKind::Finish) {
                        happenings.push(Happening::Withdraw(index));
                    }
                }
                None => {}
            }
            let works = 0..part.actor.works.len();
            happenings.extend(works.map(|work| Happening::Complete(index, work, Ending::Done)));
            happenings.extend((0..part.left_behind.len()).map(|work| Happening::LeftBehind(index, work)));
        }
        if !disk.unwritten.is_empty() {
            happenings.push(Happening::Write);
        }
    }

    fn awaits_successor(&self, world: &World, transaction: Transaction, component: Index) -> bool {
        let running = world.desk.running.is_some_and(|running| running.transaction == transaction);
        running && world.desk.machine.pending().contains(component)
    }

    /// What somebody asks for, and what goes wrong.
    pub fn besides(&self, world: &World, happenings: &mut Vec<Happening>) {
        let World { desk, parts, disk, fuel, .. } = world;
        if desk.halted {
            return;
        }
        if fuel.triggers > 0 {
            happenings.push(Happening::Request);
        }
        if fuel.stops > 0 {
            happenings.push(Happening::Stop);
        }
        if fuel.kills > 0 {
            happenings.push(Happening::Kill);
        }
        if fuel.expiries > 0 && desk.armed.is_some() {
            happenings.push(Happening::Expire);
        }
        if fuel.faults == 0 {
            return;
        }
        for at in 0..desk.readings.len() {
            happenings.extend([true, false].map(|again| Happening::Unreadable(at, again)));
        }
        for (index, part) in parts.iter().enumerate() {
            match part.actor.mailbox.front() {
                Some(Message::Start(..)) => happenings.push(Happening::Start(index, false, true)),
                Some(Message::Step(_)) => happenings.push(Happening::Repeat(index)),
                None => {}
            }
            for (at, work) in part.actor.works.iter().enumerate() {
                let mut ends = vec![Ending::DoneLate, Ending::DoneTwice, Ending::Failed];
                // For the other steps the machine makes no difference.
                if matches!(work.step.kind, StepKind::Prepare | StepKind::Rollback) {
                    ends.extend([true, false].map(Ending::Unavailable));
                }
                happenings.extend(ends.into_iter().map(|end| Happening::Complete(index, at, end)));
            }
        }
        if disk.unwritten.first().is_some_and(|(_, _, told)| !told) {
            happenings.push(Happening::DiskFull);
        }
    }
}

// === impl World ===

impl World {
    pub fn happen(&mut self, model: &Model, happening: Happening) {
        match happening {
            Happening::Request => {
                self.fuel.triggers -= 1;
                self.file = (self.file + 1).min(model.contents.len() - 1);
                self.request(model);
            }
            Happening::Stop => {
                self.fuel.stops -= 1;
                self.on(model, Event::Stop, true);
            }
            Happening::Kill => {
                self.fuel.kills -= 1;
                let seen = Seen { durable: self.seen.durable, ..Seen::default() };
                *self = model.start(self.disk.clone(), self.file, self.fuel, seen);
            }
            Happening::Expire => {
                self.fuel.expiries -= 1;
                self.expire(model);
            }
            Happening::Judge(at, read) => {
                let (transaction, _) = self.desk.readings.remove(at);
                self.judged(model, transaction, Some(read), true);
            }
            Happening::Unreadable(at, again) => {
                self.fault();
                let (transaction, _) = self.desk.readings.remove(at);
                self.judged(model, transaction, None, again);
            }
            Happening::Again(at) => self.again(model, at),
            Happening::Deliver(component) => {
                for answer in self.parts[component].deliver(model.mutation) {
                    if answer.2 == Answer::Done {
                        self.has_done(component, answer.0, answer.1);
                    }
                    self.answered(model, component, answer, true);
                }
            }
            Happening::Repeat(component) => {
                self.fault();
                self.parts[component].repeat();
            }
            Happening::Withdraw(component) => {
                self.parts[component].actor.mailbox.pop_front();
            }
            Happening::Complete(component, at, ending) => self.complete(model, component, at, ending),
            Happening::Late(at) => {
                let (component, answer) = self.desk.late.remove(at);
                self.answered(model, component, answer, true);
            }
            Happening::Start(component, well, asked) => self.start(model, component, well, asked),
            Happening::LeftBehind(component, at) => {
                let step = self.parts[component].complete_left_behind(at, model.mutation);
                self.answered(model, component, (step.transaction, step.kind, Answer::Done), true);
            }
            Happening::Write => {
                let (transaction, content, told) = self.disk.unwritten.remove(0);
                self.disk.history.push(content);
                if !told {
                    self.recorded(model, transaction, true);
                }
            }
            Happening::DiskFull => {
                self.fault();
                self.disk.unwritten[0].2 = true;
                let transaction = self.disk.unwritten[0].0;
                self.recorded(model, transaction, false);
            }
        }
    }

    fn fault(&mut self) {
        self.fuel.faults -= 1;
        self.seen.cause = true;
    }

    fn complete(&mut self, model: &Model, component: Index, at: usize, ending: Ending) {
        let well = matches!(ending, Ending::Done | Ending::DoneLate | Ending::DoneTwice);
        if ending != Ending::Done {
            self.fault();
        }
        let (step, done) = self.parts[component].complete(at, well, model.mutation);
        let again = ending != Ending::Unavailable(false);
        let answer = match ending {
            Ending::Unavailable(_) => Answer::Unavailable,
            _ if done => Answer::Done,
            _ => Answer::Failed,
        };
        if done {
            self.has_done(component, step.transaction, step.kind);
        }
        let answer = (step.transaction, step.kind, answer);
        if matches!(ending, Ending::DoneLate | Ending::DoneTwice) {
            self.desk.late.push((component, answer));
        }
        if ending != Ending::DoneLate {
            self.answered(model, component, answer, again);
        }
    }

    fn start(&mut self, model: &Model, component: Index, well: bool, asked: bool) {
        let first = self.parts[component].actor.mailbox.front();
        let Some(&Message::Start(transaction, section)) = first else { return };
        if !well {
            self.fault();
        }
        let key = asked.then(|| self.key(model, transaction));
        let part = &mut self.parts[component];
        if !well && model.minimal {
            part.actor.books = model.books(MINIMAL);
        }
        let runs = match (well, model.minimal) {
            (true, _) => section,
            (false, true) => MINIMAL,
            (false, false) => TORN,
        };
        part.start(runs, key);
        let one = Set::of(component);
        if !well {
            self.seen.gone = self.seen.gone.with(one);
        } else if asked && model.awaits_successor(self, transaction, component) {
            self.seen.gone = self.seen.gone.without(one);
        }
        if asked {
            self.on(model, Event::Replaced { transaction, component, done: well }, true);
        }
    }
}
