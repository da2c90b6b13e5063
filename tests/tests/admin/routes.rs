//! Every route, code, header and body of the contract, the same on the socket, on TCP and through TLS.

use fednode_tests::stage::NOBODY;
use fednode_tests::web::{Reply, Way};
use serde_json::{Value, json};

use crate::scene::{Scene, bearer, good, tls};

/// What is asked, and what must come of it.
struct Row {
    /// Method and path.
    ask: &'static str,
    /// Further headers, a line each.
    headers: &'static str,
    body: &'static str,
    status: u16,
    /// A header that must be there, `name: value`; the value may be a beginning.
    header: &'static str,
    /// Members that the JSON must have; empty where it is no JSON.
    members: &'static [&'static str],
}

const fn row(ask: &'static str, status: u16, members: &'static [&'static str]) -> Row {
    Row { ask, headers: "", body: "", status, header: "content-type: application/json", members }
}

const fn post(ask: &'static str, body: &'static str, status: u16, members: &'static [&'static str]) -> Row {
    Row { body, ..row(ask, status, members) }
}

const ERROR: &[&str] = &["status", "message", "error"];
const OUTCOME: &[&str] = &[
    "id",
    "status",
    "outcome",
    "message",
    "config_generation",
    "from_generation",
    "timestamp",
    "trigger",
    "actor",
    "note",
    "durable",
    "duration_ms",
    "phases",
    "changes",
    "components",
    "connections",
    "warnings",
    "errors",
];
const STATUS: &[&str] = &[
    "version",
    "peer_id",
    "public_key",
    "pid",
    "uptime_s",
    "state",
    "generation",
    "degraded",
    "degraded_reason",
    "confirm_deadline",
    "listeners",
    "connections",
    "known",
    "members",
    "topics",
    "services",
    "worker_threads",
    "last_reload",
];
/// [`NOBODY`], as a path has it.
const REMOVE: &str = "DELETE /admin/peers/11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const NEW: &str = "{\"public_key\": \"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\", \"addresses\": []}";
const NAMED: &str =
    "{\"public_key\": \"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\", \"addresses\": [], \"name\": \"n\"}";

/// In this order: what one row changes, a later one finds.
const ROWS: &[Row] = &[
    row("GET /healthz", 200, &["status"]),
    row("GET /readyz", 200, &["status", "version", "timestamp", "checks"]),
    Row { header: "content-type: text/plain; version=0.0.4", ..row("GET /metrics", 200, &[]) },
    row("GET /admin/status", 200, STATUS),
    row("GET /admin/config", 200, &["generation", "config", "text", "peers"]),
    row("GET /admin/diff", 200, &["same", "diff"]),
    row("GET /admin/history", 200, &["current", "generations", "attempts"]),
    row("GET /admin/services", 200, &["expose", "connect"]),
    row("GET /admin/peers", 200, &[]),
    row("POST /admin/reload?dry_run=true", 200, OUTCOME),
    row("POST /admin/reload", 200, OUTCOME),
    post("POST /admin/reload", "{\"note\": \"why\"}", 200, OUTCOME),
    Row { headers: "if-match: \"1\"", ..row("POST /admin/reload", 200, OUTCOME) },
    Row { headers: "if-match: \"999\"", ..row("POST /admin/reload", 412, ERROR) },
    Row { headers: "if-match: \"999\"", ..post("POST /admin/rollback", "{\"generation\": 1}", 412, ERROR) },
    Row { headers: "if-match: soon", ..row("POST /admin/confirm", 412, ERROR) },
    row("POST /admin/reload?dryrun=true", 400, ERROR),
    post("POST /admin/reload", "{\"not\": 1}", 400, ERROR),
    post("POST /admin/rollback", "{\"generation\": 999}", 404, ERROR),
    row("POST /admin/rollback", 404, ERROR),
    row("POST /admin/confirm", 409, ERROR),
    post("POST /admin/peers", NEW, 201, OUTCOME),
    post("POST /admin/peers", NAMED, 200, OUTCOME),
    post("POST /admin/peers", "{}", 400, ERROR),
    // A member, and not connected.
    post("POST /v1/peers/11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=/messages", "hi", 503, ERROR),
    row(REMOVE, 200, OUTCOME),
    row(REMOVE, 404, ERROR),
    post("POST /v1/peers/11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=/messages", "hi", 404, ERROR),
    post("POST /v1/peers/nonsense/messages", "hi", 404, ERROR),
    post("POST /v1/topics/blocks/messages", "hi", 200, &["status"]),
    post("POST /v1/topics/nothing/messages", "hi", 404, ERROR),
    row("GET /v1/topics/nothing/messages", 404, ERROR),
    row("GET /nowhere", 404, ERROR),
    Row { header: "content-type: text/html", ..row("GET /", 200, &[]) },
    Row { header: "allow: GET, HEAD", ..row("POST /", 405, ERROR) },
    Row { header: "allow: GET, HEAD", ..row("POST /healthz", 405, ERROR) },
    Row { header: "allow: GET, HEAD", ..row("DELETE /readyz", 405, ERROR) },
    Row { header: "allow: GET, HEAD", ..row("PUT /metrics", 405, ERROR) },
    Row { header: "allow: POST", ..row("GET /admin/reload", 405, ERROR) },
    Row { header: "allow: POST", ..row("GET /admin/rollback", 405, ERROR) },
    Row { header: "allow: POST", ..row("GET /admin/confirm", 405, ERROR) },
    Row { header: "allow: GET, HEAD", ..row("POST /admin/status", 405, ERROR) },
    Row { header: "allow: GET, HEAD", ..row("POST /admin/config", 405, ERROR) },
    Row { header: "allow: GET, HEAD", ..row("POST /admin/diff", 405, ERROR) },
    Row { header: "allow: GET, HEAD", ..row("POST /admin/history", 405, ERROR) },
    Row { header: "allow: GET, HEAD, POST", ..row("DELETE /admin/peers", 405, ERROR) },
    Row { header: "allow: GET", ..row("POST /v1/messages", 405, ERROR) },
    Row { header: "allow: GET", ..row("POST /v1/events", 405, ERROR) },
];

const STREAMS: [&str; 3] = ["GET /v1/events", "GET /v1/messages", "GET /v1/topics/blocks/messages"];
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

fn path(ask: &str) -> &str {
    ask.split(' ').nth(1).unwrap_or_default()
}

fn with_token(headers: &str, token: Option<&str>) -> String {
    let token = token.map(bearer).unwrap_or_default();
    [headers, &token].into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn expect(what: &str, reply: &Reply, row: &Row) {
    assert_eq!(reply.status, row.status, "{what}: {reply:?}");
    let (name, value) = row.header.split_once(": ").expect("a header");
    let found = reply.header(name).unwrap_or_default();
    assert!(found.starts_with(value), "{what}: {name}: {found}");
    if !row.members.is_empty() {
        let json = reply.json();
        let missing: Vec<_> = row.members.iter().filter(|name| json.get(name).is_none()).collect();
        assert!(missing.is_empty(), "{what}: no {missing:?} in {json:#}");
        if row.members == ERROR {
            assert_eq!(json["status"], "error", "{what}");
            assert!(json["error"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {json}");
        }
    }
}

async fn all_rows(way: &Way, token: Option<&str>, secret: &str) {
    for row in ROWS {
        let what = format!("{way:?}: {} {}", row.ask, row.headers);
        let headers = with_token(row.headers, token);
        let reply = way.ask(&format!("{}\n{headers}", row.ask), row.body).await;
        expect(&what, &reply, row);
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(!text.contains(secret) && !text.contains(crate::scene::SECRET), "{what}: a secret: {text}");
    }
    for row in ROWS.iter().filter(|row| row.ask.starts_with("GET ") && row.status == 200) {
        let (ask, headers) = (row.ask.replacen("GET", "HEAD", 1), with_token(row.headers, token));
        let mut line = way.connect().await.expect("a connection");
        let reply = line.ask(&format!("{ask}\n{headers}"), "").await.expect("an answer");
        expect(&ask, &reply, &Row { members: &[], ..*row });
        assert!(reply.header("content-length").is_some_and(|length| length != "0"), "{ask}: {reply:?}");
        // Nothing of a body came: the next answer begins where this one ended.
        let next = line.ask("GET /healthz", "").await.expect("an answer");
        assert_eq!(next.json()["status"], "ok", "{ask}");
    }
    for stream in STREAMS {
        let head = format!("{}\n{}", stream.replacen("GET", "HEAD", 1), with_token("", token));
        assert_eq!(way.ask(&head, "").await.status, 405, "a stream has no end, and no length");
        let mut line = way.connect().await.expect("a connection");
        let reply = line.ask(&format!("{stream}\n{}", with_token("", token)), "").await.expect("an answer");
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some("text/event-stream")),
            "{stream}"
        );
        line.hear_of(": subscribed").await.expect("the stream begins");
    }
}

async fn nothing_without_token(way: &Way) {
    for row in ROWS.iter().map(|row| (row.ask, row.body)).chain(STREAMS.map(|ask| (ask, ""))) {
        let (ask, body) = row;
        let reply = way.ask(ask, body).await;
        if OPEN.contains(&path(ask)) {
            assert_ne!(reply.status, 401, "{ask}");
            continue;
        }
        assert_eq!(reply.status, 401, "{ask}: {reply:?}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{ask}");
        assert_eq!(reply.json()["status"], "error", "{ask}");
        if ask == "GET /" {
            // For people: the same, and a field for a token.
            let reply = way.ask("GET /\naccept: text/html,application/xhtml+xml,*/*;q=0.8", "").await;
            assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")), "{reply:?}");
            let page = String::from_utf8_lossy(&reply.body).into_owned();
            assert!(page.contains("data-open=\"false\""), "{page}");
            assert!(reply.header("content-security-policy").is_some(), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn each_route_on_each_way() {
    let topics = |conf: &mut Value| conf["protocol"] = json!({"topics": [{"name": "blocks"}]});
    for secured in [false, true] {
        let mut scene = if secured { Scene::secured().await } else { Scene::plain().await };
        // The first generation has to stay the only one that is older, for the rows about rollback.
        let mut spec = scene.node.kill().await;
        std::fs::remove_dir_all(spec.folder().join("data")).expect("it can be removed");
        topics(&mut spec.conf);
        scene.node = spec.start().await;
        let secret = scene.node.spec().keys.private_key.clone();
        assert!(REMOVE.ends_with(&NOBODY.replace('/', "_")));
        let way = if secured { scene.by_tls() } else { scene.plainly() };
        nothing_without_token(&way).await;
        let (by, token) = if secured { (way, Some(good())) } else { (scene.socket(), None) };
        all_rows(&by, token.as_deref(), &secret).await;
    }
}

#[tokio::test]
async fn outcomes_have_their_codes_through_tls() {
    let mut scene = Scene::secured().await;
    let way = scene.by_tls();
    let token = bearer(&good());
    let reload = format!("POST /admin/reload\n{token}");

    scene.node.edit(|conf| conf["logging"]["level"] = json!("loud"));
    let reply = way.ask(&reload, "").await;
    assert_eq!((reply.status, &reply.json()["outcome"]), (400, &json!("rejected")), "{reply:?}");
    let reply = way.ask(&format!("POST /admin/reload?dry_run=true\n{token}"), "").await;
    assert_eq!(reply.json()["outcome"], "rejected", "{reply:?}");

    scene.node.edit(|conf| conf["logging"]["level"] = json!("debug"));
    scene.arms.arm("logging::probe", "return(error)");
    let reply = way.ask(&reload, "").await;
    assert_eq!((reply.status, &reply.json()["outcome"]), (409, &json!("rolled_back")), "{reply:?}");

    let reply = way.ask(&format!("POST /admin/reload?confirm=1h\n{token}"), "").await;
    let outcome = reply.json();
    assert_eq!((reply.status, &outcome["outcome"]), (200, &json!("committed")), "{outcome:#}");
    assert_eq!(outcome["trigger"], "api");
    let actor = outcome["actor"].as_str().expect("somebody asked");
    assert!(actor.starts_with("jwt:ann 127.0.0.1:"), "{actor}");
    let reply = way.ask(&format!("POST /admin/confirm\n{token}"), "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = way.ask(&format!("POST /admin/rollback\n{token}"), "{\"generation\": 1}").await;
    assert_eq!((reply.status, &reply.json()["trigger"]), (200, &json!("rollback")), "{reply:?}");
    let line = scene.node.audit().pop().expect("a line");
    assert!(line["actor"].as_str().is_some_and(|actor| actor.starts_with("jwt:ann ")), "{line}");

    // Files of this machine are for those who may read them: on the socket.
    let other = scene.node.spec().conf_path();
    let judge = format!("POST /admin/reload?dry_run=true&config={}", other.display());
    assert_eq!(way.ask(&format!("{judge}\n{token}"), "").await.status, 400);
    assert_eq!(scene.socket().ask(&judge, "").await.status, 200);
}

#[tokio::test]
async fn without_tokens_there_is_health_and_no_more() {
    for admin in [json!({}), json!({"tls": tls()})] {
        let scene = Scene::with(admin.clone()).await;
        let way = if admin.get("tls").is_some() { scene.by_tls() } else { scene.plainly() };
        nothing_without_token(&way).await;
        let reply = way.ask(&format!("GET /admin/status\n{}", bearer(&good())), "").await;
        assert_eq!(reply.status, 401, "a token means nothing here");
        assert_eq!(scene.socket().ask("GET /admin/status", "").await.status, 200);
    }
}
