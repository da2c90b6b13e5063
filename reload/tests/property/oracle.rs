//! Judges what was seen. It walks through the log with a small book of its own (what runs, what is broken, what is
//! awaited), knows the protocol only from its description, and shares no code with the engine's graph, plan or machine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reload::machine::State;
use reload::outcome::Kind;
use reload::{Aim, ConfirmChange, Generation, Outcome, StepKind, Which};

use crate::case::{Case, NAMES};
use crate::log::{Entry, Rest, What, tail};
use crate::world::{Settings, differences};
use levels::{levels, restricted};

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

// After the macro, which they use.
mod answers;
mod course;
mod ending;
mod judgement;
mod levels;

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
                // Between two tries to go back it is not too late.
                let tried = |c: &Concluded| {
                    c.ended + TICK >= awaited.until && c.outcome.trigger == reload::Trigger::Rollback
                };
                ensure!(
                    entry.at <= awaited.until + TICK || self.concluded.iter().any(tried),
                    "a confirmation after its time"
                );
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

    /// Long after everything went right again.
    fn at_rest(&mut self, rest: &Rest) -> Verdict {
        self.at = self.log.len();
        ensure!(rest.unanswered.is_empty(), "never answered: {:?}", rest.unanswered);
        ensure!(rest.board.running.is_none(), "something still runs");
        self.run_what_they_should(&rest.running).map_err(|why| format!("at rest {why}"))?;
        ensure!(rest.board.degraded.is_some() == self.degraded, "at rest: {:?}", rest.board.degraded);
        let mut written = rest.written.clone();
        if self.case.hangs() {
            // Several may have waited for the disk, each on a thread of its own: then the system chooses who is first. What is
            // kept is kept by its number.
            written.sort_unstable();
        }
        ensure!(written == (2..=self.generation).collect::<Vec<_>>(), "written: {:?}", rest.written);
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
