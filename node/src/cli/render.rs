//! Outcomes, status and history for people. Nothing here is coloured: it reads the same in a pipe.

mod peers;
mod services;

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use reload::outcome::{Kind, Outcome, Phases};
use reload::plan::Change;
use serde_json::Value;

pub(crate) use peers::peers;
pub(crate) use services::services;

use crate::plural::count;

/// A change a line.
pub(crate) fn changes(changes: &[Change]) -> String {
    let mut text = String::new();
    let width = changes.iter().map(|change| change.path.len()).max().unwrap_or(0).min(48);
    for change in changes {
        let _ = writeln!(
            text,
            "  {:width$}  {} -> {}  [{}; {}]",
            change.path,
            short(&change.from),
            short(&change.to),
            change.components.join(", "),
            change.strategy
        );
    }
    text
}

/// An outcome: what happened, what changed, where the time went, what became of the connections.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    let on_disk = if outcome.durable { "" } else { " (NOT on disk yet: is the disk full?)" };
    let mut text = match outcome.outcome {
        Kind::Committed => format!(
            "committed: generation {} -> {}{} in {:.2} ms{on_disk}\n",
            outcome.from_generation,
            outcome.config_generation,
            outcome.restored_generation.map(|back| format!(" (what {back} said)")).unwrap_or_default(),
            outcome.duration_ms,
        ),
        // A confirmation: nothing was read.
        Kind::Unchanged if outcome.message != Outcome::message_of(Kind::Unchanged) => {
            format!("{}{on_disk}\n", outcome.message)
        }
        Kind::Unchanged => match outcome.restored_generation {
            None => format!(
                "unchanged: generation {} runs what the files say{on_disk}\n",
                outcome.config_generation
            ),
            Some(back) => {
                format!(
                    "unchanged: generation {} runs what {back} said{on_disk}\n",
                    outcome.config_generation
                )
            }
        },
        Kind::Planned => format!(
            "planned: {} against generation {}{}; nothing was changed\n",
            count(outcome.changes.len(), "change"),
            outcome.config_generation,
            outcome.restored_generation.map(|back| format!(", to what {back} said")).unwrap_or_default(),
        ),
        Kind::Rejected => format!(
            "rejected: {}; generation {} runs on, untouched\n",
            count(outcome.errors.len(), "problem"),
            outcome.config_generation
        ),
        Kind::RolledBack => format!(
            "rolled back after {:.0} ms: generation {} runs on\n",
            outcome.duration_ms, outcome.config_generation
        ),
        Kind::Failed => format!(
            "FAILED: the node is in emergency on generation {}; a good reload leads out of it\n",
            outcome.config_generation
        ),
    };
    text += &changes(&outcome.changes);
    for closing in &outcome.connections.would_close {
        let peer = closing.public_key.as_deref().unwrap_or("unknown peer");
        let verb = if outcome.outcome == Kind::Planned { "would close" } else { "closed" };
        let _ = writeln!(text, "  {verb} connection {} to {peer}: {}", closing.id, closing.reason);
    }
    if matches!(outcome.outcome, Kind::Committed | Kind::RolledBack | Kind::Failed) {
        let told: Vec<_> =
            outcome.components.iter().map(|c| format!("{} {}", c.name, short_result(c))).collect();
        // Nobody is told where only the coordinator's own keys changed.
        let told = if told.is_empty() { "none".to_owned() } else { told.join(", ") };
        let _ = writeln!(text, "  components: {told}");
        let _ = writeln!(text, "  time: {}", phases(&outcome.phases));
        let connections = &outcome.connections;
        let _ = writeln!(
            text,
            "  connections: {} before, {} after, {} closed by the reload",
            connections.before, connections.after, connections.closed_by_reload
        );
    }
    text
}

fn short_result(component: &reload::outcome::ComponentReport) -> String {
    serde_json::to_value(component.result)
        .ok()
        .and_then(|value| value.as_str().map(|text| text.replace('_', " ")))
        .unwrap_or_default()
}

fn phases(phases: &Phases) -> String {
    let all = [
        ("read", phases.read_ms),
        ("validate", phases.validate_ms),
        ("plan", phases.plan_ms),
        ("prepare", phases.prepare_ms),
        ("commit", phases.commit_ms),
        ("probe", phases.probe_ms),
        ("finish", phases.finish_ms),
        ("record", phases.record_ms),
        ("rollback", phases.rollback_ms),
    ];
    let shown: Vec<_> =
        all.iter().filter(|(_, ms)| *ms > 0.0).map(|(name, ms)| format!("{name} {ms:.2}")).collect();
    format!("{} ms", shown.join(", "))
}

/// What the node does, on one screen.
pub(crate) fn status(status: &Value) -> String {
    let text_of = |key: &str| status[key].as_str().unwrap_or("-").to_owned();
    let mut text = format!(
        "peer id     {}\npublic key  {}\nprocess     {}, up {:.0} s, version {}\n",
        text_of("peer_id"),
        text_of("public_key"),
        status["pid"],
        status["uptime_s"].as_f64().unwrap_or(0.0),
        text_of("version")
    );
    let degraded =
        status["degraded_reason"].as_str().map(|why| format!(" DEGRADED: {why}")).unwrap_or_default();
    let _ = writeln!(text, "generation  {} ({}){degraded}", status["generation"], text_of("state"));
    text += &unconfirmed(status);
    if status["file_differs"] == true {
        let _ = writeln!(
            text,
            "files       hold other bytes than those that what runs was read from (see `fednode diff`)"
        );
    }
    for held in status["held"].as_array().into_iter().flatten() {
        let _ =
            writeln!(text, "held        {} is passed over until it changes", held.as_str().unwrap_or("-"));
    }
    if let Some(running) = status["running_reload"].as_object() {
        let waiting: Vec<_> =
            running["waiting_for"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let _ = writeln!(
            text,
            "reloading   {}, {:.0} ms left of it; {:.0} of {:.0} ms are over; waits for {}",
            running["phase"].as_str().unwrap_or("-"),
            running["phase_left_ms"].as_f64().unwrap_or(0.0),
            running["elapsed_ms"].as_f64().unwrap_or(0.0),
            running["budget_ms"].as_f64().unwrap_or(0.0),
            if waiting.is_empty() { "nobody".to_owned() } else { waiting.join(", ") }
        );
    }
    let last = &status["last_reload"];
    let _ = writeln!(
        text,
        "last reload {} by {}{}",
        last["outcome"].as_str().unwrap_or("-"),
        last["trigger"].as_str().unwrap_or("-"),
        last["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default()
    );
    for listener in status["listeners"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "listener    {}", listener.as_str().unwrap_or_default());
    }
    for listener in status["failing_listeners"].as_array().into_iter().flatten() {
        let (address, error) = (listener["address"].as_str(), listener["error"].as_str());
        let _ = writeln!(text, "unreachable {}: {}", address.unwrap_or("-"), error.unwrap_or("-"));
    }
    for listener in status["retired_listeners"].as_array().into_iter().flatten() {
        let open =
            listener["connections"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let address = listener["address"].as_str().unwrap_or("-");
        let _ = match open {
            0 => writeln!(text, "retired     {address}, being closed"),
            _ => writeln!(text, "retired     {address}, open for {}", count(open, "connection")),
        };
    }
    let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let connections = status["connections"].as_array().map(Vec::as_slice).unwrap_or_default();
    let _ = writeln!(
        text,
        "peers       {} ({} connected), {}",
        count(members.len(), "member"),
        members.iter().filter(|member| member["state"] == "connected").count(),
        count(connections.len(), "connection")
    );
    for member in members {
        let name = member["name"].as_str().map(|name| format!(" {name}")).unwrap_or_default();
        let error = member["last_error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "  {:13} {}{name}{error}",
            member["state"].as_str().unwrap_or("-"),
            member["public_key"].as_str().unwrap_or("-")
        );
    }
    text
}

/// What goes back by itself, and when; nothing where nothing waits to be confirmed.
pub(crate) fn unconfirmed(status: &Value) -> String {
    let Some(by) = status["confirm_deadline"].as_u64() else { return String::new() };
    let (target, by) = (&status["confirm_target"], utc(by.saturating_mul(1000)));
    format!("unconfirmed goes back to generation {target} at {by}, unless `fednode confirm` comes before\n")
}

/// A generation a line, newest first.
pub(crate) fn history(history: &Value) -> String {
    let mut text = String::new();
    for generation in history["generations"].as_array().into_iter().flatten() {
        let current = generation["generation"] == history["current"];
        let changes = generation["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let paths: Vec<_> = changes.iter().filter_map(|change| change["path"].as_str()).collect();
        let _ = writeln!(
            text,
            "{}{:>5}  {}  {:8} {}  {}{}",
            if current { "*" } else { " " },
            generation["generation"].to_string(),
            utc(generation["unix_ms"].as_u64().unwrap_or(0)),
            generation["trigger"].as_str().unwrap_or("-"),
            generation["actor"].as_str().unwrap_or("-"),
            paths.join(", "),
            generation["note"].as_str().map(|note| format!("  {note:?}")).unwrap_or_default()
        );
    }
    text
}

/// A value that fits on a line.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}

/// RFC 3339 of milliseconds since 1970, to the second.
fn utc(unix_ms: u64) -> impl std::fmt::Display {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(unix_ms))
}
