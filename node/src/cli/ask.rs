//! Commands that ask the running node.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use net::{Endpoint, Held};
use reload::outcome::Kind;
use reload::{Generation, Outcome, Problem};
use serde_json::{Value, json};
use storage::PeerKey;
use storage::document::units::Span;

use super::{Common, NO_NODE, REFUSED, check, on_runtime, print, print_json, progress, render};
use crate::client::{Answer, CLIENT_HEADER, Client, ClientError};

const AS_CLI: (&str, &str) = (CLIENT_HEADER, "cli");

/// How long `check` waits for the node's listeners; without them it judges ports as if no node ran.
const LISTENERS_WITHIN: Duration = Duration::from_secs(2);

/// Asks for a reload and shows its outcome.
pub(super) async fn reload(
    common: &Common,
    dry_run: bool,
    confirm: Option<Span>,
    note: Option<String>,
) -> ExitCode {
    let path = if dry_run { "/admin/reload?dry_run=true" } else { "/admin/reload" };
    let within = confirm.map(|span| span.to_string());
    let code =
        send(common, path, &[("note", note.map(Value::from)), ("confirm", within.map(Value::from))]).await;
    // Until when is not what was asked for if another confirmation was awaited already.
    // The reload itself may have taken the socket elsewhere.
    let now = Common { config: common.config.clone(), socket: None, json: false };
    if confirm.is_some()
        && code == ExitCode::SUCCESS
        && !common.json
        && let Some(client) = common.find_client().or_else(|| now.find_client())
        && let Ok(answer) = client.get("/admin/status").await
        && let Ok(status) = answer.json()
    {
        print(&render::unconfirmed(&status));
    }
    code
}

/// Makes an older generation current.
pub(super) async fn rollback(
    common: &Common,
    generation: Option<Generation>,
    dry_run: bool,
    note: Option<String>,
) -> ExitCode {
    let path = if dry_run { "/admin/rollback?dry_run=true" } else { "/admin/rollback" };
    let generation = generation.map(|generation| generation.get().into());
    send(common, path, &[("note", note.map(Value::from)), ("generation", generation)]).await
}

/// Keeps what was to be confirmed.
pub(super) async fn confirm(common: &Common, note: Option<String>) -> ExitCode {
    send(common, "/admin/confirm", &[("note", note.map(Value::from))]).await
}

async fn send(common: &Common, path: &str, fields: &[(&str, Option<Value>)]) -> ExitCode {
    let given = fields.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
    let body: serde_json::Map<String, Value> = given.collect();
    let body = if body.is_empty() { Vec::new() } else { json!(body).to_string().into_bytes() };
    outcome(common, path, body, Vec::new()).await.unwrap_or_else(|code| code)
}

/// Asks what another file would change.
pub(super) async fn plan(common: &Common, file: &Path, found: Vec<Problem>) -> ExitCode {
    let path = format!("/admin/reload?dry_run=true&config={}", percent_encoded(&file.to_string_lossy()));
    outcome(common, &path, Vec::new(), found).await.unwrap_or_else(|code| code)
}

/// Asks, waits, and shows the outcome with what was found besides.
async fn outcome(
    common: &Common,
    path: &str,
    body: Vec<u8>,
    found: Vec<Problem>,
) -> Result<ExitCode, ExitCode> {
    let client = common.client()?;
    let asked = client.post(path, &[AS_CLI], body);
    let answer = progress::shown(&client, asked).await.map_err(|error| failed(&error))?;
    told(common, &answer, found)
}

fn told(common: &Common, answer: &Answer, found: Vec<Problem>) -> Result<ExitCode, ExitCode> {
    let mut outcome: Outcome = match answer.json() {
        Ok(outcome) => outcome,
        Err(_) => return Err(refused(answer)),
    };
    outcome.warnings.extend(found);
    if common.json {
        print_json(&outcome);
    } else if outcome.outcome.is_success() {
        check::show_told("warning: ", &outcome.warnings);
        print(&render::outcome(&outcome));
    } else {
        check::show_told("", &outcome.errors);
        print(&render::outcome(&outcome));
    }
    Ok(ExitCode::from(match outcome.outcome {
        Kind::Committed | Kind::Unchanged | Kind::Planned => 0,
        Kind::Rejected => REFUSED,
        Kind::RolledBack => 3,
        Kind::Failed => 4,
    }))
}

/// Shows the members; people also see whom the node has learned of, which for machines stands in the status.
pub(super) async fn peers(common: &Common) -> ExitCode {
    let path = if common.json { "/admin/peers" } else { "/admin/status" };
    match get(common, path).await {
        Ok(answer) if common.json => print_json(&answer),
        Ok(answer) => print(&render::peers(&answer)),
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}

/// Adds or changes a member.
pub(super) async fn add_peer(common: &Common, body: Vec<u8>) -> ExitCode {
    outcome(common, "/admin/peers", body, Vec::new()).await.unwrap_or_else(|code| code)
}

/// Removes a member.
pub(super) async fn remove_peer(common: &Common, key: &PeerKey) -> ExitCode {
    let client = match common.client() {
        Ok(client) => client,
        Err(code) => return code,
    };
    // A peer id has no character that a path could not have.
    let path = format!("/admin/peers/{}", key.peer_id());
    match progress::shown(&client, client.delete(&path, &[AS_CLI])).await {
        Ok(answer) => told(common, &answer, Vec::new()).unwrap_or_else(|code| code),
        Err(error) => failed(&error),
    }
}

/// Shows what runs against what the files say: those that are meant here, as the node may run on others.
pub(super) async fn diff(common: &Common) -> ExitCode {
    let file = std::path::absolute(common.config()).ok().filter(|file| file.exists());
    let path = file.map_or_else(
        || "/admin/diff".to_owned(),
        |file| format!("/admin/diff?config={}", percent_encoded(&file.to_string_lossy())),
    );
    let answer = match get(common, &path).await {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    if common.json {
        print_json(&answer);
    } else if let Some(error) = answer["error"].as_str() {
        eprintln!("Error: the file is not valid: {error}");
    } else {
        print(answer["diff"].as_str().unwrap_or_default());
    }
    ExitCode::from(u8::from(answer["same"] != true))
}

/// Shows the generations.
pub(super) async fn history(common: &Common, limit: usize) -> ExitCode {
    match get(common, &format!("/admin/history?limit={limit}")).await {
        Ok(answer) if common.json => print_json(&answer),
        Ok(answer) => print(&render::history(&answer)),
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}

/// Shows what the node does.
pub(super) async fn status(common: &Common) -> ExitCode {
    match get(common, "/admin/status").await {
        Ok(answer) if common.json => print_json(&answer),
        Ok(answer) => print(&render::status(&answer)),
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}

/// Shows services and their streams.
pub(super) async fn services(common: &Common) -> ExitCode {
    match get(common, "/admin/services").await {
        Ok(answer) if common.json => print_json(&answer),
        Ok(answer) => print(&render::services(&answer)),
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}

/// The sockets that a node on the same data folder has; none where no node runs.
pub(super) fn held_by_running(common: &Common) -> Vec<Held> {
    let mut held = Vec::new();
    on_runtime(async {
        for socket in common.sockets() {
            let client = Client::new(socket);
            let status = tokio::time::timeout(LISTENERS_WITHIN, client.get("/admin/status")).await;
            let Ok(Ok(answer)) = status else { continue };
            let Ok(status) = answer.json::<Value>() else { continue };
            let listeners = status["listeners"].as_array().into_iter().flatten();
            held.extend(listeners.filter_map(|address| endpoint(address).map(Held::listening)));
            let retired = status["retired_listeners"].as_array().into_iter().flatten();
            held.extend(retired.filter_map(|retired| {
                let connections = usize::try_from(retired["connections"].as_u64()?).ok()?;
                Some(Held::retired(endpoint(&retired["address"])?, connections))
            }));
            let api = status["admin_listen"].as_str().and_then(|address| address.parse().ok());
            held.extend(api.map(|address| Held::listening(Endpoint::tcp(address))));
            // The ports of services, too.
            let services = tokio::time::timeout(LISTENERS_WITHIN, client.get("/admin/services")).await;
            let Ok(Ok(answer)) = services else { continue };
            let Ok(services) = answer.json::<Value>() else { continue };
            let doors = services["connect"].as_array().into_iter().flatten();
            let doors = doors.filter_map(|door| door["listen"].as_str()?.parse().ok());
            held.extend(doors.map(|address| Held::listening(Endpoint::tcp(address))));
        }
        ExitCode::SUCCESS
    });
    held
}

fn endpoint(address: &Value) -> Option<Endpoint> {
    Endpoint::of(&address.as_str()?.parse().ok()?)
}

async fn get(common: &Common, path: &str) -> Result<Value, ExitCode> {
    let answer = common.client()?.get(path).await.map_err(|error| failed(&error))?;
    match answer.json() {
        Ok(value) if answer.status.is_success() => Ok(value),
        _ => Err(refused(&answer)),
    }
}

/// What does not speak as a node does is none.
fn failed(error: &ClientError) -> ExitCode {
    eprintln!("Error: {error}");
    ExitCode::from(NO_NODE)
}

/// An answer that is no outcome: the node says in one text why it did nothing.
fn refused(answer: &Answer) -> ExitCode {
    let error: Option<Value> = answer.json().ok();
    let Some(text) = error.as_ref().and_then(|error| error["error"].as_str()) else {
        eprintln!("Error: what answers on the node's socket is no node: HTTP {}", answer.status);
        return ExitCode::from(NO_NODE);
    };
    eprintln!("Error: {text}");
    ExitCode::from(REFUSED)
}

/// RFC 3986, everything but unreserved characters and the slash.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        encoded
    })
}
