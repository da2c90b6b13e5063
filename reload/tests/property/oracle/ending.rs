//! The end of a transaction: its record, its outcome, and what is true when it is told.

use std::time::Duration;

use reload::machine::State;
use reload::outcome::{ComponentResult, Kind};
use reload::{Aim, ConfirmChange, Outcome, Trigger};

use super::levels::in_order;
use super::{Awaited, Concluded, Run, TICK, Verdict, Walk};
use crate::case::NAMES;
use crate::log::What;
use crate::world::Settings;

impl Walk<'_> {
    pub(super) fn record(&mut self, run: &Run, aim: Aim, next: &Settings) -> Verdict<(bool, ConfirmChange)> {
        let entry = self.peek()?.ok_or("the log ends where a record should be")?;
        if matches!(entry.what, What::Recording { .. }) {
            self.at += 1;
        }
        let late = self.case.hangs() && self.is_deadline(entry.at, run.record_by());
        let begun = || self.log[self.at..].iter().find(|entry| matches!(entry.what, What::Recording { .. }));
        let entry =
            if late && matches!(entry.what, What::Entered(_)) { begun().unwrap_or(entry) } else { entry };
        let What::Recording { generation, from, settings, confirm, restore } = &entry.what else {
            return Err("what was committed is not written down".to_owned());
        };
        ensure!(*from == self.generation && *generation == from + 1, "a gap between generations");
        ensure!(settings == next, "another configuration is written down");
        ensure!(*restore == (aim != Aim::Files), "files are made to say what they say");
        // It is decided on, and current, before another thread begins to write it down.
        let since = self.log[..self.at].iter().rposition(|entry| match entry.what {
            What::Acked { transaction, .. } => transaction == self.transaction,
            What::Read { number, .. } => self.readings.contains(&number),
            _ => false,
        });
        let since = since.unwrap_or(0);
        let before =
            self.was_awaited.iter().rev().find(|(at, _)| *at <= since).and_then(|(_, awaited)| *awaited);
        let fits = |awaited: Option<Awaited>| match (awaited, confirm) {
            (Some(awaited), ConfirmChange::End) => is_aimed_at(aim, awaited.target),
            (Some(awaited), ConfirmChange::Keep) => !is_aimed_at(aim, awaited.target),
            (None, ConfirmChange::Begin(begun)) => begun.target.get() == *from,
            (None, ConfirmChange::Keep) => true,
            _ => false,
        };
        ensure!(fits(self.awaited) || fits(before), "{confirm:?}, where {before:?} was awaited");
        self.generation = *generation;
        self.current = next.clone();
        self.kept.insert(*generation, next.clone());
        self.was_current.push((since, self.at, *generation));
        let mut durable = false;
        self.records = true;
        loop {
            let entry = self.peek()?.ok_or("the log ends in the middle of a record")?;
            match &entry.what {
                What::Recorded { durable: written, .. } => {
                    durable = *written;
                    if *restore {
                        self.file = next.clone();
                    }
                }
                What::Acked { .. } => {}
                What::Entered(_) => {
                    let written = matches!(
                        self.log[..self.at].iter().rev().find_map(|entry| match entry.what {
                            What::Recorded { generation, .. } => Some(generation),
                            _ => None,
                        }),
                        Some(last) if last == self.generation
                    );
                    ensure!(
                        written || self.is_deadline(entry.at, run.record_by()),
                        "a record is not waited for"
                    );
                    break;
                }
                _ => return Err("this is not the course of a record".to_owned()),
            }
            self.at += 1;
        }
        self.records = false;
        Ok((durable, *confirm))
    }

    /// Whether the last record did not get to disk at once.
    fn was_not_durable(&self) -> bool {
        let last = self.log[..self.at].iter().rev().find_map(|entry| match entry.what {
            What::Recorded { durable, .. } => Some(durable),
            _ => None,
        });
        last == Some(false)
    }

    /// Nobody wanted it any more: nothing is done, and nothing is told.
    pub(super) fn withdrawn(&mut self) -> Verdict {
        let state = if self.broken.is_empty() { State::Idle } else { State::Failed };
        let entry = self.next("rest")?;
        ensure!(matches!(entry.what, What::Entered(seen) if seen == state), "{state:?} is not shown");
        let entry = self.next("a withdrawal")?;
        ensure!(matches!(entry.what, What::Withdrawn), "a transaction that nobody asked for");
        self.runs = false;
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "all that is known of a transaction, once")]
    pub(super) fn conclusion(
        &mut self,
        run: Run,
        kind: Kind,
        aim: Aim,
        next: Option<Settings>,
        changes: Vec<String>,
        levels: Vec<Vec<usize>>,
        durable: bool,
        confirm: ConfirmChange,
        reads_from: usize,
    ) -> Verdict {
        let state = if self.broken.is_empty() { State::Idle } else { State::Failed };
        let entry = self.next("rest")?;
        let ended = entry.at;
        ensure!(matches!(entry.what, What::Entered(seen) if seen == state), "{state:?} is not shown");
        ensure!(
            ended <= run.began + run.budget + if self.case.hangs() { self.slack() } else { Duration::ZERO },
            "it took {:?} of {:?}",
            ended - run.began,
            run.budget
        );
        if kind == Kind::Unchanged {
            self.current = next.unwrap();
        }
        match confirm {
            ConfirmChange::Keep => {}
            ConfirmChange::Begin(begun) => {
                let entry = self.next("what is awaited")?;
                let What::Awaits { generation, target, left } = entry.what else {
                    return Err("nobody is told what is awaited".to_owned());
                };
                ensure!(
                    (generation.get(), target) == (self.generation, begun.target),
                    "something else is awaited"
                );
                self.awaited = Some(Awaited { target: target.get(), until: entry.at + left });
            }
            ConfirmChange::End => self.awaited = None,
        }
        let is_back = kind == Kind::Unchanged && self.awaited.is_some_and(|a| is_aimed_at(aim, a.target));
        if is_back {
            self.awaited = None;
        }
        self.was_awaited.push((self.at, self.awaited));
        let entry = self.next("an outcome")?;
        let What::Finished { outcome, board, running } = &entry.what else {
            return Err("a transaction ends without an outcome".to_owned());
        };
        self.runs = false;
        ensure!(kind.is_success() || !self.healed, "nothing is wrong, and it is {kind:?}");
        ensure!(outcome.outcome == kind, "the outcome is {:?}, not {kind:?}", outcome.outcome);
        ensure!(outcome.config_generation.get() == self.generation, "the outcome names another generation");
        let took = (ended - run.began).as_secs_f64() * 1e3;
        ensure!((outcome.duration_ms - took).abs() < 0.01, "it took {took} ms, not {}", outcome.duration_ms);
        // Written in the same instant in which it was given up: either may be told.
        let in_time = self.case.hangs() && self.is_deadline(ended, run.record_by());
        // What was recorded before may have been written since.
        let later = kind != Kind::Committed && self.was_not_durable();
        let either = in_time || later;
        ensure!(either || outcome.durable == durable, "durable is {}", outcome.durable);
        ensure!(outcome.error.is_some() != kind.is_success(), "the error is {:?}", outcome.error);
        if kind != Kind::Rejected {
            let mut told: Vec<_> = outcome.errors.iter().filter_map(|e| e.component.as_deref()).collect();
            let mut blamed: Vec<_> = run.blamed.iter().map(|part| NAMES[*part]).collect();
            told.sort_unstable();
            blamed.sort_unstable();
            ensure!(told == blamed, "the errors are of {told:?}, not {blamed:?}: {:?}", outcome.errors);
            ensure!(told.len() == outcome.errors.len(), "an error of nobody: {:?}", outcome.errors);
        }
        let paths: Vec<&str> = outcome.changes.iter().map(|change| change.path.as_str()).collect();
        ensure!(paths == changes, "the changes are {paths:?}, not {changes:?}");
        let reports: Vec<_> = outcome.components.iter().map(|c| (c.name.as_str(), c.result)).collect();
        let expected: Vec<_> = in_order(&levels)
            .into_iter()
            .map(|part| {
                let result = match kind {
                    _ if !run.told.contains(&part) => ComponentResult::NotReached,
                    _ if run.replaced.contains(&part) => ComponentResult::Failed,
                    Kind::Committed => ComponentResult::Committed,
                    _ => ComponentResult::RolledBack,
                };
                (NAMES[part], result)
            })
            .collect();
        ensure!(reports == expected, "the components are {reports:?}, not {expected:?}");
        // The board, before anybody has the answer.
        self.degraded = match kind {
            Kind::Failed => true,
            Kind::Committed | Kind::Unchanged | Kind::RolledBack => false,
            _ => self.degraded,
        };
        ensure!(board.state == state, "the board shows {:?}", board.state);
        ensure!(board.generation.get() == self.generation, "the board shows another generation");
        ensure!(board.last.id == outcome.id && board.running.is_none(), "the board shows what is over");
        ensure!(board.degraded.is_some() == self.degraded, "the board's degraded is {:?}", board.degraded);
        ensure!(self.degraded != self.broken.is_empty(), "degraded without a reason");
        for part in &self.broken {
            let names = board.degraded.as_deref().is_some_and(|text| text.contains(NAMES[*part]));
            ensure!(names, "degraded does not name {}: {:?}", NAMES[*part], board.degraded);
        }
        ensure!(
            board.unconfirmed.map(|u| u.target.get()) == self.awaited.map(|a| a.target),
            "the board shows {:?} as awaited",
            board.unconfirmed
        );
        self.run_what_they_should(running)?;
        self.way_back(&run, outcome, is_back)?;
        self.concluded.push(Concluded {
            began: run.began,
            ended,
            reads_from,
            ends: self.at,
            aim,
            outcome: outcome.clone(),
        });
        Ok(())
    }

    /// At rest every component runs its section of the current generation, or is known to be broken (invariant 1).
    pub(super) fn run_what_they_should(&self, running: &[u8]) -> Verdict {
        for (part, value) in running.iter().enumerate() {
            ensure!(
                self.broken.contains(&part) || *value == self.current.sections[part],
                "{} runs {value}, not {}",
                NAMES[part],
                self.current.sections[part]
            );
        }
        Ok(())
    }

    /// Nothing goes back by itself before its time, and what is awaited goes back when it is over.
    fn way_back(&self, run: &Run, outcome: &Outcome, is_back: bool) -> Verdict {
        let by_itself = outcome.trigger == Trigger::Rollback
            && outcome.note.as_deref().is_some_and(|note| note.starts_with("not confirmed in time"));
        if !by_itself {
            return Ok(());
        }
        let awaited = run.awaited.ok_or("something goes back that nobody awaited")?;
        ensure!(run.began + TICK >= awaited.until, "it goes back before its time");
        ensure!(is_back || outcome.outcome != Kind::Unchanged, "it went back, and is still awaited");
        let late = run.began.saturating_sub(awaited.until);
        let first = !self
            .concluded
            .iter()
            .any(|c| c.began >= awaited.until.saturating_sub(TICK) && c.outcome.trigger == Trigger::Rollback);
        let idle =
            !self.concluded.iter().any(|c| c.began <= awaited.until + TICK && c.ended >= awaited.until);
        ensure!(
            !first || !idle || late <= self.slack() + TICK,
            "nothing runs, and it goes back {late:?} too late"
        );
        Ok(())
    }
}

fn is_aimed_at(aim: Aim, generation: u64) -> bool {
    matches!(aim, Aim::Generation(aim) if aim.get() == generation)
}
