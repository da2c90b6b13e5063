//! How a start is written down: its generation, its line in the audit log, and what a killed predecessor could not say any more.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reload::history::{Record, Recorder as _};
use reload::outcome::{Connections, Kind, Phases, Status, new_id};
use reload::plan::Change;
use reload::{Generation, Origin, Outcome, Problem, Trigger};
use storage::Snapshot;
use storage::generations::Meta;

use crate::config::{self, Config};
use crate::history::History;

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
}

/// The generation that the node starts with (the newest one's, if that has the same effect), written down if it is new, and
/// the start's own audit line.
pub(crate) async fn begin(
    history: &Arc<History>,
    config: &Arc<Config>,
    began: Began,
) -> (Generation, Arc<Outcome>) {
    let (history, config) = (Arc::clone(history), Arc::clone(config));
    let work = move || {
        catch_up(&history);
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
        let phases = Phases { read_ms: ms(began.read), validate_ms: ms(began.validate), ..Phases::default() };
        let mut outcome = Outcome {
            message: "Node started".to_owned(),
            trigger: Trigger::Startup,
            actor: Some(format!("uid:{} pid:{}", rustix::process::getuid().as_raw(), std::process::id())),
            changes: changes.clone(),
            phases,
            warnings: began.warnings,
            ..committed(generation, from)
        };
        if !same {
            let origin = Origin { trigger: outcome.trigger, actor: outcome.actor.clone(), note: None };
            let id = outcome.id.clone();
            outcome.durable = history.record(Record { generation, from, id, origin, changes, config });
        }
        outcome.duration_ms = ms(began.at.elapsed());
        history.audit(&outcome);
        history.tidy();
        (generation, Arc::new(outcome))
    };
    // A panic in there is a bug; the node must not start with a history that nobody knows the state of.
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
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
    Outcome {
        id: meta.id,
        message:
            "Configuration reloaded successfully (told late: the node was killed before it could say so)"
                .to_owned(),
        timestamp: meta.unix_ms / 1000,
        trigger,
        actor: meta.actor,
        note: meta.note,
        changes: serde_json::from_value(meta.changes).unwrap_or_default(),
        ..committed(meta.generation, from)
    }
}

/// A bare outcome of a commit now.
fn committed(generation: Generation, from: Generation) -> Outcome {
    Outcome {
        id: new_id(),
        status: Status::Success,
        outcome: Kind::Committed,
        message: Outcome::message_of(Kind::Committed).to_owned(),
        error: None,
        config_generation: generation,
        from_generation: from,
        timestamp: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
        trigger: Trigger::Startup,
        actor: None,
        note: None,
        durable: true,
        duration_ms: 0.0,
        phases: Phases::default(),
        changes: Vec::new(),
        components: Vec::new(),
        connections: Connections::default(),
        warnings: Vec::new(),
        errors: Vec::new(),
    }
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
