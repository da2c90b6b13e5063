//! One transaction while it runs: its budget, and what its outcome is going to tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::SpawnHandle;
use tokio::time::Instant;

use super::Waiter;
use super::reading::Reading;
use super::recording::Turn;
use super::tries::Tries;
use crate::board::InFlight;
use crate::budget::{Budget, Stage};
use crate::component::{Ack, StepKind};
use crate::error::bounded;
use crate::graph::{Graph, Index, Set};
use crate::history::{ConfirmChange, Record, Recorded};
use crate::machine::{End, State};
use crate::outcome::{ComponentReport, ComponentResult, Connections, Kind, Outcome, Phases, new_id};
use crate::plan::Plan;
use crate::source::{Candidate, Rejection, Site};
use crate::trigger::{Aim, Origin, Trigger};
use crate::{Class, Generation, Problem, StepError, Transaction};

/// What judging brought: the configuration, the plan, and how long that took; or all that is wrong.
pub(super) type Loaded<C> = Result<(Candidate<C>, Plan, Duration), Rejection>;

pub(super) struct Running<C> {
    pub(super) transaction: Transaction,
    /// As the outcome names it.
    pub(super) id: String,
    pub(super) aim: Aim,
    /// Go back by itself after this long.
    pub(super) confirm: Option<Duration>,
    /// What its commit changed about that.
    pub(super) confirm_change: ConfirmChange,
    /// For the line that tells of it, once it has a number.
    pub(super) turn: Option<Turn>,
    pub(super) budget: Budget,
    /// The stage that runs.
    stage: Stage,
    /// And until when.
    pub(super) deadline: Instant,
    pub(super) plan: Plan,
    /// The reading and judging of what is to run.
    pub(super) reading: Reading,
    /// Steps that are withdrawn when the transaction ends.
    pub(super) withdraw_at_end: Vec<SpawnHandle>,
    waiters: Vec<Waiter>,
    origin: Origin,
    asked: bool,
    /// What was accepted, as it is written down if it stands.
    record: Option<Arc<Record<C>>>,
    from: Generation,
    phases: Phases,
    /// The phase that runs, and since when.
    phase: (Phase, Instant),
    components: BTreeMap<Index, Report>,
    tries: Tries,
    warnings: Vec<Problem>,
    problems: Vec<Problem>,
    durable: bool,
    before: usize,
    closed_before: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Judge,
    Step(StepKind),
    Record,
    Over,
}

#[derive(Default)]
struct Report {
    prepare: Duration,
    commit: Duration,
    replaced: bool,
}

// === impl Running ===

impl<C: 'static> Running<C> {
    pub(super) fn new(
        transaction: Transaction,
        aim: Aim,
        waiters: Vec<Waiter>,
        budget: Duration,
        site: &dyn Site<C>,
        from: Generation,
    ) -> Self {
        let origin = waiters.first().map(|waiter| waiter.origin.clone());
        let mut running = Self::dry(origin.clone().unwrap_or_else(nobody), budget, site, from);
        running.transaction = transaction;
        running.aim = aim;
        running.confirm = waiters.iter().filter_map(|waiter| waiter.confirm).min();
        running.asked = origin.is_some();
        running.waiters = waiters;
        running
    }

    pub(super) fn dry(origin: Origin, budget: Duration, site: &dyn Site<C>, from: Generation) -> Self {
        let budget = Budget::start(budget);
        Self {
            transaction: Transaction::NONE,
            id: new_id(),
            aim: Aim::Files,
            confirm: None,
            confirm_change: ConfirmChange::Keep,
            turn: None,
            stage: Stage::Judge,
            deadline: budget.end(),
            budget,
            plan: Plan::default(),
            reading: Reading::default(),
            withdraw_at_end: Vec::new(),
            waiters: Vec::new(),
            origin,
            asked: true,
            record: None,
            from,
            phases: Phases::default(),
            phase: (Phase::Judge, Instant::now()),
            components: BTreeMap::new(),
            tries: Tries::default(),
            warnings: Vec::new(),
            problems: Vec::new(),
            durable: false,
            before: site.connections(),
            closed_before: site.closed_by_reload(),
        }
    }

    /// Nobody is left who wants it.
    pub(super) const fn is_unwanted(&self) -> bool {
        !self.asked
    }

    /// What is to be written down if it stands.
    pub(super) fn record(&self) -> Option<Arc<Record<C>>> {
        self.record.clone()
    }

    pub(super) fn candidate(&self) -> Option<Arc<C>> {
        self.record.as_ref().map(|record| Arc::clone(&record.config))
    }

    /// Whether this is the stage that runs.
    pub(super) fn is_at(&self, transaction: Transaction, stage: Stage) -> bool {
        self.transaction == transaction && self.stage == stage
    }

    pub(super) fn arm(&mut self, stage: Stage) -> Instant {
        let now = Instant::now();
        self.budget.stage_ended(self.deadline, now);
        self.stage = stage;
        self.deadline = self.budget.deadline(stage, now);
        self.deadline
    }

    /// Whether this stage, whose timer has fired, is to have more time: nobody ran, and a way back that is given up is an emergency. A
    /// way forward just turns round.
    pub(super) fn has_missed_it(&self, stage: Stage) -> bool {
        matches!(stage, Stage::Rollback { .. }) && self.budget.is_late(self.deadline, Instant::now())
    }

    pub(super) fn enter(&mut self, state: State) {
        if state == State::RollingBack {
            self.switch(Phase::Step(StepKind::Rollback));
        }
    }

    pub(super) fn told(&mut self, component: Index, step: StepKind) {
        self.switch(Phase::Step(step));
        self.components.entry(component).or_default();
    }

    pub(super) fn recording(&mut self) {
        self.switch(Phase::Record);
    }

    pub(super) fn recorded(&mut self, recorded: Recorded) {
        self.durable = recorded.durable;
        self.warnings.extend(bounded(recorded.warnings));
        self.switch(Phase::Over);
    }

    /// Ends the phase that runs and begins another.
    fn switch(&mut self, phase: Phase) {
        if self.phase.0 == phase {
            return;
        }
        let now = Instant::now();
        let elapsed = ms(now - self.phase.1);
        match self.phase.0 {
            Phase::Judge | Phase::Over => {}
            Phase::Record => self.phases.record_ms += elapsed,
            Phase::Step(StepKind::Prepare) => self.phases.prepare_ms += elapsed,
            Phase::Step(StepKind::Commit) => self.phases.commit_ms += elapsed,
            Phase::Step(StepKind::Probe) => self.phases.probe_ms += elapsed,
            Phase::Step(StepKind::Finish) => self.phases.finish_ms += elapsed,
            Phase::Step(StepKind::Rollback) => self.phases.rollback_ms += elapsed,
        }
        self.phase = (phase, now);
    }

    /// As it is shown while it runs.
    pub(super) fn in_flight(&self, waiting_for: Vec<&'static str>) -> InFlight {
        InFlight {
            id: self.id.as_str().into(),
            trigger: self.origin.trigger,
            started: self.budget.started().into_std(),
            budget: self.budget.end() - self.budget.started(),
            phase: match self.phase.0 {
                Phase::Judge => "validate",
                Phase::Step(step) => step.as_str(),
                Phase::Record | Phase::Over => "record",
            },
            deadline: self.deadline.into_std(),
            waiting_for,
        }
    }

    /// How long to wait before a step that the machine failed is tried again; `None` if its time is over by then.
    pub(super) fn next_try(&mut self, component: Index, step: StepKind) -> Option<Duration> {
        let delay = self.tries.next_step(component, step, self.deadline);
        if delay.is_none() {
            self.problems.extend(self.tries.given_up(component, step));
        }
        delay
    }

    /// The same for a configuration that could not be read.
    pub(super) fn next_reading(&mut self) -> Option<Duration> {
        self.tries.next_reading(self.deadline)
    }

    pub(super) fn judged(&mut self, loaded: Loaded<C>) {
        match loaded {
            Ok((candidate, plan, planned)) => {
                self.phases.read_ms = ms(candidate.read);
                self.phases.validate_ms = ms(candidate.validate);
                self.phases.plan_ms = ms(planned);
                self.warnings = bounded(candidate.warnings);
                // What the last reading that failed told is got over, as with a step that is tried again.
                self.warnings.append(&mut self.problems);
                self.record = Some(Arc::new(Record {
                    generation: self.from.next(),
                    from: self.from,
                    id: self.id.clone(),
                    origin: self.origin.clone(),
                    changes: Arc::clone(&plan.changes),
                    config: candidate.config,
                    restore: self.aim != Aim::Files,
                }));
                self.plan = plan;
            }
            Err(rejection) => {
                self.phases.read_ms = ms(rejection.read);
                self.phases.validate_ms = ms(rejection.validate);
                self.problems = bounded(rejection.problems);
            }
        }
    }

    /// How long a step took, whether or not anybody still waited for it.
    pub(super) fn took(&mut self, component: Index, step: StepKind, elapsed: Duration) {
        let report = self.components.entry(component).or_default();
        match step {
            StepKind::Prepare => report.prepare = elapsed,
            StepKind::Commit => report.commit = elapsed,
            _ => {}
        }
    }

    /// An answer that was waited for.
    pub(super) fn answered(&mut self, component: Index, name: &str, step: StepKind, ack: Ack) {
        match (ack, step) {
            (Ok(()), _) => self.warnings.extend(self.tries.got_over(component, step)),
            // What could not be finished does not undo what stands; somebody should know.
            (Err(error), StepKind::Finish) => self.warnings.push(error.into_problem(name)),
            (Err(error), StepKind::Prepare | StepKind::Rollback) if error.class == Class::System => {
                self.tries.failed(component, step, error.into_problem(name));
            }
            (Err(error), _) => self.problems.push(error.into_problem(name)),
        }
    }

    /// What is to run was not read and judged in time.
    pub(super) fn give_up_reading(&mut self) {
        let after = ms(self.budget.started().elapsed());
        self.problems.push(self.reading.give_up(after));
    }

    pub(super) fn expired(&mut self, stage: Stage, pending: Set, graph: &Graph) {
        if stage == Stage::Judge {
            self.give_up_reading();
            return;
        }
        let after = ms(self.budget.started().elapsed());
        // With the step that may have been tried again.
        let (step, tried) = match stage {
            Stage::Judge | Stage::Prepare => ("prepare", Some(StepKind::Prepare)),
            Stage::Commit => ("commit or probe", None),
            Stage::Finish => ("finish", None),
            Stage::Record => ("record", None),
            Stage::Rollback { .. } => ("rollback", Some(StepKind::Rollback)),
            Stage::Replace => ("start again", None),
        };
        for component in pending.iter() {
            let name = graph.names()[component];
            if let Some(tried) = tried.and_then(|step| self.tries.given_up(component, step)) {
                self.problems.push(tried);
                continue;
            }
            let message = format!("did not answer {step}; given up after {after:.0} ms of the budget");
            let class = if stage == Stage::Replace { Class::Critical } else { Class::Component };
            let problem = Problem { component: Some(name.to_owned()), ..Problem::new(class, message) };
            if stage == Stage::Finish { self.warnings.push(problem) } else { self.problems.push(problem) }
        }
    }

    pub(super) fn replaced(&mut self, component: Index) {
        self.components.entry(component).or_default().replaced = true;
    }

    pub(super) fn lost(&mut self, name: &str, error: StepError) {
        self.problems.push(Problem { class: Class::Critical, ..error.into_problem(name) });
    }

    pub(super) fn outcome(
        mut self,
        end: End,
        generation: Generation,
        is_durable: bool,
        site: &dyn Site<C>,
        graph: &Graph,
    ) -> (Outcome, Vec<Waiter>) {
        self.switch(Phase::Over);
        let kind = match end {
            End::Rejected => Kind::Rejected,
            End::Unchanged => Kind::Unchanged,
            End::Committed => Kind::Committed,
            End::RolledBack => Kind::RolledBack,
            End::Failed => Kind::Failed,
        };
        // Its own record, or where there is none what became of the records before.
        let durable = if end == End::Committed { self.durable } else { is_durable };
        let components = self.reports(kind, graph);
        let waiters = std::mem::take(&mut self.waiters);
        (self.build(kind, generation, durable, components, site), waiters)
    }

    pub(super) fn planned(
        self,
        generation: Generation,
        is_durable: bool,
        site: &dyn Site<C>,
        graph: Option<&Graph>,
    ) -> Outcome {
        let kind = if graph.is_some() { Kind::Planned } else { Kind::Rejected };
        let components = graph.map(|graph| self.reports(kind, graph)).unwrap_or_default();
        self.build(kind, generation, is_durable, components, site)
    }

    fn reports(&self, kind: Kind, graph: &Graph) -> Vec<ComponentReport> {
        let order = self.plan.levels.iter().flat_map(|level| level.iter());
        order
            .map(|index| {
                let report = self.components.get(&index);
                let result = match (report, kind) {
                    (None, _) => ComponentResult::NotReached,
                    (Some(report), _) if report.replaced => ComponentResult::Failed,
                    (Some(_), Kind::Committed) => ComponentResult::Committed,
                    (Some(_), _) => ComponentResult::RolledBack,
                };
                ComponentReport {
                    name: graph.names()[index].to_owned(),
                    prepare_ms: report.map_or(0.0, |r| ms(r.prepare)),
                    commit_ms: report.map_or(0.0, |r| ms(r.commit)),
                    result,
                }
            })
            .collect()
    }

    fn build(
        self,
        kind: Kind,
        generation: Generation,
        durable: bool,
        components: Vec<ComponentReport>,
        site: &dyn Site<C>,
    ) -> Outcome {
        let error = if kind.is_success() { None } else { Outcome::error_text(&self.problems) };
        // It shares the changes.
        drop(self.record);
        Outcome {
            id: self.id,
            restored_generation: match self.aim {
                Aim::Files => None,
                Aim::Generation(generation) => Some(generation),
            },
            error,
            durable,
            duration_ms: ms(self.budget.started().elapsed()),
            phases: self.phases,
            changes: Arc::unwrap_or_clone(self.plan.changes),
            components,
            connections: Connections {
                before: self.before,
                after: site.connections(),
                closed_by_reload: site.closed_by_reload().saturating_sub(self.closed_before),
                would_close: self.plan.would_close,
            },
            warnings: self.warnings,
            errors: self.problems,
            ..Outcome::bare(kind, generation, self.from, self.origin)
        }
    }
}

const fn nobody() -> Origin {
    Origin { trigger: Trigger::Signal, actor: None, note: None }
}

fn ms(duration: Duration) -> f64 {
    // Microseconds are what the clock is good for; more digits would only make the audit log longer.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
