//! The service around the coordinator: its configuration, its disk, and the components that fail on command.

mod disk;
mod parts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reload::events::{Event, Sink};
use reload::history::Unconfirmed;
use reload::machine::State;
use reload::{Board, Change, Configuration, Live, Site, Strategy};

use crate::case::{Case, Fault, Io, NAMES, Point, Share};
use crate::log::{Entry, What};
use disk::Disk;
pub use parts::{Blocker, components};

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

impl Site<Config> for Shared {}

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
