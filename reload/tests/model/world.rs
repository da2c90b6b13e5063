//! The whole program: what a state of it is, and where it starts.

use reload::graph::{Graph, Index, Set};
use reload::{StepKind, Transaction};
use stateright::Property;

use super::books::{Books, Section};
use super::component::Part;
use super::coordinator::{Again, Desk};
use super::happening::Happening;
use super::mutation::Mutation;
use super::properties;
use super::seen::Seen;

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
    pub fn start(&self, disk: Disk, file: usize, fuel: Fuel, seen: Seen) -> World {
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
