//! The reloads, newest first: when, why, what came of it, where the time went, and what it changed.

use maud::{Markup, html};
use serde_json::Value;

use super::overview::{chip, list, several, short, text, time, words};

/// In the order in which they happen.
const PHASES: [&str; 9] =
    ["read", "validate", "plan", "prepare", "commit", "probe", "finish", "record", "rollback"];

/// Wider than any phase is exact: the drawing's own units.
const WIDTH: f64 = 1000.0;

/// Whether it went well, as a colour.
pub(super) fn tone(attempt: &Value) -> &'static str {
    match text(attempt, "outcome") {
        "committed" | "unchanged" | "planned" => "good",
        "rejected" => "busy",
        _ => "bad",
    }
}

pub(super) fn reloads(attempts: &[Value]) -> Markup {
    html! {
        section {
            h2 { "Reloads" }
            @if attempts.is_empty() { p.sub { "None yet." } }
            ol.timeline { @for attempt in attempts { li { (row(attempt)) } } }
            p.legend { @for phase in PHASES { span { i.(phase) {} (phase) } } }
        }
    }
}

fn row(attempt: &Value) -> Markup {
    let (from, to) = (&attempt["from_generation"], &attempt["config_generation"]);
    html! {
        details data-id=(text(attempt, "id")) {
            summary {
                (time(attempt["timestamp"].as_i64().unwrap_or_default()))
                (chip(text(attempt, "outcome"), tone(attempt)))
                span.step { @if from == to { (words(to)) } @else { (words(from)) " → " (words(to)) } }
                (bar(&attempt["phases"]))
                span.took { (millis(&attempt["duration_ms"])) " ms" }
                span.why { (text(attempt, "trigger")) @if let Some(note) = attempt["note"].as_str() { ": " (note) } }
            }
            (errors(attempt))
            (changes(attempt))
            (components(attempt))
            p.sub { "by " (text(attempt, "actor")) ", " code { (text(attempt, "id")) } }
        }
    }
}

/// Where the time went: each phase's share of the whole.
fn bar(phases: &Value) -> Markup {
    let span = |phase: &str| phases[format!("{phase}_ms")].as_f64().unwrap_or_default().max(0.0);
    let spans = PHASES.iter().map(|phase| (*phase, span(phase))).filter(|(_, span)| *span > 0.0);
    let all: f64 = spans.clone().map(|(_, span)| span).sum();
    let parts = spans.scan(0.0, |end, (phase, span)| {
        let (start, width) = (*end, span / all * WIDTH);
        *end += width;
        Some((phase, span, start, width))
    });
    html! {
        svg.bar viewBox={ "0 0 " (WIDTH) " 10" } preserveAspectRatio="none" role="img" aria-label="where the time went" {
            @for (phase, span, start, width) in parts {
                rect.(phase) x=(format!("{start:.1}")) width=(format!("{width:.1}")) height="10" {
                    title { (phase) " " (format!("{span:.2}")) " ms" }
                }
            }
        }
    }
}

fn errors(attempt: &Value) -> Markup {
    html! {
        @for error in list(&attempt["errors"]) {
            p.alarm {
                @if let Some(path) = error["path"].as_str() { code { (path) } ": " }
                (text(error, "message"))
                @if let Some(hint) = error["hint"].as_str() { " (" (hint) ")" }
                @if let (Some(file), Some(line)) = (error["file"].as_str(), error["line"].as_u64()) { br; code { (file) ":" (line) } }
            }
        }
        @for warning in list(&attempt["warnings"]) {
            p.warning { @if warning.is_object() { (text(warning, "message")) } @else { (words(warning)) } }
        }
    }
}

fn changes(attempt: &Value) -> Markup {
    let changes = list(&attempt["changes"]);
    html! {
        @if !changes.is_empty() {
            div.wide { table.diff {
                thead { tr { th { "key" } th { "from" } th { "to" } th { "component" } th { "how" } } }
                tbody { @for change in changes { tr {
                    td { code { (text(change, "path")) } }
                    td.old { (words(&change["from"])) }
                    td.new { (words(&change["to"])) }
                    td { (text(change, "component")) }
                    td { (text(change, "strategy").replace('_', " ")) }
                } } }
            } }
        }
    }
}

fn components(attempt: &Value) -> Markup {
    let connections = &attempt["connections"];
    html! {
        @for component in list(&attempt["components"]) {
            p.sub {
                (text(component, "name")) ": " (text(component, "result").replace('_', " ")) ", prepared in "
                (millis(&component["prepare_ms"])) " ms, committed in " (millis(&component["commit_ms"])) " ms"
            }
        }
        @if connections.is_object() {
            p.sub {
                "connections: " (words(&connections["before"])) " before, " (words(&connections["after"])) " after, "
                (words(&connections["closed_by_reload"])) " closed"
                @if !list(&connections["would_close"]).is_empty() { ": " (several(&connections["would_close"])) }
            }
        }
    }
}

/// Milliseconds with as many digits as somebody reads.
pub(super) fn millis(value: &Value) -> String {
    match value.as_f64() {
        Some(ms) if ms >= 100.0 => format!("{ms:.0}"),
        Some(ms) => format!("{ms:.1}"),
        None => short(&words(value)).to_owned(),
    }
}
