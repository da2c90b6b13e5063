//! What stands on the page, and what must not.

use serde_json::{Value, json};

use super::{Shown, TokenPlace, closed, open};

const HOSTILE: &str = "<script>alert(1)</script>\"'&";

fn status(members: &[Value]) -> Value {
    json!({
        "version": "0.1.0", "public_key": "o5qrl8z6yURhM66L0Yszb9CYZFwLLBPvplgUhh9SL60=", "pid": 4711, "uptime_s": 93784.5,
        "state": "idle", "generation": 42, "degraded": false, "degraded_reason": null, "confirm_deadline": null,
        "listeners": ["/ip4/127.0.0.1/tcp/9000"], "members": members,
        "connections": [{"id": "17", "public_key": "a", "direction": "outbound", "established_s": 10.1}],
        "topics": ["blocks"], "services": {"expose": ["rpc"], "connect": []}, "worker_threads": 2,
        "last_reload": attempt("committed"),
    })
}

fn member(key: &str, name: &str, state: &str) -> Value {
    json!({"public_key": key, "name": name, "state": state, "addresses": ["/ip4/192.0.2.7/tcp/9000"], "last_error": null})
}

fn attempt(outcome: &str) -> Value {
    json!({
        "id": "01J0", "outcome": outcome, "config_generation": 42, "from_generation": 41, "timestamp": 1_699_564_800,
        "trigger": "signal", "actor": "uid:1000 pid:77", "note": null, "duration_ms": 3.1,
        "phases": {"read_ms": 1.0, "validate_ms": 0.0, "commit_ms": 3.0},
        "changes": [{"path": "logging.level", "from": "info", "to": "debug", "component": "logging", "strategy": "in_place"}],
        "components": [{"name": "logging", "prepare_ms": 0.1, "commit_ms": 0.05, "result": "committed"}],
        "connections": {"before": 12, "after": 12, "closed_by_reload": 0, "would_close": []},
        "errors": [], "warnings": [],
    })
}

fn page(status: Value, attempts: Vec<Value>) -> String {
    let ready = json!({"status": "healthy", "version": "0.1.0", "checks": {"network": {"status": "pass"}}});
    open(&Shown { status, ready, attempts }, None)
}

#[test]
fn says_what_runs_without_its_script() {
    let html = page(status(&[member("a", "north", "connected")]), vec![attempt("committed")]);
    for said in [
        "north",
        "2 of 2",
        "o5qrl8z6yURh",
        "1day 2h",
        "41 → 42",
        "logging.level",
        "debug",
        "2023-11-09T21:20:00Z",
        "blocks",
    ] {
        assert!(html.contains(said), "{said} is not on the page:\n{html}");
    }
    assert!(!html.contains("Quorum at risk"));
}

#[test]
fn a_phase_has_its_share_of_the_bar() {
    let html = page(status(&[]), vec![attempt("committed")]);
    assert!(html.contains(r#"<rect class="read" x="0.0" width="250.0""#), "{html}");
    assert!(html.contains(r#"<rect class="commit" x="250.0" width="750.0""#), "{html}");
    assert!(!html.contains(r#"<rect class="validate""#), "nothing was spent there");
}

/// More than two thirds, as the federation wants it: of four nodes three, of three all.
#[test]
fn a_quorum_at_risk_is_an_alarm() {
    let members = |up: usize, down: usize| {
        let up = (0..up).map(|n| member(&format!("u{n}"), "up", "connected"));
        let down = (0..down).map(|n| member(&format!("d{n}"), "down", "failed"));
        up.chain(down).collect::<Vec<_>>()
    };
    for (up, down, risk) in
        [(0, 0, false), (2, 1, false), (1, 2, true), (2, 0, false), (1, 1, true), (0, 1, true)]
    {
        let html = page(status(&members(up, down)), Vec::new());
        assert_eq!(html.contains("Quorum at risk"), risk, "{up} up and {down} down, besides this one");
    }
}

#[test]
fn what_others_wrote_is_text() {
    let mut refused = attempt("rejected");
    refused["note"] = HOSTILE.into();
    refused["actor"] = HOSTILE.into();
    refused["trigger"] = HOSTILE.into();
    refused["errors"] =
        json!([{"path": HOSTILE, "message": HOSTILE, "hint": HOSTILE, "file": HOSTILE, "line": 3}]);
    refused["warnings"] = json!([{"message": HOSTILE}, HOSTILE]);
    refused["changes"][0]["to"] = json!({HOSTILE: HOSTILE});
    let mut status = status(&[member(HOSTILE, HOSTILE, HOSTILE)]);
    status["degraded_reason"] = HOSTILE.into();
    status["held"] = json!([HOSTILE]);
    status["topics"] = json!([HOSTILE]);
    let html = page(status, vec![refused]);
    assert!(html.contains("&lt;script&gt;alert(1)"), "it is there, as text");
    assert_eq!(html.matches("<script>").count(), 1, "the page's own:\n{html}");
    assert!(!html.contains("alert(1)</script>"));
}

#[test]
fn without_a_token_it_says_whether_the_node_is_ready_and_no_more() {
    let ready = json!({"status": "degraded", "version": "0.1.0", "checks": {"config": {"status": "fail", "error": "secret"}}});
    let html = closed(&ready, "A token is needed.", Some(TokenPlace::Header("X-Token")));
    assert!(html.contains("degraded") && html.contains("A token is needed."));
    assert!(
        html.contains(r#"data-token-name="X-Token""#) && html.contains(r#"<main data-open="false">"#),
        "{html}"
    );
    assert!(!html.contains("secret") && !html.contains("Members"));
}
