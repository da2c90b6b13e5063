//! Judges what was seen. It walks through the log with a small book of its own (what runs, what is broken, what is
//! awaited), knows the protocol only from its description, and shares no code with the engine's graph, plan or machine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reload::machine::State;
use reload::outcome::{ComponentResult, Kind};
use reload::{Aim, Class, ConfirmChange, Generation, Outcome, Refusal, StepKind, Trigger, Which};

use crate::case::{Case, NAMES};
use crate::log::{AskId, Entry, Rest, What, tail};
use crate::world::{Settings, differences};

/// The longest that is waited before something is tried again.
const LAST_RETRY: Duration = Duration::from_millis(200);
/// The clock's grain: a deadline between two ticks passes at the second.
const TICK: Duration = Duration::from_millis(1);

type Verdict<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err(format!($($why)+));
        }
    };
}

/// Whether all that was seen is as it should be.
pub fn judge(case: &Case, log: &[Entry], rest: &Rest) -> Verdict {
    let mut walk = Walk::new(case, log);
    walk.whole()
        .and_then(|()| walk.every_answer())
        .and_then(|()| walk.at_rest(rest))
        .map_err(|why| format!("{why}\n{}", tail(log, walk.at, 70)))
}

struct Walk<'a> {
    case: &'a Case,
    log: &'a [Entry],
    /// The entry that is looked at.
    at: usize,
    /// Level by level, by name in each.
    levels: Vec<Vec<usize>>,
    transaction: u64,
    /// The readings of the transaction that is being judged.
    readings: BTreeSet<u64>,
    judging: bool,
    /// A transaction runs.
    runs: bool,
    /// It is being written down.
    records: bool,
    // The book.
    current: Settings,
    generation: u64,
    broken: BTreeSet<usize>,
    degraded: bool,
    kept: BTreeMap<u64, Settings>,
    awaited: Option<Awaited>,
    successors: Vec<u32>,
    /// Nothing goes wrong any more.
    healed: bool,
    file: Settings,
    /// From when at the earliest, and from when at the latest, which generation was current.
    was_current: Vec<(usize, usize, u64)>,
    /// Where something was awaited, and where no more.
    was_awaited: Vec<(usize, Option<Awaited>)>,
    concluded: Vec<Concluded>,
    confirmed: Vec<(usize, Generation)>,
    stop_asked: Option<(usize, Duration)>,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    target: u64,
    until: Duration,
}

/// A transaction that is over.
#[derive(Debug)]
struct Concluded {
    began: Duration,
    ended: Duration,
    /// Where its first reading begins.
    reads_from: usize,
    ends: usize,
    aim: Aim,
    outcome: Box<Outcome>,
}

/// How a stretch of the transaction went.
enum Went {
    Through,
    Back,
}

/// What is known of the transaction that is being looked at.
struct Run {
    began: Duration,
    budget: Duration,
    health_gate: bool,
    /// What was awaited when it began.
    awaited: Option<Awaited>,
    told: BTreeSet<usize>,
    replaced: BTreeSet<usize>,
    /// Whose fault it is: once for each step that was refused, or not answered in time.
    blamed: Vec<usize>,
}

// === impl Run ===

impl Run {
    fn deadline(&self, step: StepKind) -> Duration {
        self.began
            + match step {
                StepKind::Prepare => self.budget / 2,
                StepKind::Commit | StepKind::Probe => self.budget / 4 * 3,
                StepKind::Finish => self.budget / 8 * 7,
                // The last thing on the way back: successors.
                StepKind::Rollback => self.budget - self.budget / 50,
            }
    }

    fn record_by(&self) -> Duration {
        self.began + self.budget - self.budget / 50
    }
}

// === impl Walk ===

impl<'a> Walk<'a> {
    fn new(case: &'a Case, log: &'a [Entry]) -> Self {
        let current = Settings {
            sections: vec![1; case.parts.len()],
            health_gate: true,
            budget_ms: case.budget_ms,
            wrong: false,
        };
        Self {
            case,
            log,
            at: 0,
            levels: levels(case),
            transaction: 0,
            readings: BTreeSet::new(),
            judging: false,
            runs: false,
            records: false,
            file: current.clone(),
            kept: BTreeMap::from([(1, current.clone())]),
            current,
            generation: 1,
            broken: BTreeSet::new(),
            degraded: false,
            awaited: None,
            successors: vec![0; case.parts.len()],
            healed: false,
            was_current: vec![(0, 0, 1)],
            was_awaited: vec![(0, None)],
            concluded: vec![],
            confirmed: vec![],
            stop_asked: None,
        }
    }

    /// What the clock of a hanging disk adds.
    fn slack(&self) -> Duration {
        if self.case.hangs() { Duration::from_millis(self.case.budget_ms / 100) + TICK } else { TICK }
    }

    fn is_deadline(&self, now: Duration, deadline: Duration) -> bool {
        now >= deadline && now <= deadline + self.slack()
    }

    // --- reading the log ---

    /// The next entry of the transaction; what others do meanwhile is entered into the book on the way.
    fn peek(&mut self) -> Verdict<Option<&'a Entry>> {
        while let Some(entry) = self.log.get(self.at) {
            if !self.aside(entry)? {
                return Ok(Some(entry));
            }
            self.at += 1;
        }
        Ok(None)
    }

    fn next(&mut self, wanted: &str) -> Verdict<&'a Entry> {
        let entry = self.peek()?.ok_or_else(|| format!("the log ends where there should be {wanted}"))?;
        self.at += 1;
        Ok(entry)
    }

    /// Whether this is no part of a transaction's own course.
    fn aside(&mut self, entry: &Entry) -> Verdict<bool> {
        match &entry.what {
            What::Edited(file) => self.file = file.clone(),
            What::Healed { running, held } => {
                self.healed = true;
                self.run_what_they_should(running)?;
                for (part, held) in held.iter().enumerate() {
                    ensure!(self.broken.contains(&part) || *held == 0, "{} still holds {held}", NAMES[part]);
                }
            }
            What::StopAsked => self.stop_asked = Some((self.at, entry.at)),
            What::StopAnswered => {
                let (_, asked) = self.stop_asked.ok_or("a stop was answered that nobody asked for")?;
                // Each key's change is in force with the next transaction: either budget may be the one that ran.
                ensure!(
                    entry.at <= asked + Duration::from_secs(2) + self.slack(),
                    "a stop took longer than a budget"
                );
            }
            What::Confirmed { generation } => {
                let awaited = self.awaited.take().ok_or("a confirmation of nothing")?;
                ensure!(entry.at <= awaited.until + TICK, "a confirmation after its time");
                // One that is about to be written down is current already.
                let is_next = self.runs && generation.get() == self.generation + 1;
                ensure!(is_next || generation.get() == self.generation, "another generation was confirmed");
                self.confirmed.push((self.at, *generation));
                self.was_awaited.push((self.at, None));
            }
            What::Acked { transaction, .. } | What::Replaced { transaction, .. } => {
                return Ok(*transaction != self.transaction || self.judging || !self.runs);
            }
            What::Reading { which: Which::OwnToLook, .. } => {}
            What::Reading { number, .. } => {
                if self.judging {
                    self.readings.insert(*number);
                    return Ok(false);
                }
                ensure!(self.case.hangs(), "something is read outside of a transaction");
            }
            What::Read { number, .. } => return Ok(!(self.judging && self.readings.contains(number))),
            // Its thread began after it had been given up.
            What::Recording { generation, .. } => {
                return Ok(self.case.hangs() && *generation <= self.generation);
            }
            What::Recorded { generation, .. } => return Ok(*generation != self.generation || !self.records),
            // It was begun in time, and the disk hung.
            What::Restored(_) => return Ok(self.case.hangs() && !self.judging),
            What::AskedReload { .. }
            | What::AskedConfirm { .. }
            | What::AskedDryRun { .. }
            | What::Answered { .. }
            | What::NotAwaitedOnDisk
            | What::Audited(_) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    // --- transactions ---

    fn whole(&mut self) -> Verdict {
        while let Some(entry) = self.peek()? {
            ensure!(
                matches!(entry.what, What::Entered(State::Validating)),
                "something happens outside of a transaction"
            );
            self.at += 1;
            self.one(entry.at)?;
        }
        Ok(())
    }

    fn one(&mut self, began: Duration) -> Verdict {
        self.transaction += 1;
        let stopping = self.stop_asked.map(|(_, at)| at);
        ensure!(stopping.is_none_or(|stopping| stopping >= began), "a transaction begins after a stop");
        let mut run = Run {
            began,
            budget: Duration::from_millis(self.current.budget_ms),
            health_gate: self.current.health_gate,
            awaited: self.awaited,
            told: BTreeSet::new(),
            replaced: BTreeSet::new(),
            blamed: vec![],
        };
        let reads_from = self.at;
        (self.judging, self.runs) = (true, true);
        self.readings.clear();
        let (kind, aim, next) = self.judgement(&run)?;
        self.judging = false;
        let (kind, changes, levels) = match (kind, &next) {
            (Some(Kind::Unchanged), None) => return self.withdrawn(),
            (Some(kind), _) => (kind, vec![], vec![]),
            (None, None) => unreachable!("a judgement of nothing"),
            (None, Some(next)) => {
                let changes = differences(&self.current, next);
                let affected: BTreeSet<usize> = (0..self.case.parts.len())
                    .filter(|part| self.current.sections[*part] != next.sections[*part])
                    .chain(self.broken.iter().copied())
                    .collect();
                let levels = restricted(&self.levels, &affected);
                let kind = self.course(&mut run, &levels)?;
                (kind, changes, levels)
            }
        };
        let mut durable = true;
        let mut confirm = ConfirmChange::Keep;
        if kind == Kind::Committed {
            (durable, confirm) = self.record(&run, aim, next.as_ref().unwrap())?;
        }
        self.conclusion(run, kind, aim, next, changes, levels, durable, confirm, reads_from)
    }

    /// Reading until there is a judgement: one that ends the transaction, or the configuration that is to run.
    fn judgement(&mut self, run: &Run) -> Verdict<(Option<Kind>, Aim, Option<Settings>)> {
        let given_up = run.deadline(StepKind::Prepare);
        let mut aim = None;
        let mut restored = false;
        let mut last: Option<Result<Settings, Class>> = None;
        loop {
            let entry = self.peek()?.ok_or("the log ends in the middle of reading")?;
            let now = entry.at;
            match &entry.what {
                What::Reading { which, current, .. } => {
                    let this = match which {
                        Which::Generation(generation) => Aim::Generation(*generation),
                        _ => Aim::Files,
                    };
                    ensure!(aim.is_none_or(|aim| aim == this), "a transaction changes its aim");
                    ensure!(matches!(last, None | Some(Err(Class::System))), "what was read is read again");
                    ensure!(*current == self.current, "compared with something that does not run");
                    (aim, last) = (Some(this), None);
                }
                What::Read { result, .. } => {
                    if let (Ok(settings), Some(Aim::Generation(generation))) = (result, aim) {
                        ensure!(
                            self.kept.get(&generation.get()) == Some(settings),
                            "generation {generation} does not come back as it was"
                        );
                    }
                    last = Some(result.clone());
                }
                What::Restored(settings) => {
                    let is_idle = last == Some(Ok(settings.clone()))
                        && differences(&self.current, settings).is_empty()
                        && self.broken.is_empty();
                    ensure!(is_idle && aim != Some(Aim::Files), "files are written without need");
                    self.file = settings.clone();
                    restored = true;
                }
                _ => {
                    let Some(aim) = aim else {
                        // Nobody was left who wanted it.
                        return Ok((Some(Kind::Unchanged), Aim::Files, None));
                    };
                    return match last {
                        None => {
                            ensure!(self.is_deadline(now, given_up), "a reading is not waited for");
                            Ok((Some(Kind::Rejected), aim, None))
                        }
                        Some(Err(Class::System)) => {
                            ensure!(now + LAST_RETRY >= given_up, "a reading is given up too early");
                            Ok((Some(Kind::Rejected), aim, None))
                        }
                        Some(Err(_)) => Ok((Some(Kind::Rejected), aim, None)),
                        Some(Ok(next)) => {
                            // Read, and in the same instant too late.
                            let late = matches!(entry.what, What::Entered(State::Idle | State::Failed))
                                && self.is_deadline(now, given_up);
                            let same = differences(&self.current, &next).is_empty();
                            let runs_already = same && self.broken.is_empty();
                            // What runs already is brought back to the files first, and that may hang too.
                            let unwritten = aim != Aim::Files && !restored;
                            if runs_already && !(late && unwritten) {
                                Ok((Some(Kind::Unchanged), aim, Some(next)))
                            } else if late && self.case.hangs() {
                                Ok((Some(Kind::Rejected), aim, None))
                            } else {
                                Ok((None, aim, Some(next)))
                            }
                        }
                    };
                }
            }
            self.at += 1;
        }
    }

    /// Prepare, commit, probe and finish; or all the way back.
    fn course(&mut self, run: &mut Run, levels: &[Vec<usize>]) -> Verdict<Kind> {
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
                    return self.back(run, &all[0], levels_of(&self.levels, &run.told));
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

    fn record(&mut self, run: &Run, aim: Aim, next: &Settings) -> Verdict<(bool, ConfirmChange)> {
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

    /// Nobody wanted it any more: nothing is done, and nothing is told.
    fn withdrawn(&mut self) -> Verdict {
        let state = if self.broken.is_empty() { State::Idle } else { State::Failed };
        let entry = self.next("rest")?;
        ensure!(matches!(entry.what, What::Entered(seen) if seen == state), "{state:?} is not shown");
        let entry = self.next("a withdrawal")?;
        ensure!(matches!(entry.what, What::Withdrawn), "a transaction that nobody asked for");
        self.runs = false;
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "all that is known of a transaction, once")]
    fn conclusion(
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
        let either = self.case.hangs() && self.is_deadline(ended, run.record_by());
        ensure!(either || outcome.durable == durable, "durable is {}", outcome.durable);
        ensure!(outcome.error.is_some() != kind.is_success(), "the error is {:?}", outcome.error);
        if kind != Kind::Rejected {
            let mut told: Vec<_> = outcome.errors.iter().filter_map(|e| e.component.as_deref()).collect();
            let mut blamed: Vec<_> = run.blamed.iter().map(|part| NAMES[*part]).collect();
            (told.sort_unstable(), blamed.sort_unstable());
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
    fn run_what_they_should(&self, running: &[u8]) -> Verdict {
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
        let by_itself =
            outcome.trigger == Trigger::Rollback && outcome.note.as_deref() == Some("not confirmed in time");
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

    // --- afterwards ---

    /// Everybody who asked was answered once, with what became of it.
    fn every_answer(&mut self) -> Verdict {
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
                ensure!(audited.contains_key(outcome.id.as_str()), "answered before it is audited");
                let of = self.concluded.iter().find(|concluded| concluded.outcome.id == outcome.id);
                let of = of.ok_or("the outcome of no transaction")?;
                ensure!(of.ends <= at, "answered before it is over");
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

    /// Long after everything went right again.
    fn at_rest(&mut self, rest: &Rest) -> Verdict {
        self.at = self.log.len();
        ensure!(rest.unanswered.is_empty(), "never answered: {:?}", rest.unanswered);
        ensure!(rest.board.running.is_none(), "something still runs");
        self.run_what_they_should(&rest.running).map_err(|why| format!("at rest {why}"))?;
        ensure!(rest.board.degraded.is_some() == self.degraded, "at rest: {:?}", rest.board.degraded);
        ensure!(rest.written == (2..=self.generation).collect::<Vec<_>>(), "written: {:?}", rest.written);
        if !self.case.hangs() {
            ensure!(rest.file == self.file, "somebody has written to the file");
        }
        for (part, held) in rest.held.iter().enumerate() {
            ensure!(self.broken.contains(&part) || *held == 0, "{} still holds {held}", NAMES[part]);
            // One that gets a second successor, on its minimal section, has counted once here.
            let (seen, counted) = (rest.incarnations[part], 1 + self.successors[part]);
            let most = if self.case.parts[part].minimal { 2 * counted } else { counted };
            ensure!((counted..=most).contains(&seen), "{} was started {seen} times", NAMES[part]);
        }
        let on_disk = rest.awaited_on_disk.map(|awaited| awaited.target.get());
        ensure!(on_disk == self.awaited.map(|a| a.target), "on disk {on_disk:?} is awaited");
        if self.stop_asked.is_some() {
            return Ok(());
        }
        ensure!(self.awaited.is_none(), "what nobody confirmed never went back");
        ensure!(self.broken.is_empty(), "a good reload does not lead out of emergency");
        ensure!(self.current.sections.iter().all(|value| *value == 6), "a good reload does not get through");
        Ok(())
    }
}

/// What the dependencies mean, worked out once more: a component's level is the length of the longest way down from it.
fn levels(case: &Case) -> Vec<Vec<usize>> {
    fn depth(case: &Case, part: usize) -> usize {
        case.needs(part).map(|need| depth(case, need) + 1).max().unwrap_or(0)
    }
    let parts = case.parts.len();
    let mut levels = vec![vec![]; parts];
    (0..parts).for_each(|part| levels[depth(case, part)].push(part));
    for level in &mut levels {
        level.sort_by_key(|part| NAMES[*part]);
    }
    levels
}

fn restricted(levels: &[Vec<usize>], to: &BTreeSet<usize>) -> Vec<Vec<usize>> {
    let within = levels.iter().map(|level| level.iter().copied().filter(|part| to.contains(part)).collect());
    within.filter(|level: &Vec<usize>| !level.is_empty()).collect()
}

fn levels_of(levels: &[Vec<usize>], told: &BTreeSet<usize>) -> Vec<Vec<usize>> {
    restricted(levels, told)
}

fn in_order(levels: &[Vec<usize>]) -> Vec<usize> {
    levels.iter().flatten().copied().collect()
}

fn is_aimed_at(aim: Aim, generation: u64) -> bool {
    matches!(aim, Aim::Generation(aim) if aim.get() == generation)
}
