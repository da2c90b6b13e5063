//! What is shown of a status: lines with a look, for the screen; a summary, for everything else.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use storage::document::units::Span;

use crate::cli::render;
use crate::plural::count;

/// The most events that are shown.
const EVENTS: usize = 8;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) look: Look,
    pub(super) text: String,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Bold,
    Dim,
    Good,
    Odd,
    Loud,
}

// === impl Line ===

impl Line {
    pub(super) fn new(look: Look, text: impl Into<String>) -> Self {
        Self { look, text: text.into() }
    }
}

/// The whole view.
pub(super) fn lines(status: &Value, events: &VecDeque<String>) -> Vec<Line> {
    let mut lines = Vec::new();
    let text = |key: &str| status[key].as_str().unwrap_or("-").to_owned();
    let up = span(status["uptime_s"].as_f64());
    let head =
        format!("fednode {}  pid {}  up {up}  version {}", text("peer_id"), status["pid"], text("version"));
    lines.push(Line::new(Look::Bold, head));
    lines.push(Line::new(Look::Plain, format!("generation {}  {}", status["generation"], text("state"))));
    if status["degraded"] == true {
        let why = status["degraded_reason"].as_str().unwrap_or("no reason given");
        lines.push(Line::new(Look::Loud, format!(" DEGRADED: {why} ")));
    }
    for line in render::unconfirmed(status).lines() {
        lines.push(Line::new(Look::Odd, line));
    }
    if status["file_differs"] == true {
        lines.push(Line::new(Look::Odd, "the files differ from what runs (see `fednode diff`)"));
    }
    if let Some(running) = status["running_reload"].as_object() {
        let ms = |key: &str| running.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let phase = running.get("phase").and_then(Value::as_str).unwrap_or("-");
        let waiting: Vec<_> = texts(&running["waiting_for"]).collect();
        let (elapsed, budget) = (ms("elapsed_ms"), ms("budget_ms"));
        let whom =
            if waiting.is_empty() { String::new() } else { format!(", waits for {}", waiting.join(", ")) };
        lines
            .push(Line::new(Look::Odd, format!("reloading: {phase}{whom} ({elapsed:.0} of {budget:.0} ms)")));
    }
    lines.push(Line::new(Look::Plain, ""));
    reload(&status["last_reload"], &mut lines);
    lines.push(Line::new(Look::Plain, ""));
    members(status, &mut lines);
    lines.push(Line::new(Look::Plain, ""));
    listeners(status, &mut lines);
    recent(events, &mut lines);
    lines
}

/// The view where no node answers.
pub(super) fn nobody(events: &VecDeque<String>) -> Vec<Line> {
    let mut lines = vec![
        Line::new(Look::Loud, " NO NODE ANSWERS "),
        Line::new(Look::Plain, "it is looked for each second; Ctrl-C ends"),
    ];
    recent(events, &mut lines);
    lines
}

fn reload(last: &Value, lines: &mut Vec<Line>) {
    let outcome = last["outcome"].as_str().unwrap_or("none");
    let look = match outcome {
        "committed" | "unchanged" | "planned" => Look::Good,
        "rejected" | "rolled_back" => Look::Odd,
        "failed" => Look::Loud,
        _ => Look::Plain,
    };
    let when = last["timestamp"].as_u64().map(|at| format!(" at {}", utc(at))).unwrap_or_default();
    let (trigger, took) =
        (last["trigger"].as_str().unwrap_or("-"), last["duration_ms"].as_f64().unwrap_or(0.0));
    lines.push(Line::new(look, format!("last reload  {outcome} by {trigger}{when}, {took:.1} ms")));
    let phases = ["read", "validate", "plan", "prepare", "commit", "probe", "finish", "record", "rollback"];
    let phases: Vec<_> = phases
        .iter()
        .filter_map(|name| {
            Some((name, last["phases"][format!("{name}_ms")].as_f64().filter(|ms| *ms > 0.0)?))
        })
        .map(|(name, ms)| format!("{name} {ms:.1}"))
        .collect();
    if !phases.is_empty() {
        lines.push(Line::new(Look::Dim, format!("  {} ms", phases.join(" > "))));
    }
    let changes = last["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !changes.is_empty() {
        let paths: Vec<_> = changes.iter().filter_map(|change| change["path"].as_str()).collect();
        lines.push(Line::new(Look::Plain, format!("  changed {}", paths.join(", "))));
    }
    if let Some(error) = last["error"].as_str() {
        lines.push(Line::new(look, format!("  {error}")));
    }
}

fn members(status: &Value, lines: &mut Vec<Line>) {
    let list = |key: &str| status[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let (members, connections) = (list("members"), list("connections"));
    let mut open: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for connection in connections {
        open.entry(connection["public_key"].as_str().unwrap_or_default()).or_default().push(connection);
    }
    let connected = members.iter().filter(|member| member["state"] == "connected").count();
    let total = count(members.len(), "member");
    let rest = format!("{}, {} known", count(connections.len(), "connection"), list("known").len());
    lines.push(Line::new(Look::Bold, format!("{total}, {connected} connected; {rest}")));
    // Who is missing is what somebody looks for.
    let mut sorted: Vec<&Value> = members.iter().collect();
    sorted.sort_by_key(|member| {
        (member["state"] == "connected", member["public_key"].as_str().unwrap_or_default())
    });
    for member in sorted {
        let key = member["public_key"].as_str().unwrap_or("-");
        let name = member["name"].as_str().unwrap_or(key);
        let is_connected = member["state"] == "connected";
        let mut text = format!("  {:13} {name}", member["state"].as_str().unwrap_or("-"));
        for connection in open.remove(key).unwrap_or_default() {
            text += &one(connection);
        }
        if let Some(error) = member["last_error"].as_str().filter(|_| !is_connected) {
            text += &format!("  {error}");
        }
        lines.push(Line::new(if is_connected { Look::Good } else { Look::Odd }, text));
    }
    for (key, connections) in open {
        let all: String = connections.into_iter().map(one).collect();
        lines.push(Line::new(Look::Dim, format!("  {:13} {key}{all}", "no member")));
    }
}

/// A connection behind whom it is with.
fn one(connection: &Value) -> String {
    let text = |key: &str| connection[key].as_str().unwrap_or("-");
    let (id, direction, address) = (text("id"), text("direction"), text("address"));
    format!("  #{id} {direction} {address} {}", span(connection["established_s"].as_f64()))
}

fn listeners(status: &Value, lines: &mut Vec<Line>) {
    for listener in texts(&status["listeners"]) {
        lines.push(Line::new(Look::Plain, format!("listens on {listener}")));
    }
    for listener in status["failing_listeners"].as_array().into_iter().flatten() {
        let text = |key: &str| listener[key].as_str().unwrap_or("-");
        lines.push(Line::new(Look::Loud, format!("unreachable {}: {}", text("address"), text("error"))));
    }
}

fn recent(events: &VecDeque<String>, lines: &mut Vec<Line>) {
    if !events.is_empty() {
        lines.push(Line::new(Look::Plain, ""));
    }
    lines.extend(events.iter().take(EVENTS).map(|event| Line::new(Look::Dim, event.clone())));
}

/// An event in a line; `None` for what shows by itself.
pub(super) fn event(event: &Value) -> Option<String> {
    let name = event["event"].as_str()?;
    let text = |key: &str| event[key].as_str().unwrap_or("-");
    let what = match name {
        "reload_state" => return None,
        "connection_opened" => {
            let connection = &event["connection"];
            format!("#{} {}", connection["id"].as_str()?, connection["public_key"].as_str().unwrap_or("-"))
        }
        "connection_closed" => format!("#{} {}  {}", text("id"), text("public_key"), text("reason")),
        "member_changed" => {
            let name = event["name"].as_str().unwrap_or(text("public_key"));
            format!("{name} {}", text("state"))
        }
        "member_removed" => text("public_key").to_owned(),
        "peer_denied" => format!("{} {}", text("ip"), text("reason")),
        "topic_added" | "topic_removed" => text("topic").to_owned(),
        "reload_finished" => {
            let outcome = &event["outcome"];
            format!("{} by {}", outcome["outcome"].as_str()?, outcome["trigger"].as_str().unwrap_or("-"))
        }
        "reload_confirmed" => format!("generation {}", event["generation"]),
        "missed" => event["count"].to_string(),
        _ => String::new(),
    };
    let at = utc(event["time"].as_f64().map_or(0, |time| Duration::from_secs_f64(time.max(0.0)).as_secs()));
    Some(format!("{at}  {} {what}", name.replace('_', " ")))
}

/// A line for what matters, equal as long as that is.
pub(super) fn summary(status: &Value) -> String {
    let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let connected = members.iter().filter(|member| member["state"] == "connected").count();
    let connections = status["connections"].as_array().map_or(0, Vec::len);
    let last = &status["last_reload"];
    let (outcome, trigger) =
        (last["outcome"].as_str().unwrap_or("none"), last["trigger"].as_str().unwrap_or("-"));
    // Two reloads of one outcome are two lines.
    let at = last["timestamp"].as_u64().map(|at| format!(" at {}", utc(at))).unwrap_or_default();
    let degraded =
        status["degraded_reason"].as_str().map(|why| format!(", DEGRADED: {why}")).unwrap_or_default();
    let unconfirmed = if status["confirm_deadline"].is_null() { "" } else { ", unconfirmed" };
    format!(
        "generation {} {}, {connected} of {} connected, {}, last reload {outcome} by {trigger}{at}{unconfirmed}{degraded}",
        status["generation"],
        status["state"].as_str().unwrap_or("-"),
        count(members.len(), "member"),
        count(connections, "connection"),
    )
}

/// The status without what changes by itself.
pub(super) fn without_clocks(status: &Value) -> Value {
    let mut status = status.clone();
    let clocks = ["uptime_s", "running_reload"];
    if let Some(map) = status.as_object_mut() {
        map.retain(|key, _| !clocks.contains(&key.as_str()));
    }
    let lists = [("connections", "established_s"), ("known", "last_seen")];
    for (list, clock) in lists {
        for entry in status[list].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            entry.remove(clock);
        }
    }
    status
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whole seconds.
fn span(seconds: Option<f64>) -> Span {
    Span(Duration::from_secs(Duration::from_secs_f64(seconds.unwrap_or(0.0).clamp(0.0, 1e12)).as_secs()))
}

/// The time of day, UTC.
fn utc(unix: u64) -> String {
    let text =
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix.min(1 << 37))).to_string();
    text.split_once('T').map_or(text.clone(), |(_, time)| time.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Value {
        json!({
            "peer_id": "12D3KooW", "pid": 7, "uptime_s": 61.7, "version": "1", "generation": 3, "state": "idle",
            "degraded": true, "degraded_reason": "protocol is being started again", "confirm_deadline": null,
            "file_differs": false, "running_reload": null, "listeners": ["/ip4/127.0.0.1/tcp/9000"], "known": [],
            "members": [
                {"public_key": "a", "name": "alice", "state": "connected", "last_error": null},
                {"public_key": "b", "name": null, "state": "disconnected", "last_error": "refused"},
            ],
            "connections": [
                {"id": "17", "public_key": "a", "direction": "outbound", "address": "/ip4/1.2.3.4/tcp/1", "established_s": 60.2},
                {"id": "18", "public_key": "z", "direction": "inbound", "address": "/ip4/1.2.3.5/tcp/1", "established_s": 1},
            ],
            "last_reload": {
                "outcome": "rolled_back", "trigger": "signal", "timestamp": 0, "duration_ms": 12.34, "error": "network: no",
                "phases": {"read_ms": 1.0, "prepare_ms": 2.0, "rollback_ms": 0}, "changes": [{"path": "logging.level"}],
            },
        })
    }

    #[test]
    fn the_view_says_who_is_missing_first_and_loudly_what_is_wrong() {
        let events = VecDeque::from(["an event".to_owned()]);
        let shown = lines(&status(), &events);
        let text: Vec<_> = shown.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            text,
            [
                "fednode 12D3KooW  pid 7  up 1m1s  version 1",
                "generation 3  idle",
                " DEGRADED: protocol is being started again ",
                "",
                "last reload  rolled_back by signal at 00:00:00Z, 12.3 ms",
                "  read 1.0 > prepare 2.0 ms",
                "  changed logging.level",
                "  network: no",
                "",
                "2 members, 1 connected; 2 connections, 0 known",
                "  disconnected  b  refused",
                "  connected     alice  #17 outbound /ip4/1.2.3.4/tcp/1 1m",
                "  no member     z  #18 inbound /ip4/1.2.3.5/tcp/1 1s",
                "",
                "listens on /ip4/127.0.0.1/tcp/9000",
                "",
                "an event",
            ]
        );
        assert_eq!(shown[2].look, Look::Loud);
        assert_eq!(nobody(&VecDeque::new())[0].look, Look::Loud);
    }

    #[test]
    fn time_alone_is_no_change() {
        let (before, mut after) = (status(), status());
        after["uptime_s"] = json!(99);
        after["connections"][0]["established_s"] = json!(99);
        assert_eq!(summary(&before), summary(&after));
        assert_eq!(without_clocks(&before), without_clocks(&after));
        after["members"][0]["state"] = json!("disconnected");
        assert_ne!(summary(&before), summary(&after));
        assert_ne!(without_clocks(&before), without_clocks(&after));
    }

    #[test]
    fn events_are_lines() {
        let line = event(
            &json!({"event": "connection_closed", "id": "3", "public_key": "k", "reason": "bye", "time": 1.5}),
        );
        assert_eq!(line.as_deref(), Some("00:00:01Z  connection closed #3 k  bye"));
        assert_eq!(event(&json!({"event": "reload_state", "state": "idle"})), None);
        assert!(event(&json!({"event": "something_new", "time": 0})).is_some());
    }
}
