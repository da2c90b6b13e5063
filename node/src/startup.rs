//! How a start is written down: its generation, its line in the audit log, and what a killed predecessor could not say any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reload::outcome::{Kind, Phases};
use reload::plan::Change;
use reload::{ConfirmChange, Generation, Origin, Outcome, Problem, Record, Recorder as _, Trigger, fault};
use storage::Snapshot;
use storage::generations::Meta;

use crate::config::{self, Config};
use crate::history::History;
use crate::start_from::From;

/// What is known about a start before it is written down.
pub(crate) struct Began {
    /// When.
    pub(crate) at: Instant,
    /// How long reading took.
    pub(crate) read: Duration,
    /// How long judging took.
    pub(crate) validate: Duration,
    /// What was odd.
    pub(crate) warnings: Vec<Problem>,
    /// Where the configuration comes from.
    pub(crate) from: From,
}

/// A start, as it was written down.
pub(crate) struct Begun {
    /// The generation that runs.
    pub(crate) generation: Generation,
    /// The start's own outcome.
    pub(crate) outcome: Arc<Outcome>,
    /// Why the node is not whole.
    pub(crate) degraded: Option<String>,
}

/// The generation that the node starts with (the newest one's, if that has the same effect), written down if it is new, and
/// the start's own audit line. Files that a predecessor could not make say what came back are tried once more.
pub(crate) async fn begin(history: &Arc<History>, config: &Arc<Config>, began: Began) -> Begun {
    let (history, config) = (Arc::clone(history), Arc::clone(config));
    // A panic in there is a bug; the node must not start with a history that nobody knows the state of.
    tokio::task::spawn_blocking(move || write_down(&history, config, began))
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

fn write_down(history: &History, config: Arc<Config>, began: Began) -> Begun {
    history.keep(config.reload.history as usize);
    fault::pass("start::catch_up");
    catch_up(history);
    let before = history.latest().unwrap_or_else(|error| {
        tracing::warn!(%error, "the newest generation cannot be read");
        None
    });
    let kept = before.as_ref().map(|snapshot| snapshot.meta.generation);
    let changes = before.map(|snapshot| changes_since(&config, snapshot));
    let same = changes.as_ref().is_some_and(|changes| changes.as_ref().is_some_and(Vec::is_empty));
    // What was told after it ran since, and is lost: the number is not taken up again.
    let same = same && history.is_whole();
    let generation = match kept {
        Some(kept) if same => kept,
        _ => history.next(),
    };
    let from = kept.unwrap_or(generation);
    let changes = changes.flatten().unwrap_or_default();
    let (mut outcome, degraded) = told(&began, generation, from);
    outcome.changes.clone_from(&changes);
    outcome.phases = Phases { read_ms: ms(began.read), validate_ms: ms(began.validate), ..Phases::default() };
    outcome.warnings.extend(began.warnings);
    let went_back = matches!(began.from, From::Unconfirmed { .. });
    fault::pass("start::record");
    if same {
        if went_back || !history.held().paths().is_empty() {
            outcome.warnings.extend(history.restore(&config, generation));
        }
        if went_back {
            outcome.durable = history.confirmed();
        }
    } else {
        let origin =
            Origin { trigger: outcome.trigger, actor: outcome.actor.clone(), note: outcome.note.clone() };
        let confirm = if went_back { ConfirmChange::End } else { ConfirmChange::Keep };
        let id = outcome.id.clone();
        let changes = Arc::new(changes);
        let record = Record { generation, from, id, origin, changes, config, restore: went_back };
        let recorded = history.record(&record, confirm);
        outcome.durable = recorded.durable;
        outcome.warnings.extend(recorded.warnings);
    }
    outcome.duration_ms = ms(began.at.elapsed() + began.read + began.validate);
    fault::pass("start::audit");
    history.audit(&outcome);
    history.tidy();
    Begun { generation, outcome: Arc::new(outcome), degraded }
}

/// What a start tells of itself, and why the node is not whole.
fn told(began: &Began, generation: Generation, from: Generation) -> (Outcome, Option<String>) {
    let actor = format!("uid:{} pid:{}", rustix::process::getuid().as_raw(), std::process::id());
    let origin = |trigger| Origin { trigger, actor: Some(actor.clone()), note: None };
    match &began.from {
        From::Files => {
            let outcome = Outcome::bare(Kind::Committed, generation, from, origin(Trigger::Startup));
            (Outcome { message: "Node started".to_owned(), ..outcome }, None)
        }
        From::Unconfirmed { target } => {
            let outcome = Outcome::bare(Kind::Committed, generation, from, origin(Trigger::Rollback));
            let message =
                format!("Node started on generation {target}: the one after it was not confirmed in time");
            tracing::warn!(target_generation = target.get(), "{message}");
            (Outcome { message, note: Some("not confirmed in time".to_owned()), ..outcome }, None)
        }
        From::LastKnownGood { generation: good, problems } => {
            let outcome = Outcome::bare(Kind::Rejected, generation, from, origin(Trigger::Startup));
            let error = Outcome::error_text(problems);
            let text = error.as_deref().unwrap_or_default();
            let degraded =
                format!("runs on the last known good generation {good}: the files are refused: {text}");
            tracing::error!(
                last_known_good = good.get(),
                error = text,
                "started from the last known good generation"
            );
            let message = format!("Node started on the last known good generation {good}");
            (Outcome { message, error, errors: problems.clone(), ..outcome }, Some(degraded))
        }
    }
}

/// What the configuration changes against a kept generation; `None` if that cannot be read any more.
fn changes_since(config: &Arc<Config>, kept: Snapshot) -> Option<Vec<Change>> {
    let kept = config::Snapshot { conf: kept.conf.into(), peers: kept.peers.map(Into::into) };
    if kept == config.source.snapshot {
        return Some(Vec::new());
    }
    let kept = Config::from_snapshot(&config.source.path, kept, None).ok()?;
    Some(kept.config.changes(config))
}

/// A node that was killed between the generation and its audit line left the line out: it is written now (R20).
fn catch_up(history: &History) {
    for meta in history.not_audited() {
        tracing::info!(
            generation = meta.generation.get(),
            "an audit line that was cut short by a kill is written now"
        );
        history.audit(&told_late(meta));
    }
}

fn told_late(meta: Meta) -> Outcome {
    let from = meta.from_generation.unwrap_or(meta.generation);
    let trigger = serde_json::from_value(meta.trigger.into()).unwrap_or(Trigger::Startup);
    let origin = Origin { trigger, actor: meta.actor, note: meta.note };
    Outcome {
        id: meta.id,
        message:
            "Configuration reloaded successfully (told late: the node was killed before it could say so)"
                .to_owned(),
        timestamp: meta.unix_ms / 1000,
        changes: serde_json::from_value(meta.changes).unwrap_or_default(),
        ..Outcome::bare(Kind::Committed, meta.generation, from, origin)
    }
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
