//! The service around the coordinator: its configuration, where that is read, and where generations go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reload::events::{Event, Sink};
use reload::history::{ConfirmChange, Record, Recorded, Recorder, Unconfirmed};
use reload::outcome::Kind;
use reload::{
    Candidate, Change, Class, Configuration, Generation, Outcome, Problem, Rejection, Site, Source, Strategy,
    Which,
};

use super::BUDGET;
use super::parts::Fault;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub log: u32,
    pub store: u32,
    pub server: u32,
    pub wrong: bool,
    pub health_gate: bool,
}

pub struct Config {
    pub settings: Settings,
    pub log: Arc<u32>,
    pub store: Arc<u32>,
    pub server: Arc<u32>,
}

#[derive(Default)]
pub struct World {
    pub file: Option<Settings>,
    pub faults: BTreeMap<(String, String), Fault>,
    pub told: Vec<String>,
    pub running: BTreeMap<&'static str, u32>,
    pub incarnations: BTreeMap<&'static str, u32>,
    pub recorded: Vec<u64>,
    pub unwritten: Vec<u64>,
    pub disk_full: bool,
    /// Reading waits until this is gone.
    pub stuck: Option<std::sync::mpsc::Receiver<()>>,
    /// So does recording.
    pub recording_stuck: Option<std::sync::mpsc::Receiver<()>>,
    pub audited: Vec<Kind>,
    /// What the generations said.
    pub kept: BTreeMap<u64, Settings>,
    pub unconfirmed: Option<Unconfirmed>,
    /// How often reading fails for the machine's sake.
    pub unreadable: u32,
}

#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn fault(&self, name: &str, step: &str) -> Fault {
        let fault = self.lock().faults.remove(&(name.to_owned(), step.to_owned()));
        fault.unwrap_or(Fault::None)
    }
}

impl Config {
    pub fn of(settings: Settings) -> Arc<Self> {
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
        let stuck = self.lock().recording_stuck.take();
        if let Some(stuck) = stuck {
            let _ = stuck.recv();
        }
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

    fn is_durable(&self) -> bool {
        self.lock().unwritten.is_empty()
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

impl Site<Config> for Shared {}

impl Sink for Shared {
    fn emit(&self, _: &Event<'_>) {}
}
