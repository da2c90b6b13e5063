//! The whole program and its environment: what a state is, and everything that can happen in it.

use std::collections::BTreeSet;

use reload::graph::{Graph, Index, Set};
use reload::machine::{Answer, Event};
use reload::{StepKind, Transaction};
use stateright::Property;

use super::books::{Books, Section};
use super::component::{MINIMAL, Message, Part, TORN};
use super::coordinator::{Again, Desk, Seen};
use super::mutation::Mutation;
use super::properties;

/// One program and what may happen to it.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: &'static str,
    pub graph: Graph,
    /// Whom each component depends on, directly or not.
    pub needs: Vec<Set>,
    /// What the file says, one after the other: each request finds the next. The first is what runs at the start.
    pub contents: Vec<Content>,
    /// Who can be started again.
    pub replaceable: Set,
    /// A successor that does not run on its last good section is followed by one on a minimal section.
    pub minimal: bool,
    pub health_gate: bool,
    pub fuel: Fuel,
    pub mutation: Option<Mutation>,
    /// What must be seen to happen in some run.
    pub sometimes: &'static [&'static str],
}

/// What a configuration file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Component by component.
    pub sections: Vec<Section>,
    /// The coordinator's own.
    pub own: u8,
    pub valid: bool,
}

/// How often something may still happen that need not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fuel {
    pub triggers: u8,
    /// Refusals and panics, failures of the machine, late and repeated answers, bad successors, a full disk.
    pub faults: u8,
    /// Deadlines that pass, at any moment.
    pub expiries: u8,
    pub stops: u8,
    pub kills: u8,
}

/// The state of everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub desk: Desk,
    pub parts: Vec<Part>,
    pub disk: Disk,
    /// What the file says, by number.
    pub file: usize,
    pub fuel: Fuel,
    pub seen: Seen,
}

/// What a process that is started finds, and what the one that runs has yet to write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// What each generation says, from the first on. A generation is there whole or not at all: this is `storage`'s to
    /// keep, and shown there with real kills.
    pub history: Vec<usize>,
    /// Generations that are not written yet, in order, with whether the coordinator was told that they are not.
    pub unwritten: Vec<(Transaction, usize, bool)>,
}

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
    /// A program of the components `declared`, in the order of the graph, each with what it depends on.
    pub fn new(
        name: &'static str,
        declared: &[(&'static str, &'static [&'static str])],
        contents: Vec<Content>,
        fuel: Fuel,
    ) -> Self {
        let graph = Graph::new(declared).unwrap();
        let index = |name| graph.index(name).unwrap();
        let mut needs = vec![Set::EMPTY; declared.len()];
        for (name, direct) in declared {
            assert_eq!(graph.names().len(), contents[0].sections.len());
            let all = direct
                .iter()
                .fold(Set::EMPTY, |all, need| all.with(Set::of(index(need))).with(needs[index(need)]));
            needs[index(name)] = all;
        }
        let replaceable = (0..declared.len()).collect();
        Self {
            name,
            graph,
            needs,
            contents,
            replaceable,
            minimal: false,
            health_gate: true,
            fuel,
            mutation: None,
            sometimes: &[],
        }
    }

    pub fn books(&self, section: Section) -> Books {
        if self.mutation == Some(Mutation::Unfenced) {
            Books::unfenced(section)
        } else {
            Books::fenced(section)
        }
    }

    /// Whom a step goes to, and from whom its answer comes: whoever it is for, unless the order is reversed.
    pub fn really_to(&self, component: Index, step: StepKind) -> Index {
        let reversed = match self.mutation {
            Some(Mutation::CommitsReversed) => step == StepKind::Commit,
            Some(Mutation::RollbacksReversed) => step == StepKind::Rollback,
            _ => false,
        };
        if reversed { self.needs.len() - 1 - component } else { component }
    }

    /// The program as it starts on what `disk` and `file` say.
    fn start(&self, disk: Disk, file: usize, fuel: Fuel, seen: Seen) -> World {
        let Disk { mut history, .. } = disk;
        let newest = history.last().copied();
        // A file that is not valid is not started on: the last known good is.
        let runs = if self.contents[file].valid { Some(file) } else { newest };
        let runs = runs.expect("the first file is valid");
        if newest.is_none_or(|newest| self.contents[newest] != self.contents[runs]) {
            history.push(runs);
        }
        let generation = u8::try_from(history.len()).unwrap();
        let parts = self.contents[runs].sections.iter().map(|s| Part::new(self.books(*s), *s)).collect();
        let disk = Disk { history, unwritten: Vec::new() };
        World { desk: Desk::new(runs, generation), parts, disk, file, fuel, seen }
    }

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
    fn besides(&self, world: &World, happenings: &mut Vec<Happening>) {
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

impl stateright::Model for Model {
    type State = World;
    type Action = Happening;

    fn init_states(&self) -> Vec<World> {
        let disk = Disk { history: Vec::new(), unwritten: Vec::new() };
        vec![self.start(disk, 0, self.fuel, Seen::default())]
    }

    fn actions(&self, world: &World, happenings: &mut Vec<Happening>) {
        self.by_itself(world, happenings);
        self.besides(world, happenings);
    }

    fn next_state(&self, last: &World, happening: Happening) -> Option<World> {
        let mut world = last.clone();
        world.happen(self, happening);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self.sometimes)
    }
}

// === impl World ===

impl World {
    fn happen(&mut self, model: &Model, happening: Happening) {
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
        let part = &mut self.parts[component];
        let Some(Message::Start(transaction, section)) = part.actor.mailbox.front().cloned() else { return };
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

    /// Whether nothing is asked for and nothing is owed.
    pub fn rests(&self) -> bool {
        let desk = &self.desk;
        desk.machine.at_rest() && desk.running.is_none() && desk.waiting == 0
    }

    /// Something is on its way of a transaction before the one that runs.
    pub fn has_leftovers(&self) -> bool {
        let Some(running) = self.desk.running else { return false };
        let old = |transaction: Transaction| transaction < running.transaction;
        self.desk.late.iter().any(|(_, answer)| old(answer.0))
            || self.desk.again.iter().any(|again| match again {
                Again::Judge(transaction) | Again::Send(transaction, ..) => old(*transaction),
            })
    }
}
