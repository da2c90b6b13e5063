//! Afterwards: whether everybody who asked was answered once, with what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reload::outcome::{ComponentResult, Kind};
use reload::{Aim, Outcome, Refusal};

use super::levels::in_order;
use super::{Concluded, TICK, Verdict, Walk};
use crate::case::NAMES;
use crate::log::{AskId, What};

/// The shortest budget that a case sets, or changes to.
const SHORTEST: Duration = Duration::from_millis(200);

impl Walk<'_> {
    /// Everybody who asked was answered once, with what became of it.
    pub(super) fn every_answer(&mut self) -> Verdict {
        let mut asked: BTreeMap<AskId, (usize, &What)> = BTreeMap::new();
        let mut answered: BTreeSet<AskId> = BTreeSet::new();
        let mut audited: BTreeMap<&str, usize> = BTreeMap::new();
        let mut confirmations = self.confirmed.len();
        let log = self.log;
        for (at, entry) in log.iter().enumerate() {
            match &entry.what {
                What::AskedReload { id, .. } | What::AskedConfirm { id, .. } | What::AskedDryRun { id } => {
                    asked.insert(*id, (at, &entry.what));
                }
                What::Audited(id) => {
                    ensure!(audited.insert(id, at).is_none(), "two audit lines for one outcome");
                }
                What::Answered { id, answer } => {
                    self.at = at;
                    ensure!(answered.insert(*id), "answered twice");
                    let (since, ask) = *asked.get(id).ok_or("an answer to nobody")?;
                    match answer {
                        Ok(outcome) => self.outcome_for(since, at, ask, outcome, &audited)?,
                        Err(refusal) => self.refusal_for(since, at, ask, refusal)?,
                    }
                    if let (What::AskedConfirm { .. }, Ok(_)) = (ask, answer) {
                        ensure!(confirmations > 0, "more confirmations than were told");
                        confirmations -= 1;
                    }
                }
                _ => {}
            }
        }
        self.at = log.len();
        ensure!(confirmations == 0, "a confirmation without an answer");
        // One line for each transaction that was concluded, and for each confirmation.
        for concluded in &self.concluded {
            ensure!(audited.remove(concluded.outcome.id.as_str()).is_some(), "an outcome is not audited");
        }
        ensure!(audited.len() == self.confirmed.len(), "audit lines about nothing: {audited:?}");
        Ok(())
    }

    fn outcome_for(
        &self,
        since: usize,
        at: usize,
        ask: &What,
        outcome: &Outcome,
        audited: &BTreeMap<&str, usize>,
    ) -> Verdict {
        match ask {
            What::AskedDryRun { .. } => {
                ensure!(
                    matches!(outcome.outcome, Kind::Planned | Kind::Rejected),
                    "a look that does something"
                );
                ensure!(!audited.contains_key(outcome.id.as_str()), "a look is audited");
                let told = outcome.components.iter().any(|c| c.result != ComponentResult::NotReached);
                ensure!(!told, "a look reaches somebody");
                let rank = |name: &str| in_order(&self.levels).iter().position(|part| NAMES[*part] == name);
                ensure!(outcome.components.is_sorted_by_key(|c| rank(&c.name)), "a look in another order");
                for change in outcome.changes.iter().filter(|change| change.path != "reload") {
                    let named = outcome.components.iter().any(|c| c.name == change.path);
                    ensure!(named, "a look does not name {}", change.path);
                }
            }
            What::AskedConfirm { expect, .. } => {
                ensure!(audited.contains_key(outcome.id.as_str()), "answered before it is audited");
                ensure!(expect.is_none_or(|e| e == outcome.config_generation), "another one is confirmed");
                let told = self.confirmed.iter().any(|(told, generation)| {
                    (since..at).contains(told) && *generation == outcome.config_generation
                });
                ensure!(told, "a confirmation that nobody was told of");
            }
            What::AskedReload { expect, aim, confirm, .. } => {
                let of = self.concluded.iter().find(|concluded| concluded.outcome.id == outcome.id);
                let of = of.ok_or("the outcome of no transaction")?;
                ensure!(of.ends <= at, "answered before it is over");
                // Nobody waits longer than that for a disk that does not come back.
                let waited = self.log[at].at.saturating_sub(of.ended);
                let gave_up = self.case.hangs() && waited + self.slack() >= SHORTEST;
                ensure!(
                    audited.contains_key(outcome.id.as_str()) || gave_up,
                    "answered before it is audited"
                );
                ensure!(of.reads_from > since, "answered with what was read before it was asked");
                ensure!(of.aim == *aim, "{aim:?} was asked for, and {:?} was done", of.aim);
                ensure!(
                    expect.is_none_or(|expected| expected == of.outcome.from_generation),
                    "another generation was current than the one expected"
                );
                if confirm.is_some() && of.outcome.outcome == Kind::Committed {
                    self.is_awaited(of)?;
                }
                // Whoever waits, waits for one transaction for each aim that came before.
                let before = self.concluded.iter().filter(|c| c.ends > since && c.ends < of.ends).count();
                let aims: BTreeSet<_> = self.log[..since]
                    .iter()
                    .filter_map(|entry| match &entry.what {
                        What::AskedReload { aim: Aim::Generation(generation), .. } => Some(generation.get()),
                        _ => None,
                    })
                    .collect();
                ensure!(before <= aims.len() + 2, "{before} transactions before it was his turn");
            }
            _ => unreachable!("not a question"),
        }
        Ok(())
    }

    /// Somebody wanted this commit to be confirmed: it is awaited, or one before it is, or it is the way back.
    fn is_awaited(&self, of: &Concluded) -> Verdict {
        let around = |range: std::ops::Range<usize>| {
            self.was_awaited.iter().any(|(at, awaited)| range.contains(at) && awaited.is_some())
        };
        let before = self.was_awaited.iter().rev().find(|(at, _)| *at < of.reads_from);
        ensure!(
            around(of.reads_from..of.ends + 1) || before.is_some_and(|(_, awaited)| awaited.is_some()),
            "a confirmation was asked for, and is not awaited"
        );
        Ok(())
    }

    fn refusal_for(&self, since: usize, at: usize, ask: &What, refusal: &Refusal) -> Verdict {
        match refusal {
            Refusal::Stopping => {
                ensure!(self.stop_asked.is_some_and(|(stop, _)| stop < at), "nobody stops");
            }
            Refusal::Mismatch { expected, current } => {
                let (What::AskedReload { expect, .. } | What::AskedConfirm { expect, .. }) = ask else {
                    return Err("a look expects nothing".to_owned());
                };
                ensure!(*expect == Some(*expected) && expected != current, "{refusal} to {expect:?}");
                let was = self.was_current.iter().enumerate().any(|(number, (from, _, generation))| {
                    let until = self.was_current.get(number + 1).map_or(usize::MAX, |next| next.1);
                    *generation == current.get() && *from <= at && until >= since
                });
                ensure!(was, "generation {current} was not current");
            }
            Refusal::NothingToConfirm => {
                ensure!(matches!(ask, What::AskedConfirm { .. }), "nothing was to be confirmed");
                let now = self.log[at].at;
                let states = self.was_awaited.iter().enumerate().filter(|(number, (from, _))| {
                    let until = self.was_awaited.get(number + 1).map_or(usize::MAX, |next| next.0);
                    *from <= at && until >= since
                });
                let nothing = states
                    .map(|(_, (_, awaited))| awaited)
                    .any(|awaited| awaited.is_none_or(|awaited| now + TICK >= awaited.until));
                ensure!(nothing, "there was something to confirm");
            }
            Refusal::Busy(_) => return Err("busy with so few".to_owned()),
        }
        Ok(())
    }
}
