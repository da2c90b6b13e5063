//! What the node is and does now.

use maud::{Markup, html};
use serde_json::Value;

/// So much of a key tells it from the others of a federation.
const SHORT: usize = 12;

/// Who it is, for the title: a browser with many nodes open tells them apart by it.
pub(super) fn name(status: &Value) -> String {
    format!("{} · fednode", short(text(status, "public_key")))
}

pub(super) fn header(status: &Value) -> Markup {
    html! {
        header {
            h1 { "fednode" }
            p.sub {
                code title=(text(status, "public_key")) { (short(text(status, "public_key"))) }
                " · " (text(status, "version")) " · up " (duration(status["uptime_s"].as_f64().unwrap_or_default()))
                " · pid " (status["pid"])
            }
            (chip(text(status, "state"), if status["state"] == "idle" { "good" } else { "busy" }))
            @if status["degraded"] == true { (chip("degraded", "bad")) }
        }
    }
}

/// What wants a person, above all else.
pub(super) fn alarms(status: &Value, ready: &Value) -> Markup {
    let degraded = status["degraded_reason"].as_str();
    let quorum = Quorum::of(status);
    html! {
        @if let Some(reason) = degraded { p.alarm { strong { "Degraded: " } (reason) } }
        @if !quorum.holds() {
            p.alarm {
                strong { "Quorum at risk: " } (quorum.up) " of " (quorum.all)
                " members are up as this node sees it; the federation wants more than two thirds"
            }
        }
        @for (name, check) in failing(ready) {
            p.alarm { strong { (name) ": " } (text(check, "error")) }
        }
        @if let Some(deadline) = status["confirm_deadline"].as_i64() {
            p.warning {
                strong { "Unconfirmed: " } "generation " (status["generation"]) " goes back to " (status["confirm_target"]) " at "
                (time(deadline)) " unless it is confirmed"
            }
        }
        @if status["file_differs"] == true {
            p.warning { strong { "Not in force: " } "the files say something else than what runs; " code { "fednode diff" } " shows it" }
        }
        @for held in list(&status["held"]) {
            p.warning { strong { "Held: " } (words(held)) " is passed over until it changes, because a rollback could not write it" }
        }
    }
}

/// Whether the node is ready: what anybody may know.
pub(super) fn health(ready: &Value) -> Markup {
    html! {
        p { (chip(text(ready, "status"), if ready["status"] == "healthy" { "good" } else { "bad" })) }
    }
}

pub(super) fn figures(status: &Value) -> Markup {
    let quorum = Quorum::of(status);
    let last = &status["last_reload"];
    html! {
        section.figures {
            (figure("generation", &words(&status["generation"]), None))
            (figure("members up", &format!("{} of {}", quorum.up, quorum.all), (!quorum.holds()).then_some("bad")))
            (figure("connections", &list(&status["connections"]).len().to_string(), None))
            (figure("learned peers", &list(&status["known"]).len().to_string(), None))
            @if last.is_object() {
                (figure("last reload", text(last, "outcome"), Some(super::timeline::tone(last))))
                (figure("it took", &format!("{} ms", super::timeline::millis(&last["duration_ms"])), None))
            }
        }
    }
}

/// What can be done from here. Only with a token: the script shows it when it has one.
pub(super) fn actions(status: &Value) -> Markup {
    html! {
        section.actions hidden {
            button data-post="/admin/reload?dry_run=true" { "Plan" }
            button data-post="/admin/reload" data-sure="Take the files over now?" { "Reload" }
            @if status["confirm_deadline"].is_number() {
                button data-post="/admin/confirm" { "Confirm generation " (status["generation"]) }
            }
            button data-post="/admin/rollback" data-sure="Go back to the generation before?" { "Roll back" }
        }
    }
}

pub(super) fn members(status: &Value) -> Markup {
    let members = list(&status["members"]);
    html! {
        section {
            h2 { "Members" }
            @if members.is_empty() {
                p.sub { "No peers are configured: the node runs alone." }
            } @else {
                div.wide { table {
                    thead { tr { th { "name" } th { "state" } th { "key" } th { "addresses" } th { "connected" } th { "last error" } } }
                    tbody { @for member in members { (member_row(member, status)) } }
                } }
            }
        }
    }
}

fn member_row(member: &Value, status: &Value) -> Markup {
    let key = text(member, "public_key");
    let connections = list(&status["connections"]);
    let mine = connections.iter().filter(|connection| connection["public_key"] == key);
    let tone = match text(member, "state") {
        "connected" => "good",
        "connecting" | "disconnecting" => "busy",
        _ => "bad",
    };
    html! {
        tr {
            td { (member["name"].as_str().unwrap_or("–")) }
            td { (chip(text(member, "state"), tone)) }
            td { code title=(key) { (short(key)) } }
            td { @for address in list(&member["addresses"]) { code { (words(address)) } br; } }
            td {
                @for connection in mine {
                    (text(connection, "direction")) ", "
                    (duration(connection["established_s"].as_f64().unwrap_or_default())) ", id " (words(&connection["id"])) br;
                }
            }
            td { (member["last_error"].as_str().unwrap_or("")) }
        }
    }
}

/// What is seldom looked at.
pub(super) fn the_rest(status: &Value, ready: &Value) -> Markup {
    let checks = ready["checks"].as_object().into_iter().flatten();
    html! {
        section {
            h2 { "Serving" }
            dl {
                dt { "listeners" } dd { (several(&status["listeners"])) }
                @if !list(&status["failing_listeners"]).is_empty() {
                    dt { "failing" } dd { (several(&status["failing_listeners"])) }
                }
                dt { "topics" } dd { (several(&status["topics"])) }
                dt { "exposed services" } dd { (several(&status["services"]["expose"])) }
                dt { "connected services" } dd { (several(&status["services"]["connect"])) }
                dt { "worker threads" } dd { (status["worker_threads"]) }
                dt { "health" }
                dd { @for (name, check) in checks { (chip(name, if check["status"] == "pass" { "good" } else { "bad" })) " " } }
            }
        }
    }
}

/// The federation as this node sees it, itself among them.
struct Quorum {
    up: usize,
    all: usize,
}

// === impl Quorum ===

impl Quorum {
    fn of(status: &Value) -> Self {
        let members = list(&status["members"]);
        let up = members.iter().filter(|member| member["state"] == "connected").count();
        Self { up: up + 1, all: members.len() + 1 }
    }

    /// A node alone is no federation that could fail.
    fn holds(&self) -> bool {
        self.all == 1 || self.up * 3 > self.all * 2
    }
}

fn failing(ready: &Value) -> impl Iterator<Item = (&String, &Value)> {
    ready["checks"].as_object().into_iter().flatten().filter(|(_, check)| check["status"] != "pass")
}

fn figure(name: &str, value: &str, tone: Option<&str>) -> Markup {
    html! { div.figure { span.value.(tone.unwrap_or("plain")) { (value) } span.name { (name) } } }
}

/// A word in a colour: the word says it, too.
pub(super) fn chip(word: &str, tone: &str) -> Markup {
    html! { span.chip.(tone) { (word) } }
}

pub(super) fn several(values: &Value) -> Markup {
    let values = list(values);
    html! { @if values.is_empty() { "–" } @else { @for value in values { code { (words(value)) } " " } } }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("–")
}

/// A value as a person writes it: a text without quotes.
pub(super) fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn short(key: &str) -> &str {
    key.char_indices().nth(SHORT).map_or(key, |(end, _)| &key[..end])
}

/// A point in time, given in seconds since 1970. The script writes it as the reader's clock would.
pub(super) fn time(seconds: i64) -> Markup {
    let since = std::time::Duration::from_secs(seconds.try_into().unwrap_or_default());
    // The last instant that is a date with four digits; beyond it the formatter gives up.
    let since = since.min(std::time::Duration::from_secs(253_402_300_799));
    let text = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string();
    html! { time datetime=(text) { (text) } }
}

/// A span of time in its two largest units.
pub(super) fn duration(seconds: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let text = humantime::format_duration(std::time::Duration::from_secs(whole)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
