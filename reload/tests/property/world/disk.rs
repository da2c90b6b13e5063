//! What the coordinator reads and writes, and a disk that hangs on command.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reload::history::{ConfirmChange, Record, Recorded, Recorder};
use reload::{Candidate, Class, Generation, Outcome, Problem, Rejection, Source, Which};

use super::{Config, Shared, World};
use crate::case::Io;
use crate::log::What;

/// A disk that hangs, until the one who turns the clock lets it go.
#[derive(Default)]
pub(super) struct Disk {
    stuck: Mutex<Option<tokio::time::Instant>>,
    let_go: Condvar,
    line: Mutex<()>,
    hangs: tokio::sync::Notify,
}

// === impl Shared ===

impl Shared {
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

    fn is_durable(&self) -> bool {
        self.lock().unwritten.is_empty()
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
