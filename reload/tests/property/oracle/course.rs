//! The middle of a transaction: the steps, level by level, and the way back.

use std::collections::BTreeSet;
use std::time::Duration;

use reload::machine::State;
use reload::outcome::Kind;
use reload::{Class, StepKind};

use super::levels::{in_order, restricted};
use super::{LAST_RETRY, Run, Verdict, Walk};
use crate::case::NAMES;
use crate::log::What;

/// How a stretch of the transaction went.
enum Went {
    Through,
    Back,
}

impl Walk<'_> {
    /// Prepare, commit, probe and finish; or all the way back.
    pub(super) fn course(&mut self, run: &mut Run, levels: &[Vec<usize>]) -> Verdict<Kind> {
        if levels.is_empty() {
            return Ok(Kind::Committed);
        }
        let entry = self.next("an update")?;
        ensure!(matches!(entry.what, What::Entered(State::Updating)), "no update begins");
        let all = [in_order(levels)];
        let none: &[Vec<usize>] = &[];
        let stretches = [
            (StepKind::Prepare, levels),
            (StepKind::Commit, levels),
            (StepKind::Probe, if run.health_gate { &all } else { none }),
            (StepKind::Finish, &all),
        ];
        for (step, levels) in stretches {
            for level in levels {
                if let Went::Back = self.forward(run, step, level)? {
                    return self.back(run, &all[0], restricted(&self.levels, &run.told));
                }
            }
        }
        self.broken.retain(|part| !run.told.contains(part));
        Ok(Kind::Committed)
    }

    fn forward(&mut self, run: &mut Run, step: StepKind, level: &[usize]) -> Verdict<Went> {
        self.sent_to(step, level)?;
        run.told.extend(level);
        let mut waiting: BTreeSet<usize> = level.iter().copied().collect();
        let mut failed: BTreeSet<usize> = BTreeSet::new();
        while !(waiting.is_empty() && failed.is_empty()) {
            let entry = self.peek()?.ok_or("the log ends in the middle of a step")?;
            let now = entry.at;
            match &entry.what {
                What::Acked { part, step: of, error, .. } if *of == step => {
                    ensure!(waiting.remove(part), "{} answers twice", NAMES[*part]);
                    match (step, error) {
                        (_, None) | (StepKind::Finish, _) => {}
                        (StepKind::Prepare, Some(Class::System)) => {
                            failed.insert(*part);
                            self.at += 1;
                            let next = self.peek()?.ok_or("the log ends after a failure")?;
                            if matches!(next.what, What::Entered(State::RollingBack))
                                && now + LAST_RETRY >= run.deadline(step)
                            {
                                // No time for another try; or that came later, and with it the end of everybody's time.
                                if next.at == now {
                                    run.blamed.push(*part);
                                } else {
                                    run.blamed.extend(waiting.union(&failed));
                                }
                                self.at += 1;
                                return Ok(Went::Back);
                            }
                            continue;
                        }
                        (_, Some(_)) => {
                            self.at += 1;
                            let next = self.next("a rollback")?;
                            ensure!(
                                matches!(next.what, What::Entered(State::RollingBack)),
                                "a failure does not turn the transaction round"
                            );
                            run.blamed.push(*part);
                            return Ok(Went::Back);
                        }
                    }
                    ensure!(now <= run.deadline(step) + self.slack(), "waited for longer than the deadline");
                }
                What::Sent { part, step: of, transaction } if *of == step && failed.contains(part) => {
                    ensure!(*transaction == self.transaction, "sent under another transaction");
                    failed.remove(part);
                    waiting.insert(*part);
                }
                What::Entered(State::RollingBack) if step != StepKind::Finish => {
                    ensure!(
                        self.is_deadline(now, run.deadline(step)),
                        "{} is given up {:?} after the start",
                        step.as_str(),
                        now - run.began
                    );
                    run.blamed.extend(waiting.union(&failed));
                    self.at += 1;
                    return Ok(Went::Back);
                }
                What::Recording { .. } if step == StepKind::Finish => {
                    ensure!(self.is_deadline(now, run.deadline(step)), "a finish is not waited for");
                    return Ok(Went::Through);
                }
                _ => return Err(format!("this is not the course of {}", step.as_str())),
            }
            self.at += 1;
        }
        Ok(Went::Through)
    }

    /// The first sending of a step to a level: everybody at once, by name.
    fn sent_to(&mut self, step: StepKind, level: &[usize]) -> Verdict {
        let mut since = None;
        for expected in level {
            let entry = self.next("a step for the whole level")?;
            ensure!(
                matches!(&entry.what, What::Sent { transaction, part, step: of }
                    if *transaction == self.transaction && part == expected && *of == step),
                "{}.{} should be sent now",
                NAMES[*expected],
                step.as_str()
            );
            ensure!(*since.get_or_insert(entry.at) == entry.at, "a level is not told at once");
        }
        Ok(())
    }

    fn back(&mut self, run: &mut Run, order: &[usize], mut levels: Vec<Vec<usize>>) -> Verdict<Kind> {
        levels.reverse();
        let end = run.began + run.budget;
        let mut lost: BTreeSet<usize> = BTreeSet::new();
        let count = levels.len();
        for (number, level) in levels.into_iter().enumerate() {
            let begins = self.peek()?.ok_or("the log ends where a rollback begins")?.at;
            let share = end.saturating_sub(begins) / u32::try_from(count - number + 1).unwrap();
            let deadline = begins + share;
            self.sent_to(StepKind::Rollback, &level)?;
            self.level_back(&level, deadline, &mut lost)?;
        }
        run.blamed.extend(&lost);
        let lost: Vec<usize> = order.iter().copied().filter(|part| lost.contains(part)).collect();
        if !lost.is_empty() {
            self.replacing(run, &lost)?;
        }
        Ok(if self.broken.is_empty() { Kind::RolledBack } else { Kind::Failed })
    }

    fn level_back(&mut self, level: &[usize], deadline: Duration, lost: &mut BTreeSet<usize>) -> Verdict {
        let mut waiting: BTreeSet<usize> = level.iter().copied().collect();
        // Those that the machine failed; each is tried again or, if there is no time, lost.
        let mut failed: BTreeSet<usize> = BTreeSet::new();
        while !(waiting.is_empty() && failed.is_empty()) {
            let entry = self.peek()?.ok_or("the log ends in the middle of a rollback")?;
            let now = entry.at;
            match &entry.what {
                What::Acked { part, step: StepKind::Rollback, error, .. } if level.contains(part) => {
                    ensure!(waiting.remove(part), "{} goes back twice", NAMES[*part]);
                    match error {
                        // Who was broken before stays so: nobody knows whether there was anything to undo.
                        None => {}
                        Some(Class::System) => {
                            failed.insert(*part);
                        }
                        Some(_) => {
                            lost.insert(*part);
                        }
                    }
                }
                // Somebody answers when nobody waits any more.
                What::Acked { .. } => {}
                What::Sent { part, step: StepKind::Rollback, .. } if failed.contains(part) => {
                    failed.remove(part);
                    waiting.insert(*part);
                }
                _ => {
                    // The next level, or the end: those who are left were given up.
                    let at_the_end = self.is_deadline(now, deadline);
                    ensure!(waiting.is_empty() || at_the_end, "a rollback is not waited for");
                    ensure!(
                        failed.is_empty() || now + LAST_RETRY >= deadline,
                        "a rollback is given up too early"
                    );
                    lost.append(&mut waiting);
                    lost.append(&mut failed);
                    return Ok(());
                }
            }
            ensure!(now <= deadline + self.slack(), "a rollback is waited for too long");
            self.at += 1;
        }
        Ok(())
    }

    fn replacing(&mut self, run: &mut Run, lost: &[usize]) -> Verdict {
        let mut waiting = BTreeSet::new();
        let mut given_up = BTreeSet::new();
        for expected in lost {
            let entry = self.next("a successor")?;
            let What::Replace { part, possible } = entry.what else {
                return Err(format!("{} should be replaced now", NAMES[*expected]));
            };
            ensure!(part == *expected, "{} should be replaced now", NAMES[*expected]);
            ensure!(possible == self.case.parts[part].replaceable, "{} has a successor?", NAMES[part]);
            run.replaced.insert(part);
            if possible {
                waiting.insert(part);
                self.successors[part] += 1;
            } else {
                given_up.insert(part);
            }
        }
        while !waiting.is_empty() {
            let entry = self.peek()?.ok_or("the log ends in the middle of a replacement")?;
            match &entry.what {
                What::Replaced { part, done, .. } => {
                    ensure!(waiting.remove(part), "{} is replaced twice", NAMES[*part]);
                    if *done {
                        self.broken.remove(part);
                    } else {
                        given_up.insert(*part);
                    }
                }
                What::Acked { .. } => {}
                _ => {
                    let deadline = run.deadline(StepKind::Rollback);
                    ensure!(self.is_deadline(entry.at, deadline), "a successor is not waited for");
                    given_up.append(&mut waiting);
                    break;
                }
            }
            self.at += 1;
        }
        run.blamed.extend(&given_up);
        self.broken.append(&mut given_up);
        Ok(())
    }
}
